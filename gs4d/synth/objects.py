"""Procedural animated objects without end, as Gaussians over time.

Animals, characters, plants, machines, toys, soft things.

A seed decides everything: the same seed gives the same object, bit for bit, in any process of any
number of threads. The object is made of continuous surfaces; how many Gaussians cover it is an
option and changes neither shape nor motion nor texture.

In the spirit of Zeroverse (Xie et al., LRM-Zero: Training Large Reconstruction Models with
Synthesized Data, 2024), which composes textured primitives at random and cuts and bends them; here
they also stand on skeletons and move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from scipy.ndimage import map_coordinates, uniform_filter

from ..camera import Camera
from ..clip import Orbit, cameras_of
from ..gaussians import Gaussians
from ..geometry import SH_C0, rotations_to_quats
from ..render import render
from .animals import quadruped, winged
from .build import Part, Plan, X, Y, Z, turned
from .characters import biped
from .crawlers import crawler
from .machines import machine
from .paint import Light, Patch, random_light
from .plants import plant
from .rig import Bone, Deform, pose
from .surface import norm
from .toys import soft, toy

FAMILIES: dict[str, tuple[float, Callable[[Plan], None]]] = {  # share, and what fills a plan
    "quadruped": (0.2, quadruped),
    "biped": (0.24, biped),
    "winged": (0.1, winged),
    "crawler": (0.1, crawler),
    "plant": (0.08, plant),
    "machine": (0.1, machine),
    "toy": (0.12, toy),
    "soft": (0.06, soft),
}
RADIUS = 0.6  # of the sphere that holds an object at all times
MARGIN = 0.985  # of it that is used: the object is measured at some times and points only
CHECK_TIMES = 33  # at which an object is measured
OVERLAP = 0.6  # standard deviation per distance to the neighbour
# standard deviation along the normal over the one in the plane: thin, yet not lost edge-on
THICKNESS = 0.12
OPACITY = 0.995
FORMAT = 1  # part of every seed: another number gives other objects


@dataclass(frozen=True)
class ObjectOptions:
    """Options of objects."""

    spacing: float = 0.02
    """Distance between neighbouring Gaussians in world units: 0.02 is a pixel of a 64-pixel
    picture."""
    max_gaussians: int = 5000
    """Objects with more surface than this covers are covered more thinly."""
    family: str | None = None
    """One of FAMILIES; None: any, by their shares."""
    light: Literal["baked", "unlit"] = "baked"
    """baked: colours under a soft random light that stands still while the object moves; unlit:
    albedo."""
    motion: float = 1.0
    """Factor on the amount of motion, 0.1 to 3."""
    upright: bool = False
    """Whether every object faces +z; otherwise half of them are turned about y by any angle, the
    rest by a little."""


def options_for(size: int, **changes: Any) -> ObjectOptions:
    """Options whose density of Gaussians suits pictures of ``size`` pixels.

    One per pixel up to 128, then thinner.
    """
    finer = max(1.0, min(size, 128) / 64 * (max(size, 128) / 128) ** 0.5)
    return ObjectOptions(spacing=0.02 / finer, max_gaussians=round(5000 * finer**2), **changes)


@dataclass(frozen=True)
class AnimatedObject:
    """An object that can be asked for at any time in [0, 1].

    Always the same Gaussians in the same order.

    Attributes:
        family: which kind it is.
        seed: what it was made from.
        motion: mean distance that its points travel between neighbouring times of 16, world units.
    """

    family: str
    seed: int
    motion: float
    _points: Float[ndarray, "n 3"]
    _edges: Float[ndarray, "2 n 3"]
    _skin: _Skin
    _rig: _Rig
    _albedo: Float[ndarray, "n 3"]
    _openness: Float[ndarray, "n"]
    _light: Light | None

    @property
    def count(self) -> int:
        """Number of Gaussians."""
        return len(self._points)

    @property
    def albedo(self) -> Float[ndarray, "n 3"]:
        """Colours before light, sRGB in [0, 1]."""
        return self._albedo

    def cells(
        self, t: float
    ) -> tuple[Float[ndarray, "n 3"], Float[ndarray, "n 3"], Float[ndarray, "n 3"]]:
        """Returns the surface's cells at ``t``: centres and two edges, world units, float32."""
        places, first, second = self._rig.move(self._points, self._edges, self._skin, np.array([t]))
        return places[0], first[0], second[0]

    def at(self, t: float) -> Gaussians:
        """The object at time ``t`` in [0, 1].

        Float32, spherical harmonics of degree 0, inside a sphere of radius 0.6.
        """
        return self.at_times([t]).at_view(0)

    def at_times(self, times: Sequence[float] | Float[ndarray, "t"]) -> Gaussians:
        """The object at several times, which become the view axis of the Gaussians.

        Raises:
            ValueError: a time is outside [0, 1].
        """
        t = np.asarray(times, float)
        if not ((t >= 0) & (t <= 1)).all():
            raise ValueError(f"an object moves from t = 0 to t = 1, not at t = {times}")
        points, first, second = self._rig.move(self._points, self._edges, self._skin, t)
        rotations, scales, normals = _frames(first, second)
        colours = np.broadcast_to(self._albedo, points.shape)
        if self._light is not None:
            colours = (self._albedo * self._light(normals, self._openness)).clip(0, 1)
        lead = (len(t), self.count)
        return Gaussians(
            means=torch.from_numpy(points),
            quats=rotations_to_quats(torch.from_numpy(rotations)),
            log_scales=torch.from_numpy(np.log(scales)),
            logit_opacities=torch.full((self.count,), float(np.log(OPACITY / (1 - OPACITY)))),
            sh=torch.from_numpy(
                ((colours - np.float32(0.5)) / np.float32(SH_C0)).reshape(*lead, 1, 3)
            ),
        )


