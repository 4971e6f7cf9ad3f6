"""Measures how far the pictures of one moment fit together.

Each is compared with what the others make of the object.

Silhouettes: the visual hull of all views (Laurentini 1994) is carved from their masks and drawn
back into each of them. Views that contradict each other carve away what others see, so those
without which the rest agrees better are left out of the hull. Colours: what several views see of
the hull's surface should have one colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from scipy import ndimage

from ..clip import Orbit, cameras_of
from ..geometry import orbit_position
from ..hull import project
from ..io.images import resize_rgba
from .shapes import Mask, grown, shrunk

SIDE = 64  # pixels along the longer side of the pictures that are compared
CELLS = 48  # along each side of the carved cube
MIN_VIEWS = 4  # fewer silhouettes contradict each other too seldom to tell which is wrong
MIN_GAIN = 0.008  # in the agreement of the others, for which a view is left out of the hull
ALLOWED = 0.03  # of disagreement in shape, which is the grid's
MIN_POINTS = (
    20  # of the surface that a view shares with three near ones, for a verdict on its colours
)
NEAR_DEG = 60.0


def shrink(image: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "H W 4"]:
    """A picture as small as it is compared."""
    scale = SIDE / max(image.shape[:2])
    return resize_rgba(
        image, max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    )


@dataclass(frozen=True)
class Agreement:
    """Agreement per view; NaN where there is nothing to compare.

    Attributes:
        shape: 1 = the silhouette is that of the hull of the others, 0 = they have nothing in
            common.
        color: mean absolute difference, of 1, from the median of what the other views see at the
            same places.
    """

    shape: Float[np.ndarray, " v"]
    color: Float[np.ndarray, " v"]

    def weights(self) -> Float[np.ndarray, " v"]:
        """Returns the confidence in each view.

        1 unless it does clearly worse than the middle one of all views.

        A generator's views agree as well as that generator can; only those that fall behind are
        doubted. The allowances (0.03 of shape, 0.04 of colour) are what exact renders of lit
        objects need.
        """
        lag = np.maximum(np.median(self.shape) - self.shape - ALLOWED, 0) / 0.1
        known = self.color[~np.isnan(self.color)]
        odd = (
            np.nan_to_num(np.maximum(self.color - np.median(known) - 0.04, 0) / 0.04)
            if known.size
            else 0.0
        )
        return np.exp(-(lag**2) - odd**2)


def steadied(found: Sequence[Agreement]) -> list[Agreement]:
    """Returns agreements with the median colour difference of each moment and its neighbours.

    What a thin or glossy part shows in one frame is no sign that the view is wrong, so that a
    verdict needs all three.
    """
    colors = np.pad(np.stack([one.color for one in found]), ((1, 1), (0, 0)), mode="edge")
    middle = np.median(np.stack([colors[:-2], colors[1:-1], colors[2:]]), 0)
    return [replace(one, color=color) for one, color in zip(found, middle, strict=True)]


def compare(images: Sequence[UInt8[np.ndarray, "_h _w 4"]], orbits: Sequence[Orbit]) -> Agreement:
    """Compares pictures of one moment, as :func:`shrink` gives them."""
    masks = [image[..., 3] > 127 for image in images]
    if len(images) < MIN_VIEWS or not all(mask.any() for mask in masks):
        shape = np.array([1.0 if mask.any() else 0.0 for mask in masks])
        return Agreement(shape, np.full(len(images), np.nan))
    places = [
        _project(orbit, image.shape[1], image.shape[0], _bound(orbits))
        for orbit, image in zip(orbits, images, strict=True)
    ]
    inside = np.stack([_near(mask)[p] for mask, (p, _) in zip(masks, places, strict=True)])
    near = inside.mean(0) > 0.6
    inside, pixels, depths = (
        inside[:, near],
        [p[near] for p, _ in places],
        [z[near] for _, z in places],
    )

    def agree(view: int, hull: Bool[np.ndarray, " n"]) -> float:
        return _agree(masks[view], _silhouette(masks[view], pixels[view][hull]))

    kept = list(range(len(images)))
    while len(kept) > max(MIN_VIEWS - 1, 2 * len(images) // 3):
        now = [agree(view, np.logical_and.reduce(inside[kept])) for view in kept]
        if min(now) > 1 - ALLOWED:
            break
        gains = {}
        for out in kept:
            rest = [view for view in kept if view != out]
            hull = np.logical_and.reduce(inside[rest])
            gains[out] = np.mean([agree(v, hull) for v in rest]) - np.mean(
                [a for v, a in zip(kept, now, strict=True) if v != out]
            )
        worst = max(gains, key=gains.__getitem__)
        if gains[worst] < MIN_GAIN:
            break
        kept.remove(worst)
    hull = np.logical_and.reduce(inside[kept])
    shape = np.array([agree(view, hull) for view in range(len(images))])
    return Agreement(
        shape,
        _color_differences(
            images, masks, [p[hull] for p in pixels], [z[hull] for z in depths], orbits
        ),
    )


def object_scale(
    images: Sequence[UInt8[np.ndarray, "_h _w 4"]],
    orbits: Sequence[Orbit],
    seen: UInt8[np.ndarray, "h w 4"],
    camera: Orbit,
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Measures how well the scaled hull of the side views fills the input view's mask.

    (scales, agreement from 0 to 1).

    Scaling a scene with its cameras changes no picture, so the side views alone cannot tell how
    large their object is.
    """
    bound, masks, points, pixels = _carved(images, orbits)
    mask, height, width = seen[..., 3] > 127, *seen.shape[:2]
    scales = np.exp(np.arange(-24, 25) * 0.025)
    scores = np.zeros(len(scales))
    for i, scale in enumerate(scales if len(points) and mask.any() else ()):
        shown, _ = _pixels(points * float(scale), camera, width, height)
        hull = np.append(mask, False)[shown]
        # Scaled cells may lie further apart than pixels: the gaps between them are closed.
        reach = 1 + int(
            scale * bound / CELLS / (camera.radius * np.tan(np.radians(camera.fov) / 2) / height)
        )
        sides = [_overlap(m, _silhouette(m, p[hull])) for m, p in zip(masks, pixels, strict=True)]
        scores[i] = (_overlap(mask, _silhouette(mask, shown[hull], reach)) + np.mean(sides)) / 2
    return scales, scores


