"""Animals with more legs than four, or none: fish, snakes, worms, octopuses, spiders."""

from __future__ import annotations

import numpy as np

from .bodies import coat
from .build import BLACK, WHITE, Head, Plan, X, Y, Z
from .paint import facing, mixed, palette, solid, step, texture, waves
from .rig import Wave
from .surface import lathe, superquadric, tube


def crawler(plan: Plan) -> None:
    """Plans an animal with more legs than four, or none.

    Fish, snakes, worms, octopuses, jellyfish, spiders, crabs.
    """
    kind = plan.rng.choice(
        ["fish", "snake", "worm", "octopus", "spider"], p=[0.3, 0.18, 0.14, 0.2, 0.18]
    )
    {"fish": _fish, "snake": _snake, "worm": _worm, "octopus": _octopus, "spider": _spider}[
        str(kind)
    ](plan)


def _fish(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng)
    length, tall, flat = rng.uniform(0.7, 1.2), rng.uniform(0.12, 0.34), rng.uniform(0.3, 0.85)
    skin, fins = coat(plan, colours, length), texture(rng, colours, 0.4, colours.any(rng))
    beats = float(rng.integers(1, 4))
    root = plan.bone(
        (0, 0, 0),
        (Y, plan.sway(0.15, beats, 0.5)),
        (X, plan.sway(0.1, 1.0)),
        slide=(Y, plan.sway(0.05, 1.0)),
    )
    line = [(0, 0, length * 0.5), (0, 0, 0), (0, 0, -length * 0.5)]
    strength = rng.uniform(0.12, 0.4)
    bones = plan.chain(
        line, 5, root, lambda i: ((Y, plan.sway(strength * (0.2 + 0.35 * i), beats, -0.12 * i)),)
    )
    widths = tall * np.array([0.35, rng.uniform(0.8, 1.0), 1.0, rng.uniform(0.6, 0.9), 0.3, 0.15])
    plan.add(tube(line, widths, flat=flat, side=Y), skin, *bones)
    end = np.array(line[2])
    fork = rng.uniform(0.4, 1.3)
    for up in (-1.0, 1.0):
        plan.blade(
            [
                end + [0, 0, 0.04],
                end + [0, up * tall * 0.5, -0.1],
                end + [0, up * tall * fork, -0.25],
            ],
            [0.05, 0.09, 0.02],
            fins,
            [bones[-1]],
            (0, up, 1),
        )
    ridge = rng.uniform(0.1, 0.3)
    back = [
        (0, tall * 0.7, length * 0.2),
        (0, tall * 0.9 + ridge * 0.4, 0),
        (0, tall * 0.8, -length * 0.25),
    ]
    plan.blade(back, [0.03, ridge * 0.7, 0.03], fins, bones[1:4], Y)
    for mirror in (-1.0, 1.0):
        start = np.array([mirror * tall * flat * 0.8, -0.1 * tall, length * 0.22])
        fin = plan.bone(
            start, (Z, plan.sway(0.5, beats)), (Y, plan.sway(0.3, beats)), parent=bones[1]
        )
        plan.blade(
            [start, start + [mirror * 0.12, -0.08, -0.05], start + [mirror * 0.2, -0.12, -0.15]],
            [0.04, 0.07, 0.03],
            fins,
            [fin],
            (0, 0.3, 1),
        )
        eye = start + [0, tall * 0.35, length * 0.14]
        eye[0] = mirror * tall * flat * 0.62
        plan.ball(eye, tall * 0.16, WHITE, bones[0])
        plan.ball(eye + [mirror * tall * 0.08, 0, 0.01], tall * 0.1, BLACK, bones[0])


