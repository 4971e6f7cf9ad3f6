"""One static splat per frame, in the formats that viewers read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from ..asset import Asset
from ..gaussians import Gaussians
from ..io.files import atomic_path
from ..io.ply import write_ply
from .options import ExportOptions
from .timing import moments


def write_ply_sequence(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """``0000.ply``, ``0001.ply``, ...: every viewer's layout, in full precision."""
    _write(folder, asset, options, write_ply, ".ply")


def _write(folder: Path, asset: Asset, options: ExportOptions, write: Callable[[Path, Gaussians], None], suffix: str) -> None:
    """Replaces ``folder`` as a whole; holds one frame at a time."""
    with atomic_path(folder) as part:
        part.mkdir()
        bar = tqdm(moments(asset, options), desc=suffix[1:], unit="frame", dynamic_ncols=True, leave=False)
        for i, t in enumerate(bar):
            write(part / f"{i:04d}{suffix}", asset.at(t))
