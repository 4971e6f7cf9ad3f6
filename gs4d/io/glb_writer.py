"""glTF 2.0 binary files from arrays: the chunk of numbers and the accessors that describe it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from .files import atomic_path

COMPONENTS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "f4": 5126}
KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


class GlbWriter:
    """Collects arrays for the binary chunk of a .glb; the rest is its JSON, ``document``, free to be filled."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document: dict[str, Any] = {**document, "accessors": [], "bufferViews": []}
        self._chunk = bytearray()

    def array(self, values: Float[np.ndarray, "n *c"], component: str, *, vertices: bool = True, bounds: bool = False) -> int:
        """Adds an accessor; returns its index.

        Args:
            values: one element per row. For integers in [-1, 1] or [0, 1], which become the whole range.
            component: "f4", or normalized "i1", "u1", "i2", "u2".
            vertices: whether it is an attribute: those are laid out in multiples of 4 bytes.
            bounds: whether to say the least and largest values, which glTF asks of positions and of times.
        """
        stored = (
            values.astype("<f4") if component == "f4" else np.rint(values * np.iinfo(component).max).astype("<" + component)
        )
        table = stored.reshape(len(values), -1)
        size = table.shape[1] * table.itemsize
        stride = -(-size // 4) * 4 if vertices else size
        rows = np.zeros((len(table), stride), np.uint8)
        rows[:, :size] = np.ascontiguousarray(table).view(np.uint8)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self._chunk), "byteLength": rows.size}
        if vertices:
            view |= {"byteStride": stride, "target": 34962}
        self._chunk += rows.tobytes() + bytes(-rows.size % 4)
        accessor = self._describe(len(table), table.shape[1], component) | {"bufferView": len(self.document["bufferViews"])}
        if bounds:
            accessor |= {"min": table.min(0).tolist(), "max": table.max(0).tolist()}
        self.document["bufferViews"].append(view)
        return self._add(accessor)

    def zeros(self, count: int, width: int, component: str) -> int:
        """Adds an accessor of zeros, which takes no room in the file."""
        return self._add(self._describe(count, width, component))

    def _describe(self, count: int, width: int, component: str) -> dict[str, Any]:
        accessor: dict[str, Any] = {"componentType": COMPONENTS[component], "count": count, "type": KINDS[width]}
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
