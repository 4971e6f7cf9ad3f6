"""Masks over time, and the colours at their edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from . import shapes
from .backdrop import Backdrop

Behind = Backdrop | Literal["alpha", "picture"]
SOLID = 0.95  # alpha above which a pixel is taken to be of the object alone
WIDEST_RIM = 4  # pixels
SPECK = 5e-4  # of the largest part: what is smaller is dropped
CRUMB = 1e-2  # of the largest part: what is smaller is kept only if it is there before or after
SMALL_HOLE = 1e-2  # of the object: a smaller hole that neither neighbour in time has is closed


def to_levels(alpha: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Alpha in [0, 1], beyond it clamped, in levels of 255."""
    return (alpha * 255).round().clip(0, 255).astype(np.uint8)


def soften(
    image: UInt8[np.ndarray, "h w 4"], alpha: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w"]:
    """Takes the background out of the rim of a hard mask that was drawn too wide.

    The rim is compared with the object farther inside and with what is hidden beside it. Only where
    most of it is mixed with the background, as in frames that a segmentation model cut out of a
    video, does it become as transparent as it is mixed.
    """
    solid = alpha > 127
    if not solid.any() or solid.all():
        return alpha
    part = shapes.window(solid, 8)
    rgb, solid, out = image[part][..., :3].astype(np.float32), solid[part], alpha.copy()
    inward, outward = shapes.depth(solid), shapes.depth(~solid)
    rim = (inward > 0) & (inward <= 1)
    mixed = (alpha[part] > 5) & (alpha[part] < 250)
    if (
        mixed.sum() > 0.25 * rim.sum()
        or not (inward > WIDEST_RIM + 1).any()
        or not (outward > 2.5).any()
    ):
        return alpha
    behind = rgb[tuple(shapes.nearest(outward > 2.5))]
    front = rgb[tuple(shapes.nearest(inward > WIDEST_RIM + 1))] - behind
    length = (front * front).sum(-1)
    share = ((rgb - behind) * front).sum(-1) / np.maximum(length, 1)
    telling = length > 30**2
    profile = [
        np.median(np.append(share[telling & (inward > k) & (inward <= k + 1)], 1.0))
        for k in range(WIDEST_RIM)
    ]
    if profile[0] > 0.7:
        return alpha
    width = next((k for k, value in enumerate(profile) if value > 0.9), WIDEST_RIM)
    band = telling & solid & (inward <= width)
    out[part][band] = (share[band].clip(0, 1) * 255).round().astype(np.uint8)
    return out


def steady(
    alpha: UInt8[np.ndarray, "h w"],
    neighbours: list[UInt8[np.ndarray, "h w"]],
    *,
    largest_only: bool,
    close_holes: bool,
) -> UInt8[np.ndarray, "h w"]:
    """One mask without what flickers.

    Specks, crumbs and small holes that the masks before and after do not have.

    Args:
        alpha: the mask.
        neighbours: those before and after it, one or two; none for a single picture.
        largest_only: keep nothing but the largest part (parts closer than 2 % of the picture count
            as one).
        close_holes: whether holes may be closed; not so where the source itself says what is
            transparent.
    """
    out = alpha.copy()
    present = alpha > 25
    if not present.any():
        return out
    reach = max(2, round(0.01 * max(alpha.shape)))
    labels, area = shapes.parts(shapes.grown(present, reach) if largest_only else present)
    kept = area == area.max() if largest_only else area >= SPECK * area.max()
    if neighbours and not largest_only:
        beside = np.logical_or.reduce([shapes.grown(n > 127, reach) for n in neighbours])
        confirmed = np.bincount(labels[beside], minlength=len(area)) > 0.3 * area
        kept &= (area >= CRUMB * area.max()) | confirmed
    kept[0] = False
    out[~shapes.grown(kept[labels])] = 0  # a kept part keeps its faint rim
    if close_holes and neighbours:
        whole = shapes.filled(out > 127)
        holes, sizes = shapes.parts(whole & (out <= 127))
        open_there = np.logical_or.reduce([shapes.grown(n < 128, reach) for n in neighbours])
        confirmed = np.bincount(holes[open_there], minlength=len(sizes)) > 0.5 * sizes
        closed = (sizes > 0) & (sizes < SMALL_HOLE * whole.sum()) & ~confirmed
        out[shapes.grown(closed[holes]) & whole] = 255
    return out


@dataclass(frozen=True)
class MaskFacts:
    """Measurements of one mask, for the plan of the crop and for warnings.

    Attributes:
        area: covered pixels.
        box: left, top, right, bottom in pixels, right and bottom excluded; None when nothing is
            covered.
        center: centroid x, y in pixels.
        parts: covered pixels of the parts that are apart, largest first.
        cut: side -> pixels along which the object ends at that border of the picture.
        straight: side -> pixels along which it ends in a straight line inside the picture.
    """

    area: float
    box: tuple[int, int, int, int] | None
    center: tuple[float, float]
    parts: tuple[int, ...]
    cut: dict[str, int]
    straight: dict[str, int]


def mask_facts(alpha: UInt8[np.ndarray, "h w"]) -> MaskFacts:
    """Measures one mask."""
    covered = alpha > 25
    if not covered.any():
        return MaskFacts(0.0, None, (0.0, 0.0), (), {}, {})
    rows, columns = np.nonzero(covered.any(1))[0], np.nonzero(covered.any(0))[0]
    left, top, right, bottom = (
        int(columns[0]),
        int(rows[0]),
        int(columns[-1]) + 1,
        int(rows[-1]) + 1,
    )
    weights = alpha.astype(np.float64)
    total = weights.sum()
    center = (
        float((weights.sum(0) @ np.arange(alpha.shape[1])) / total + 0.5),
        float((weights.sum(1) @ np.arange(alpha.shape[0])) / total + 0.5),
    )
    parts = np.sort(shapes.parts(covered)[1][1:])[::-1]
    solid = alpha > 127
    height, width = alpha.shape
    cut, straight = {}, {}
    turned = {
        "left": solid.T[left:right],
        "right": solid.T[left:right][::-1],
        "top": solid[top:bottom],
        "bottom": solid[top:bottom][::-1],
    }
    room = {"left": left, "top": top, "right": width - right, "bottom": height - bottom}
    for side, lines in turned.items():
        pixels = int(lines[:2].any(0).sum())  # two lines, as the first may be faint
        if room[side] <= 1 and pixels >= 0.01 * (width + height):
            cut[side] = pixels
        # A round end grows from line to line; one that was cut off has its full width at once.
        if (
            room[side] > 1
            and pixels >= 0.1 * lines.any(0).sum()
            and pixels > 0.65 * lines[5:7].any(0).sum()
        ):
            straight[side] = pixels
    return MaskFacts(
        float(total / 255),
        (left, top, right, bottom),
        center,
        tuple(int(p) for p in parts[:8]),
        cut,
        straight,
    )


def true_colors(
    image: UInt8[np.ndarray, "h w 4"], alpha: UInt8[np.ndarray, "h w"], behind: Behind
) -> UInt8[np.ndarray, "h w 4"]:
    """RGBA whose edge shows the object's colour alone.

    The background's part is subtracted from the pixels at the edge: ``(I - (1 - a) B) / a``.
    Wherever almost nothing of the object is left in a pixel, the nearest solid colour stands in, as
    division by alpha leaves only noise there.

    Args:
        image: the source.
        alpha: what is to be cut out of it.
        behind: what the edge is mixed with: a backdrop; "picture", whatever is seen beside the
            object; or "alpha": the source has its own alpha, and its edge should be pure. If it
            turns out to be mixed with one colour (the black of premultiplied files, the white of
            cut-outs), that is subtracted.
    """
    out = np.concatenate([image[..., :3], alpha[..., None]], -1)
    if not alpha.any():
        return out
    part = shapes.window(alpha > 0, 4)
    rgb, a = image[part][..., :3].astype(np.float32), alpha[part].astype(np.float32) / 255
    solid = a > min(SOLID, float(a.max()) - 1e-3)
    front = rgb[tuple(shapes.nearest(solid))]
    soft = (a > 0) & ~solid
    if isinstance(behind, Backdrop):
        back = behind.colors(*alpha.shape)[part]
    elif behind == "picture":
        beside = shapes.shrunk(a < 0.02, 2)  # nearer, the object still shines through
        back = rgb[tuple(shapes.nearest(beside))] if beside.any() else None
    else:
        back = _matte(rgb[soft], front[soft], a[soft])
    if back is not None:
        unmixed = ((rgb - (1 - a[..., None]) * back) / np.maximum(a, 1e-3)[..., None]).clip(0, 255)
        rgb[soft] = unmixed[soft]
    # below, division by alpha has made noise of the colour
    trust = ((a - 0.15) / 0.5).clip(0, 1)[..., None]
    rgb = np.where(solid[..., None], rgb, trust * rgb + (1 - trust) * front)
    screen = behind.spill if isinstance(behind, Backdrop) else None
    if screen is not None:
        rim = shapes.depth(a > 0.05) < max(2.0, 0.012 * max(alpha.shape))
        others = np.delete(rgb, screen, -1).max(-1)
        rgb[..., screen] = np.where(rim, np.minimum(rgb[..., screen], others), rgb[..., screen])
    out[part][..., :3] = rgb.round().clip(0, 255).astype(np.uint8)
    return out


def fill_hidden(image: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Gives pixels of alpha 0 the nearest visible colour near the object, white farther away.

    Viewers that filter colour and alpha apart then show no halo, and readers that drop alpha show
    the object on white.
    """
    out = image.copy()
    visible = image[..., 3] > 8
    if not visible.any():
        return out
    index = shapes.nearest(visible)
    near = shapes.distance_to(index) <= 4
    hidden = image[..., 3] == 0
    out[..., :3] = np.where((hidden & near)[..., None], image[..., :3][tuple(index)], out[..., :3])
    out[hidden & ~near, :3] = 255
    return out


def _matte(
    seen: Float[np.ndarray, "n 3"], own: Float[np.ndarray, "n 3"], alpha: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "3"] | None:
    """Returns the one colour that the soft edge is mixed with; None where its colours are pure."""
    some = (alpha > 0.1) & (alpha < 0.9)
    if np.count_nonzero(some) < 50:
        return None
    a = alpha[some][:, None]
    rest = seen[some] - a * own[some]
    matte = (((1 - a) * rest).sum(0) / ((1 - a) ** 2).sum()).clip(0, 255)
    mixed = np.abs(rest - (1 - a) * matte).mean()
    return matte.astype(np.float32) if mixed < 0.6 * np.abs(seen[some] - own[some]).mean() else None
