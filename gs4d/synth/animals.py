"""Animals on four legs, and those with wings, on skeletons and mirrored; they face +z."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from .bodies import coat, ears, face
from .build import Head, Plan, X, Y, Z, upright
from .paint import Paint, Palette, hsv, mixed, palette, solid, span, texture, waves
from .rig import Wave
from .surface import lathe, tube


class _Beast:
    """Sizes, colours and bones of an animal on four legs that its parts share."""

    colours: Palette
    length: float
    girth: float
    leg: float
    thick: float
    skin: Paint
    hips: ndarray
    chest: ndarray
    cycles: float
    gait: str
    stride: float
    root: int
    rear: int
    front: int


def quadruped(plan: Plan) -> None:
    """Anything on four legs, from a mouse to a giraffe to a dinosaur."""
    b = _Beast()
    _body(plan, b)
    _legs(plan, b)
    _neck(plan, b)
    _tail(plan, b)


def _body(plan: Plan, b: _Beast) -> None:
    """Chooses sizes, coat and gait, and adds the trunk."""
    rng = plan.rng
    b.colours = palette(rng, rng.choice(["fur", "fur", "any"]))
    b.length, b.girth = rng.uniform(0.55, 1.1), rng.uniform(0.13, 0.3)
    b.leg, b.thick = rng.uniform(0.25, 0.7), rng.uniform(0.045, 0.1)
    b.skin = coat(plan, b.colours, b.length)
    b.hips, b.chest = (
        np.array([0, 0, -b.length / 2]),
        np.array([0, rng.uniform(-0.05, 0.12), b.length / 2]),
    )
    b.cycles = float(rng.integers(1, 3))
    b.gait = rng.choice(["walk", "trot", "gallop", "stand"], p=[0.35, 0.25, 0.2, 0.2])
    b.stride = 0.0 if b.gait == "stand" else rng.uniform(0.35, 0.75)
    hop = plan.sway(0.14 if b.gait == "gallop" else 0.03, 2 * b.cycles, 0.0, shape="hop")
    b.root = plan.bone(
        (b.hips + b.chest) / 2,
        (X, plan.sway(0.16 if b.gait == "gallop" else 0.03, b.cycles, 0.3)),
        (Z, plan.sway(0.04, b.cycles)),
        slide=(Y, hop),
    )
    b.rear = plan.bone(
        (0, 0, -0.1 * b.length),
        (Y, plan.sway(0.1, b.cycles)),
        (X, plan.sway(0.08, b.cycles)),
        parent=b.root,
    )
    b.front = plan.bone((0, 0, 0.1 * b.length), (Y, plan.sway(0.1, b.cycles)), parent=b.root)
    waist = rng.uniform(0.75, 1.15)
    radii = b.girth * np.array(
        [
            rng.uniform(0.5, 0.9),
            rng.uniform(0.9, 1.15),
            waist,
            rng.uniform(0.95, 1.25),
            rng.uniform(0.6, 1.0),
        ]
    )
    back = [b.hips, (b.hips + b.chest) / 2 + [0, rng.uniform(-0.05, 0.1), 0], b.chest]
    plan.add(
        tube(back, radii, flat=rng.uniform(0.95, 1.25), side=X), b.skin, b.rear, b.root, b.front
    )


def _legs(plan: Plan, b: _Beast) -> None:
    """Adds legs: hind knees bend forwards as dogs' do, fore knees backwards."""
    rng = plan.rng
    # Legs: hip and knee; hind knees bend forwards as dogs' do, fore knees backwards, in the order
    # of the gait.
    phases = {
        "walk": (0, 0.5, 0.75, 0.25),
        "trot": (0, 0.5, 0.5, 0),
        "gallop": (0, 0.1, 0.5, 0.6),
        "stand": (0, 0.5, 0.5, 0),
    }[b.gait]
    sock = solid(b.colours.dark if rng.random() < 0.5 else b.colours.light)
    legs = mixed(b.skin, sock, span(0.0, 0.35)) if rng.random() < 0.4 else b.skin
    for i, (end, bone) in enumerate(
        ((b.chest, b.front), (b.chest, b.front), (b.hips, b.rear), (b.hips, b.rear))
    ):
        mirror = -1.0 if i % 2 else 1.0
        sign = 1.0 if i < 2 else -1.0
        top = end + [
            mirror * b.girth * rng.uniform(0.5, 0.55),
            -0.15 * b.girth,
            -0.12 * sign * b.length,
        ]
        foot = top - [0, b.leg + b.girth * 0.5, 0]
        knee = (top + foot) / 2 + [0, 0, -0.06 * sign * b.leg]
        hip = plan.bone(top, (X, plan.sway(b.stride, b.cycles, phases[i])), parent=bone)
        shank = plan.bone(
            knee,
            (X, plan.sway(sign * b.stride * 1.1, b.cycles, phases[i] + 0.2, shape="pulse")),
            parent=hip,
        )
        plan.limb(
            [foot, knee, top], [b.thick * 0.8, b.thick * 0.75, b.thick * 1.6], legs, [shank, hip]
        )
        plan.ball(
            foot + [0, 0, b.thick * 0.5], (b.thick * 1.1, b.thick * 0.7, b.thick * 1.5), sock, shank
        )


def _neck(plan: Plan, b: _Beast) -> None:
    """Adds neck and head."""
    rng = plan.rng
    # Neck, head and tail.
    size = (
        b.girth
        * np.array([rng.uniform(0.6, 0.95), rng.uniform(0.6, 0.95), rng.uniform(0.7, 1.1)])
        * rng.uniform(0.85, 1.3)
    )
    rise, reach = (
        rng.uniform(0.1, 1.35),
        rng.uniform(0.1, 0.35) + (rng.uniform(0.2, 0.6) if rng.random() < 0.25 else 0),
    )
    lean = np.array([0, np.sin(rise), np.cos(rise)])
    nape = b.chest + lean * (b.girth * 0.7 + reach)
    nod = plan.sway(rng.uniform(0.05, 0.4), b.cycles if b.gait != "stand" else None)
    neck = plan.bone(b.chest, (X, nod), (Y, plan.sway(rng.uniform(0.05, 0.5))), parent=b.front)
    plan.limb(
        [b.chest, (b.chest + nape) / 2 + [0, -0.02, 0], nape],
        [b.girth * 0.75, size[0] * 0.65, size[0] * 0.6],
        b.skin,
        [b.front, neck],
    )
    head = plan.bone(
        nape, (X, plan.sway(0.2)), (Y, plan.sway(rng.uniform(0.05, 0.35))), parent=neck
    )
    place = nape + [0, 0.25 * size[1], 0.45 * size[2]]
    plan.ball(place, size, b.skin, head)
    face(
        plan,
        Head(place, size, head),
        b.colours,
        b.skin,
        rng.uniform(0.2, 1.3) if rng.random() < 0.85 else 0.0,
    )
    ears(plan, Head(place, size, head), b.skin, b.colours)


def _tail(plan: Plan, b: _Beast) -> None:
    """Adds a tail and a crest, or neither."""
    rng = plan.rng
    if rng.random() < 0.9:
        start, far = b.hips + [0, b.girth * 0.3, -b.girth * 0.4], rng.uniform(0.15, 0.9)
        fall = rng.uniform(-0.9, 1.1)
        tail = [
            start,
            start + far * np.array([0, 0.35 * fall, -0.6]),
            start + far * np.array([0, fall, -0.9]),
        ]
        lag, wag = rng.uniform(0.05, 0.2), rng.uniform(0.08, 0.35)
        bones = plan.chain(
            tail,
            4,
            b.rear,
            lambda i: (
                (Y, plan.sway(wag, b.cycles, -lag * i)),
                (X, plan.sway(wag * 0.3, b.cycles, 0.3 - lag * i)),
            ),
        )
        bush = rng.uniform(0.3, 2.2)
        plan.add(tube(tail, [b.thick * 0.9, b.thick * bush, b.thick * 0.25]), b.skin, *bones)
    if rng.random() < 0.2:
        crest = mixed(solid(b.colours.accent), solid(b.colours.second), span(0.5, 1))
        for z in np.linspace(-0.45, 0.5, int(rng.integers(4, 8))):
            tall = b.girth * rng.uniform(0.4, 0.7) * (1.2 - abs(2 * z))
            spot = np.array([0, b.girth * 0.75, z * b.length])
            plan.add(
                lathe([(0, 0), (tall * 0.5, 0), (0, tall + 0.1)], 0.35).place(spot),
                crest,
                (b.rear, b.root, b.front)[min(2, int((z + 0.5) * 3))],
            )


