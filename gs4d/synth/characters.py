"""Figures on two legs, with clothes, hats and luggage; they face +z."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from .bodies import ears, face
from .build import Head, Plan, X, Y, Z, upright
from .paint import (
    Paint,
    Palette,
    Patch,
    facing,
    grained,
    hsv,
    mixed,
    palette,
    solid,
    span,
    step,
    texture,
)
from .rig import Deform, Wave
from .surface import Sweep, lathe, superquadric, tube

# Superquadrics that heads are: bulge, exponent, their own axes, and across which of x and y their
# front is curved.
UPRIGHT, ACROSS, AHEAD = (
    np.eye(3),
    np.array([Y, X, (0.0, 0.0, -1.0)]),
    np.array([X, Z, (0.0, -1.0, 0.0)]),
)
SKULLS = {
    "box": (0.2, 0.2, UPRIGHT, (0.0, 0.0)),
    "drum": (0.15, 1.0, UPRIGHT, (1.0, 0.0)),
    "barrel": (0.15, 1.0, ACROSS, (0.0, 1.0)),
    "can": (0.15, 1.0, AHEAD, (0.0, 0.0)),
}


class _Figure:
    """Sizes, colours and bones of a figure that its parts share."""

    colours: Palette
    clothes: Palette
    boxy: bool
    edge: float
    tall: float
    wide: float
    deep: float
    leg: float
    arm: float
    thick: float
    flesh: Paint
    shirt: Paint
    trousers: Paint
    belly: Paint
    act: str
    cycles: float
    swing: float
    root: int
    waist: int
    boots: Paint
    gloves: Paint
    limb_edge: float
    knobs: Paint | None
    hands: list[tuple[ndarray, int]]


def biped(plan: Plan) -> None:
    """A figure on two legs: people, knights, robots, teddy bears."""
    f = _Figure()
    _dress(plan, f)
    _trunk_bones(plan, f)
    _legs(plan, f)
    _arms(plan, f)
    _head(plan, f)


def _dress(plan: Plan, f: _Figure) -> None:
    """Chooses sizes, colours and clothes."""
    rng = plan.rng
    f.colours, f.clothes = palette(rng, rng.choice(["any", "fur", "metal"])), palette(rng)
    f.boxy = rng.random() < 0.3
    f.edge = rng.uniform(0.15, 0.45) if f.boxy else rng.uniform(0.7, 1.0)
    f.tall, f.wide = rng.uniform(0.22, 0.55), rng.uniform(0.14, 0.27)
    f.deep = rng.uniform(0.1, 0.22) if rng.random() < 0.35 else f.wide * rng.uniform(0.7, 1.2)
    f.leg, f.arm = rng.uniform(0.15, 0.6), rng.uniform(0.25, 0.55)
    f.thick = rng.uniform(0.045, 0.105) if rng.random() < 0.75 else rng.uniform(0.018, 0.045)
    natural = hsv(rng.uniform(0.04, 0.09), rng.uniform(0.2, 0.65), rng.uniform(0.3, 0.98))
    f.flesh = solid(natural) if rng.random() < 0.45 else grained(solid(f.colours.main), rng, 0.05)
    f.shirt, f.trousers = (
        texture(rng, f.clothes, 0.4),
        texture(rng, f.clothes, 0.4, f.clothes.second),
    )
    if rng.random() < 0.3:
        f.shirt = f.trousers = f.flesh  # an animal, a doll or a robot of one piece
    f.belly = f.shirt
    if rng.random() < 0.35:
        patch = solid(f.clothes.light if rng.random() < 0.5 else f.clothes.accent)
        f.belly = mixed(
            f.shirt,
            patch,
            step(facing(Z if rng.random() < 0.75 else (0, 0, -1)), rng.uniform(0.6, 0.8), 0.1),
        )
    if rng.random() < 0.5:
        belt = rng.uniform(0.12, 0.3)
        f.belly = mixed(f.belly, solid(f.clothes.dark), span(belt, belt + 0.08))


def _trunk_bones(plan: Plan, f: _Figure) -> None:
    """Chooses what the figure does, and adds its trunk."""
    rng = plan.rng
    f.act = rng.choice(
        ["walk", "run", "dance", "wave", "jump", "turn"], p=[0.22, 0.13, 0.25, 0.17, 0.13, 0.1]
    )
    f.cycles = float(rng.integers(1, 3))
    f.swing = {"walk": 0.55, "run": 0.95}.get(f.act, 0.12)
    lift = plan.sway(
        {"jump": 0.3, "run": 0.1, "walk": 0.03, "dance": 0.06}.get(f.act, 0.01),
        2 * f.cycles if f.act != "jump" else f.cycles,
        0.0,
        shape="hop",
    )
    spin = (
        Wave(rate=0.0)
        if f.act != "turn"
        else Wave(rate=2 * np.pi * float(rng.choice([-1, 1])) * min(plan.vigour, 1.0))
    )
    lean = Wave(offset=0.12 if f.act == "run" else 0.0, amount=0.05 * plan.vigour, cycles=f.cycles)
    f.root = plan.bone(
        (0, 0, 0),
        (Y, spin),
        (X, lean),
        (Z, plan.sway(0.18 if f.act == "dance" else 0.04, f.cycles)),
        slide=(Y, lift),
    )
    f.waist = plan.bone(
        (0, f.tall * 0.3, 0),
        (Y, plan.sway(0.4 if f.act == "dance" else 0.12, f.cycles)),
        (Z, plan.sway(0.12, f.cycles)),
        parent=f.root,
    )
    plan.add(_trunk(rng, f.tall, f.wide, f.deep, f.edge, f.boxy), f.belly, f.root, f.waist)


def _legs(plan: Plan, f: _Figure) -> None:
    """Adds legs, which hang from the hips."""
    rng = plan.rng
    # Legs hang from the hips, arms from the shoulders; both swing against each other.
    f.boots, f.gloves = (
        solid(f.clothes.dark if rng.random() < 0.6 else f.clothes.accent),
        solid(f.clothes.accent) if rng.random() < 0.3 else f.flesh,
    )
    f.limb_edge = f.edge if f.boxy else 1.0
    f.knobs = (
        solid(f.clothes.dark if rng.random() < 0.5 else f.colours.light)
        if rng.random() < 0.25
        else None
    )
    crouch = 0.5 if f.act == "jump" else 0.0
    stance, foot_size = rng.uniform(0.4, 0.65), rng.uniform(1.0, 1.7)
    for mirror in (-1.0, 1.0):
        phase = 0.25 + mirror * 0.25
        top = np.array([mirror * f.wide * stance, 0.04, 0])
        foot = top - [0, f.leg, 0]
        knee = (top + foot) / 2 + [0, 0, 0.03 * f.leg]
        hip = plan.bone(
            top,
            (X, plan.sway(-f.swing - crouch * 0.6, f.cycles, phase if not crouch else 0.0)),
            parent=f.root,
        )
        shin = plan.bone(
            knee,
            (
                X,
                plan.sway(
                    f.swing * 1.2 + crouch,
                    f.cycles,
                    (phase if not crouch else 0.0) + 0.1,
                    shape="pulse",
                ),
            ),
            parent=hip,
        )
        plan.limb(
            [foot, knee, top],
            [f.thick * 0.95, f.thick, f.thick * 1.25],
            f.trousers,
            [shin, hip],
            exponent=f.limb_edge,
        )
        sole = max(f.thick, 0.04)
        shoe = superquadric((sole * foot_size, sole * 0.75, sole * foot_size * 1.5), f.edge, f.edge)
        plan.add(shoe.place(foot + [0, -sole * 0.3, sole * 0.7]), f.boots, shin)
        if f.knobs:
            plan.ball(knee, f.thick * 1.5, f.knobs, shin)


def _arms(plan: Plan, f: _Figure) -> None:
    """Adds arms, which hang from the shoulders and swing against the legs."""
    rng = plan.rng
    # how far the arms stand off at rest
    down = rng.uniform(0.1, 0.6) if rng.random() < 0.75 else rng.uniform(0.9, 1.6)
    # and reach forward
    ahead = rng.uniform(0.3, 1.6) * (rng.random(2) < 0.7) if rng.random() < 0.35 else np.zeros(2)
    bent = rng.uniform(0.1, 0.5) if rng.random() < 0.6 else rng.uniform(0.5, 1.6)
    fist = max(f.thick, 0.03) * rng.uniform(1.0, 2.0)
    pads = fist * rng.uniform(1.0, 1.6) if rng.random() < 0.2 else 0.0
    gesture = rng.choice(["both", "one"]) if f.act in ("wave", "dance", "jump") else "none"
    f.hands = []
    for mirror in (-1.0, 1.0):
        phase = 0.75 + mirror * 0.25
        shoulder = np.array([mirror * (f.wide * 0.95 + f.thick * 0.3), f.tall * 0.86, 0])
        aim = np.array([mirror * np.sin(down), -np.cos(down), 0])
        elbow, hand = shoulder + aim * f.arm / 2 + [0, 0, -0.01], shoulder + aim * f.arm
        raised = gesture == "both" or (gesture == "one" and mirror > 0)
        base = (
            Wave(
                offset=mirror * rng.uniform(0.8, 2.2),
                amount=0.35 * plan.vigour,
                cycles=2 * f.cycles,
            )
            if raised
            else plan.sway(0.08)
        )
        reach = 0.0 if raised else -float(ahead[int(mirror > 0)])
        turns = (
            (Z, base),
            (X, plan.sway(-f.swing * 0.9 if not raised else 0.3, f.cycles, phase, offset=reach)),
        )
        upper = plan.bone(shoulder, *turns, parent=f.waist)
        bend = Wave(offset=-bent, amount=0.3 * plan.vigour, cycles=f.cycles, phase=phase)
        wave = plan.sway(0.7, 2 * f.cycles, 0.0) if raised else plan.sway(0.05)
        lower = plan.bone(elbow, (X, bend), (Z, wave), parent=upper)
        plan.limb(
            [hand, elbow, shoulder],
            [f.thick * 0.75, f.thick * 0.8, f.thick * 1.05],
            f.shirt,
            [lower, upper],
            exponent=f.limb_edge,
        )
        plan.add(superquadric((fist,) * 3, f.edge, f.edge).place(hand), f.gloves, lower)
        if f.knobs:
            plan.ball(elbow, f.thick * 1.4, f.knobs, lower)
        if pads:
            plan.add(
                superquadric((pads, pads * 0.8, pads), f.edge, f.edge).place(shoulder),
                f.boots,
                upper,
            )
        f.hands.append((hand, lower))


def _head(plan: Plan, f: _Figure) -> None:
    """Adds the head, what is on it, and luggage."""
    rng = plan.rng
    # The head, and what is on it.
    big = rng.uniform(0.1, 0.17) if rng.random() < 0.5 else rng.uniform(0.2, 0.38)
    size = big * np.array([rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.15), rng.uniform(0.85, 1.2)])
    kind = rng.choice(["body's", *SKULLS], p=[0.48, 0.16, 0.22, 0.07, 0.07])
    bulge, exponent, axes, curved = SKULLS.get(kind, (f.edge, f.edge, UPRIGHT, (1.0, 1.0)))
    if kind != "body's":
        size *= [rng.uniform(0.95, 1.35), rng.uniform(0.65, 1.0), rng.uniform(0.8, 1.25)]
    if kind == "drum" or rng.random() < 0.4:
        size[2] = size[0] * rng.uniform(0.9, 1.15)
    collar = np.array([0, f.tall + (rng.uniform(0.02, 0.12) if rng.random() < 0.3 else 0.02), 0])
    bone = plan.bone(
        collar,
        (X, plan.sway(0.15)),
        (Y, plan.sway(rng.uniform(0.05, 0.6))),
        (Z, plan.sway(0.12)),
        parent=f.waist,
    )
    place = collar + [0, size[1] * 0.9, size[2] * rng.uniform(-0.25, 0.3)]
    head = Head(place, size, bone, curved)
    plan.limb([collar - [0, 0.05, 0], place], [f.thick, f.thick], f.flesh, [f.waist, bone])
    look = (
        f.flesh
        if kind == "body's" or rng.random() < 0.5
        else _screen(rng, f.flesh, head, f.clothes)
    )

    def skull(larger: float, shift: ndarray) -> Sweep:
        return superquadric(np.abs(axes @ size) * larger, bulge, exponent).place(
            place + shift, axes
        )

    plan.add(skull(1.0, np.zeros(3)), look, bone)
    face(plan, head, f.colours, f.flesh, rng.uniform(0.0, 0.4) if rng.random() < 0.25 else 0.0)
    _headgear(plan, head, f.clothes, f.flesh, skull)
    _luggage(plan, f.hands, f.clothes, f.waist, f.tall, f.wide, f.deep)


def _trunk(rng: Generator, tall: float, wide: float, deep: float, edge: float, boxy: bool) -> Sweep:
    """A body, from the hips up: a box, or a bulging tube, a drum, an egg or a bell."""
    kind = "box" if boxy else rng.choice(["tube", "drum", "egg", "bell"], p=[0.55, 0.2, 0.15, 0.1])
    if kind == "tube":
        bulge = rng.uniform(0.75, 1.3)
        widths = wide * np.array(
            [0.85, bulge * 0.95, rng.uniform(0.8, 1.15), rng.uniform(0.6, 0.95)]
        )
        return tube([(0, 0, 0), (0, tall, 0)], widths, flat=deep / wide, exponent=edge, side=X)
    if kind == "bell":
        foot, neck = rng.uniform(1.0, 1.4), rng.uniform(0.3, 0.7)
        if rng.random() < 0.5:
            foot, neck = neck, foot
        profile = [
            (0, 0),
            (wide * foot, 0),
            (wide * (foot + neck) / 2, tall * rng.uniform(0.4, 0.6)),
            (wide * neck, tall),
            (0, tall),
        ]
        return lathe(profile, 1.0, deep / wide)
    bulge, exponent = {"box": (edge * 0.8, edge), "drum": (0.15, 1.0), "egg": (1.0, 1.0)}[kind]
    return superquadric((wide, tall / 2, deep), bulge, exponent).place((0, tall / 2, 0))


def _screen(rng: Generator, skin: Paint, head: Head, colours: Palette) -> Paint:
    """A visor or a screen in the front of a head."""
    low, high, half = rng.uniform(-0.7, -0.1), rng.uniform(0.3, 0.8), rng.uniform(0.6, 0.95)

    def inside(patch: Patch) -> ndarray:
        x, y, z = ((patch.points - head.place) / head.size).T
        return ((np.abs(x) < half) & (y > low) & (y < high) & (z > 0.2)).astype(float)

    return mixed(skin, solid(colours.dark if rng.random() < 0.6 else colours.light), inside)


def _headgear(
    plan: Plan, head: Head, colours: Palette, skin: Paint, skull: Callable[[float, ndarray], Sweep]
) -> None:
    """Hair or a hat and the like; ``skull`` gives the head's surface, larger and shifted."""
    rng, place, size, bone = plan.rng, head.place, head.size, head.bone
    kind = rng.choice(
        ["hair", "hat", "helmet", "ears", "antenna", "none"], p=[0.18, 0.18, 0.16, 0.14, 0.12, 0.22]
    )
    top = place + [0, size[1] * 0.35, 0]
    if kind == "hair":
        _hair(plan, rng, colours, skull, size, place, bone)
    elif kind == "hat":
        brim, crown, height = (
            rng.uniform(1.2, 1.9),
            rng.uniform(0.6, 1.0),
            rng.uniform(0.5, 1.8) * size[1],
        )
        tip = crown if rng.random() < 0.5 else 0.05
        profile = np.array(
            [(0, 0), (brim, 0), (brim, 0.06), (crown, 0.08), (tip, height), (0, height)]
        ) * [size[0], 1]
        band = mixed(solid(colours.main), solid(colours.accent), span(0.1, 0.3))
        plan.add(lathe(profile).place(top), band, bone)
    elif kind == "helmet":
        plate = grained(solid(palette(rng, "metal").main), rng, 0.06, 0.05)

        def around_visor(p: ndarray) -> ndarray:
            face = (p[:, 2] > place[2] + 0.35 * size[2]) & (p[:, 1] < place[1] + 0.45 * size[1])
            return (p[:, 1] > place[1] - 0.75 * size[1]) & ~face

        plan.add(skull(1.18, np.zeros(3)), plate, bone, keep=around_visor)
        if rng.random() < 0.6:
            plume = [
                place + size * [0, 1.1, 0.3],
                place + size * [0, 1.7, -0.4],
                place + size * [0, 0.9, -1.6],
            ]
            plan.blade(
                plume,
                [0.02, size[1] * 0.35, size[1] * 0.2],
                colours.accent,
                [bone],
                Y,
                soft=(0.0, 1.0),
            )
    elif kind == "ears":
        ears(plan, head, skin, colours)
    elif kind == "antenna":
        for mirror in (-1, 1) if rng.random() < 0.5 else (0,):
            start = place + [mirror * 0.5 * size[0], size[1] * 0.8, 0]
            end = start + [mirror * 0.06, size[1] * rng.uniform(0.5, 1.2), 0]
            stick = plan.bone(start, (Z, plan.sway(0.3)), (X, plan.sway(0.2)), parent=bone)
            plan.limb([start, end], [0.012, 0.012], solid(colours.dark), [stick])
            plan.ball(end, 0.035, colours.accent, stick)


