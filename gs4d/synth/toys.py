"""Toys put together from random solids, and soft things that wobble."""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from scipy.interpolate import PchipInterpolator

from .build import BLACK, Head, Plan, X, Y, Z, turned
from .paint import Paint, Palette, grained, mixed, palette, solid, texture, waves
from .rig import Deform, Wave
from .surface import Sweep, lathe, norm, ring, superquadric, tube


def _random_solid(plan: Plan, size: float) -> Sweep:
    """Any of the primitives, about ``size`` in radius, its axis along y."""
    rng = plan.rng
    kind = rng.choice(
        ["quadric", "box", "cylinder", "cone", "torus", "lathe", "gear", "bowl"],
        p=[0.22, 0.14, 0.14, 0.1, 0.12, 0.14, 0.07, 0.07],
    )
    x, y, z = size * rng.uniform(0.45, 1.1, 3)
    if kind == "quadric":
        return superquadric((x, y, z), *rng.uniform(0.3, 1.8, 2))
    if kind == "box":
        return superquadric((x, y, z), 0.1, 0.1)
    if kind == "cylinder":
        return superquadric((x, y, x), 0.1, 1.0)
    if kind == "cone":
        return lathe(
            [(0, -y), (x, -y), (x * rng.uniform(0, 0.5), y), (0, y)],
            exponent=rng.choice([0.15, 1.0]),
        )
    if kind == "torus":
        return ring(size * 0.75, size * rng.uniform(0.15, 0.35), rng.choice([0.3, 1.0]))
    if kind == "gear":
        return lathe(
            [(0, -y * 0.4), (x, -y * 0.4), (x, y * 0.4), (0, y * 0.4)],
            teeth=int(rng.integers(5, 12)),
            tooth=0.12,
        )
    if kind == "bowl":
        return lathe(
            [
                (0, -y),
                (x * 0.7, -y * 0.7),
                (x, y * 0.4),
                (x * 0.88, y * 0.4),
                (x * 0.6, -y * 0.5),
                (0, -y * 0.8),
            ]
        )
    radii = np.concatenate([[0], size * rng.uniform(0.2, 1.0, int(rng.integers(2, 6))), [0]])
    heights = np.linspace(-y, y, len(radii))
    bulges = (
        [(float(np.interp(h, heights, radii)), h) for h in heights]
        if rng.random() < 0.4
        else _smooth(radii, heights)
    )
    return lathe(bulges, exponent=rng.choice([1.0, 0.3]))


def _smooth(radii: ndarray, heights: ndarray) -> list[tuple[float, float]]:
    h = np.linspace(heights[0], heights[-1], 33)
    return list(zip(PchipInterpolator(heights, radii)(h).clip(0, None), h, strict=True))


def toy(plan: Plan) -> None:
    """Solids put together at random, some bitten into, some mirrored.

    Parts spin, swing and slide, the whole bends.
    """
    rng = plan.rng
    colours = palette(rng)
    root = plan.bone(
        (0, 0, 0),
        (Y, plan.spin(rng.uniform(-0.4, 0.4)) if rng.random() < 0.3 else plan.sway(0.3)),
        (X, plan.sway(0.12)),
        (Z, plan.sway(0.12)),
    )
    if rng.random() < 0.25:
        _stack(plan, root, colours)
    else:
        _cluster(plan, root, colours)
    kinds = rng.choice(["squash", "twist", "bend", "none"], size=int(rng.integers(1, 3)))
    for kind in kinds:
        axis, towards = (Y, X) if rng.random() < 0.7 else (X, Y)
        if kind == "squash":
            plan.deforms.append(Deform("squash", plan.sway(rng.uniform(0.1, 0.4)), axis))
        elif kind in ("twist", "bend"):
            strength = rng.uniform(0.4, 1.4)
            shape = rng.choice(["sine", "drift", "ease"])
            wave = (
                plan.sway(strength, offset=rng.uniform(-0.5, 0.5) * strength, shape=shape)
                if shape != "ease"
                else plan.sway(strength, 1.4, 0.1, shape="ease")
            )
            plan.deforms.append(Deform(str(kind), wave, axis, towards))  # type: ignore[arg-type]


