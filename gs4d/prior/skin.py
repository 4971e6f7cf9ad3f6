"""One frame's surfaces as a closed skin of opaque Gaussians.

What the frame shows has the frame's own pixels; what lies behind has the network's colours.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from ..clip import Orbit, premultiply
from ..gaussians import Gaussians
from ..io.images import resize_rgba
from .lift_net import FINE
from .solid import REACH, Solid, cell_centers, skin, solid_gaussians, steps_at
from .surface_net import OUTSIDE, SPAN, anchored
from .symmetry import shown_by_mirror, symmetry_plane

LAYERS = 96  # of depth that a skin is made in: as fine as its pixels
LEAST = 0.25  # of the inflated thickness that is behind every pixel in any case
THINNEST = 0.03  # world units that are
OWN = 0.025  # world units behind the visible surface that have the frame's own colour
OPACITY = 0.97
# standard deviation of a cell's Gaussian over the distance to its neighbours: more swells the
# outline
SPREAD = 0.36
SURE = 3  # layers within which occupancy must change for its place to count as known


def skin_gaussians(
    depth: Float[Tensor, "p p"],
    logits: Float[Tensor, "d s s"],
    colors: Float[Tensor, "3 d2 s2 s2"],
    thickness: Float[Tensor, "s s"],
    frame: UInt8[Tensor, "h w 4"],
    source: Orbit,
) -> tuple[Gaussians, Float[Tensor, "n"]]:
    """The skin of one frame, and how sure its place is, per Gaussian in [0, 1].

    Args:
        depth: of the visible surface, as in ``surface_net.Surfaces``.
        logits: of occupancy behind it.
        colors: behind it.
        thickness: half of the inflated silhouette's, in units of REACH.
        frame: RGBA with straight alpha, square.
        source: its camera.
    """
    side = depth.shape[0]
    picture = premultiply(torch.from_numpy(resize_rgba(frame.numpy(), side, side).copy()))
    mask = picture[..., 3] > 0.5
    own = (picture[..., :3] / picture[..., 3:].clamp_min(1e-6)).clamp(0, 1)
    columns = F.max_pool2d(mask[None, None].float(), FINE)[0, 0] > 0
    fine = _grown(logits, columns, FINE)
    behind = (torch.arange(len(logits)) + 0.5)[:, None, None] * (SPAN / len(logits))
    thick = F.interpolate(
        thickness[None, None], scale_factor=float(FINE), mode="bilinear", align_corners=False
    )[0, 0]
    least = (2 * LEAST * REACH * thick).clamp_min(THINNEST)
    fine = torch.where(behind < least, fine.clamp_min(1.0), fine)
    field = anchored(fine[None], depth[None], LAYERS)[0]
    occupancy = torch.where(mask, field, OUTSIDE).sigmoid()
    cells = skin(occupancy)
    z = ((torch.arange(LAYERS) + 0.5) * 2 / LAYERS - 1)[:, None, None]
    past = (z - depth) * REACH  # world units behind the visible surface
    tints = _painted(
        _grown(colors.flatten(0, 1), _halved(columns), 2 * FINE).unflatten(0, (3, -1)), past
    )
    tints = torch.where(past < OWN, own.movedim(-1, 0)[:, None], tints).clamp(0, 1)
    hidden = cells & (past >= OWN)
    plane = symmetry_plane(occupancy, source)
    if plane is not None:
        places = cell_centers(source, side, LAYERS)[hidden]
        tint, belief = shown_by_mirror(places, plane, depth, own, mask, source)
        tints[:, hidden] = torch.lerp(tints[:, hidden], tint.T, belief)
    solid = Solid(occupancy, tints)
    opacities = OPACITY * cells
    return solid_gaussians(solid, source, opacities, SPREAD), steps_at(
        occupancy, cells, SURE
    ).clamp(0, 1)


def _halved(columns: Tensor) -> Tensor:
    return F.max_pool2d(columns[None, None].float(), 2)[0, 0] > 0


def _grown(values: Float[Tensor, "c s s"], columns: Tensor, times: int) -> Float[Tensor, "c p p"]:
    """Blends values linearly between cells that show the object.

    The others have none of their own.
    """
    weight = columns.to(values.dtype)[None]
    planes = torch.cat([values * weight, weight])[None]
    grown = F.interpolate(planes, scale_factor=float(times), mode="bilinear", align_corners=False)[
        0
    ]
    return grown[:-1] / grown[-1:].clamp_min(1e-6)


def _painted(
    colors: Float[Tensor, "3 d p p"], past: Float[Tensor, "z p p"]
) -> Float[Tensor, "3 z p p"]:
    """Colours of layers behind the visible surface, at some distances behind it."""
    count = colors.shape[1]
    place = (past / SPAN * count - 0.5).clamp(0, count - 1 - 1e-4)
    low = place.floor()
    index = low.long().expand(3, -1, -1, -1)
    start, end = colors.gather(1, index), colors.gather(1, index + 1)
    return start + (place - low) * (end - start)
