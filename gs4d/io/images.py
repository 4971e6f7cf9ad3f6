"""Pictures with straight alpha in, pictures out."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from ..errors import UserError
from .files import atomic_path

MAX_PIXELS = 64_000_000  # 8000 x 8000: beyond it a picture is refused before it is decoded
SMALLER = f"scale it down to {MAX_PIXELS // 10**6} megapixels"
# Named, because Pillow also knows formats that run other programs (EPS) or open other files.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "TGA", "PPM")
ANIMATED_FORMATS = ("GIF", "PNG", "WEBP", "AVIF")


@contextmanager
def open_picture(source: Path | BytesIO, name: str = "") -> Iterator[Image.Image]:
    """Opens a picture of a known format, with its size checked, before any pixel is decoded.

    Args:
        source: a path, or the contents of a file.
        name: what error sentences call it; empty: the path.

    Raises:
        UserError: the file is absent, not a picture, or too large; also for what fails inside the block as a damaged file does.
    """
    path = name or source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            Image.init()
            known = [kind for kind in FORMATS if kind in Image.OPEN]  # older versions of Pillow lack AVIF
            with Image.open(source, formats=known) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise UserError(f"{path} is {picture.width}x{picture.height} pixels; {SMALLER}")
                yield picture
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path} has more than {MAX_PIXELS // 10**6} million pixels; {SMALLER}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as a picture ({error}); replace it with an intact file") from error


def has_alpha(picture: Image.Image) -> bool:
    """Whether the picture says how transparent it is."""
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def to_rgba(picture: Image.Image) -> UInt8[np.ndarray, "h w 4"]:
    """The picture as 8-bit RGBA with straight alpha, whatever its mode: palette, grey of 1 to 16 bits, CMYK, Lab."""
    if picture.mode[:2] == "I;" or picture.mode in "IF":
        values = np.asarray(picture, np.float32)
        top = 65535 if picture.mode != "F" else max(float(values.max()), 1e-6)
        picture = Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        picture = picture.convert("RGB")
    return np.asarray(picture.convert("RGBA"))


def read_image(path: Path, *, need_alpha: bool = False) -> UInt8[np.ndarray, "h w 4"]:
    """Reads a picture as 8-bit RGBA with straight alpha, upright; a picture without alpha becomes opaque.

    Raises:
        UserError: the file is absent, not a picture, cut short, too large, or has no alpha where ``need_alpha``.
    """
    with open_picture(path) as picture:
        _check_alpha(path, picture, need_alpha)
        return to_rgba(ImageOps.exif_transpose(picture))


def read_size(path: Path, *, need_alpha: bool = False) -> tuple[int, int]:
    """(width, height) of what :func:`read_image` gives, from the header; only a PNG that seems cut short is decoded.

    Raises:
        UserError: as :func:`read_image`.
    """
    with open_picture(path) as picture:
        _check_alpha(path, picture, need_alpha)
        if picture.format == "PNG":
            with path.open("rb") as file:
                file.seek(-min(path.stat().st_size, 12), os.SEEK_END)
                if b"IEND" not in file.read():
                    picture.load()
        # Pillow decodes a whole PNG in search of EXIF data that its header does not have.
        turned = (picture.format != "PNG" or "exif" in picture.info) and picture.getexif().get(ExifTags.Base.Orientation, 1) > 4
        return (picture.height, picture.width) if turned else picture.size


def _check_alpha(path: Path, picture: Image.Image, need_alpha: bool) -> None:
    if need_alpha and not has_alpha(picture):
        raise UserError(f"{path} has no alpha channel (mode {picture.mode}); save RGBA frames with a transparent background")


def read_rgba(path: Path) -> Float[Tensor, "h w 4"]:
    """As :func:`read_image`, float32 in [0, 1]."""
    return torch.from_numpy(read_image(path).astype(np.float32) / 255)


def to_bytes(image: Float[Tensor, "*b c"]) -> UInt8[np.ndarray, "*b c"]:
    """Rounds values in [0, 1] (clamped) to 8 bits."""
    return (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def write_png(path: Path, image: Float[Tensor, "h w c"]) -> None:
    """Writes RGB or RGBA in [0, 1], atomically."""
    with atomic_path(path) as part:
        Image.fromarray(to_bytes(image)).save(part)


def resize_rgba(
    image: UInt8[np.ndarray, "h w 4"], width: int, height: int, box: tuple[float, float, float, float] | None = None
) -> UInt8[np.ndarray, "H W 4"]:
    """Area-true resampling of straight-alpha RGBA; colours are weighted by alpha, so that no hidden colour bleeds in.

    Args:
        image: the source.
        width: of the result, in pixels.
        height: of the result, in pixels.
        box: left, top, right, bottom of the part that is taken, in pixels of the source; None: all of it. What lies beyond the
            source is transparent.
    """
    if box is None and image.shape[:2] == (height, width):
        return image
    left, top, right, bottom = box or (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    x0, y0, x1, y1 = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    values = np.zeros((y1 - y0, x1 - x0, 4), np.float32)
    inside = image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    values[max(-y0, 0) :, max(-x0, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    values[..., :3] *= values[..., 3:] / 255
    method = Image.Resampling.BOX if width < right - left else Image.Resampling.BICUBIC
    part = (left - x0, top - y0, right - x0, bottom - y0)
    planes = [np.asarray(Image.fromarray(values[..., c]).resize((width, height), method, part)) for c in range(4)]
    resized = np.stack(planes, -1)
    resized[..., :3] *= 255 / np.maximum(resized[..., 3:], 1e-3)
    return resized.clip(0, 255).round().astype(np.uint8)