def _cluster(plan: Plan, root: int, colours: Palette) -> None:
    rng = plan.rng
    placed: list[tuple[ndarray, float, int]] = []
    for i in range(int(rng.integers(2, 8))):
        size = rng.uniform(0.25, 0.4) if i == 0 else rng.uniform(0.1, 0.3)
        shape = _random_solid(plan, size)
        paint = texture(
            rng, colours if rng.random() < 0.7 else palette(rng), size * 1.6, colours.any(rng)
        )
        axes = (
            turned((X, rng.uniform(-1, 1)), (Z, rng.uniform(-1, 1)), (Y, rng.uniform(0, 6)))
            if rng.random() < 0.6
            else np.eye(3)
        )
        if i == 0:
            _carved(plan, shape, axes, size, paint, root, colours)
            placed.append((np.zeros(3), size, root))
            continue
        base, reach, parent = (
            placed[int(rng.integers(len(placed)))] if rng.random() < 0.5 else placed[0]
        )
        aim = rng.normal(size=3)
        aim /= np.linalg.norm(aim)
        mirrored = rng.random() < 0.45
        if mirrored:
            aim[0] = abs(aim[0]) * 0.7 + 0.3
            aim /= np.linalg.norm(aim)
        at = base + aim * (reach * 0.75 + size * 0.55)
        axis = rng.normal(size=3) if rng.random() < 0.5 else aim
        act = rng.choice(["swing", "spin", "slide", "grow", "still"], p=[0.35, 0.2, 0.2, 0.1, 0.15])
        phase, turns = float(rng.random()), float(rng.integers(1, 3))
        for mirror in (1.0, -1.0) if mirrored else (1.0,):
            flip = np.array([mirror, 1, 1])
            joint = (base + aim * reach * 0.7) * flip
            swing = Wave(mirror * plan.vigour * 0.6, turns, phase) if act == "swing" else None
            turn = swing or (
                Wave(rate=mirror * 2 * np.pi * min(plan.vigour, 1.2)) if act == "spin" else None
            )
            slide = (
                (tuple(aim * flip), Wave(size * 0.5 * plan.vigour, turns, phase, "hop"))
                if act == "slide"
                else None
            )
            bone = plan.bone(
                joint,
                *(((tuple(axis * flip), turn),) if turn else ()),
                parent=parent,
                slide=slide,
                grow=plan.sway(0.25) if act == "grow" else None,
            )
            plan.add(
                shape.place(at * flip, axes * flip * np.array([[mirror], [1], [1]])), paint, bone
            )
            if mirror > 0:
                placed.append((at, size, bone))


def _carved(
    plan: Plan, shape: Sweep, axes: ndarray, size: float, paint: Paint, bone: int, colours: Palette
) -> None:
    """The first solid of a cluster.

    One in four has a bite taken out of it, whose wall has a colour of its own.
    """
    rng = plan.rng
    if rng.random() > 0.25:
        plan.add(shape.place((0, 0, 0), axes), paint, bone)
        return
    # Host and bite are ellipsoids, of which it is known what lies within.
    half = size * rng.uniform(0.7, 1.2, 3)
    aim = rng.normal(size=3)
    centre = aim / np.linalg.norm(aim) * half * rng.uniform(0.8, 1.1)
    radius = size * rng.uniform(0.45, 0.75)
    plan.add(superquadric(half), paint, bone, keep=lambda p: norm(p - centre) > radius)
    wall = texture(rng, colours, size, colours.light)
    plan.add(
        superquadric((radius,) * 3).place(centre),
        wall,
        bone,
        keep=lambda p: norm(p / half) < 1,
        inward=True,
    )


def _stack(plan: Plan, root: int, colours: Palette) -> None:
    """Rings, blocks or balls on top of each other."""
    rng = plan.rng
    height, parent = -0.4, root
    count = int(rng.integers(3, 7))
    cycles, slack = float(rng.integers(1, 3)), rng.uniform(0.05, 0.3)
    kind = rng.choice(["ring", "block", "ball", "any"])
    for i in range(count):
        size = rng.uniform(0.8, 1.1) * (0.34 - 0.2 * i / count)
        tall = size * rng.uniform(0.3, 0.7) if kind != "ball" else size * 0.9
        if kind == "ring":
            shape = ring(size * 0.75, min(tall, size * 0.3))
        elif kind == "block":
            shape = superquadric((size, tall, size), 0.12, rng.choice([0.12, 1.0]))
        else:
            shape = (
                superquadric((size, size, size)) if kind == "ball" else _random_solid(plan, size)
            )
        turns = (
            (Y, plan.sway(0.6, cycles, -0.1 * i)),
            (Z, plan.sway(slack * 0.5, cycles, -0.1 * i)),
            (X, plan.sway(slack * 0.4, cycles, 0.2 - 0.1 * i)),
        )
        parent = plan.bone(
            (0, height, 0),
            *turns,
            parent=parent,
            slide=(Y, plan.sway(slack * 0.2, cycles, -0.15 * i, shape="hop")),
        )
        height += tall
        plan.add(
            shape.place((0, height, 0)), texture(rng, colours, size * 1.5, colours.any(rng)), parent
        )
        height += tall * 0.9
    if rng.random() < 0.4:
        plan.eyes(Head(np.array([0, height - 0.2, 0]), np.full(3, 0.14), parent), colours.accent)