def _hair(
    plan: Plan,
    rng: Generator,
    colours: Palette,
    skull: Callable[[float, ndarray], Sweep],
    size: ndarray,
    place: ndarray,
    bone: int,
) -> None:
    """Adds hair, some with a tail."""
    tone = (
        hsv(rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.8), rng.uniform(0.08, 0.8))
        if rng.random() < 0.7
        else colours.accent
    )
    fringe = rng.uniform(0.0, 0.4)
    shell = skull(1.1, size * [0, 0.05, -0.06])
    cut = place[1] + fringe * size[1]
    low = place[1] - rng.uniform(0.1, 0.9) * size[1]

    def above_fringe(p: ndarray) -> ndarray:
        return p[:, 1] > np.where(p[:, 2] > place[2] + 0.2 * size[2], cut, low)

    plan.add(shell, grained(solid(tone), rng, 0.12, 0.03), bone, keep=above_fringe)
    if rng.random() < 0.35:
        start = place - [0, -0.2 * size[1], size[2]]
        tail = [
            start,
            start - [0, 0.5 * size[1], 0.6 * size[2]],
            start - [0, size[1] * 2.2, 0.5 * size[2]],
        ]
        bones = plan.chain(
            tail,
            3,
            bone,
            lambda i: (
                (X, plan.sway(0.25, None, 0.1 * i)),
                (Z, plan.sway(0.25, None, 0.1 * i)),
            ),
        )
        plan.add(tube(tail, [size[0] * 0.25, size[0] * 0.4, 0.02]), solid(tone), *bones)


