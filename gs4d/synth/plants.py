"""Flowers, trees, mushrooms and cacti."""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from .build import Plan, X, Y, Z, upright
from .paint import Paint, Palette, grained, hsv, mixed, palette, solid, span, texture, waves
from .rig import Deform, Wave
from .surface import lathe, superquadric, tube


def plant(plan: Plan) -> None:
    """Flowers, trees, mushrooms and cacti, many of them in pots."""
    kind = plan.rng.choice(["flower", "tree", "mushroom", "cactus"], p=[0.4, 0.28, 0.16, 0.16])
    root = plan.bone((0, 0, 0))
    if kind != "mushroom" and plan.rng.random() < 0.5:
        _pot(plan, root)
    {"flower": _flower, "tree": _tree, "mushroom": _mushroom, "cactus": _cactus}[str(kind)](
        plan, root
    )
    if plan.rng.random() < 0.3:
        plan.deforms.append(
            Deform(
                "bend", plan.sway(0.35), Y, (np.cos(a := plan.rng.uniform(0, 6.3)), 0.0, np.sin(a))
            )
        )


def _pot(plan: Plan, root: int) -> None:
    rng = plan.rng
    wide, tall, foot = rng.uniform(0.14, 0.26), rng.uniform(0.15, 0.3), rng.uniform(0.55, 1.0)
    colours = palette(rng)
    profile = [
        (0, -tall),
        (wide * foot, -tall),
        (wide, -0.04),
        (wide * 1.12, -0.04),
        (wide * 1.12, 0.03),
        (wide * 0.95, 0.03),
        (wide * 0.9, -0.03),
    ]
    clay = texture(rng, colours, 0.4, hsv(0.05, 0.6, 0.75) if rng.random() < 0.4 else colours.main)
    plan.add(lathe(profile), clay, root)
    plan.add(
        lathe([(0, -0.06), (wide * 0.95, -0.05), (0, -0.01)]),
        grained(solid(hsv(0.07, 0.6, 0.25)), rng, 0.15, 0.03),
        root,
    )


def _stem(
    plan: Plan, root: int, tall: float, bow: float, joints: int = 5
) -> tuple[ndarray, list[int]]:
    """A line that rises from the origin, and swaying bones along it."""
    rng = plan.rng
    angle = rng.uniform(0, 2 * np.pi)
    out = np.array([np.cos(angle), 0, np.sin(angle)]) * bow
    line = np.array([np.zeros(3), out * 0.3 + [0, tall * 0.5, 0], out + [0, tall, 0]])
    strength = rng.uniform(0.04, 0.16)
    bones = plan.chain(
        line,
        joints,
        root,
        lambda i: (
            (X, plan.sway(strength, 1.0, -0.05 * i)),
            (Z, plan.sway(strength, 1.0, 0.3 - 0.05 * i)),
        ),
    )
    return line, bones


def _leaf(plan: Plan, start: ndarray, angle: float, size: float, paint: Paint, bone: int) -> None:
    rng = plan.rng
    out, across = np.array([np.sin(angle), 0, np.cos(angle)]), (np.cos(angle), 0.0, -np.sin(angle))
    rise, wide = rng.uniform(0.1, 0.7), rng.uniform(0.16, 0.34)
    line = [
        start,
        start + size * (0.5 * out + [0, rise * 0.7, 0]),
        start + size * (out + [0, rise - 0.5, 0]),
    ]
    joint = plan.bone(
        start, (across, plan.sway(0.3, None, angle)), (Y, plan.sway(0.2)), parent=bone
    )
    plan.blade(
        line,
        [0.015, size * wide * 0.8, size * wide, size * wide * 0.6, 0.005],
        paint,
        [joint],
        across,
    )


def _flower(plan: Plan, root: int) -> None:
    rng = plan.rng
    green, bloom = palette(rng, "leaf"), palette(rng, rng.choice(["vivid", "pastel"]))
    for stalk in range(1 if rng.random() < 0.6 else int(rng.integers(2, 4))):
        tall = rng.uniform(0.4, 0.8) * (1 - 0.2 * stalk)
        line, bones = _stem(plan, root, tall, rng.uniform(0.02, 0.35))
        plan.add(tube(line, [0.024, 0.016]), solid(green.main), *bones)
        leaf = mixed(
            solid(green.second), solid(green.main), waves(lambda p: p.along, rng.uniform(2, 6))
        )
        for k in range(int(rng.integers(1, 5))):
            share = rng.uniform(0.1, 0.75)
            spot = (
                (1 - share) ** 2 * line[0] + 2 * share * (1 - share) * line[1] + share**2 * line[2]
            )
            _leaf(
                plan,
                spot,
                2.4 * k + rng.uniform(0, 1),
                rng.uniform(0.15, 0.35),
                leaf,
                bones[int(share * len(bones))],
            )
        _bloom(plan, line, rng, bones, bloom)


