"""Reads glTF 2.0 files (.glb and .gltf) with bounds: every number is checked before it is used.

Nothing outside the file's folder is opened, and nothing is allocated for a size that the file does
not back.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import re
import struct
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..errors import UserError
from .foreign import damaged, require_memory
from .images import open_picture, to_rgba

MAX_FILE_BYTES = 2 << 30
MAX_JSON_BYTES = 256 << 20
MAX_COUNT = 1 << 31  # of the elements of an array
MAX_DECODED_PIXELS = 256_000_000
# Extensions that a file may require: those that are read, and those that change nothing that is
# drawn (matt surfaces in a light of our own).
KNOWN_EXTENSIONS = frozenset(
    """
    KHR_mesh_quantization KHR_texture_transform EXT_texture_webp EXT_texture_avif
    KHR_lights_punctual KHR_node_visibility KHR_animation_pointer EXT_mesh_gpu_instancing
    KHR_xmp_json_ld KHR_node_selectability KHR_node_hoverability KHR_materials_unlit
    KHR_materials_pbrSpecularGlossiness KHR_materials_emissive_strength KHR_materials_variants
    KHR_materials_clearcoat KHR_materials_ior KHR_materials_sheen KHR_materials_specular
    KHR_materials_iridescence KHR_materials_anisotropy KHR_materials_dispersion
    """.split()
)
COMPRESSED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression")
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
SHAPES: dict[str, tuple[int, ...]] = {
    "SCALAR": (),
    "VEC2": (2,),
    "VEC3": (3,),
    "VEC4": (4,),
    "MAT2": (2, 2),
    "MAT3": (3, 3),
    "MAT4": (4, 4),
}


class Entry(dict[str, Any]):
    """An object of the document whose fields are attributes; absent ones are None."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


