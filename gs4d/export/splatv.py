"""``.splatv``, the format of splaTV (github.com/antimatter15/splaTV), which gsplat.js plays too.

One polynomial per Gaussian.

A Gaussian is 64 bytes, four texels of a texture that the viewers' shaders read: a position that is
cubic in time, a rotation that is linear, a constant scale and colour, and an opacity times exp(-((t
- center) / width)^2). What no cubic follows is cut into pieces with Gaussians of their own, each of
  which fades into the next.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..asset import Asset
from ..camera import orbit_pose
from ..clip import Orbit
from ..gaussians import Gaussians
from ..geometry import SH_C0
from ..io.files import atomic_path
from ..motion import LowRank, factor
from ..motion.lowrank import COLUMNS
from .glb import KEYS, size_of

MAGIC = 0x674B
ROW = 1024  # Gaussians per row of the texture
ALWAYS = 1000.0  # width of a piece that does not fade
# width of the other pieces, over half the distance to the next: more blurs the motion, less dims
# the seams
OVERLAP = 1.05
MAX_PIECES = 16
SOURCE_ERROR = 0.25  # of the tolerance, for the modes that the polynomials are fitted to


def write_splatv(
    path: Path, asset: Asset, *, frames: int | None = None, tolerance: float = 0.01
) -> float:
    """Writes ``rose.splatv``, with y pointing down, as its viewers expect.

    Args:
        path: the file.
        asset: what is written; of its colours, degree 0.
        frames: at how many even times the motion is best kept; None: at the frames of the clip.
        tolerance: a part of the object's size. A Gaussian whose cubic strays more from its path, as
            the root mean square over time, is cut into pieces: as many as bring 99 % of all below,
                at most 16.

    Returns:
        By how much 99 % of the Gaussians stray at most, as a part of the object's size.

    Raises:
        UserError: the file cannot be written.
    """
    size = size_of(asset.at(0.0).means)
    times = asset.times(frames)
    keys = KEYS if len(times) > 1 else 1
    base, motion = factor(
        asset.at_times, times, tolerance=SOURCE_ERROR * tolerance * size, keys=keys
    )
    whole = _errors(motion, base.count, 1) / size
    cut = whole > tolerance
    pieces, errors = 1, whole
    while errors.quantile(0.99) > tolerance and pieces < min(MAX_PIECES, len(times)):
        pieces += 1
        errors = torch.where(cut, _errors(motion, base.count, pieces) / size, whole)
    cut &= pieces > 1
    tables = [_texels(base, motion, 0, 1, ~cut)]
    if pieces > 1:
        tables += [_texels(base, motion, i, pieces, cut) for i in range(pieces)]
    _write(path, np.concatenate(tables), asset.orbits.get("input", (Orbit(),))[0])
    return float(errors.quantile(0.99))


def _centers(pieces: int) -> tuple[Float[Tensor, " p"], float]:
    """Centers of the pieces in time, and their width."""
    if pieces == 1:
        return torch.tensor([0.5]), ALWAYS
    return torch.linspace(0, 1, pieces), OVERLAP / (2 * (pieces - 1))


def _fitted(motion: LowRank, center: float, width: float, degree: int) -> Float[Tensor, "d k"]:
    """Polynomials in t - center that follow the weights of the modes where the piece is seen."""
    dt = motion.times.double() - center
    seen = torch.exp(-((dt / width) ** 2))[:, None]
    powers = torch.stack([dt**d for d in range(degree + 1)], 1)
    return torch.linalg.lstsq(
        powers * seen, motion.weights.double() * seen, driver="gelsd"
    ).solution


def _errors(motion: LowRank, count: int, pieces: int) -> Float[Tensor, " n"]:
    """By how much every center strays from its path when all are cut into ``pieces``.

    Root mean square over time.
    """
    if "means" not in motion.deltas:
        return torch.zeros(count)
    centers, width = _centers(pieces)
    nearest = (motion.times[:, None] - centers).abs().argmin(1)
    lacking = torch.zeros_like(motion.weights)
    for i, center in enumerate(centers.tolist()):
        dt = motion.times.double() - center
        curve = torch.stack([dt**d for d in range(4)], 1) @ _fitted(motion, center, width, 3)
        lacking = torch.where((nearest == i)[:, None], motion.weights - curve.float(), lacking)
    # as many rows as modes, the same lengths
    root = torch.linalg.qr(lacking, mode="r").R / math.sqrt(len(lacking))
    deltas = motion.deltas["means"]
    return (root @ deltas.flatten(1)).view(deltas.shape).square().sum((0, 2)).sqrt()


def _texels(base: Gaussians, motion: LowRank, piece: int, pieces: int, which: Tensor) -> np.ndarray:
    """One piece of the Gaussians ``which``: (n, 16) words of 32 bits."""
    centers, width = _centers(pieces)
    center = float(centers[piece])

    def path(field: str, degree: int) -> Float[Tensor, "d n c"]:
        value = base.sh[:, 0] if field == "sh" else getattr(base, field)
        value = value[which].view(-1, COLUMNS[field])
        terms = torch.zeros(degree + 1, *value.shape)
        if field in motion.deltas:
            deltas = motion.deltas[field][:, which]
            terms += torch.einsum(
                "dk,knc->dnc",
                _fitted(motion, center, width, degree)[:, : len(deltas)].float(),
                deltas,
            )
        terms[0] += value
        return terms

    turn = torch.tensor([1.0, -1.0, -1.0])  # half a turn about x: y down, z forward
    means = path("means", 3) * turn
    quats = path("quats", 1) * torch.tensor([1.0, 1.0, -1.0, -1.0])
    scales = path("log_scales", 0)[0].exp()
    color = 0.5 + SH_C0 * path("sh", 0)[0]
    rgba = torch.cat([color, torch.sigmoid(path("logit_opacities", 0)[0])], 1)
    table = np.zeros((means.shape[1], 16), "<u4")
    halves = table.view("<f2")
    table[:, :3] = means[0].numpy().astype("<f4").view("<u4")
    halves[:, 6:10] = quats[0]
    halves[:, 10:13] = scales
    table[:, 7] = np.ascontiguousarray(
        (rgba.clamp(0, 1) * 255).round().numpy().astype(np.uint8)
    ).view("<u4")[:, 0]
    halves[:, 16:25] = means[1:].transpose(0, 1).reshape(-1, 9)
    halves[:, 26:30] = quats[1]
    halves[:, 30:32] = np.array([center, width])
    return table


def _write(path: Path, table: np.ndarray, orbit: Orbit) -> None:
    rows = -(-len(table) // ROW)
    # Viewers draw the rest of the last row too; a width of almost nothing, far from all times,
    # keeps it unseen.
    padded = np.zeros((rows * ROW, 16), "<u4")
    padded.view("<f2")[:, 30:32] = np.array([-1.0, 0.01])
    padded[: len(table)] = table
    chunk = {
        "type": "splat",
        "size": padded.nbytes,
        "texwidth": 4 * ROW,
        "texheight": rows,
        "cameras": [_camera(orbit)],
    }
    text = json.dumps([chunk], separators=(",", ":")).encode()
    with atomic_path(path) as part, part.open("wb") as file:
        file.write(struct.pack("<II", MAGIC, len(text)) + text)
        file.write(padded.data)


def _camera(orbit: Orbit) -> dict[str, Any]:
    """The input camera: where it is, and its axes in the columns of a matrix."""
    pose = orbit_pose(orbit.azimuth, orbit.elevation, orbit.radius)
    turn = torch.diag(pose.new_tensor([1.0, -1.0, -1.0]))
    rotation = turn @ pose[:3, :3].T
    position = -rotation @ pose[:3, 3]
    focal = 500 / math.tan(math.radians(orbit.fov) / 2)
    return {
        "id": 0, "img_name": "input", "width": round(1000 * orbit.aspect), "height": 1000,
        "position": position.tolist(), "rotation": rotation.tolist(), "fx": focal, "fy": focal,
    }  # fmt: skip