class _Bird:
    """Sizes, colours and bones of what has wings that its parts share."""

    colours: Palette
    insect: bool
    length: float
    girth: float
    ahead: ndarray
    rear: ndarray
    chest: ndarray
    beats: float
    root: int
    skin: Paint
    back: int
    feather: Paint


def winged(plan: Plan) -> None:
    """Birds, bats, dragons, butterflies and bees."""
    b = _Bird()
    _bird(plan, b)
    _wings(plan, b)
    _beak(plan, b)
    _feet(plan, b)


def _bird(plan: Plan, b: _Bird) -> None:
    """Chooses sizes and colours, and adds the trunk."""
    rng = plan.rng
    b.colours = palette(rng)
    b.insect = rng.random() < 0.35
    b.length, b.girth = rng.uniform(0.35, 0.7), rng.uniform(0.09, 0.2)
    tilt = rng.uniform(-0.1, 0.7)
    b.ahead = np.array([0, np.sin(tilt), np.cos(tilt)])
    b.rear, b.chest = -b.ahead * b.length / 2, b.ahead * b.length / 2
    b.beats = float(rng.integers(1, 4))
    b.root = plan.bone(
        (0, 0, 0),
        (X, plan.sway(0.1)),
        (Z, plan.sway(0.12, 1.0)),
        slide=(Y, plan.sway(0.06, b.beats, 0.5)),
    )
    b.skin = coat(plan, b.colours, b.length)
    if b.insect:
        bands = rng.uniform(2.5, 5)
        b.skin = mixed(
            solid(b.colours.accent),
            solid(b.colours.dark),
            waves(lambda p: p.along, bands, 0.2, duty=rng.uniform(-0.3, 0.3)),
        )
    radii = b.girth * np.array(
        [0.25, rng.uniform(0.7, 1.1), rng.uniform(0.9, 1.2), rng.uniform(0.6, 0.9)]
    )
    b.back = plan.bone(b.rear * 0.2, (X, plan.sway(0.15)), parent=b.root)
    plan.add(tube([b.rear, b.rear * 0.1, b.chest], radii, side=X), b.skin, b.back, b.root)


def _wings(plan: Plan, b: _Bird) -> None:
    """Adds one or two pairs of wings."""
    rng = plan.rng
    span_, chord = rng.uniform(0.35, 0.9), rng.uniform(0.12, 0.3)
    flap = max(0.25, min(plan.vigour, 1.3)) * rng.uniform(0.4, 0.9)
    b.feather = texture(rng, b.colours, 0.4, b.colours.any(rng))
    if rng.random() < 0.6:
        b.feather = mixed(b.feather, solid(b.colours.dark), span(0.78, 1.0))
    pairs = 2 if b.insect and rng.random() < 0.6 else 1
    sweep_ = rng.uniform(-0.45, 0.2)
    for pair in range(pairs):
        for mirror in (-1.0, 1.0):
            start = np.array([mirror * b.girth * 0.6, b.girth * 0.4, 0]) + b.ahead * b.length * (
                0.15 - 0.3 * pair
            )
            size = span_ * (1 - 0.3 * pair)
            line = [
                start,
                start + size * np.array([mirror * 0.5, 0.12, 0.1]),
                start + size * np.array([mirror, 0.05, sweep_]),
            ]
            lag = 0.12 * pair
            beat = Wave(mirror * flap, b.beats, -lag, offset=mirror * 0.15)
            inner = plan.bone(start, (Z, beat), (Y, plan.sway(0.1)), parent=b.root)
            outer = plan.bone(
                line[1], (Z, Wave(mirror * flap * 0.6, b.beats, -0.15 - lag)), parent=inner
            )
            widths = chord * np.array([0.6, rng.uniform(0.9, 1.2), rng.uniform(0.7, 1.2), 0.15])
            plan.add(
                tube(line, widths, flat=0.06, side=(0, 0.15, 1)), b.feather, inner, outer, sharp=1.5
            )


