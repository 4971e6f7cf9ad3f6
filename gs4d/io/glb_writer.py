"""glTF 2.0 binary files from arrays: the chunk of numbers and the accessors that describe it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .files import atomic_path

COMPONENTS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
SPARSE_JSON = 256  # bytes of JSON that a sparse accessor takes more than another
KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


class GlbWriter:
    """Collects arrays for the binary chunk of a .glb.

    The rest is its JSON, ``document``, free to be filled.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document: dict[str, Any] = {**document, "accessors": [], "bufferViews": []}
        self._chunk = bytearray()

    def array(
        self,
        values: Float[np.ndarray, "n *c"],
        component: str,
        *,
        vertices: bool = True,
        bounds: bool = False,
        sparse: bool = False,
    ) -> int:
        """Adds an accessor; returns its index.

        Args:
            values: one element per row. For integers in [-1, 1] or [0, 1], which become the whole
                range.
            component: "f4", or normalized "i1", "u1", "i2", "u2".
            vertices: whether it is an attribute: those are laid out in multiples of 4 bytes.
            bounds: whether to say the least and largest values, which glTF asks of positions and of
                times.
            sparse: whether only the rows that are not zero may be stored, with their places, where
                that takes less room.
        """
        stored = (
            values.astype("<f4")
            if component == "f4"
            else np.rint(values * np.iinfo(component).max).astype("<" + component)
        )
        table = stored.reshape(len(values), -1)
        accessor = self._describe(len(table), table.shape[1], component)
        if bounds:
            accessor |= {"min": table.min(0).tolist(), "max": table.max(0).tolist()}
        size = table.shape[1] * table.itemsize
        stride = -(-size // 4) * 4 if vertices else size
        rows = np.flatnonzero(table.any(1))
        places = rows.astype("<u2" if len(table) <= 0xFFFF else "<u4")
        if sparse and SPARSE_JSON + len(rows) * (places.itemsize + size) < len(table) * stride:
            if len(rows):
                accessor["sparse"] = {
                    "count": len(rows),
                    "indices": {
                        "bufferView": self._view(places),
                        "componentType": COMPONENTS[f"u{places.itemsize}"],
                    },
                    "values": {"bufferView": self._view(table[rows])},
                }
            return self._add(accessor)
        padded = np.zeros((len(table), stride), np.uint8)
        padded[:, :size] = np.ascontiguousarray(table).view(np.uint8)
        accessor["bufferView"] = self._view(
            padded, **({"byteStride": stride, "target": 34962} if vertices else {})
        )
        return self._add(accessor)

    def indices(self, faces: Int[np.ndarray, "f 3"]) -> int:
        """Adds the accessor of a primitive's triangles; returns its index."""
        view = self._view(faces.astype("<u4"), target=34963)
        return self._add(
            {
                "componentType": COMPONENTS["u4"],
                "count": faces.size,
                "type": "SCALAR",
                "bufferView": view,
            }
        )

    def _view(self, data: np.ndarray, **more: int) -> int:
        self.document["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self._chunk), "byteLength": data.nbytes, **more}
        )
        self._chunk += data.tobytes() + bytes(-data.nbytes % 4)
        return len(self.document["bufferViews"]) - 1

    def zeros(self, count: int, width: int, component: str) -> int:
        """Adds an accessor of zeros, which takes no room in the file."""
        return self._add(self._describe(count, width, component))

    def _describe(self, count: int, width: int, component: str) -> dict[str, Any]:
        accessor: dict[str, Any] = {
            "componentType": COMPONENTS[component],
            "count": count,
            "type": KINDS[width],
        }
        return accessor if component == "f4" else accessor | {"normalized": True}

    def _add(self, accessor: dict[str, Any]) -> int:
        self.document["accessors"].append(accessor)
        return len(self.document["accessors"]) - 1

    def write(self, path: Path) -> None:
        """Writes the file, atomically."""
        document = {**self.document, "buffers": [{"byteLength": len(self._chunk)}]}
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        head = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(self._chunk))
        with atomic_path(path) as part, part.open("wb") as file:
            file.write(head + struct.pack("<I4s", len(text), b"JSON") + text)
            file.write(struct.pack("<I4s", len(self._chunk), b"BIN\0"))
            file.write(self._chunk)
