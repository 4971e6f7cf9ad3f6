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
from PIL import ExifTags, Image, ImageCms
from torch import Tensor

from ..errors import UserError
from .files import atomic_path
from .foreign import foreign, require_plain_file

MAX_PIXELS = 64_000_000  # 8000 x 8000: beyond it a picture is refused before it is decoded
SMALLER = f"scale it down to {MAX_PIXELS // 10**6} megapixels"
# Named, because Pillow also knows formats that run other programs (EPS) or open other files.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "TGA", "PPM")
ANIMATED_FORMATS = ("GIF", "PNG", "WEBP", "AVIF")
TIFF_PHOTOMETRIC, TIFF_EXTRA_SAMPLES = 262, 338


class _UnclearError(UserError):
    """A picture whose numbers can be read, but not what they mean.

    :func:`open_picture` adds which.
    """


@contextmanager
def open_picture(source: Path | BytesIO, name: str = "") -> Iterator[Image.Image]:
    """Opens a picture of a known format, with its size checked, before any pixel is decoded.

    Args:
        source: a path, or the contents of a file.
        name: what error sentences call it; empty: the path.

    Raises:
        UserError: the file is absent, not a picture, or too large; also for whatever fails inside
            the block.
    """
    path = name or source
    if isinstance(source, Path):
        require_plain_file(source)
    with (
        foreign(str(path), "a picture", "replace it with an intact file"),
        warnings.catch_warnings(),
    ):
        # Pillow's doubts about metadata, and its own limit of pixels
        warnings.simplefilter("ignore")
        Image.init()
        # older versions of Pillow lack AVIF
        known = [kind for kind in FORMATS if kind in Image.OPEN]
        try:
            with Image.open(source, formats=known) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise UserError(f"{path} is {picture.width}x{picture.height} pixels; {SMALLER}")
                _scale_transparency(picture)
                yield picture
        except _UnclearError as error:
            raise UserError(f"{path} cannot be read as a picture: {error}") from None
        except Image.DecompressionBombError:
            raise UserError(
                f"{path} has more than {MAX_PIXELS // 10**6} million pixels; {SMALLER}"
            ) from None


def _scale_transparency(picture: Image.Image) -> None:
    """Scales a PNG's transparent colour (tRNS) to the 8 bits that its pixels are read as."""
    key, tile = picture.info.get("transparency"), getattr(picture, "tile", [])[:1]
    if picture.format != "PNG" or not tile or not isinstance(key, (int, tuple)):
        return
    rawmode = str(tile[0][3])
    if rawmode in ("L;2", "L;4") and isinstance(key, int):
        picture.info["transparency"] = key * {"L;2": 85, "L;4": 17}[rawmode]
    elif rawmode == "RGB;16B" and isinstance(key, tuple):
        picture.info["transparency"] = tuple(level >> 8 for level in key)


def has_alpha(picture: Image.Image) -> bool:
    """Whether the picture says how transparent it is."""
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def to_rgba(picture: Image.Image) -> UInt8[np.ndarray, "h w 4"]:
    """The picture as 8-bit RGBA with straight alpha in sRGB, whatever its mode.

    Palette, grey, CMYK, Lab, 16 bit.

    Raises:
        UserError: the file does not say which number is white, or what its fourth channel means.
    """
    tags = getattr(picture, "tag_v2", {})
    if 0 in tags.get(TIFF_EXTRA_SAMPLES, ()) and not has_alpha(picture):
        raise _UnclearError(
            "a channel is stored beside its colours, and it does not say whether that is alpha "
            "(TIFF ExtraSamples 0): save it as PNG, with alpha or without the channel"
        )
    if picture.mode[:2] == "I;" or picture.mode in "IF":
        grey = _levels(picture, inverted=tags.get(TIFF_PHOTOMETRIC) == 0)
        alpha = np.full_like(grey, 255)
        if isinstance(key := picture.info.get("transparency"), int):
            alpha[np.asarray(picture) == key] = 0
        return np.stack([grey, grey, grey, alpha], -1)
    if picture.mode == "La":
        picture = Image.merge("RGBa", [picture.getchannel(0)] * 3 + [picture.getchannel(1)])
    # writers of 32 bit fill the fourth byte with 0 where they have no alpha
    opaque_form = picture.format in ("TGA", "BMP")
    picture = _to_srgb(picture)
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        picture = picture.convert("RGB")
    rgba = np.asarray(picture.convert("RGBA"))
    if opaque_form and not rgba[..., 3].any():
        rgba = np.concatenate([rgba[..., :3], np.full_like(rgba[..., :1], 255)], -1)
    return rgba


