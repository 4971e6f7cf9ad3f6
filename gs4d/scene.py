"""Files of Gaussians, of gs4d or of anyone, as assets.

One file stands still, a folder of numbered files is a sequence.
"""

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
from .geometry import quat_multiply, rotations_to_quats
from .io.foreign import warn
from .io.gaussians import frame_files, is_timed_file, read_gaussians, up_axis
from .io.glb import read_glb
from .io.ply import read_timed_ply
from .io.ply_header import Up
from .io.sog import META
from .io.trained import say_trained, snapshots, trained_splats
from .motion import FrameSequence, LowRank, Moments
from .splats import drawable

YAxis = Literal["auto", "up", "down", "z"]
STAGE_RADIUS = 0.6  # what the default rig is made for
ON_STAGE = (0.15, 0.75)  # radius about the origin within which a scene is left where it stands
# percent of the visible Gaussians that the sphere holds: floaters far away do not shrink the object
INSIDE = 96
VISIBLE_LOGIT = -2.2  # opacity 0.1
SAMPLES = 100_000
# of splats that move by a formula: their files do not say, and their authors' clips have as many
TIMED_FRAMES = 50
# Rows are where x, y and z of the world come from, by where up is in the file.
TURNS: dict[Up, tuple[tuple[float, float, float], ...]] = {
    "up": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "down": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "x": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
}


@dataclass(frozen=True)
class Stage:
    """How a file's numbers become gs4d's world (y up, object at the origin inside a sphere of
    radius 0.6): turn, shift, scale.

    Attributes:
        up: where up is in the file: y, its opposite, z or x; it is turned first.
        center: then this point comes to the origin, file units after the turn.
        scale: then everything is multiplied by it, > 0.
    """

    up: Up = "up"
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def place(self, gaussians: Gaussians) -> Gaussians:
        """The Gaussians in gs4d's world, float32; centres are shifted before they are rounded."""
        g = self.turn(gaussians)
        means = (g.means.double() - torch.tensor(self.center, dtype=torch.float64)) * self.scale
        log_scales = g.log_scales + float(np.log(self.scale))
        return g.replace(means=means.float(), log_scales=log_scales)

    def turn(self, gaussians: Gaussians) -> Gaussians:
        """The Gaussians with y up."""
        if self.up == "up":
            return gaussians
        return (
            gaussians.half_turn()
            if self.up == "down"
            else gaussians.turned(torch.tensor(TURNS[self.up], dtype=torch.float64))
        )

    def place_deltas(self, deltas: dict[str, Tensor]) -> dict[str, Tensor]:
        """The deltas of a :class:`LowRank` motion in gs4d's world, as :meth:`place` turns what they
        are added to.
        """
        turned = dict(deltas)
        matrix = torch.tensor(TURNS[self.up], dtype=torch.float64)
        if "means" in turned:
            turned["means"] = turned["means"] @ matrix.T.to(turned["means"]) * self.scale
        if "quats" in turned and self.up == "down":  # as half_turn has it
            turned["quats"] = turned["quats"] * turned["quats"].new_tensor([1.0, 1.0, -1.0, -1.0])
        elif "quats" in turned and self.up != "up":
            quat = rotations_to_quats(matrix.double()).to(turned["quats"])
            turned["quats"] = quat_multiply(quat, turned["quats"])
        return turned


