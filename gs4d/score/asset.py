"""Scores of a fitted asset against the clip that it was fitted to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..asset import Asset
from ..clip import Clip, over_white
from ..metrics.image import SSIM_WINDOW, inside, mask_iou, psnr, psnr_inside, ssim
from ..render import Render, render

MOST_DB = 100.0  # of an equal picture, whose PSNR is infinite, in a mean


def score_asset(asset: Asset, clip: Clip) -> dict[str, Any]:
    """Scores of renders against the clip's pictures.

    Returns:
        Means over pictures of psnr and psnr_inside (dB), ssim, and iou of the masks: of the views
        that were fitted ("train"), of the input view alone ("input"), of the views kept for scoring
        if there are any ("eval"), and of each view by its name ("views").
    """
    tracks = (*clip.tracks, *clip.truth)
    rows: dict[str, list[dict[str, float]]] = {track.name: [] for track in tracks}
    for frame, t in enumerate(clip.times().tolist()):
        gaussians = asset.at(t)
        for track in tracks:
            rows[track.name].append(
                _score_picture(
                    render(gaussians, track.camera(frame)), *over_white(track.images[frame])
                )
            )
    views = {name: _mean_row(pictures) for name, pictures in rows.items()}
    groups = {"input": clip.tracks[:1], "train": clip.tracks, "eval": clip.truth}
    scores = {
        group: _mean_row([views[track.name] for track in some])
        for group, some in groups.items()
        if some
    }
    return {**scores, "views": views}


def _score_picture(
    drawn: Render, seen: Float[Tensor, "h w 3"], coverage: Float[Tensor, "h w 1"]
) -> dict[str, float]:
    picture, alpha, truth = drawn.rgb[0].clamp(0, 1), drawn.alpha[0], coverage[..., 0]
    return {
        "psnr": psnr(picture, seen).item(),
        "psnr_inside": psnr_inside(picture, seen, inside(alpha, truth)).item(),
        "iou": mask_iou(alpha, truth).item(),
        "ssim": ssim(picture, seen).item() if min(alpha.shape) >= SSIM_WINDOW else math.nan,
    }


def _mean_row(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    return {key: mean_of_defined([row[key] for row in rows]) for key in rows[0]}


def mean_of_defined(values: Sequence[float | None]) -> float | None:
    """Mean without the undefined (NaN) ones, each at most 100 (dB); None when none is defined."""
    defined = [min(v, MOST_DB) for v in values if v is not None and not math.isnan(v)]
    return sum(defined) / len(defined) if defined else None
