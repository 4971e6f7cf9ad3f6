"""What the networks learn from.

Animated objects, procedural or of glTF files, seen from a source camera and from around.

A sample is a few frames of one object. Its number fixes it to the bit, so that samples can be made
by any process at any time, kept in a folder, and made again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import zstandard
from jaxtyping import Bool, Float, UInt8
from numpy.random import Generator
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from ...camera import DEFAULT_FOVY_DEG, DEFAULT_RADIUS
from ...clip import Orbit, cameras_of, straighten
from ...gaussians import Gaussians
from ...io.steps import keep_file
from ...mesh import Lighting, load_animated_mesh, surface_gaussians
from ...render import Render, render
from ...synth import make_object
from ...synth.objects import ObjectOptions
from ..lift_net import FINE
from ..solid import cell_centers

FORMAT = 4  # another number makes other samples
SIDE, LAYERS = 64, 32  # of the solids
FRAMES = 4
SHOTS = FINE * SIDE  # pixels of the frames, and of the pictures that solids are carved from
VIEWS = 16  # of the pictures around that are kept: SyncDreamer's azimuths at elevation 30
AROUND = tuple(
    [Orbit(22.5 * k, 30.0) for k in range(VIEWS)]
    + [Orbit(45.0 * k + 22.5, -25.0) for k in range(8)]
    + [Orbit(90.0 * k + 45.0, elevation) for elevation in (75.0, -70.0) for k in range(4)]
)
# world units that a cell may lie before a surface and still count as inside: the splats have a
# thickness
SLACK = 0.012
NEAR = 0.03  # world units around a seen surface whose cells get its colour
MESH_SHARE = 0.25  # of the samples, where there are meshes
# of the procedural objects that are figures in any case: most clips that people bring show one
FIGURE_SHARE = 0.35
MESH_POINTS = 9000

# reading a file takes longer than all else of a sample
_loaded = lru_cache(maxsize=64)(load_animated_mesh)


@dataclass(frozen=True)
class SolidSample:
    """A clip of one object, and what is true of it.

    Attributes:
        frames: the source view, straight alpha, FINE times as fine as all else.
        source: its camera.
        occupancy: whether each cell behind the source view is inside the object: what no camera
            around could see is.
        colors: of cells near a visible surface, on a grid of half as many cells along every axis.
        seen: where those are known.
        views: the object from SyncDreamer's azimuths around the source's, at elevation 30.
    """

    frames: UInt8[Tensor, "t s s 4"]
    source: Orbit
    occupancy: Bool[Tensor, "t d h w"]
    colors: UInt8[Tensor, "t d2 h2 w2 3"]
    seen: Bool[Tensor, "t d2 h2 w2"]
    views: UInt8[Tensor, "v t h w 4"]


def view_orbits(source: Orbit) -> list[Orbit]:
    """Where the views of a sample stand."""
    return [
        replace(orbit, azimuth=(orbit.azimuth + source.azimuth) % 360) for orbit in AROUND[:VIEWS]
    ]


def make_solid_sample(number: int, meshes: tuple[Path, ...] = ()) -> SolidSample:
    """The sample of a number.

    Args:
        number: 0 or more.
        meshes: animated .glb and .gltf files; without any, all objects are procedural.
    """
    rng = np.random.default_rng([FORMAT, number])
    subject = _mesh(rng, meshes) if meshes and rng.random() < MESH_SHARE else _object(rng)
    stride = rng.integers(1, 6) / 15
    times = (
        rng.uniform(0, 1 - 3 * stride) + stride * np.arange(FRAMES)
        if rng.random() < 0.9
        else np.full(FRAMES, rng.random())
    )
    size = rng.uniform(0.9, 1.0) if rng.random() < 0.7 else rng.uniform(0.7, 0.9)
    source = _source(rng)
    shift = _shift(rng, source, 0.6 * (1 - size))
    parts = []
    for time in times:
        gaussians = subject(float(time))
        gaussians = gaussians.replace(
            means=gaussians.means * size + shift, log_scales=gaussians.log_scales + math.log(size)
        )
        parts.append(_look(gaussians, source))
    frames, occupancy, colors, seen, views = (
        torch.stack(column) for column in zip(*parts, strict=True)
    )
    return SolidSample(frames, source, occupancy, colors, seen, views.movedim(0, 1))


def _object(rng: Generator) -> Callable[[float], Gaussians]:
    family = "biped" if rng.random() < FIGURE_SHARE else None
    options = ObjectOptions(
        spacing=0.015, max_gaussians=9000, family=family, upright=bool(rng.random() < 0.7)
    )
    return make_object(int(rng.integers(2**40)), options).at


def _mesh(rng: Generator, meshes: tuple[Path, ...]) -> Callable[[float], Gaussians]:
    """Returns a model in one of its clips, stretched, turned, in other colours and light."""
    path = meshes[rng.integers(len(meshes))]
    clips = _loaded(path).clips
    mesh = _loaded(path, str(clips[rng.integers(len(clips))]) if clips else None)
    turn = rng.normal(0, 0.3) if rng.random() < 0.6 else rng.uniform(-math.pi, math.pi)
    c, s = math.cos(turn), math.sin(turn)
    stretch = rng.uniform(0.8, 1.25, 3)
    placement = np.eye(4)
    placement[:3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.diag(stretch)
    mesh = replace(mesh, placement=placement @ mesh.placement)
    reach = max(float(np.linalg.norm(mesh.at(k / 8).vertices, axis=1).max()) for k in range(9))
    mesh = replace(mesh, placement=np.diag([0.59 / reach] * 3 + [1.0]) @ mesh.placement)
    x, y, z = (rng.normal(size=3) + np.array([0, 1.5, 1.0])).tolist()
    light = Lighting(direction=(x, y, z))
    film = surface_gaussians(mesh, MESH_POINTS, int(rng.integers(2**31)), lighting=light)
    hues = torch.from_numpy(
        rng.dirichlet([0.6] * 3, 3) if rng.random() < 0.5 else np.eye(3)[rng.permutation(3)]
    ).float()
    return lambda time: (moved := film.at(time)).replace(sh=moved.sh @ hues)


def _shift(rng: Generator, source: Orbit, most: float) -> Float[Tensor, "3"]:
    """Returns a shift of an object across the picture, none in depth."""
    right, down, _ = cameras_of([source], width=1, height=1).T_camera_world[0, :3, :3]
    turn, length = rng.uniform(-math.pi, math.pi), most * rng.random()
    return length * (math.cos(turn) * right + math.sin(turn) * down)


def _source(rng: Generator) -> Orbit:
    elevation = rng.normal(0, 5) if rng.random() < 0.8 else rng.uniform(-10, 35)
    if rng.random() < 0.7:
        return Orbit(0.0, float(elevation))
    fov = rng.uniform(25, 60)
    half = (
        rng.uniform(0.62, 0.72)
        if rng.random() < 0.7
        else DEFAULT_RADIUS * math.tan(math.radians(DEFAULT_FOVY_DEG / 2))
    )
    return Orbit(0.0, float(elevation), float(half / math.tan(math.radians(fov / 2))), float(fov))


def _look(gaussians: Gaussians, source: Orbit) -> tuple[Tensor, ...]:
    """Frame, occupancy, colours, where these are known, and views of one pose."""
    with torch.no_grad():
        cameras = cameras_of(
            [source, *(replace(o, azimuth=o.azimuth + source.azimuth) for o in AROUND)],
            width=SHOTS,
            height=SHOTS,
        )
        shots = render(gaussians, cameras, background=(0.0, 0.0, 0.0))
    pictures = torch.cat([shots.rgb, shots.alpha[..., None]], -1)
    small = halved(pictures[: 1 + VIEWS])
    columns = small[0, ..., 3] > 0
    inside, colors, weights = _carve(
        shots, cameras.T_camera_world, cameras.K, cell_centers(source, SIDE, LAYERS)[:, columns]
    )
    occupancy = torch.zeros(LAYERS, SIDE, SIDE, dtype=torch.bool)
    occupancy[:, columns] = inside
    full = torch.zeros(4, LAYERS, SIDE, SIDE)
    full[:3, :, columns], full[3][:, columns] = (
        (colors * weights[..., None]).movedim(-1, 0),
        weights,
    )
    pooled = F.avg_pool3d(full[None], 2)[0]
    seen = pooled[3] > 0
    known = (pooled[:3] / pooled[3].clamp_min(1e-6)).movedim(0, -1)
    return (
        straighten(pictures[0]),
        occupancy,
        (known * 255).round().to(torch.uint8),
        seen,
        small[1:],
    )


def halved(pictures: Float[Tensor, "*b s s 4"]) -> UInt8[Tensor, "*b h w 4"]:
    """Premultiplied pictures at half their size, with straight alpha."""
    return straighten(pictures.unflatten(-2, (-1, 2)).mean(-2).unflatten(-3, (-1, 2)).mean(-3))


def _carve(
    shots: Render, T: Tensor, K: Tensor, cells: Float[Tensor, "d n 3"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns whether cells lie behind a surface in every picture.

    Also the colours of those on a visible surface, and how often each is seen.
    """
    flat = cells.reshape(-1, 3)
    outside = torch.zeros(len(flat), dtype=torch.bool)
    colors, counts = torch.zeros(len(flat), 3), torch.zeros(len(flat))
    for i in range(len(T)):
        at = flat @ T[i, :3, :3].T + T[i, :3, 3]
        z = at[:, 2]
        x, y = (
            (at[:, axis] / z * K[i, axis, axis] + K[i, axis, 2]).long().clamp_(0, SHOTS - 1)
            for axis in (0, 1)
        )
        pixel = y * SHOTS + x
        alpha, depth = shots.alpha[i].flatten()[pixel], shots.depth[i].flatten()[pixel]
        outside |= (alpha < 0.5) | (z < depth - SLACK)
        lit = torch.nonzero((alpha > 0.8) & ((z - depth).abs() < NEAR))[:, 0]
        colors.index_add_(0, lit, shots.rgb[i].reshape(-1, 3)[pixel[lit]] / alpha[lit, None])
        counts.index_add_(0, lit, torch.ones(len(lit)))
    colors = (colors / counts.clamp_min(1)[:, None]).clamp(0, 1)
    shape = cells.shape[:2]
    return ~outside.view(shape), colors.view(*shape, 3), counts.view(shape)


