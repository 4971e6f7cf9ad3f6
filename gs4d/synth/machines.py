"""Cars, aeroplanes, robot arms, mills and gears: what turns about an axle."""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from .build import WHITE, Plan, X, Y, Z, upright
from .paint import (
    Paint,
    Palette,
    Patch,
    checks,
    hsv,
    mixed,
    palette,
    solid,
    span,
    step,
    texture,
    waves,
)
from .rig import Wave
from .surface import lathe, norm, superquadric, tube


def machine(plan: Plan) -> None:
    """Cars, aeroplanes, arms, mills and clockworks: what turns about an axle."""
    kind = plan.rng.choice(
        ["car", "plane", "arm", "mill", "gears"], p=[0.34, 0.22, 0.16, 0.14, 0.14]
    )
    {"car": _car, "plane": _plane, "arm": _arm, "mill": _mill, "gears": _gears}[str(kind)](plan)


def _wheel(plan: Plan, at: ndarray, radius: float, wide: float, paint: Paint, bone: int) -> None:
    rim = radius * 0.62
    profile = [
        (0, -wide * 0.8),
        (rim, -wide * 0.8),
        (rim, -wide),
        (radius * 0.95, -wide),
        (radius, 0),
        (radius * 0.95, wide),
        (rim, wide),
        (rim, wide * 0.8),
        (0, wide * 0.8),
    ]
    tyre = np.array([0.06, 0.06, 0.07])

    def wheel(patch: Patch) -> ndarray:
        away = np.sqrt((patch.points[:, 1] - at[1]) ** 2 + (patch.points[:, 2] - at[2]) ** 2)
        return np.where((away > rim * 1.02)[:, None], tyre, paint(patch))

    plan.add(lathe(profile).place(at, upright(X)), wheel, bone)


class _Vehicle:
    """Sizes, colours and bones of a vehicle that its parts share."""

    colours: Palette
    long_: float
    wide: float
    tall: float
    edge: float
    kind: str
    steer: Wave
    drive: int
    body: Paint
    glass: ndarray
    high: float


def _car(plan: Plan) -> None:
    v = _Vehicle()
    _chassis(plan, v)
    _superstructure(plan, v)
    _wheels(plan, v)


def _chassis(plan: Plan, v: _Vehicle) -> None:
    """Chooses sizes and colours, and adds the body."""
    rng = plan.rng
    v.colours = palette(rng)
    v.long_, v.wide, v.tall = (
        rng.uniform(0.4, 0.65),
        rng.uniform(0.18, 0.28),
        rng.uniform(0.08, 0.16),
    )
    v.edge = rng.uniform(0.15, 0.7)
    v.kind = rng.choice(["car", "truck", "tank", "train"], p=[0.45, 0.25, 0.15, 0.15])
    root = plan.bone(
        (0, 0, 0), (X, plan.sway(0.05)), (Z, plan.sway(0.05)), slide=(Y, plan.sway(0.03, 2.0))
    )
    v.steer = plan.sway(0.25, 1.0)
    v.drive = plan.bone(
        (0, 0, 0), (Y, Wave(v.steer.amount * 0.5, 1.0, v.steer.phase - 0.1)), parent=root
    )
    v.body = texture(rng, v.colours, 0.6)
    plan.add(
        superquadric((v.wide, v.tall, v.long_), v.edge, v.edge).place((0, 0, 0)), v.body, v.drive
    )
    v.glass = np.array([0.25, 0.4, 0.5]) * rng.uniform(0.4, 1.4)
    v.high = rng.uniform(0.09, 0.18)


