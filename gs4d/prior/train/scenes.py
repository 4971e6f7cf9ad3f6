"""Random scenes to learn depth from.

A moving object as triangles, its colours, and the light on it; and what rays see of them.

Rays are cast by Embree through open3d. Objects are the models of a folder (drawn by body, then
model, then clip) and the procedural objects of :mod:`gs4d.synth`, whose surface cells become quads.
On about half of them the texture is replaced by one that has nothing to do with the shape, so that
only shading tells how the surface lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.random import Generator

from ...errors import UserError
from ...io.files import read_json
from ...mesh import UNLIT, AnimatedMesh, load_animated_mesh
from ...synth import make_object
from ...synth.objects import ObjectOptions

MODEL_SHARE = 0.7  # of the objects, where there are models
FIGURE_SHARE = (
    0.35  # of the procedural objects that are figures: most clips that people bring show one
)
FOREIGN_TEXTURE = 0.5  # of the objects, whose own texture is replaced
PLAIN_LIGHT = (
    0.25  # of the scenes that have matt light without shadows, as a plain real-time viewer shows
)
SUFFIXES = (".glb", ".gltf")
OCCLUSION_RAYS = 12  # per place, for ambient occlusion
OCCLUSION_REACH = 0.35  # world units
OFFSET = 2e-3  # world units by which secondary rays start above the surface
CUTOUT_PASSES = 3  # surfaces of alpha below a half that a ray goes through at most
JOINT_SPREAD = 0.06  # standard deviation of the logarithm of the factors that joints are scaled by

Colors = Float[np.ndarray, "n 3"]
Paint = Callable[
    [Int[np.ndarray, "n"], Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]],
    Float[np.ndarray, "n 4"],
]


@dataclass(frozen=True)
class Pose:
    """Triangles at one time, in world space.

    Attributes:
        vertices: inside a sphere of radius 0.6 about the origin.
        normals: per vertex, unit; zero where only the triangle's own is known.
    """

    vertices: Float[np.ndarray, "v 3"]
    normals: Float[np.ndarray, "v 3"]


@dataclass(frozen=True)
class Subject:
    """A moving object.

    Attributes:
        faces: vertex indices.
        rest: vertices at rest, where textures are anchored.
        pose: vertices and normals at a time in [0, 1].
        paint: sRGB and alpha in [0, 1], given triangles, barycentric weights of their corners, and
            places at rest.
    """

    faces: Int[np.ndarray, "f 3"]
    rest: Float[np.ndarray, "v 3"]
    pose: Callable[[float], Pose]
    paint: Paint


@dataclass(frozen=True)
class Models:
    """Animated models by body: those that share a body count as one.

    Attributes:
        bodies: per body its files, each with the clip to prefer (None: any).
    """

    bodies: tuple[tuple[tuple[Path, str | None], ...], ...]


def read_models(folder: Path, split: str = "train") -> Models:
    """Reads the models of a folder: those of ``split`` by its ``models.json``, or all.

    Rows of that file have file, clip, body and split.

    Raises:
        UserError: there are none.
    """
    index = folder / "models.json"
    bodies: dict[str, list[tuple[Path, str | None]]] = {}
    if index.is_file():
        rows: Any = read_json(index, "list of models")
        for row in rows:
            if row.get("split", split) == split:
                bodies.setdefault(row["body"], []).append((folder / row["file"], row.get("clip")))
    elif split == "train":
        for path in sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES):
            bodies[str(path)] = [(path, None)]
    if not bodies:
        raise UserError(
            f"{folder} holds no .glb or .gltf file of the split {split}; name another folder"
        )
    return Models(tuple(tuple(files) for _, files in sorted(bodies.items())))


# reading a file takes longer than all else of a scene
_loaded = lru_cache(maxsize=48)(load_animated_mesh)


def model_subject(
    models: Models, rng: Generator, times: Sequence[float], choice: Generator
) -> Subject:
    """A model in one of its clips.

    Joints scaled, stretched, turned, and fitted to the sphere at ``times``.

    ``choice`` draws the file and the clip, ``rng`` all else, so that several scenes can share a
    file that was read once.
    """
    files = models.bodies[choice.integers(len(models.bodies))]
    path, preferred = files[choice.integers(len(files))]
    clips = _loaded(path).clips
    own = preferred if preferred in clips and choice.random() < 0.6 else None
    clip = own or (str(clips[choice.integers(len(clips))]) if clips else None)
    mesh = _loaded(path, clip)
    factors = (
        np.exp(rng.normal(0, JOINT_SPREAD, len(mesh.tree.nodes)))
        if rng.random() < 0.7
        else np.ones(len(mesh.tree.nodes))
    )
    nodes = tuple(
        node
        if node.matrix is not None or node.parent < 0
        else replace(node, scale=node.scale * factor)
        for node, factor in zip(mesh.tree.nodes, factors, strict=True)
    )
    stretch = np.diag([*rng.uniform(0.8, 1.25, 3), 1.0])
    turn = rng.normal(0, 0.3) if rng.random() < 0.5 else rng.uniform(-math.pi, math.pi)
    placed = replace(mesh, tree=replace(mesh.tree, nodes=nodes), placement=_about_y(turn) @ stretch)
    radius = 0.59 * (1 - 0.2 * rng.random() ** 2)
    placed = replace(
        placed, placement=_fit([placed.at(t).vertices for t in times], radius) @ placed.placement
    )
    return Subject(
        placed.painter.faces, placed.at(times[0]).vertices, _pose_of(placed), _paint_of(placed)
    )


def _about_y(angle: float) -> Float[np.ndarray, "4 4"]:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]], float)


def _fit(poses: Sequence[Float[np.ndarray, "v 3"]], radius: float) -> Float[np.ndarray, "4 4"]:
    """Returns the transform that centres all poses' box and fits them into a sphere."""
    middle = (np.min([p.min(0) for p in poses], 0) + np.max([p.max(0) for p in poses], 0)) / 2
    reach = max(float(np.linalg.norm(p - middle, axis=1).max()) for p in poses)
    matrix = np.eye(4) * (radius / max(reach, 1e-9))
    matrix[:3, 3] = -middle * matrix[0, 0]
    matrix[3, 3] = 1
    return matrix


