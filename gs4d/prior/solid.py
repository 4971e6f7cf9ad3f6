"""An object as how likely each cell behind a picture's pixels is inside it.

Occupancy in layers of depth, and colours.

Cell (k, y, x) lies on the ray through the centre of pixel (x, y) of a source picture, at the depth
of layer k. Layers are equally spaced in camera z, from ``REACH`` before the origin to ``REACH``
behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..clip import Orbit, cameras_of
from ..gaussians import Gaussians
from ..geometry import SH_C0, rotations_to_quats

# of the layers to both sides of the origin, world units: objects lie inside a sphere of this radius
REACH = 0.6
SURFACE = 0.5  # occupancy at which a surface is assumed
SHARP = 2.0  # logit of a ray that meets the solid, over the highest logit of the cells on its way
# standard deviation of a cell's Gaussian over the distance to its neighbours, measured against true
# solids
SPREAD = 0.5
LEVELS = (0.15, 0.3, 0.5, 0.7, 0.85)  # occupancies of the shells that a solid is drawn as
OPAQUE = 0.95  # of the innermost shell's Gaussians
OVERLAP = 4.2  # optical depth of a shell over that of one of its Gaussians, measured


@dataclass(frozen=True)
class Solid:
    """One frame's solid.

    Attributes:
        occupancy: how likely a ray that comes to each cell has met the object, in [0, 1].
        colors: of the cells, in [0, 1]; they matter near the surface.
    """

    occupancy: Float[Tensor, "d h w"]
    colors: Float[Tensor, "3 d h w"]


def cell_centers(orbit: Orbit, side: int, layers: int) -> Float[Tensor, "d h w 3"]:
    """World positions of the cells of a square picture that the camera of ``orbit`` took."""
    camera = cameras_of([orbit], width=side, height=side)
    T, focal = camera.T_camera_world[0], camera.K[0, 0, 0]
    across = (torch.arange(side) + 0.5 - side / 2) / focal
    z = orbit.radius + REACH * ((torch.arange(layers) + 0.5) * 2 / layers - 1)
    z, y, x = torch.meshgrid(z, across, across, indexing="ij")
    return (torch.stack([x * z, y * z, z], -1) - T[:3, 3]) @ T[:3, :3]


def finer(solid: Solid, times: int) -> Solid:
    """The same solid with ``times`` as many cells along every axis, blended linearly."""

    def grow(values: Tensor) -> Tensor:
        return F.interpolate(
            values[None], scale_factor=times, mode="trilinear", align_corners=False
        )[0]

    return Solid(grow(solid.occupancy[None])[0], grow(solid.colors))


def skin(occupancy: Float[Tensor, "d h w"], surface: float = SURFACE) -> Tensor:
    """The cells that are inside and touch one that is outside, as a mask.

    What lies outside the grid is outside.
    """
    inside = occupancy > surface
    core = F.pad(inside, (1,) * 6)
    for axis in range(3):
        size = core.shape[axis] - 2
        core = core.narrow(axis, 0, size) & core.narrow(axis, 1, size) & core.narrow(axis, 2, size)
    return inside & ~core


def steps_at(occupancy: Float[Tensor, "d h w"], cells: Tensor, reach: int) -> Float[Tensor, "n"]:
    """By how much occupancy changes within ``reach`` cells of those in a mask."""
    offsets = torch.cartesian_prod(*[torch.arange(-reach, reach + 1)] * 3)
    places = cells.nonzero()[:, None] + offsets
    z, y, x = (
        place.clamp(0, size - 1)
        for place, size in zip(places.unbind(-1), occupancy.shape, strict=True)
    )
    near = occupancy[z, y, x]
    return near.amax(1) - near.amin(1)


def shell_opacities(levels: Sequence[float]) -> list[float]:
    """Opacities of the Gaussians of nested shells at some occupancies, the innermost being opaque.

    A ray whose likeliest cell lies between two levels enters and leaves all shells up to the lower
    of them, and is to be covered by their mean: it is that likely to meet the object.
    """
    passed = [1.0, *(1 - (low + high) / 2 for low, high in pairwise(levels))]
    return [1 - (after / before) ** (0.5 / OVERLAP) for before, after in pairwise(passed)] + [
        OPAQUE
    ]


def soft_skin(
    occupancy: Float[Tensor, "d h w"], levels: Sequence[float] = LEVELS
) -> Float[Tensor, "d h w"]:
    """Opacities of the cells of a solid's shells, 0 for all others.

    Opaque where it is sure, a veil where it may be.
    """
    clear = torch.ones_like(occupancy)
    for level, opacity in zip(levels, shell_opacities(levels), strict=True):
        clear = torch.where(skin(occupancy, level), clear * (1 - opacity), clear)
    return 1 - clear


def solid_gaussians(
    solid: Solid,
    orbit: Orbit,
    opacities: Float[Tensor, "d h w"] | None = None,
    spread: float = SPREAD,
) -> Gaussians:
    """Returns a Gaussian in world space for each cell with an opacity; default: ``soft_skin``."""
    layers, side, _ = solid.occupancy.shape
    opacities = soft_skin(solid.occupancy) if opacities is None else opacities
    where = opacities > 0
    means = cell_centers(orbit, side, layers)[where]
    camera = cameras_of([orbit], width=side, height=side)
    T, focal = camera.T_camera_world[0], camera.K[0, 0, 0]
    pixel = (means @ T[:3, :3].T + T[:3, 3])[:, 2] / focal
    sizes = torch.stack([pixel, pixel, torch.full_like(pixel, 2 * REACH / layers)], 1)
    quats = rotations_to_quats(T[:3, :3].T.contiguous()[None]).expand(len(means), 4).contiguous()
    return Gaussians(
        means=means,
        quats=quats,
        log_scales=(spread * sizes).log(),
        logit_opacities=opacities[where].logit(),
        sh=((solid.colors[:, where].T - 0.5) / SH_C0)[:, None],
    )