@dataclass(frozen=True)
class SolidSampleStore:
    """Lessons by number: read from a folder where they were kept, else made and kept there.

    Attributes:
        folder: where they are kept.
        meshes: as of ``make_solid_sample``.
    """

    folder: Path
    meshes: tuple[Path, ...] = ()

    def path(self, number: int) -> Path:
        """Where the sample of a number is kept."""
        return self.folder / f"{number:07d}.lesson.zst"

    def prepare(self, number: int) -> None:
        """Makes a sample, unless it is kept already."""
        self._packed(number)

    def sample(self, number: int) -> SolidSample:
        """The sample of a number."""
        return _unpack(zstandard.decompress(self._packed(number)))

    def _packed(self, number: int) -> bytes:
        def made() -> bytes:
            return zstandard.compress(_pack(make_solid_sample(number, self.meshes)), 3)

        return keep_file(self.path(number), made)


def _pack(sample: SolidSample) -> bytes:
    orbit = sample.source
    return save(
        {
            "frames": sample.frames,
            "source": torch.tensor(
                [orbit.azimuth, orbit.elevation, orbit.radius, orbit.fov], dtype=torch.float64
            ),
            "occupancy": torch.from_numpy(np.packbits(sample.occupancy.numpy(), axis=-1)),
            "colors": sample.colors * sample.seen[..., None],
            "seen": torch.from_numpy(np.packbits(sample.seen.numpy(), axis=-1)),
            "views": sample.views.contiguous(),
        }
    )


def _unpack(data: bytes) -> SolidSample:
    found = load(data)
    bits = {
        name: torch.from_numpy(np.unpackbits(found[name].numpy(), axis=-1)).bool()
        for name in ("occupancy", "seen")
    }
    return SolidSample(
        found["frames"],
        Orbit(*found["source"].tolist()),
        bits["occupancy"],
        found["colors"],
        bits["seen"],
        found["views"],
    )