def _superstructure(plan: Plan, v: _Vehicle) -> None:
    """Adds a cabin, a load, a turret or a boiler."""
    rng = plan.rng
    if v.kind == "car":
        place = np.array([0, v.tall + v.high * 0.6, rng.uniform(-0.25, 0.05) * v.long_])
        cabin = superquadric((v.wide * 0.85, v.high, v.long_ * rng.uniform(0.35, 0.6)), 0.6, v.edge)
        pane = mixed(
            solid(v.colours.main),
            solid(v.glass),
            lambda p: ((p.along > 0.3) & (p.along < 0.82)).astype(float),
        )
        plan.add(cabin.place(place), pane, v.drive)
    elif v.kind == "truck":
        plan.add(
            superquadric((v.wide * 0.95, v.high * 1.3, v.long_ * 0.3), 0.25, v.edge).place(
                (0, v.tall + v.high, v.long_ * 0.6)
            ),
            mixed(
                solid(v.colours.second),
                solid(v.glass),
                step(
                    lambda p: (
                        p.normals[:, 2] - 8 * np.maximum(0, v.tall + 0.5 * v.high - p.points[:, 1])
                    ),
                    0.6,
                ),
            ),
            v.drive,
        )
        _load(plan, v, rng)
    elif v.kind == "tank":
        _turret(plan, v)
    else:
        plan.add(
            tube(
                [(0, v.tall + 0.1, -0.1 * v.long_), (0, v.tall + 0.1, v.long_ * 0.95)],
                v.wide * 0.65,
            ),
            solid(v.colours.second),
            v.drive,
        )
        plan.add(
            superquadric((v.wide * 0.95, v.high * 1.6, v.long_ * 0.3), 0.2, 0.2).place(
                (0, v.tall + v.high * 1.3, -v.long_ * 0.65)
            ),
            v.body,
            v.drive,
        )
        plan.add(
            lathe([(0, 0), (0.05, 0), (0.08, 0.2), (0, 0.2)]).place(
                (0, v.tall + 0.2, v.long_ * 0.7)
            ),
            solid(v.colours.dark),
            v.drive,
        )


def _load(plan: Plan, v: _Vehicle, rng: Generator) -> None:
    """Adds the load of a truck, which may tip."""
    tip = plan.bone(
        (0, v.tall, -v.long_),
        (X, plan.sway(-0.4, 1.0, shape="hop") if rng.random() < 0.5 else plan.sway(0.02)),
        parent=v.drive,
    )
    load = rng.uniform(1.0, 2.2) * v.high
    plan.add(
        superquadric((v.wide, load, v.long_ * 0.6), 0.1, 0.15).place(
            (0, v.tall + load, -v.long_ * 0.4)
        ),
        texture(rng, v.colours, 0.5, v.colours.any(rng)),
        tip,
    )


def _turret(plan: Plan, v: _Vehicle) -> None:
    """Adds a turret and a gun."""
    turret = plan.bone((0, v.tall, 0), (Y, plan.sway(0.9, 1.0)), parent=v.drive)
    plan.add(
        superquadric((v.wide * 0.7, v.high * 0.7, v.wide * 0.8), 0.5, 0.8).place(
            (0, v.tall + v.high * 0.5, 0)
        ),
        v.body,
        turret,
    )
    gun = plan.bone((0, v.tall + v.high * 0.5, v.wide * 0.5), (X, plan.sway(0.3)), parent=turret)
    plan.limb(
        [(0, v.tall + v.high * 0.5, v.wide * 0.4), (0, v.tall + v.high * 0.55, v.long_ * 1.2)],
        [0.03, 0.035],
        solid(v.colours.dark),
        [gun],
    )


def _wheels(plan: Plan, v: _Vehicle) -> None:
    """Adds lights and wheels."""
    rng = plan.rng
    for mirror in (-1, 1):
        plan.ball(
            (mirror * v.wide * 0.6, 0.02, v.long_ * 0.97),
            (0.045, 0.045, 0.03),
            hsv(0.14, 0.3, 1.0),
            v.drive,
        )
        plan.ball(
            (mirror * v.wide * 0.65, 0.03, -v.long_ * 0.97),
            (0.045, 0.03, 0.03),
            hsv(0.0, 0.9, 0.8),
            v.drive,
        )
    radius = rng.uniform(0.1, 0.17)
    hub = mixed(solid(v.colours.light), solid(v.colours.dark), checks(int(rng.integers(2, 4)), 1))
    turn = plan.spin(rng.uniform(0.4, 1.2))
    axles = np.linspace(-0.62, 0.62, 2 if v.kind == "car" else int(rng.integers(2, 4)))
    for z in axles:
        for mirror in (-1.0, 1.0):
            at = np.array([mirror * (v.wide + 0.01), -v.tall * 0.9, z * v.long_])
            turns = ((Y, v.steer),) if z == axles[-1] and v.kind == "car" else ()
            _wheel(plan, at, radius, 0.045, hub, plan.bone(at, *turns, (X, turn), parent=v.drive))