@dataclass(frozen=True)
class _Skin:
    """The bones that carry each point: ``low``, and ``high`` by ``weight``.

    ``slope`` is its change along the second edge.
    """

    low: ndarray
    high: ndarray
    weight: Float[ndarray, "n"]
    slope: Float[ndarray, "n"]
    soft: Float[ndarray, "n"]
    soft_slope: Float[ndarray, "n"]


@dataclass(frozen=True)
class _Rig:
    """All that moves an object, and its place in the world: ``scale * (turn x) + shift``."""

    bones: tuple[Bone, ...]
    deforms: tuple[Deform, ...]
    turn: Float[ndarray, "3 3"]
    scale: float = 1.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def move(
        self, points: ndarray, edges: ndarray, skin: _Skin, times: ndarray
    ) -> tuple[ndarray, ndarray, ndarray]:
        """Returns positions (t, n, 3) and the two edges of the points' cells at times, float32."""
        matrices = pose(self.bones, times).astype(np.float32)
        low, high = matrices[:, skin.low], matrices[:, skin.high]
        start, end = _apply(low, points), _apply(high, points)
        weight = skin.weight[:, None]
        blend = low + weight[..., None] * (high - low)
        difference = end - start
        place = start + weight * difference
        first = _apply(blend, edges[0], shift=False)
        second = _apply(blend, edges[1], shift=False) + skin.slope[:, None] * difference
        if self.deforms:
            count = points.shape[0]
            # A deformation is a function of place: its effect on an edge is that on the edge's end.
            ends = np.concatenate([place, place + first, place + second], 1)
            soft = np.concatenate([skin.soft, skin.soft, skin.soft + skin.soft_slope])
            for deform in self.deforms:
                ends = deform(ends, soft, times)
            place, first, second = (ends[:, i * count : (i + 1) * count] for i in range(3))
            first, second = first - place, second - place
        world = np.concatenate([self.turn * self.scale, np.asarray(self.shift)[:, None]], 1).astype(
            np.float32
        )
        return (
            _apply(world, place),
            _apply(world, first, shift=False),
            _apply(world, second, shift=False),
        )


def _apply(matrix: ndarray, points: ndarray, *, shift: bool = True) -> ndarray:
    """Affine maps (..., 3, 4) of points (..., 3)."""
    moved = (
        matrix[..., 0] * points[..., :1]
        + matrix[..., 1] * points[..., 1:2]
        + matrix[..., 2] * points[..., 2:]
    )
    return moved + matrix[..., 3] if shift else moved


