"""SOG (PlayCanvas' "spatially ordered Gaussians").

``meta.json`` and lossless WebP pictures, in a folder or one zip.

Pixel i of each picture belongs to Gaussian i: centres as 16-bit positions between bounds, on the
scale sign(x) ln(|x| + 1); rotations as the three smaller of wxyz and the index of the largest;
logarithms of the scales, degree-0 and further coefficients through code books of 256 values, the
last also through a palette of up to 65536 sets. Positions are those of the PLY file of the same
Gaussians. Version 1 (2025) has ranges of 256 even steps in the place of code books, and logits of
the opacity. It is read only.
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
from .foreign import foreign, read_bytes, require_memory, require_plain_file, warn
from .packing import Floats, join_largest, join_sh, logits, require_count, to_gaussians, zip_entry

META = "meta.json"
MAX_META_BYTES = 4 << 20
MAX_PICTURE_BYTES = 1 << 30
PALETTE_COLUMNS = 64
MAX_PALETTE = 1 << 16


def read_sog(path: Path) -> Gaussians:
    """Reads a ``.sog`` (a zip, also of the folder), a ``meta.json``, or the folder of one.

    Raises:
        UserError: it is absent, damaged, of another version, or its pictures do not fit its count.
    """
    source = path / META if path.is_dir() else path
    size = require_plain_file(source)
    with foreign(path, "SOG"):
        if source.suffix.lower() == ".json":
            meta = read_json(source, "SOG", MAX_META_BYTES)
            size += sum(p.stat().st_size for p in source.parent.glob("*.webp"))
            return _gaussians(path, meta, size, lambda name: read_bytes(source.parent / name))
        with zipfile.ZipFile(io.BytesIO(read_bytes(source))) as archive:
            index = zipped_meta(archive.namelist()) or META
            meta = json.loads(_entry(archive, index, MAX_META_BYTES))
            folder = index.removesuffix(META)
            return _gaussians(
                path, meta, size, lambda name: _entry(archive, folder + name, MAX_PICTURE_BYTES)
            )


def zipped_meta(names: list[str]) -> str | None:
    """The ``meta.json`` of a SOG among the files of a zip.

    At its top, or in the folder that was zipped.
    """
    found = [
        name for name in names if name.split("/")[-1] == META and not name.startswith("__MACOSX")
    ]
    return min(found, key=lambda name: (name.count("/"), name), default=None)


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    with archive.open(zip_entry(archive, name)) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{name} is larger than {limit >> 20} MB")
    return data


def _gaussians(path: Path, meta: Any, size: int, load: Callable[[str], bytes]) -> Gaussians:
    version = (
        meta.get("version", 1 if "means" in meta else None) if isinstance(meta, dict) else None
    )
    if version not in (1, 2):
        raise UserError(
            f"{path} is no SOG of version 1 or 2 (it says {version!r:.40}); convert it with "
            "splat-transform"
        )
    n = meta["means"]["shape"][0] if version == 1 else meta["count"]
    if not isinstance(n, int):
        raise ValueError("its count is no number")
    if meta.get("antialias"):
        warn(
            f"{path} was trained with antialiasing, which is drawn without: fine parts come out a "
            "little denser"
        )
    bands = _bands(meta["shN"]) if meta.get("shN") else 0
    require_count(path, n, size, (bands + 1) ** 2)

    def pictures(part: str) -> list[np.ndarray]:
        return [_pixels(path, load(_plain(name)), n, size)[:n] for name in meta[part]["files"]]

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
    colors, alphas = _levels(meta["sh0"], sh0, 4 if version == 1 else 3), sh0[:, 3] / 255.0
    higher = _higher(path, meta["shN"], bands, n, size, load) if bands else None
    return to_gaussians(
        means=np.sign(shrunk) * np.expm1(np.abs(shrunk)),
        quats=rotations,
        log_scales=_levels(meta["scales"], scales, 3),
        logit_opacities=colors[:, 3] if version == 1 else logits(alphas),
        sh=join_sh(colors[:, :3], higher),
    )


def _bands(part: dict[str, Any]) -> int:
    """Degree of the further coefficients."""
    degrees = {0: 0, 9: 1, 24: 2, 45: 3}
    bands = part["bands"] if "bands" in part else degrees.get(part["shape"][1])
    if bands not in (0, 1, 2, 3):
        raise ValueError(f"its palette has sets of degree {bands!r:.40}")
    return bands


def _higher(
    path: Path, part: dict[str, Any], bands: int, n: int, size: int, load: Callable[[str], bytes]
) -> Floats:
    """(n, k - 1, 3) coefficients: each Gaussian names a set of the palette.

    One that names none has zeros.
    """
    centroids, labels = (load(_plain(name)) for name in part["files"])
    coefficients = (bands + 1) ** 2 - 1
    columns = PALETTE_COLUMNS * coefficients
    width, height = _webp_size(centroids)
    # version 1 does not say
    palette = part["count"] if "count" in part else PALETTE_COLUMNS * height
    if not isinstance(palette, int) or not 0 < palette <= MAX_PALETTE:
        raise ValueError(f"its palette has {palette!r:.40} sets of degree {bands!r:.40}")
    if width != columns:
        raise ValueError(f"its palette is {width} pixels wide, not {columns}")
    least = columns * -(-palette // PALETTE_COLUMNS)
    sets = (
        _levels(part, _pixels(path, centroids, least, size), 3)
        .reshape(-1, coefficients, 3)
        .astype(np.float32)
    )
    chosen = _pixels(path, labels, n, size)[:n, :2].astype(np.int64)
    label = chosen[:, 0] | (chosen[:, 1] << 8)
    higher = sets[np.where(label < palette, label, 0)]
    higher[label >= palette] = 0
    return higher


def _levels(part: dict[str, Any], pixels: np.ndarray, columns: int) -> Floats:
    """Numbers of the first bytes of (n, 4) pixels.

    By a code book, or (version 1) between bounds.
    """
    chosen = pixels[:, :columns]
    if "codebook" in part:
        return _book(part)[chosen]
    low, high = (
        np.broadcast_to(np.array(part[end], np.float64), (columns,)) for end in ("mins", "maxs")
    )
    if not (np.isfinite(low) & np.isfinite(high)).all():
        raise ValueError("its bounds are not finite")
    return low + (high - low) * (chosen / 255.0)


def _book(part: dict[str, Any]) -> Floats:
    book = np.array(part["codebook"], np.float64)
    if book.shape != (256,) or not np.isfinite(book).all():
        raise ValueError(f"a code book has shape {book.shape}, not 256 numbers")
    return book


def _plain(name: Any) -> str:
    if not isinstance(name, str) or not name or set(name) & set("/\\:\0") or name.startswith("."):
        raise ValueError(f"it names the picture {name!r:.40}, which is no plain file name")
    return name


def _pixels(path: Path, data: bytes, least: int, size: int) -> np.ndarray:
    """(pixels, 4) RGBA bytes of a WebP of at least ``least`` pixels, and of not many more.

    Its size is read first.
    """
    width, height = _webp_size(data)
    if not least <= width * height <= 2 * least + (1 << 20):
        raise ValueError(f"a picture has {width}x{height} pixels for {least} values")
    require_memory(path, width * height * 12, size, f"a picture of {width}x{height} pixels")
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as picture:
        return np.asarray(picture.convert("RGBA")).reshape(-1, 4)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height that a WebP's first chunk claims (RFC 9649).

    The decoder takes memory for them at once.
    """
    kind = data[12:16]
    if (
        data[:4] != b"RIFF"
        or data[8:12] != b"WEBP"
        or len(data) < 30
        or kind not in (b"VP8L", b"VP8X", b"VP8 ")
    ):
        raise ValueError("a picture is no WebP")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF
