"""Training state on disk: safetensors for numbers, JSON for the rest; nothing in it can run code.

``checkpoint.json`` names its tensor file and holds its SHA-256. The tensor file is written first under a name of its own and
the JSON is renamed into place last, so that at every moment one whole checkpoint is there.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .asset import Asset
from .clip import Orbit
from .errors import UserError
from .gaussians import FIELD_NDIM, Gaussians
from .io.files import atomic_path, read_json, write_json
from .io.gaussians import LEVELS, SUFFIXES, frame_files, levels_of
from .io.sog import META
from .motion import HexPlane, HexPlaneOptions, Trajectories, TrajectoryOptions
from .scene import YAxis, read_animated, read_scene

FORMAT = 1
INDEX = "checkpoint.json"
GLTF_SUFFIXES = (".glb", ".gltf")


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Replaces the checkpoint in ``folder`` by this one, atomically.

    Raises:
        UserError: the folder cannot be written or the disk is full; the earlier checkpoint is then still whole.
    """
    # A name that was never used: until the index is replaced, the tensors that it names must stay as they are.
    path = folder / f"checkpoint-{record['step']:07d}-{secrets.token_hex(4)}.safetensors"
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with atomic_path(path) as part:
        try:
            save_file(whole, part)
            part.chmod(0o644)
        except SafetensorError as error:
            raise OSError(str(error)) from error
    body = {**record, "format": FORMAT, "tensors": path.name, "sha256": _sha256(path)}
    try:
        write_json(folder / INDEX, {"record": body, "digest": _digest(body)})
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    for old in folder.glob("checkpoint-*.safetensors"):
        if old != path:
            old.unlink(missing_ok=True)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the checkpoint in ``folder``, without its tensors.

    Raises:
        UserError: there is none, or it was cut short or changed since it was written.
    """
    if not (folder / INDEX).exists():
        train = f"train it first: python train.py -e {folder.resolve().name}"
        if not folder.exists():
            raise UserError(f"{folder} does not exist; if it is a run, {train}")
        if (folder / LEVELS).is_file():
            levels_of(folder / LEVELS)
        raise UserError(f"{folder} holds no {INDEX}; {train}, or give files of Gaussians")
    index = read_json(folder / INDEX, "checkpoint", max_bytes=256 << 20)
    record = index.get("record") if isinstance(index, dict) else None
    if not isinstance(record, dict) or index.get("digest") != _digest(record):
        raise UserError(f"checkpoint {folder / INDEX} was changed or cut short; train again without --resume")
    if record.get("format") != FORMAT:
        raise UserError(f"checkpoint {folder / INDEX} has format {record.get('format')}, this gs4d reads {FORMAT}; train again")
    return record


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of the checkpoint in ``folder``.

    Raises:
        UserError: as :func:`read_record`, or the tensors were cut short or changed.
    """
    record = read_record(folder)
    path = folder / Path(str(record["tensors"])).name
    if not path.is_file() or _sha256(path) != record["sha256"]:
        raise UserError(f"checkpoint tensors {path} are missing, changed or cut short; train again without --resume")
    try:
        return load_file(path), record
    except (SafetensorError, OSError) as error:
        raise UserError(f"checkpoint tensors {path} cannot be read ({error}); train again without --resume") from error


def motion_record(motion: HexPlane | Trajectories, frames: int) -> dict[str, Any]:
    """What is needed to build ``motion`` again, beside its tensors."""
    base = motion.base if isinstance(motion, Trajectories) else motion
    assert isinstance(base, HexPlane)
    trajectories = asdict(motion.options) if isinstance(motion, Trajectories) else None
    return {"frames": frames, "hexplane": asdict(base.options), "trajectories": trajectories}


def build_motion(record: dict[str, Any], count: int) -> HexPlane | Trajectories:
    """The motion of a :func:`motion_record`, at rest, for ``count`` Gaussians."""
    options = HexPlaneOptions(**{**record["hexplane"], "multires": tuple(record["hexplane"]["multires"])})
    base = HexPlane(options, record["frames"])
    if record["trajectories"] is None:
        return base
    return Trajectories(TrajectoryOptions(**record["trajectories"]), record["frames"], count, base)


def read_asset(path: Path, y_axis: YAxis = "auto") -> Asset:
    """The one opener: a run folder (finished or not; needs no training data), a file of Gaussians or a folder of them, or glTF.

    Args:
        path: what to open.
        y_axis: where y points in files; see :func:`gs4d.scene.read_scene`. A run knows.

    Raises:
        UserError: as :func:`read_checkpoint`, :func:`gs4d.scene.read_animated` or :func:`gs4d.scene.read_scene`.
    """
    if path.suffix.lower() in GLTF_SUFFIXES:
        return read_animated(path, y_axis)
    if is_run(path):
        return _read_run(path)
    return read_scene(path, y_axis)


def is_run(path: Path) -> bool:
    """Whether ``path`` is to be opened as a run: it has a checkpoint, or is no file and no folder of files of Gaussians."""
    if path.is_dir() and not (path / INDEX).exists():
        return not (path / META).is_file() and not frame_files(path)
    return not path.is_file() and path.suffix.lower() not in SUFFIXES


def _read_run(folder: Path) -> Asset:
    tensors, record = read_checkpoint(folder)
    try:
        gaussians = Gaussians(**{name: tensors[f"asset.{name}"] for name in FIELD_NDIM})
        motion = build_motion(record["motion"], gaussians.count)
        state = {k.removeprefix("motion."): t for k, t in tensors.items() if k.startswith("motion.")}
        motion.load_state_dict(state)
        orbits = {name: Orbit(**orbit) for name, orbit in record["orbits"].items()}
        paths = {name: tuple(Orbit(**orbit) for orbit in path) for name, path in record.get("paths", {}).items()}
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"checkpoint in {folder} does not fit this version of gs4d ({error}); train again") from error
    return Asset(gaussians, motion.requires_grad_(False), record["motion"]["frames"], orbits, paths)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
