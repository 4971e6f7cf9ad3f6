"""Pictures as networks see them: padded to squares, sized, their colours without coverage."""

from __future__ import annotations

import math
from dataclasses import replace

from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from ..clip import Orbit


def pad_square(pictures: Shaped[Tensor, "*b h w c"]) -> Shaped[Tensor, "*b s s c"]:
    """Returns pictures in the middle of squares of zeros, as long as their longer side."""
    h, w = pictures.shape[-3:-1]
    side = max(h, w)
    top, left = (side - h) // 2, (side - w) // 2
    return F.pad(pictures, (0, 0, left, side - w - left, top, side - h - top))


def square_fov(fov: float, h: int, w: int) -> float:
    """Returns the field of view of a padded picture, in degrees.

    Args:
        fov: vertical field of view of the picture, degrees.
        h: its height, pixels.
        w: its width, pixels.
    """
    return math.degrees(2 * math.atan(math.tan(math.radians(fov) / 2) * max(h, w) / h))


def square_views(
    frames: UInt8[Tensor, "t h w 4"], source: Orbit
) -> tuple[UInt8[Tensor, "t s s 4"], Orbit]:
    """Returns frames padded to squares, and the camera that sees as much."""
    h, w = frames.shape[1:3]
    if w <= h:
        return pad_square(frames), source
    return pad_square(frames), replace(source, fov=square_fov(source.fov, h, w), aspect=1.0)


def resized(
    pictures: Float[Tensor, "b c s s"], side: int, mode: str = "bilinear"
) -> Float[Tensor, "b c r r"]:
    """Returns square pictures at ``side`` pixels, with antialiasing; differentiable.

    Bicubic pictures leave the range of their values at edges.
    """
    if pictures.shape[-1] == side:
        return pictures
    return F.interpolate(pictures, (side, side), mode=mode, align_corners=False, antialias=True)


def squared(picture: Float[Tensor, "h w 4"], side: int) -> Float[Tensor, "s s 4"]:
    """Returns a premultiplied picture in the middle of a transparent square of ``side`` pixels."""
    square = pad_square(picture).movedim(-1, 0)[None]
    return resized(square, side)[0].movedim(0, -1)


def straight_colors(pictures: Float[Tensor, "*b 4"], least: float = 1e-6) -> Float[Tensor, "*b 3"]:
    """Returns the colours of premultiplied pictures, in [0, 1]; none below ``least`` alpha."""
    return (pictures[..., :3] / pictures[..., 3:].clamp_min(least)).clamp(0, 1)