def _snake(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng, rng.choice(["leaf", "any", "fur"]))
    thick, bends = rng.uniform(0.05, 0.1), rng.uniform(0.08, 0.25)
    z = np.linspace(0.7, -0.7, 13)
    raised = 0.45 * rng.random() * np.clip((z - 0.35) / 0.35, 0, 1) ** 1.5
    line = np.stack([bends * np.sin(6 * z + rng.uniform(0, 6)), raised, z * 0.9], -1)
    cycles = float(rng.integers(1, 3))
    root = plan.bone((0, 0, 0))
    strength = rng.uniform(0.15, 0.4)
    bones = plan.chain(
        line,
        8,
        root,
        lambda i: ((Y, plan.sway(strength, cycles, -i / 8)), (X, plan.sway(0.04, cycles, i / 8))),
    )
    skin = coat(plan, colours, 1.0) if rng.random() < 0.4 else texture(rng, colours, 0.5)
    if rng.random() < 0.5:
        skin = mixed(
            skin,
            solid(colours.accent),
            waves(lambda p: p.along, rng.uniform(4, 10), 0, duty=rng.uniform(-0.2, 0.6)),
        )
    plan.add(tube(line, thick * np.array([0.8, 1.1, 1.1, 1.0, 0.8, 0.25]), side=Y), skin, *bones)
    head, size = line[0] + [0, 0.01, 0.03], thick * np.array([1.35, 0.95, 1.8])
    plan.ball(head, size, skin, bones[0])
    plan.eyes(Head(head, size, bones[0]), colours.accent)


def _worm(plan: Plan) -> None:
    """A row of balls: a caterpillar, or a toy train of beads."""
    rng = plan.rng
    colours = palette(rng)
    count, size = int(rng.integers(4, 9)), rng.uniform(0.1, 0.18)
    z = np.linspace(0.5, -0.5, count)
    cycles = float(rng.integers(1, 3))
    paints = [solid(colours.main), solid(colours.second if rng.random() < 0.7 else colours.accent)]
    pattern = texture(rng, colours, 0.3)
    for i, at in enumerate(z):
        lift = Wave(0.12 * plan.vigour, cycles, -i / count, "hop")
        ball = plan.bone((0, 0, at), (X, plan.sway(0.2, cycles, i / count)), slide=(Y, lift))
        radius = size * (1.15 if i == 0 else rng.uniform(0.85, 1.05))
        plan.ball(
            (0, 0, at),
            (radius, radius, radius * 1.05),
            pattern if count < 6 else paints[i % 2],
            ball,
        )
        for mirror in (-1.0, 1.0):
            if i:
                plan.ball(
                    (mirror * radius * 0.6, -radius * 0.85, at),
                    (0.035, 0.05, 0.035),
                    colours.dark,
                    ball,
                )
            else:
                top = np.array([mirror * 0.5 * radius, radius * 0.8, at])
                plan.limb(
                    [top, top + [mirror * 0.05, 0.14, 0.05]],
                    [0.015, 0.015],
                    solid(colours.dark),
                    [ball],
                )
                plan.ball(top + [mirror * 0.05, 0.14, 0.05], 0.03, colours.accent, ball)
        if i == 0:
            plan.eyes(Head(np.array([0, 0, at]), np.full(3, radius), ball), colours.accent)


