"""Animals on four legs, and those with wings, on skeletons and mirrored; they face +z."""

from __future__ import annotations

import numpy as np

from .bodies import coat, ears, face
from .build import Head, Plan, X, Y, Z, upright
from .paint import hsv, mixed, palette, solid, span, texture, waves
from .rig import Wave
from .surface import lathe, tube


def quadruped(plan: Plan) -> None:
    """Anything on four legs, from a mouse to a giraffe to a dinosaur."""
    rng = plan.rng
    colours = palette(rng, rng.choice(["fur", "fur", "any"]))
    length, girth = rng.uniform(0.55, 1.1), rng.uniform(0.13, 0.3)
    leg, thick = rng.uniform(0.25, 0.7), rng.uniform(0.045, 0.1)
    skin = coat(plan, colours, length)
    hips, chest = np.array([0, 0, -length / 2]), np.array([0, rng.uniform(-0.05, 0.12), length / 2])
    cycles = float(rng.integers(1, 3))
    gait = rng.choice(["walk", "trot", "gallop", "stand"], p=[0.35, 0.25, 0.2, 0.2])
    stride = 0.0 if gait == "stand" else rng.uniform(0.35, 0.75)
    hop = plan.sway(0.14 if gait == "gallop" else 0.03, 2 * cycles, 0.0, shape="hop")
    root = plan.bone(
        (hips + chest) / 2,
        (X, plan.sway(0.16 if gait == "gallop" else 0.03, cycles, 0.3)),
        (Z, plan.sway(0.04, cycles)),
        slide=(Y, hop),
    )
    rear = plan.bone(
        (0, 0, -0.1 * length),
        (Y, plan.sway(0.1, cycles)),
        (X, plan.sway(0.08, cycles)),
        parent=root,
    )
    front = plan.bone((0, 0, 0.1 * length), (Y, plan.sway(0.1, cycles)), parent=root)
    waist = rng.uniform(0.75, 1.15)
    radii = girth * np.array(
        [
            rng.uniform(0.5, 0.9),
            rng.uniform(0.9, 1.15),
            waist,
            rng.uniform(0.95, 1.25),
            rng.uniform(0.6, 1.0),
        ]
    )
    back = [hips, (hips + chest) / 2 + [0, rng.uniform(-0.05, 0.1), 0], chest]
    plan.add(tube(back, radii, flat=rng.uniform(0.95, 1.25), side=X), skin, rear, root, front)

    # Legs: hip and knee; hind knees bend forwards as dogs' do, fore knees backwards, in the order
    # of the gait.
    phases = {
        "walk": (0, 0.5, 0.75, 0.25),
        "trot": (0, 0.5, 0.5, 0),
        "gallop": (0, 0.1, 0.5, 0.6),
        "stand": (0, 0.5, 0.5, 0),
    }[gait]
    sock = solid(colours.dark if rng.random() < 0.5 else colours.light)
    legs = mixed(skin, sock, span(0.0, 0.35)) if rng.random() < 0.4 else skin
    for i, (end, bone) in enumerate(((chest, front), (chest, front), (hips, rear), (hips, rear))):
        mirror = -1.0 if i % 2 else 1.0
        sign = 1.0 if i < 2 else -1.0
        top = end + [mirror * girth * rng.uniform(0.5, 0.55), -0.15 * girth, -0.12 * sign * length]
        foot = top - [0, leg + girth * 0.5, 0]
        knee = (top + foot) / 2 + [0, 0, -0.06 * sign * leg]
        hip = plan.bone(top, (X, plan.sway(stride, cycles, phases[i])), parent=bone)
        shank = plan.bone(
            knee,
            (X, plan.sway(sign * stride * 1.1, cycles, phases[i] + 0.2, shape="pulse")),
            parent=hip,
        )
        plan.limb([foot, knee, top], [thick * 0.8, thick * 0.75, thick * 1.6], legs, [shank, hip])
        plan.ball(foot + [0, 0, thick * 0.5], (thick * 1.1, thick * 0.7, thick * 1.5), sock, shank)

    # Neck, head and tail.
    size = (
        girth
        * np.array([rng.uniform(0.6, 0.95), rng.uniform(0.6, 0.95), rng.uniform(0.7, 1.1)])
        * rng.uniform(0.85, 1.3)
    )
    rise, reach = (
        rng.uniform(0.1, 1.35),
        rng.uniform(0.1, 0.35) + (rng.uniform(0.2, 0.6) if rng.random() < 0.25 else 0),
    )
    lean = np.array([0, np.sin(rise), np.cos(rise)])
    nape = chest + lean * (girth * 0.7 + reach)
    nod = plan.sway(rng.uniform(0.05, 0.4), cycles if gait != "stand" else None)
    neck = plan.bone(chest, (X, nod), (Y, plan.sway(rng.uniform(0.05, 0.5))), parent=front)
    plan.limb(
        [chest, (chest + nape) / 2 + [0, -0.02, 0], nape],
        [girth * 0.75, size[0] * 0.65, size[0] * 0.6],
        skin,
        [front, neck],
    )
    head = plan.bone(
        nape, (X, plan.sway(0.2)), (Y, plan.sway(rng.uniform(0.05, 0.35))), parent=neck
    )
    place = nape + [0, 0.25 * size[1], 0.45 * size[2]]
    plan.ball(place, size, skin, head)
    face(
        plan,
        Head(place, size, head),
        colours,
        skin,
        rng.uniform(0.2, 1.3) if rng.random() < 0.85 else 0.0,
    )
    ears(plan, Head(place, size, head), skin, colours)
    if rng.random() < 0.9:
        start, far = hips + [0, girth * 0.3, -girth * 0.4], rng.uniform(0.15, 0.9)
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
            rear,
            lambda i: (
                (Y, plan.sway(wag, cycles, -lag * i)),
                (X, plan.sway(wag * 0.3, cycles, 0.3 - lag * i)),
            ),
        )
        bush = rng.uniform(0.3, 2.2)
        plan.add(tube(tail, [thick * 0.9, thick * bush, thick * 0.25]), skin, *bones)
    if rng.random() < 0.2:
        crest = mixed(solid(colours.accent), solid(colours.second), span(0.5, 1))
        for z in np.linspace(-0.45, 0.5, int(rng.integers(4, 8))):
            tall = girth * rng.uniform(0.4, 0.7) * (1.2 - abs(2 * z))
            spot = np.array([0, girth * 0.75, z * length])
            plan.add(
                lathe([(0, 0), (tall * 0.5, 0), (0, tall + 0.1)], 0.35).place(spot),
                crest,
                (rear, root, front)[min(2, int((z + 0.5) * 3))],
            )


