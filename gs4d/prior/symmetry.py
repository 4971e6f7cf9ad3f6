"""The plane about which a solid is symmetric, and what it lets a picture say of the far side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from ..camera import project
from ..clip import Orbit, cameras_of
from .solid import REACH, SURFACE, cell_centers

ANGLES = 24  # directions of a plane that are tried, over half a turn about the vertical
SHIFTS = 9  # places of a plane that are tried, over SHIFT to both sides of the solid's middle
SHIFT = 0.08  # world units
POINTS = 3000  # cells that are mirrored to judge a plane
LEAST = 0.82  # share of mirrored cells that lie in the solid, of a plane that counts
CLEARER = 0.08  # by which a plane must be better than the one across it: a box has both
SLACK = 0.035  # world units between a mirrored place and the visible surface that is taken for it


@dataclass(frozen=True)
class Plane:
    """A vertical plane: places x with normal . x = offset.

    Attributes:
        normal: unit, horizontal, world axes.
        offset: world units.
        share: of the solid's cells that lie in the solid when mirrored, in [0, 1].
    """

    normal: Float[Tensor, "3"]
    offset: float
    share: float

    def mirrored(self, places: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Places on the other side of the plane."""
        return places - 2 * (places @ self.normal - self.offset)[:, None] * self.normal


def _seen(
    places: Float[Tensor, "n 3"], source: Orbit
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
    """World positions as x, y in [-1, 1] of a square picture, and depth in units of REACH."""
    at, z = project(cameras_of([source], width=1, height=1), places)
    return at, (z - source.radius) / REACH


def symmetry_plane(occupancy: Float[Tensor, "d h w"], source: Orbit) -> Plane | None:
    """The vertical plane about which a solid is symmetric, or None where none is clear.

    Cells are mirrored and looked up; the best of all planes counts if most cells fall into the
    solid, and clearly more than about the plane at right angles to it.

    Args:
        occupancy: of the cells behind the picture of ``source``, as in ``solid.Solid``.
        source: the camera.
    """
    layers, side, _ = occupancy.shape
    inside = occupancy > SURFACE
    centers = cell_centers(source, side, layers)[inside]
    if len(centers) < 50:
        return None
    centers = centers[:: max(1, len(centers) // POINTS)]
    middle = centers.mean(0)
    angles = torch.arange(ANGLES) * (math.pi / ANGLES)
    normals = torch.stack([angles.cos(), torch.zeros(ANGLES), angles.sin()], 1)
    shifts = torch.linspace(-SHIFT, SHIFT, SHIFTS)
    offsets = (normals @ middle)[:, None] + shifts  # (angles, shifts)
    beyond = (centers @ normals.T)[:, None] - offsets.T  # (n, shifts, angles)
    places = centers[:, None, None] - 2 * beyond[..., None] * normals
    at, depth = _seen(places.reshape(-1, 3), source)
    spot = torch.cat([at, depth[:, None]], 1).view(1, -1, 1, 1, 3)
    grid = inside.float()[None, None]
    hit = F.grid_sample(grid, spot, mode="nearest", align_corners=False).view(beyond.shape)
    share = hit.mean(0)  # (shifts, angles)
    best = share.amax(0)
    angle = int(best.argmax())
    across = best[(angle + ANGLES // 2) % ANGLES]
    if best[angle] < LEAST or best[angle] < across + CLEARER:
        return None
    shift = int(share[:, angle].argmax())
    return Plane(normals[angle], float(offsets[angle, shift]), float(best[angle]))


def shown_by_mirror(
    places: Float[Tensor, "n 3"],
    plane: Plane,
    depth: Float[Tensor, "p p"],
    colors: Float[Tensor, "p p 3"],
    mask: Bool[Tensor, "p p"],
    source: Orbit,
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n"]]:
    """Returns the colours that a picture shows at mirrored places, and their confidence in [0, 1].

    Args:
        places: on the surface, world space.
        plane: of symmetry.
        depth: of the visible surface, units of REACH.
        colors: of the picture.
        mask: its covered pixels.
        source: its camera.
    """
    at, deep = _seen(plane.mirrored(places), source)
    spot = at[None, :, None]
    there = torch.where(mask, depth, torch.full_like(depth, 9.0))[None, None]
    seen = F.grid_sample(there, spot, mode="nearest", align_corners=False)[0, 0, :, 0]
    picture = torch.where(mask[..., None], colors, torch.zeros_like(colors)).movedim(-1, 0)[None]
    cover = mask.float()[None, None]
    blend = F.grid_sample(torch.cat([picture, cover], 1), spot, align_corners=False)[0, :, :, 0]
    tint = (blend[:3] / blend[3].clamp_min(1e-6)).T
    off = (deep - seen).abs() * REACH
    return tint, (2 - 2 * off / SLACK).clamp(0, 1) * (blend[3] > 0.5)