def soft(plan: Plan) -> None:
    """Flags, ghosts, jellies, balloons and springs."""
    kind = plan.rng.choice(
        ["flag", "ghost", "jelly", "balloon", "spring"], p=[0.22, 0.2, 0.24, 0.14, 0.2]
    )
    {"flag": _flag, "ghost": _ghost, "jelly": _jelly, "balloon": _balloon, "spring": _spring}[
        str(kind)
    ](plan)


def _flag(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng, "vivid")
    root = plan.bone((0, 0, 0), (Z, plan.sway(0.08)), (Y, plan.sway(0.3, 1.0)))
    tall, long_, wide = rng.uniform(0.8, 1.2), rng.uniform(0.5, 0.8), rng.uniform(0.15, 0.28)
    plan.limb([(0, -tall / 2, 0), (0, tall / 2, 0)], [0.022, 0.018], solid(colours.dark), [root])
    plan.ball((0, tall / 2, 0), 0.045, colours.accent, root)
    top = tall / 2 - wide - 0.02
    droop = rng.uniform(0, 0.25)
    cloth = texture(rng, colours, 0.4)
    if rng.random() < 0.5:
        cloth = mixed(
            solid(colours.main),
            solid(colours.light),
            waves(lambda p: p.points[:, 1], rng.uniform(2, 5), 0.1),
        )
    shape = tube(
        [(0, top, 0), (long_ * 0.5, top - droop * 0.3, 0), (long_, top - droop, 0)],
        [wide, wide * rng.uniform(0.5, 1.0)],
        flat=0.02 / wide,
        exponent=0.3,
        side=Y,
    )
    plan.add(shape, cloth, root, soft=(0.0, 1.0))
    plan.deforms.append(
        Deform(
            "ripple",
            Wave(0.11 * plan.vigour, 1.0, offset=0.05),
            X,
            Z,
            rng.uniform(0.3, 0.7),
            float(rng.integers(1, 4)),
        )
    )


def _ghost(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng, "pastel")
    root = plan.bone(
        (0, 0, 0),
        (Z, plan.sway(0.2, 1.0)),
        (Y, plan.sway(0.5, 1.0)),
        slide=(Y, plan.sway(0.12, 1.0)),
    )
    tall, wide = rng.uniform(0.4, 0.6), rng.uniform(0.22, 0.34)
    skirt = lathe(
        [
            (0, -tall * 0.6),
            (wide * 1.1, -tall),
            (wide * 0.9, -tall * 0.3),
            (wide, 0.2),
            (wide * 0.7, 0.4),
            (0, 0.5),
        ],
        teeth=int(rng.integers(5, 10)),
        tooth=0.06,
    )
    plan.add(
        skirt,
        grained(solid(colours.light if rng.random() < 0.6 else colours.main), rng, 0.02),
        root,
        soft=(1.0, 0.0),
    )
    plan.eyes(Head(np.array([0, 0.15, 0]), np.array([wide, 0.3, wide]), root), colours.accent, 1.0)
    plan.ball((0, 0.02, wide * 0.93), (0.05, rng.uniform(0.02, 0.09), 0.05), BLACK, root)
    for mirror in (-1.0, 1.0):
        start = np.array([mirror * wide * 0.85, 0.05, 0.05])
        arm = plan.bone(start, (Z, plan.sway(mirror * 0.6)), parent=root)
        plan.limb(
            [start, start + [mirror * 0.14, -0.04, 0.1]], [0.07, 0.05], solid(colours.light), [arm]
        )
    plan.deforms.append(
        Deform("ripple", plan.sway(0.06, 1.0, offset=0.03), (0.3, 0.95, 0.0), X, 0.4, 1.0)
    )