def _pose_of(mesh: AnimatedMesh) -> Callable[[float], Pose]:
    def pose(time: float) -> Pose:
        at = mesh.at(time)
        return Pose(at.vertices, at.normals)

    return pose


def _paint_of(mesh: AnimatedMesh) -> Paint:
    painter = mesh.painter

    def paint(faces: np.ndarray, weights: np.ndarray, rest: np.ndarray) -> np.ndarray:
        corners = painter.columns[painter.faces[faces]]
        columns = (corners * weights[..., None].astype(np.float32)).sum(1)
        return painter.colors(faces, np.zeros((len(faces), 3), np.float32), columns, UNLIT)

    return paint


def procedural_subject(rng: Generator) -> Subject:
    """Returns a procedural object whose cells are quads, a little larger so that no gap is left."""
    family = "biped" if rng.random() < FIGURE_SHARE else None
    options = ObjectOptions(
        spacing=0.014,
        max_gaussians=12000,
        family=family,
        light="unlit",
        upright=bool(rng.random() < 0.5),
    )
    thing = make_object(int(rng.integers(2**40)), options)
    count = thing.count
    quads = np.arange(4 * count).reshape(4, count).T
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [2, 1, 3]]])

    def corners(time: float) -> tuple[np.ndarray, np.ndarray]:
        centers, first, second = thing.cells(time)
        signs = [(-1, -1), (1, -1), (-1, 1), (1, 1)]
        places = np.concatenate([centers + 0.56 * (a * first + b * second) for a, b in signs])
        normals = np.cross(second, first)
        return places, normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)

    def pose(time: float) -> Pose:
        places, normals = corners(time)
        return Pose(places, np.tile(normals, (4, 1)))

    def paint(chosen: np.ndarray, weights: np.ndarray, rest: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [thing.albedo[chosen % count], np.ones((len(chosen), 1), np.float32)], 1
        )

    return Subject(faces, corners(0.0)[0], pose, paint)


# --- textures -------------------------------------------------------------------------------------


def foreign_paint(rng: Generator) -> Paint:
    """A texture in space that has nothing to do with the shape.

    Stripes, checks, spots, clouds or one colour.
    """
    kind = rng.choice(
        ["stripes", "checks", "spots", "clouds", "plain"], p=[0.25, 0.2, 0.2, 0.25, 0.1]
    )
    first, second = rng.uniform(0.05, 1, 3), rng.uniform(0.05, 1, 3)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    scale = math.exp(rng.uniform(math.log(0.04), math.log(0.3)))
    sharp = rng.uniform(2, 30)
    waves, phases = rng.normal(size=(3, 24)) / scale / 2, rng.uniform(0, 2 * math.pi, 24)
    centers = rng.uniform(-0.6, 0.6, (160, 3))

    def paint(faces: np.ndarray, weights: np.ndarray, rest: np.ndarray) -> np.ndarray:
        at = rest @ turn
        if kind == "stripes":
            value = np.sin(2 * math.pi * at[:, 0] / scale + 2 * np.sin(at[:, 1] / scale))
        elif kind == "checks":
            value = np.prod(np.sin(math.pi * at / scale), 1) * 3
        elif kind == "spots":
            value = 1.3 * scale - np.sqrt(((at[:, None] - centers[None]) ** 2).sum(-1)).min(1)
            value = 8 * value / scale
        elif kind == "clouds":
            value = np.sin(at @ waves + phases).sum(1) / 4
        else:
            value = np.full(len(at), -9.0)
        mix = 1 / (1 + np.exp(-np.clip(sharp * value, -30, 30)))
        colors = first + mix[:, None] * (second - first)
        return np.concatenate([colors, np.ones((len(at), 1))], 1).astype(np.float32)

    return paint


