"""Frechet distances between sets of features, the closed form that passes for one, and which videos
a view-time grid holds.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def _distance(mean_gap: Tensor, half_x: Tensor, half_y: Tensor) -> Float[Tensor, ""]:
    """With covariances X = half_x^T half_x and Y likewise.

    The non-zero eigenvalues of XY are the squared singular values of half_x half_y^T, so the trace
    of the square root is their plain sum: no matrix square root, no jitter, no complex numbers, and
    rank deficiency is harmless.
    """
    cross = torch.linalg.matrix_norm(half_x @ half_y.T, ord="nuc")
    spread = half_x.square().sum() + half_y.square().sum() - 2 * cross
    return mean_gap.square().sum() + spread.clamp_min(0)


def _half(features: Float[Tensor, "n d"]) -> Tensor:
    centred = features - features.mean(0)
    triangle = torch.linalg.qr(
        centred, mode="r"
    ).R  # at most d rows, however many samples there are
    return triangle / max(len(features) - 1, 1) ** 0.5


def frechet_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Squared Frechet distance of the Gaussians fitted to two sets of features, in float64.

    |mu_x - mu_y|^2 + Tr(X + Y - 2 (X Y)^(1/2)) with unbiased covariances (Dowson & Landau 1982;
    FID: Heusel et al. 2017; FVD: Unterthiner et al. 2018). A single sample has covariance 0.

    Raises:
        ValueError: a set is empty, the feature lengths differ, or a value is not finite.
    """
    if not len(x) or not len(y) or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"feature sets of shapes {tuple(x.shape)} and {tuple(y.shape)} have no Frechet distance"
        )
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("the features hold NaN or infinite values, which have no Frechet distance")
    x, y = x.double(), y.double()
    return _distance(x.mean(0) - y.mean(0), _half(x), _half(y))


def c4d_fvd(pred: Float[Tensor, "d"], truth: Float[Tensor, "d"]) -> Float[Tensor, ""]:
    """What the evaluation script of Consistent4D computes under the name FVD, in float64.

    It gives one video per set to a Frechet distance. Old numpy reads the single row of d logits as
    d samples of one variable, so the result is |a - b|^2 + (s_a - s_b)^2 with s the standard
    deviation *over the logits* (unbiased): a distance between two vectors, not between
    distributions. Published "FVD" on the Consistent4D set is this number.

    Args:
        pred: I3D logits of one rendered video, averaged over time.
        truth: the same of the true video.
    """
    a, b = pred.double(), truth.double()
    return (a - b).square().sum() + (a.std() - b.std()).square()


GridVideos = dict[str, list[list[tuple[int, int]]]]


def grid_videos(views: int, frames: int) -> GridVideos:
    """The videos that SV4D's four scores see in a grid of views x frames (Xie et al. 2024), as
    (view, frame) cells.

    The paper describes them in words; where these leave a choice it is made here.

    - ``fvd_f``: every view over time.
    - ``fvd_v``: every frame over the views.
    - ``fvd_diag``: one video along the grid's diagonal; where the grid is not square, the shorter
      side moves more slowly.
    - ``fv4d``: one video of all pictures, row by row with every second row backwards, so that
      neighbours in the video are neighbours in the grid.
    """
    longest = max(views, frames)
    diagonal = [(k * views // longest, k * frames // longest) for k in range(longest)]
    rows = [[(v, t) for t in range(frames)] for v in range(views)]
    snake = [cell for v, row in enumerate(rows) for cell in (row[::-1] if v % 2 else row)]
    return {
        "fvd_f": rows,
        "fvd_v": [[(v, t) for v in range(views)] for t in range(frames)],
        "fvd_diag": [diagonal],
        "fv4d": [snake],
    }
