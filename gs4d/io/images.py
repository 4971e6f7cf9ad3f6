"""Pictures with straight alpha in, pictures out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ..errors import UserError
from .files import atomic_path

MAX_PIXELS = 64_000_000  # 8000 x 8000: beyond it a picture is refused before it is decoded


@contextmanager
def _opened(path: Path, need_alpha: bool) -> Iterator[Image.Image]:
    """A picture whose header says that it can be read; its pixels are not decoded yet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise UserError(
                        f"{path} is {picture.width}x{picture.height} pixels; scale it down to {MAX_PIXELS // 10**6} megapixels"
                    )
                if picture.mode[0] in "IF":
                    raise UserError(f"{path} has 16 or 32 bits per pixel (mode {picture.mode}); save it as 8-bit RGBA")
                if need_alpha and not (picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info):
                    raise UserError(
                        f"{path} has no alpha channel (mode {picture.mode}); save RGBA frames with a transparent background"
                    )
                yield picture
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as a picture ({error}); replace it with an intact file") from error


def read_image(path: Path, *, need_alpha: bool = False) -> UInt8[np.ndarray, "h w 4"]:
    """Reads a picture as 8-bit RGBA with straight alpha; a picture without alpha becomes opaque.

    Raises:
        UserError: the file is absent, not a picture, cut short, too large, or has no alpha where ``need_alpha``.
    """
    with _opened(path, need_alpha) as picture:
        return np.asarray(picture.convert("RGBA"))


def read_size(path: Path, *, need_alpha: bool = False) -> tuple[int, int]:
    """(width, height) of a picture from its header; only a PNG that seems to be cut short is decoded to make sure.

    Raises:
        UserError: as :func:`read_image`.
    """
    with _opened(path, need_alpha) as picture:
        if picture.format == "PNG":
            with path.open("rb") as file:
                file.seek(-min(path.stat().st_size, 12), os.SEEK_END)
                if b"IEND" not in file.read():
                    picture.load()
        return picture.size


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


def resize_rgba(image: UInt8[np.ndarray, "h w 4"], width: int, height: int) -> UInt8[np.ndarray, "H W 4"]:
    """Area-true resampling of straight-alpha RGBA; colours are weighted by alpha, so that no hidden colour bleeds in."""
    if image.shape[:2] == (height, width):
        return image
    values = image.astype(np.float32)
    values[..., :3] *= values[..., 3:] / 255
    planes = [
        np.asarray(
            Image.fromarray(values[..., c]).resize(
                (width, height), Image.Resampling.BOX if width < image.shape[1] else Image.Resampling.BICUBIC
            )
        )
        for c in range(4)
    ]
    resized = np.stack(planes, -1)
    alpha = resized[..., 3:].clip(0, 255)
    resized[..., :3] *= 255 / np.maximum(alpha, 1e-3)
    resized[..., 3:] = alpha
    return resized.clip(0, 255).round().astype(np.uint8)
