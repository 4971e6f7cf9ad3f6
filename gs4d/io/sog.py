"""SOG, version 2 (PlayCanvas' "spatially ordered Gaussians"): ``meta.json`` and lossless WebP pictures, in a folder or one zip.

Pixel i of each picture belongs to Gaussian i: centres as 16-bit positions between bounds, on the scale sign(x) ln(|x| + 1);
rotations as the three smaller of wxyz and the index of the largest; logarithms of the scales, degree-0 and further coefficients
through code books of 256 values, the last also through a palette of up to 65536 sets. Positions are those of the PLY file of
the same Gaussians. It is read only.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from ..gaussians import Gaussians
from .files import read_json
from .packing import Floats, intact, join_largest, join_sh, logits, read_bytes, require_count, to_gaussians, zip_entry

META = "meta.json"
MAX_META_BYTES = 4 << 20
MAX_PICTURE_BYTES = 1 << 30
PALETTE_COLUMNS = 64
MAX_PALETTE = 1 << 16


def read_sog(path: Path) -> Gaussians:
    """Reads a ``.sog`` file, a ``meta.json`` with its pictures beside it, or the folder of one.

    Raises:
        UserError: it is absent, damaged, of another version, or its pictures do not fit its count.
    """
    source = path / META if path.is_dir() else path
    with intact(path, "SOG"):
        if source.suffix.lower() == ".json":
            meta, size = read_json(source, "SOG", MAX_META_BYTES), sum(p.stat().st_size for p in source.parent.glob("*.webp"))
            return _decode(path, meta, size, lambda name: read_bytes(source.parent / name))
        with zipfile.ZipFile(io.BytesIO(read_bytes(source))) as archive:
            meta = json.loads(_entry(archive, META, MAX_META_BYTES))
            return _decode(path, meta, source.stat().st_size, lambda name: _entry(archive, name, MAX_PICTURE_BYTES))


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    with archive.open(zip_entry(archive, name)) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{name} is larger than {limit >> 20} MB")
    return data


def _decode(path: Path, meta: Any, size: int, load: Callable[[str], bytes]) -> Gaussians:
    try:
        return _gaussians(path, meta, size, load)
    except (TypeError, AttributeError) as error:  # JSON of another shape
        raise ValueError(str(error)) from error


def _gaussians(path: Path, meta: Any, size: int, load: Callable[[str], bytes]) -> Gaussians:
    version = meta.get("version") if isinstance(meta, dict) else None
    if version != 2:
        raise UserError(f"{path} is no SOG of version 2 (it says {version!r:.40}); convert it with splat-transform")
    n = meta["count"]
    if not isinstance(n, int):
        raise ValueError("its count is no number")
    require_count(path, n, size)

    def pictures(part: str) -> list[np.ndarray]:
        return [_pixels(load(_plain(name)), n)[:n] for name in meta[part]["files"]]

    low, high = pictures("means")
    bounds = [np.array(meta["means"][end], np.float64).reshape(3) for end in ("mins", "maxs")]
    levels = (low[:, :3].astype(np.uint16) | (high[:, :3].astype(np.uint16) << 8)) / 65535
    shrunk = bounds[0] + (bounds[1] - bounds[0]) * levels
    if np.abs(bounds).max() > 60:
        raise ValueError("its bounds are beyond any scene")
    (quats,) = pictures("quats")
    three = (quats[:, :3] / 255.0 * 2 - 1) / np.sqrt(2)
    rotations = join_largest(np.maximum(quats[:, 3], 252).astype(np.uint32) - 252, three)
    rotations[quats[:, 3] < 252] = [1, 0, 0, 0]
    (scales,), (sh0,) = pictures("scales"), pictures("sh0")
    return to_gaussians(
        means=np.sign(shrunk) * np.expm1(np.abs(shrunk)),
        quats=rotations,
        log_scales=_book(meta["scales"])[scales[:, :3]],
        logit_opacities=logits(sh0[:, 3] / 255.0),
        sh=join_sh(_book(meta["sh0"])[sh0[:, :3]], _higher(meta["shN"], n, load) if meta.get("shN") else None),
    )


def _higher(part: dict[str, Any], n: int, load: Callable[[str], bytes]) -> Floats | None:
    """(n, k - 1, 3) coefficients: each Gaussian names a set of the palette; one that names none has zeros."""
    bands, palette = part["bands"], part["count"]
    if bands not in (0, 1, 2, 3) or not isinstance(palette, int) or not 0 < palette <= MAX_PALETTE:
        raise ValueError(f"its palette has {palette!r:.40} sets of degree {bands!r:.40}")
    if not bands:
        return None
    centroids, labels = (load(_plain(name)) for name in part["files"])
    coefficients = (bands + 1) ** 2 - 1
    columns = PALETTE_COLUMNS * coefficients
    width, _ = _webp_size(centroids)
    if width != columns:
        raise ValueError(f"its palette is {width} pixels wide, not {columns}")
    sets = _pixels(centroids, columns * -(-palette // PALETTE_COLUMNS))[:, :3].reshape(-1, coefficients, 3)
    chosen = _pixels(labels, n)[:n, :2].astype(np.int64)
    label = chosen[:, 0] | (chosen[:, 1] << 8)
    known = label < palette
    return np.where(known[:, None, None], _book(part)[sets[np.where(known, label, 0)]], 0)


def _book(part: dict[str, Any]) -> Floats:
    book = np.array(part["codebook"], np.float64)
    if book.shape != (256,) or not np.isfinite(book).all():
        raise ValueError(f"a code book has shape {book.shape}, not 256 numbers")
    return book


def _plain(name: Any) -> str:
    if not isinstance(name, str) or not name or set(name) & set("/\\:\0") or name.startswith("."):
        raise ValueError(f"it names the picture {name!r:.40}, which is no plain file name")
    return name


def _pixels(data: bytes, least: int) -> np.ndarray:
    """(pixels, 4) RGBA bytes of a WebP of at least ``least`` pixels, and of not many more: its size is read first."""
    width, height = _webp_size(data)
    if not least <= width * height <= 2 * least + (1 << 20):
        raise ValueError(f"a picture has {width}x{height} pixels for {least} values")
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as picture:
            return np.asarray(picture.convert("RGBA")).reshape(-1, 4)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height that a WebP's first chunk claims (RFC 9649): the decoder takes memory for them at once."""
    kind = data[12:16]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30 or kind not in (b"VP8L", b"VP8X", b"VP8 "):
        raise ValueError("a picture is no WebP")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF
