"""Colours of surfaces: palettes, textures as functions of the place on a surface, and soft light.

A texture draws its random numbers when it is made, not where it is looked up, so that it is the
same at any density of points.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator

from .surface import Number, Vector, dot, norm

Colour = Float[ndarray, "3"]


@dataclass(frozen=True)
class Patch:
    """The points of a part in the rest pose.

    Attributes:
        points: positions.
        normals: unit, outwards.
        along: 0 to 1 from one end of the part to the other.
        around: 0 to 1 about its axis.
    """

    points: Float[ndarray, "n 3"]
    normals: Float[ndarray, "n 3"]
    along: Float[ndarray, "n"]
    around: Float[ndarray, "n"]


Paint = Callable[[Patch], Float[ndarray, "n 3"]]
Mask = Callable[[Patch], Float[ndarray, "n"]]


def hsv(hue: Number, saturation: Number, value: Number) -> Colour:
    """A colour; the hue goes round in 1, the others are cut to [0, 1]."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1)))


@dataclass(frozen=True)
class Palette:
    """Colours that go together, RGB in [0, 1].

    Three of their own kind, one near black and one near white.
    """

    main: Colour
    second: Colour
    accent: Colour
    dark: Colour
    light: Colour

    def any(self, rng: Generator) -> Colour:
        """One of them, slightly changed."""
        pick = (self.main, self.second, self.accent, self.dark, self.light)[
            rng.choice(5, p=[0.34, 0.24, 0.2, 0.1, 0.12])
        ]
        return (pick * rng.uniform(0.85, 1.12)).clip(0.02, 1)


def palette(rng: Generator, kind: str = "any") -> Palette:
    """A random palette: "fur", "vivid", "pastel", "metal", "leaf" or any of them."""
    if kind == "any":
        kind = rng.choice(["fur", "vivid", "vivid", "pastel", "metal", "leaf"])
    hue = rng.random()
    saturation, value = rng.uniform(0.6, 1.0), rng.uniform(0.6, 1.0)
    if kind == "fur":
        hue, saturation, value = (
            rng.uniform(0.02, 0.12),
            rng.uniform(0.1, 0.8),
            rng.uniform(0.2, 0.95),
        )
    elif kind == "pastel":
        saturation, value = rng.uniform(0.2, 0.45), rng.uniform(0.85, 1.0)
    elif kind == "metal":
        saturation, value = rng.uniform(0.0, 0.15), rng.uniform(0.35, 0.85)
    elif kind == "leaf":
        hue, value = rng.uniform(0.2, 0.4), rng.uniform(0.35, 0.8)
    turn = rng.choice([0.03, 0.08, 0.33, 0.5, -0.08, -0.33])
    other = rng.uniform(0.35, 1.0)
    return Palette(
        main=hsv(hue, saturation, value),
        second=hsv(
            hue + turn, saturation * rng.uniform(0.5, 1.2), min(1.0, value * rng.uniform(0.5, 1.6))
        ),
        accent=hsv(hue + 0.5 + rng.uniform(-0.15, 0.15), other, rng.uniform(0.6, 1.0)),
        dark=hsv(hue, rng.uniform(0, 0.5), rng.uniform(0.05, 0.2)),
        light=hsv(hue + turn, rng.uniform(0, 0.2), rng.uniform(0.88, 1.0)),
    )


# --- textures -------------------------------------------------------------------------------------


def solid(colour: Colour) -> Paint:
    """One colour."""
    return lambda patch: np.broadcast_to(colour, patch.points.shape)


def mixed(below: Paint, above: Paint, mask: Mask) -> Paint:
    """``above`` where the mask is 1, ``below`` where it is 0."""

    def paint(patch: Patch) -> ndarray:
        a, weight = below(patch), mask(patch)[:, None]
        return a + (above(patch) - a) * weight

    return paint


def noise(rng: Generator, size: float) -> Mask:
    """Smooth noise of about unit deviation in space, with features of about ``size``."""
    directions = rng.normal(size=(10, 3)) * (rng.uniform(0.6, 1.6, 10) / size * 1.8)[:, None]
    phases = rng.uniform(0, 2 * np.pi, 10)

    def mask(patch: Patch) -> ndarray:
        total = np.zeros(len(patch.points))
        for direction, phase in zip(directions, phases, strict=True):
            x, y, z = patch.points.T
            # Each wave bends the next, or crests would be straight lines.
            total += np.sin(
                x * direction[0] + y * direction[1] + z * direction[2] + phase + 0.5 * total
            )
        return total / np.sqrt(5)

    return mask


def step(mask: Mask, threshold: float, softness: float = 0.05) -> Mask:
    """0 below the threshold, 1 above, with a narrow ramp."""
    return lambda patch: ((mask(patch) - threshold) / softness + 0.5).clip(0, 1)


def height(axis: Vector) -> Mask:
    """Distance along a direction."""
    return lambda patch: dot(patch.points, axis)


def facing(axis: Vector) -> Mask:
    """Cosine between the surface's normal and a direction: a belly looks down, a chest forward."""
    return lambda patch: dot(patch.normals, axis)


def span(low: Number, high: Number) -> Mask:
    """1 where a part is between ``low`` and ``high`` of its length."""
    return lambda patch: ((patch.along >= low) & (patch.along <= high)).astype(float)


def waves(
    mask: Mask, count: float, phase: Number = 0.0, warp: Mask | None = None, duty: float = 0.0
) -> Mask:
    """Bands of a mask: 1 in every other half period, ``count`` periods per unit."""

    def bands(patch: Patch) -> ndarray:
        value = mask(patch) * count + phase
        if warp is not None:
            value = value + 0.22 * warp(patch)
        return ((np.sin(2 * np.pi * value) - duty) * 4 + 0.5).clip(0, 1)

    return bands


