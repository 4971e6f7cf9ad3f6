"""One animated file for every program that knows glTF: canonical splats, modes of motion as morph targets, and their weights.

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
from ..motion import LowRank, factor

TOLERANCE = 0.005  # of the object's size: errors of the motion's modes
KEYS = 2  # keyframes per frame: between two frames a fitted motion may bend
BYTE_ERROR = 0.1  # of the tolerance: largest root-mean-square error of a mode in bytes; beyond, it is stored in shorts
ROOM = 1.0001  # so that nothing lies on the border of a normalized integer's range, where rounding could pass it


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
        asset: what is written; positions may lie anywhere, they are quantised to 1/32767 of the object's extent.
        frames: at how many even times the motion is best kept; None: at the frames of the clip.
        fps: of these frames when played.
        tolerance: of the motion, as a part of the object's size: 99 % of the Gaussians stray less from their path, as the
            root mean square over the frames.
        copyright: whose it is, and under which licence; None leaves that open.

    Raises:
        UserError: the file cannot be written.
    """
    times = asset.times(frames)
    size = size_of(asset.at(0.0).means)
    base, motion = factor(asset.at_times, times, tolerance=tolerance * size, keys=KEYS if len(times) > 1 else 1)
    writer = GlbWriter({"asset": {"version": "2.0", "generator": f"gs4d {__version__}"}, "scene": 0})
    if copyright is not None:
        writer.document["asset"]["copyright"] = copyright
    center, scale = _box(base.means, motion)
    primitive: dict[str, Any] = {
        "mode": 0,
        "attributes": _attributes(writer, base, motion, center, scale),
        "extensions": {SPLATS: _extension()},
    }
    node: dict[str, Any] = {"name": "gaussians", "mesh": 0, "translation": center.tolist(), "scale": [scale] * 3}
    mesh: dict[str, Any] = {"name": "gaussians", "primitives": [primitive]}
    k = motion.weights.shape[1]
    if k:
        targets, units, weights = _targets(writer, motion, scale, tolerance * size)
        primitive["targets"] = targets
        mesh |= {"weights": [0.0] * k, "extras": {"targetNames": [f"mode {i}" for i in range(k)], "gs4d": {"units": units}}}
        seconds = motion.times.numpy() * (len(times) - 1) / fps
        sampler = {
            "input": writer.array(seconds, "f4", vertices=False, bounds=True),
            "output": writer.array(weights.flatten(), "f4", vertices=False),
            "interpolation": "LINEAR",
        }
        channel = {"sampler": 0, "target": {"node": 0, "path": "weights"}}
        writer.document["animations"] = [{"name": "motion", "samplers": [sampler], "channels": [channel]}]
    nodes = [node]
    if "input" in asset.orbits:
        nodes.append(_camera_node(asset.orbits["input"]))
        writer.document["cameras"] = [_camera(asset.orbits["input"])]
    orbits = {name: asdict(orbit) for name, orbit in asset.orbits.items()}
    extras = {"gs4d": {"version": 1, "frames": len(times), "fps": fps, "orbits": orbits}}
    writer.document |= {
        "extensionsUsed": [SPLATS, "KHR_mesh_quantization"],
        "extensionsRequired": ["KHR_mesh_quantization"],
        "scenes": [{"nodes": list(range(len(nodes))), "extras": extras}],
        "nodes": nodes,
        "meshes": [mesh],
    }
    writer.write(path)


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


def _box(means: Float[Tensor, "n 3"], motion: LowRank) -> tuple[np.ndarray, float]:
    """Translation and even scale of the node, between whose -1 and 1 all positions lie, and all modes at their largest."""
    low, high = means.amin(0).double(), means.amax(0).double()
    center = ((low + high) / 2).float()
    reach = [(high - low).max() / 2]
    if "means" in motion.deltas:
        reach.append((motion.deltas["means"].flatten(1).abs().amax(1) * motion.weights.abs().amax(0)).max())
    return center.numpy(), float(ROOM * max(float(r) for r in reach)) or 1.0


def _attributes(writer: GlbWriter, base: Gaussians, motion: LowRank, center: np.ndarray, scale: float) -> dict[str, int]:
    """The accessors of the Gaussians at the first frame, in the space of the node."""
    sh = base.sh.numpy()
    color = (0.5 + SH_C0 * sh[:, 0]).clip(0, 1)
    opacity = torch.sigmoid(base.logit_opacities).numpy()
    linear = np.where(color > 0.04045, ((color + 0.055) / 1.055) ** 2.4, color / 12.92)
    names = [f"{SPLATS}:SH_DEGREE_{degree}_COEF_{n}" for degree in range(base.sh_degree + 1) for n in range(2 * degree + 1)]
    attributes = {
        "POSITION": writer.array((base.means.numpy() - center) / scale, "i2", bounds=True),
        "COLOR_0": writer.array(np.concatenate([linear, opacity[:, None]], 1), "u1"),
        f"{SPLATS}:ROTATION": writer.array(base.quats.numpy()[:, XYZW], "i2"),
        f"{SPLATS}:SCALE": writer.array(base.log_scales.exp().numpy() / scale, "f4"),
        f"{SPLATS}:OPACITY": writer.array(opacity, "u2"),
        **{name: writer.array(sh[:, i], "f4") for i, name in enumerate(names)},
    }
    # glTF wants what a target moves to be there at rest as well.
    for name, (field, kind) in MOVES.items():
        if field in motion.deltas and name not in attributes:
            is_turn = field == "quats"
            attributes[name] = attributes[f"{SPLATS}:ROTATION"] if is_turn else writer.zeros(base.count, WIDTHS[kind], "i1")
    return attributes


def _targets(
    writer: GlbWriter, motion: LowRank, scale: float, tolerance: float
) -> tuple[list[dict[str, int]], dict[str, list[float]], Float[np.ndarray, "t k"]]:
    """Morph targets whose numbers fill their integers; the units of attributes that are not positions; the weights."""
    weights = motion.weights.numpy().copy()
    targets: list[dict[str, int]] = []
    units: dict[str, list[float]] = {}
    for k in range(weights.shape[1]):
        peaks = {field: float(deltas[k].abs().max()) or 1.0 for field, deltas in motion.deltas.items() if k < len(deltas)}
        spread = peaks["means"] * math.sqrt(float(np.square(weights[:, k]).mean()))
        component = "i1" if spread / (2 * 127) <= BYTE_ERROR * tolerance else "i2"
        weights[:, k] *= peaks["means"] / scale
        target = {}
        for name, (field, _) in MOVES.items():
            if field in peaks:
                values = (motion.deltas[field][k] / peaks[field]).numpy()
                values = values[:, XYZW] if field == "quats" else values
                position = field == "means"
                target[name] = writer.array(values, component if position else "i1", bounds=position)
                if not position:
                    units.setdefault(name, []).append(peaks[field] * scale / peaks["means"])
        targets.append(target)
    return targets, units, weights


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
    return {"name": "input camera", "camera": 0, "rotation": quat.tolist(), "translation": position.tolist()}
