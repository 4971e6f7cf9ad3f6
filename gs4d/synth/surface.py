"""Closed surfaces: a section swept along an axis or a line, and points that cover it evenly.

One formula gives most of the shapes that objects are made of: ellipsoids, superquadrics, boxes,
cylinders, cones, capsules, bowls, gears, tubes along curves, tori, leaves and wings. A surface is a
function of two numbers in [0, 1], ``s`` along the profile from pole to pole and ``u`` around the
section, so that it can be covered at any density and stays the same surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Number = float | int
Vector = Sequence[Number] | Float[ndarray, "3"]  # a place or a direction

STEPS = 48  # resolution of the tables that hold profiles and sections
TEETH_EDGE = 2.5  # steepness of the flanks of teeth


@dataclass(frozen=True)
class Cover:
    """Points that cover a surface: each stands for a cell of the grid.

    Attributes:
        s, u: surface coordinates in [0, 1].
        ds, du: size of the cell in these coordinates.
    """

    s: Float[ndarray, "n"]
    u: Float[ndarray, "n"]
    ds: Float[ndarray, "n"]
    du: Float[ndarray, "n"]


@dataclass(frozen=True)
class Sweep:
    """A section scaled by a profile and carried along +y, or along a line.

    Attributes:
        profile: radius factor and height at even steps of arc length; a surface is closed where it
            begins and ends at 0.
        section: closed curve (x, z) at even steps of arc length, for radius factor 1.
        line: centre, x axis, tangent and z axis at even steps of height; None for a straight axis.
        length: arc length of the profile, in units of height.
        teeth: ridges around the section.
        tooth: their height as a fraction of the radius.
        frame: origin and images of x, y and z in the object's rest pose.
    """

    profile: Float[ndarray, "k 2"]
    section: Float[ndarray, "m 2"]
    length: float
    line: Float[ndarray, "q 4 3"] | None = None
    teeth: int = 0
    tooth: float = 0.0
    frame: Float[ndarray, "4 3"] | None = None

    def place(self, origin: Vector, axes: Float[ndarray, "3 3"] | None = None) -> Sweep:
        """Returns the surface at another origin, its axes turned to the rows of ``axes``."""
        return replace(
            self,
            frame=np.concatenate(
                [[np.asarray(origin, float)], np.eye(3) if axes is None else axes]
            ),
        )

    def along(self, s: ndarray) -> ndarray:
        """Height in [0, 1]: what joints along the surface go by."""
        heights = self.profile[:, 1]
        low, high = heights.min(), heights.max()
        return (_lookup(self.profile, s)[..., 1] - low) / max(high - low, 1e-9)

    def points(self, s: ndarray, u: ndarray) -> Float[ndarray, "*b 3"]:
        """Positions in the object's rest pose."""
        radius, height = np.moveaxis(_lookup(self.profile, s), -1, 0)
        if self.teeth:
            radius = radius * (
                1 + self.tooth * np.tanh(TEETH_EDGE * np.cos(2 * np.pi * self.teeth * u))
            )
        across = _lookup(self.section, u % 1.0) * radius[..., None]
        x, z = across[..., :1], across[..., 1:]
        if self.line is None:
            local = np.concatenate([x, height[..., None], z], -1)
        else:
            # Beyond its ends the line goes straight on, so that caps have somewhere to stand.
            clamped = height.clip(0, 1)
            centre, side, tangent, other = np.moveaxis(_lookup(self.line, clamped), -2, 0)
            local = centre + x * side + z * other + (height - clamped)[..., None] * tangent
        if self.frame is None:
            return local
        # written out: the same bits whatever the number of rows and threads
        origin, ax, ay, az = self.frame
        return origin + local[..., :1] * ax + local[..., 1:2] * ay + local[..., 2:] * az

    def cover(self, spacing: float) -> Cover:
        """Points about ``spacing`` apart, in rows along ``s``."""
        girth = _length(self.section) * (1 + 1.2 * self.teeth * self.tooth)
        rows = max(2, int(np.ceil(self.length / spacing)))
        row_s = (np.arange(rows) + 0.5) / rows
        counts = np.maximum(
            3, np.ceil(girth * _lookup(self.profile, row_s)[:, 0] / spacing)
        ).astype(int)
        row = np.repeat(np.arange(rows), counts)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        du = 1.0 / counts[row]
        return Cover(row_s[row], (place + 0.5 * (row % 2)) * du, np.full(len(row), 1.0 / rows), du)


def dot(points: ndarray, direction: Vector) -> ndarray:
    """Length of points along a direction.

    Not a matrix product, which may round differently when split over threads.
    """
    return (
        points[..., 0] * direction[0]
        + points[..., 1] * direction[1]
        + points[..., 2] * direction[2]
    )


def norm(vectors: ndarray) -> ndarray:
    """Length of vectors (..., 3).

    Written out, because numpy's sum over a short axis takes several times as long.
    """
    return np.sqrt(vectors[..., 0] ** 2 + vectors[..., 1] ** 2 + vectors[..., 2] ** 2)


def _lookup(table: ndarray, x: ndarray) -> ndarray:
    """Linear interpolation in a table whose rows stand at even steps of [0, 1]."""
    last = len(table) - 1
    position = x * last
    low = np.minimum(position.astype(np.intp), last - 1)
    weight = (position - low).reshape(*x.shape, *[1] * (table.ndim - 1))
    return table[low] * (1 - weight) + table[low + 1] * weight


def _length(points: ndarray) -> float:
    return float(np.sqrt((np.diff(points, axis=0) ** 2).sum(-1)).sum())


