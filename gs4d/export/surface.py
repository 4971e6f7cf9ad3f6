"""The surface of a set of Gaussians as triangles.

Where their summed opacity falls below a level. open3d is imported only here.

Poisson reconstruction from fused depth pictures was tried beside it: it tears thin leaves, whose
two sides are close together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import binary_closing, binary_erosion, binary_fill_holes
from scipy.spatial import KDTree
from torch import Tensor

from ..clip import Orbit, cameras_of
from ..errors import UserError
from ..gaussians import Gaussians
from ..geometry import covariances
from ..render import render

try:
    open3d: Any = import_module("open3d")
except ImportError as error:
    raise UserError(
        f"the mesh needs open3d ({error}); install it with: pip install 'gs4d[mesh]'"
    ) from error

# voxels along the longest side, least and most; between them 160 for 20000 triangles
RESOLUTION = (64, 320)
# of the summed opacity, at which the silhouettes of the rose's mesh and splat overlap best (IoU
# 0.97)
LEVEL = 0.4
VISIBLE = 0.05  # opacity of the least that counts
CUT = 2.5  # standard deviations after which a Gaussian ends
LARGEST = 20  # voxels from the centre after which it ends too: larger ones are haze
SEAL = 2  # voxels: gaps as wide as twice that lead to no inner surface
POINTS_PER_CALL = 1 << 20
PART = 0.01  # of the triangles: smaller loose parts are floaters
COLOR_VIEWS, COLOR_SIZE = 32, 384


@dataclass(frozen=True)
class Surface:
    """Triangles, counterclockwise seen from outside, with a colour per vertex in [0, 1] (sRGB)."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    colors: Float[Tensor, "v 3"]


def surface_of(g: Gaussians, faces: int) -> Surface:
    """The outer surface with at most ``faces`` triangles, coloured by what renders show of it.

    Raises:
        UserError: the Gaussians are nowhere dense enough to have a surface.
    """
    g = g.select(g.logit_opacities.sigmoid() > VISIBLE)
    if not g.count:
        raise UserError(
            "no Gaussian is opaque enough for a mesh; train longer, or export another format"
        )
    tails = torch.tensor([0.002, 0.998])
    low, high = (
        g.means.quantile(tails, dim=0) if g.count < 1 << 24 else (g.means.amin(0), g.means.amax(0))
    )
    margin = 0.1 * float((high - low).max()) + 1e-6
    low, high = low - margin, high + margin
    resolution = min(max(round(math.sqrt(1.28 * faces)), RESOLUTION[0]), RESOLUTION[1])
    voxel = float((high - low).max()) / resolution
    density = _density(g, low, voxel, ((high - low) / voxel).ceil().int().tolist())
    mesh = _isosurface(density.numpy(), low.double().numpy(), voxel)
    if not len(mesh.triangles):
        raise UserError(
            "the Gaussians are nowhere dense enough for a mesh; train longer, or export another "
            "format"
        )
    mesh = mesh.filter_smooth_taubin(5).simplify_quadric_decimation(faces)
    mesh.remove_degenerate_triangles()
    mesh.remove_unreferenced_vertices()
    vertices = torch.from_numpy(np.asarray(mesh.vertices)).float()
    triangles = torch.from_numpy(np.asarray(mesh.triangles)).long()
    return Surface(vertices, triangles, _colors(g, vertices, triangles))


def vertex_normals(
    vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"]
) -> Float[Tensor, "*b v 3"]:
    """Unit normals: means of the triangles' around each vertex, weighted by area."""
    a, b, c = (vertices.index_select(-2, faces[:, i]) for i in range(3))
    normals = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for i in range(3):
        total.index_add_(-2, faces[:, i], normals)
    flat = total.norm(dim=-1, keepdim=True) < 1e-20
    return torch.nn.functional.normalize(
        torch.where(flat, total.new_tensor([0.0, 1.0, 0.0]), total), dim=-1, eps=1e-30
    )