def _jelly(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng, rng.choice(["pastel", "vivid"]))
    root = plan.bone((0, 0, 0))
    size = rng.uniform(0.25, 0.4)
    shape = (
        _random_solid(plan, size)
        if rng.random() < 0.5
        else superquadric(size * rng.uniform(0.7, 1.2, 3), *rng.uniform(0.4, 1.2, 2))
    )
    plan.add(shape, texture(rng, colours, 0.5), root, soft=(0.2, 1.0))
    if rng.random() < 0.6:
        plan.eyes(
            Head(np.array([0, size * 0.1, 0]), size * np.array([0.8, 0.8, 0.85]), root),
            colours.accent,
        )
    for _ in range(2):
        aim = rng.normal(size=3)
        axis = aim / np.linalg.norm(aim)
        across = np.cross(axis, rng.normal(size=3))
        across /= np.linalg.norm(across)
        plan.deforms.append(
            Deform(
                "ripple",
                plan.sway(0.05, 1.0, offset=0.03),
                tuple(axis),
                tuple(across),
                rng.uniform(0.3, 0.8),
                1.0,
            )
        )
    cycles = float(rng.integers(1, 3))
    plan.deforms.append(Deform("squash", plan.sway(rng.uniform(0.15, 0.45), cycles, 0.0)))
    plan.deforms.append(Deform("bend", plan.sway(rng.uniform(0.2, 0.9), cycles)))
    if rng.random() < 0.5:
        plan.deforms.append(Deform("twist", plan.sway(rng.uniform(0.5, 1.6), cycles)))


def _balloon(plan: Plan) -> None:
    rng = plan.rng
    for k in range(int(rng.integers(1, 5))):
        colours = palette(rng, "vivid")
        foot = np.array([0, -0.5, 0])
        top = np.array([0.24 * np.cos(2.4 * k), rng.uniform(0.05, 0.4), 0.24 * np.sin(2.4 * k)]) * (
            [1, 1, 1] if k else [0.2, 1, 0.2]
        )
        bones = plan.chain(
            [foot, top],
            4,
            0,
            lambda i: ((X, plan.sway(0.1, 1.0, 0.1 * i)), (Z, plan.sway(0.1, 1.0, 0.1 * i))),
        )
        plan.add(
            tube([foot, (foot + top) / 2 + [0.03, 0, 0], top], 0.01), solid(colours.dark), *bones
        )
        size = rng.uniform(0.15, 0.22)
        bag = plan.bone(
            top,
            (Z, plan.sway(0.3)),
            grow=Wave(0.4 * plan.vigour, 1.2, 0.1, "ease")
            if rng.random() < 0.4
            else plan.sway(0.08),
            parent=bones[-1],
        )
        plan.add(
            lathe(
                _smooth(
                    size * np.array([0, 0.2, 0.65, 1, 0.85, 0]),
                    np.array([-0.05, 0.02, 0.12, 0.28, 0.4, 0.48]) * size / 0.2,
                )
            ).place(top),
            texture(rng, colours, 0.25),
            bag,
        )


def _spring(plan: Plan) -> None:
    """A coil that something bounces on."""
    rng = plan.rng
    colours = palette(rng)
    root = plan.bone((0, 0, 0))
    turns, wide, tall = rng.uniform(3, 5), rng.uniform(0.1, 0.2), rng.uniform(0.3, 0.55)
    angle = np.linspace(0, 2 * np.pi * turns, 121)
    coil = np.stack([wide * np.cos(angle), np.linspace(0, tall, 121), wide * np.sin(angle)], -1)
    plan.add(
        tube(coil, rng.uniform(0.02, 0.035), side=Y),
        grained(solid(palette(rng, "metal").main), rng, 0.03),
        root,
    )
    plan.add(
        superquadric((wide * 1.5, 0.04, wide * 1.5), 0.2, rng.choice([0.2, 1.0])).place(
            (0, -0.04, 0)
        ),
        texture(rng, colours, 0.3),
        root,
    )
    top = np.array([0, tall + 0.02, 0])
    size = rng.uniform(0.14, 0.24)
    head = plan.bone(
        top, (Y, plan.sway(0.4)), (Z, plan.sway(0.3)), (X, plan.sway(0.2)), parent=root
    )
    plan.add(
        _random_solid(plan, size).place(top + [0, size * 0.7, 0]),
        texture(rng, colours, size * 1.5),
        head,
    )
    if rng.random() < 0.5:
        plan.eyes(Head(top + [0, size * 0.7, 0], np.full(3, size * 0.8), head), colours.accent)
    cycles = float(rng.integers(1, 4))
    plan.deforms.append(Deform("squash", plan.sway(0.4, cycles, 0.0)))
    plan.deforms.append(Deform("bend", plan.sway(0.6, cycles), Y, X))
