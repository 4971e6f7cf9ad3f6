"""One crop and scale for a whole clip: an object that changes its outline does not pulse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from .masks import MaskFacts

FILL = 200 / 256  # SyncDreamer lays out an object so that its longer side takes 200 of 256 pixels
# Radius of the silhouette of the sphere that holds the object (0.6, seen from 1.5 at a field of
# view of 49.13 degrees) in half pictures: tan(asin(0.6 / 1.5)) / tan(49.13 / 2).
SPHERE = 0.9547


@dataclass(frozen=True)
class Crop:
    """A square that is cut out of every frame.

    Attributes:
        side: its side in pixels of the source.
        centers: its centre x, y in every frame, in pixels of the source; all equal unless the
            object is followed.
    """

    side: float
    centers: Float[np.ndarray, "t 2"]

    def box(self, frame: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels of the source; it may reach beyond the picture."""
        x, y = self.centers[frame]
        half = self.side / 2
        return float(x - half), float(y - half), float(x + half), float(y + half)


def plan_crop(
    facts: Sequence[MaskFacts],
    reach: Sequence[Float[np.ndarray, "_ 2"]],
    *,
    follow: bool,
    fill: float,
) -> Crop:
    """The crop that holds the object in all frames.

    Args:
        facts: of the masks; at least one must cover something.
        reach: the outermost points (x, y) of each mask, as :func:`outermost` gives them.
        follow: let the crop follow the object's smoothed path.
        fill: how much of the square the longer side of everything the object covers may take, in
            (0, 1].
    """
    boxes = np.array([f.box if f.box else (np.nan,) * 4 for f in facts], float)
    if follow:
        centers = _smooth_path(np.array([f.center if f.box else (np.nan, np.nan) for f in facts]))
    else:
        low, high = np.nanmin(boxes[:, :2], 0), np.nanmax(boxes[:, 2:], 0)
        centers = np.repeat(((low + high) / 2)[None], len(facts), 0)
    relative = boxes - np.tile(centers, 2)
    if follow:  # centred on all that the object covers around its path
        offset = (np.nanmin(relative[:, :2], 0) + np.nanmax(relative[:, 2:], 0)) / 2
        centers = centers + offset
        relative = relative - np.tile(offset, 2)
    extent = float(2 * np.nanmax(np.abs(relative)))
    radius = max(
        float(np.hypot(*(points - center).T).max())
        for points, center in zip(reach, centers, strict=True)
        if len(points)
    )
    return Crop(max(extent / fill, 2 * radius / SPHERE, 1.0), centers)


def _smooth_path(path: Float[np.ndarray, "t 2"]) -> Float[np.ndarray, "t 2"]:
    """The path without the jitter of the outline.

    Frames that show nothing lie between their neighbours.
    """
    frames = np.arange(len(path))
    seen = ~np.isnan(path[:, 0])
    filled = np.stack([np.interp(frames, frames[seen], path[seen, axis]) for axis in range(2)], -1)
    return np.asarray(
        ndimage.gaussian_filter1d(filled, sigma=max(1.0, len(path) / 16), axis=0, mode="nearest")
    )


def outermost(alpha: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "n 2"]:
    """Corners x, y of the first and last covered pixel of every row.

    Enough to find what lies farthest from any point.
    """
    covered = alpha > 25
    rows = np.nonzero(covered.any(1))[0]
    first = covered[rows].argmax(1)
    last = covered.shape[1] - covered[rows, ::-1].argmax(1)
    xs = np.concatenate([first, first, last, last])
    ys = np.concatenate([rows, rows + 1, rows, rows + 1])
    return np.stack([xs, ys], -1).astype(float)
