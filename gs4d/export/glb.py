"""One animated file for every program that knows glTF.

Canonical splats, modes of motion as morph targets, and their weights.

docs/format.md describes the layout with an example; ``gs4d.io.glb`` reads it.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .. import __version__
from ..asset import Asset
from ..camera import orbit_pose
from ..clip import Orbit
from ..gaussians import Gaussians
from ..geometry import SH_C0, rotations_to_quats
from ..io.glb import MOVES, SPLATS, WIDTHS, XYZW
from ..io.glb_writer import GlbWriter
from ..motion import Bounds, LowRank, factor
from ..motion.lowrank import MAX_KEYFRAMES
from .rounding import BYTE, Part, round_modes

TOLERANCE = (
    0.001  # of the object's size: how far a centre may be from where it should be at a frame
)
BETWEEN = 4.0  # times that, between the frames, where nothing was seen that could be followed
# times that, for turning and stretching, which move no more than the outline of a Gaussian
OUTLINES = 10.0
FACTORED = (
    0.05  # of what is allowed, for modes that are left out; the rest is for rounding the others
)
KEYS = 4  # keyframes per frame: between two frames a fitted motion may bend
# so that nothing lies on the border of a normalized integer's range, where rounding could pass it
ROOM = 1.0001


def write_glb(
    path: Path,
    asset: Asset,
    *,
    frames: int | None = None,
    fps: float = 8.0,
    tolerance: float = TOLERANCE,
    copyright: str | None = None,
) -> None:
    """Writes ``rose.glb``.

    Args:
        path: the file.
        asset: what is written; positions may lie anywhere, they are quantised to 1/32767 of the
            object's extent.
        frames: at how many even times the motion is best kept; None: at the frames of the clip.
        fps: of these frames when played.
        tolerance: of the motion, as a part of the object's size: no centre is further from its path
            at a frame. Between the frames four times that is the aim; outlines may be off by ten
            times that (99 %, root mean square over the frames).
        copyright: whose it is, and under which licence; None leaves that open.

    Raises:
        UserError: the file cannot be written.
    """
    times = asset.times(frames)
    bound = tolerance * size_of(asset.at(0.0).means)
    keys = max(min(KEYS, (MAX_KEYFRAMES - 1) // max(len(times) - 1, 1)), 1) if len(times) > 1 else 1
    centers = Bounds(FACTORED * bound, FACTORED * BETWEEN * bound)
    base, motion = factor(
        asset.at_times, times, tolerance=OUTLINES * bound, keys=keys, centers=centers
    )
    rest = (1 - FACTORED) * bound
    parts = _parts(motion, round_modes(motion, keys, rest, BETWEEN * rest)) if motion.deltas else []
    writer = GlbWriter(
        {"asset": {"version": "2.0", "generator": f"gs4d {__version__}"}, "scene": 0}
    )
    if copyright is not None:
        writer.document["asset"]["copyright"] = copyright
    center, scale = _box(base.means, motion, parts)
    primitive: dict[str, Any] = {
        "mode": 0,
        "attributes": _attributes(writer, base, motion, center, scale),
        "extensions": {SPLATS: _extension()},
    }
    node: dict[str, Any] = {
        "name": "gaussians",
        "mesh": 0,
        "translation": center.tolist(),
        "scale": [scale] * 3,
    }
    mesh: dict[str, Any] = {"name": "gaussians", "primitives": [primitive]}
    if k := len(parts):
        targets, units = _targets(writer, motion, parts, scale)
        weights = motion.weights.numpy()[:, [part.mode for part in parts]] * [
            part.unit * part.limit / scale for part in parts
        ]
        primitive["targets"] = targets
        mesh |= {
            "weights": [0.0] * k,
            "extras": {"targetNames": _names(parts), "gs4d": {"units": units}},
        }
        seconds = motion.times.numpy() * (len(times) - 1) / fps
        sampler = {
            "input": writer.array(seconds, "f4", vertices=False, bounds=True),
            "output": writer.array(weights.flatten(), "f4", vertices=False),
            "interpolation": "LINEAR",
        }
        channel = {"sampler": 0, "target": {"node": 0, "path": "weights"}}
        writer.document["animations"] = [
            {"name": "motion", "samplers": [sampler], "channels": [channel]}
        ]
    nodes = [node]
    if "input" in asset.orbits:
        nodes.append(_camera_node(asset.orbits["input"][0]))
        writer.document["cameras"] = [_camera(asset.orbits["input"][0])]
    orbits = {name: asdict(orbit) for name, (orbit, *_) in asset.orbits.items()}
    extras = {"gs4d": {"version": 1, "frames": len(times), "fps": fps, "orbits": orbits}}
    writer.document |= {
        "extensionsUsed": [SPLATS, "KHR_mesh_quantization"],
        "extensionsRequired": ["KHR_mesh_quantization"],
        "scenes": [{"nodes": list(range(len(nodes))), "extras": extras}],
        "nodes": nodes,
        "meshes": [mesh],
    }
    writer.write(path)


def linear(color: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Colours, sRGB in [0, 1], as light: what glTF wants in COLOR_0."""
    return np.where(color > 0.04045, ((color + 0.055) / 1.055) ** 2.4, color / 12.92)


def size_of(means: Float[Tensor, "n 3"]) -> float:
    """The longest side of the box around all but the outermost Gaussians."""
    ordered = means.sort(0).values
    outside = len(means) // 100
    return max(float((ordered[len(means) - 1 - outside] - ordered[outside]).max()), 1e-6)