def _levels(picture: Image.Image, *, inverted: bool) -> UInt8[np.ndarray, "h w"]:
    """Grey of 16 bits, or of floats in [0, 1], in 8 bits."""
    values = np.asarray(picture).astype(np.float32)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    top = 1.0 if picture.mode == "F" else 65535.0
    # Pillow stretches PNG and PNM of any depth to 16 bits; 32 bits in a TIFF may mean anything.
    known = picture.mode != "I" or picture.format in ("PNG", "PPM", "JPEG2000", None)
    if not (known and low >= 0 and high <= top):
        kind = "floats" if picture.mode == "F" else "integers of 16 or 32 bits"
        raise _UnclearError(
            f"it holds {kind} from {low:g} to {high:g}, and nothing says which is white: save it "
            "as 8 bit"
        )
    grey = (values * (255 / top)).round().astype(np.uint8)
    return 255 - grey if inverted else grey


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Converts colours of another space to sRGB, as the picture's ICC profile says."""
    data = picture.info.get("icc_profile")
    modes = {"RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB"}  # of grey, the curve differs little
    if not data or picture.mode not in modes or "transparency" in picture.info:
        return picture
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return picture
        srgb = ImageCms.createProfile("sRGB")
        return (
            ImageCms.profileToProfile(picture, profile, srgb, outputMode=modes[picture.mode])
            or picture
        )
    except (ImageCms.PyCMSError, OSError):  # a broken profile is passed over, as browsers do
        return picture


def _upright(picture: Image.Image, rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "H W 4"]:
    """Turns and mirrors decoded pixels as EXIF says."""
    orientation = _orientation(picture)
    if orientation > 4:
        rgba = rgba.swapaxes(0, 1)
    flips = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
    down, right = flips.get(orientation, (1, 1))
    return np.ascontiguousarray(rgba[::down, ::right])


def _orientation(picture: Image.Image) -> int:
    # Pillow decodes a whole PNG in search of EXIF data that its header does not have.
    if picture.format == "PNG" and not {"exif", "Raw profile type exif", "XML:com.adobe.xmp"} & set(
        picture.info
    ):
        return 1
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the picture is whole even where the notes of the camera are not
        return 1


def read_image(path: Path, *, need_alpha: bool = False) -> UInt8[np.ndarray, "h w 4"]:
    """Reads a picture as 8-bit RGBA with straight alpha, upright.

    A picture without alpha becomes opaque.

    Raises:
        UserError: the file is absent, not one picture, cut short, too large, or has no alpha where
            ``need_alpha``.
    """
    with open_picture(path) as picture:
        _check_alpha(path, picture, need_alpha)
        if picture.format in ANIMATED_FORMATS and getattr(picture, "is_animated", False):
            raise UserError(
                f"{path} is an animation where one picture is wanted; give it by itself, or save "
                "its frames as pictures"
            )
        return _upright(picture, to_rgba(picture))


def read_size(path: Path, *, need_alpha: bool = False) -> tuple[int, int]:
    """(width, height) of what :func:`read_image` gives, from the header.

    Only a PNG that seems cut short is decoded.

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
        return (picture.height, picture.width) if _orientation(picture) > 4 else picture.size


def _check_alpha(path: Path, picture: Image.Image, need_alpha: bool) -> None:
    if need_alpha and not has_alpha(picture):
        raise UserError(
            f"{path} has no alpha channel (mode {picture.mode}); save RGBA frames with a "
            "transparent background"
        )


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
    image: UInt8[np.ndarray, "h w 4"],
    width: int,
    height: int,
    box: tuple[float, float, float, float] | None = None,
) -> UInt8[np.ndarray, "H W 4"]:
    """Area-true resampling of straight-alpha RGBA.

    Colours are weighted by alpha, so that no hidden colour bleeds in.

    Args:
        image: the source.
        width: of the result, in pixels.
        height: of the result, in pixels.
        box: left, top, right, bottom of the part that is taken, in pixels of the source; None: all
            of it. What lies beyond the source is transparent.
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
    planes = [
        np.asarray(Image.fromarray(values[..., c]).resize((width, height), method, part))
        for c in range(4)
    ]
    resized = np.stack(planes, -1)
    resized[..., :3] *= 255 / np.maximum(resized[..., 3:], 1e-3)
    return resized.clip(0, 255).round().astype(np.uint8)