def _even(points: ndarray, metric: ndarray, steps: int = STEPS) -> tuple[ndarray, float]:
    """Resamples a polyline at even steps of the arc length of ``metric``, its scaled twin.

    Returns the points and that length.
    """
    gaps = np.sqrt((np.diff(metric, axis=0) ** 2).sum(-1))
    arc = np.concatenate([[0.0], np.cumsum(gaps)])
    total = max(float(arc[-1]), 1e-9)
    even = np.linspace(0, total, steps + 1)
    return np.stack([np.interp(even, arc, column) for column in points.T], -1), total


def section(width: float, depth: float, exponent: float = 1.0) -> Float[ndarray, "m 2"]:
    """A superellipse with half axes ``width`` (x) and ``depth`` (z).

    Exponent 1 is an ellipse, 0.1 a box, 2 a diamond.
    """
    angle = np.linspace(0, 2 * np.pi, 4 * STEPS + 1)
    curve = np.stack(
        [width * _power(np.cos(angle), exponent), depth * _power(np.sin(angle), exponent)], -1
    )
    return _even(curve, curve)[0]


def _power(x: ndarray, exponent: float) -> ndarray:
    return np.sign(x) * np.abs(x) ** exponent


def lathe(
    profile: Sequence[tuple[Number, Number]] | Float[ndarray, "k 2"],
    width: float = 1.0,
    depth: float = 1.0,
    **shape: Number,
) -> Sweep:
    """Turns a profile of (radius, height) pairs about +y.

    ``shape`` may give exponent, teeth and tooth of the section.
    """
    points = np.asarray(profile, float)
    table, length = _even(points, points * [(width + depth) / 2, 1])
    outline = section(width, depth, shape.get("exponent", 1.0))
    return Sweep(
        table, outline, length, teeth=int(shape.get("teeth", 0)), tooth=shape.get("tooth", 0.0)
    )


def superquadric(size: Vector, bulge: float = 1.0, exponent: float = 1.0) -> Sweep:
    """A solid with half axes ``size``.

    (1, 1) an ellipsoid, (.1, .1) a box, (.1, 1) a cylinder, (2, 2) an octahedron.
    """
    angle = np.linspace(-np.pi / 2, np.pi / 2, 2 * STEPS + 1)
    profile = np.stack([np.abs(np.cos(angle)) ** bulge, size[1] * _power(np.sin(angle), bulge)], -1)
    profile[[0, -1], 0] = 0
    return lathe(profile, size[0], size[2], exponent=exponent)


def tube(
    line: Sequence[Vector] | Float[ndarray, "k 3"],
    radii: Sequence[Number] | Float[ndarray, "r"] | float,
    *,
    flat: float = 1.0,
    exponent: float = 1.0,
    side: Vector | None = None,
    caps: bool = True,
) -> Sweep:
    """A tube along a smooth line through some points, with round caps.

    A leaf or a wing where it is flat.

    Args:
        line: points that it passes, at least 2.
        radii: half width, at even steps along the line, or one for all.
        flat: half thickness over half width.
        exponent: of the section.
        side: direction of the width; it must not run along the line. None: any.
        caps: False for a line that closes on itself.
    """
    centres = curve(line)
    centres, length = _even(centres, centres, len(centres) - 1)
    tangents = np.gradient(centres, axis=0)
    tangents /= norm(tangents)[:, None] + 1e-12
    if side is None:
        # An axis that no part of the line runs along.
        side = np.eye(3)[np.abs(tangents).max(0).argmin()]
    x = np.asarray(side, float) - tangents * dot(tangents, side)[:, None]
    x /= norm(x)[:, None] + 1e-12
    frames = np.stack([centres, x, tangents * length, np.cross(x, tangents)], 1)
    widths = np.atleast_1d(np.asarray(radii, float))
    height = np.linspace(0, 1, STEPS + 1)
    radius = (
        np.interp(height, np.linspace(0, 1, len(widths)), widths)
        if len(widths) > 1
        else np.full(len(height), widths[0])
    )
    profile = np.stack([radius, height], -1)
    if caps:
        turn = np.linspace(0, np.pi / 2, 7)
        ends = [
            np.stack([r * np.sin(turn), np.cos(turn) * r * flat / length], -1)
            for r in (radius[0], radius[-1])
        ]
        profile = np.concatenate([ends[0] * [1, -1], profile, (ends[1] * [1, 1] + [0, 1])[::-1]])
    table, arc = _even(profile, profile * [(1 + flat) / 2, length])
    return Sweep(table, section(1.0, flat, exponent), arc, frames)


def curve(
    points: Sequence[Vector] | Float[ndarray, "k 3"], steps: int = STEPS // 2
) -> Float[ndarray, "q 3"]:
    """A smooth line through some points (Catmull-Rom), straight between two."""
    p = np.asarray(points, float)
    if len(p) == 2 or len(p) > steps:
        return p if len(p) > 2 else p[:1] + np.linspace(0, 1, steps + 1)[:, None] * (p[1:] - p[:1])
    t = np.linspace(0, len(p) - 1, steps + 1)
    i = np.minimum(t.astype(int), len(p) - 2)
    t = (t - i)[:, None]
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )


def ring(radius: float, thickness: float, exponent: float = 1.0) -> Sweep:
    """A torus about +y."""
    angle = np.linspace(0, 2 * np.pi, STEPS + 1)
    circle = np.stack([radius * np.cos(angle), 0 * angle, radius * np.sin(angle)], -1)
    return tube(circle, thickness, side=(0.0, 1.0, 0.0), exponent=exponent, caps=False)