def winged(plan: Plan) -> None:
    """Birds, bats, dragons, butterflies and bees."""
    rng = plan.rng
    colours = palette(rng)
    insect = rng.random() < 0.35
    length, girth = rng.uniform(0.35, 0.7), rng.uniform(0.09, 0.2)
    tilt = rng.uniform(-0.1, 0.7)
    ahead = np.array([0, np.sin(tilt), np.cos(tilt)])
    rear, chest = -ahead * length / 2, ahead * length / 2
    beats = float(rng.integers(1, 4))
    root = plan.bone(
        (0, 0, 0),
        (X, plan.sway(0.1)),
        (Z, plan.sway(0.12, 1.0)),
        slide=(Y, plan.sway(0.06, beats, 0.5)),
    )
    skin = coat(plan, colours, length)
    if insect:
        bands = rng.uniform(2.5, 5)
        skin = mixed(
            solid(colours.accent),
            solid(colours.dark),
            waves(lambda p: p.along, bands, 0.2, duty=rng.uniform(-0.3, 0.3)),
        )
    radii = girth * np.array(
        [0.25, rng.uniform(0.7, 1.1), rng.uniform(0.9, 1.2), rng.uniform(0.6, 0.9)]
    )
    back = plan.bone(rear * 0.2, (X, plan.sway(0.15)), parent=root)
    plan.add(tube([rear, rear * 0.1, chest], radii, side=X), skin, back, root)

    span_, chord = rng.uniform(0.35, 0.9), rng.uniform(0.12, 0.3)
    flap = max(0.25, min(plan.vigour, 1.3)) * rng.uniform(0.4, 0.9)
    feather = texture(rng, colours, 0.4, colours.any(rng))
    if rng.random() < 0.6:
        feather = mixed(feather, solid(colours.dark), span(0.78, 1.0))
    pairs = 2 if insect and rng.random() < 0.6 else 1
    sweep_ = rng.uniform(-0.45, 0.2)
    for pair in range(pairs):
        for mirror in (-1.0, 1.0):
            start = np.array([mirror * girth * 0.6, girth * 0.4, 0]) + ahead * length * (
                0.15 - 0.3 * pair
            )
            size = span_ * (1 - 0.3 * pair)
            line = [
                start,
                start + size * np.array([mirror * 0.5, 0.12, 0.1]),
                start + size * np.array([mirror, 0.05, sweep_]),
            ]
            lag = 0.12 * pair
            beat = Wave(mirror * flap, beats, -lag, offset=mirror * 0.15)
            inner = plan.bone(start, (Z, beat), (Y, plan.sway(0.1)), parent=root)
            outer = plan.bone(
                line[1], (Z, Wave(mirror * flap * 0.6, beats, -0.15 - lag)), parent=inner
            )
            widths = chord * np.array([0.6, rng.uniform(0.9, 1.2), rng.uniform(0.7, 1.2), 0.15])
            plan.add(
                tube(line, widths, flat=0.06, side=(0, 0.15, 1)), feather, inner, outer, sharp=1.5
            )

    size = girth * rng.uniform(0.65, 1.1) * np.array([1, 1, 1.1])
    neck = chest + np.array([0, rng.uniform(0, 0.25), rng.uniform(0.0, 0.12)])
    head = plan.bone(
        chest, (X, plan.sway(0.25)), (Y, plan.sway(rng.uniform(0.1, 0.5))), parent=root
    )
    plan.limb([chest - ahead * 0.05, neck], [girth * 0.7, size[0] * 0.6], skin, [root, head])
    place = neck + [0, size[1] * 0.4, size[2] * 0.4]
    plan.ball(place, size, solid(colours.main) if insect else skin, head)
    plan.eyes(Head(place, size, head), colours.accent)
    if insect or rng.random() < 0.2:
        for mirror in (-1, 1):
            line = [
                place + size * [mirror * 0.3, 0.8, 0.3],
                place + size * [mirror * 0.7, 2.0, 0.9],
                place + size * [mirror * 1.2, 2.3, 1.6],
            ]
            feeler = plan.bone(line[0], (X, plan.sway(0.4)), parent=head)
            plan.limb(line, [0.012, 0.012, 0.02], solid(colours.dark), [feeler])
    else:
        beak = size[2] * rng.uniform(0.5, 1.6)
        cone = lathe([(0, 0), (size[0] * 0.4, 0), (0.005, beak)]).place(
            place + [0, -0.1 * size[1], size[2] * 0.8], upright((0, -0.15, 1))
        )
        plan.add(cone, hsv(rng.uniform(0.03, 0.15), 0.85, 0.95), head)
    if not insect:
        fan, wide = rng.uniform(0.15, 0.5), rng.uniform(0.06, 0.2)
        tail = plan.bone(rear, (X, plan.sway(0.25)), parent=back)
        plan.blade(
            [rear, rear - ahead * fan * 0.5, rear - ahead * fan],
            [wide * 0.4, wide, wide * 1.2],
            feather,
            [tail],
            X,
        )
    pairs = 3 if insect else 1
    reach = rng.uniform(0.12, 0.3)
    for pair in range(pairs):
        for mirror in (-1.0, 1.0):
            top = np.array([mirror * girth * 0.5, -girth * 0.6, 0.0]) + ahead * length * (
                0.12 * pair - 0.1
            )
            knee = top + [mirror * (0.1 if insect else 0.01), -reach * 0.4, 0.02]
            foot = top + [mirror * (0.14 if insect else 0.02), -reach, 0.03]
            bone = plan.bone(top, (X, plan.sway(0.3, None, 0.2 * pair)), parent=root)
            plan.limb(
                [foot, knee, top],
                [0.016, 0.016, 0.02],
                solid(colours.dark if insect else hsv(0.1, 0.8, 0.8)),
                [bone],
            )
            if not insect:
                plan.ball(foot + [0, 0, 0.03], (0.03, 0.012, 0.05), hsv(0.1, 0.8, 0.8), bone)
