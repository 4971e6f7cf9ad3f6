"""Gaussians that cover the surface of an animated mesh and move with it.

Each stays at one place of one triangle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from ..errors import UserError
from ..gaussians import Gaussians
from ..geometry import SH_C0, rotations_to_quats
from .draw import Lighting
from .model import AnimatedMesh

LOOKS = 8  # poses in which the area of a triangle is measured
# standard deviation in the plane per distance between neighbours: less leaves holes, more swells
# the outline
SPREAD = 0.42
THICKNESS = 0.1  # standard deviation along the normal, as a share of that in the plane
MAX_OPACITY = 0.99
# Roberts' R2 sequence: 1 / p and 1 / p^2, p^3 = p + 1
GOLDEN = (0.7548776662466927, 0.5698402909980532)


@dataclass(frozen=True)
class SurfaceGaussians:
    """Gaussians on the surface of a mesh; the same ones in the same order at every time.

    Attributes:
        mesh: carries them.
        faces: the triangle of each.
        barycentric: where on it, sum 1.
        frames: per sample the triangle's corner vectors (two columns) to a plane of its own, where
            it is largest, inverted.
        sigma: standard deviation in that plane, object units.
        lighting: is baked into the colours, anew at every time.
    """

    mesh: AnimatedMesh
    faces: Int[np.ndarray, "n"]
    barycentric: Float[np.ndarray, "n 3"]
    frames: Float[np.ndarray, "n 2 2"]
    sigma: float
    lighting: Lighting

    def at(self, time: float) -> Gaussians:
        """The Gaussians at ``time``, a fraction of the clip.

        Spherical harmonics of degree 0, float32.
        """
        pose, painter = self.mesh.at(time), self.mesh.painter
        corners = painter.faces[self.faces]
        points = pose.vertices[corners]
        means = np.einsum("nc,nci->ni", self.barycentric, points)
        edges = np.stack([points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]], -1)
        stretch = edges @ self.frames  # takes the plane of the triangle's own to where it is now
        rotations, lengths = _axes(stretch)
        scales = np.maximum(lengths * self.sigma, 1e-3 * self.sigma)
        scales = np.concatenate([scales, np.full((len(scales), 1), THICKNESS * self.sigma)], 1)
        normals = np.einsum("nc,nci->ni", self.barycentric, pose.normals[corners])
        columns = np.einsum("nc,nci->ni", self.barycentric, painter.columns[corners])
        rgba = painter.colors(self.faces, normals, columns, self.lighting)
        opacity = torch.from_numpy(rgba[:, 3]).clamp(1e-4, MAX_OPACITY)
        return Gaussians(
            means=torch.from_numpy(means).float(),
            quats=rotations_to_quats(torch.from_numpy(rotations)).float(),
            log_scales=torch.from_numpy(scales).log().float(),
            logit_opacities=torch.logit(opacity),
            sh=((torch.from_numpy(rgba[:, :3]) - 0.5) / SH_C0)[:, None],
        )


def surface_gaussians(
    mesh: AnimatedMesh, count: int, seed: int = 0, *, lighting: Lighting | None = None
) -> SurfaceGaussians:
    """Spreads Gaussians evenly over the surface, by the largest area of each triangle.

    Args:
        mesh: a mesh; its placement counts.
        count: of samples; those on texels that are cut out are dropped.
        seed: of their places.
        lighting: what lights them, as for :meth:`AnimatedMesh.views`.

    Raises:
        UserError: the surface has no area.
    """
    light = lighting or Lighting()
    painter = mesh.painter
    corners = np.zeros((len(painter.faces), 3, 3))
    areas = np.zeros(len(painter.faces))
    for time in np.arange(LOOKS if mesh.duration else 1) / LOOKS:
        points = mesh.at(float(time)).vertices[painter.faces]
        area = (
            np.linalg.norm(
                np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]), axis=1
            )
            / 2
        )
        corners[area > areas] = points[area > areas]
        areas = np.maximum(areas, area)
    total = float(areas.sum())
    if not total > 1e-12:
        raise UserError("the surface of the model has no area, so no Gaussians can cover it")
    rng = np.random.default_rng(seed)
    steps = (np.arange(count) + rng.random(count)) / count * total
    faces = np.minimum(np.searchsorted(np.cumsum(areas), steps, side="right"), len(areas) - 1)
    faces = np.where(areas[faces] > 0, faces, int(areas.argmax()))
    # neighbours in the list share a face, and are well apart
    order = np.arange(count)[:, None] * GOLDEN + rng.random(2)
    u, v = (order % 1).T
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    barycentric = np.stack([1 - u - v, u, v], 1)
    samples = SurfaceGaussians(
        mesh, faces, barycentric, _planes(corners[faces]), SPREAD * math.sqrt(total / count), light
    )
    shown = np.flatnonzero(samples.at(0.0).logit_opacities.numpy() > math.log(0.02))
    return SurfaceGaussians(
        mesh, faces[shown], barycentric[shown], samples.frames[shown], samples.sigma, light
    )


def _planes(corners: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 2 2"]:
    """Inverts triangles' corner vectors in planes of their own, first axis along the first edge."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    length = np.maximum(np.linalg.norm(first, axis=1), 1e-12)
    along = (first * second).sum(1) / length
    height = np.maximum(np.linalg.norm(np.cross(first, second), axis=1) / length, 1e-12)
    zero = np.zeros_like(length)
    return np.stack(
        [np.stack([1 / length, -along / (length * height)], -1), np.stack([zero, 1 / height], -1)],
        1,
    )


def _axes(
    stretch: Float[np.ndarray, "n 3 2"],
) -> tuple[Float[np.ndarray, "n 3 3"], Float[np.ndarray, "n 2"]]:
    """Returns the axes of a stretched unit circle as a rotation (third: normal), and half axes."""
    gram = stretch.swapaxes(1, 2) @ stretch
    angle = 0.5 * np.arctan2(2 * gram[:, 0, 1], gram[:, 0, 0] - gram[:, 1, 1])
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = stretch @ np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], 1)
    lengths = np.linalg.norm(turned, axis=1)
    first = turned[..., 0] / np.maximum(lengths[:, :1], 1e-12)
    first = np.where(lengths[:, :1] > 1e-12, first, [1.0, 0.0, 0.0])
    second = turned[..., 1] - (turned[..., 1] * first).sum(1, keepdims=True) * first
    spare = np.cross(first, np.where(abs(first[:, :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]))
    size = np.linalg.norm(second, axis=1, keepdims=True)
    second = np.where(
        size > 1e-12,
        second / np.maximum(size, 1e-12),
        spare / np.linalg.norm(spare, axis=1, keepdims=True),
    )
    return np.stack([first, second, np.cross(first, second)], -1), lengths
