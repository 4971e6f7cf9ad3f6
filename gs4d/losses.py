"""Losses between pictures: pure functions to a scalar. Pictures are channel-last, values in [0, 1]."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SSIM_TAPS = 11  # pixels across the Gaussian window
SSIM_SIGMA = 1.5  # pixels
SSIM_C1 = 0.01**2  # (K1 L)^2 and (K2 L)^2 of Wang et al. 2004, for values in [0, 1]
SSIM_C2 = 0.03**2


def l1(
    prediction: Float[Tensor, "b h w c"], target: Float[Tensor, "b h w c"], weights: Tensor | None = None
) -> Float[Tensor, ""]:
    """Mean absolute difference; ``weights`` as in ``photometric``."""
    return _weighted_mean((prediction - target).abs(), weights)


def ssim_map(prediction: Float[Tensor, "b h w c"], target: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
    """Structural similarity per pixel and channel, in [-1, 1] (Wang et al. 2004, eq. 13).

    The window is an 11x11 Gaussian of sigma 1.5 pixels. It sees zeros outside the picture, as the training loss of 3D
    Gaussian splatting does, so that every pixel counts; the outermost 5 pixels differ from scikit-image, which
    reflects. Plain torch, any device and float dtype: the specification of the fused kernel in ``photometric``.
    """
    b, h, w, c = prediction.shape
    x, y = (image.permute(0, 3, 1, 2).reshape(b * c, 1, h, w) for image in (prediction, target))
    offsets = torch.arange(SSIM_TAPS, dtype=x.dtype, device=x.device) - SSIM_TAPS // 2
    taps = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    taps = taps / taps.sum()

    def blur(images: Tensor) -> Tensor:
        columns = F.conv2d(images, taps.view(1, 1, -1, 1), padding=(SSIM_TAPS // 2, 0))
        return F.conv2d(columns, taps.view(1, 1, 1, -1), padding=(0, SSIM_TAPS // 2))

    mean_x, mean_y, xx, yy, xy = blur(torch.cat([x, y, x * x, y * y, x * y])).split(b * c)
    variances = xx - mean_x * mean_x + yy - mean_y * mean_y
    covariance = xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x * mean_x + mean_y * mean_y + SSIM_C1)
    similarity = luminance * (2 * covariance + SSIM_C2) / (variances + SSIM_C2)
    return similarity.view(b, c, h, w).permute(0, 2, 3, 1)


def photometric(
    prediction: Float[Tensor, "b h w c"],
    target: Float[Tensor, "b h w c"],
    *,
    ssim_weight: float = 0.2,
    weights: Float[Tensor, " b"] | Float[Tensor, "b h w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of ``weights * ((1 - ssim_weight) |prediction - target| + ssim_weight (1 - SSIM))`` (Kerbl et al. 2023, eq. 7).

    Args:
        prediction: carries the gradient.
        target: constant, same shape; no gradient flows to it on any backend.
        ssim_weight: in [0, 1].
        weights: constant factors per picture or per pixel; the mean is over all pixels, so a weight of 10 counts tenfold.

    Raises:
        ValueError: shapes do not fit together.
    """
    if prediction.shape != target.shape or prediction.ndim != 4:
        shapes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
        raise ValueError(f"photometric got pictures of shapes {shapes}: wanted twice the same (b, h, w, c)")
    if weights is not None and weights.shape not in (prediction.shape[:1], prediction.shape[:3]):
        raise ValueError(f"photometric got weights of shape {tuple(weights.shape)}: wanted (b,) or (b, h, w)")
    return photometric_torch(prediction, target, ssim_weight, weights)


def photometric_torch(prediction: Tensor, target: Tensor, ssim_weight: float, weights: Tensor | None) -> Tensor:
    """``photometric`` in plain torch, any device and float dtype: the specification of the fused kernel."""
    target = target.detach()
    error = (1 - ssim_weight) * (prediction - target).abs()
    return _weighted_mean(error + ssim_weight * (1 - ssim_map(prediction, target)), weights)


def _weighted_mean(values: Float[Tensor, "b h w c"], weights: Tensor | None) -> Float[Tensor, ""]:
    if weights is None:
        return values.mean()
    return (values * weights.detach().view(*weights.shape, *[1] * (4 - weights.ndim))).mean()