def read_scene(path: Path, y_axis: YAxis = "auto") -> Asset:
    """One file, or the frames of a folder in natural order, placed on the stage and seen by the
    default camera.

    Files are what they say they are, by a comment in a PLY (of gs4d, "Vertical Axis: z", ...), or
    what viewers take them for: y down. A scene that already stands about the origin in about the
    right size stays as it is; any other is shifted and scaled, all frames alike, so that a sphere
    around 96 % of what is visible in its first, middle and last frame has radius 0.6 about the
    origin. Rows that can be no splats are left out, and counted in a sentence. Frames are read when
    they are shown. Of a run folder of another trainer the last step is opened, and of splats that
    move as SpacetimeGaussians has them, the motion.

    Args:
        path: a file that :func:`gs4d.io.gaussians.read_gaussians` reads, or a folder of them.
        y_axis: where up is in the files: y "up", y "down", "z", or "auto" as above.

    Raises:
        UserError: there are no such files, or one cannot be read.
    """
    files = _files(path)
    if not files:
        raise UserError(
            f"{path} holds neither a run nor files of Gaussians; give a run, a file, or a folder "
            "of frames"
        )
    up = _up(files[0]) if y_axis == "auto" else y_axis
    if len(files) == 1 and is_timed_file(files[0]):
        return _read_timed(files[0], up)
    some = [
        drawable(files[i], read_gaussians(files[i]))
        for i in sorted({0, len(files) // 2, len(files) - 1})
    ]
    stage = fit_stage(some, up)
    motion = FrameSequence(
        lambda i: stage.place(drawable(files[i], read_gaussians(files[i]))), len(files)
    )
    return Asset(stage.place(some[0]), motion, len(files), {"input": (Orbit(),)})


def _files(path: Path) -> list[Path]:
    """The file or frames to show; of a training run of another program the last step."""
    if not path.is_dir() or (path / META).is_file():
        return [path]
    if (last := trained_splats(path)) is None:
        files = frame_files(path)
        last = snapshots(files)
        if last is None:
            return files
    say_trained(path, last)
    return [last]


def _up(path: Path) -> Up:
    said = up_axis(path)
    if said is None:
        return "down"
    if said[0] in ("z", "x"):
        warn(f"{path} says '{said[1]}': it is taken with {said[0]} up; --y_axis says otherwise")
    return said[0]


def _read_timed(path: Path, up: Up) -> Asset:
    timed = read_timed_ply(path)
    good = drawable(path, timed.gaussians, kept := [])
    parts = [t[kept[0]] for t in (timed.centers, timed.widths, timed.motion, timed.omega)]
    parts = [t.nan_to_num(0, 0, 0) for t in parts]
    moments = Moments(good, *parts, place=lambda g: g)
    stage = fit_stage([moments.set_at(t) for t in (0.0, 0.5, 1.0)], up)
    moments.place = stage.place
    warn(
        f"{path}: its splats move as SpacetimeGaussians has them (trbf_center, motion_0, ...); "
        "they are played over "
        f"{TIMED_FRAMES} frames, --frames says otherwise"
    )
    return Asset(stage.place(moments.set_at(0.0)), moments, TIMED_FRAMES, {"input": (Orbit(),)})


def read_animated(path: Path, y_axis: YAxis = "auto") -> Asset:
    """The splats of a glTF file and the motion of its morph targets.

    Files of gs4d as they are, others on the stage.

    Args:
        path: a .glb or .gltf file.
        y_axis: where up is in it: "down", "z", or "up" (and "auto") as glTF has it.

    Raises:
        UserError: as :func:`gs4d.io.glb.read_glb`.
    """
    held = read_glb(path)
    up: Up = "up" if y_axis == "auto" else y_axis
    ours = "input" in held.orbits and up == "up"
    stage = Stage() if ours else fit_stage([held.gaussians], up)
    motion = LowRank(held.times, held.weights, stage.place_deltas(held.deltas))
    return Asset(
        stage.place(held.gaussians),
        motion,
        held.frames,
        {name: (orbit,) for name, orbit in held.orbits.items()} if ours else {"input": (Orbit(),)},
    )


def fit_stage(sets: list[Gaussians], up: Up) -> Stage:
    """Where to put scenes of any place and size, all by the same move; see :func:`read_scene`."""
    turn = Stage(up).turn
    points, radii = [], []
    for whole in sets:
        visible = (whole.logit_opacities > VISIBLE_LOGIT).nonzero().squeeze(1)
        visible = visible if len(visible) else torch.arange(whole.count)
        g = whole.select(visible[:: max(1, len(visible) // SAMPLES)])
        points.append(turn(g).means.double().numpy())
        radii.append(g.log_scales.amax(1).clamp(max=40).exp().double().numpy())
    means, sizes = np.concatenate(points), np.concatenate(radii)
    tail = (100 - INSIDE) / 2
    center = np.percentile(means, [tail, 100 - tail], axis=0).mean(0)
    radius = float(np.percentile(np.linalg.norm(means - center, axis=1) + sizes, INSIDE))
    about_origin = float(np.percentile(np.linalg.norm(means, axis=1), INSIDE))
    if ON_STAGE[0] <= about_origin <= ON_STAGE[1] and np.linalg.norm(center) <= ON_STAGE[1] / 2:
        return Stage(up)
    return Stage(
        up,
        (float(center[0]), float(center[1]), float(center[2])),
        STAGE_RADIUS / max(radius, 1e-30),
    )
