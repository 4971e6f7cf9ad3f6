"""Files of Gaussians, of gs4d or of anyone, as assets: one file stands still, a folder of numbered files is a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .asset import Asset
from .clip import Orbit
from .errors import UserError
from .gaussians import Gaussians
from .io.gaussians import frame_files, is_y_up, read_gaussians
from .io.glb import read_glb
from .io.sog import META
from .motion import FrameSequence, LowRank

YAxis = Literal["auto", "up", "down"]
STAGE_RADIUS = 0.6  # what the default rig is made for
ON_STAGE = (0.15, 0.75)  # radius about the origin within which a scene is left where it stands
INSIDE = 96  # percent of the visible Gaussians that the sphere holds: floaters far away do not shrink the object
VISIBLE_LOGIT = -2.2  # opacity 0.1
SAMPLES = 100_000
LOG_SCALE_MIN = -30.0
LOGIT_MAX = 20.0


@dataclass(frozen=True)
class Stage:
    """How a file's numbers become gs4d's world (y up, object at the origin inside a sphere of radius 0.6): turn, shift, scale.

    Attributes:
        turned: half a turn about x first, for files whose y points down.
        center: then this point comes to the origin, file units after the turn.
        scale: then everything is multiplied by it, > 0.
    """

    turned: bool = False
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def place(self, gaussians: Gaussians) -> Gaussians:
        """The Gaussians in gs4d's world."""
        g = gaussians.half_turn() if self.turned else gaussians
        means = (g.means.double() - torch.tensor(self.center, dtype=torch.float64)) * self.scale
        return g.replace(means=means.to(g.means.dtype), log_scales=g.log_scales + float(np.log(self.scale)))

    def place_deltas(self, deltas: dict[str, Tensor]) -> dict[str, Tensor]:
        """The deltas of a :class:`LowRank` motion in gs4d's world."""
        turn = {"means": (1.0, -1.0, -1.0), "quats": (1.0, 1.0, -1.0, -1.0)} if self.turned else {}
        turned = {name: delta * delta.new_tensor(turn[name]) if name in turn else delta for name, delta in deltas.items()}
        return {name: delta * self.scale if name == "means" else delta for name, delta in turned.items()}


def read_scene(path: Path, y_axis: YAxis = "auto") -> Asset:
    """One file, or the frames of a folder in natural order, placed on the stage and seen by the default camera.

    Files are what viewers take them for: y down, but for PLY files that gs4d wrote with y up. A scene that already stands
    about the origin in about the right size stays as it is; any other is shifted and scaled, all frames alike, so that a
    sphere around 96 % of what is visible in its first, middle and last frame has radius 0.6 about the origin. Gaussians with
    numbers that are not finite are left out. Frames are read when they are shown.

    Args:
        path: a file that :func:`gs4d.io.gaussians.read_gaussians` reads, or a folder of them.
        y_axis: where y points in the files: "up", "down", or "auto" as above.

    Raises:
        UserError: there are no such files, or one cannot be read.
    """
    files = [path] if path.is_file() or (path / META).is_file() else frame_files(path)
    if not files:
        raise UserError(f"{path} holds neither a run nor files of Gaussians; give a run, a file, or a folder of frames")
    is_up = is_y_up(files[0]) if y_axis == "auto" else y_axis == "up"
    some = [_drawable(files[i], read_gaussians(files[i])) for i in sorted({0, len(files) // 2, len(files) - 1})]
    stage = fit_stage(some, turned=not is_up)
    motion = FrameSequence(lambda i: stage.place(_drawable(files[i], read_gaussians(files[i]))), len(files))
    return Asset(stage.place(some[0]), motion, len(files), {"input": Orbit()})


def read_animated(path: Path, y_axis: YAxis = "auto") -> Asset:
    """The splats of a glTF file and the motion of its morph targets: files of gs4d as they are, others on the stage.

    Args:
        path: a .glb or .gltf file.
        y_axis: where y points in it: "down", or "up" (and "auto") as glTF has it.

    Raises:
        UserError: as :func:`gs4d.io.glb.read_glb`.
    """
    held = read_glb(path)
    ours = "input" in held.orbits and y_axis != "down"
    stage = Stage() if ours else fit_stage([held.gaussians], turned=y_axis == "down")
    motion = LowRank(held.times, held.weights, stage.place_deltas(held.deltas))
    return Asset(stage.place(held.gaussians), motion, held.frames, held.orbits if ours else {"input": Orbit()})


def fit_stage(sets: list[Gaussians], *, turned: bool) -> Stage:
    """Where to put scenes of any place and size, all by the same move; see :func:`read_scene`."""
    points, radii = [], []
    for whole in sets:
        visible = (whole.logit_opacities > VISIBLE_LOGIT).nonzero().squeeze(1)
        visible = visible if len(visible) else torch.arange(whole.count)
        g = whole.select(visible[:: max(1, len(visible) // SAMPLES)])
        points.append((g.half_turn() if turned else g).means.double().numpy())
        radii.append(g.log_scales.amax(1).clamp(max=40).exp().double().numpy())
    means, sizes = np.concatenate(points), np.concatenate(radii)
    tail = (100 - INSIDE) / 2
    center = np.percentile(means, [tail, 100 - tail], axis=0).mean(0)
    radius = float(np.percentile(np.linalg.norm(means - center, axis=1) + sizes, INSIDE))
    about_origin = float(np.percentile(np.linalg.norm(means, axis=1), INSIDE))
    if ON_STAGE[0] <= about_origin <= ON_STAGE[1] and np.linalg.norm(center) <= ON_STAGE[1] / 2:
        return Stage(turned)
    return Stage(turned, (float(center[0]), float(center[1]), float(center[2])), STAGE_RADIUS / max(radius, 1e-30))


def _drawable(path: Path, g: Gaussians) -> Gaussians:
    """Without the Gaussians that no rasterizer can draw; infinite opacities and scales of zero are made finite."""
    g = g.replace(
        log_scales=g.log_scales.clamp_min(LOG_SCALE_MIN), logit_opacities=g.logit_opacities.clamp(-LOGIT_MAX, LOGIT_MAX)
    )
    good = torch.stack([t.reshape(g.count, -1).isfinite().all(1) for _, t in g.items()]).all(0)
    if not good.any():
        raise UserError(f"{path} holds no Gaussian whose numbers are all finite; export it again")
    return g if good.all() else g.select(good)