def _density(g: Gaussians, low: Tensor, voxel: float, shape: list[int]) -> Float[Tensor, "x y z"]:
    """Sum of the opacities of the Gaussians at grid points.

    None is taken to be thinner than the grid can hold.
    """
    log_scales = g.log_scales.clamp_min(math.log(0.6 * voxel))
    inverse = torch.linalg.inv(covariances(g.quats, log_scales))
    opacities = g.logit_opacities.sigmoid()
    reach = (CUT * log_scales.exp().amax(1) / voxel).ceil().clamp(1, LARGEST).long()
    grid, size = torch.zeros(math.prod(shape)), torch.tensor(shape)
    for radius in reach.unique().tolist():
        around = torch.cartesian_prod(*[torch.arange(-radius, radius + 1)] * 3)
        for some in (
            (reach == radius).nonzero().squeeze(1).split(max(1, POINTS_PER_CALL // len(around)))
        ):
            points = ((g.means[some] - low) / voxel).round().long()[:, None] + around
            away = points * voxel + low - g.means[some, None]
            power = ((away @ inverse[some]) * away).sum(-1)
            value = opacities[some, None] * torch.exp(-power / 2)
            here = ((points >= 0) & (points < size)).all(-1) & (power < CUT * CUT)
            place = (points[..., 0] * size[1] + points[..., 1]) * size[2] + points[..., 2]
            grid.index_add_(0, place[here], value[here])
    return grid.view(shape)


def _isosurface(density: np.ndarray, low: np.ndarray, voxel: float) -> Any:
    """The outer surface, without what is inside and without floaters."""
    closed = binary_closing(density > LEVEL, iterations=SEAL)
    inside = binary_erosion(binary_fill_holes(closed), iterations=SEAL + 1)
    sealed = np.ascontiguousarray(np.where(inside, 2 * LEVEL, density), np.float32)
    field = open3d.core.Tensor(sealed)
    mesh = open3d.t.geometry.TriangleMesh.create_isosurfaces(field, [LEVEL]).to_legacy()
    # open3d counts the axes from the last; swapping them turns the triangles inside out.
    mesh.vertices = open3d.utility.Vector3dVector(np.asarray(mesh.vertices)[:, ::-1] * voxel + low)
    mesh.triangles = open3d.utility.Vector3iVector(np.asarray(mesh.triangles)[:, ::-1])
    if len(mesh.triangles):
        part, sizes, _ = mesh.cluster_connected_triangles()
        small = np.asarray(sizes) < PART * len(mesh.triangles)
        mesh.remove_triangles_by_mask(small[np.asarray(part)])
        mesh.remove_unreferenced_vertices()
    return mesh


def _colors(
    g: Gaussians, vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]
) -> Float[Tensor, "v 3"]:
    """What cameras all around see at each vertex, the more the straighter they look at it.

    At hidden ones, the nearest's.
    """
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(vertices.numpy(), faces.numpy().astype(np.uint32))
    normals = vertex_normals(vertices, faces)
    size = float((vertices.amax(0) - vertices.amin(0)).norm())
    center = (vertices.amax(0) + vertices.amin(0)) / 2
    moved = g.replace(means=g.means - center)
    total, weight = torch.zeros_like(vertices), torch.zeros(len(vertices), 1)
    for k in range(COLOR_VIEWS):
        height = 1 - 2 * (k + 0.5) / COLOR_VIEWS  # even on the sphere: a Fibonacci lattice
        orbit = Orbit(k * 137.508 % 360, math.degrees(math.asin(height)), 1.3 * size)
        camera = cameras_of([orbit], width=COLOR_SIZE, height=COLOR_SIZE)
        drawn = render(moved, camera, background=(0.0, 0.0, 0.0))
        eye = camera.centers[0] + center
        view = torch.nn.functional.normalize(eye - vertices, dim=1)
        start = vertices + 0.004 * size * normals
        rays = torch.cat([start, eye - start], 1).numpy()
        seen = torch.from_numpy(~scene.test_occlusions(open3d.core.Tensor(rays), 0.0, 1.0).numpy())
        straight = (normals * view).sum(1).clamp_min(0).square()
        at = (vertices - center) @ camera.T_camera_world[0, :3, :3].T + camera.T_camera_world[
            0, :3, 3
        ]
        pixels = (at @ camera.K[0].T)[:, :2] / at[:, 2:]
        picture = torch.cat([drawn.rgb[0], drawn.alpha[0][..., None]], -1).permute(2, 0, 1)[None]
        where = (2 * pixels / COLOR_SIZE - 1)[None, None]
        sample = torch.nn.functional.grid_sample(picture, where, align_corners=False)[0, :, 0].T
        share = (straight * seen * (sample[:, 3] > 0.5))[:, None]
        total += share * sample[:, :3] / sample[:, 3:].clamp_min(1e-6)
        weight += share
    colors = (total / weight.clamp_min(1e-6)).clamp(0, 1)
    known = weight[:, 0] > 1e-3
    if known.any() and not known.all():
        _, nearest = KDTree(vertices[known].numpy()).query(vertices[~known].numpy())
        colors[~known] = colors[known][torch.from_numpy(nearest)]
    return colors