def _luggage(
    plan: Plan, hands: list, colours: Palette, waist: int, tall: float, wide: float, deep: float
) -> None:
    """A cape or a pack on the back, something in a hand."""
    rng = plan.rng
    carried = rng.choice(["cape", "pack", "none"], p=[0.2, 0.15, 0.65])
    if carried == "cape":
        line = [
            (0, tall * 0.98, -deep),
            (0, tall * 0.4, -deep - 0.08),
            (0, -tall * rng.uniform(0.1, 0.7), -deep - 0.15),
        ]
        paint = mixed(solid(colours.accent), solid(colours.dark), step(facing(Z), 0.0, 0.1))
        bones = plan.chain(
            line, 3, waist, lambda i: ((X, plan.sway(0.16, None, -0.12 * i, offset=0.08)),)
        )
        plan.blade(line, [wide * 0.9, wide * 1.1, wide * 1.4], paint, bones, X, soft=(0.0, 1.0))
        plan.deforms.append(
            Deform(
                "ripple",
                plan.sway(0.04, 1.0, offset=0.02),
                (0.4, 0.9, 0.0),
                Z,
                rng.uniform(0.25, 0.5),
                2.0,
            )
        )
    elif carried == "pack":
        box = superquadric((wide * 0.7, tall * 0.35, deep * 0.6), 0.3, 0.3).place(
            (0, tall * 0.55, -deep * 1.4)
        )
        plan.add(box, texture(rng, colours, 0.3), waist)
    _held(plan, hands, rng, colours)