def _plane(plan: Plan) -> None:
    """Aeroplanes, helicopters and rockets."""
    rng = plan.rng
    colours = palette(rng)
    kind = rng.choice(["plane", "helicopter", "rocket"], p=[0.45, 0.35, 0.2])
    long_, girth = rng.uniform(0.4, 0.6), rng.uniform(0.08, 0.16)
    root = plan.bone(
        (0, 0, 0),
        (Z, plan.sway(0.4, 1.0)),
        (X, plan.sway(0.15, 1.0)),
        (Y, plan.sway(0.2, 1.0)),
        slide=(Y, plan.sway(0.08, 1.0)),
    )
    skin, trim = texture(rng, colours, 0.5), texture(rng, colours, 0.4, colours.accent)
    turn = plan.spin(rng.uniform(0.8, 2.2) * float(rng.choice([-1, 1])))
    if kind == "rocket":
        _rocket(plan, long_, rng, root, girth, skin, colours, trim)
        return
    line = [(0, 0, -long_), (0, 0.02, -0.1), (0, 0, long_ * 0.8)]
    pod = girth * (1.5 if kind == "helicopter" else 1.1)
    plan.add(
        tube(line, [girth * 0.25, girth * 0.45, pod * 0.9, pod * 1.15, pod * 0.8], side=X),
        skin,
        root,
    )
    plan.ball(
        (0, pod * 0.6, long_ * 0.45),
        (pod * 0.7, pod * 0.7, pod * 1.2),
        np.array([0.2, 0.35, 0.5]),
        root,
    )
    plan.blade([(0, 0, -long_), (0, 0.22, -long_ * 1.08)], [0.1, 0.06], trim, [root], Z)
    span_ = rng.uniform(0.35, 0.6) if kind == "plane" else 0.16
    for mirror in (-1.0, 1.0):
        plan.blade(
            [(0, 0.02, -long_ * 0.9), (mirror * 0.22, 0.03, -long_)], [0.07, 0.05], trim, [root], Z
        )
        if kind == "plane":
            rise = rng.uniform(-0.02, 0.1)
            plan.blade(
                [(0, 0, 0.1), (mirror * span_, rise, 0.1 - rng.uniform(0, 0.25))],
                [0.13, 0.07],
                trim,
                [root],
                Z,
            )
    centre = (
        np.array([0, 0, long_ * 0.8 + pod * 0.9])
        if kind == "plane"
        else np.array([0, pod * 1.35, long_ * 0.15])
    )
    _rotor(plan, kind, rng, centre, turn, root, colours)


def _rotor(
    plan: Plan, kind: str, rng: Generator, centre: ndarray, turn: Wave, root: int, colours: Palette
) -> None:
    """Adds a propeller or a rotor."""
    axis, blades = (
        (Z, 2 + int(rng.integers(2))) if kind == "plane" else (Y, 2 + int(rng.integers(3)))
    )
    rotor = plan.bone(centre, (axis, turn), parent=root)
    plan.ball(centre, 0.04, colours.dark, rotor)
    reach = 0.26 if kind == "plane" else rng.uniform(0.4, 0.6)
    for k in range(blades):
        angle = 2 * np.pi * k / blades
        out = (
            np.array([np.cos(angle), np.sin(angle), 0])
            if kind == "plane"
            else np.array([np.cos(angle), 0, np.sin(angle)])
        )
        plan.blade(
            [centre, centre + out * reach],
            [0.03, 0.045],
            solid(colours.dark if k else colours.accent),
            [rotor],
            np.cross(out, np.asarray(axis)) + 0.3 * np.asarray(axis),
        )


