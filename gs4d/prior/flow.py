"""What lies between two frames, by optical flow: the interpolator that needs no weights.

Both frames' motion to the other is found from coarse to fine: at every level of a pyramid each
pixel takes the small step whose window matches best, then a fraction of a pixel (Lucas and Kanade
1981), and a median drops the outliers. Then both frames are pushed half way and blended: a pixel
counts less where it does not look like its partner, or where its partner's motion does not lead
back (Baker et al. 2011, "A Database and Evaluation Methodology for Optical Flow", section 3.3.2,
with soft weights).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .networks import Place

COARSEST = 16  # pixels of the shorter side at the top of the pyramid
FIRST_REACH, REACH = 3, 1  # pixels in which a step is sought: at the top, and below it
WINDOW = 5  # pixels across that are compared
SHORT = 0.002  # cost of a step per pixel of its length, in colour: flat regions stay where they are
FLAT = 1e-3  # squared slope of the colours below which a window says nothing about fractions
FINER = 0.75  # pixels that a fraction may have
UNLIKE = 10.0  # a difference in colour of 1 / UNLIKE divides a pixel's weight by e
UNSEEN = 0.1  # weight of the plain average, which is left where nothing is pushed to


class FlowInterpolator:
    """An ``Interpolator``; see the module."""

    def __init__(self) -> None:
        self.weights: list[dict[str, str]] = []

    def middle(
        self, a: Float[Tensor, "b h w c"], b: Float[Tensor, "b h w c"]
    ) -> Float[Tensor, "b h w c"]:
        """See ``Interpolator``.

        The motion is held constant: gradients go to the colours of ``a`` and ``b`` alone.
        """
        x, y = a.movedim(-1, 1), b.movedim(-1, 1)
        here, there = torch.cat([x, y]), torch.cat([y, x])
        with torch.no_grad():
            flow = optical_flow(here, there)
            back = torch.cat([flow[len(x) :], flow[: len(x)]])
            unlike = (here - sample(there, flow)).abs().mean(1, keepdim=True)
            astray = (flow + sample(back, flow)).norm(dim=1, keepdim=True)
            weights = torch.exp(-UNLIKE * unlike) / (1 + astray)
        pushed, weight = push(here * weights, 0.5 * flow), push(weights, 0.5 * flow)
        of_a, of_b = pushed.chunk(2)
        total = sum(weight.chunk(2))
        return ((of_a + of_b + UNSEEN * 0.5 * (x + y)) / (total + UNSEEN)).movedim(1, -1)


def open_flow(where: str, place: Place, sampling: None = None) -> FlowInterpolator:
    """Opens the interpolator; it reads no files and runs where its frames are."""
    return FlowInterpolator()


@torch.no_grad()
def optical_flow(
    a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b 2 h w"]:
    """Where the pixels of ``a`` are in ``b``, relative to where they were: x and y, pixels."""
    levels = [(a, b)]
    while min(levels[-1][0].shape[2:]) > COARSEST:
        size = [(side + 1) // 2 for side in levels[-1][0].shape[2:]]
        levels.append(
            (
                F.interpolate(levels[-1][0], size, mode="area"),
                F.interpolate(levels[-1][1], size, mode="area"),
            )
        )
    flow = a.new_zeros(len(a), 2, *levels[-1][0].shape[2:])
    for level, (here, there) in enumerate(reversed(levels)):
        h, w = here.shape[2:]
        grown = a.new_tensor([w / flow.shape[3], h / flow.shape[2]]).view(1, 2, 1, 1)
        flow = grown * F.interpolate(flow, (h, w), mode="bilinear", align_corners=False)
        flow = _median(flow + _step(here, there, flow, REACH if level else FIRST_REACH))
    return flow


def _step(
    here: Tensor, there: Tensor, flow: Float[Tensor, "b 2 h w"], reach: int
) -> Float[Tensor, "b 2 h w"]:
    """The step around ``flow`` after which the windows match best."""
    side = 2 * reach + 1
    steps = [flow.new_tensor((i % side - reach, i // side - reach)) for i in range(side * side)]
    differences = [
        (here - sample(there, flow + step.view(1, 2, 1, 1))).abs().mean(1, keepdim=True)
        for step in steps
    ]
    costs = _window(torch.cat(differences, 1)) + SHORT * torch.stack(steps).norm(dim=1).view(
        1, -1, 1, 1
    )
    best = costs.argmin(1, keepdim=True)
    step = torch.cat([best % side, best // side], 1).to(flow) - reach

    there = sample(there, flow + step)
    framed = F.pad(there, (1, 1, 1, 1), mode="replicate")
    right = 0.5 * (framed[:, :, 1:-1, 2:] - framed[:, :, 1:-1, :-2])
    down = 0.5 * (framed[:, :, 2:, 1:-1] - framed[:, :, :-2, 1:-1])
    rest = there - here
    xx, xy, yy, xr, yr = (
        _window((p * q).mean(1, keepdim=True))
        for p, q in ((right, right), (right, down), (down, down), (right, rest), (down, rest))
    )
    xx, yy = xx + FLAT, yy + FLAT
    finer = torch.cat([xy * yr - yy * xr, xy * xr - xx * yr], 1) / (xx * yy - xy * xy)
    return step + finer.clamp(-FINER, FINER)


def _window(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    return F.avg_pool2d(F.pad(values, (WINDOW // 2,) * 4, mode="replicate"), WINDOW, 1)


def _median(flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 2 h w"]:
    around = F.unfold(F.pad(flow, (1, 1, 1, 1), mode="replicate"), 3)
    return around.unflatten(1, (2, 9)).median(2).values.view_as(flow)


def sample(
    images: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h w"]
) -> Float[Tensor, "b c h w"]:
    """What ``images`` show where ``flow`` (pixels) leads from every pixel.

    The border goes on beyond them.
    """
    h, w = images.shape[2:]
    y, x = torch.meshgrid(
        torch.arange(h, device=flow.device), torch.arange(w, device=flow.device), indexing="ij"
    )
    places = torch.stack(
        [(x + 0.5 + flow[:, 0]) * (2 / w) - 1, (y + 0.5 + flow[:, 1]) * (2 / h) - 1], -1
    )
    return F.grid_sample(
        images, places, mode="bilinear", padding_mode="border", align_corners=False
    )


def push(
    images: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h w"]
) -> Float[Tensor, "b c h w"]:
    """Adds every pixel to the four around the place that ``flow`` (pixels) leads to."""
    b, c, h, w = images.shape
    y, x = torch.meshgrid(
        torch.arange(h, device=flow.device), torch.arange(w, device=flow.device), indexing="ij"
    )
    to_x, to_y = x + flow[:, 0], y + flow[:, 1]
    total = images.new_zeros(b, c, h * w)
    for column, row in ((to_x.floor() + i, to_y.floor() + j) for i in (0, 1) for j in (0, 1)):
        inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
        share = (1 - (to_x - column).abs()) * (1 - (to_y - row).abs()) * inside
        place = (row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).long()
        total = total.scatter_add(
            2, place.view(b, 1, -1).expand(-1, c, -1), (images * share[:, None]).flatten(2)
        )
    return total.view(b, c, h, w)
