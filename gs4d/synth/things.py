"""Everything that is no creature: plants, machines, toys put together from random solids, and soft things that wobble."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray

from .build import BLACK, WHITE, Plan, X, Y, Z, turned, upright
from .paint import Paint, Palette, checks, grained, hsv, mixed, palette, solid, span, step, texture, waves
from .rig import Deform, Wave
from .surface import Sweep, lathe, ring, superquadric, tube


def plant(plan: Plan) -> None:
    """Flowers, trees, mushrooms and cacti, many of them in pots."""
    kind = plan.rng.choice(["flower", "tree", "mushroom", "cactus"], p=[0.4, 0.28, 0.16, 0.16])
    root = plan.bone((0, 0, 0))
    if plan.rng.random() < 0.4:
        _pot(plan, root)
    {"flower": _flower, "tree": _tree, "mushroom": _mushroom, "cactus": _cactus}[str(kind)](plan, root)
    if plan.rng.random() < 0.3:
        plan.deforms.append(Deform("bend", plan.sway(0.35), Y, (np.cos(a := plan.rng.uniform(0, 6.3)), 0.0, np.sin(a))))


def _pot(plan: Plan, root: int) -> None:
    rng = plan.rng
    wide, tall, foot = rng.uniform(0.14, 0.26), rng.uniform(0.15, 0.3), rng.uniform(0.55, 1.0)
    colours = palette(rng)
    profile = [(0, -tall), (wide * foot, -tall), (wide, -0.04), (wide * 1.12, -0.04), (wide * 1.12, 0.03), (wide * 0.95, 0.03), (wide * 0.9, -0.03)]
    clay = texture(rng, colours, 0.4, hsv(0.05, 0.6, 0.75) if rng.random() < 0.4 else colours.main)
    plan.add(lathe(profile), clay, root)
    plan.add(lathe([(0, -0.06), (wide * 0.95, -0.05), (0, -0.01)]), grained(solid(hsv(0.07, 0.6, 0.25)), rng, 0.15, 0.03), root)


def _stem(plan: Plan, root: int, tall: float, bow: float, joints: int = 5) -> tuple[ndarray, list[int]]:
    """A line that rises from the origin, and swaying bones along it."""
    rng = plan.rng
    angle = rng.uniform(0, 2 * np.pi)
    out = np.array([np.cos(angle), 0, np.sin(angle)]) * bow
    line = np.array([np.zeros(3), out * 0.3 + [0, tall * 0.5, 0], out + [0, tall, 0]])
    strength = rng.uniform(0.04, 0.16)
    bones = plan.chain(line, joints, root, lambda i: ((X, plan.sway(strength, 1.0, -0.05 * i)), (Z, plan.sway(strength, 1.0, 0.3 - 0.05 * i))))
    return line, bones


def _leaf(plan: Plan, start: ndarray, angle: float, size: float, paint: Paint, bone: int) -> None:
    rng = plan.rng
    out, across = np.array([np.sin(angle), 0, np.cos(angle)]), (np.cos(angle), 0.0, -np.sin(angle))
    rise, wide = rng.uniform(0.1, 0.7), rng.uniform(0.16, 0.34)
    line = [start, start + size * (0.5 * out + [0, rise * 0.7, 0]), start + size * (out + [0, rise - 0.5, 0])]
    joint = plan.bone(start, (across, plan.sway(0.3, None, angle)), (Y, plan.sway(0.2)), parent=bone)
    plan.blade(line, [0.015, size * wide * 0.8, size * wide, size * wide * 0.6, 0.005], paint, [joint], across)


def _flower(plan: Plan, root: int) -> None:
    rng = plan.rng
    green, bloom = palette(rng, "leaf"), palette(rng, rng.choice(["vivid", "pastel"]))
    for stalk in range(1 if rng.random() < 0.6 else int(rng.integers(2, 4))):
        tall = rng.uniform(0.4, 0.8) * (1 - 0.2 * stalk)
        line, bones = _stem(plan, root, tall, rng.uniform(0.02, 0.35))
        plan.add(tube(line, [0.024, 0.016]), solid(green.main), *bones)
        leaf = mixed(solid(green.second), solid(green.main), waves(lambda p: p.along, rng.uniform(2, 6)))
        for k in range(int(rng.integers(1, 5))):
            share = rng.uniform(0.1, 0.75)
            spot = (1 - share) ** 2 * line[0] + 2 * share * (1 - share) * line[1] + share**2 * line[2]
            _leaf(plan, spot, 2.4 * k + rng.uniform(0, 1), rng.uniform(0.15, 0.35), leaf, bones[int(share * len(bones))])
        tip = line[2]
        lean = np.array([rng.normal(0, 0.3), 1, rng.uniform(0, 1.2)])
        up = upright(lean)[1]
        side = upright(lean)[0]
        other = np.cross(side, up)
        head = plan.bone(tip, (X, plan.sway(0.2)), (Z, plan.sway(0.2)), parent=bones[-1])
        heart = rng.uniform(0.03, 0.1)
        plan.add(superquadric((heart, heart * 0.5, heart)).place(tip + up * 0.02, upright(lean)), solid(bloom.accent), head)
        petals, length, wide = int(rng.integers(4, 12)), rng.uniform(0.12, 0.3), rng.uniform(0.6, 1.25)
        opening = Wave(rng.uniform(0.4, 1.1) * plan.vigour, rng.uniform(1.0, 1.6), 0.0, "ease") if rng.random() < 0.5 else plan.sway(0.15, 1.0)
        petal = mixed(solid(bloom.main), solid(bloom.second), span(0.55, 1.0)) if rng.random() < 0.5 else texture(rng, bloom, 0.2)
        closed = rng.uniform(0.2, 1.1)
        for layer in range(1 if rng.random() < 0.6 else 2):
            for k in range(petals):
                angle = 2 * np.pi * (k + 0.5 * layer) / petals
                out = np.cos(angle) * side + np.sin(angle) * other
                across = np.cross(up, out)
                reach = length * (1 - 0.25 * layer)
                steep = closed + 0.35 * layer
                path = [tip + out * heart * 0.7, tip + reach * (0.6 * out + 0.5 * steep * up), tip + reach * (out * 1.1 + 0.7 * steep * up)]
                broad = wide * reach * np.pi / petals
                bone = plan.bone(path[0], (-across, opening), parent=head)
                plan.blade(path, [broad * 0.3, broad, broad * 1.1, broad * 0.3], petal, [bone], across)


def _tree(plan: Plan, root: int) -> None:
    rng = plan.rng
    green, bark = palette(rng, rng.choice(["leaf", "leaf", "any"])), grained(solid(hsv(rng.uniform(0.04, 0.1), rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.55))), rng, 0.15, 0.06)
    tall = rng.uniform(0.35, 0.7)
    line, bones = _stem(plan, root, tall, rng.uniform(0.0, 0.15), 4)
    trunk = rng.uniform(0.03, 0.08)
    plan.add(tube(line, [trunk * 1.3, trunk, trunk * 0.7]), bark, *bones)
    style = rng.choice(["round", "fir", "palm"], p=[0.5, 0.25, 0.25])
    crown = grained(texture(rng, green, 0.3), rng, 0.18, 0.05)
    if style == "fir":
        for k in range(layers := int(rng.integers(2, 5))):
            wide, low = rng.uniform(0.26, 0.4) * (1 - 0.22 * k), tall * (0.4 + 0.35 * k / layers) + 0.16 * k
            tier = plan.bone((0, low, 0), (X, plan.sway(0.07)), (Z, plan.sway(0.07)), parent=bones[min(k + 1, 3)])
            cone = lathe([(0, 0), (wide, 0), (wide * 0.4, 0.18), (0.01, 0.36)], teeth=int(rng.integers(6, 12)), tooth=0.07)
            plan.add(cone.place(line[2] * [1, 0, 1] + [0, low, 0]), crown, tier)
        return
    count = int(rng.integers(5, 9))
    if style == "palm":
        leaf = mixed(solid(green.main), solid(green.second), waves(lambda p: p.along, 7.0))
        for k in range(count):
            _leaf(plan, line[2], 2 * np.pi * k / count + rng.uniform(-0.2, 0.2), rng.uniform(0.35, 0.55), leaf, bones[-1])
        for k in range(int(rng.integers(0, 4))):
            plan.ball(line[2] + [0.05 * np.cos(2.1 * k), -0.05, 0.05 * np.sin(2.1 * k)], 0.045, hsv(0.07, 0.6, 0.35), bones[-1])
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


def _mushroom(plan: Plan, root: int) -> None:
    rng = plan.rng
    colours = palette(rng, rng.choice(["vivid", "fur"]))
    cap_paint = texture(rng, colours, 0.35)
    for k in range(int(rng.integers(1, 4))):
        tall, wide = rng.uniform(0.25, 0.6) * (1 - 0.25 * k), rng.uniform(0.16, 0.36) * (1 - 0.2 * k)
        foot = np.array([0.28 * np.cos(2.2 * k), 0, 0.28 * np.sin(2.2 * k)]) * (k > 0)
        line = [foot, foot + [0, tall, 0]]
        bones = plan.chain(line, 3, root, lambda i: ((X, plan.sway(0.12)), (Z, plan.sway(0.12))))
        stalk = rng.uniform(0.045, 0.1)
        plan.add(tube(line, [stalk * 1.3, stalk, stalk * 0.9]), grained(solid(colours.light), rng, 0.05), *bones)
        dome = rng.uniform(0.5, 1.3)
        profile = np.array([(stalk / wide, 0), (0.9, -0.12), (1.0, 0), (0.8, 0.45), (0.4, 0.72), (0, 0.8)]) * [wide, wide * dome]
        cap = plan.bone(foot + [0, tall, 0], (X, plan.sway(0.15)), grow=plan.sway(0.08), parent=bones[-1])
        plan.add(lathe(profile).place(foot + [0, tall, 0]), cap_paint, cap)


def _cactus(plan: Plan, root: int) -> None:
    rng = plan.rng
    colours = palette(rng, "leaf")
    ribs = int(rng.integers(6, 14))
    paint = mixed(solid(colours.main), solid(colours.second), waves(lambda p: p.around, float(ribs)))
    tall, wide = rng.uniform(0.4, 0.8), rng.uniform(0.08, 0.18)
    line = [np.zeros(3), np.array([0, tall, 0])]
    bones = plan.chain(line, 4, root, lambda i: ((X, plan.sway(0.08)), (Z, plan.sway(0.1))))
    plan.add(tube(line, [wide * 0.9, wide, wide * 0.85]), paint, *bones)
    for mirror in (-1.0, 1.0)[: int(rng.integers(0, 3))]:
        low, far, high = rng.uniform(0.3, 0.6) * tall, wide + rng.uniform(0.08, 0.16), rng.uniform(0.1, 0.3)
        arm = [np.array([0, low, 0]), np.array([mirror * far, low + 0.03, 0]), np.array([mirror * far * 1.1, low + high, 0])]
        joint = plan.bone(arm[0], (Z, plan.sway(0.25)), (Y, plan.sway(0.2)), parent=bones[1])
        plan.add(tube(arm, wide * 0.55), paint, joint)
    if rng.random() < 0.6:
        plan.ball((0, tall + wide, 0), wide * 0.45, hsv(rng.uniform(0.85, 1.05), 0.7, 0.95), bones[-1])


# --- machines --------------------------------------------------------------------------------------------------------


def machine(plan: Plan) -> None:
    """Cars, aeroplanes, arms, mills and clockworks: what turns about an axle."""
    kind = plan.rng.choice(["car", "plane", "arm", "mill", "gears"], p=[0.34, 0.22, 0.16, 0.14, 0.14])
    {"car": _car, "plane": _plane, "arm": _arm, "mill": _mill, "gears": _gears}[str(kind)](plan)


def _spin(plan: Plan, turns: float) -> Wave:
    """A steady rotation; slow enough that 16 frames show which way it goes."""
    return Wave(rate=2 * np.pi * turns * min(max(plan.vigour, 0.15), 1.5))


def _wheel(plan: Plan, at: ndarray, radius: float, wide: float, paint: Paint, bone: int) -> None:
    rim = radius * 0.62
    profile = [(0, -wide * 0.8), (rim, -wide * 0.8), (rim, -wide), (radius * 0.95, -wide), (radius, 0), (radius * 0.95, wide), (rim, wide), (rim, wide * 0.8), (0, wide * 0.8)]
    tyre = np.array([0.06, 0.06, 0.07])

    def wheel(patch) -> ndarray:  # noqa: ANN001
        away = np.sqrt((patch.points[:, 1] - at[1]) ** 2 + (patch.points[:, 2] - at[2]) ** 2)
        return np.where((away > rim * 1.02)[:, None], tyre, paint(patch))

    plan.add(lathe(profile).place(at, upright(X)), wheel, bone)


def _car(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng)
    long_, wide, tall = rng.uniform(0.4, 0.65), rng.uniform(0.18, 0.28), rng.uniform(0.08, 0.16)
    edge = rng.uniform(0.15, 0.7)
    kind = rng.choice(["car", "truck", "tank", "train"], p=[0.45, 0.25, 0.15, 0.15])
    root = plan.bone((0, 0, 0), (X, plan.sway(0.05)), (Z, plan.sway(0.05)), slide=(Y, plan.sway(0.03, 2.0)))
    steer = plan.sway(0.25, 1.0)
    drive = plan.bone((0, 0, 0), (Y, Wave(steer.amount * 0.5, 1.0, steer.phase - 0.1)), parent=root)
    body = texture(rng, colours, 0.6)
    plan.add(superquadric((wide, tall, long_), edge, edge).place((0, 0, 0)), body, drive)
    glass = np.array([0.25, 0.4, 0.5]) * rng.uniform(0.4, 1.4)
    high = rng.uniform(0.09, 0.18)
    if kind == "car":
        place = np.array([0, tall + high * 0.6, rng.uniform(-0.25, 0.05) * long_])
        cabin = superquadric((wide * 0.85, high, long_ * rng.uniform(0.35, 0.6)), 0.6, edge)
        pane = mixed(solid(colours.main), solid(glass), lambda p: ((p.along > 0.3) & (p.along < 0.82)).astype(float))
        plan.add(cabin.place(place), pane, drive)
    elif kind == "truck":
        plan.add(superquadric((wide * 0.95, high * 1.3, long_ * 0.3), 0.25, edge).place((0, tall + high, long_ * 0.6)), mixed(solid(colours.second), solid(glass), step(lambda p: p.normals[:, 2] - 8 * np.maximum(0, tall + 0.5 * high - p.points[:, 1]), 0.6)), drive)
        tip = plan.bone((0, tall, -long_), (X, plan.sway(-0.4, 1.0, shape="hop") if rng.random() < 0.5 else plan.sway(0.02)), parent=drive)
        load = rng.uniform(1.0, 2.2) * high
        plan.add(superquadric((wide, load, long_ * 0.6), 0.1, 0.15).place((0, tall + load, -long_ * 0.4)), texture(rng, colours, 0.5, colours.any(rng)), tip)
    elif kind == "tank":
        turret = plan.bone((0, tall, 0), (Y, plan.sway(0.9, 1.0)), parent=drive)
        plan.add(superquadric((wide * 0.7, high * 0.7, wide * 0.8), 0.5, 0.8).place((0, tall + high * 0.5, 0)), body, turret)
        gun = plan.bone((0, tall + high * 0.5, wide * 0.5), (X, plan.sway(0.3)), parent=turret)
        plan.limb([(0, tall + high * 0.5, wide * 0.4), (0, tall + high * 0.55, long_ * 1.2)], [0.03, 0.035], solid(colours.dark), [gun])
    else:
        plan.add(tube([(0, tall + 0.1, -0.1 * long_), (0, tall + 0.1, long_ * 0.95)], wide * 0.65), solid(colours.second), drive)
        plan.add(superquadric((wide * 0.95, high * 1.6, long_ * 0.3), 0.2, 0.2).place((0, tall + high * 1.3, -long_ * 0.65)), body, drive)
        plan.add(lathe([(0, 0), (0.05, 0), (0.08, 0.2), (0, 0.2)]).place((0, tall + 0.2, long_ * 0.7)), solid(colours.dark), drive)
    for mirror in (-1, 1):
        plan.ball((mirror * wide * 0.6, 0.02, long_ * 0.97), (0.045, 0.045, 0.03), hsv(0.14, 0.3, 1.0), drive)
        plan.ball((mirror * wide * 0.65, 0.03, -long_ * 0.97), (0.045, 0.03, 0.03), hsv(0.0, 0.9, 0.8), drive)
    radius = rng.uniform(0.1, 0.17)
    hub = mixed(solid(colours.light), solid(colours.dark), checks(int(rng.integers(2, 4)), 1))
    turn = _spin(plan, rng.uniform(0.4, 1.2))
    axles = np.linspace(-0.62, 0.62, 2 if kind == "car" else int(rng.integers(2, 4)))
    for z in axles:
        for mirror in (-1.0, 1.0):
            at = np.array([mirror * (wide + 0.01), -tall * 0.9, z * long_])
            turns = ((Y, steer),) if z == axles[-1] and kind == "car" else ()
            _wheel(plan, at, radius, 0.045, hub, plan.bone(at, *turns, (X, turn), parent=drive))


def _plane(plan: Plan) -> None:
    """Aeroplanes, helicopters and rockets."""
    rng = plan.rng
    colours = palette(rng)
    kind = rng.choice(["plane", "helicopter", "rocket"], p=[0.45, 0.35, 0.2])
    long_, girth = rng.uniform(0.4, 0.6), rng.uniform(0.08, 0.16)
    root = plan.bone((0, 0, 0), (Z, plan.sway(0.4, 1.0)), (X, plan.sway(0.15, 1.0)), (Y, plan.sway(0.2, 1.0)), slide=(Y, plan.sway(0.08, 1.0)))
    skin, trim = texture(rng, colours, 0.5), texture(rng, colours, 0.4, colours.accent)
    turn = _spin(plan, rng.uniform(0.8, 2.2) * float(rng.choice([-1, 1])))
    if kind == "rocket":
        line = [(0, -long_, 0), (0, 0, 0), (0, long_, 0)]
        rocket = plan.bone((0, 0, 0), (Y, _spin(plan, rng.uniform(-0.5, 0.5))), parent=root)
        plan.add(tube(line, girth * np.array([0.7, 1.1, 1.0, 0.05])), mixed(skin, solid(colours.accent), span(0.78, 1.0)), rocket)
        for k in range(fins := int(rng.integers(3, 5))):
            out = np.array([np.sin(2 * np.pi * k / fins), 0, np.cos(2 * np.pi * k / fins)])
            plan.blade([out * girth * 0.5 + [0, -long_ * 0.6, 0], out * girth * 2 + [0, -long_ * 1.1, 0]], [0.12, 0.08], trim, [rocket], Y)
        plan.ball((0, 0.35 * long_, girth * 0.85), (0.06, 0.06, 0.03), np.array([0.3, 0.6, 0.8]), rocket)
        flame = plan.bone((0, -long_ - girth * 0.5, 0), grow=plan.sway(0.35, 3.0), parent=rocket)
        plan.add(lathe([(0, -0.35), (girth * 0.5, -0.1), (girth * 0.4, 0), (0, 0)]).place((0, -long_, 0)), mixed(solid(hsv(0.03, 0.9, 1)), solid(hsv(0.14, 0.7, 1)), span(0.55, 1)), flame)
        return
    line = [(0, 0, -long_), (0, 0.02, -0.1), (0, 0, long_ * 0.8)]
    pod = girth * (1.5 if kind == "helicopter" else 1.1)
    plan.add(tube(line, [girth * 0.25, girth * 0.45, pod * 0.9, pod * 1.15, pod * 0.8], side=X), skin, root)
    plan.ball((0, pod * 0.6, long_ * 0.45), (pod * 0.7, pod * 0.7, pod * 1.2), np.array([0.2, 0.35, 0.5]), root)
    plan.blade([(0, 0, -long_), (0, 0.22, -long_ * 1.08)], [0.1, 0.06], trim, [root], Z)
    span_ = rng.uniform(0.35, 0.6) if kind == "plane" else 0.16
    for mirror in (-1.0, 1.0):
        plan.blade([(0, 0.02, -long_ * 0.9), (mirror * 0.22, 0.03, -long_)], [0.07, 0.05], trim, [root], Z)
        if kind == "plane":
            rise = rng.uniform(-0.02, 0.1)
            plan.blade([(0, 0, 0.1), (mirror * span_, rise, 0.1 - rng.uniform(0, 0.25))], [0.13, 0.07], trim, [root], Z)
    centre = np.array([0, 0, long_ * 0.8 + pod * 0.9]) if kind == "plane" else np.array([0, pod * 1.35, long_ * 0.15])
    axis, blades = (Z, 2 + int(rng.integers(2))) if kind == "plane" else (Y, 2 + int(rng.integers(3)))
    rotor = plan.bone(centre, (axis, turn), parent=root)
    plan.ball(centre, 0.04, colours.dark, rotor)
    reach = 0.26 if kind == "plane" else rng.uniform(0.4, 0.6)
    for k in range(blades):
        angle = 2 * np.pi * k / blades
        out = np.array([np.cos(angle), np.sin(angle), 0]) if kind == "plane" else np.array([np.cos(angle), 0, np.sin(angle)])
        plan.blade([centre, centre + out * reach], [0.03, 0.045], solid(colours.dark if k else colours.accent), [rotor], np.cross(out, np.asarray(axis)) + 0.3 * np.asarray(axis))


def _arm(plan: Plan) -> None:
    """A robot arm, a crane or a desk lamp."""
    rng = plan.rng
    colours = palette(rng, rng.choice(["vivid", "metal"]))
    base = plan.bone((0, 0, 0), (Y, plan.sway(0.9, 1.0)))
    foot = plan.bone((0, 0, 0))
    plan.add(lathe([(0, -0.1), (0.25, -0.1), (0.22, 0), (0.12, 0.05), (0, 0.05)]), solid(colours.dark), foot)
    paint = texture(rng, colours, 0.3)
    joint, parent = np.array([0.0, 0.05, 0.0]), base
    aim, thick = rng.uniform(-0.4, 0.2), rng.uniform(0.045, 0.08)
    for i in range(int(rng.integers(2, 5))):
        size = rng.uniform(0.25, 0.4) * (1 - 0.12 * i)
        end = joint + size * np.array([0, np.cos(aim), np.sin(aim)])
        parent = plan.bone(joint, (X, plan.sway(0.45, 1.0, shape="drift" if rng.random() < 0.3 else "sine")), parent=parent)
        plan.add(superquadric((thick * 1.5, thick * 1.3, thick * 1.3), 0.15, 1.0).place(joint, upright(X)), solid(colours.accent), parent)
        plan.add(tube([joint, end], thick, exponent=rng.uniform(0.2, 1.0)), paint, parent)
        joint, aim, thick = end, aim + rng.uniform(0.4, 1.1), thick * 0.85
    if rng.random() < 0.3:
        shade = lathe([(0.03, 0.06), (0.05, 0.05), (0.15, -0.12), (0.14, -0.12), (0.03, 0.03)])
        plan.add(shade.place(joint, -upright((0, np.cos(aim), np.sin(aim)))[[0, 1, 2]] * [[-1], [1], [1]]), solid(colours.main), parent)
        plan.ball(joint + 0.05 * np.array([0, np.cos(aim), np.sin(aim)]), 0.07, WHITE, parent)
        return
    for mirror in (-1.0, 1.0):
        claw = plan.bone(joint, (X, plan.sway(mirror * 0.3, 2.0, 0.0)), parent=parent)
        out = np.array([0, np.cos(aim + mirror * 0.6), np.sin(aim + mirror * 0.6)])
        tip = joint + 0.16 * np.array([0, np.cos(aim), np.sin(aim)]) + 0.03 * out
        plan.limb([joint, joint + out * 0.1, tip], [0.03, 0.03, 0.015], solid(colours.dark), [claw], exponent=0.4)


def _mill(plan: Plan) -> None:
    """A windmill, a turbine, a fan or a carousel."""
    rng = plan.rng
    colours = palette(rng)
    tall, wide = rng.uniform(0.5, 0.9), rng.uniform(0.06, 0.22)
    root = plan.bone((0, 0, 0))
    walls = texture(rng, colours, 0.5)
    plan.add(lathe([(0, 0), (wide * 1.3, 0), (wide * 0.8, tall), (0, tall + wide * rng.uniform(0, 1.2))], exponent=rng.choice([1.0, 0.3])), walls, root)
    turn = _spin(plan, rng.uniform(0.25, 0.9) * float(rng.choice([-1, 1])))
    paint = texture(rng, colours, 0.4, colours.accent)
    count = int(rng.integers(3, 7))
    if rng.random() < 0.7:
        yaw = plan.bone((0, tall, 0), (Y, plan.sway(0.4, 1.0)), parent=root)
        centre = np.array([0, tall * 0.95, wide + 0.05])
        plan.limb([(0, tall * 0.95, 0), centre], [0.05, 0.04], solid(colours.dark), [yaw])
        hub, long_, broad = plan.bone(centre, (Z, turn), parent=yaw), rng.uniform(0.3, 0.55), rng.uniform(0.05, 0.12)
        plan.ball(centre, 0.06, colours.dark, hub)
        for k in range(count):
            out = np.array([np.cos(2 * np.pi * k / count), np.sin(2 * np.pi * k / count), 0])
            plan.blade([centre, centre + out * long_], [0.025, broad, broad], paint if k else solid(colours.dark), [hub], np.cross(out, Z) + [0, 0, 0.35])
        return
    hub = plan.bone((0, tall, 0), (Y, turn), parent=root)
    plan.add(lathe([(0, 0), (0.42, 0), (0.4, 0.06), (0, 0.2)]).place((0, tall, 0)), mixed(walls, solid(colours.light), waves(lambda p: p.around, float(count))), hub)
    for k in range(count):
        out = np.array([np.cos(2 * np.pi * k / count), 0, np.sin(2 * np.pi * k / count)]) * 0.36
        ride = plan.bone(out + [0, tall, 0], slide=(Y, plan.sway(0.06, 1.0, k / count)), parent=hub)
        plan.limb([out + [0, tall, 0], out + [0, tall * 0.45, 0]], [0.012, 0.012], solid(colours.dark), [ride])
        plan.add(superquadric((0.06, 0.06, 0.1), *rng.uniform(0.3, 1.2, 2)).place(out + [0, tall * 0.45, 0]), texture(rng, palette(rng), 0.2), ride)


def _gears(plan: Plan) -> None:
    """Gears in a row on a board, or the pendulum and hands of a clock."""
    rng = plan.rng
    colours = palette(rng, rng.choice(["metal", "vivid"]))
    root = plan.bone((0, 0, 0), (Y, plan.sway(0.3, 1.0)))
    at, angle, turn, before = np.zeros(3), rng.uniform(0, 6), _spin(plan, rng.uniform(0.2, 0.6)).rate, 0.0
    for k in range(int(rng.integers(2, 5))):
        teeth = int(rng.integers(6, 14))
        radius = teeth * 0.022
        if k:
            angle += rng.uniform(-1.0, 1.0)
            at = at + (before + radius) * np.array([np.cos(angle), np.sin(angle), 0])
            turn *= -before / radius
        before = radius
        gear = plan.bone(at, (Z, Wave(rate=turn)), parent=root)
        thick = rng.uniform(0.03, 0.07)
        shape = lathe([(0, -thick), (radius, -thick), (radius, thick), (0, thick)], teeth=teeth, tooth=0.13)
        rim = step(lambda p, c=at, r=radius: np.sqrt(((p.points - c)[:, :2] ** 2).sum(-1)), radius * rng.uniform(0.3, 0.75), 0.01)
        plan.add(shape.place(at, upright(Z)), mixed(texture(rng, colours, 0.3, colours.any(rng)), solid(colours.any(rng)), rim), gear)
        plan.limb([at - [0, 0, 0.1], at + [0, 0, 0.1]], [0.03, 0.03], solid(colours.dark), [gear])
    if rng.random() < 0.5:
        plan.add(superquadric((0.35, 0.35, 0.03), 0.2, 0.2).place((0, 0, -0.12)), texture(rng, palette(rng), 0.5), root)


# --- toys and soft things --------------------------------------------------------------------------------------------


def _random_solid(plan: Plan, size: float) -> Sweep:
    """Any of the primitives, about ``size`` in radius, its axis along y."""
    rng = plan.rng
    kind = rng.choice(["quadric", "box", "cylinder", "cone", "torus", "lathe", "gear", "bowl"], p=[0.22, 0.14, 0.14, 0.1, 0.12, 0.14, 0.07, 0.07])
    x, y, z = size * rng.uniform(0.45, 1.1, 3)
    if kind == "quadric":
        return superquadric((x, y, z), *rng.uniform(0.3, 1.8, 2))
    if kind == "box":
        return superquadric((x, y, z), 0.1, 0.1)
    if kind == "cylinder":
        return superquadric((x, y, x), 0.1, 1.0)
    if kind == "cone":
        return lathe([(0, -y), (x, -y), (x * rng.uniform(0, 0.5), y), (0, y)], exponent=rng.choice([0.15, 1.0]))
    if kind == "torus":
        return ring(size * 0.75, size * rng.uniform(0.15, 0.35), rng.choice([0.3, 1.0]))
    if kind == "gear":
        return lathe([(0, -y * 0.4), (x, -y * 0.4), (x, y * 0.4), (0, y * 0.4)], teeth=int(rng.integers(5, 12)), tooth=0.12)
    if kind == "bowl":
        return lathe([(0, -y), (x * 0.7, -y * 0.7), (x, y * 0.4), (x * 0.88, y * 0.4), (x * 0.6, -y * 0.5), (0, -y * 0.8)])
    radii = np.concatenate([[0], size * rng.uniform(0.2, 1.0, int(rng.integers(2, 6))), [0]])
    heights = np.linspace(-y, y, len(radii))
    bulges = [(float(np.interp(h, heights, radii)), h) for h in heights] if rng.random() < 0.4 else _smooth(radii, heights)
    return lathe(bulges, exponent=rng.choice([1.0, 0.3]))


def _smooth(radii: ndarray, heights: ndarray) -> list[tuple[float, float]]:
    from scipy.interpolate import PchipInterpolator

    h = np.linspace(heights[0], heights[-1], 33)
    return list(zip(PchipInterpolator(heights, radii)(h).clip(0, None), h, strict=True))


def toy(plan: Plan) -> None:
    """Solids put together at random, some with holes, some mirrored; parts spin, swing and slide, the whole squashes and bends."""
    rng = plan.rng
    colours = palette(rng)
    root = plan.bone((0, 0, 0), (Y, _spin(plan, rng.uniform(-0.4, 0.4)) if rng.random() < 0.3 else plan.sway(0.3)), (X, plan.sway(0.12)), (Z, plan.sway(0.12)))
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
            wave = plan.sway(strength, offset=rng.uniform(-0.5, 0.5) * strength, shape=shape) if shape != "ease" else plan.sway(strength, 1.4, 0.1, shape="ease")
            plan.deforms.append(Deform(str(kind), wave, axis, towards))  # type: ignore[arg-type]


def _cluster(plan: Plan, root: int, colours: Palette) -> None:
    rng = plan.rng
    placed: list[tuple[ndarray, float, int]] = []
    for i in range(int(rng.integers(2, 8))):
        size = rng.uniform(0.25, 0.4) if i == 0 else rng.uniform(0.1, 0.3)
        shape = _random_solid(plan, size)
        paint = texture(rng, colours if rng.random() < 0.7 else palette(rng), size * 1.6, colours.any(rng))
        axes = turned((X, rng.uniform(-1, 1)), (Z, rng.uniform(-1, 1)), (Y, rng.uniform(0, 6))) if rng.random() < 0.6 else np.eye(3)
        if i == 0:
            _carved(plan, shape, axes, size, paint, root, colours)
            placed.append((np.zeros(3), size, root))
            continue
        base, reach, parent = placed[int(rng.integers(len(placed)))] if rng.random() < 0.5 else placed[0]
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
            turn = swing or (Wave(rate=mirror * 2 * np.pi * min(plan.vigour, 1.2)) if act == "spin" else None)
            slide = (tuple(aim * flip), Wave(size * 0.5 * plan.vigour, turns, phase, "hop")) if act == "slide" else None
            bone = plan.bone(joint, *(((tuple(axis * flip), turn),) if turn else ()), parent=parent, slide=slide, grow=plan.sway(0.25) if act == "grow" else None)
            plan.add(shape.place(at * flip, axes * flip * np.array([[mirror], [1], [1]])), paint, bone)
            if mirror > 0:
                placed.append((at, size, bone))


def _carved(plan: Plan, shape: Sweep, axes: ndarray, size: float, paint: Paint, bone: int, colours: Palette) -> None:
    """The first solid of a cluster; one in four has a bite taken out of it, whose wall has a colour of its own."""
    rng = plan.rng
    if rng.random() > 0.25:
        plan.add(shape.place((0, 0, 0), axes), paint, bone)
        return
    # Host and bite are ellipsoids, of which it is known what lies within.
    half = size * rng.uniform(0.7, 1.2, 3)
    aim = rng.normal(size=3)
    centre = aim / np.linalg.norm(aim) * half * rng.uniform(0.8, 1.1)
    radius = size * rng.uniform(0.45, 0.75)
    plan.add(superquadric(half), paint, bone, keep=lambda p: ((p - centre) ** 2).sum(-1) > radius**2)
    wall = texture(rng, colours, size, colours.light)
    plan.add(superquadric((radius,) * 3).place(centre), wall, bone, keep=lambda p: ((p / half) ** 2).sum(-1) < 1, inward=True)


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
        shape = {
            "ring": lambda s=size, h=tall: ring(s * 0.75, min(h, s * 0.3)),
            "block": lambda s=size, h=tall: superquadric((s, h, s), 0.12, rng.choice([0.12, 1.0])),
            "ball": lambda s=size: superquadric((s, s, s)),
            "any": lambda s=size: _random_solid(plan, s),
        }[str(kind)]()
        turns = ((Y, plan.sway(0.6, cycles, -0.1 * i)), (Z, plan.sway(slack * 0.5, cycles, -0.1 * i)), (X, plan.sway(slack * 0.4, cycles, 0.2 - 0.1 * i)))
        parent = plan.bone((0, height, 0), *turns, parent=parent, slide=(Y, plan.sway(slack * 0.2, cycles, -0.15 * i, shape="hop")))
        height += tall
        plan.add(shape.place((0, height, 0)), texture(rng, colours, size * 1.5, colours.any(rng)), parent)
        height += tall * 0.9
    if rng.random() < 0.4:
        plan.eyes((0, height - 0.2, 0), (0.14, 0.14, 0.14), parent, colours.accent)


def soft(plan: Plan) -> None:
    """Flags, ghosts, jellies, balloons and springs."""
    kind = plan.rng.choice(["flag", "ghost", "jelly", "balloon", "spring"], p=[0.22, 0.2, 0.24, 0.14, 0.2])
    {"flag": _flag, "ghost": _ghost, "jelly": _jelly, "balloon": _balloon, "spring": _spring}[str(kind)](plan)


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
        cloth = mixed(solid(colours.main), solid(colours.light), waves(lambda p: p.points[:, 1], rng.uniform(2, 5), 0.1))
    shape = tube([(0, top, 0), (long_ * 0.5, top - droop * 0.3, 0), (long_, top - droop, 0)], [wide, wide * rng.uniform(0.5, 1.0)], flat=0.02 / wide, exponent=0.3, side=Y)
    plan.add(shape, cloth, root, soft=(0.0, 1.0))
    plan.deforms.append(Deform("ripple", Wave(0.11 * plan.vigour, 1.0, offset=0.05), X, Z, rng.uniform(0.3, 0.7), float(rng.integers(1, 4))))


def _ghost(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng, "pastel")
    root = plan.bone((0, 0, 0), (Z, plan.sway(0.2, 1.0)), (Y, plan.sway(0.5, 1.0)), slide=(Y, plan.sway(0.12, 1.0)))
    tall, wide = rng.uniform(0.4, 0.6), rng.uniform(0.22, 0.34)
    skirt = lathe([(0, -tall * 0.6), (wide * 1.1, -tall), (wide * 0.9, -tall * 0.3), (wide, 0.2), (wide * 0.7, 0.4), (0, 0.5)], teeth=int(rng.integers(5, 10)), tooth=0.06)
    plan.add(skirt, grained(solid(colours.light if rng.random() < 0.6 else colours.main), rng, 0.02), root, soft=(1.0, 0.0))
    plan.eyes((0, 0.15, 0), (wide, 0.3, wide), root, colours.accent, 1.0)
    plan.ball((0, 0.02, wide * 0.93), (0.05, rng.uniform(0.02, 0.09), 0.05), BLACK, root)
    for mirror in (-1.0, 1.0):
        start = np.array([mirror * wide * 0.85, 0.05, 0.05])
        arm = plan.bone(start, (Z, plan.sway(mirror * 0.6)), parent=root)
        plan.limb([start, start + [mirror * 0.14, -0.04, 0.1]], [0.07, 0.05], solid(colours.light), [arm])
    plan.deforms.append(Deform("ripple", plan.sway(0.06, 1.0, offset=0.03), (0.3, 0.95, 0.0), X, 0.4, 1.0))


def _jelly(plan: Plan) -> None:
    rng = plan.rng
    colours = palette(rng, rng.choice(["pastel", "vivid"]))
    root = plan.bone((0, 0, 0))
    size = rng.uniform(0.25, 0.4)
    shape = _random_solid(plan, size) if rng.random() < 0.5 else superquadric(size * rng.uniform(0.7, 1.2, 3), *rng.uniform(0.4, 1.2, 2))
    plan.add(shape, texture(rng, colours, 0.5), root, soft=(0.2, 1.0))
    if rng.random() < 0.6:
        plan.eyes((0, size * 0.1, 0), (size * 0.8, size * 0.8, size * 0.85), root, colours.accent)
    for _ in range(2):
        aim = rng.normal(size=3)
        axis = aim / np.linalg.norm(aim)
        across = np.cross(axis, rng.normal(size=3))
        across /= np.linalg.norm(across)
        plan.deforms.append(Deform("ripple", plan.sway(0.05, 1.0, offset=0.03), tuple(axis), tuple(across), rng.uniform(0.3, 0.8), 1.0))
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
        top = np.array([0.24 * np.cos(2.4 * k), rng.uniform(0.05, 0.4), 0.24 * np.sin(2.4 * k)]) * ([1, 1, 1] if k else [0.2, 1, 0.2])
        bones = plan.chain([foot, top], 4, -1, lambda i: ((X, plan.sway(0.1, 1.0, 0.1 * i)), (Z, plan.sway(0.1, 1.0, 0.1 * i))))
        plan.add(tube([foot, (foot + top) / 2 + [0.03, 0, 0], top], 0.01), solid(colours.dark), *bones)
        size = rng.uniform(0.15, 0.22)
        bag = plan.bone(top, (Z, plan.sway(0.3)), grow=Wave(0.4 * plan.vigour, 1.2, 0.1, "ease") if rng.random() < 0.4 else plan.sway(0.08), parent=bones[-1])
        plan.add(lathe(_smooth(size * np.array([0, 0.2, 0.65, 1, 0.85, 0]), np.array([-0.05, 0.02, 0.12, 0.28, 0.4, 0.48]) * size / 0.2)).place(top), texture(rng, colours, 0.25), bag)


def _spring(plan: Plan) -> None:
    """A coil that something bounces on."""
    rng = plan.rng
    colours = palette(rng)
    root = plan.bone((0, 0, 0))
    turns, wide, tall = rng.uniform(3, 5), rng.uniform(0.1, 0.2), rng.uniform(0.3, 0.55)
    angle = np.linspace(0, 2 * np.pi * turns, 121)
    coil = np.stack([wide * np.cos(angle), np.linspace(0, tall, 121), wide * np.sin(angle)], -1)
    plan.add(tube(coil, rng.uniform(0.02, 0.035), side=Y), grained(solid(palette(rng, "metal").main), rng, 0.03), root)
    plan.add(superquadric((wide * 1.5, 0.04, wide * 1.5), 0.2, rng.choice([0.2, 1.0])).place((0, -0.04, 0)), texture(rng, colours, 0.3), root)
    top = np.array([0, tall + 0.02, 0])
    size = rng.uniform(0.14, 0.24)
    head = plan.bone(top, (Y, plan.sway(0.4)), (Z, plan.sway(0.3)), (X, plan.sway(0.2)), parent=root)
    plan.add(_random_solid(plan, size).place(top + [0, size * 0.7, 0]), texture(rng, colours, size * 1.5), head)
    if rng.random() < 0.5:
        plan.eyes(top + [0, size * 0.7, 0], (size * 0.8, size * 0.8, size * 0.8), head, colours.accent)
    cycles = float(rng.integers(1, 4))
    plan.deforms.append(Deform("squash", plan.sway(0.4, cycles, 0.0)))
    plan.deforms.append(Deform("bend", plan.sway(0.6, cycles), Y, X))


THINGS: dict[str, tuple[float, Callable[[Plan], None]]] = {
    "plant": (0.08, plant),
    "machine": (0.1, machine),
    "toy": (0.12, toy),
    "soft": (0.06, soft),
}
