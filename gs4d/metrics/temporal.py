"""Faults of a moving object that need no network.

Flicker, unstable silhouettes, frozen motion, two-faced backs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .image import INSIDE_ALPHA, check_pair, gaussian_window

FLOW_SIDE = 256  # pixels: longer pictures are scaled down to it before motion is estimated
FLOW_SMALLEST = 16  # shortest side of the coarsest level
FLOW_ITERATIONS = 6
FLOW_WINDOW = 2.0  # standard deviation in pixels of the window over which motion is one
FLOW_DAMPING = 1e-4  # squared contrast below which a window says nothing about motion
JANUS_SIDE = 64  # pixels of the square into which an object's box is scaled
JANUS_SHIFT = (
    6  # pixels of that square by which details may be displaced and still count as the same
)


class PairScores(NamedTuple):
    """Two consecutive frames of one still camera.

    Every value is NaN when the first shows no object.
    """

    flicker: float
    motion: float
    silhouette: float


def _blur(maps: Float[Tensor, "c h w"], sigma: float) -> Float[Tensor, "c h w"]:
    """Gaussian blur of the same size: pixels beyond the border repeat it."""
    radius = max(1, round(2.5 * sigma))
    return gaussian_window(F.pad(maps, (radius,) * 4, mode="replicate"), sigma, radius)


def warp(picture: Float[Tensor, "c h w"], flow: Float[Tensor, "2 h w"]) -> Float[Tensor, "c h w"]:
    """``picture`` read at every pixel's place displaced by ``flow`` (x, y in pixels), bilinear,
    clamped at the border.
    """
    h, w = picture.shape[1:]
    x = (torch.arange(w, device=flow.device) + flow[0] + 0.5) * (2 / w) - 1
    y = (torch.arange(h, device=flow.device)[:, None] + flow[1] + 0.5) * (2 / h) - 1
    grid = torch.stack([x, y], -1)[None]
    return F.grid_sample(
        picture[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def optical_flow(a: Float[Tensor, "c h w"], b: Float[Tensor, "c h w"]) -> Float[Tensor, "2 h w"]:
    """Where the content of ``a`` has gone in ``b``.

    A(x) = b(x + flow(x)), flow as (x, y) in pixels.

    Lucas-Kanade in every pixel's Gaussian window, all channels together, coarse to fine with
    warping (Lucas & Kanade 1981; Bouguet 2000). Windows without contrast keep the motion of the
    coarser level, so a plain background stays still.
    """
    pyramid = [(a, b)]
    while min(pyramid[-1][0].shape[1:]) >= 2 * FLOW_SMALLEST:
        size = [length // 2 for length in pyramid[-1][0].shape[1:]]
        first, second = F.interpolate(
            torch.stack(pyramid[-1]), size, mode="bilinear", antialias=True
        )
        pyramid.append((first, second))
    flow = a.new_zeros(2, *pyramid[-1][0].shape[1:])
    for first, second in reversed(pyramid):
        h, w = first.shape[1:]
        scale = flow.new_tensor([w / flow.shape[2], h / flow.shape[1]])
        flow = (
            F.interpolate(flow[None], (h, w), mode="bilinear", align_corners=False)[0]
            * scale[:, None, None]
        )
        for _ in range(FLOW_ITERATIONS):
            moved = warp(second, flow)
            mean = F.pad((first + moved) / 2, (1, 1, 1, 1), mode="replicate")
            gx, gy = (
                (mean[:, 1:-1, 2:] - mean[:, 1:-1, :-2]) / 2,
                (mean[:, 2:, 1:-1] - mean[:, :-2, 1:-1]) / 2,
            )
            gap = moved - first
            products = torch.stack(
                [(p * q).sum(0) for p, q in ((gx, gx), (gx, gy), (gy, gy), (gx, gap), (gy, gap))]
            )
            xx, xy, yy, xt, yt = _blur(products, FLOW_WINDOW).unbind()
            xx, yy = xx + FLOW_DAMPING, yy + FLOW_DAMPING
            step = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt]) / (xx * yy - xy * xy)
            flow = _blur(flow + step.clamp(-1, 1), 0.7)
    return flow


def frame_pair(
    previous: Float[Tensor, "h w 3"],
    following: Float[Tensor, "h w 3"],
    previous_alpha: Float[Tensor, "h w"],
    following_alpha: Float[Tensor, "h w"],
) -> PairScores:
    """How two consecutive frames of a still camera hang together.

    - flicker: mean absolute colour difference between a frame and the next one warped back along
      the optical flow, inside the object and where the flow forth and back agrees, so that
      occlusion does not count (Lai et al. 2018, section 4.2; the test for occlusion is that of
      Sundaram et al. 2010). 0 is steady. Measured at 256 pixels at most.
    - motion: mean length of the flow inside the object, as a fraction of the picture's height, per
      frame. 0 is frozen.
    - silhouette: IoU of the silhouette and the next one warped back; 1 is steady.

    Args:
        previous: composited colours in [0, 1].
        following: the frame after it.
        previous_alpha: 1 everywhere when there is no alpha; then the whole picture counts as the
            object.
        following_alpha: as ``previous_alpha``.

    Raises:
        ValueError: the pictures differ in size or hold NaN.
    """
    first, second = (
        torch.cat([rgb, alpha[..., None]], -1).movedim(-1, 0).float()
        for rgb, alpha in ((previous, previous_alpha), (following, following_alpha))
    )
    check_pair(first, second)
    h, w = first.shape[1:]
    if max(h, w) > FLOW_SIDE:
        size = [max(1, round(length * FLOW_SIDE / max(h, w))) for length in (h, w)]
        first, second = (
            F.interpolate(p[None], size, mode="bilinear", antialias=True)[0]
            for p in (first, second)
        )
    forth, back = optical_flow(first[:3], second[:3]), optical_flow(second[:3], first[:3])
    moved = warp(second, forth)
    returned = warp(back, forth)
    lengths = forth.square().sum(0) + returned.square().sum(0)
    seen = (forth + returned).square().sum(0) < 0.01 * lengths + 0.5
    mask, moved_mask = first[3] > INSIDE_ALPHA, moved[3] > INSIDE_ALPHA
    if not mask.any():
        return PairScores(float("nan"), float("nan"), float("nan"))
    counted = mask & seen
    if not counted.any():  # nothing can be followed: that is flicker, not occlusion
        counted = mask
    error = (first[:3] - moved[:3]).abs().mean(0)
    return PairScores(
        flicker=error[counted].mean().item(),
        motion=forth.norm(dim=0)[mask].mean().item() / first.shape[1],
        silhouette=((mask & moved_mask).sum() / (mask | moved_mask).sum()).item(),
    )


def _details(
    rgb: Float[Tensor, "h w 3"], alpha: Float[Tensor, "h w"]
) -> Float[Tensor, "s s"] | None:
    """What is drawn on the object, of zero mean and unit energy.

    Its box scaled to a square, coarse shading taken away.
    """
    mask = alpha > INSIDE_ALPHA
    ys, xs = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(ys):
        return None
    planes = (
        torch.cat([rgb.mean(-1, keepdim=True) * alpha[..., None], alpha[..., None]], -1)
        .movedim(-1, 0)
        .float()
    )
    box = planes[None, :, ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    grey, weight = F.interpolate(box, (JANUS_SIDE, JANUS_SIDE), mode="bilinear", antialias=True)[0]
    # Blurring colour and coverage alike and dividing keeps the outline, which front and back share,
    # out of the details.
    coarse = _blur(torch.stack([grey, weight]), JANUS_SIDE / 12)
    details = (grey - weight * coarse[0] / coarse[1].clamp_min(1e-6)) * (weight > 0.9)
    energy = details.norm()
    return details / energy if energy > 1e-3 * JANUS_SIDE else None


def janus(
    front: Float[Tensor, "h w 3"],
    back: Float[Tensor, "h w 3"],
    front_alpha: Float[Tensor, "h w"],
    back_alpha: Float[Tensor, "h w"],
) -> float:
    """How much of the front's detail repeats on the view from the opposite side.

    0 nothing, 1 the same picture.

    The largest correlation of both views' details (luminance minus its coarse part, inside the
    object, boxes scaled to one square) over small displacements, the back as it is or mirrored. An
    object that truly looks alike from both sides scores high as well, so read it beside the same
    number of the truth. NaN when a side has no object or no detail.
    """
    a, b = _details(front, front_alpha), _details(back, back_alpha)
    if a is None or b is None:
        return float("nan")
    spectrum = torch.fft.rfft2(a, (2 * JANUS_SIDE, 2 * JANUS_SIDE))
    best = 0.0
    for other in (b, b.flip(1)):
        correlation = torch.fft.irfft2(
            spectrum * torch.fft.rfft2(other, (2 * JANUS_SIDE, 2 * JANUS_SIDE)).conj()
        )
        near = correlation.roll((JANUS_SHIFT, JANUS_SHIFT), (0, 1))[
            : 2 * JANUS_SHIFT + 1, : 2 * JANUS_SHIFT + 1
        ]
        best = max(best, near.max().item())
    return best