def _rocket(
    plan: Plan,
    long_: float,
    rng: Generator,
    root: int,
    girth: float,
    skin: Paint,
    colours: Palette,
    trim: Paint,
) -> None:
    """Adds a rocket with fins and a flame."""
    line = [(0, -long_, 0), (0, 0, 0), (0, long_, 0)]
    rocket = plan.bone((0, 0, 0), (Y, plan.spin(rng.uniform(-0.5, 0.5))), parent=root)
    plan.add(
        tube(line, girth * np.array([0.7, 1.1, 1.0, 0.05])),
        mixed(skin, solid(colours.accent), span(0.78, 1.0)),
        rocket,
    )
    for k in range(fins := int(rng.integers(3, 5))):
        out = np.array([np.sin(2 * np.pi * k / fins), 0, np.cos(2 * np.pi * k / fins)])
        plan.blade(
            [out * girth * 0.5 + [0, -long_ * 0.6, 0], out * girth * 2 + [0, -long_ * 1.1, 0]],
            [0.12, 0.08],
            trim,
            [rocket],
            Y,
        )
    plan.ball(
        (0, 0.35 * long_, girth * 0.85), (0.06, 0.06, 0.03), np.array([0.3, 0.6, 0.8]), rocket
    )
    flame = plan.bone((0, -long_ - girth * 0.5, 0), grow=plan.sway(0.35, 3.0), parent=rocket)
    plan.add(
        lathe([(0, -0.35), (girth * 0.5, -0.1), (girth * 0.4, 0), (0, 0)]).place((0, -long_, 0)),
        mixed(solid(hsv(0.03, 0.9, 1)), solid(hsv(0.14, 0.7, 1)), span(0.55, 1)),
        flame,
    )


def _arm(plan: Plan) -> None:
    """A robot arm, a crane or a desk lamp."""
    rng = plan.rng
    colours = palette(rng, rng.choice(["vivid", "metal"]))
    base = plan.bone((0, 0, 0), (Y, plan.sway(0.9, 1.0)))
    foot = plan.bone((0, 0, 0))
    plan.add(
        lathe([(0, -0.1), (0.25, -0.1), (0.22, 0), (0.12, 0.05), (0, 0.05)]),
        solid(colours.dark),
        foot,
    )
    paint = texture(rng, colours, 0.3)
    joint, parent = np.array([0.0, 0.05, 0.0]), base
    aim, thick = rng.uniform(-0.4, 0.2), rng.uniform(0.045, 0.08)
    for i in range(int(rng.integers(2, 5))):
        size = rng.uniform(0.25, 0.4) * (1 - 0.12 * i)
        end = joint + size * np.array([0, np.cos(aim), np.sin(aim)])
        parent = plan.bone(
            joint,
            (X, plan.sway(0.45, 1.0, shape="drift" if rng.random() < 0.3 else "sine")),
            parent=parent,
        )
        plan.add(
            superquadric((thick * 1.5, thick * 1.3, thick * 1.3), 0.15, 1.0).place(
                joint, upright(X)
            ),
            solid(colours.accent),
            parent,
        )
        plan.add(tube([joint, end], thick, exponent=rng.uniform(0.2, 1.0)), paint, parent)
        joint, aim, thick = end, aim + rng.uniform(0.4, 1.1), thick * 0.85
    if rng.random() < 0.3:
        shade = lathe([(0.03, 0.06), (0.05, 0.05), (0.15, -0.12), (0.14, -0.12), (0.03, 0.03)])
        plan.add(
            shade.place(
                joint, -upright((0, np.cos(aim), np.sin(aim)))[[0, 1, 2]] * [[-1], [1], [1]]
            ),
            solid(colours.main),
            parent,
        )
        plan.ball(joint + 0.05 * np.array([0, np.cos(aim), np.sin(aim)]), 0.07, WHITE, parent)
        return
    for mirror in (-1.0, 1.0):
        claw = plan.bone(joint, (X, plan.sway(mirror * 0.3, 2.0, 0.0)), parent=parent)
        out = np.array([0, np.cos(aim + mirror * 0.6), np.sin(aim + mirror * 0.6)])
        tip = joint + 0.16 * np.array([0, np.cos(aim), np.sin(aim)]) + 0.03 * out
        plan.limb(
            [joint, joint + out * 0.1, tip],
            [0.03, 0.03, 0.015],
            solid(colours.dark),
            [claw],
            exponent=0.4,
        )