# --- light ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Light:
    """Linear light: a sky over ground, lamps with or without shadows, ambient occlusion and gloss.

    Attributes:
        sky, ground: from above and below; in between they mix by the height of the normal.
        lamps: rows of direction (unit) and colour.
        shadows: whether surfaces shade each other.
        occlusion: exponent of the share of the sky that is seen; 0: none.
        gloss: strength of the highlight, and its exponent.
    """

    sky: Float[np.ndarray, "3"]
    ground: Float[np.ndarray, "3"]
    lamps: Float[np.ndarray, "l 2 3"]
    shadows: bool
    occlusion: float
    gloss: tuple[float, float]


def random_light(rng: Generator) -> Light:
    """A light as real-time viewers, studios and the open air have it."""

    def tint(level: float, spread: float) -> np.ndarray:
        return level * np.exp(rng.normal(0, spread, 3))

    plain = rng.random() < PLAIN_LIGHT
    count = 1 if plain else int(rng.integers(0, 4))
    lamps = []
    for _ in range(count):
        direction = rng.normal(size=3) + np.array([0, 1.0, 0.8])
        direction /= np.linalg.norm(direction)
        lamps.append(np.stack([direction, tint(rng.uniform(0.2, 0.9) / math.sqrt(count), 0.08)]))
    sky = rng.uniform(0.45, 0.9) if count else rng.uniform(0.7, 1.0)
    ground = sky * (rng.uniform(0.3, 0.6) if plain else rng.uniform(0.1, 0.8))
    return Light(
        sky=tint(sky, 0.05),
        ground=tint(ground, 0.08),
        lamps=np.stack(lamps) if lamps else np.zeros((0, 2, 3)),
        shadows=bool(not plain and rng.random() < 0.5),
        occlusion=0.0 if plain or rng.random() < 0.3 else float(rng.uniform(0.5, 1.5)),
        gloss=(float(rng.uniform(0.1, 0.6)), float(rng.uniform(5, 60)))
        if not plain and rng.random() < 0.3
        else (0.0, 1.0),
    )


def decoded(colors: np.ndarray) -> np.ndarray:
    """Linear light of sRGB in [0, 1] (IEC 61966-2-1)."""
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    """SRGB of linear light, cut to [0, 1]."""
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


# --- rays -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hits:
    """What rays see.

    Attributes:
        distance: along each ray in units of its direction; infinite where it meets nothing.
        faces, weights: the triangle and barycentric weights of its corners, for the rays that meet
            something.
        hit: which rays do.
        normals: smooth unit normals that face the ray, for the same.
        colors: sRGB before light, for the same.
        places: world positions, for the same.
        directions: of these rays.
    """

    distance: Float[np.ndarray, "r"]
    hit: Bool[np.ndarray, "r"]
    faces: Int[np.ndarray, "n"]
    normals: Float[np.ndarray, "n 3"]
    colors: Colors
    places: Float[np.ndarray, "n 3"]
    directions: Float[np.ndarray, "n 3"]


