"""Shared parts of animals and characters: coats, faces and ears."""

from __future__ import annotations

import numpy as np

from .build import BLACK, Head, Plan, X, Y, Z
from .paint import Paint, Palette, facing, grained, mixed, noise, solid, spots, step, waves
from .rig import Wave


def coat(plan: Plan, colours: Palette, size: float) -> Paint:
    """Fur, scales or skin for a whole body.

    Patches, spots or stripes in space, often with another belly.
    """
    rng = plan.rng
    base, other = solid(colours.main), solid(colours.second if rng.random() < 0.6 else colours.dark)
    kind = rng.choice(
        ["plain", "patches", "spots", "stripes", "back"], p=[0.25, 0.2, 0.2, 0.2, 0.15]
    )
    if kind == "patches":
        base = mixed(
            base,
            other,
            step(noise(rng, size * rng.uniform(0.25, 0.5)), rng.uniform(-0.2, 0.7), 0.15),
        )
    elif kind == "spots":
        base = mixed(
            base, other, spots(rng, int(rng.integers(60, 160)), size * rng.uniform(0.05, 0.1), 0.9)
        )
    elif kind == "stripes":
        warp = noise(rng, size * 0.4)
        base = mixed(
            base,
            other,
            waves(
                lambda p: p.points[:, 2] / size,
                rng.uniform(2.5, 5),
                0.0,
                warp,
                rng.uniform(-0.3, 0.5),
            ),
        )
    elif kind == "back":
        base = mixed(base, other, step(facing(Y), rng.uniform(0.1, 0.6), 0.4))
    if rng.random() < 0.5:
        base = mixed(
            base, solid(colours.light), step(facing((0.0, -1.0, 0.2)), rng.uniform(0.3, 0.6), 0.3)
        )
    return grained(base, rng, rng.uniform(0.02, 0.08), size * 0.06)


def face(plan: Plan, head: Head, colours: Palette, skin: Paint, snout: float) -> None:
    """Eyes, and a muzzle with a nose that stands out by ``snout``; a mouth where there is none."""
    rng, size = plan.rng, head.size
    plan.eyes(head, colours.accent)
    if snout > 0:
        width = rng.uniform(0.35, 0.65)
        reach = size[2] * (0.75 + snout)
        muzzle = head.place + [0, -size[1] * rng.uniform(0.15, 0.35), reach * 0.6]
        fur = skin if rng.random() < 0.5 else solid(colours.light)
        plan.ball(muzzle, (size[0] * width, size[1] * width * 0.8, reach * 0.55), fur, head.bone)
        nose = size[0] * rng.uniform(0.12, 0.22)
        plan.ball(
            muzzle + [0, size[1] * width * 0.35, reach * 0.5],
            (nose, nose * 0.8, nose * 0.7),
            BLACK,
            head.bone,
        )
    elif rng.random() < 0.7:
        mouth = rng.uniform(0.15, 0.4)
        open_ = rng.uniform(0.04, 0.2)
        colour = np.array([0.45, 0.08, 0.1]) if open_ > 0.1 else BLACK
        place = head.place + size * [0, -0.4, 0.855 if head.curved[1] else 0.97]
        plan.ball(place, size * [mouth, open_, 0.1], colour, head.bone)


def ears(plan: Plan, head: Head, skin: Paint, colours: Palette) -> None:
    """A pair of ears or horns, or nothing."""
    rng, size = plan.rng, head.size
    kind = rng.choice(
        ["pointed", "round", "long", "horns", "none"], p=[0.3, 0.22, 0.18, 0.15, 0.15]
    )
    if kind == "none":
        return
    spread = rng.uniform(0.35, 0.8)
    length = (
        size[1]
        * {
            "pointed": rng.uniform(0.6, 1.2),
            "round": 0.6,
            "long": rng.uniform(1.2, 2.4),
            "horns": rng.uniform(0.5, 1.4),
        }[kind]
    )
    droop = rng.uniform(-0.9, 0.5) if kind == "long" else rng.uniform(0.3, 1.0)
    wag = plan.sway(0.25)
    for mirror in (-1.0, 1.0):
        foot = head.place + size * [mirror * spread, 0.75 * np.sqrt(1 - spread**2) + 0.1, -0.1]
        tip = foot + length * np.array([mirror * (1.1 - abs(droop)), droop, -0.1])
        middle = (foot + tip) / 2 + length * np.array([mirror * 0.12, 0.12, 0])
        ear = plan.bone(
            foot, (Z, Wave(mirror * wag.amount, wag.cycles, wag.phase)), parent=head.bone
        )
        if kind == "horns":
            plan.limb(
                [foot, middle, tip],
                [0.16 * length, 0.1 * length, 0.01],
                solid(colours.light),
                [ear],
            )
        elif kind == "round":
            plan.ball(
                foot + [mirror * 0.2 * length, 0.2 * length, 0],
                (length * 0.5, length * 0.5, length * 0.18),
                skin,
                ear,
            )
        else:
            width = length * (0.36 if kind == "pointed" else 0.2)
            inner = mixed(skin, solid(colours.second), step(facing(Z), 0.5, 0.2))
            plan.blade(
                [foot, middle, tip], [width * 0.8, width, width * 0.5, 0.005], inner, [ear], X
            )