def checks(around: int, along: int) -> Mask:
    """A chessboard on the surface's own coordinates."""

    def mask(patch: Patch) -> ndarray:
        return (
            np.floor(patch.around * around * 2) + np.floor(patch.along * along * 2 * 0.9999)
        ) % 2

    return mask


def spots(rng: Generator, count: int, size: float, reach: float = 1.0) -> Mask:
    """Round spots of radius ``size`` around points in a ball of radius ``reach``.

    Those off the surface do not show.
    """
    centres = rng.normal(size=(count, 3))
    centres *= (reach * rng.random(count) ** (1 / 3) / np.linalg.norm(centres, axis=-1))[:, None]
    sizes = size * rng.uniform(0.6, 1.3, count)

    def mask(patch: Patch) -> ndarray:
        cover = np.zeros(len(patch.points))
        for centre, reach in zip(centres, sizes, strict=True):
            cover = np.maximum(cover, (1 - norm(patch.points - centre) / reach) * 6)
        return np.minimum(cover, 1)

    return mask


def grained(paint: Paint, rng: Generator, strength: float, size: float = 0.05) -> Paint:
    """Lightens and darkens a paint by fine noise, as fur, rust and cloth do."""
    fine = noise(rng, size)
    return lambda patch: (paint(patch) * (1 + strength * fine(patch))[:, None]).clip(0, 1)


def texture(
    rng: Generator, colours: Palette, size: float = 1.0, base: Colour | None = None
) -> Paint:
    """A random texture for a part of about ``size``.

    Plain, gradient, stripes, spots, checks or patches, some with grain.
    """
    first = solid(colours.main if base is None else base)
    second = solid(colours.any(rng))
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    kind = rng.choice(
        ["plain", "gradient", "stripes", "rings", "lobes", "spots", "checks", "patches", "facing"],
        p=[0.2, 0.12, 0.12, 0.12, 0.06, 0.14, 0.06, 0.12, 0.06],
    )
    masks: dict[str, Callable[[], Mask]] = {
        "plain": lambda: lambda patch: np.zeros(len(patch.points)),
        "gradient": lambda: _fraction(bool(rng.random() < 0.5)),
        "stripes": lambda: waves(
            height(axis), rng.uniform(1.5, 4) / size, rng.random(), _maybe_warp(rng, size)
        ),
        "rings": lambda: waves(
            lambda patch: patch.along,
            rng.uniform(1.5, 6),
            rng.random(),
            duty=rng.uniform(-0.6, 0.6),
        ),
        "lobes": lambda: waves(lambda patch: patch.around, float(rng.integers(2, 9)), rng.random()),
        "spots": lambda: spots(
            rng, int(rng.integers(20, 60)), size * rng.uniform(0.12, 0.3), size * 1.2
        ),
        "checks": lambda: checks(int(rng.integers(2, 6)), int(rng.integers(2, 6))),
        "patches": lambda: step(
            noise(rng, size * rng.uniform(0.4, 0.9)), rng.uniform(-0.4, 0.6), 0.15
        ),
        "facing": lambda: step(facing(axis), rng.uniform(-0.2, 0.5), 0.1),
    }
    paint = mixed(first, second, masks[kind]())
    return (
        grained(paint, rng, rng.uniform(0.02, 0.12), size * rng.uniform(0.04, 0.2))
        if rng.random() < 0.5
        else paint
    )


def _fraction(along: bool) -> Mask:
    return (lambda patch: patch.along) if along else (lambda patch: 0.5 - 0.5 * patch.normals[:, 1])


def _maybe_warp(rng: Generator, size: float) -> Mask | None:
    return noise(rng, size * 0.6) if rng.random() < 0.6 else None


# --- light ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Light:
    """A far lamp over a sky and a ground, without shadows.

    Attributes:
        direction: towards the lamp, unit.
        lamp, sky, ground: their colours; a white surface that faces lamp and sky has the sum of
            both.
        wrap: 0 for a hard terminator, 1 for light that goes round to the far side.
    """

    direction: Float[ndarray, "3"]
    lamp: Colour
    sky: Colour
    ground: Colour
    wrap: float

    def __call__(
        self, normals: Float[ndarray, "*b 3"], openness: Float[ndarray, "n"]
    ) -> Float[ndarray, "*b 3"]:
        """Returns the light that a white surface shows.

        ``openness`` in [0, 1] is the share of the sky that it sees.
        """
        kind = normals.dtype.type
        x, y, z = (kind(v) for v in self.direction)
        facing = normals[..., 0] * x + normals[..., 1] * y + normals[..., 2] * z
        direct = ((facing + kind(self.wrap)) / kind(1 + self.wrap)).clip(0, None)[..., None]
        up = (kind(0.5) + kind(0.5) * normals[..., 1])[..., None]
        ambient = self.ground.astype(kind) + (self.sky - self.ground).astype(kind) * up
        lit = ambient * openness.astype(kind)[:, None]
        return (
            lit
            + direct
            * self.lamp.astype(kind)
            * (kind(0.4) + kind(0.6) * openness.astype(kind))[:, None]
        )


def random_light(rng: Generator) -> Light:
    """A lamp from above, most often from the front, bright or dim, warm or cool."""
    azimuth, elevation = rng.normal(0, 1.1), rng.uniform(0.25, 1.35)
    direction = np.array(
        [
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
            np.cos(elevation) * np.cos(azimuth),
        ]
    )
    strength = rng.uniform(0.2, 0.75)
    warmth = rng.normal(0, 0.04)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    ambient = rng.uniform(0.95, 1.15) - strength
    return Light(
        direction,
        strength * tint,
        ambient / tint,
        ambient * rng.uniform(0.35, 0.9) * tint,
        rng.uniform(0, 0.8),
    )
