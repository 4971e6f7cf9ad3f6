"""Opens what holds an asset: a run, a file of Gaussians or a folder of them, or glTF."""

from __future__ import annotations

from pathlib import Path

from .asset import Asset
from .asset_record import unpack_asset
from .io.checkpoint import INDEX, read_checkpoint
from .io.foreign import foreign
from .io.gaussians import SUFFIXES, frame_files
from .io.sog import META
from .io.trained import trained_splats
from .scene import YAxis, read_animated, read_scene

GLTF_SUFFIXES = (".glb", ".gltf")


def read_asset(path: Path, y_axis: YAxis = "auto") -> Asset:
    """Opens anything that holds an asset.

    Args:
        path: a run folder (finished or not; needs no training data), a file of Gaussians or a
            folder of them, or glTF.
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
        return unpack_asset(tensors, record)