def _held(plan: Plan, hands: list[tuple[ndarray, int]], rng: Generator, colours: Palette) -> None:
    """Adds something in a hand."""
    hand, bone = hands[int(rng.integers(2))]
    held = rng.choice(
        ["blade", "staff", "shield", "ball", "none"], p=[0.22, 0.08, 0.09, 0.09, 0.52]
    )
    if held == "blade":
        tip, broad = rng.uniform(0.3, 0.7), rng.uniform(0.03, 0.06)
        plan.limb(
            [hand - [0, 0, 0.08], hand + [0, 0, 0.08]], [0.02, 0.02], solid(colours.dark), [bone]
        )
        steel = solid(palette(rng, "metal").main)
        plan.blade(
            [hand + [0, 0, 0.06], hand + [0, 0, tip]], [broad, broad * 0.9, 0.005], steel, [bone], Y
        )
    elif held == "staff":
        plan.limb(
            [hand - [0, 0.35, 0], hand + [0, 0.45, 0]],
            [0.018, 0.018],
            solid(hsv(0.08, 0.6, 0.4)),
            [bone],
        )
        plan.ball(hand + [0, 0.47, 0], 0.05, colours.accent, bone)
    elif held == "shield":
        disc = lathe([(0, -0.02), (0.16, -0.02), (0.16, 0.01), (0, 0.05)]).place(
            hand + [0, 0, 0.06], upright(Z)
        )
        plan.add(disc, texture(rng, colours, 0.2), bone)
    elif held == "ball":
        plan.add(
            superquadric((0.09, 0.09, 0.09)).place(hand + [0, -0.06, 0.06]),
            texture(rng, colours, 0.15),
            bone,
        )