class GltfFile:
    """An open glTF file: the methods follow references into it and check what they find.

    ``document`` is its JSON as it came, its objects as :class:`Entry`. Their fields are unchecked:
    pass them to :meth:`integer`, :meth:`numbers`, :meth:`list_of` or to the method that follows
    them. Use it in a block of :func:`gs4d.io.foreign.foreign`. The argument ``where`` of the
    methods names the place of a reference in error sentences, for example ``"mesh 0"``.
    """

    def __init__(self, path: Path, *, extensions: frozenset[str] = frozenset()) -> None:
        """Reads the JSON and the binary chunk; side files are opened when something refers to them.

        Args:
            path: a .glb or .gltf file; told apart by content.
            extensions: required extensions that the caller understands besides
                ``KNOWN_EXTENSIONS``.

        Raises:
            UserError: the file is absent, too large, cut short, not glTF 2.0, or requires another
                extension.
        """
        self.path = path
        data = _read_file(path, str(path))
        self._file_bytes = len(data)  # with those of the side files that were opened
        text, self._chunk = _split_container(data, path)
        self.document = _parse(text, path)
        self._buffers: dict[int, bytes] = {}
        self._arrays: dict[tuple[int, bool], np.ndarray] = {}
        self._decoded_bytes = self._decoded_pixels = 0
        self._refuse_extensions(KNOWN_EXTENSIONS | extensions)

    def _refuse_extensions(self, known: frozenset[str]) -> None:
        for name in map(
            str, self.list_of(self.document.get("extensionsRequired"), "extensionsRequired")
        ):
            if name in COMPRESSED:
                raise self.compressed(name)
            if name not in known:
                raise self.error(
                    f"requires the extension {name:.60}, which is not supported; export it without"
                )

    def compressed(self, name: str) -> UserError:
        """The error that this file is compressed with the extension ``name``."""
        return self.error(
            f"is compressed with {name}; unpack it (npx @gltf-transform/cli copy in.glb out.glb), "
            "or export it without compression"
        )

    def require_memory(self, need: int, where: str) -> None:
        """Counts ``need`` bytes of memory that ``where`` asks for, before they are taken.

        Raises:
            UserError: all that was counted is more than a file of this size may take.
        """
        self._decoded_bytes += need
        require_memory(self.path, self._decoded_bytes, self._file_bytes, where)

    def error(self, what: str) -> UserError:
        """The error that this file ``what``, for example "has no mesh; ..."."""
        return UserError(f"{self.path} {what}")

    def damaged(self, what: str) -> UserError:
        """The error that this file is damaged, for example "mesh 0 is no list"."""
        return damaged(self.path, f"is damaged: {what}")

    # --- checked values ---------------------------------------------------------------------------

    def items(self, kind: str) -> list[Any]:
        """The list ``kind`` of the document ("nodes", "meshes", ...), empty where it is absent."""
        return self.list_of(self.document.get(kind), kind)

    def item(self, kind: str, index: Any, where: str) -> Entry:
        """The object that ``index`` refers to in the list ``kind``.

        Raises:
            UserError: there is none, or it is no object.
        """
        items = self.items(kind)
        entry = items[self.integer(index, f"{where}: index into {kind}", 0, len(items) - 1)]
        if isinstance(entry, Entry):
            return entry
        raise self.damaged(f"{kind} {index} is not what glTF says")

    def list_of(self, value: Any, where: str) -> list[Any]:
        """``value`` as a list; None is an empty one."""
        if value is None or isinstance(value, list):
            return value or []
        raise self.damaged(f"{where} is no list")

    def objects(self, value: Any, where: str) -> list[Any]:
        """``value`` as a list of objects, for example the primitives of a mesh."""
        entries = self.list_of(value, where)
        if not all(isinstance(entry, Entry) for entry in entries):
            raise self.damaged(f"{where} holds something else than objects")
        return entries

    def integer(self, value: Any, where: str, low: int, high: int) -> int:
        """``value`` as an int in [low, high]."""
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not low <= value <= high
            or value != int(value)
        ):
            range_ = f"{low} to {high}" if high >= low else "nothing to refer to"
            raise self.damaged(f"{where} is {value!r:.40}, wanted a whole number ({range_})")
        return int(value)

    def numbers(self, value: Any, where: str, count: int) -> list[float]:
        """``value`` as ``count`` finite floats of at most 1e30."""
        entries = value if isinstance(value, list) else [value]
        good = all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= 1e30
            for v in entries
        )
        if len(entries) != count or not good:
            raise self.damaged(f"{where} is {str(value)[:60]}, wanted {count} finite numbers")
        return [float(v) for v in entries]

    def extension(self, holder: Any, name: str) -> dict[str, Any]:
        """The contents of an extension on an object of the document, empty where it is absent."""
        extensions = getattr(holder, "extensions", None)
        found = extensions.get(name) if isinstance(extensions, dict) else None
        return found if isinstance(found, dict) else {}

    # --- buffers and accessors --------------------------------------------------------------------

    def floats(
        self, index: Any, where: str, *kinds: str, finite: bool = True
    ) -> Float[np.ndarray, "n ..."]:
        """The values of an accessor as read-only float32.

        Normalized integers become [0, 1] or [-1, 1], others stay as large.

        Args:
            index: of the accessor.
            where: names the place in error sentences.
            kinds: the accepted types, for example "VEC3", "VEC4"; matrices come as (n, rows,
                columns).
            finite: whether to refuse NaN and infinity.

        Raises:
            UserError: there is no such accessor, or its data is absent, cut short, or of another
                kind.
        """
        values = self._array(index, where, kinds, as_float=True)
        if finite and not np.isfinite(values).all():
            raise self.error(f"has values that are not finite in {where}; export it again")
        return values

    def integers(self, index: Any, where: str, *kinds: str) -> Int[np.ndarray, "n ..."]:
        """As :meth:`floats`, for whole numbers, which stay as they are: read-only int64."""
        return self._array(index, where, kinds, as_float=False)

    def view(self, index: Any, where: str) -> memoryview:
        """The bytes of a buffer view."""
        view = self.item("bufferViews", index, where)
        data = self._buffer(
            self.integer(view.buffer, f"buffer of {where}", 0, len(self.items("buffers")) - 1)
        )
        offset = self.integer(
            view.byteOffset or 0, f"byteOffset of buffer view {index}", 0, len(data)
        )
        length = self.integer(
            view.byteLength, f"byteLength of buffer view {index}", 0, len(data) - offset
        )
        return memoryview(data)[offset : offset + length]

    def _array(
        self, index: Any, where: str, kinds: tuple[str, ...], *, as_float: bool
    ) -> np.ndarray:
        accessor = self.item("accessors", index, where)
        if not isinstance(accessor.type, str) or accessor.type not in (kinds or SHAPES):
            wanted = " or ".join(kinds or SHAPES)
            raise self.damaged(f"{where} is of type {accessor.type!s:.20}, wanted {wanted}")
        if (key := (int(index), as_float)) not in self._arrays:
            values = self._decode(
                accessor,
                f"accessor {index} ({where})",
                np.dtype(np.float32 if as_float else np.int64),
            )
            values.flags.writeable = False
            self._arrays[key] = values
        return self._arrays[key]

    def _decode(self, accessor: Any, where: str, target: np.dtype[Any]) -> np.ndarray:
        dtype, shape = self._component(accessor.componentType, where), SHAPES[accessor.type]
        if target.kind == "i" and dtype.kind == "f":
            raise self.damaged(f"{where} holds floats, wanted whole numbers")
        count = self.integer(accessor.count, f"count of {where}", 1, MAX_COUNT)
        self.require_memory(count * math.prod(shape) * target.itemsize, where)
        if accessor.bufferView is None:
            result = np.zeros((count, *shape), target)
        else:
            result = self._strided(
                accessor.bufferView, accessor.byteOffset, count, dtype, shape, where
            ).astype(target)
        if accessor.sparse is not None:
            rows, values = self._sparse(accessor.sparse, count, dtype, shape, where)
            result[rows] = values
        if accessor.normalized and target.kind == "f" and dtype.kind in "iu":
            # spec 3.11: both -128 and -127 are -1
            result = np.maximum(result / np.float32(np.iinfo(dtype).max), -1)
        # stored column by column
        return np.ascontiguousarray(result.swapaxes(1, 2)) if len(shape) == 2 else result

    def _sparse(
        self, sparse: Any, count: int, dtype: np.dtype[Any], shape: tuple[int, ...], where: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows that a sparse accessor changes, and their values."""
        indices, values = (
            sparse.get(key) if isinstance(sparse, Entry) else None for key in ("indices", "values")
        )
        if not isinstance(indices, Entry) or not isinstance(values, Entry):
            raise self.damaged(f"{where} is sparse without indices or values")
        changed = self.integer(sparse.count, f"sparse count of {where}", 1, count)
        kind = self._component(indices.componentType, where)
        rows = self._strided(
            indices.bufferView, indices.byteOffset, changed, kind, (), f"indices of {where}"
        )
        if kind.kind != "u" or int(rows.max()) >= count:
            raise self.damaged(f"the sparse indices of {where} leave its {count} elements")
        return rows, self._strided(
            values.bufferView, values.byteOffset, changed, dtype, shape, f"sparse values of {where}"
        )

    def _component(self, value: Any, where: str) -> np.dtype[Any]:
        number = self.integer(value, f"component type of {where}", 5120, 5126)
        if number not in COMPONENTS:
            raise self.damaged(f"{where} has the component type {number}, which glTF lacks")
        return np.dtype(COMPONENTS[number])

    def _strided(
        self,
        view: Any,
        offset: Any,
        count: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        where: str,
    ) -> np.ndarray:
        """A view of ``count`` elements in a buffer view.

        Matrices as stored, one column after the other.
        """
        data = self.view(view, where)
        steps = [dtype.itemsize]
        if len(shape) == 2:
            # spec 3.6.2.4: columns start at multiples of 4
            steps = [-(-shape[1] * dtype.itemsize // 4) * 4, dtype.itemsize]
        size = steps[0] * shape[0] if shape else dtype.itemsize
        named = self.item("bufferViews", view, where).byteStride
        stride = self.integer(named, f"byteStride of {where}", size, 1 << 16) if named else size
        start = self.integer(offset or 0, f"byteOffset of {where}", 0, len(data))
        if start + stride * (count - 1) + size > len(data):
            raise self.damaged(
                f"{where} wants {count} elements of {size} bytes but its buffer view ends before"
            )
        return np.ndarray(
            (count, *shape), dtype, data, start, (stride, *steps) if shape else (stride,)
        )

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            buffer = self.item("buffers", index, "buffer")
            where = f"buffer {index}"
            length = self.integer(buffer.byteLength, f"byteLength of {where}", 0, MAX_FILE_BYTES)
            for name in COMPRESSED:
                if buffer.uri is None and self.extension(buffer, name):
                    raise self.compressed(name)
            data = (
                self._chunk
                if buffer.uri is None and index == 0
                else self._resource(buffer.uri, where)
            )
            if len(data) < length:
                raise self.error(
                    f"is cut short: {where} has {len(data)} of {length} bytes; copy or export it "
                    "again"
                )
            self._buffers[index] = data
        return self._buffers[index]

    def _resource(self, uri: Any, where: str) -> bytes:
        """The bytes behind a data URI, or of a file in the folder of this one or below."""
        if not isinstance(uri, str):
            raise self.damaged(f"{where} has no data")
        if match := re.match(r"data:[^,]{0,200},", uri):
            try:
                body = uri[match.end() :]
                return (
                    base64.b64decode(body, validate=True)
                    if match[0].endswith(";base64,")
                    else unquote_to_bytes(body)
                )
            except (binascii.Error, ValueError) as error:
                raise self.damaged(f"the data URI of {where} is not base64") from error
        # exporters forget to encode, and to turn slashes
        names = [name.replace("\\", "/") for name in (uri, unquote(uri))]
        if any(
            re.match(r"[A-Za-z][\w+.-]*:|/", name) or ".." in name.split("/") or "\0" in name
            for name in names
        ):
            raise self.error(
                f"refers to '{uri[:80]}' for {where}, outside its folder; put that file beside it "
                "and export again"
            )
        paths = [self.path.parent / name for name in names]
        data = _read_file(
            next((p for p in paths if os.path.lexists(p)), paths[1]),
            f"the file of {where} of {self.path},",
        )
        self._file_bytes += len(data)
        return data

    # --- images -----------------------------------------------------------------------------------

    def image(self, index: Any, where: str) -> UInt8[np.ndarray, "h w 4"]:
        """A picture as 8-bit RGBA; the colours are as stored, sRGB for base colours.

        Raises:
            UserError: there is no such image, or it is absent, cut short, too large or of an
                unknown kind.
        """
        image = self.item("images", index, where)
        data = (
            self.view(image.bufferView, where)
            if image.bufferView is not None
            else self._resource(image.uri, where)
        )
        with open_picture(BytesIO(data), f"image {index} of {self.path}") as picture:
            self._decoded_pixels += picture.width * picture.height
            if self._decoded_pixels > MAX_DECODED_PIXELS:
                raise self.error(
                    f"has textures of more than {MAX_DECODED_PIXELS // 10**6} megapixels; scale "
                    "them down"
                )
            self.require_memory(4 * picture.width * picture.height, where)
            return to_rgba(picture)


def _read_file(path: Path, what: str) -> bytes:
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise UserError(
                f"{path} is no regular file; give the .glb or .gltf itself"
                if what == str(path)
                else f"{what} is no regular file: {path}"
            )
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(
                f"{what} is larger than {MAX_FILE_BYTES >> 30} GB ({path}); simplify the model"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{what} does not exist: {path}" if what != str(path) else f"{path} does not exist"
        ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{what} cannot be read: {path} ({getattr(error, 'strerror', None) or error})"
        ) from error


def _split_container(data: bytes, path: Path) -> tuple[bytes, bytes]:
    """The JSON text and the binary chunk (empty where there is none)."""
    if data[:4] != b"glTF":
        return data, b""
    if len(data) < 20:
        raise UserError(f"{path} is cut short: {len(data)} bytes; copy it again")
    version, total = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise UserError(
            f"{path} is binary glTF of version {version}, only 2 is read; export it as glTF 2.0"
        )
    if total > len(data):
        raise UserError(f"{path} is cut short: {len(data)} of {total} bytes; copy it again")
    chunks: list[tuple[bytes, bytes]] = []
    place = 12
    while place + 8 <= total and len(chunks) < 16:
        length, kind = struct.unpack_from("<I4s", data, place)
        if place + 8 + length > total:
            raise damaged(path, f"is damaged: a chunk of {length} bytes ends after the file")
        chunks.append((kind, data[place + 8 : place + 8 + length]))
        place += 8 + length
    if not chunks or chunks[0][0] != b"JSON":
        raise damaged(path, "is damaged: binary glTF without its JSON chunk")
    return chunks[0][1], next((body for kind, body in chunks[1:] if kind == b"BIN\0"), b"")


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    if not text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise UserError(
            f"{path} is not a glTF file; export the model as .glb (Blender: File > Export > glTF "
            "2.0)"
        )
    if len(text) > MAX_JSON_BYTES:
        raise UserError(
            f"{path} has {len(text) >> 20} MB of JSON; export it as .glb, which keeps its data "
            "outside"
        )
    try:
        document = json.loads(text.decode("utf-8-sig").rstrip("\0 "), object_hook=Entry)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"is damaged: its JSON cannot be parsed ({str(error)[:80]})") from error
    asset = document.get("asset")
    version = str(asset.get("version") if isinstance(asset, dict) else None)
    if not version.startswith("2."):
        raise damaged(path, f"says it is glTF of version {version[:20]}, only 2.0 is read")
    return document
