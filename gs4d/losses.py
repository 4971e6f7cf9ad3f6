"""Losses between pictures: pure functions to a scalar.

Pictures are channel-last, values in [0, 1].
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .native import can_run, kernels

SSIM_TAPS = 11  # pixels across the Gaussian window
SSIM_SIGMA = 1.5  # pixels
SSIM_C1 = 0.01**2  # (K1 L)^2 and (K2 L)^2 of Wang et al. 2004, for values in [0, 1]
SSIM_C2 = 0.03**2


def l1(
    prediction: Float[Tensor, "b h w c"],
    target: Float[Tensor, "b h w c"],
    weights: Tensor | None = None,
) -> Float[Tensor, ""]:
    """Mean absolute difference; ``weights`` as in ``photometric``."""
    return _weighted_mean((prediction - target).abs(), weights)


def ssim_map(
    prediction: Float[Tensor, "b h w c"], target: Float[Tensor, "b h w c"]
) -> Float[Tensor, "b h w c"]:
    """Structural similarity per pixel and channel, in [-1, 1] (Wang et al. 2004, eq. 13).

    The window is an 11x11 Gaussian of sigma 1.5 pixels. It sees zeros outside the picture, as the
    training loss of 3D Gaussian splatting does, so that every pixel counts; the outermost 5 pixels
    differ from scikit-image, which reflects. Plain torch, any device and float dtype: the
    specification of the fused kernel in ``photometric``.
    """
    x, y = prediction.permute(0, 3, 1, 2), target.permute(0, 3, 1, 2)
    means = _window_means(torch.cat([x, y, x * x + y * y, x * y], 1))
    mean_x, mean_y, squares, product = means.split(x.shape[1], 1)
    mean_squares, mean_product = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
    luminance = (2 * mean_product + SSIM_C1) / (mean_squares + SSIM_C1)
    structure = (2 * (product - mean_product) + SSIM_C2) / (squares - mean_squares + SSIM_C2)
    return (luminance * structure).permute(0, 2, 3, 1)


def ssim(
    prediction: Float[Tensor, "b h w c"], target: Float[Tensor, "b h w c"]
) -> Float[Tensor, ""]:
    """Mean structural similarity, in [-1, 1]: the mean of ``ssim_map``."""
    return ssim_map(prediction, target).mean()


def _window_means(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    channels, reach = images.shape[1], SSIM_TAPS // 2
    offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    taps = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    taps = (taps / taps.sum()).expand(channels, 1, SSIM_TAPS)
    columns = F.conv2d(images, taps.unsqueeze(3), padding=(reach, 0), groups=channels)
    return F.conv2d(columns, taps.unsqueeze(2), padding=(0, reach), groups=channels)


def photometric(
    prediction: Float[Tensor, "b h w c"],
    target: Float[Tensor, "..."],
    *,
    ssim_weight: float = 0.2,
    weights: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, ""]:
    """Mean of ``weights * ((1 - s) |prediction - target| + s (1 - SSIM))``, s = ``ssim_weight``.

    3DGS (2023), eq. 7.

    Args:
        prediction: carries the gradient.
        target: constant, (b, h, w, c) too; no gradient flows to it on any backend.
        ssim_weight: in [0, 1].
        weights: constant factors per picture or per pixel. The mean is over all pixels: a weight of
            10 counts tenfold.

    Raises:
        ValueError: shapes do not fit together.
    """
    if prediction.shape != target.shape or prediction.ndim != 4:
        shapes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
        raise ValueError(
            f"photometric got pictures of shapes {shapes}: wanted twice the same (b, h, w, c)"
        )
    if weights is not None and weights.shape not in (prediction.shape[:1], prediction.shape[:3]):
        raise ValueError(
            f"photometric got weights of shape {tuple(weights.shape)}: wanted (b,) or (b, h, w)"
        )
    if can_run(prediction, target, *([] if weights is None else [weights])):
        return _Photometric.apply(prediction, target, ssim_weight, weights)
    return photometric_torch(prediction, target, ssim_weight, weights)


def photometric_torch(
    prediction: Tensor, target: Tensor, ssim_weight: float, weights: Tensor | None
) -> Tensor:
    """``photometric`` in plain torch, any device and float dtype.

    The specification of the fused kernel.
    """
    target = target.detach()
    error = (1 - ssim_weight) * (prediction - target).abs()
    return _weighted_mean(error + ssim_weight * (1 - ssim_map(prediction, target)), weights)


class _Photometric(torch.autograd.Function):
    """``photometric`` on the compiled kernel, which finds loss and gradient in one pass."""

    @staticmethod
    def forward(
        ctx, prediction: Tensor, target: Tensor, ssim_weight: float, weights: Tensor | None
    ) -> Tensor:
        x, y = prediction.detach().contiguous(), target.detach().contiguous()
        constant = None if weights is None else weights.detach().contiguous()
        grad = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        loss = kernels.photometric(x, y, constant, ssim_weight, SSIM_SIGMA, SSIM_C1, SSIM_C2, grad)
        if grad is not None:
            ctx.save_for_backward(grad)
        return prediction.new_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx, *upstream: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = ctx.saved_tensors
        return grad * upstream[0], None, None, None


def _weighted_mean(values: Float[Tensor, "b h w c"], weights: Tensor | None) -> Float[Tensor, ""]:
    if weights is None:
        return values.mean()
    return (values * weights.detach().view(*weights.shape, *[1] * (4 - weights.ndim))).mean()
