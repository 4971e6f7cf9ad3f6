"""An object on the drawing board.

Parts, bones and deformations, and helpers that limbs, faces and wheels are made with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.random import Generator

from .paint import Colour, Paint, solid
from .rig import Bone, Deform, Turn, Wave
from .surface import Number, Sweep, Vector, curve, superquadric, tube

X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
WHITE, BLACK = np.array([0.97, 0.97, 0.97]), np.array([0.03, 0.03, 0.04])


@dataclass(frozen=True)
class Part:
    """A surface, its colours, and the bones that carry it.

    Attributes:
        surface: in the rest pose.
        paint: its colours.
        bones: that carry it from its lower end to its upper, each an equal share of its height.
        sharp: how suddenly one bone takes over from the next: 1 over the whole share, 3 at a joint.
        soft: how far it follows ripples at its lower and upper end.
        keep: of its rest points, those that are there; None: all.
        inward: whether it is seen from within, as the wall of a hole is.
    """

    surface: Sweep
    paint: Paint
    bones: tuple[int, ...]
    sharp: float = 1.0
    soft: tuple[float, float] = (0.0, 0.0)
    keep: Callable[[Float[ndarray, "n 3"]], Bool[ndarray, "n"]] | None = None
    inward: bool = False


@dataclass(frozen=True)
class Head:
    """An ellipsoid, or a box or drum, with a face; it faces +z.

    Attributes:
        place: its centre in the plan's rest pose.
        size: half its sizes.
        bone: that carries it.
        curved: across x and y, whether its front is round (1) or flat (0).
    """

    place: Float[ndarray, "3"]
    size: Float[ndarray, "3"]
    bone: int
    curved: tuple[float, float] = (1.0, 1.0)


@dataclass
class Plan:
    """The plan of an object; front is +z, up is +y, about one unit large.

    Attributes:
        rng: where all its chance comes from.
        vigour: how much it moves: 0 not at all, 1 as usual.
    """

    rng: Generator
    vigour: float
    parts: list[Part] = field(default_factory=list)
    bones: list[Bone] = field(default_factory=list)
    deforms: list[Deform] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Bone 0 carries everything. Some objects turn and wander as a whole, and some do nothing
        # that comes back in time.
        rng, loose = self.rng, self.rng.random() < 0.4
        self.tempo = rng.uniform(0.5, 1.4) if loose else 1.0
        self.drifting = 0.3 if loose else 0.0
        stage: tuple[Turn, ...] = ()
        if rng.random() < 0.25:
            shape = rng.choice(["sine", "drift", "ease"])
            stage = (
                (
                    Y,
                    self.sway(
                        rng.uniform(0.3, 1.2) * rng.choice([-1, 1]),
                        1.0,
                        rng.uniform(0, 0.3),
                        shape=shape,
                    ),
                ),
            )
        aim = (rng.normal(), 0.0, rng.normal())
        path = (
            (aim, self.sway(rng.uniform(0.03, 0.12), 1.0, shape="drift"))
            if rng.random() < 0.15
            else None
        )
        self.bone((0, 0, 0), *stage, parent=-1, slide=path)

    def bone(
        self,
        joint: Vector,
        *turns: Turn,
        parent: int = 0,
        slide: Turn | None = None,
        grow: Wave | None = None,
    ) -> int:
        """Adds a bone and returns its index."""
        self.bones.append(Bone(parent, np.asarray(joint, float), turns, slide, grow))
        return len(self.bones) - 1

    def add(self, surface: Sweep, paint: Paint | Colour, *bones: int, **how: Any) -> None:
        """Adds a part; ``how`` are further fields of :class:`Part`."""
        self.parts.append(
            Part(surface, solid(paint) if isinstance(paint, ndarray) else paint, bones, **how)
        )

    def chain(
        self,
        line: Sequence[Vector] | Float[ndarray, "k 3"],
        count: int,
        parent: int,
        turns: Callable[[int], tuple[Turn, ...]],
    ) -> list[int]:
        """``count`` bones along a line, each on the one before.

        ``turns`` gives the turns of each.
        """
        joints = curve(line)
        steps = np.sqrt((np.diff(joints, axis=0) ** 2).sum(-1))
        arc = np.concatenate([[0.0], np.cumsum(steps)])
        found = []
        for i in range(count):
            joint = [float(np.interp(arc[-1] * i / count, arc, column)) for column in joints.T]
            parent = self.bone(joint, *turns(i), parent=parent)
            found.append(parent)
        return found

    def sway(
        self, amount: float, cycles: float | None = None, phase: Number | None = None, **how: Any
    ) -> Wave:
        """Returns a wave scaled by the vigour, one or two cycles, at a random phase unless said."""
        rng = self.rng
        if cycles is None:
            cycles = float(rng.integers(1, 3))
        if "shape" not in how and rng.random() < self.drifting:
            how["shape"] = "drift"
        tempo = 1.0 if how.get("shape") == "ease" else self.tempo
        return Wave(
            amount * self.vigour,
            cycles * tempo,
            float(rng.random() if phase is None else phase),
            **how,
        )

    # --- helpers that several families use ---

    def spin(self, turns: float) -> Wave:
        """A steady rotation; slow enough that 16 frames show which way it goes."""
        return Wave(rate=2 * np.pi * turns * min(max(self.vigour, 0.15), 1.5))

    def ball(self, centre: Vector, size: Vector | float, paint: Paint | Colour, bone: int) -> None:
        """An ellipsoid, or a ball where ``size`` is a number."""
        self.add(superquadric(np.ones(3) * np.asarray(size, float)).place(centre), paint, bone)

    def eyes(self, head: Head, colour: Colour, forward: float = 0.8) -> None:
        """Adds two eyes: dots, white with pupils or coloured irises, or lenses."""
        rng = self.rng
        spread, lift = rng.uniform(0.3, 0.6), rng.uniform(0.05, 0.4)
        eye = min(head.size[0], head.size[1]) * rng.uniform(0.14, 0.34)
        style = rng.choice(["dot", "white", "iris", "lens"], p=[0.3, 0.3, 0.28, 0.12])
        reach = eye * rng.uniform(0.2, 2.0)
        rim, glass = (BLACK, colour) if rng.random() < 0.6 else (colour, BLACK)
        flat = np.sqrt(max(0.05, 1 - head.curved[0] * spread**2 - head.curved[1] * lift**2)) * (
            0.9 + 0.1 * forward
        )
        for mirror in (-1, 1):
            centre = head.place + head.size * [mirror * spread, lift, flat]
            out = np.array([0.35 * mirror * spread, 0.1, 1.0])
            if style == "dot":
                self.ball(centre, eye * 0.7, BLACK, head.bone)
            elif style == "lens":
                end = centre + [0, 0, reach]
                self.limb(
                    [centre - [0, 0, eye], end], [eye * 1.3, eye * 1.3], solid(rim), [head.bone]
                )
                self.ball(end, (eye * 0.9, eye * 0.9, eye * 0.3), glass, head.bone)
            else:
                self.ball(centre, eye, WHITE, head.bone)
                if style == "iris":
                    self.ball(centre + out * eye * 0.28, eye * 0.8, colour, head.bone)
                self.ball(centre + out * eye * 0.52, eye * 0.58, BLACK, head.bone)

    def limb(
        self,
        line: Sequence[Vector],
        radii: Sequence[Number],
        paint: Paint,
        bones: Sequence[int],
        **shape: Number,
    ) -> None:
        """A tube with a joint at every change of bone."""
        self.add(tube(line, radii, **shape), paint, *bones, sharp=2.2)  # type: ignore[arg-type]

    def blade(
        self,
        line: Sequence[Vector],
        widths: Sequence[Number] | Float[ndarray, "r"],
        paint: Paint | Colour,
        bones: Sequence[int],
        side: Vector,
        **how: Any,
    ) -> None:
        """A flat part - leaf, ear, wing, fin - whose width runs along ``side``."""
        flat = 0.018 / max(max(widths), 0.02)
        self.add(tube(line, widths, flat=min(flat, 0.6), side=side), paint, *bones, **how)


def turned(*turns: tuple[Vector, float]) -> Float[ndarray, "3 3"]:
    """Returns as rows the images of x, y, z under turns (axis, radians), last applied first."""
    matrix = np.eye(3)
    for axis, angle in turns:
        x, y, z = np.asarray(axis, float) / np.sqrt(np.square(axis).sum())
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        matrix = matrix @ (
            np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
        )
    return matrix.T


def upright(direction: Vector) -> Float[ndarray, "3 3"]:
    """Axes whose y points along a direction."""
    y = np.asarray(direction, float)
    y = y / np.sqrt((y**2).sum())
    helper = np.array(Z if abs(y[2]) < 0.8 else X)
    x = np.cross(y, helper)
    x /= np.sqrt((x**2).sum())
    return np.stack([x, y, np.cross(x, y)])