def overlap(images: Sequence[UInt8[np.ndarray, "_h _w 4"]], orbits: Sequence[Orbit]) -> float:
    """Mean overlap (intersection over union) of the masks with the hull that most of them leave.

    Views are not left out.
    """
    _, masks, _, pixels = _carved(images, orbits)
    return float(
        np.mean([_overlap(m, _silhouette(m, p)) for m, p in zip(masks, pixels, strict=True)])
    )


def _carved(
    images: Sequence[UInt8[np.ndarray, "_h _w 4"]], orbits: Sequence[Orbit]
) -> tuple[float, list[np.ndarray], Float32[torch.Tensor, "n 3"], list[np.ndarray]]:
    """Returns half the cube's side, masks, points that nine tenths of them hold, their pixels.

    Without the room that is left in :func:`compare`: a pixel on every side would leave the size
    undecided by a tenth.
    """
    bound = _bound(orbits)
    masks = [image[..., 3] > 127 for image in images]
    places = [
        _project(orbit, i.shape[1], i.shape[0], bound)[0]
        for orbit, i in zip(orbits, images, strict=True)
    ]
    votes = np.sum([np.append(mask, False)[p] for mask, p in zip(masks, places, strict=True)], 0)
    inside = votes >= max(1, round(0.9 * len(images)))
    return bound, masks, _grid(bound)[torch.from_numpy(inside)], [p[inside] for p in places]


def _near(mask: Mask) -> Bool[np.ndarray, " p"]:
    """The mask with a pixel of room, as the cells are as coarse as the pixels, flat.

    A last entry is for what is not shown.
    """
    return np.append(grown(mask), False)


