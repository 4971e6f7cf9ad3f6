"""The animated mesh: the surface at the moment when the object is most open, moved with the
Gaussians around each vertex.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..asset import Asset
from ..errors import UserError
from ..gaussians import Gaussians
from ..geometry import covariances, quats_to_rotations
from ..io.glb_writer import GlbWriter
from ..io.owned import atomic_folder
from ..motion import FrameSequence, LowRank, factor
from .glb import KEYS, TOLERANCE, linear
from .options import ExportOptions
from .surface import VISIBLE, Surface, surface_of, vertex_normals
from .timing import moments, whole

NEIGHBOURS = 12  # Gaussians that move a vertex
TIMES_PER_CALL = 4


def write_mesh(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """``mesh.glb`` with morph targets, and ``0000.obj``, ... with vertex colours at the moments of
    ``options``.

    Raises:
        UserError: the asset has no surface, or is a sequence of files, which says nothing about
            what moves where.
    """
    if isinstance(asset.motion, FrameSequence) and asset.frames > 1:
        raise UserError(
            "a mesh cannot follow a folder of files, which do not say what moves where; export one "
            "of them, or a run"
        )
    skin = Skin.of(asset, options.faces)
    with atomic_folder(folder) as part:
        _write_glb(part / "mesh.glb", skin, *whole(asset, options), options.fps)
        for i, t in enumerate(
            tqdm(moments(asset, options), desc="obj", unit="frame", dynamic_ncols=True, leave=False)
        ):
            vertices = skin.at_times(asset, torch.tensor([t]))[0]
            _write_obj(
                part / f"{i:04d}.obj",
                vertices,
                vertex_normals(vertices, skin.surface.faces),
                skin.surface,
            )


@dataclass(frozen=True)
class Skin:
    """A surface, and the Gaussians that move each of its vertices.

    Attributes:
        surface: at the moment when it was made.
        near: indices of Gaussians, per vertex.
        weights: how much each moves it; they sum to 1.
        arms: from the Gaussian's centre to the vertex, in the Gaussian's own axes.
    """

    surface: Surface
    near: Int[Tensor, "v k"]
    weights: Float[Tensor, "v k"]
    arms: Float[Tensor, "v k 3"]

    @staticmethod
    def of(asset: Asset, faces: int) -> Skin:
        """The surface of ``asset``, and its skin."""
        g = most_open(asset)
        surface = surface_of(g, faces)
        visible = (g.logit_opacities.sigmoid() > VISIBLE).nonzero().squeeze(1)
        k = min(NEIGHBOURS, len(visible))
        tree: Any = KDTree(g.means[visible].numpy())
        distances, found = tree.query(surface.vertices.numpy(), k=range(1, k + 1))
        near = visible[torch.from_numpy(found)]
        away = surface.vertices[:, None] - g.means[near]
        inverse = torch.linalg.inv(covariances(g.quats, g.log_scales.clamp_min(-6))[near])
        power = (away[..., None, :] @ inverse @ away[..., None])[..., 0, 0]
        strength = g.logit_opacities.sigmoid().log()[near] - power / 2
        # Where all are far off, the nearest in plain distance decide.
        reach = torch.from_numpy(distances).float()
        fallback = -(reach / reach[:, :1].clamp_min(1e-6)).square() - 20
        weights = torch.softmax(torch.logaddexp(strength, fallback), 1)
        arms = (away[..., None, :] @ quats_to_rotations(g.quats)[near])[..., 0, :]
        return Skin(surface, near, weights, arms)

    def at_times(self, asset: Asset, times: Float[Tensor, " b"]) -> Float[Tensor, "b v 3"]:
        """Where the vertices are: each Gaussian carries them along and turns them with itself."""
        g = asset.at_times(times)
        shown = []
        for i in range(len(times)):
            here = g.at_view(i) if g.views else g
            turned = (quats_to_rotations(here.quats)[self.near] @ self.arms[..., None])[..., 0]
            shown.append(((here.means[self.near] + turned) * self.weights[..., None]).sum(1))
        return torch.stack(shown)


def most_open(asset: Asset) -> Gaussians:
    """The Gaussians at the frame where they are spread widest.

    What is folded there has no surface anywhere.
    """
    spread = []
    for t in asset.times().tolist():
        g = asset.at(t)
        weights = g.logit_opacities.sigmoid()[:, None]
        center = (weights * g.means).sum(0) / weights.sum()
        spread.append(float((weights * (g.means - center).square()).sum()))
    return asset.at(float(asset.times()[int(np.argmax(spread))]))


def _write_glb(path: Path, skin: Skin, asset: Asset, frames: int, fps: float) -> None:
    surface, times = skin.surface, asset.times(frames)
    size = float((surface.vertices.amax(0) - surface.vertices.amin(0)).max())

    def move(some: Tensor) -> Gaussians:
        # The vertices as Gaussians that only move: what `factor` takes.
        still = torch.zeros(len(surface.vertices), 3)
        return Gaussians(
            skin.at_times(asset, some),
            torch.ones(len(still), 4),
            still,
            still[:, 0],
            still[:, None],
        )

    base, motion = factor(move, times, tolerance=TOLERANCE * size, keys=KEYS if frames > 1 else 1)
    writer = GlbWriter(
        {"asset": {"version": "2.0", "generator": f"gs4d {__version__}"}, "scene": 0}
    )
    normals = vertex_normals(base.means, surface.faces)
    colors = np.concatenate(
        [linear(surface.colors.numpy()), np.ones((len(base.means), 1), np.float32)], 1
    )
    primitive: dict[str, Any] = {
        "attributes": {
            "POSITION": writer.array(base.means.numpy(), "f4", bounds=True),
            "NORMAL": writer.array(normals.numpy(), "f4"),
            "COLOR_0": writer.array(colors, "u2"),
        },
        "indices": writer.indices(surface.faces.numpy()),
        "material": 0,
    }
    mesh: dict[str, Any] = {"name": "mesh", "primitives": [primitive]}
    k = motion.weights.shape[1]
    if k:
        turns = _normal_targets(skin, asset, motion, times, normals)
        primitive["targets"] = [
            {
                "POSITION": writer.array(p.numpy(), "f4", bounds=True),
                "NORMAL": writer.array(n.numpy(), "f4"),
            }
            for p, n in zip(motion.deltas["means"], turns, strict=True)
        ]
        mesh |= {"weights": [0.0] * k, "extras": {"targetNames": [f"mode {i}" for i in range(k)]}}
        sampler = {
            "input": writer.array(
                motion.times.numpy() * (frames - 1) / fps, "f4", vertices=False, bounds=True
            ),
            "output": writer.array(motion.weights.flatten().numpy(), "f4", vertices=False),
            "interpolation": "LINEAR",
        }
        channel = {"sampler": 0, "target": {"node": 0, "path": "weights"}}
        writer.document["animations"] = [
            {"name": "motion", "samplers": [sampler], "channels": [channel]}
        ]
    # The light is in the colours; a program that is to light the mesh itself takes the extension
    # out.
    matte = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    writer.document |= {
        "extensionsUsed": ["KHR_materials_unlit"],
        "materials": [
            {
                "name": "baked",
                "pbrMetallicRoughness": matte,
                "extensions": {"KHR_materials_unlit": {}},
            }
        ],
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "mesh", "mesh": 0}],
        "meshes": [mesh],
    }
    writer.write(path)


def _normal_targets(
    skin: Skin,
    asset: Asset,
    motion: LowRank,
    times: Float[Tensor, " t"],
    normals: Float[Tensor, "v 3"],
) -> Float[Tensor, "k v 3"]:
    """What the modes' weights best make of the normals' change over the frames, in the sense of
    least squares.
    """
    weights = motion.weights_at(times)
    total = torch.zeros(weights.shape[1], normals.numel())
    for some, here in zip(times.split(TIMES_PER_CALL), weights.split(TIMES_PER_CALL), strict=True):
        change = vertex_normals(skin.at_times(asset, some), skin.surface.faces) - normals
        total.addmm_(here.T, change.flatten(1))
    return torch.linalg.lstsq(weights.T @ weights, total).solution.view(-1, *normals.shape)


def _write_obj(path: Path, vertices: Tensor, normals: Tensor, surface: Surface) -> None:
    """Wavefront OBJ with colours behind the positions (sRGB, as MeshLab and Blender read them)."""
    points = torch.cat([vertices, surface.colors], 1).tolist()
    # % is three times as fast as a format string.
    lines = ["v %.5f %.5f %.5f %.4f %.4f %.4f" % tuple(p) for p in points]
    lines += ["vn %.4f %.4f %.4f" % tuple(n) for n in normals.tolist()]
    lines += [
        "f %d//%d %d//%d %d//%d" % (a, a, b, b, c, c) for a, b, c in (surface.faces + 1).tolist()
    ]
    path.write_text("\n".join(lines) + "\n")
