"""One picture against its truth, without any network.

PSNR, SSIM, and how well the silhouettes agree.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

# Wang et al. 2004, section III-B: 11x11 Gaussian of standard deviation 1.5, K1 = 0.01, K2 = 0.03
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2
EDGE_SIDE = 128  # pixels that pictures are reduced to before their edges are compared
# pixels along each side of the cells that edges are averaged in: a shift of a pixel is no fault
EDGE_CELL = 4
INSIDE_ALPHA = 0.5  # a pixel belongs to the object where its alpha exceeds this


def check_pair(pred: Tensor, truth: Tensor) -> None:
    """Refuses pictures that cannot be compared.

    Raises:
        ValueError: the shapes differ, there are no pixels, or a value is NaN or infinite.
    """
    if pred.shape != truth.shape or not pred.numel():
        raise ValueError(
            f"pictures of shapes {tuple(pred.shape)} and {tuple(truth.shape)} cannot be compared"
        )
    if not (pred.isfinite().all() and truth.isfinite().all()):
        raise ValueError("a picture holds NaN or infinite values, which no score is defined for")


def psnr(pred: Float[Tensor, "h w c"], truth: Float[Tensor, "h w c"]) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio in dB for a peak of 1.

    -10 log10(mean squared error), +inf for equal pictures.

    Values beyond [0, 1] are taken as they are. Differentiable except at equality.

    Raises:
        ValueError: see :func:`check_pair`.
    """
    check_pair(pred, truth)
    return -10 * (pred - truth).square().mean().log10()


def inside(
    pred_alpha: Float[Tensor, "h w"], truth_alpha: Float[Tensor, "h w"]
) -> Bool[Tensor, "h w"]:
    """Where either picture shows the object."""
    return (pred_alpha > INSIDE_ALPHA) | (truth_alpha > INSIDE_ALPHA)


def psnr_inside(
    pred: Float[Tensor, "h w c"], truth: Float[Tensor, "h w c"], mask: Bool[Tensor, "h w"]
) -> Float[Tensor, ""]:
    """PSNR over the pixels of ``mask`` (see :func:`inside`) only, so that the empty background
    earns nothing.

    NaN, which means undefined, when the mask is empty.

    Raises:
        ValueError: see :func:`check_pair`.
    """
    check_pair(pred, truth)
    return -10 * (pred - truth)[mask].square().mean().log10()


def mask_iou(
    pred_alpha: Float[Tensor, "h w"], truth_alpha: Float[Tensor, "h w"]
) -> Float[Tensor, ""]:
    """Intersection over union of the silhouettes (alpha > 0.5).

    1 where both are empty, because they agree.
    """
    check_pair(pred_alpha, truth_alpha)
    a, b = pred_alpha > INSIDE_ALPHA, truth_alpha > INSIDE_ALPHA
    union = (a | b).sum()
    return torch.where(union > 0, (a & b).sum() / union.clamp_min(1), 1.0)


def edge_cells(picture: Float[Tensor, "h w 3"]) -> Float[Tensor, "r c"]:
    """Mean gradient magnitudes of the grey picture, reduced to a width of EDGE_SIDE, in cells of
    EDGE_CELL pixels.

    The gradient is the difference to the next pixel along both axes; the last row and column have
    none.
    """
    height = max(EDGE_CELL, round(picture.shape[0] * EDGE_SIDE / picture.shape[1]))
    grey = picture.mean(-1)[None, None]
    small = F.interpolate(grey, (height, EDGE_SIDE), mode="area")[0, 0]
    right, down = small[:-1, 1:] - small[:-1, :-1], small[1:, :-1] - small[:-1, :-1]
    magnitude = F.pad((right.square() + down.square()).sqrt(), (0, 1, 0, 1))
    return F.avg_pool2d(magnitude[None, None], EDGE_CELL)[0, 0]


def edges(pred: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"]) -> Float[Tensor, ""]:
    """Pearson correlation of :func:`edge_cells`.

    NaN, which means undefined, where a picture has no edges.

    Blur costs little PSNR and much of this.

    Raises:
        ValueError: see :func:`check_pair`.
    """
    check_pair(pred, truth)
    a, b = (cells - cells.mean() for cells in (edge_cells(pred), edge_cells(truth)))
    return (a * b).sum() / (a.norm() * b.norm())


def gradient_share(
    pred: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"]
) -> Float[Tensor, ""]:
    """Sum of ``pred``'s :func:`edge_cells` over that of the truth.

    Below 1 too soft, above 1 too rough; NaN as there.

    Raises:
        ValueError: see :func:`check_pair`.
    """
    check_pair(pred, truth)
    total = edge_cells(truth).sum()
    return torch.where(total > 0, edge_cells(pred).sum() / total, torch.nan)


def gaussian_window(
    maps: Float[Tensor, "*b h w"], sigma: float, radius: int
) -> Float[Tensor, "*b H W"]:
    """Gaussian-weighted means, at the positions where the window of 2 radius + 1 pixels lies wholly
    inside the picture.
    """
    # Shifted multiply-adds run from cache, many times faster on a CPU than a convolution of one
    # channel.
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    weights = (taps / taps.sum()).tolist()
    for axis in (-1, -2):
        length = maps.shape[axis] - 2 * radius
        total = maps.narrow(axis, 0, length) * weights[0]
        for i, weight in enumerate(weights[1:], 1):
            total.add_(maps.narrow(axis, i, length), alpha=weight)
        maps = total
    return maps


def ssim(pred: Float[Tensor, "h w c"], truth: Float[Tensor, "h w c"]) -> Float[Tensor, ""]:
    """Structural similarity for a data range of 1 (Wang et al. 2004, eq. 13), the mean over
    channels; 1 for equal pictures.

    Border handling: only windows that lie wholly inside the picture count, which is also the region
    that scikit-image averages (``gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1``). Differentiable.

    Raises:
        ValueError: a side is shorter than the window of 11 pixels, where SSIM is undefined; see
            also :func:`check_pair`.
    """
    check_pair(pred, truth)
    if min(pred.shape[:2]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM is undefined for {pred.shape[1]}x{pred.shape[0]} pixels, below its window of "
            f"{SSIM_WINDOW}x11"
        )
    # Variances do not care about a common offset, and centred values lose fewer digits in E[x^2] -
    # E[x]^2.
    x, y = pred.movedim(-1, 0) - 0.5, truth.movedim(-1, 0) - 0.5
    maps = torch.stack([x, y, x * x + y * y, x * y])
    mx, my, squares, product = gaussian_window(maps, SSIM_SIGMA, SSIM_WINDOW // 2).unbind()
    variances = squares - mx * mx - my * my
    covariance = product - mx * my
    mx, my = mx + 0.5, my + 0.5
    luminance = (2 * mx * my + SSIM_C1) / (mx * mx + my * my + SSIM_C1)
    return (luminance * (2 * covariance + SSIM_C2) / (variances + SSIM_C2)).mean()
