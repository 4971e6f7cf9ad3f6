"""Pictures of triangle meshes.

What is seen through every sample of a pixel, its colour in light, and the mean of these.

Triangles are found by the native module (submodules/native/mesh.cpp), the rest is numpy. Light is
what a plain scene of three.js has: a sky that shines from above, ground from below, and one lamp
far away, all matt and without shadows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..clip import Orbit, cameras_of
from ..native import kernels
from .parts import Material, Part, Texture

SAMPLES = 4  # along each side of a pixel
NEAR = 0.01  # triangles with a corner nearer than this are not drawn, world units
WRAPS = ("repeat", "mirror", "clamp")  # as mesh_draw counts them
CODES = 1 << 14  # steps of the table that encodes linear light as sRGB


@dataclass(frozen=True)
class Lighting:
    """Light that falls on a surface, linear RGB; white that is lit by 1 is white.

    The default is a hemisphere light of intensity 2.2 over ground of sRGB (144, 153, 168) and a
    directional light of 1.2 from (1, 2, 1.5), over pi as three.js has it.

    Attributes:
        sky: from straight above.
        ground: from straight below; in between they mix by the height of the normal.
        lamp: on a surface that faces it.
        direction: towards the lamp, need not be unit.
    """

    sky: tuple[float, float, float] = (0.70, 0.70, 0.70)
    ground: tuple[float, float, float] = (0.195, 0.223, 0.274)
    lamp: tuple[float, float, float] = (0.382, 0.382, 0.382)
    direction: tuple[float, float, float] = (1.0, 2.0, 1.5)

    def rows(self) -> Float[np.ndarray, "4 3"]:
        """The four as mesh_draw takes them."""
        direction = np.array(self.direction) / max(float(np.linalg.norm(self.direction)), 1e-9)
        return np.array([self.sky, self.ground, self.lamp, direction], np.float32)


UNLIT = Lighting(sky=(1.0, 1.0, 1.0), ground=(1.0, 1.0, 1.0), lamp=(0.0, 0.0, 0.0))


@dataclass(frozen=True)
class Pose:
    """All vertices of a mesh at one time, in object space: inside a sphere of radius 0.6, y up.

    Attributes:
        vertices: positions.
        normals: unit, or zero where there is none.
        mirrored: per triangle, whether it runs clockwise.
    """

    vertices: Float[np.ndarray, "v 3"]
    normals: Float[np.ndarray, "v 3"]
    mirrored: Bool[np.ndarray, "f"]


def decode_srgb(codes: UInt8[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """Linear light of 8-bit sRGB (IEC 61966-2-1)."""
    values = np.arange(256) / 255
    table = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[codes]


def _encoding_table() -> Float[np.ndarray, "codes"]:
    values = np.linspace(0, 1, CODES)
    return np.where(
        values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055
    ).astype(np.float32)


ENCODED = _encoding_table()


def _levels(texture: Texture) -> list[Float[np.ndarray, "h w 4"]]:
    """The texture in linear RGBA, then at half the size, a quarter, ....

    Each is read where it is seen that small.
    """
    levels = [
        np.concatenate(
            [decode_srgb(texture.pixels[..., :3]), texture.pixels[..., 3:] / np.float32(255)], -1
        )
    ]
    while min(levels[-1].shape[:2]) > 1:
        even = levels[-1][: levels[-1].shape[0] // 2 * 2, : levels[-1].shape[1] // 2 * 2]
        levels.append((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4)
    return levels


class Painter:
    """Draws poses of one mesh; what does not move is prepared once."""

    def __init__(self, parts: Sequence[Part]) -> None:
        materials = [part.material for part in parts]
        starts = np.cumsum([0, *(len(part.positions) for part in parts)])
        self.faces = np.concatenate(
            [part.faces + start for part, start in zip(parts, starts, strict=False)]
        ).astype(np.int32)
        self.part_of = np.repeat(
            np.arange(len(parts), dtype=np.int32), [len(part.faces) for part in parts]
        )
        self.double_sided = np.array([material.double_sided for material in materials])[
            self.part_of
        ]
        self.columns = np.concatenate([_columns(part) for part in parts]).astype(np.float32)
        self.materials = np.array([_numbers(material) for material in materials], np.float32)
        self.read = [(material.texture, material.emissive_texture) for material in materials]
        distinct = {
            id(texture): texture for pair in self.read for texture in pair if texture is not None
        }
        self.levels = {key: _levels(texture) for key, texture in distinct.items()}
        self.uv_areas = [
            self._sums(abs(_doubled_area(self.columns[self.faces, k : k + 2]))) for k in (0, 2)
        ]

    def _sums(self, values: Float[np.ndarray, "f"]) -> Float[np.ndarray, "p"]:
        """Sums a value of the faces over each part."""
        return np.bincount(self.part_of, values, len(self.materials))

    def draw(
        self, pose: Pose, orbit: Orbit, height: int, width: int, lighting: Lighting
    ) -> UInt8[np.ndarray, "h w 4"]:
        """The pose from ``orbit`` with straight alpha; nothing hides in the colour under alpha 0.

        Triangles with a corner nearer to the camera than ``NEAR``, or behind it, are left out.
        """
        screen = _project(pose.vertices, orbit, height * SAMPLES, width * SAMPLES)
        corners = screen[self.faces]
        area = _doubled_area(corners[..., :2])
        front = (area < 0) ^ pose.mirrored  # y runs down the picture
        ahead = (corners[..., 2] > 0) & (corners[..., 2] < 1 / NEAR)
        seen = np.flatnonzero((front | self.double_sided) & ahead.all(1))
        columns = np.concatenate([pose.normals.astype(np.float32), self.columns], 1)
        return self._paint(
            screen,
            columns,
            self.faces[seen],
            self.part_of[seen],
            ~front[seen],
            self._sums(abs(area)),
            lighting,
            SAMPLES,
            height,
            width,
        )

    def colors(
        self,
        faces: Int[np.ndarray, "n"],
        normals: Float[np.ndarray, "n 3"],
        columns: Float[np.ndarray, "n 8"],
        lighting: Lighting,
    ) -> Float[np.ndarray, "n 4"]:
        """Colours (sRGB) and alpha, in [0, 1], of places on the surface, given what is interpolated
        there.

        Each is drawn as a triangle over a pixel of its own.
        """
        width = 1024
        height = -(-len(faces) // width)
        row, column = np.divmod(np.arange(len(faces)), width)
        corners = np.stack([column, row], -1)[:, None] + np.array(
            [[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]]
        )
        screen = np.concatenate([corners.reshape(-1, 2), np.ones((3 * len(faces), 1))], 1).astype(
            np.float32
        )
        values = np.concatenate([normals, columns], 1).astype(np.float32).repeat(3, 0)
        indices, parts = (
            np.arange(3 * len(faces), dtype=np.int32).reshape(-1, 3),
            self.part_of[faces],
        )
        areas = np.bincount(parts, minlength=len(self.materials)) * 2.0
        front = np.zeros(len(faces), bool)
        picture = self._paint(
            screen, values, indices, parts, front, areas, lighting, 1, height, width
        )
        return picture.reshape(-1, 4)[: len(faces)].astype(np.float32) / 255

    def _paint(
        self,
        screen: Float[np.ndarray, "v 3"],
        columns: Float[np.ndarray, "v 11"],
        faces: Int[np.ndarray, "f 3"],
        parts: Int[np.ndarray, "f"],
        flipped: Bool[np.ndarray, "f"],
        areas: Float[np.ndarray, "p"],
        lighting: Lighting,
        samples: int,
        height: int,
        width: int,
    ) -> UInt8[np.ndarray, "h w 4"]:
        """Calls the native module; ``areas`` are twice the samples that each part's faces cover."""
        if kernels is None:
            raise ImportError(
                "gs4d's native module is missing, which draws triangles: run: pip install -e ."
            )
        reads, textures = self._reads(areas)
        picture = np.empty((height, width, 4), np.uint8)
        light = lighting.rows()
        kernels.mesh_draw(
            screen,
            columns,
            faces,
            parts,
            flipped.view(np.uint8),
            self.materials,
            reads,
            textures,
            light,
            ENCODED,
            samples,
            picture,
        )
        return picture

    def _reads(
        self, areas: Float[np.ndarray, "p"]
    ) -> tuple[Int[np.ndarray, "p 2 4"], list[Float[np.ndarray, "h w 4"]]]:
        """Returns the picture and wrap that each part reads, given the samples that it covers."""
        reads, textures = np.full((len(self.read), 2, 4), -1, np.int32), []
        for i, pair in enumerate(self.read):
            for k, texture in enumerate(pair):
                if texture is not None:
                    levels = self.levels[id(texture)]
                    texels = (
                        self.uv_areas[k][i]
                        * levels[0].shape[0]
                        * levels[0].shape[1]
                        / max(areas[i], 1e-9)
                    )
                    level = min(int(math.log2(max(texels, 1.0)) / 2), len(levels) - 1)
                    wraps = (WRAPS.index(wrap) for wrap in texture.wrap)
                    reads[i, k] = (len(textures), *wraps, texture.smooth or level > 0)
                    textures.append(levels[level])
        return reads, textures