def _bloom(plan: Plan, line: ndarray, rng: Generator, bones: list[int], bloom: Palette) -> None:
    """Adds a flower's head with its petals."""
    tip = line[2]
    lean = np.array([rng.normal(0, 0.3), 1, rng.uniform(0, 1.2)])
    up = upright(lean)[1]
    side = upright(lean)[0]
    other = np.cross(side, up)
    head = plan.bone(tip, (X, plan.sway(0.2)), (Z, plan.sway(0.2)), parent=bones[-1])
    heart = rng.uniform(0.03, 0.1)
    plan.add(
        superquadric((heart, heart * 0.5, heart)).place(tip + up * 0.02, upright(lean)),
        solid(bloom.accent),
        head,
    )
    petals, length, wide = (
        int(rng.integers(4, 12)),
        rng.uniform(0.12, 0.3),
        rng.uniform(0.6, 1.25),
    )
    opening = (
        Wave(rng.uniform(0.4, 1.1) * plan.vigour, rng.uniform(1.0, 1.6), 0.0, "ease")
        if rng.random() < 0.5
        else plan.sway(0.15, 1.0)
    )
    petal = (
        mixed(solid(bloom.main), solid(bloom.second), span(0.55, 1.0))
        if rng.random() < 0.5
        else texture(rng, bloom, 0.2)
    )
    closed = rng.uniform(0.2, 1.1)
    for layer in range(1 if rng.random() < 0.6 else 2):
        for k in range(petals):
            angle = 2 * np.pi * (k + 0.5 * layer) / petals
            out = np.cos(angle) * side + np.sin(angle) * other
            across = np.cross(up, out)
            reach = length * (1 - 0.25 * layer)
            steep = closed + 0.35 * layer
            path = [
                tip + out * heart * 0.7,
                tip + reach * (0.6 * out + 0.5 * steep * up),
                tip + reach * (out * 1.1 + 0.7 * steep * up),
            ]
            broad = wide * reach * np.pi / petals
            bone = plan.bone(path[0], (-across, opening), parent=head)
            plan.blade(path, [broad * 0.3, broad, broad * 1.1, broad * 0.3], petal, [bone], across)


def _tree(plan: Plan, root: int) -> None:
    rng = plan.rng
    green, bark = (
        palette(rng, rng.choice(["leaf", "leaf", "any"])),
        grained(
            solid(hsv(rng.uniform(0.04, 0.1), rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.55))),
            rng,
            0.15,
            0.06,
        ),
    )
    tall = rng.uniform(0.35, 0.7)
    line, bones = _stem(plan, root, tall, rng.uniform(0.0, 0.15), 4)
    trunk = rng.uniform(0.03, 0.08)
    plan.add(tube(line, [trunk * 1.3, trunk, trunk * 0.7]), bark, *bones)
    style = rng.choice(["round", "fir", "palm"], p=[0.5, 0.25, 0.25])
    crown = grained(texture(rng, green, 0.3), rng, 0.18, 0.05)
    if style == "fir":
        _tiers(plan, rng, tall, bones, line, crown)
        return
    count = int(rng.integers(5, 9))
    if style == "palm":
        leaf = mixed(solid(green.main), solid(green.second), waves(lambda p: p.along, 7.0))
        for k in range(count):
            _leaf(
                plan,
                line[2],
                2 * np.pi * k / count + rng.uniform(-0.2, 0.2),
                rng.uniform(0.35, 0.55),
                leaf,
                bones[-1],
            )
        for k in range(int(rng.integers(0, 4))):
            plan.ball(
                line[2] + [0.05 * np.cos(2.1 * k), -0.05, 0.05 * np.sin(2.1 * k)],
                0.045,
                hsv(0.07, 0.6, 0.35),
                bones[-1],
            )
        return
    for _ in range(count):
        aim = rng.normal(size=3) * [1, 0.6, 1]
        aim = aim / np.linalg.norm(aim) * rng.uniform(0.1, 0.28)
        end = line[2] + aim + [0, 0.1, 0]
        branch = plan.bone(line[2], (X, plan.sway(0.12)), (Z, plan.sway(0.12)), parent=bones[-1])
        plan.limb([line[2] - [0, 0.1, 0], end], [trunk * 0.6, trunk * 0.3], bark, [branch])
        size = rng.uniform(0.11, 0.22)
        plan.ball(end, (size, size * rng.uniform(0.7, 1.0), size), crown, branch)
        if rng.random() < 0.3:
            plan.ball(end + aim / np.linalg.norm(aim) * size, 0.035, green.accent, branch)