def _octopus(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng)
    arms, radius, tall = int(rng.integers(5, 9)), rng.uniform(0.18, 0.28), rng.uniform(0.18, 0.36)
    cycles = float(rng.integers(1, 3))
    root = plan.bone(
        (0, 0, 0),
        (X, plan.sway(0.1)),
        (Z, plan.sway(0.1)),
        slide=(Y, plan.sway(0.1, cycles)),
        grow=plan.sway(0.06, cycles, 0.3),
    )
    skin = coat(plan, colours, 0.6)
    bell = rng.random() < 0.4
    dome = (
        lathe(
            [
                (0, -0.02),
                (radius, -0.06),
                (radius * 1.05, 0.05),
                (radius * 0.75, tall * 0.7),
                (0, tall),
            ]
        )
        if bell
        else None
    )
    plan.add((dome or superquadric((radius, tall, radius))).place((0, tall * 0.5, 0)), skin, root)
    if not bell:
        plan.eyes(
            Head(np.array([0, tall * 0.5, 0]), np.array([radius, tall * 0.9, radius]), root),
            colours.accent,
        )
    far, drop, thick = rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.6), rng.uniform(0.03, 0.07)
    curl, lag = rng.uniform(0.2, 0.45), rng.uniform(0.08, 0.2)
    under = mixed(skin, solid(colours.light), step(facing((0, -1, 0)), 0.3, 0.2))
    for k in range(arms):
        angle = 2 * np.pi * (k + 0.5) / arms
        out, across = (
            np.array([np.sin(angle), 0, np.cos(angle)]),
            (np.cos(angle), 0.0, -np.sin(angle)),
        )
        start = out * radius * 0.7 + [0, tall * 0.15, 0]
        line = [
            start,
            start + out * far * 0.5 - [0, drop * 0.6, 0],
            start + out * far - [0, drop, 0],
        ]
        phase = float(rng.random()) if rng.random() < 0.3 else 0.0
        bones = plan.chain(
            line,
            4,
            root,
            lambda i, p=phase, a=across: (
                (a, plan.sway(curl, cycles, p - lag * i)),
                (Y, plan.sway(0.12, cycles, p)),
            ),
        )
        plan.add(tube(line, [thick, thick * 0.8, thick * 0.25]), under, *bones)


def _spider(plan: Plan) -> None:
    """Spiders, crabs, beetles and walking machines."""
    rng = plan.rng
    colours = palette(rng)
    legs = int(rng.integers(3, 5))
    size = np.array([rng.uniform(0.14, 0.3), rng.uniform(0.08, 0.18), rng.uniform(0.15, 0.32)])
    skin = texture(rng, colours, 0.5) if rng.random() < 0.6 else coat(plan, colours, 0.6)
    cycles = float(rng.integers(1, 4))
    root = plan.bone(
        (0, 0, 0),
        (Z, plan.sway(0.06, cycles)),
        (X, plan.sway(0.05)),
        slide=(Y, plan.sway(0.04, 2 * cycles)),
    )
    plan.ball((0, 0, 0), size, skin, root)
    front = size * rng.uniform(0.4, 0.8)
    plan.ball((0, 0, size[2] + front[2] * 0.3), front, solid(colours.second), root)
    plan.eyes(Head(np.array([0, 0.02, size[2] + front[2] * 0.3]), front, root), colours.accent)
    far, tall, thick = rng.uniform(0.25, 0.5), rng.uniform(0.08, 0.3), rng.uniform(0.018, 0.04)
    paint = (
        mixed(solid(colours.dark), solid(colours.accent), waves(lambda p: p.along, 2.0))
        if rng.random() < 0.4
        else solid(colours.dark)
    )
    for mirror in (-1.0, 1.0):
        for k in range(legs):
            aim = (k / (legs - 1) - 0.5) * 1.6
            out = np.array([mirror * np.cos(aim), 0, np.sin(aim)])
            start = out * [size[0] * 0.85, 0, size[2] * 0.8]
            knee, foot = (
                start + out * far * 0.5 + [0, tall, 0],
                start + out * far - [0, size[1] + 0.1, 0],
            )
            phase = 0.5 * (k % 2) + (0.5 if mirror > 0 else 0)
            hip = plan.bone(
                start,
                (Y, plan.sway(0.35, cycles, phase)),
                (Z, plan.sway(mirror * 0.3, cycles, phase + 0.25, shape="pulse")),
                parent=root,
            )
            shin = plan.bone(knee, (Z, plan.sway(mirror * 0.3, cycles, phase + 0.1)), parent=hip)
            plan.limb([foot, knee, start], [thick * 0.5, thick, thick], paint, [shin, hip])
        if rng.random() < 0.5:
            start = np.array([mirror * size[0] * 0.6, 0, size[2] * 0.8])
            claw = plan.bone(start, (Y, plan.sway(mirror * 0.4)), (X, plan.sway(0.3)), parent=root)
            plan.limb(
                [start, start + [mirror * 0.15, 0.02, 0.12], start + [mirror * 0.1, 0.04, 0.28]],
                [thick, thick, thick * 2.6, thick * 2],
                skin,
                [claw],
            )
