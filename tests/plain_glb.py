"""A reader of docs/format.md by its words alone, and ways to make files that are not as they should
be.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gs4d.geometry import SH_C0

KHR = "KHR_gaussian_splatting"
TYPES = {
    5120: np.int8,
    5121: np.uint8,
    5122: np.int16,
    5123: np.uint16,
    5125: np.uint32,
    5126: np.float32,
}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


class Plain:
    """A reader of docs/format.md by its words alone."""

    def __init__(self, path: Path) -> None:
        self.bytes = path.read_bytes()
        magic, version, total, length, kind = struct.unpack_from("<4sIII4s", self.bytes)
        assert (magic, version, total, kind) == (b"glTF", 2, len(self.bytes), b"JSON")
        self.json: dict[str, Any] = json.loads(self.bytes[20 : 20 + length])
        self.bin, self.kind = struct.unpack_from("<I4s", self.bytes, 20 + length)
        self.start = 28 + length
        assert self.kind == b"BIN\0"
        assert self.start + self.bin == len(self.bytes)
        self.node = next(node for node in self.json["nodes"] if "mesh" in node)
        self.mesh = self.json["meshes"][self.node["mesh"]]
        (self.primitive,) = self.mesh["primitives"]

    def raw(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        kind, width = np.dtype(TYPES[accessor["componentType"]]), WIDTHS[accessor["type"]]
        if "bufferView" not in accessor:
            values = np.zeros((accessor["count"], width), kind)
            if sparse := accessor.get("sparse"):
                places = self.tight(
                    sparse["indices"], TYPES[sparse["indices"]["componentType"]], 1
                )[:, 0]
                assert (np.diff(places.astype(int)) > 0).all()
                assert len(places) == sparse["count"]
                values[places] = self.tight(sparse["values"], kind, width)
            return values
        view = self.json["bufferViews"][accessor["bufferView"]]
        stride = view.get("byteStride", kind.itemsize * width)
        start = self.start + view["byteOffset"]
        assert view["byteLength"] == accessor["count"] * stride
        return np.ndarray(
            (accessor["count"], width), kind, self.bytes, start, (stride, kind.itemsize)
        )

    def tight(self, place: dict[str, Any], kind: Any, width: int) -> np.ndarray:
        view = self.json["bufferViews"][place["bufferView"]]
        assert not {"byteStride", "target"} & view.keys()
        start = self.start + view["byteOffset"]
        return np.frombuffer(self.bytes[start : start + view["byteLength"]], kind).reshape(
            -1, width
        )

    def read(self, index: int) -> np.ndarray:
        values = self.raw(index)
        if not self.json["accessors"][index].get("normalized"):
            return values.astype(np.float64)
        return values / np.iinfo(values.dtype).max

    def at(self, t: float) -> dict[str, np.ndarray]:
        """The formulas of the page."""
        base = {name: self.read(index) for name, index in self.primitive["attributes"].items()}
        targets = [
            {name: self.read(i) for name, i in target.items()}
            for target in self.primitive.get("targets", [])
        ]
        weights, units = [], self.mesh.get("extras", {}).get("gs4d", {}).get("units", {})
        if targets:
            sampler = self.json["animations"][0]["samplers"][0]
            seconds = self.read(sampler["input"])[:, 0]
            table = self.read(sampler["output"]).reshape(len(seconds), len(targets))
            weights = [
                np.interp(t * seconds[-1], seconds, table[:, k]) for k in range(len(targets))
            ]

        def moved(name: str, start: np.ndarray) -> np.ndarray:
            unit = units.get(name, [1.0] * len(targets))
            return start + sum(
                w * unit[k] * tgt[name]
                for k, (w, tgt) in enumerate(zip(weights, targets, strict=True))
                if name in tgt
            )

        scale = self.node["scale"][0]
        rotation = moved("_ROTATION", base[f"{KHR}:ROTATION"])
        opacity = base[f"{KHR}:OPACITY"].clip(1e-6, 1 - 1e-6)
        logit = moved("_LOGIT_OPACITY", np.log(opacity / (1 - opacity)))
        return {
            "position": np.array(self.node["translation"])
            + scale * moved("POSITION", base["POSITION"]),
            "rotation": rotation / np.linalg.norm(rotation, axis=1, keepdims=True),
            "scales": scale * base[f"{KHR}:SCALE"] * np.exp(moved("_LOG_SCALE", np.zeros(3))),
            "opacity": 1 / (1 + np.exp(-logit[:, 0])),
            "color": 0.5 + SH_C0 * moved("_SH_DEGREE_0", base[f"{KHR}:SH_DEGREE_0_COEF_0"]),
        }


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The file with another document."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    document = json.loads(data[20 : 20 + length])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    other = path.with_name(f"edited-{path.name.removeprefix('edited-')}")
    other.write_bytes(
        struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
        + text
        + rest
    )
    return other