class Scene:
    """A subject at one time, under a light, ready for rays."""

    def __init__(self, subject: Subject, paint: Paint, light: Light, time: float) -> None:
        """Raises UserError where open3d is missing."""
        try:
            import open3d
            from open3d import core
        except ImportError:
            raise UserError("training lift needs open3d; run: pip install 'gs4d[train]'") from None
        self.subject, self.paint, self.light = subject, paint, light
        self.pose = subject.pose(time)
        self.caster = open3d.t.geometry.RaycastingScene(nthreads=1)
        self._tensor = lambda values: core.Tensor.from_numpy(
            np.ascontiguousarray(values, np.float32)
        )
        self.caster.add_triangles(
            core.Tensor.from_numpy(self.pose.vertices.astype(np.float32)),
            core.Tensor.from_numpy(subject.faces.astype(np.uint32)),
        )

    def distances(self, rays: Float[np.ndarray, "r 6"]) -> Float[np.ndarray, "r"]:
        """Returns the distance along each ray (origin, direction) to a triangle, or infinity."""
        return self.caster.cast_rays(self._tensor(rays), nthreads=1)["t_hit"].numpy()

    def cast(self, rays: Float[np.ndarray, "r 6"]) -> Hits:
        """What the rays (origin, direction) see first.

        Surfaces of alpha below a half are passed through.
        """
        rays = rays.astype(np.float32)
        n = len(rays)
        distance, face, weights = np.full(n, np.inf), np.zeros(n, np.int64), np.zeros((n, 3))
        color = np.zeros((n, 4), np.float32)
        open_rays, start = np.arange(n), np.zeros(n)
        for _ in range(CUTOUT_PASSES):
            ahead = rays[open_rays].copy()
            ahead[:, :3] += ahead[:, 3:] * start[open_rays, None].astype(np.float32)
            found = self.caster.cast_rays(self._tensor(ahead), nthreads=1)
            t = found["t_hit"].numpy()
            met = np.isfinite(t)
            open_rays, t = open_rays[met], t[met] + start[open_rays[met]]
            if not len(open_rays):
                break
            faces = found["primitive_ids"].numpy()[met].astype(np.int64)
            uv = found["primitive_uvs"].numpy()[met].astype(float)
            inner = np.concatenate([1 - uv.sum(1, keepdims=True), uv], 1)
            rest = (self.subject.rest[self.subject.faces[faces]] * inner[..., None]).sum(1)
            seen = self.paint(faces, inner, rest)
            solid = seen[:, 3] >= 0.5
            done = open_rays[solid]
            distance[done], face[done], weights[done], color[done] = (
                t[solid],
                faces[solid],
                inner[solid],
                seen[solid],
            )
            start[open_rays] = t + 1e-4
            open_rays = open_rays[~solid]
        hit = np.isfinite(distance)
        directions = rays[hit, 3:].astype(float)
        normals = self._normals(face[hit], weights[hit])
        normals *= -np.sign((normals * directions).sum(1, keepdims=True) + 1e-12)
        places = rays[hit, :3] + distance[hit, None] * directions
        return Hits(distance, hit, face[hit], normals, color[hit, :3], places, directions)

    def _normals(self, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
        corners = self.subject.faces[faces]
        smooth = (self.pose.normals[corners] * weights[..., None]).sum(1)
        a, b, c = (self.pose.vertices[corners[:, k]] for k in range(3))
        flat = np.cross(b - a, c - a)
        length = np.linalg.norm(smooth, axis=1, keepdims=True)
        normals = np.where(length > 1e-3, smooth, flat)
        return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-20)

    def shaded(self, hits: Hits, rng: Generator, *, detailed: bool) -> Colors:
        """Returns sRGB under the light; ``detailed`` with its occlusion, shadows and gloss."""
        light, normals = self.light, hits.normals
        starts = hits.places + OFFSET * normals
        up = 0.5 + 0.5 * normals[:, 1:2]
        ambient = light.ground + up * (light.sky - light.ground)
        if light.occlusion and detailed:
            ambient = ambient * self._openness(starts, normals, rng)[:, None] ** light.occlusion
        total, shine = ambient, np.zeros((len(starts), 1))
        for direction, color in light.lamps:
            facing = (normals @ direction).clip(0)
            if light.shadows and detailed:
                rays = self._tensor(
                    np.concatenate([starts, np.broadcast_to(direction, starts.shape)], 1)
                )
                facing = facing * ~self.caster.test_occlusions(rays, nthreads=1).numpy()
            total = total + facing[:, None] * color
            if light.gloss[0] and detailed:
                half = direction - hits.directions / np.linalg.norm(
                    hits.directions, axis=1, keepdims=True
                )
                half /= np.linalg.norm(half, axis=1, keepdims=True)
                shine = (
                    shine
                    + (
                        light.gloss[0]
                        * (facing > 0)
                        * (normals * half).sum(1).clip(0) ** light.gloss[1]
                    )[:, None]
                )
        return encoded(decoded(hits.colors) * total + shine)

    def _openness(
        self, starts: np.ndarray, normals: np.ndarray, rng: Generator
    ) -> Float[np.ndarray, "n"]:
        """Share of cosine-weighted directions in which nothing is near."""
        away = rng.normal(size=(len(starts), OCCLUSION_RAYS, 3))
        away = away / np.linalg.norm(away, axis=-1, keepdims=True) * 0.999 + normals[:, None]
        away /= np.linalg.norm(away, axis=-1, keepdims=True)
        rays = self._tensor(
            np.concatenate([np.broadcast_to(starts[:, None], away.shape), away], -1)
        )
        blocked = self.caster.test_occlusions(rays, tfar=OCCLUSION_REACH, nthreads=1).numpy()
        return 1 - blocked.mean(1)


def random_scenes(
    rng: Generator, models: Models | None, times: Sequence[float], choice: Generator
) -> list[Scene]:
    """One random object at several times, under one light, in its own or a foreign texture."""
    if models is not None and rng.random() < MODEL_SHARE:
        subject = model_subject(models, rng, times, choice)
    else:
        subject = procedural_subject(rng)
    paint = foreign_paint(rng) if rng.random() < FOREIGN_TEXTURE else subject.paint
    light = random_light(rng)
    return [Scene(subject, paint, light, time) for time in times]