def _numbers(material: Material) -> tuple[float, ...]:
    """A material as mesh_draw takes it.

    Colour, emission, what alpha does, from where on it is opaque, unlit.
    """
    alpha = 2.0 if material.blend else 0.0 if material.alpha_cutoff is None else 1.0
    return (
        *material.color,
        *material.emissive,
        alpha,
        material.alpha_cutoff or 0.0,
        float(material.unlit),
    )


def _columns(part: Part) -> Float[np.ndarray, "v 8"]:
    """Returns what is interpolated and does not move.

    Texture coordinates of base colour and emission, and vertex colour.
    """
    blank, white = np.zeros((len(part.positions), 2)), np.ones((len(part.positions), 4))
    uv, emissive_uv = (blank if v is None else v for v in (part.uv, part.emissive_uv))
    return np.concatenate([uv, emissive_uv, white if part.colors is None else part.colors], 1)


def _doubled_area(corners: Float[np.ndarray, "f 3 2"]) -> Float[np.ndarray, "f"]:
    """Twice the signed area of triangles in a plane."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]


def _project(
    vertices: Float[np.ndarray, "v 3"], orbit: Orbit, height: int, width: int
) -> Float[np.ndarray, "v 3"]:
    """Columns and rows in pixels, and one over depth (0 behind the camera), float32."""
    camera = cameras_of([orbit], width=width, height=height)
    T, K = camera.T_camera_world[0].numpy().astype(np.float64), camera.K[0].numpy()
    points = vertices @ T[:3, :3].T + T[:3, 3]
    ahead = points[:, 2] > 0
    inverse = np.where(ahead, 1 / np.where(ahead, points[:, 2], 1), 0)
    screen = np.stack(
        [
            points[:, 0] * inverse * K[0, 0] + K[0, 2],
            points[:, 1] * inverse * K[1, 1] + K[1, 2],
            inverse,
        ],
        1,
    )
    return np.ascontiguousarray(screen, np.float32)
