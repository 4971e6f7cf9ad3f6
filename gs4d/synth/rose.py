"""The demo's rose, which opens: dense surface splats, made of formulas alone.

Every part (petal, sepal, leaflet, stem) is a grid of material points bent into shape; each point
becomes one flat Gaussian as wide as its grid cell. Petals stand at the golden angle and open from a
bud. Light is baked into the colour once, from one pose, so that a material point keeps its colour:
what changes over time is shape alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import Gaussians
from ..geometry import SH_C0, rotations_to_quats

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
PETALS = 34
# distance between neighbouring material points, world units: about 1.3 pixels of the 256-pixel demo
SPACING = 0.0088
# in-plane standard deviation per distance to the neighbour: the least that leaves no visible grid
OVERLAP = 0.56
THICKNESS = (
    0.0008  # standard deviation along the normal, and the least in any direction, world units
)
OPACITY = 0.98
# the pose whose light is baked: open enough to light the heart, closed enough to suit the bud
BAKE_TIME = 0.7


@dataclass(frozen=True)
class Sheet:
    """A part: a grid of material points and what they are made of.

    Attributes:
        points: positions, world units.
        albedo: RGB in [0, 1].
    """

    points: Float[Tensor, "h w 3"]
    albedo: Float[Tensor, "h w 3"]


def rose(t: float) -> Gaussians:
    """The rose at time ``t``: 0 is the bud, 1 the open flower; in between the stem sways once.

    The same Gaussians in the same order at every time, float32, spherical harmonics of degree 0.
    The object lies inside a sphere of radius 0.6 around the origin, y up.

    Raises:
        ValueError: ``t`` is outside [0, 1].
    """
    if not 0 <= t <= 1:
        raise ValueError(f"the rose blooms from t = 0 to t = 1, not at t = {t}")
    means, rotations, scales = _frames(_plant(t))
    colours = _baked_colours()
    opacity = torch.full((len(means),), math.log(OPACITY / (1 - OPACITY)))
    return Gaussians(
        means=means.float(),
        quats=rotations_to_quats(rotations).float(),
        log_scales=scales.log().float(),
        logit_opacities=opacity,
        sh=((colours - 0.5) / SH_C0)[:, None],
    )


def _frames(
    sheets: list[Sheet],
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3 3"], Float[Tensor, "n 3"]]:
    """Returns centres, rotations (third axis: normal) and scales of Gaussians that tile sheets."""
    edges = [torch.gradient(sheet.points, dim=(0, 1)) for sheet in sheets]
    along, across = (torch.cat([edge[axis].reshape(-1, 3) for edge in edges]) for axis in (0, 1))
    normal = torch.linalg.cross(along, across)
    length = along.norm(dim=-1).clamp_min(1e-5)
    breadth = normal.norm(dim=-1) / length
    first, third = along / length[:, None], torch.nn.functional.normalize(normal, dim=-1)
    rotations = torch.stack([first, torch.linalg.cross(third, first), third], -1)
    scales = torch.stack(
        [OVERLAP * length, OVERLAP * breadth, torch.zeros_like(length)], -1
    ).clamp_min(THICKNESS)
    return torch.cat([sheet.points.reshape(-1, 3) for sheet in sheets]), rotations, scales


# --- shape ----------------------------------------------------------------------------------------


def _plant(t: float) -> list[Sheet]:
    """All parts at time ``t``, always in the same order and of the same size."""
    bloom, sway = t * t * (3 - 2 * t), math.sin(2 * math.pi * t)
    tip = _vector(0.02 + 0.022 * sway, 0.05, -0.06 - 0.05 * bloom)
    axis = torch.nn.functional.normalize(
        _vector(0.06 + 0.10 * sway, 1.0, 0.34 + 0.22 * bloom), dim=0
    )
    stand = _turn_to(axis) @ _turn_y(0.35 * bloom)
    flower = [_petal(i, bloom) for i in range(PETALS)] + [_sepal(k, bloom) for k in range(5)]
    parts = [Sheet(part.points @ stand.T + tip, part.albedo) for part in flower]

    foot, knee = _vector(0.0, -0.575, 0.02), tip - 0.26 * axis
    s = torch.linspace(0, 1, 90, dtype=torch.float64)
    line = (1 - s[:, None]) ** 2 * foot + 2 * (s * (1 - s))[:, None] * knee + s[:, None] ** 2 * tip
    hip = 0.022 * torch.exp(-(((s - 0.97) / 0.035) ** 2))
    parts.append(_tube(line, 0.0125 + hip))
    for knot, azimuth, size in ((20, 0.9, 1.0), (36, 3.3, 0.95), (52, 5.2, 0.85)):
        flutter = 0.10 * math.sin(2 * math.pi * t + 0.07 * knot) + 0.08 * bloom
        turn = _turn_y(azimuth)
        parts += [
            Sheet(part.points @ turn.T + line[knot], part.albedo) for part in _leaf(size, flutter)
        ]
    return parts


def _blade(
    slope: Tensor, length: Tensor, arc: Tensor, radius: Tensor, lift: Tensor, base: float
) -> Float[Tensor, "h w 3"]:
    """Bends a strip: along its length in the vertical plane, across its width around a circle.

    Args:
        slope: (h, w) angle of the profile from the vertical, radians: 0 grows up, pi/2 grows
            outwards.
        length: (w,) length of each column.
        arc: (h, w) signed distance from the middle line.
        radius: (h, 1) radius of the circle across.
        lift: (h, w) displacement towards the inside.
        base: distance of the foot from the axis.

    Returns:
        Points in the frame (outwards, up, sideways).
    """
    step = length / (slope.shape[0] - 1)
    out = base + torch.cumsum(torch.sin(slope) * step, 0)
    up = torch.cumsum(torch.cos(slope) * step, 0)
    inwards = radius * (1 - torch.cos(arc / radius)) + lift
    return torch.stack(
        [
            out - inwards * torch.cos(slope),
            up + inwards * torch.sin(slope),
            radius * torch.sin(arc / radius),
        ],
        -1,
    )


def _petal(i: int, bloom: float) -> Sheet:
    """Petal ``i`` (0: innermost) of a flower open by ``bloom`` in [0, 1], foot at the origin."""
    generator = torch.Generator().manual_seed(1000 + i)
    jitter = torch.rand(8, generator=generator, dtype=torch.float64) * 2 - 1
    f = i / (PETALS - 1)
    open_ = bloom * f
    size = 0.25 + 0.23 * f**0.8 + 0.012 * float(jitter[0])
    width = 0.13 + 0.12 * f**0.7 + 0.008 * float(jitter[1])
    v, u = _grid(size, 2 * width)

    # The outline: narrow foot, broad shoulders, round corners, and a small point that the rolled
    # rim makes sharper.
    half = width * (0.2 + 0.8 * torch.sin(0.62 * math.pi * v**0.9))
    tip = 1 - 0.40 * (1 - torch.sqrt(1 - 0.96 * u**2)) + 0.035 * torch.exp(-((u / 0.22) ** 2))
    length = (size * tip).squeeze(0)

    lean = math.radians(
        _mix(1 + 19 * f**1.5, 3 + 54 * f**1.15, bloom) + 4 * float(jitter[2]) * (0.3 + 0.7 * open_)
    )
    cup = math.radians(_mix(14 + 42 * f**0.6, 16 + 26 * f**0.6, bloom))
    roll = math.radians(_mix(10 + 30 * f, 25 + 85 * f**0.8, bloom) * (1 + 0.25 * float(jitter[3])))
    slope = lean + cup * (1 - 2 * v) + roll * _smoothstep(0.6, 1.05, v) * (0.35 + 0.65 * u**2)

    middle = slope[:, slope.shape[1] // 2]
    spine = (
        0.012
        + 0.02 * f
        + torch.cumsum(torch.sin(middle) * size / len(v), 0)[:, None].clamp_min(0.0)
    )
    radius = 0.018 + 0.9 * spine + open_ * (0.012 - 0.15 * spine + 0.12 * f)
    arc = half * u
    swirl = (0.10 * (1 - f) + 0.05) * arc * v
    ruffle = (
        0.007 * (0.3 + open_) * v**4 * torch.sin(2.6 * math.pi * u + 6 * jitter[4]) * (0.4 + u**2)
    )
    points = _blade(slope, length, arc, radius, swirl + ruffle, 0.006 + 0.014 * f)
    points[..., 1] += _mix(0.05, 0.09, bloom) * (1 - f) - 0.008
    turn = _turn_y(i * GOLDEN_ANGLE + 0.1 * float(jitter[5]))
    return Sheet(_upright(points) @ turn.T, _petal_albedo(v, u, f, generator))


def _sepal(k: int, bloom: float) -> Sheet:
    """Green leaf ``k`` of five under the petals; it folds back as the flower opens."""
    v, u = _grid(0.2, 0.05)
    half = 0.027 * torch.sin(math.pi * (0.12 + 0.88 * v)) ** 0.8 * (1 - 0.35 * v) + 0.0006
    slope = math.radians(_mix(76.0, 118.0, bloom)) + math.radians(_mix(-62.0, -10.0, bloom)) * v
    slope = slope + math.radians(_mix(75.0, 60.0, bloom)) * v**4 + 0 * u
    points = _blade(
        slope,
        torch.full((u.shape[1],), 0.2, dtype=v.dtype),
        half * u,
        0.04 + 0.05 * v,
        0 * slope,
        0.03,
    )
    green = (
        torch.tensor([0.30, 0.48, 0.18], dtype=v.dtype)
        * (0.75 + 0.35 * v[..., None])
        * (1 - 0.15 * u[..., None] ** 2)
    )
    turn = _turn_y(2 * math.pi * k / 5 + 0.3)
    return Sheet(_upright(points) @ turn.T, green)


def _leaf(size: float, flutter: float) -> list[Sheet]:
    """Three leaflets on a stalk that leaves the origin towards +z and up.

    ``flutter`` lowers them, radians.
    """
    tilt = 1.0 + flutter
    stalk = 0.15 * size * _vector(0.0, math.cos(tilt), math.sin(tilt))
    parts = [
        _tube(
            torch.linspace(0, 1, 24, dtype=torch.float64)[:, None] * stalk,
            torch.full((24,), 0.006).double(),
        )
    ]
    for along, yaw, scale in ((1.0, 0.0, 1.0), (0.55, 1.0, 0.72), (0.52, -1.0, 0.68)):
        blade = _leaflet(0.31 * size * scale, 1.08 + flutter - 0.08 * yaw)
        parts.append(Sheet(blade.points @ _turn_y(yaw).T + along * stalk, blade.albedo))
    return parts


def _tube(line: Float[Tensor, "h 3"], thickness: Float[Tensor, "h"]) -> Sheet:
    """A green stalk of the given radius along a line that does not run along +z."""
    around = torch.linspace(
        0, 2 * math.pi, max(7, round(13 * float(thickness.min()) / 0.0125)), dtype=line.dtype
    )
    (tangent,) = torch.gradient(line, dim=0)
    side = torch.nn.functional.normalize(
        torch.linalg.cross(tangent, _vector(0.0, 0.0, 1.0).expand_as(tangent)), dim=-1
    )
    front = torch.nn.functional.normalize(torch.linalg.cross(side, tangent), dim=-1)
    ring = torch.cos(around)[:, None] * side[:, None] + torch.sin(around)[:, None] * front[:, None]
    points = line[:, None] + thickness[:, None, None] * ring
    streaks = 0.95 + 0.12 * torch.sin(40 * points[..., 1:2] + 2 * torch.sin(2 * around)[:, None])
    return Sheet(points, _vector(0.28, 0.43, 0.17) * streaks)


def _leaflet(size: float, lean: float) -> Sheet:
    """A serrated leaflet with veins, foot at the origin, leaning to +z by ``lean`` radians."""
    v, u = _grid(size, 0.62 * size)
    teeth = 1 - 0.10 * ((v * 15) % 1.0) * (1 - v) ** 0.3
    half = (
        0.34 * size * torch.sin(math.pi * v.clamp(0, 1) ** 0.72) ** 0.75 * (1 - 0.25 * v) * teeth
        + 0.002
    )
    slope = lean - 0.25 + 1.1 * v**1.5 + 0 * u
    ribs = torch.sin(math.pi * 9 * (v - 0.35 * u.abs()))
    lift = 0.28 * (half * u).abs() + 0.0025 * ribs * u.abs() * (1 - u.abs())
    radius = torch.full_like(v, 0.6)
    points = _blade(
        slope, torch.full((u.shape[1],), size, dtype=v.dtype), half * u, radius, lift, 0.0
    )
    vein = torch.maximum(
        torch.exp(-((u / 0.07) ** 2)), 0.7 * _smoothstep(0.86, 1.0, ribs) * (1 - u.abs())
    )
    low, high = (
        torch.tensor([0.16, 0.40, 0.14], dtype=v.dtype),
        torch.tensor([0.52, 0.68, 0.34], dtype=v.dtype),
    )
    base = low * (0.9 + 0.3 * (1 - u.abs()))[..., None]
    return Sheet(_upright(points), base + vein[..., None] * 0.75 * (high - base))


# --- colour and light -----------------------------------------------------------------------------


def _petal_albedo(
    v: Tensor, u: Tensor, f: float, generator: torch.Generator
) -> Float[Tensor, "h w 3"]:
    """Crimson heart, rose-red body, pale rim.

    Veins that fan out from the foot, and slight mottling.
    """
    heart, body, rim = (
        torch.tensor(c, dtype=v.dtype)
        for c in ((0.60, 0.01, 0.07), (0.93, 0.07, 0.20), (1.0, 0.60, 0.66))
    )
    v, u = torch.broadcast_tensors(v, u)
    inner = heart + (body - heart) * _smoothstep(0.0, 0.7, v * (0.45 + 0.55 * f))[..., None]
    edge = torch.maximum(
        _smoothstep(0.7, 1.0, v), _smoothstep(0.72, 1.0, u.abs()) * _smoothstep(0.35, 0.9, v)
    )
    colour = inner + (rim - inner) * (edge * (0.2 + 0.6 * f))[..., None]
    vein = (
        torch.sin(19 * u * (1 - 0.2 * v) + 1.2 * torch.sin(4 * v + 3 * u)) ** 4
        * _smoothstep(0.05, 0.4, v)
        * (1 - v)
    )
    noise = torch.randn(v.shape, generator=generator, dtype=v.dtype)
    return colour * (1 - 0.22 * vein + 0.025 * noise)[..., None]


@lru_cache(maxsize=1)
def _baked_colours() -> Float[Tensor, "n 3"]:
    """Returns colours under a fixed lamp and sky, shaded by the plant at ``BAKE_TIME``.

    Occlusion is absorption along rays through a grid of surface density, so that it is soft, and
    darkest in the heart.
    """
    sheets = _plant(BAKE_TIME)
    points, rotations, scales = (part.float() for part in _frames(sheets))
    albedo = torch.cat([sheet.albedo.reshape(-1, 3) for sheet in sheets]).float()
    normals, area = rotations[:, :, 2], scales[:, 0] * scales[:, 1] / OVERLAP**2
    cells, half = 56, 0.63
    cell = 2 * half / cells
    x, y, z = ((points + half) / cell).long().clamp(0, cells - 1).unbind(-1)
    density = torch.bincount((z * cells + y) * cells + x, area, cells**3).float() / cell**3
    grid = density.reshape(1, 1, cells, cells, cells)
    distances = cell * (1.4 + 1.15 * torch.arange(18))

    def light_from(direction: Tensor) -> Tensor:
        along = (points + distances[:, None, None] * direction) / half
        met = torch.nn.functional.grid_sample(grid, along[None, :, :, None], align_corners=False)
        return torch.exp(-0.5 * 1.15 * cell * met.sum(2).flatten())

    sky = torch.zeros(len(points))
    directions = _sphere(26).float()
    for d in directions:
        sky += light_from(d) * (0.7 + 0.3 * d[1]) * (0.4 + 0.6 * (normals @ d).abs())
    sky /= len(directions) * 0.7 * 0.7
    key = torch.nn.functional.normalize(torch.tensor([-0.45, 0.75, 0.6]), dim=0)
    sun = light_from(key) * (0.25 + 0.75 * (normals @ key).abs())
    warm, cool = torch.tensor([1.0, 0.96, 0.90]), torch.tensor([0.93, 0.96, 1.0])
    light = (0.8 * sky[:, None] * cool + 0.62 * sun[:, None] * warm).clamp(0.04, 1)
    # Light that bounces between petals takes their colour: occluded places turn deep red, not grey.
    return (albedo * light / (1 - 0.8 * albedo * (1 - light))).clamp(0, 1)


# --- small helpers --------------------------------------------------------------------------------


def _grid(length: float, width: float) -> tuple[Float[Tensor, "h 1"], Float[Tensor, "1 w"]]:
    """Coordinates 0..1 along and -1..1 across, spaced by ``SPACING``.

    At least three each way, odd across.
    """
    rows, half = max(3, round(length / SPACING)), max(1, round(width / SPACING / 2))
    v = torch.linspace(0, 1, rows, dtype=torch.float64)
    x = torch.linspace(-1, 1, 2 * half + 1, dtype=torch.float64)
    return v[:, None], (0.5 * (x + torch.sin(math.pi / 2 * x)))[None]


def _mix(a: float, b: float, weight: float) -> float:
    return a + (b - a) * weight


def _smoothstep(low: float, high: float, x: Tensor) -> Tensor:
    s = ((x - low) / (high - low)).clamp(0, 1)
    return s * s * (3 - 2 * s)


def _upright(points: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """Turns the blade's frame (outwards, up, sideways) to the world's, outwards along +z."""
    return points[..., [2, 1, 0]]


def _vector(x: float, y: float, z: float) -> Float[Tensor, "3"]:
    return torch.tensor([x, y, z], dtype=torch.float64)


def _turn_y(angle: float) -> Float[Tensor, "3 3"]:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]], dtype=torch.float64)


def _turn_to(axis: Tensor) -> Float[Tensor, "3 3"]:
    """The rotation that takes +y to ``axis`` the short way."""
    x, y, z = (float(a) for a in axis)
    k = 1 / (1 + y)
    return torch.tensor(
        [[1 - k * x * x, x, -k * x * z], [-x, y, -z], [-k * x * z, z, 1 - k * z * z]],
        dtype=torch.float64,
    )


def _sphere(n: int) -> Float[Tensor, "n 3"]:
    """Nearly even directions (a Fibonacci sphere)."""
    k = torch.arange(n, dtype=torch.float64) + 0.5
    y = 1 - 2 * k / n
    ring = torch.sqrt(1 - y * y)
    return torch.stack(
        [ring * torch.cos(GOLDEN_ANGLE * k), y, ring * torch.sin(GOLDEN_ANGLE * k)], -1
    )