def _frames(first: ndarray, second: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Returns rotations (third axis: normal), scales and normals of Gaussians that fill cells."""
    normal = np.cross(second, first)
    length = norm(first)[..., None] + 1e-9
    area = norm(normal)[..., None] + 1e-12
    breadth = area / length
    x, z = first / length, normal / area
    rotations = np.stack([x, np.cross(z, x), z], -1)
    thin = np.minimum(length, breadth) * np.float32(THICKNESS)
    scales = np.concatenate([length, breadth, thin], -1) * np.float32(OVERLAP)
    return rotations, scales.clip(1e-5, None), z


def make_object(seed: int, options: ObjectOptions | None = None) -> AnimatedObject:
    """The animated object of a seed.

    Raises:
        ValueError: the seed is negative, or an option is unknown or out of range.
    """
    options = options or ObjectOptions()
    if seed < 0 or not 0.1 <= options.motion <= 3 or not 1e-3 <= options.spacing <= 0.2:
        raise ValueError(
            f"seed {seed}, motion {options.motion} and spacing {options.spacing} must be >= 0, in "
            "0.1 to 3 and in 0.001 to 0.2"
        )
    if options.family is not None and options.family not in FAMILIES:
        raise ValueError(
            f"no family of objects is named '{options.family}'; there are: {', '.join(FAMILIES)}"
        )
    rng = np.random.default_rng([FORMAT, seed])
    names = list(FAMILIES)
    shares = np.array([share for share, _ in FAMILIES.values()])
    drawn = str(rng.choice(names, p=shares / shares.sum()))
    vigour = rng.choice(
        [rng.uniform(0.15, 0.5), rng.uniform(0.5, 1.0), rng.uniform(1.0, 1.6)], p=[0.2, 0.5, 0.3]
    )
    family = options.family or drawn
    light = random_light(rng)
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else rng.normal(0, 0.3)
    plan = Plan(rng, float(vigour) * options.motion)
    FAMILIES[family][1](plan)
    turn = (
        np.eye(3)
        if options.upright
        else turned((Y, angle), (X, rng.normal(0, 0.04)), (Z, rng.normal(0, 0.04))).T
    )
    rig = _Rig(tuple(plan.bones), tuple(plan.deforms), turn)
    rig, motion = _fit(plan.parts, rig)
    spacing = options.spacing / rig.scale
    count = sum(len(part.surface.cover(spacing).s) for part in plan.parts)
    spacing *= max(1.0, float(np.sqrt(count / options.max_gaussians)))
    points, edges, skin, albedo = _cover(plan.parts, spacing)
    baked = options.light == "baked"
    openness = _openness(points, edges) if baked else np.ones(len(points), np.float32)
    return AnimatedObject(
        family, seed, motion, points, edges, skin, rig, albedo, openness, light if baked else None
    )


def _cover(parts: Sequence[Part], spacing: float) -> tuple[ndarray, ndarray, _Skin, ndarray]:
    """Points on all parts, their cells' edges, their bones and their colours."""
    rows = []
    for part in parts:
        cover = part.surface.cover(spacing)
        s, u = cover.s, cover.u
        # Edges are taken over a part of the cell around its centre, so that no point of a pole
        # looks beyond it.
        ends = part.surface.points(
            np.stack([s, s, s + 0.4 * cover.ds]), np.stack([u, u + 0.4 * cover.du, u])
        )
        points, edges = ends[0], (ends[1:] - ends[0]) / 0.4
        if part.inward:
            edges = edges * np.array([1.0, -1.0]).reshape(2, 1, 1)
        along = part.surface.along(s)
        change = (part.surface.along(s + 0.4 * cover.ds) - along) / 0.4
        if part.inward:
            change = -change
        low, high, weight, slope = _weights(part, along, change)
        normals = np.cross(edges[1], edges[0])
        normals /= norm(normals)[:, None] + 1e-12
        albedo = part.paint(Patch(points, normals, along, u % 1.0))
        soft = part.soft[0] + (part.soft[1] - part.soft[0]) * along
        soft_slope = (part.soft[1] - part.soft[0]) * change
        row = (points, edges[0], edges[1], low, high, weight, slope, soft, soft_slope, albedo)
        rows.append(
            row if part.keep is None else tuple(column[part.keep(points)] for column in row)
        )
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    points, first, second, low, high, *numbers, albedo = columns
    skin = _Skin(low, high, *(n.astype(np.float32) for n in numbers))
    return (
        points.astype(np.float32),
        np.stack([first, second]).astype(np.float32),
        skin,
        albedo.astype(np.float32),
    )


def _weights(
    part: Part, along: ndarray, change: ndarray
) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Returns two bones at each height of a part, the second's share, and its change."""
    bones = np.array(part.bones)
    place = along * len(bones) - 0.5
    low = np.clip(np.floor(place), 0, max(len(bones) - 2, 0)).astype(int)
    high = np.minimum(low + 1, len(bones) - 1)
    ramp = (place - low - 0.5) * part.sharp + 0.5
    slope = np.where((ramp > 0) & (ramp < 1), change * len(bones) * part.sharp, 0.0)
    return bones[low], bones[high], ramp.clip(0, 1), slope


def _fit(parts: Sequence[Part], rig: _Rig) -> tuple[_Rig, float]:
    """Scales and shifts an object into its sphere over all time; and how much it moves."""
    times = np.linspace(0, 1, CHECK_TIMES)
    size = 0.1
    points, edges, skin, _ = _cover(parts, size)
    moved, first, second = rig.move(points, edges, skin, times)
    # A cell's corners lie beyond its centre.
    reach = 0.5 * (norm(first) + norm(second)).max(0)
    low, high = (moved.min((0, 1)), moved.max((0, 1)))
    centre = (low + high) / 2
    distance = norm(moved - centre) + reach
    scale = RADIUS * MARGIN / float(distance.max())
    travel = float(norm(np.diff(moved, axis=0)).mean()) * scale * (CHECK_TIMES - 1) / 15
    shift = tuple(float(-c * scale) for c in centre)
    return replace(rig, scale=scale, shift=shift), travel


def _openness(points: ndarray, edges: ndarray) -> Float[ndarray, "n"]:
    """Returns the share of the sky that each point sees in the rest pose.

    1 on a convex body.
    """
    normals = np.cross(edges[1], edges[0])
    area = norm(normals)
    normals /= area[:, None] + 1e-12
    cells = 28
    low, high = points.min(0), points.max(0)
    cell = float((high - low).max()) / (cells - 6)
    index = ((points - low) / cell + 3).astype(np.float32)
    x, y, z = np.minimum(index.astype(int), cells - 1).T
    density = (
        np.bincount((x * cells + y) * cells + z, area, cells**3).reshape(cells, cells, cells)
        / cell**2
    )
    density = uniform_filter(density, 3, mode="constant")
    covered = np.zeros(len(points))
    for steps, share in ((2.5, 0.9), (4.5, 0.6)):
        covered += share * map_coordinates(density, (index - 0.5 + steps * normals).T, order=1)
    return np.exp(-covered).astype(np.float32)


def draw_views(
    subject: AnimatedObject,
    times: Sequence[float] | Float[ndarray, "b"],
    orbits: Sequence[Orbit],
    size: int,
) -> UInt8[ndarray, "b h w 4"]:
    """Draws picture i from orbit i at time i: straight-alpha RGBA, ``size`` pixels square.

    Raises:
        ValueError: there are not as many times as orbits, or a time is outside [0, 1].
    """
    t = np.asarray(times, float)
    if len(t) != len(orbits):
        raise ValueError(f"{len(t)} times for {len(orbits)} cameras: wanted one time for each")
    distinct, which = np.unique(t, return_inverse=True)
    film = subject.at_times(distinct)
    pictures = np.empty((len(t), size, size, 4), np.uint8)
    shared = len(distinct) <= len(t) // 2
    with torch.no_grad():
        if not shared:
            rows = torch.from_numpy(which)
            own = {
                name: getattr(film, name)[rows] for name in ("means", "quats", "log_scales", "sh")
            }
            return _draw(film.replace(**own), list(orbits), size)
        for i in range(len(distinct)):
            rows = np.flatnonzero(which == i)
            pictures[rows] = _draw(film.at_view(i), [orbits[int(row)] for row in rows], size)
    return pictures


def _draw(gaussians: Gaussians, orbits: list[Orbit], size: int) -> UInt8[ndarray, "b h w 4"]:
    drawn = render(gaussians, _cameras(tuple(orbits), size), background=(0.0, 0.0, 0.0))
    alpha = drawn.alpha.unsqueeze(-1)
    straight = torch.cat([drawn.rgb / alpha.clamp_min(0.5 / 255), alpha], -1)
    return straight.mul_(255).add_(0.5).clamp_(0, 255).to(torch.uint8).numpy()


@lru_cache(maxsize=64)
def _cameras(orbits: tuple[Orbit, ...], size: int) -> Camera:
    # The same rig is asked for again and again, and making 16 cameras takes as long as drawing two
    # pictures.
    return cameras_of(list(orbits), width=size, height=size)
