"""Animals and characters: bodies with heads, limbs and tails on skeletons, most of them mirrored, all facing +z."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray

from .build import BLACK, WHITE, Plan, X, Y, Z, upright
from .paint import Paint, Palette, facing, grained, hsv, mixed, noise, palette, solid, span, spots, step, texture, waves
from .rig import Deform, Wave
from .surface import lathe, superquadric, tube


def coat(plan: Plan, colours: Palette, size: float) -> Paint:
    """Fur, scales or skin for a whole body: patches, spots or stripes in space, often with another belly."""
    rng = plan.rng
    base, other = solid(colours.main), solid(colours.second if rng.random() < 0.6 else colours.dark)
    kind = rng.choice(["plain", "patches", "spots", "stripes", "back"], p=[0.25, 0.2, 0.2, 0.2, 0.15])
    if kind == "patches":
        base = mixed(base, other, step(noise(rng, size * rng.uniform(0.25, 0.5)), rng.uniform(-0.2, 0.7), 0.15))
    elif kind == "spots":
        base = mixed(base, other, spots(rng, int(rng.integers(60, 160)), size * rng.uniform(0.05, 0.1), 0.9))
    elif kind == "stripes":
        warp = noise(rng, size * 0.4)
        base = mixed(base, other, waves(lambda p: p.points[:, 2] / size, rng.uniform(2.5, 5), 0.0, warp, rng.uniform(-0.3, 0.5)))
    elif kind == "back":
        base = mixed(base, other, step(facing(Y), rng.uniform(0.1, 0.6), 0.4))
    if rng.random() < 0.5:
        base = mixed(base, solid(colours.light), step(facing((0.0, -1.0, 0.2)), rng.uniform(0.3, 0.6), 0.3))
    return grained(base, rng, rng.uniform(0.02, 0.08), size * 0.06)


def _face(plan: Plan, head: ndarray, size: ndarray, bone: int, colours: Palette, skin: Paint, snout: float) -> None:
    """Eyes, and a muzzle with a nose that stands out by ``snout``; a mouth where there is none."""
    rng = plan.rng
    plan.eyes(head, size, bone, colours.accent)
    if snout > 0:
        width = rng.uniform(0.35, 0.65)
        reach = size[2] * (0.75 + snout)
        muzzle = head + [0, -size[1] * rng.uniform(0.15, 0.35), reach * 0.6]
        plan.ball(muzzle, (size[0] * width, size[1] * width * 0.8, reach * 0.55), skin if rng.random() < 0.5 else colours.light, bone)
        nose = size[0] * rng.uniform(0.12, 0.22)
        plan.ball(muzzle + [0, size[1] * width * 0.35, reach * 0.5], (nose, nose * 0.8, nose * 0.7), BLACK, bone)
    elif rng.random() < 0.7:
        mouth = rng.uniform(0.15, 0.4)
        open_ = rng.uniform(0.04, 0.2)
        colour = np.array([0.45, 0.08, 0.1]) if open_ > 0.1 else BLACK
        depth = size[2] * 0.9
        plan.ball(head + [0, -0.4 * size[1], depth * 0.95], (mouth * size[0], open_ * size[1], size[2] * 0.1), colour, bone)


def _ears(plan: Plan, head: ndarray, size: ndarray, bone: int, skin: Paint, colours: Palette) -> None:
    """A pair of ears or horns, or nothing."""
    rng = plan.rng
    kind = rng.choice(["pointed", "round", "long", "horns", "none"], p=[0.3, 0.22, 0.18, 0.15, 0.15])
    if kind == "none":
        return
    spread = rng.uniform(0.35, 0.8)
    length = size[1] * {"pointed": rng.uniform(0.6, 1.2), "round": 0.6, "long": rng.uniform(1.2, 2.4), "horns": rng.uniform(0.5, 1.4)}[kind]
    droop = rng.uniform(-0.9, 0.5) if kind == "long" else rng.uniform(0.3, 1.0)
    wag = plan.sway(0.25)
    for mirror in (-1.0, 1.0):
        foot = head + size * [mirror * spread, 0.75 * np.sqrt(1 - spread**2) + 0.1, -0.1]
        tip = foot + length * np.array([mirror * (1.1 - abs(droop)), droop, -0.1])
        middle = (foot + tip) / 2 + length * np.array([mirror * 0.12, 0.12, 0])
        ear = plan.bone(foot, (Z, Wave(mirror * wag.amount, wag.cycles, wag.phase)), parent=bone)
        if kind == "horns":
            plan.limb([foot, middle, tip], [0.16 * length, 0.1 * length, 0.01], solid(colours.light), [ear])
        elif kind == "round":
            plan.ball(foot + [mirror * 0.2 * length, 0.2 * length, 0], (length * 0.5, length * 0.5, length * 0.18), skin, ear)
        else:
            width = length * (0.36 if kind == "pointed" else 0.2)
            inner = mixed(skin, solid(colours.second), step(facing(Z), 0.5, 0.2))
            plan.blade([foot, middle, tip], [width * 0.8, width, width * 0.5, 0.005], inner, [ear], X)


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
        (hips + chest) / 2, (X, plan.sway(0.16 if gait == "gallop" else 0.03, cycles, 0.3)), (Z, plan.sway(0.04, cycles)), slide=(Y, hop)
    )
    rear = plan.bone((0, 0, -0.1 * length), (Y, plan.sway(0.1, cycles)), (X, plan.sway(0.08, cycles)), parent=root)
    front = plan.bone((0, 0, 0.1 * length), (Y, plan.sway(0.1, cycles)), parent=root)
    waist = rng.uniform(0.75, 1.15)
    radii = girth * np.array([rng.uniform(0.5, 0.9), rng.uniform(0.9, 1.15), waist, rng.uniform(0.95, 1.25), rng.uniform(0.6, 1.0)])
    back = [hips, (hips + chest) / 2 + [0, rng.uniform(-0.05, 0.1), 0], chest]
    plan.add(tube(back, radii, flat=rng.uniform(0.95, 1.25), side=X), skin, rear, root, front)

    # Legs: hip and knee; hind knees bend forwards as dogs' do, fore knees backwards, in the order of the gait.
    phases = {"walk": (0, 0.5, 0.75, 0.25), "trot": (0, 0.5, 0.5, 0), "gallop": (0, 0.1, 0.5, 0.6), "stand": (0, 0.5, 0.5, 0)}[gait]
    sock = solid(colours.dark if rng.random() < 0.5 else colours.light)
    legs = mixed(skin, sock, span(0.0, 0.35)) if rng.random() < 0.4 else skin
    for i, (end, bone) in enumerate(((chest, front), (chest, front), (hips, rear), (hips, rear))):
        mirror = -1.0 if i % 2 else 1.0
        sign = 1.0 if i < 2 else -1.0
        top = end + [mirror * girth * rng.uniform(0.5, 0.55), -0.15 * girth, -0.12 * sign * length]
        foot = top - [0, leg + girth * 0.5, 0]
        knee = (top + foot) / 2 + [0, 0, -0.06 * sign * leg]
        hip = plan.bone(top, (X, plan.sway(stride, cycles, phases[i])), parent=bone)
        shank = plan.bone(knee, (X, plan.sway(sign * stride * 1.1, cycles, phases[i] + 0.2, shape="pulse")), parent=hip)
        plan.limb([foot, knee, top], [thick * 0.8, thick * 0.75, thick * 1.6], legs, [shank, hip])
        plan.ball(foot + [0, 0, thick * 0.5], (thick * 1.1, thick * 0.7, thick * 1.5), sock, shank)

    # Neck, head and tail.
    size = girth * np.array([rng.uniform(0.6, 0.95), rng.uniform(0.6, 0.95), rng.uniform(0.7, 1.1)]) * rng.uniform(0.85, 1.3)
    rise, reach = rng.uniform(0.1, 1.35), rng.uniform(0.1, 0.35) + (rng.uniform(0.2, 0.6) if rng.random() < 0.25 else 0)
    lean = np.array([0, np.sin(rise), np.cos(rise)])
    nape = chest + lean * (girth * 0.7 + reach)
    nod = plan.sway(rng.uniform(0.05, 0.4), cycles if gait != "stand" else None)
    neck = plan.bone(chest, (X, nod), (Y, plan.sway(rng.uniform(0.05, 0.5))), parent=front)
    plan.limb([chest, (chest + nape) / 2 + [0, -0.02, 0], nape], [girth * 0.75, size[0] * 0.65, size[0] * 0.6], skin, [front, neck])
    head = plan.bone(nape, (X, plan.sway(0.2)), (Y, plan.sway(rng.uniform(0.05, 0.35))), parent=neck)
    place = nape + [0, 0.25 * size[1], 0.45 * size[2]]
    plan.ball(place, tuple(size), skin, head)
    _face(plan, place, size, head, colours, skin, rng.uniform(0.2, 1.3) if rng.random() < 0.85 else 0.0)
    _ears(plan, place, size, head, skin, colours)
    if rng.random() < 0.9:
        start, far = hips + [0, girth * 0.3, -girth * 0.4], rng.uniform(0.15, 0.9)
        fall = rng.uniform(-0.9, 1.1)
        tail = [start, start + far * np.array([0, 0.35 * fall, -0.6]), start + far * np.array([0, fall, -0.9])]
        lag, wag = rng.uniform(0.05, 0.2), rng.uniform(0.08, 0.35)
        bones = plan.chain(tail, 4, rear, lambda i: ((Y, plan.sway(wag, cycles, -lag * i)), (X, plan.sway(wag * 0.3, cycles, 0.3 - lag * i))))
        bush = rng.uniform(0.3, 2.2)
        plan.add(tube(tail, [thick * 0.9, thick * bush, thick * 0.25]), skin, *bones)
    if rng.random() < 0.2:
        crest = mixed(solid(colours.accent), solid(colours.second), span(0.5, 1))
        for k, z in enumerate(np.linspace(-0.45, 0.5, int(rng.integers(4, 8)))):
            tall = girth * rng.uniform(0.4, 0.7) * (1.2 - abs(2 * z))
            spot = np.array([0, girth * 0.75, z * length])
            plan.add(lathe([(0, 0), (tall * 0.5, 0), (0, tall + 0.1)], 0.35).place(spot), crest, (rear, root, front)[min(2, int((z + 0.5) * 3))])
            del k


def biped(plan: Plan) -> None:
    """A figure on two legs: people, knights, robots, teddy bears."""
    rng = plan.rng
    colours, clothes = palette(rng, rng.choice(["any", "fur", "metal"])), palette(rng)
    boxy = rng.random() < 0.3
    edge = rng.uniform(0.15, 0.45) if boxy else rng.uniform(0.7, 1.0)
    tall, wide, deep = rng.uniform(0.3, 0.55), rng.uniform(0.14, 0.27), rng.uniform(0.1, 0.2)
    leg, arm = rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.55)
    thick = rng.uniform(0.04, 0.085)
    natural = hsv(rng.uniform(0.04, 0.09), rng.uniform(0.2, 0.65), rng.uniform(0.3, 0.98))
    flesh = solid(natural) if rng.random() < 0.45 else grained(solid(colours.main), rng, 0.05)
    shirt, trousers = texture(rng, clothes, 0.4), texture(rng, clothes, 0.4, clothes.second)
    if rng.random() < 0.3:
        shirt = trousers = flesh  # an animal, a doll or a robot of one piece
    belly = mixed(shirt, solid(clothes.light), spots(rng, 1, 0.0)) if False else shirt
    if rng.random() < 0.35:
        patch = solid(clothes.light if rng.random() < 0.5 else clothes.accent)
        belly = mixed(shirt, patch, step(facing(Z if rng.random() < 0.75 else (0, 0, -1)), rng.uniform(0.6, 0.8), 0.1))
    if rng.random() < 0.5:
        belt = rng.uniform(0.12, 0.3)
        belly = mixed(belly, solid(clothes.dark), span(belt, belt + 0.08))

    act = rng.choice(["walk", "run", "dance", "wave", "jump", "turn"], p=[0.22, 0.13, 0.25, 0.17, 0.13, 0.1])
    cycles = float(rng.integers(1, 3))
    swing = {"walk": 0.55, "run": 0.95}.get(act, 0.12)
    lift = plan.sway({"jump": 0.3, "run": 0.1, "walk": 0.03, "dance": 0.06}.get(act, 0.01), 2 * cycles if act != "jump" else cycles, 0.0, shape="hop")
    spin = Wave(rate=0.0) if act != "turn" else Wave(rate=2 * np.pi * float(rng.choice([-1, 1])) * min(plan.vigour, 1.0))
    lean = Wave(offset=0.12 if act == "run" else 0.0, amount=0.05 * plan.vigour, cycles=cycles)
    root = plan.bone((0, 0, 0), (Y, spin), (X, lean), (Z, plan.sway(0.18 if act == "dance" else 0.04, cycles)), slide=(Y, lift))
    waist = plan.bone((0, tall * 0.3, 0), (Y, plan.sway(0.4 if act == "dance" else 0.12, cycles)), (Z, plan.sway(0.12, cycles)), parent=root)
    shape = superquadric((wide, tall / 2, deep), edge * 0.8, edge).place((0, tall / 2, 0))
    if not boxy:
        bulge = rng.uniform(0.75, 1.3)
        widths = wide * np.array([0.85, bulge * 0.95, rng.uniform(0.8, 1.15), rng.uniform(0.6, 0.95)])
        shape = tube([(0, 0, 0), (0, tall, 0)], widths, flat=deep / wide, exponent=edge, side=X)
    plan.add(shape, belly, root, waist)

    # Legs hang from the hips, arms from the shoulders; both swing against each other.
    boots, gloves = solid(clothes.dark if rng.random() < 0.6 else clothes.accent), solid(clothes.accent) if rng.random() < 0.3 else flesh
    limb_edge = edge if boxy else 1.0
    crouch = 0.5 if act == "jump" else 0.0
    stance, foot_size = rng.uniform(0.4, 0.65), rng.uniform(1.0, 1.7)
    for mirror in (-1.0, 1.0):
        phase = 0.25 + mirror * 0.25
        top = np.array([mirror * wide * stance, 0.04, 0])
        foot = top - [0, leg, 0]
        knee = (top + foot) / 2 + [0, 0, 0.03 * leg]
        hip = plan.bone(top, (X, plan.sway(-swing - crouch * 0.6, cycles, phase if not crouch else 0.0)), parent=root)
        shin = plan.bone(knee, (X, plan.sway(swing * 1.2 + crouch, cycles, (phase if not crouch else 0.0) + 0.1, shape="pulse")), parent=hip)
        plan.limb([foot, knee, top], [thick * 0.95, thick, thick * 1.25], trousers, [shin, hip], exponent=limb_edge)
        shoe = superquadric((thick * foot_size, thick * 0.75, thick * foot_size * 1.5), edge, edge)
        plan.add(shoe.place(foot + [0, -thick * 0.3, thick * 0.7]), boots, shin)

    down = rng.uniform(0.1, 0.6)  # how far the arms stand off at rest
    gesture = rng.choice(["both", "one"]) if act in ("wave", "dance", "jump") else "none"
    hands = []
    for mirror in (-1.0, 1.0):
        phase = 0.75 + mirror * 0.25
        shoulder = np.array([mirror * (wide * 0.95 + thick * 0.3), tall * 0.86, 0])
        aim = np.array([mirror * np.sin(down), -np.cos(down), 0])
        elbow, hand = shoulder + aim * arm / 2 + [0, 0, -0.01], shoulder + aim * arm
        raised = gesture == "both" or (gesture == "one" and mirror > 0)
        base = Wave(offset=mirror * rng.uniform(0.8, 2.2), amount=0.35 * plan.vigour, cycles=2 * cycles) if raised else plan.sway(0.08)
        turns = ((Z, base), (X, plan.sway(-swing * 0.9 if not raised else 0.3, cycles, phase)))
        upper = plan.bone(shoulder, *turns, parent=waist)
        bend = Wave(offset=-0.35, amount=0.3 * plan.vigour, cycles=cycles, phase=phase)
        wave = plan.sway(0.7, 2 * cycles, 0.0) if raised else plan.sway(0.05)
        lower = plan.bone(elbow, (X, bend), (Z, wave), parent=upper)
        plan.limb([hand, elbow, shoulder], [thick * 0.75, thick * 0.8, thick * 1.05], shirt, [lower, upper], exponent=limb_edge)
        plan.add(superquadric((thick * 1.05,) * 3, edge, edge).place(hand), gloves, lower)
        hands.append((hand, lower))

    # The head, and what is on it.
    big = rng.uniform(0.1, 0.17) if rng.random() < 0.6 else rng.uniform(0.2, 0.32)
    size = big * np.array([rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.15), rng.uniform(0.8, 1.1)])
    collar = np.array([0, tall + 0.02, 0])
    head = plan.bone(collar, (X, plan.sway(0.15)), (Y, plan.sway(rng.uniform(0.05, 0.6))), (Z, plan.sway(0.12)), parent=waist)
    place = collar + [0, size[1] * 0.9, 0.02]
    plan.limb([collar - [0, 0.05, 0], place], [thick, thick], flesh, [waist, head])
    plan.add(superquadric(size, edge, edge).place(place), flesh, head)
    _face(plan, place, size, head, colours, flesh, rng.uniform(0.0, 0.4) if rng.random() < 0.25 else 0.0)
    _headgear(plan, place, size, head, clothes, flesh)
    _luggage(plan, hands, clothes, waist, tall, wide, deep)


def _headgear(plan: Plan, head: ndarray, size: ndarray, bone: int, colours: Palette, skin: Paint) -> None:
    rng = plan.rng
    kind = rng.choice(["hair", "hat", "helmet", "ears", "antenna", "none"], p=[0.3, 0.22, 0.13, 0.15, 0.1, 0.1])
    top = head + [0, size[1] * 0.35, 0]
    if kind == "hair":
        tone = hsv(rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.8), rng.uniform(0.08, 0.8)) if rng.random() < 0.7 else colours.accent
        fringe = rng.uniform(0.0, 0.4)
        shell = superquadric(size * 1.1, 1.0, 1.0).place(head + [0, size[1] * 0.05, -size[2] * 0.06])
        cut = head[1] + fringe * size[1]
        low = head[1] - rng.uniform(0.1, 0.9) * size[1]
        keep: Callable[[ndarray], ndarray] = lambda p: (p[:, 1] > np.where(p[:, 2] > head[2] + 0.2 * size[2], cut, low))  # noqa: E731
        plan.add(shell, grained(solid(tone), rng, 0.12, 0.03), bone, keep=keep)
        if rng.random() < 0.35:
            start = head - [0, -0.2 * size[1], size[2]]
            tail = [start, start - [0, 0.5 * size[1], 0.6 * size[2]], start - [0, size[1] * 2.2, 0.5 * size[2]]]
            bones = plan.chain(tail, 3, bone, lambda i: ((X, plan.sway(0.25, None, 0.1 * i)), (Z, plan.sway(0.25, None, 0.1 * i))))
            plan.add(tube(tail, [size[0] * 0.25, size[0] * 0.4, 0.02]), solid(tone), *bones)
    elif kind == "hat":
        brim, crown, height = rng.uniform(1.2, 1.9), rng.uniform(0.6, 1.0), rng.uniform(0.5, 1.8) * size[1]
        tip = crown if rng.random() < 0.5 else 0.05
        profile = np.array([(0, 0), (brim, 0), (brim, 0.06), (crown, 0.08), (tip, height), (0, height)]) * [size[0], 1]
        band = mixed(solid(colours.main), solid(colours.accent), span(0.1, 0.3))
        plan.add(lathe(profile).place(top), band, bone)
    elif kind == "helmet":
        plate = grained(solid(palette(rng, "metal").main), rng, 0.06, 0.05)
        keep = lambda p: (p[:, 1] > head[1] - 0.75 * size[1]) & ((p[:, 2] < head[2] + 0.35 * size[2]) | (p[:, 1] > head[1] + 0.45 * size[1]))  # noqa: E731
        plan.add(superquadric(size * 1.18).place(head), plate, bone, keep=keep)
        if rng.random() < 0.6:
            plume = [head + size * [0, 1.1, 0.3], head + size * [0, 1.7, -0.4], head + size * [0, 0.9, -1.6]]
            plan.blade(plume, [0.02, size[1] * 0.35, size[1] * 0.2], colours.accent, [bone], Y, soft=(0.0, 1.0))
    elif kind == "ears":
        _ears(plan, head, size, bone, skin, colours)
    elif kind == "antenna":
        for mirror in (-1, 1) if rng.random() < 0.5 else (0,):
            start = head + [mirror * 0.5 * size[0], size[1] * 0.8, 0]
            end = start + [mirror * 0.06, size[1] * rng.uniform(0.5, 1.2), 0]
            stick = plan.bone(start, (Z, plan.sway(0.3)), (X, plan.sway(0.2)), parent=bone)
            plan.limb([start, end], [0.012, 0.012], solid(colours.dark), [stick])
            plan.ball(end, 0.035, colours.accent, stick)


def _luggage(plan: Plan, hands: list, colours: Palette, waist: int, tall: float, wide: float, deep: float) -> None:
    """A cape or a pack on the back, something in a hand."""
    rng = plan.rng
    carried = rng.choice(["cape", "pack", "none"], p=[0.2, 0.15, 0.65])
    if carried == "cape":
        line = [(0, tall * 0.98, -deep), (0, tall * 0.4, -deep - 0.08), (0, -tall * rng.uniform(0.1, 0.7), -deep - 0.15)]
        paint = mixed(solid(colours.accent), solid(colours.dark), step(facing(Z), 0.0, 0.1))
        bones = plan.chain(line, 3, waist, lambda i: ((X, plan.sway(0.16, None, -0.12 * i, offset=0.08)),))
        plan.blade(line, [wide * 0.9, wide * 1.1, wide * 1.4], paint, bones, X, soft=(0.0, 1.0))
        plan.deforms.append(Deform("ripple", plan.sway(0.04, 1.0, offset=0.02), (0.4, 0.9, 0.0), Z, rng.uniform(0.25, 0.5), 2.0))
    elif carried == "pack":
        box = superquadric((wide * 0.7, tall * 0.35, deep * 0.6), 0.3, 0.3).place((0, tall * 0.55, -deep * 1.4))
        plan.add(box, texture(rng, colours, 0.3), waist)
    hand, bone = hands[int(rng.integers(2))]
    held = rng.choice(["blade", "staff", "shield", "ball", "none"], p=[0.1, 0.08, 0.08, 0.09, 0.65])
    if held == "blade":
        plan.limb([hand - [0, 0, 0.08], hand + [0, 0, 0.08]], [0.02, 0.02], solid(colours.dark), [bone])
        plan.blade([hand + [0, 0, 0.06], hand + [0, 0, 0.5]], [0.045, 0.04, 0.005], np.array([0.75, 0.77, 0.8]), [bone], Y)
    elif held == "staff":
        plan.limb([hand - [0, 0.35, 0], hand + [0, 0.45, 0]], [0.018, 0.018], solid(hsv(0.08, 0.6, 0.4)), [bone])
        plan.ball(hand + [0, 0.47, 0], 0.05, colours.accent, bone)
    elif held == "shield":
        disc = lathe([(0, -0.02), (0.16, -0.02), (0.16, 0.01), (0, 0.05)]).place(hand + [0, 0, 0.06], upright(Z))
        plan.add(disc, texture(rng, colours, 0.2), bone)
    elif held == "ball":
        plan.add(superquadric((0.09, 0.09, 0.09)).place(hand + [0, -0.06, 0.06]), texture(rng, colours, 0.15), bone)


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
    root = plan.bone((0, 0, 0), (X, plan.sway(0.1)), (Z, plan.sway(0.12, 1.0)), slide=(Y, plan.sway(0.06, beats, 0.5)))
    skin = coat(plan, colours, length)
    if insect:
        bands = rng.uniform(2.5, 5)
        skin = mixed(solid(colours.accent), solid(colours.dark), waves(lambda p: p.along, bands, 0.2, duty=rng.uniform(-0.3, 0.3)))
    radii = girth * np.array([0.25, rng.uniform(0.7, 1.1), rng.uniform(0.9, 1.2), rng.uniform(0.6, 0.9)])
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
            start = np.array([mirror * girth * 0.6, girth * 0.4, 0]) + ahead * length * (0.15 - 0.3 * pair)
            size = span_ * (1 - 0.3 * pair)
            line = [start, start + size * np.array([mirror * 0.5, 0.12, 0.1]), start + size * np.array([mirror, 0.05, sweep_])]
            lag = 0.12 * pair
            beat = Wave(mirror * flap, beats, -lag, offset=mirror * 0.15)
            inner = plan.bone(start, (Z, beat), (Y, plan.sway(0.1)), parent=root)
            outer = plan.bone(line[1], (Z, Wave(mirror * flap * 0.6, beats, -0.15 - lag)), parent=inner)
            widths = chord * np.array([0.6, rng.uniform(0.9, 1.2), rng.uniform(0.7, 1.2), 0.15])
            plan.add(tube(line, widths, flat=0.06, side=(0, 0.15, 1)), feather, inner, outer, sharp=1.5)

    size = girth * rng.uniform(0.65, 1.1) * np.array([1, 1, 1.1])
    neck = chest + np.array([0, rng.uniform(0, 0.25), rng.uniform(0.0, 0.12)])
    head = plan.bone(chest, (X, plan.sway(0.25)), (Y, plan.sway(rng.uniform(0.1, 0.5))), parent=root)
    plan.limb([chest - ahead * 0.05, neck], [girth * 0.7, size[0] * 0.6], skin, [root, head])
    place = neck + [0, size[1] * 0.4, size[2] * 0.4]
    plan.ball(place, tuple(size), solid(colours.main) if insect else skin, head)
    plan.eyes(place, size, head, colours.accent)
    if insect or rng.random() < 0.2:
        for mirror in (-1, 1):
            line = [place + size * [mirror * 0.3, 0.8, 0.3], place + size * [mirror * 0.7, 2.0, 0.9], place + size * [mirror * 1.2, 2.3, 1.6]]
            feeler = plan.bone(line[0], (X, plan.sway(0.4)), parent=head)
            plan.limb(line, [0.012, 0.012, 0.02], solid(colours.dark), [feeler])
    else:
        beak = size[2] * rng.uniform(0.5, 1.6)
        cone = lathe([(0, 0), (size[0] * 0.4, 0), (0.005, beak)]).place(place + [0, -0.1 * size[1], size[2] * 0.8], upright((0, -0.15, 1)))
        plan.add(cone, hsv(rng.uniform(0.03, 0.15), 0.85, 0.95), head)
    if not insect:
        fan, wide = rng.uniform(0.15, 0.5), rng.uniform(0.06, 0.2)
        tail = plan.bone(rear, (X, plan.sway(0.25)), parent=back)
        plan.blade([rear, rear - ahead * fan * 0.5, rear - ahead * fan], [wide * 0.4, wide, wide * 1.2], feather, [tail], X)
    pairs = 3 if insect else 1
    reach = rng.uniform(0.12, 0.3)
    for pair in range(pairs):
        for mirror in (-1.0, 1.0):
            top = np.array([mirror * girth * 0.5, -girth * 0.6, 0.0]) + ahead * length * (0.12 * pair - 0.1)
            knee = top + [mirror * (0.1 if insect else 0.01), -reach * 0.4, 0.02]
            foot = top + [mirror * (0.14 if insect else 0.02), -reach, 0.03]
            bone = plan.bone(top, (X, plan.sway(0.3, None, 0.2 * pair)), parent=root)
            plan.limb([foot, knee, top], [0.016, 0.016, 0.02], solid(colours.dark if insect else hsv(0.1, 0.8, 0.8)), [bone])
            if not insect:
                plan.ball(foot + [0, 0, 0.03], (0.03, 0.012, 0.05), hsv(0.1, 0.8, 0.8), bone)


def crawler(plan: Plan) -> None:
    """What has more legs than four, or none: fish, snakes, worms, octopuses, jellyfish, spiders, crabs."""
    kind = plan.rng.choice(["fish", "snake", "worm", "octopus", "spider"], p=[0.3, 0.18, 0.14, 0.2, 0.18])
    {"fish": _fish, "snake": _snake, "worm": _worm, "octopus": _octopus, "spider": _spider}[str(kind)](plan)


def _fish(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng)
    length, tall, flat = rng.uniform(0.7, 1.2), rng.uniform(0.12, 0.34), rng.uniform(0.3, 0.85)
    skin, fins = coat(plan, colours, length), texture(rng, colours, 0.4, colours.any(rng))
    beats = float(rng.integers(1, 4))
    root = plan.bone((0, 0, 0), (Y, plan.sway(0.15, beats, 0.5)), (X, plan.sway(0.1, 1.0)), slide=(Y, plan.sway(0.05, 1.0)))
    line = [(0, 0, length * 0.5), (0, 0, 0), (0, 0, -length * 0.5)]
    strength = rng.uniform(0.12, 0.4)
    bones = plan.chain(line, 5, root, lambda i: ((Y, plan.sway(strength * (0.2 + 0.35 * i), beats, -0.12 * i)),))
    widths = tall * np.array([0.35, rng.uniform(0.8, 1.0), 1.0, rng.uniform(0.6, 0.9), 0.3, 0.15])
    plan.add(tube(line, widths, flat=flat, side=Y), skin, *bones)
    end = np.array(line[2])
    fork = rng.uniform(0.4, 1.3)
    for up in (-1.0, 1.0):
        plan.blade([end + [0, 0, 0.04], end + [0, up * tall * 0.5, -0.1], end + [0, up * tall * fork, -0.25]], [0.05, 0.09, 0.02], fins, [bones[-1]], (0, up, 1))
    ridge = rng.uniform(0.1, 0.3)
    back = [(0, tall * 0.7, length * 0.2), (0, tall * 0.9 + ridge * 0.4, 0), (0, tall * 0.8, -length * 0.25)]
    plan.blade(back, [0.03, ridge * 0.7, 0.03], fins, bones[1:4], Y)
    for mirror in (-1.0, 1.0):
        start = np.array([mirror * tall * flat * 0.8, -0.1 * tall, length * 0.22])
        fin = plan.bone(start, (Z, plan.sway(0.5, beats)), (Y, plan.sway(0.3, beats)), parent=bones[1])
        plan.blade([start, start + [mirror * 0.12, -0.08, -0.05], start + [mirror * 0.2, -0.12, -0.15]], [0.04, 0.07, 0.03], fins, [fin], (0, 0.3, 1))
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
    bones = plan.chain(line, 8, root, lambda i: ((Y, plan.sway(strength, cycles, -i / 8)), (X, plan.sway(0.04, cycles, i / 8))))
    skin = coat(plan, colours, 1.0) if rng.random() < 0.4 else texture(rng, colours, 0.5)
    if rng.random() < 0.5:
        skin = mixed(skin, solid(colours.accent), waves(lambda p: p.along, rng.uniform(4, 10), 0, duty=rng.uniform(-0.2, 0.6)))
    plan.add(tube(line, thick * np.array([0.8, 1.1, 1.1, 1.0, 0.8, 0.25]), side=Y), skin, *bones)
    head, size = line[0] + [0, 0.01, 0.03], thick * np.array([1.35, 0.95, 1.8])
    plan.ball(head, tuple(size), skin, bones[0])
    plan.eyes(head, size, bones[0], colours.accent)


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
        plan.ball((0, 0, at), (radius, radius, radius * 1.05), pattern if count < 6 else paints[i % 2], ball)
        for mirror in (-1.0, 1.0):
            if i:
                plan.ball((mirror * radius * 0.6, -radius * 0.85, at), (0.035, 0.05, 0.035), colours.dark, ball)
            else:
                top = np.array([mirror * 0.5 * radius, radius * 0.8, at])
                plan.limb([top, top + [mirror * 0.05, 0.14, 0.05]], [0.015, 0.015], solid(colours.dark), [ball])
                plan.ball(top + [mirror * 0.05, 0.14, 0.05], 0.03, colours.accent, ball)
        if i == 0:
            plan.eyes((0, 0, at), (radius, radius, radius), ball, colours.accent)


def _octopus(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng)
    arms, radius, tall = int(rng.integers(5, 9)), rng.uniform(0.18, 0.28), rng.uniform(0.18, 0.36)
    cycles = float(rng.integers(1, 3))
    root = plan.bone((0, 0, 0), (X, plan.sway(0.1)), (Z, plan.sway(0.1)), slide=(Y, plan.sway(0.1, cycles)), grow=plan.sway(0.06, cycles, 0.3))
    skin = coat(plan, colours, 0.6)
    bell = rng.random() < 0.4
    dome = lathe([(0, -0.02), (radius, -0.06), (radius * 1.05, 0.05), (radius * 0.75, tall * 0.7), (0, tall)]) if bell else None
    plan.add((dome or superquadric((radius, tall, radius))).place((0, tall * 0.5, 0)), skin, root)
    if not bell:
        plan.eyes((0, tall * 0.5, 0), (radius, tall * 0.9, radius), root, colours.accent)
    far, drop, thick = rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.6), rng.uniform(0.03, 0.07)
    curl, lag = rng.uniform(0.2, 0.45), rng.uniform(0.08, 0.2)
    under = mixed(skin, solid(colours.light), step(facing((0, -1, 0)), 0.3, 0.2))
    for k in range(arms):
        angle = 2 * np.pi * (k + 0.5) / arms
        out, across = np.array([np.sin(angle), 0, np.cos(angle)]), (np.cos(angle), 0.0, -np.sin(angle))
        start = out * radius * 0.7 + [0, tall * 0.15, 0]
        line = [start, start + out * far * 0.5 - [0, drop * 0.6, 0], start + out * far - [0, drop, 0]]
        phase = float(rng.random()) if rng.random() < 0.3 else 0.0
        bones = plan.chain(line, 4, root, lambda i, p=phase, a=across: ((a, plan.sway(curl, cycles, p - lag * i)), (Y, plan.sway(0.12, cycles, p))))
        plan.add(tube(line, [thick, thick * 0.8, thick * 0.25]), under, *bones)


def _spider(plan: Plan) -> None:
    """Spiders, crabs, beetles and walking machines."""
    rng = plan.rng
    colours = palette(rng)
    legs = int(rng.integers(3, 5))
    size = np.array([rng.uniform(0.14, 0.3), rng.uniform(0.08, 0.18), rng.uniform(0.15, 0.32)])
    skin = texture(rng, colours, 0.5) if rng.random() < 0.6 else coat(plan, colours, 0.6)
    cycles = float(rng.integers(1, 4))
    root = plan.bone((0, 0, 0), (Z, plan.sway(0.06, cycles)), (X, plan.sway(0.05)), slide=(Y, plan.sway(0.04, 2 * cycles)))
    plan.ball((0, 0, 0), tuple(size), skin, root)
    front = size * rng.uniform(0.4, 0.8)
    plan.ball((0, 0, size[2] + front[2] * 0.3), tuple(front), solid(colours.second), root)
    plan.eyes((0, 0.02, size[2] + front[2] * 0.3), front, root, colours.accent)
    far, tall, thick = rng.uniform(0.25, 0.5), rng.uniform(0.08, 0.3), rng.uniform(0.018, 0.04)
    paint = mixed(solid(colours.dark), solid(colours.accent), waves(lambda p: p.along, 2.0)) if rng.random() < 0.4 else solid(colours.dark)
    for mirror in (-1.0, 1.0):
        for k in range(legs):
            aim = (k / (legs - 1) - 0.5) * 1.6
            out = np.array([mirror * np.cos(aim), 0, np.sin(aim)])
            start = out * [size[0] * 0.85, 0, size[2] * 0.8]
            knee, foot = start + out * far * 0.5 + [0, tall, 0], start + out * far - [0, size[1] + 0.1, 0]
            phase = 0.5 * (k % 2) + (0.5 if mirror > 0 else 0)
            hip = plan.bone(start, (Y, plan.sway(0.35, cycles, phase)), (Z, plan.sway(mirror * 0.3, cycles, phase + 0.25, shape="pulse")), parent=root)
            shin = plan.bone(knee, (Z, plan.sway(mirror * 0.3, cycles, phase + 0.1)), parent=hip)
            plan.limb([foot, knee, start], [thick * 0.5, thick, thick], paint, [shin, hip])
        if rng.random() < 0.5:
            start = np.array([mirror * size[0] * 0.6, 0, size[2] * 0.8])
            claw = plan.bone(start, (Y, plan.sway(mirror * 0.4)), (X, plan.sway(0.3)), parent=root)
            plan.limb([start, start + [mirror * 0.15, 0.02, 0.12], start + [mirror * 0.1, 0.04, 0.28]], [thick, thick, thick * 2.6, thick * 2], skin, [claw])


CREATURES: dict[str, tuple[float, Callable[[Plan], None]]] = {
    "quadruped": (0.2, quadruped),
    "biped": (0.24, biped),
    "winged": (0.1, winged),
    "crawler": (0.1, crawler),
}