def _beak(plan: Plan, b: _Bird) -> None:
    """Adds the head, with feelers or a beak."""
    rng = plan.rng
    size = b.girth * rng.uniform(0.65, 1.1) * np.array([1, 1, 1.1])
    neck = b.chest + np.array([0, rng.uniform(0, 0.25), rng.uniform(0.0, 0.12)])
    head = plan.bone(
        b.chest, (X, plan.sway(0.25)), (Y, plan.sway(rng.uniform(0.1, 0.5))), parent=b.root
    )
    plan.limb(
        [b.chest - b.ahead * 0.05, neck], [b.girth * 0.7, size[0] * 0.6], b.skin, [b.root, head]
    )
    place = neck + [0, size[1] * 0.4, size[2] * 0.4]
    plan.ball(place, size, solid(b.colours.main) if b.insect else b.skin, head)
    plan.eyes(Head(place, size, head), b.colours.accent)
    if b.insect or rng.random() < 0.2:
        for mirror in (-1, 1):
            line = [
                place + size * [mirror * 0.3, 0.8, 0.3],
                place + size * [mirror * 0.7, 2.0, 0.9],
                place + size * [mirror * 1.2, 2.3, 1.6],
            ]
            feeler = plan.bone(line[0], (X, plan.sway(0.4)), parent=head)
            plan.limb(line, [0.012, 0.012, 0.02], solid(b.colours.dark), [feeler])
    else:
        beak = size[2] * rng.uniform(0.5, 1.6)
        cone = lathe([(0, 0), (size[0] * 0.4, 0), (0.005, beak)]).place(
            place + [0, -0.1 * size[1], size[2] * 0.8], upright((0, -0.15, 1))
        )
        plan.add(cone, hsv(rng.uniform(0.03, 0.15), 0.85, 0.95), head)


def _feet(plan: Plan, b: _Bird) -> None:
    """Adds a tail of feathers, and legs."""
    rng = plan.rng
    if not b.insect:
        fan, wide = rng.uniform(0.15, 0.5), rng.uniform(0.06, 0.2)
        tail = plan.bone(b.rear, (X, plan.sway(0.25)), parent=b.back)
        plan.blade(
            [b.rear, b.rear - b.ahead * fan * 0.5, b.rear - b.ahead * fan],
            [wide * 0.4, wide, wide * 1.2],
            b.feather,
            [tail],
            X,
        )
    pairs = 3 if b.insect else 1
    reach = rng.uniform(0.12, 0.3)
    for pair in range(pairs):
        for mirror in (-1.0, 1.0):
            top = np.array([mirror * b.girth * 0.5, -b.girth * 0.6, 0.0]) + b.ahead * b.length * (
                0.12 * pair - 0.1
            )
            knee = top + [mirror * (0.1 if b.insect else 0.01), -reach * 0.4, 0.02]
            foot = top + [mirror * (0.14 if b.insect else 0.02), -reach, 0.03]
            bone = plan.bone(top, (X, plan.sway(0.3, None, 0.2 * pair)), parent=b.root)
            plan.limb(
                [foot, knee, top],
                [0.016, 0.016, 0.02],
                solid(b.colours.dark if b.insect else hsv(0.1, 0.8, 0.8)),
                [bone],
            )
            if not b.insect:
                plan.ball(foot + [0, 0, 0.03], (0.03, 0.012, 0.05), hsv(0.1, 0.8, 0.8), bone)
