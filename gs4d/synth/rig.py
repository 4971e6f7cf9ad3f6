"""Motion of objects: bones that turn, slide and grow, and deformations of all of space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from .surface import Vector, dot


@dataclass(frozen=True)
class Wave:
    """A number that changes with time: ``offset + rate t + amount * shape``.

    Attributes:
        amount: amplitude.
        cycles: per unit of time; whole numbers come back to where they began.
        phase: in cycles.
        shape: "sine"; "hop", its absolute value; "pulse", its positive half; "drift", two sines
            that never meet again; "ease", one smooth step from 0 to 1 that begins at time ``phase``
            and takes 1 / ``cycles``.
        offset: added always.
        rate: added per unit of time.
    """

    amount: float = 0.0
    cycles: float = 1.0
    phase: float = 0.0
    shape: Literal["sine", "hop", "pulse", "drift", "ease"] = "sine"
    offset: float = 0.0
    rate: float = 0.0

    def __call__(self, t: Float[ndarray, "t"]) -> Float[ndarray, "t"]:
        if self.shape == "ease":
            x = ((t - self.phase) * self.cycles).clip(0, 1)
            value = x * x * (3 - 2 * x)
        elif self.shape == "hop":
            value = np.abs(np.sin(np.pi * (self.cycles * t + self.phase)))
        else:
            angle = 2 * np.pi * (self.cycles * t + self.phase)
            value = np.sin(angle)
            if self.shape == "pulse":
                value = np.maximum(value, 0) ** 1.5  # without the kink
            elif self.shape == "drift":
                value = 0.6 * np.sin(0.62 * angle) + 0.4 * np.sin(1.37 * angle + 1.0)
        return self.offset + self.rate * t + self.amount * value


Turn = tuple[Vector, Wave]  # axis through the bone's joint, and the angle in radians


@dataclass(frozen=True)
class Bone:
    """A joint and all that hangs on it.

    Attributes:
        parent: index of an earlier bone, -1 for none.
        joint: where it turns, in the rest pose.
        turns: applied from the last to the first.
        slide: direction and distance.
        grow: scale minus 1, about the joint.
    """

    parent: int
    joint: Float[ndarray, "3"]
    turns: tuple[Turn, ...] = ()
    slide: Turn | None = None
    grow: Wave | None = None


def pose(bones: Sequence[Bone], times: Float[ndarray, "t"]) -> Float[ndarray, "t b 3 4"]:
    """Returns what every bone does to the points of the rest pose, at some times."""
    turns = [turn for bone in bones for turn in bone.turns]
    rotations = (
        iter(_rotations([a for a, _ in turns], np.stack([w(times) for _, w in turns])))
        if turns
        else iter(())
    )
    result = np.empty((len(bones), len(times), 3, 4))
    identity = np.broadcast_to(np.eye(3, 4), (len(times), 3, 4))
    for i, bone in enumerate(bones):
        base = identity if bone.parent < 0 else result[bone.parent]
        linear = np.broadcast_to(np.eye(3), (len(times), 3, 3))
        for _ in bone.turns:
            linear = linear @ next(rotations)
        if bone.grow is not None:
            linear = linear * (1 + bone.grow(times))[:, None, None]
        shift = bone.joint - linear @ bone.joint
        if bone.slide is not None:
            shift = shift + np.asarray(bone.slide[0], float) * bone.slide[1](times)[:, None]
        result[i, :, :, :3] = base[:, :, :3] @ linear
        result[i, :, :, 3] = (base[:, :, :3] @ shift[:, :, None])[:, :, 0] + base[:, :, 3]
    return result.transpose(1, 0, 2, 3)


def _rotations(axes: Sequence[Vector], angles: Float[ndarray, "m t"]) -> Float[ndarray, "m t 3 3"]:
    """Rodrigues' formula."""
    unit = np.asarray(axes, float)
    unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
    zero = np.zeros(len(unit))
    x, y, z = unit.T
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 1, 3, 3)
    sin, cos = np.sin(angles)[..., None, None], np.cos(angles)[..., None, None]
    return np.eye(3) + sin * cross + (1 - cos) * (cross @ cross)


@dataclass(frozen=True)
class Deform:
    """Bends all of space, or the parts that are soft, over time.

    Attributes:
        kind: "squash" along ``axis``, which keeps the volume; "twist" about it; "bend" of it
            towards ``towards``; "ripple", a wave that runs along ``axis`` and pushes towards
            ``towards``, soft parts only.
        wave: how much: a logarithm of scale, radians per unit of length, curvature, or a distance.
        axis: unit vector.
        towards: unit vector across ``axis``.
        wavelength: of the ripple.
        cycles: of the ripple, per unit of time.
    """

    kind: Literal["squash", "twist", "bend", "ripple"]
    wave: Wave
    axis: Vector = (0.0, 1.0, 0.0)
    towards: Vector = (1.0, 0.0, 0.0)
    wavelength: float = 1.0
    cycles: float = 1.0

    def __call__(
        self, points: Float[ndarray, "t n 3"], soft: Float[ndarray, "n"], times: Float[ndarray, "t"]
    ) -> Float[ndarray, "t n 3"]:
        """Where the points go; ``soft`` in [0, 1] says how far each follows a ripple."""
        kind = points.dtype
        amount = self.wave(times).astype(kind)[:, None]
        axis, towards = (np.asarray(v, kind) for v in (self.axis, self.towards))
        height = dot(points, axis)
        if self.kind == "ripple":
            angle = (2 * np.pi * (height / self.wavelength - self.cycles * times[:, None])).astype(
                kind
            )
            return points + (amount * soft.astype(kind) * np.sin(angle))[..., None] * towards
        if self.kind == "squash":
            stretch = np.exp(amount)
            thin = 1 / np.sqrt(stretch)
            return points * thin[..., None] + (height * (stretch - thin))[..., None] * axis
        third = np.cross(axis, towards)
        a, b = dot(points, towards), dot(points, third)
        angle = amount * height
        sin, cos = np.sin(angle), np.cos(angle)
        if self.kind == "twist":
            a, b = a * cos - b * sin, a * sin + b * cos
        else:
            # The axis becomes an arc of a circle; sin(x)/x is smooth where it is straight.
            arc = height * np.sinc(angle / np.pi)
            fall = height * angle / 2 * np.sinc(angle / (2 * np.pi)) ** 2
            height, a = arc - a * sin, fall + a * cos
        return a[..., None] * towards + b[..., None] * third + height[..., None] * axis
