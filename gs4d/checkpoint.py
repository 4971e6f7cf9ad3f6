"""What a run or a file holds, opened as an asset."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from .asset import Asset
from .clip import Orbit
from .gaussians import FIELD_NDIM, Gaussians
from .io.checkpoint import INDEX, read_checkpoint
from .io.foreign import foreign
from .io.gaussians import SUFFIXES, frame_files
from .io.sog import META
from .io.trained import trained_splats
from .motion import HexPlane, HexPlaneOptions, Trajectories, TrajectoryOptions, Vanishing
from .scene import YAxis, read_animated, read_scene

GLTF_SUFFIXES = (".glb", ".gltf")
MAX_FRAMES = 1_000_000


def motion_record(motion: HexPlane | Trajectories, frames: int) -> dict[str, Any]:
    """What is needed to build ``motion`` again, beside its tensors."""
    base = motion.base if isinstance(motion, Trajectories) else motion
    assert isinstance(base, HexPlane)
    trajectories = asdict(motion.options) if isinstance(motion, Trajectories) else None
    return {"frames": frames, "hexplane": asdict(base.options), "trajectories": trajectories}


def build_motion(record: dict[str, Any], count: int) -> HexPlane | Trajectories:
    """The motion of a :func:`motion_record`, at rest, for ``count`` Gaussians."""
    options = HexPlaneOptions(
        **{**record["hexplane"], "multires": tuple(record["hexplane"]["multires"])}
    )
    base = HexPlane(options, record["frames"])
    if record["trajectories"] is None:
        return base
    return Trajectories(TrajectoryOptions(**record["trajectories"]), record["frames"], count, base)


def read_asset(path: Path, y_axis: YAxis = "auto") -> Asset:
    """The one opener: a run folder (finished or not; needs no training data), a file of Gaussians or a folder of them, or glTF.

    Args:
        path: what to open.
        y_axis: where up is in files; see :func:`gs4d.scene.read_scene`. A run knows.

    Raises:
        UserError: as :func:`read_checkpoint`, :func:`gs4d.scene.read_animated` or
            :func:`gs4d.scene.read_scene`.
    """
    if path.suffix.lower() in GLTF_SUFFIXES:
        return read_animated(path, y_axis)
    if is_run(path):
        return _read_run(path)
    return read_scene(path, y_axis)


def is_run(path: Path) -> bool:
    """Whether ``path`` is to be opened as a run.

    It has a checkpoint, or is no file and no folder of files of Gaussians.
    """
    if path.is_dir() and not (path / INDEX).exists():
        return not (path / META).is_file() and not trained_splats(path) and not frame_files(path)
    return not path.is_file() and path.suffix.lower() not in SUFFIXES


def _read_run(folder: Path) -> Asset:
    tensors, record = read_checkpoint(folder)
    advice = "it does not fit this version of gs4d; train again"
    with foreign(f"checkpoint in {folder}", "run of gs4d", advice):
        gaussians = Gaussians(**{name: tensors[f"asset.{name}"] for name in FIELD_NDIM})
        frames = record["motion"]["frames"]
        if not isinstance(frames, int) or not 1 <= frames <= MAX_FRAMES:
            raise ValueError(f"{frames!r:.40} frames")
        state = {
            k.removeprefix("motion."): t for k, t in tensors.items() if k.startswith("motion.")
        }
        with torch.device("meta"):  # sizes are compared before memory is taken for them
            wanted = build_motion(record["motion"], gaussians.count).state_dict()
        if sum(t.numel() for t in wanted.values()) != sum(t.numel() for t in state.values()):
            raise ValueError("its motion has another size than its record says")
        motion = build_motion(record["motion"], gaussians.count)
        motion.load_state_dict(state)
        hidden = set(record.get("hidden", []))
        motion.requires_grad_(False)
        shown = (
            Vanishing(motion, tuple(frame in hidden for frame in range(frames)))
            if hidden
            else motion
        )
        orbits = {name: Orbit(**orbit) for name, orbit in record["orbits"].items()}
        paths = {
            name: tuple(Orbit(**orbit) for orbit in path)
            for name, path in record.get("paths", {}).items()
        }
    return Asset(gaussians, shown, frames, orbits, paths)
