"""Measures animated assets, and decides which are worth training on.

Figures of their pictures, and limits on the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from ..ranges import Options, Range

SEEN = 16  # 8-bit alpha from which a pixel counts as covered
SOLID = 128  # and on the border, where the soft edge of an object that just fits may lie


@dataclass(frozen=True)
class CurationOptions(Options):
    """Limits on the figures; an asset beyond one is rejected, and the manifest says why."""

    min_motion: Annotated[float, Range(0, 1)] = 0.02
    """Least mean change of the object against its first moment, 0-1 of the colour range: below it
    an asset is static."""
    max_border: Annotated[float, Range(0, 1)] = 0.002
    """Largest share of a picture's outermost pixels that the object may cover: above it, it
    overflows."""
    min_size: Annotated[float, Range(0, 1)] = 0.012
    """Least share of the picture that the object covers on average: below it, it is too small."""
    max_flicker: Annotated[float, Range(0, 100)] = 0.3
    """Largest sudden change of the covered area or the mean colour between neighbouring frames, as
    a share of their mean."""


@dataclass(frozen=True)
class Figures:
    """Measurements of an asset; see :class:`CurationOptions`."""

    motion: float
    border: float
    size: float
    flicker: float


def measure(
    static: UInt8[ndarray, "f h w 4"],
    dynamic: UInt8[ndarray, "f h w 4"],
    front: UInt8[ndarray, "f h w 4"],
) -> Figures:
    """Measures an asset: two orbits from the same cameras, ``dynamic`` and ``front`` over time.

    motion compares the two orbits, so that it sees what moves on any side; border takes the worst
    picture, size the mean of all; flicker is the largest second difference over time of the covered
    area and of the mean colour in ``front``: 1 where an object vanishes for one frame, 0.1 for one
    that doubles its size and halves it again in eight frames.
    """
    changes, sizes, border = [], [], 0.0
    for before, after in zip(static, dynamic, strict=True):
        a, b = _premultiplied(before), _premultiplied(after)
        seen = (before[..., 3] >= SEEN) | (after[..., 3] >= SEEN)
        changes.append(float(np.abs(a - b)[seen].mean()) if seen.any() else 0.0)
    signals = []
    for picture in (*static, *dynamic, *front):
        sizes.append(float(picture[..., 3].mean()) / 255)
        solid = picture[..., 3] >= SOLID
        rim = np.concatenate([solid[0], solid[-1], solid[1:-1, 0], solid[1:-1, -1]])
        border = max(border, float(rim.mean()))
    for picture in front:
        values = _premultiplied(picture)
        signals.append([values[..., 3].mean(), *values[..., :3].mean((0, 1))])
    # Colour is compared with the whole object's brightness, or a dark channel's noise would count.
    signal = np.array(signals)
    level = np.array([signal[:, 0].mean(), *[signal[:, 1:].mean()] * 3]) + 1e-6
    jumps = (
        np.abs(signal[1:-1] - (signal[2:] + signal[:-2]) / 2)
        if len(signal) > 2
        else np.zeros((1, 4))
    )
    flicker = float((jumps / level).max())
    return Figures(
        *(round(v, 6) for v in (float(np.mean(changes)), border, float(np.mean(sizes)), flicker))
    )


def verdict(figures: Figures, limits: CurationOptions) -> str | None:
    """Why an asset is rejected, or None.

    The reason that makes the others meaningless comes first.
    """
    if figures.size == 0:
        return "empty"
    if figures.border > limits.max_border:
        return "overflows the border"
    if figures.size < limits.min_size:
        return "too small"
    if figures.flicker > limits.max_flicker:
        return "flickers"
    return "static" if figures.motion < limits.min_motion else None


def _premultiplied(picture: UInt8[ndarray, "h w 4"]) -> ndarray:
    values = picture.astype(np.float32) / 255
    values[..., :3] *= values[..., 3:]
    return values
