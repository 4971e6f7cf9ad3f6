"""An object as how likely each cell behind a picture's pixels is inside it: occupancy in layers of depth, and colours.

Cell (k, y, x) lies on the ray through the centre of pixel (x, y) of a source picture, at the depth of layer k. Layers are
equally spaced in camera z, from ``REACH`` before the origin to ``REACH`` behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..clip import Orbit, cameras_of
from ..gaussians import Gaussians
from ..geometry import SH_C0, rotations_to_quats

REACH = 0.6  # of the layers to both sides of the origin, world units: objects lie inside a sphere of this radius
SURFACE = 0.5  # occupancy at which a surface is assumed
SPREAD = 0.5  # standard deviation of a cell's Gaussian over the distance to its neighbours, measured against true solids


@dataclass(frozen=True)
class Solid:
    """One frame's solid.

    Attributes:
        occupancy: how likely each cell is inside, in [0, 1].
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
        return F.interpolate(values[None], scale_factor=times, mode="trilinear", align_corners=False)[0]

    return Solid(grow(solid.occupancy[None])[0], grow(solid.colors))


def skin(occupancy: Float[Tensor, "d h w"], surface: float = SURFACE) -> Tensor:
    """The cells that are inside and touch one that is outside, as a mask; what lies outside the grid is outside."""
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
    z, y, x = (place.clamp(0, size - 1) for place, size in zip(places.unbind(-1), occupancy.shape, strict=True))
    near = occupancy[z, y, x]
    return near.amax(1) - near.amin(1)


def solid_gaussians(solid: Solid, orbit: Orbit, *, surface: float = SURFACE, logit_opacity: float = 4.0) -> Gaussians:
    """A Gaussian for every cell of the solid's skin, in world space."""
    layers, side, _ = solid.occupancy.shape
    where = skin(solid.occupancy, surface)
    means = cell_centers(orbit, side, layers)[where]
    camera = cameras_of([orbit], width=side, height=side)
    T, focal = camera.T_camera_world[0], camera.K[0, 0, 0]
    pixel = (means @ T[:3, :3].T + T[:3, 3])[:, 2] / focal
    sizes = torch.stack([pixel, pixel, torch.full_like(pixel, 2 * REACH / layers)], 1)
    quats = rotations_to_quats(T[:3, :3].T.contiguous()[None]).expand(len(means), 4).contiguous()
    return Gaussians(
        means=means,
        quats=quats,
        log_scales=(SPREAD * sizes).log(),
        logit_opacities=torch.full((len(means),), logit_opacity),
        sh=((solid.colors[:, where].T - 0.5) / SH_C0)[:, None],
    )