def _tiers(
    plan: Plan, rng: Generator, tall: float, bones: list[int], line: ndarray, crown: Paint
) -> None:
    """Adds the tiers of a fir."""
    for k in range(layers := int(rng.integers(2, 5))):
        wide, low = (
            rng.uniform(0.26, 0.4) * (1 - 0.22 * k),
            tall * (0.4 + 0.35 * k / layers) + 0.16 * k,
        )
        tier = plan.bone(
            (0, low, 0), (X, plan.sway(0.07)), (Z, plan.sway(0.07)), parent=bones[min(k + 1, 3)]
        )
        cone = lathe(
            [(0, 0), (wide, 0), (wide * 0.4, 0.18), (0.01, 0.36)],
            teeth=int(rng.integers(6, 12)),
            tooth=0.07,
        )
        plan.add(cone.place(line[2] * [1, 0, 1] + [0, low, 0]), crown, tier)


def _mushroom(plan: Plan, root: int) -> None:
    rng = plan.rng
    colours = palette(rng, rng.choice(["vivid", "fur"]))
    cap_paint = texture(rng, colours, 0.35)
    for k in range(int(rng.integers(1, 4))):
        tall, wide = (
            rng.uniform(0.25, 0.6) * (1 - 0.25 * k),
            rng.uniform(0.16, 0.36) * (1 - 0.2 * k),
        )
        foot = np.array([0.28 * np.cos(2.2 * k), 0, 0.28 * np.sin(2.2 * k)]) * (k > 0)
        line = [foot, foot + [0, tall, 0]]
        bones = plan.chain(line, 3, root, lambda i: ((X, plan.sway(0.12)), (Z, plan.sway(0.12))))
        stalk = rng.uniform(0.045, 0.1)
        plan.add(
            tube(line, [stalk * 1.3, stalk, stalk * 0.9]),
            grained(solid(colours.light), rng, 0.05),
            *bones,
        )
        dome = rng.uniform(0.5, 1.3)
        profile = np.array(
            [(stalk / wide, 0), (0.9, -0.12), (1.0, 0), (0.8, 0.45), (0.4, 0.72), (0, 0.8)]
        ) * [wide, wide * dome]
        cap = plan.bone(
            foot + [0, tall, 0], (X, plan.sway(0.15)), grow=plan.sway(0.08), parent=bones[-1]
        )
        plan.add(lathe(profile).place(foot + [0, tall, 0]), cap_paint, cap)


def _cactus(plan: Plan, root: int) -> None:
    rng = plan.rng
    colours = palette(rng, "leaf")
    ribs = int(rng.integers(6, 14))
    paint = mixed(
        solid(colours.main), solid(colours.second), waves(lambda p: p.around, float(ribs))
    )
    tall, wide = rng.uniform(0.4, 0.8), rng.uniform(0.08, 0.18)
    line = [np.zeros(3), np.array([0, tall, 0])]
    bones = plan.chain(line, 4, root, lambda i: ((X, plan.sway(0.08)), (Z, plan.sway(0.1))))
    plan.add(tube(line, [wide * 0.9, wide, wide * 0.85]), paint, *bones)
    for mirror in (-1.0, 1.0)[: int(rng.integers(0, 3))]:
        low, far, high = (
            rng.uniform(0.3, 0.6) * tall,
            wide + rng.uniform(0.08, 0.16),
            rng.uniform(0.1, 0.3),
        )
        arm = [
            np.array([0, low, 0]),
            np.array([mirror * far, low + 0.03, 0]),
            np.array([mirror * far * 1.1, low + high, 0]),
        ]
        joint = plan.bone(arm[0], (Z, plan.sway(0.25)), (Y, plan.sway(0.2)), parent=bones[1])
        plan.add(tube(arm, wide * 0.55), paint, joint)
    if rng.random() < 0.6:
        plan.ball(
            (0, tall + wide, 0), wide * 0.45, hsv(rng.uniform(0.85, 1.05), 0.7, 0.95), bones[-1]
        )