def _silhouette(mask: Mask, pixels: Int[np.ndarray, " n"], reach: int = 1) -> Mask:
    """Returns a mask of points at flat indices, with gaps up to ``reach`` pixels closed."""
    seen = np.zeros(mask.size + 1, bool)
    seen[pixels] = True
    drawn = np.pad(seen[:-1].reshape(mask.shape), reach)
    return shrunk(grown(drawn, reach), reach)[reach:-reach, reach:-reach]


def _overlap(mask: Mask, drawn: Mask) -> float:
    return float((mask & drawn).sum() / max((mask | drawn).sum(), 1))


def _agree(mask: Mask, drawn: Mask) -> float:
    """Returns how alike a mask and a silhouette are, apart from a pixel along their outlines.

    1 = the same.
    """
    missing = mask & ~grown(drawn)
    extra = drawn & ~grown(mask)
    return float(1 - (missing | extra).sum() / (mask | drawn).sum())


def _bound(orbits: Sequence[Orbit]) -> float:
    """Half side of the cube that these cameras see."""
    return 1.02 * float(
        np.median([orbit.radius * np.tan(np.radians(orbit.fov) / 2) for orbit in orbits])
    )


def _grid(bound: float) -> Float32[torch.Tensor, "n 3"]:
    line = ((torch.arange(CELLS) + 0.5) / CELLS * 2 - 1) * bound
    return torch.cartesian_prod(line, line, line)


@lru_cache(maxsize=64)
def _project(orbit: Orbit, width: int, height: int, bound: float) -> tuple[np.ndarray, np.ndarray]:
    return _pixels(_grid(bound), orbit, width, height)


def _pixels(
    points: Float32[torch.Tensor, "n 3"], orbit: Orbit, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns each point's depth and flat pixel index (``width * height``: not shown)."""
    where, depth = project(cameras_of([orbit], width=width, height=height), points)
    column, row = (
        (((where + 1) / 2) * torch.tensor([width, height]))
        .floor()
        .nan_to_num(-1, -1, -1)
        .long()
        .unbind(1)
    )
    shown = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (depth > 0)
    return torch.where(shown, row * width + column, width * height).numpy(), depth.numpy()


def _color_differences(
    images: Sequence[UInt8[np.ndarray, "_h _w 4"]],
    masks: Sequence[Bool[np.ndarray, "_h _w"]],
    pixels: Sequence[np.ndarray],
    depths: Sequence[np.ndarray],
    orbits: Sequence[Orbit],
) -> Float[np.ndarray, " v"]:
    """Only near views are compared.

    The hull is wider than the object, and from afar its points show other places of it.
    """
    step = 2 * _bound(orbits) / CELLS
    seen = np.full((len(images), len(pixels[0]), 3), np.nan, np.float32)
    for view, (image, mask) in enumerate(zip(images, masks, strict=True)):
        nearest = np.full(mask.size + 1, np.inf)
        np.minimum.at(nearest, pixels[view], depths[view])
        front = np.append(
            np.asarray(ndimage.minimum_filter(nearest[:-1].reshape(mask.shape), 3)), np.inf
        )
        solid = np.append(shrunk(mask), False)
        visible = (depths[view] <= front[pixels[view]] + 1.5 * step) & solid[pixels[view]]
        seen[view, visible] = image[..., :3].reshape(-1, 3)[pixels[view][visible]] / np.float32(255)
    known = ~np.isnan(seen[..., 0])
    ways = torch.stack([orbit_position(o.azimuth, o.elevation, 1.0) for o in orbits]).numpy()
    near = ways @ ways.T > np.cos(np.radians(NEAR_DEG))
    differences = np.full(len(images), np.nan)
    for view in range(len(images)):
        others = np.nonzero(near[view] & (np.arange(len(images)) != view))[0]
        shared = known[view] & (known[others].sum(0) >= 3)
        if shared.sum() >= max(MIN_POINTS, 0.1 * known[view].sum()):
            usual = np.nanmedian(seen[others][:, shared], 0)
            differences[view] = np.abs(seen[view, shared] - usual).mean()
    return differences
