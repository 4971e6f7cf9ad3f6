"""A deformation field on six planes.

What is at x and moves alike at t shares texels, so few views train all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..errors import UserError
from ..native import can_run
from ..ranges import Options, Range
from .deltas import DeltaMotion, Heads
from .fused import MAX_LEVELS, decode_fused

# xy, xz, yz: the world axes along the rows and the columns of a spatial plane
PLANE_AXES = ((0, 1), (0, 2), (1, 2))
# channels and hidden units come in multiples of this, so that the CPU kernel needs no remainder
# loops
LANES = 16
# beyond them a field would take the machine's memory, not make a better asset
MAX_WIDTH, MAX_TEXELS = (1024, 1024)


@dataclass(frozen=True)
class HexPlaneOptions(Options):
    """Size of a HexPlane field and what it moves besides position, rotation and scale.

    Attributes:
        resolution: texels along each spatial axis at multires 1, at least 2.
        time_resolution: texels along time, at least 2. None: one per frame, at most 1024.
        multires: factors on the spatial resolution, one level each; time keeps its resolution.
        channels: features per texel, a multiple of 16.
        width: hidden units, a multiple of 16.
        opacity: also move the opacity.
        color: also move the colour of degree 0.
    """

    resolution: Annotated[int, Range(2, MAX_TEXELS)] = 32
    time_resolution: Annotated[int | None, Range(2, MAX_TEXELS)] = None
    multires: tuple[int, ...] = (1, 2)
    channels: Annotated[int, Range(LANES, MAX_WIDTH, LANES)] = 16
    width: Annotated[int, Range(LANES, MAX_WIDTH, LANES)] = 64
    opacity: bool = False
    color: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (
            not self.multires
            or min(self.multires) < 1
            or max(self.multires) * self.resolution > MAX_TEXELS
        ):
            raise self.error(
                f"{{multires}} is {self.multires}; it must be factors from 1, up to {MAX_TEXELS} "
                "texels"
            )


class HexPlane(DeltaMotion):
    """Features of (x, y, z, t) from six planes per level, multiplied, and a small decoder into
    deltas.

    Sources: HexPlane (Cao & Johnson 2023) and K-Planes (Fridovich-Keil et al. 2023): product of the
    planes of a level (K-Planes eq. 1), levels concatenated, time planes at one when training
    starts, so that they say "nothing moves". The decoder has one hidden layer of rectified units;
    its output layer starts at zero, so the field starts as the identity.

    Attributes:
        space: per level, planes xy, xz, yz: (3, resolution, resolution, channels), rows and columns
            as ``PLANE_AXES``.
        time: per level, planes xt, yt, zt: (3, time_resolution, resolution, channels).
        low, high: corners of the box, world units; first and last texel lie on it, points outside
            see its border.
    """

    low: Tensor
    high: Tensor

    def __init__(self, options: HexPlaneOptions, frames: int) -> None:
        """A field over the box [-1, 1]^3; ``frames`` is the number of frames of the clip."""
        super().__init__()
        self.options = options
        self.heads = Heads(opacity=options.opacity, color=options.color)
        channels, steps = (
            options.channels,
            options.time_resolution or min(max(frames, 2), MAX_TEXELS),
        )
        sizes = [options.resolution * factor for factor in options.multires]
        self.space = nn.ParameterList(
            [torch.empty(3, r, r, channels).uniform_(0.1, 0.5) for r in sizes]
        )
        self.time = nn.ParameterList([torch.ones(3, steps, r, channels) for r in sizes])
        self.hidden = nn.Linear(channels * len(sizes), options.width)
        self.out = nn.Linear(options.width, self.heads.count())
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("low", torch.full((3,), -1.0))
        self.register_buffer("high", torch.full((3,), 1.0))

    @torch.no_grad()
    def fit_box(self, means: Float[Tensor, "n 3"], margin: float = 0.1) -> None:
        """Lays the box around ``means``, larger by ``margin`` of its size on every side.

        Do it before training: the texels do not move along.
        """
        low, high = means.amin(0), means.amax(0)
        room = margin * (high - low) + 1e-6
        self.low.copy_(low - room)
        self.high.copy_(high + room)

    def deltas(
        self, means: Float[Tensor, "n 3"], times: Float[Tensor, " t"]
    ) -> Float[Tensor, "t n d"]:
        """Deltas of Gaussians whose canonical centres are ``means``, columns as in ``heads``.

        Args:
            means: world units. Their gradient is that of the interpolation, zero outside the box.
            times: in [0, 1], from the first time texel to the last.
        """
        unit = ((means - self.low) / (self.high - self.low)).nan_to_num(0.5)
        rows = [time_rows(plane, times) for plane in self.time]
        weights = (self.hidden.weight, self.hidden.bias, self.out.weight, self.out.bias)
        fused = len(rows) <= MAX_LEVELS and can_run(unit, *self.space, *weights)
        return (decode_fused if fused else decode_torch)(unit, list(self.space), rows, *weights)

    def moves(self, means: Float[Tensor, "n 3"], times: Float[Tensor, " t"]) -> dict[str, Tensor]:
        """Returns the deltas of each head at some times, (t, n, columns)."""
        return self.heads.split(self.deltas(means, times))

    def plane_smoothness(self) -> Float[Tensor, ""]:
        """Returns the total variation over space (K-Planes eq. 4).

        It is the mean squared first difference along the spatial axes, summed over axes and levels.
        """
        terms = [mean_squared_difference(plane, axis, 1) for plane in self.space for axis in (1, 2)]
        return torch.stack(
            terms + [mean_squared_difference(plane, 2, 1) for plane in self.time]
        ).sum()

    def time_smoothness(self) -> Float[Tensor, ""]:
        """Acceleration: mean squared second difference along time (K-Planes eq. 5), summed over
        levels.
        """
        return torch.stack([mean_squared_difference(plane, 1, 2) for plane in self.time]).sum()


def time_rows(
    plane: Float[Tensor, "3 steps r c"], times: Float[Tensor, " t"]
) -> Float[Tensor, "3 t r c"]:
    """The time planes at fixed times: what is left to look up is one-dimensional.

    Raises:
        UserError: a time is no number.
    """
    if times.isnan().any():
        raise UserError("a time of the motion is no number (NaN); give times from 0 to 1")
    steps = plane.shape[1]
    place = times.detach().clamp(0, 1) * (steps - 1)
    first = place.long().clamp(max=steps - 2)
    fraction = (place - first).to(plane.dtype)[:, None, None]
    return torch.lerp(plane.index_select(1, first), plane.index_select(1, first + 1), fraction)


def decode_torch(
    unit: Float[Tensor, "n 3"],
    space: list[Tensor],
    rows: list[Tensor],
    hidden_weight: Float[Tensor, "w f"],
    hidden_bias: Float[Tensor, " w"],
    out_weight: Float[Tensor, "d w"],
    out_bias: Float[Tensor, " d"],
) -> Float[Tensor, "t n d"]:
    """The field in plain torch, any device and float dtype: the specification of the fused kernel.

    Args:
        unit: points, the box is [0, 1]^3.
        space: (3, r, r, c) per level.
        rows: (3, t, r, c) per level.
    """
    features = []
    signed = 2 * unit - 1
    # grid_sample wants (column, row) coordinates and samples a (columns = r, rows = 1) strip where
    # time is fixed.
    pairs = torch.stack([signed[:, [column, row]] for row, column in PLANE_AXES])[:, None]
    single = torch.stack([signed.T, torch.zeros_like(signed.T)], -1)[:, None]
    for plane, strip in zip(space, rows, strict=True):
        _, t, r, c = strip.shape
        xy, xz, yz = F.grid_sample(
            plane.permute(0, 3, 1, 2), pairs, padding_mode="border", align_corners=True
        )
        strip = strip.permute(0, 1, 3, 2).reshape(3, t * c, 1, r)
        x, y, z = F.grid_sample(strip, single, padding_mode="border", align_corners=True)
        features.append((xy * xz * yz).view(c, -1) * (x * y * z).view(t, c, -1))
    inputs = torch.cat(features, 1).transpose(1, 2)
    return F.linear(F.relu(F.linear(inputs, hidden_weight, hidden_bias)), out_weight, out_bias)


class _MeanSquaredDifference(torch.autograd.Function):
    """Mean squared difference of order 1 or 2 along an axis.

    Its gradient is the transposed difference.
    """

    @staticmethod
    def forward(ctx, values: Tensor, axis: int, order: int) -> Tensor:
        difference = values.diff(order, dim=axis)
        ctx.save_for_backward(difference)
        ctx.axis, ctx.order = axis, order
        return difference.flatten().dot(difference.flatten()) / max(difference.numel(), 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, *upstream: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (difference,) = ctx.saved_tensors
        scaled = difference * (2 * upstream[0] / max(difference.numel(), 1))
        taps = (-1.0, 1.0) if ctx.order == 1 else (1.0, -2.0, 1.0)
        length = difference.shape[ctx.axis]
        shape = list(difference.shape)
        shape[ctx.axis] += ctx.order
        grad = difference.new_zeros(shape)
        for start, tap in enumerate(taps):
            grad.narrow(ctx.axis, start, length).add_(scaled, alpha=tap)
        return grad, None, None


def mean_squared_difference(values: Tensor, axis: int, order: int) -> Float[Tensor, ""]:
    """Mean square of the ``order``-th (1 or 2) difference along ``axis``.

    Zero where the axis is too short for one.
    """
    return _MeanSquaredDifference.apply(values, axis, order)