def _mill(plan: Plan) -> None:
    """A windmill, a turbine, a fan or a carousel."""
    rng = plan.rng
    colours = palette(rng)
    tall, wide = rng.uniform(0.5, 0.9), rng.uniform(0.06, 0.22)
    root = plan.bone((0, 0, 0))
    walls = texture(rng, colours, 0.5)
    plan.add(
        lathe(
            [(0, 0), (wide * 1.3, 0), (wide * 0.8, tall), (0, tall + wide * rng.uniform(0, 1.2))],
            exponent=rng.choice([1.0, 0.3]),
        ),
        walls,
        root,
    )
    turn = plan.spin(rng.uniform(0.25, 0.9) * float(rng.choice([-1, 1])))
    paint = texture(rng, colours, 0.4, colours.accent)
    count = int(rng.integers(3, 7))
    if rng.random() < 0.7:
        yaw = plan.bone((0, tall, 0), (Y, plan.sway(0.4, 1.0)), parent=root)
        centre = np.array([0, tall * 0.95, wide + 0.05])
        plan.limb([(0, tall * 0.95, 0), centre], [0.05, 0.04], solid(colours.dark), [yaw])
        hub, long_, broad = (
            plan.bone(centre, (Z, turn), parent=yaw),
            rng.uniform(0.3, 0.55),
            rng.uniform(0.05, 0.12),
        )
        plan.ball(centre, 0.06, colours.dark, hub)
        for k in range(count):
            out = np.array([np.cos(2 * np.pi * k / count), np.sin(2 * np.pi * k / count), 0])
            plan.blade(
                [centre, centre + out * long_],
                [0.025, broad, broad],
                paint if k else solid(colours.dark),
                [hub],
                np.cross(out, Z) + [0, 0, 0.35],
            )
        return
    hub = plan.bone((0, tall, 0), (Y, turn), parent=root)
    plan.add(
        lathe([(0, 0), (0.42, 0), (0.4, 0.06), (0, 0.2)]).place((0, tall, 0)),
        mixed(walls, solid(colours.light), waves(lambda p: p.around, float(count))),
        hub,
    )
    for k in range(count):
        out = np.array([np.cos(2 * np.pi * k / count), 0, np.sin(2 * np.pi * k / count)]) * 0.36
        ride = plan.bone(out + [0, tall, 0], slide=(Y, plan.sway(0.06, 1.0, k / count)), parent=hub)
        plan.limb(
            [out + [0, tall, 0], out + [0, tall * 0.45, 0]],
            [0.012, 0.012],
            solid(colours.dark),
            [ride],
        )
        plan.add(
            superquadric((0.06, 0.06, 0.1), *rng.uniform(0.3, 1.2, 2)).place(
                out + [0, tall * 0.45, 0]
            ),
            texture(rng, palette(rng), 0.2),
            ride,
        )


def _gears(plan: Plan) -> None:
    """Gears in a row on a board, or the pendulum and hands of a clock."""
    rng = plan.rng
    colours = palette(rng, rng.choice(["metal", "vivid"]))
    root = plan.bone((0, 0, 0), (Y, plan.sway(0.3, 1.0)))
    at, angle, turn, before = (
        np.zeros(3),
        rng.uniform(0, 6),
        plan.spin(rng.uniform(0.2, 0.6)).rate,
        0.0,
    )
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
        shape = lathe(
            [(0, -thick), (radius, -thick), (radius, thick), (0, thick)], teeth=teeth, tooth=0.13
        )
        rim = step(
            lambda p, c=at: norm((p.points - c) * [1, 1, 0]), radius * rng.uniform(0.3, 0.75), 0.01
        )
        plan.add(
            shape.place(at, upright(Z)),
            mixed(texture(rng, colours, 0.3, colours.any(rng)), solid(colours.any(rng)), rim),
            gear,
        )
        plan.limb([at - [0, 0, 0.1], at + [0, 0, 0.1]], [0.03, 0.03], solid(colours.dark), [gear])
    if rng.random() < 0.5:
        plan.add(
            superquadric((0.35, 0.35, 0.03), 0.2, 0.2).place((0, 0, -0.12)),
            texture(rng, palette(rng), 0.5),
            root,
        )
