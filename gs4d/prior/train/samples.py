"""Training samples of lift: two frames of a random scene, its true surface, what lies behind.

The number of a sample fixes it, so that samples can be made by any process at any time, kept in a
folder, and made again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import zstandard
from jaxtyping import Bool, Float
from numpy.random import Generator
from safetensors.torch import load, save
from torch import Tensor

from ...camera import DEFAULT_FOVY_DEG, DEFAULT_RADIUS
from ...clip import Orbit, cameras_of
from ...io.steps import keep_file
from ..inflate import half_thickness
from ..lift_net import FINE, camera_numbers
from ..solid import REACH
from ..surface_net import SPAN
from .scenes import Models, Scene, random_scenes

FORMAT = 1  # another number makes other samples
SIDE, LAYERS = 64, 32  # cells, and layers behind the visible surface
PIXELS = FINE * SIDE
SUBPIXELS = 2  # rays along each side of a pixel
FRAMES = 2
RAYS = 1200  # from around, per frame
CARVE_PIXELS = 96
CARVE_SLACK = 0.008  # world units that a place may lie before a surface and still count as inside
CARVE_ORBITS = tuple(
    [Orbit(360 / 14 * k, 25.0) for k in range(14)]
    + [Orbit(45.0 * k + 22.5, -25.0) for k in range(8)]
    + [Orbit(90.0 * k + 45.0, 72.0) for k in range(4)]
    + [Orbit(120.0 * k, -70.0) for k in range(3)]
)
SHARED_FILE = (
    4  # neighbouring samples that share a model's file: reading one takes longer than all else
)


@dataclass(frozen=True)
class Sample:
    """Frames of one object and what is true of them; t frames, p pixels, s cells, d layers, r rays.

    Attributes:
        frames: premultiplied RGBA.
        depth: camera z of the visible surface minus that of the origin, in units of REACH; 0 where
            nothing is.
        normals: of the visible surface in camera axes, times 127.
        thickness: half of the inflated silhouette's, in units of REACH.
        behind: occupancy in layers behind the visible surface, bits packed along the last axis.
        rays: ends of rays from around within the sphere of radius REACH, camera axes about the
            origin, world units.
        met: share of the way at which each ray meets the object, -1 where it does not.
        colors: of what the rays meet.
        camera: numbers of the source camera that the network is told.
        lens: focal length of a picture that reaches from -1 to 1, and the distance of the origin.
    """

    frames: Tensor  # uint8 (t, p, p, 4)
    depth: Tensor  # float16 (t, p, p)
    normals: Tensor  # int8 (t, p, p, 3)
    thickness: Tensor  # float16 (t, s, s)
    behind: Tensor  # uint8 (t, d, s, s / 8)
    rays: Tensor  # float16 (t, r, 2, 3)
    met: Tensor  # float16 (t, r)
    colors: Tensor  # uint8 (t, r, 3)
    camera: Tensor  # float32 (3,)
    lens: Tensor  # float32 (2,)


def make_sample(number: int, models: Models | None) -> Sample:
    """The sample of a number, 0 or more; without models, all objects are procedural."""
    rng = np.random.default_rng([FORMAT, 0, number])
    choice = np.random.default_rng([FORMAT, 1, number // SHARED_FILE])
    gap = rng.uniform(0.05, 0.4)
    start = rng.uniform(0, 1 - gap)
    scenes = random_scenes(rng, models, [start, start + gap], choice)
    source = _source(rng)
    rows = [_look(scene, source, rng) for scene in scenes]
    columns = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    lens = [1 / math.tan(math.radians(source.fov / 2)), source.radius]
    return Sample(**columns, camera=torch.tensor(camera_numbers(source)), lens=torch.tensor(lens))


def _source(rng: Generator) -> Orbit:
    elevation = float(rng.normal(0, 6) if rng.random() < 0.5 else rng.uniform(-20, 40))
    if rng.random() < 0.7:
        return Orbit(0.0, elevation)
    fov = rng.uniform(25, 60)
    half = (
        rng.uniform(0.62, 0.72)
        if rng.random() < 0.7
        else DEFAULT_RADIUS * math.tan(math.radians(DEFAULT_FOVY_DEG / 2))
    )
    return Orbit(0.0, elevation, float(half / math.tan(math.radians(fov / 2))), float(fov))


@lru_cache(maxsize=2 * len(CARVE_ORBITS))
def pixel_rays(orbit: Orbit, side: int) -> Float[np.ndarray, "n 6"]:
    """Origins and directions of the rays through pixel centres, directions of camera z 1."""
    camera = cameras_of([orbit], width=side, height=side)
    T, focal = camera.T_camera_world[0].double().numpy(), float(camera.K[0, 0, 0])
    line = (np.arange(side) + 0.5 - side / 2) / focal
    y, x = np.meshgrid(line, line, indexing="ij")
    directions = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3) @ T[:3, :3]
    origins = np.broadcast_to(-T[:3, :3].T @ T[:3, 3], directions.shape)
    return np.concatenate([origins, directions], 1).astype(np.float32)


def _look(scene: Scene, source: Orbit, rng: Generator) -> dict[str, Tensor]:
    T = cameras_of([source], width=1, height=1).T_camera_world[0].double().numpy()
    hits = scene.cast(pixel_rays(source, PIXELS * SUBPIXELS))
    colors = np.zeros((len(hits.hit), 4))
    colors[hits.hit, :3], colors[hits.hit, 3] = scene.shaded(hits, rng, detailed=True), 1
    normals = np.zeros((len(hits.hit), 3))
    normals[hits.hit] = hits.normals @ T[:3, :3].T

    def blocks(values: np.ndarray) -> np.ndarray:
        """Groups the rays of each pixel: (p, p, SUBPIXELS^2, ...)."""
        grid = values.reshape(PIXELS, SUBPIXELS, PIXELS, SUBPIXELS, *values.shape[1:])
        return grid.swapaxes(1, 2).reshape(PIXELS, PIXELS, SUBPIXELS**2, *values.shape[1:])

    distance = blocks(hits.distance)
    nearest = distance.argmin(2)[..., None]
    depth = np.take_along_axis(distance, nearest, 2)[..., 0] - source.radius
    normal = np.take_along_axis(blocks(normals), nearest[..., None], 2)[:, :, 0]
    picture = blocks(colors).mean(2)
    there = (picture[..., 3] > 0.5) & np.isfinite(depth)
    depth = np.where(there, depth, 0.0) / REACH
    cover = there.reshape(SIDE, FINE, SIDE, FINE).swapaxes(1, 2).reshape(SIDE, SIDE, -1)
    mean = (depth.reshape(SIDE, FINE, SIDE, FINE).swapaxes(1, 2).reshape(cover.shape) * cover).sum(
        -1
    ) / cover.sum(-1).clip(1)
    alpha = picture[..., 3].reshape(SIDE, FINE, SIDE, FINE).mean((1, 3))
    pixel = 2 * source.radius * math.tan(math.radians(source.fov / 2)) / SIDE / REACH
    behind = _occupied(scene, source, mean * REACH, cover.any(-1))
    rays, met, tints = _rays_around(scene, T, source.radius, rng)
    return {
        "frames": torch.from_numpy((picture * 255).round().astype(np.uint8)),
        "depth": torch.from_numpy(depth.astype(np.float16)),
        "normals": torch.from_numpy((normal * 127).round().astype(np.int8)),
        "thickness": torch.from_numpy((half_thickness(alpha > 0.5) * pixel).astype(np.float16)),
        "behind": torch.from_numpy(np.packbits(behind, axis=-1)),
        "rays": torch.from_numpy(rays.astype(np.float16)),
        "met": torch.from_numpy(met.astype(np.float16)),
        "colors": torch.from_numpy((tints * 255).round().astype(np.uint8)),
    }


def _occupied(
    scene: Scene, source: Orbit, depth: Float[np.ndarray, "s s"], cover: Bool[np.ndarray, "s s"]
) -> Bool[np.ndarray, "d s s"]:
    """Which layers behind the visible surface are inside: no camera around sees through them."""
    rays = pixel_rays(source, SIDE).reshape(SIDE, SIDE, 6)[cover]
    z = source.radius + depth[cover][:, None] + (np.arange(LAYERS) + 0.5) * (SPAN / LAYERS)
    places = rays[:, None, :3] + z[..., None] * rays[:, None, 3:]
    inside = carved(scene, places.reshape(-1, 3)).reshape(z.shape)
    out = np.zeros((LAYERS, SIDE, SIDE), bool)
    out[:, cover] = inside.T
    return out


def carved(scene: Scene, places: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
    """Which places lie behind a surface as seen from all of CARVE_ORBITS."""
    inside = np.linalg.norm(places, axis=1) < REACH
    for orbit in CARVE_ORBITS:
        left = np.flatnonzero(inside)
        if not len(left):
            break
        camera = cameras_of([orbit], width=CARVE_PIXELS, height=CARVE_PIXELS)
        T, focal = camera.T_camera_world[0].double().numpy(), float(camera.K[0, 0, 0])
        seen = scene.distances(pixel_rays(orbit, CARVE_PIXELS)).reshape(CARVE_PIXELS, CARVE_PIXELS)
        at = places[left] @ T[:3, :3].T + T[:3, 3]
        pixel = (
            (at[:, :2] / at[:, 2:] * focal + CARVE_PIXELS / 2).astype(int).clip(0, CARVE_PIXELS - 1)
        )
        inside[left] = at[:, 2] > seen[pixel[:, 1], pixel[:, 0]] - CARVE_SLACK
    return inside


def _rays_around(
    scene: Scene, T: Float[np.ndarray, "4 4"], radius: float, rng: Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Casts rays from cameras anywhere around through the sphere that holds the object.

    Returns their ends, where they meet the object, and its colour there.
    """
    azimuth = rng.uniform(-math.pi, math.pi, RAYS)
    kind = rng.random(RAYS)
    elevation = np.where(
        kind < 0.5, rng.normal(30, 4, RAYS), np.where(kind < 0.8, rng.normal(0, 8, RAYS), 0)
    )
    elevation = np.radians(np.where(kind >= 0.8, rng.uniform(-30, 75, RAYS), elevation))
    outward = np.stack(
        [
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
            np.cos(elevation) * np.cos(azimuth),
        ],
        1,
    )
    target = rng.normal(size=(RAYS, 3))
    target *= (REACH * rng.random(RAYS) ** (1 / 3) / np.linalg.norm(target, axis=1))[:, None]
    origin = DEFAULT_RADIUS * outward
    direction = target - origin
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    middle = -(origin * direction).sum(1)
    half = np.sqrt((REACH**2 - (origin**2).sum(1) + middle**2).clip(0))
    ends = np.stack(
        [
            origin + (middle - half)[:, None] * direction,
            origin + (middle + half)[:, None] * direction,
        ],
        1,
    )
    hits = scene.cast(np.concatenate([origin, direction], 1))
    met = np.full(RAYS, -1.0)
    met[hits.hit] = (
        (hits.distance[hits.hit] - (middle - half)[hits.hit]) / (2 * half[hits.hit]).clip(1e-6)
    ).clip(0, 1)
    colors = np.zeros((RAYS, 3))
    colors[hits.hit] = scene.shaded(hits, rng, detailed=True)
    # the origin of the world lies at (0, 0, radius) of the camera: axes are enough
    return (ends @ T[:3, :3].T, met, colors)


@dataclass(frozen=True)
class SampleStore:
    """Samples by number: read from a folder where they were kept, else made and kept there.

    Attributes:
        folder: where they are kept; shared by processes.
        models: as of ``make_sample``.
    """

    folder: Path
    models: Models | None = None

    def path(self, number: int) -> Path:
        """Where the sample of a number is kept."""
        return self.folder / f"{number // 1000:06d}" / f"{number:09d}.zst"

    def prepare(self, number: int) -> None:
        """Makes a sample, unless it is kept already."""
        self._packed(number)

    def sample(self, number: int) -> Sample:
        """The sample of a number."""
        return Sample(**load(zstandard.decompress(self._packed(number))))

    def _packed(self, number: int) -> bytes:
        def made() -> bytes:
            return zstandard.compress(save(vars(make_sample(number, self.models))), 3)

        return keep_file(self.path(number), made)