def _extension() -> dict[str, str]:
    return {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }


def _parts(motion: LowRank, rounded: list[Part]) -> list[Part]:
    """The targets, in the order of their modes.

    One that moves no centre for a mode that has something else to move.
    """
    still = set(range(max(map(len, motion.deltas.values())))) - {part.mode for part in rounded}
    others = [len(deltas) for field, deltas in motion.deltas.items() if field != "means"]
    zeros = torch.zeros_like(motion.deltas["means"][0], dtype=torch.int32)
    rounded = rounded + [
        Part(k, zeros, BYTE, 1 / BYTE) for k in still if k < max(others, default=0)
    ]
    return sorted(rounded, key=lambda part: part.mode)


def _names(parts: list[Part]) -> list[str]:
    """Of targets: that of their mode, and a word for the second of a mode."""
    modes = [part.mode for part in parts]
    return [
        f"mode {k}" if modes.index(k) == i else f"mode {k}, coarse" for i, k in enumerate(modes)
    ]


def _box(
    means: Float[Tensor, "n 3"], motion: LowRank, parts: list[Part]
) -> tuple[np.ndarray, float]:
    """Translation and even scale of the node, between whose -1 and 1 all positions lie, and all
    modes at their largest.
    """
    low, high = means.amin(0).double(), means.amax(0).double()
    center = ((low + high) / 2).float()
    reach = [float((high - low).max() / 2)]
    reach += [
        part.unit * part.limit * float(motion.weights[:, part.mode].abs().max())
        for part in parts
        if part.values.any()
    ]
    return center.numpy(), ROOM * max(reach) or 1.0


def _attributes(
    writer: GlbWriter, base: Gaussians, motion: LowRank, center: np.ndarray, scale: float
) -> dict[str, int]:
    """The accessors of the Gaussians at the first frame, in the space of the node."""
    sh = base.sh.numpy()
    color = (0.5 + SH_C0 * sh[:, 0]).clip(0, 1)
    opacity = torch.sigmoid(base.logit_opacities).numpy()
    names = [
        f"{SPLATS}:SH_DEGREE_{degree}_COEF_{n}"
        for degree in range(base.sh_degree + 1)
        for n in range(2 * degree + 1)
    ]
    attributes = {
        "POSITION": writer.array((base.means.numpy() - center) / scale, "i2", bounds=True),
        "COLOR_0": writer.array(np.concatenate([linear(color), opacity[:, None]], 1), "u1"),
        f"{SPLATS}:ROTATION": writer.array(base.quats.numpy()[:, XYZW], "i2"),
        f"{SPLATS}:SCALE": writer.array(base.log_scales.exp().numpy() / scale, "f4"),
        f"{SPLATS}:OPACITY": writer.array(opacity, "u2"),
        **{name: writer.array(sh[:, i], "f4") for i, name in enumerate(names)},
    }
    # glTF wants what a target moves to be there at rest as well.
    for name, (field, kind) in MOVES.items():
        if field in motion.deltas and name not in attributes:
            is_turn = field == "quats"
            attributes[name] = (
                attributes[f"{SPLATS}:ROTATION"]
                if is_turn
                else writer.zeros(base.count, WIDTHS[kind], "i1")
            )
    return attributes


def _targets(
    writer: GlbWriter, motion: LowRank, parts: list[Part], scale: float
) -> tuple[list[dict[str, int]], dict[str, list[float]]]:
    """Morph targets whose numbers fill their integers, and the units of attributes that are not
    positions.
    """
    targets: list[dict[str, int]] = []
    units: dict[str, list[float]] = {}
    for i, part in enumerate(parts):
        component = "i1" if part.limit == BYTE else "i2"
        target = {
            "POSITION": writer.array(
                part.values.numpy() / part.limit, component, bounds=True, sparse=True
            )
        }
        for name, (field, _) in MOVES.items():
            # Where a mode has several targets, the first of them moves what is not a position.
            again = i > 0 and parts[i - 1].mode == part.mode
            if field == "means" or again or part.mode >= len(motion.deltas.get(field, ())):
                continue
            deltas = motion.deltas[field][part.mode]
            peak = float(deltas.abs().max()) or 1.0
            values = (deltas / peak).numpy()
            target[name] = writer.array(
                values[:, XYZW] if field == "quats" else values, "i1", sparse=True
            )
            own = units.setdefault(name, [])
            own += [0.0] * (i - len(own)) + [peak * scale / (part.unit * part.limit)]
        targets.append(target)
    return targets, units


def _camera(orbit: Orbit) -> dict[str, Any]:
    lens = {
        "yfov": math.radians(orbit.fov),
        "aspectRatio": orbit.aspect,
        "znear": 0.01 * orbit.radius,
        "zfar": 100 * orbit.radius,
    }
    return {"name": "input camera", "type": "perspective", "perspective": lens}


def _camera_node(orbit: Orbit) -> dict[str, Any]:
    pose = orbit_pose(orbit.azimuth, orbit.elevation, orbit.radius)
    # A glTF camera has y up and looks along -z, half a turn about x from OpenCV's.
    turn = pose[:3, :3].T * torch.tensor([1.0, -1.0, -1.0], dtype=pose.dtype)
    quat = rotations_to_quats(turn)[XYZW]
    position = -pose[:3, :3].T @ pose[:3, 3]
    return {
        "name": "input camera",
        "camera": 0,
        "rotation": quat.tolist(),
        "translation": position.tolist(),
    }
