"""One static splat per frame, in the formats that viewers read.

Viewers take these files as y down. PLY files of gs4d say in a comment that their y points up, as in gs4d; the other formats
have no place to say so and are turned by half a turn about x, so that viewers show them upright.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from ..asset import Asset
from ..gaussians import Gaussians
from ..io.compressed_ply import write_compressed_ply
from ..io.files import atomic_path
from ..io.ply import write_ply
from ..io.splat import write_splat
from ..io.spz import write_spz
from .options import ExportOptions
from .timing import moments


def write_ply_sequence(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """``0000.ply``, ``0001.ply``, ...: every viewer's layout, in full precision, y up."""
    _write(folder, asset, options, write_ply, ".ply")


def write_compressed_ply_sequence(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """``0000.compressed.ply``, ...: SuperSplat's layout."""
    _write(folder, asset, options, lambda path, g: write_compressed_ply(path, g.half_turn()), ".compressed.ply")


def write_splat_sequence(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """``0000.splat``, ...: 32 bytes per Gaussian."""
    _write(folder, asset, options, lambda path, g: write_splat(path, g.half_turn()), ".splat")


def write_spz_sequence(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """``0000.spz``, ...: Niantic's compressed format."""
    _write(folder, asset, options, lambda path, g: write_spz(path, g.half_turn()), ".spz")


def _write(folder: Path, asset: Asset, options: ExportOptions, write: Callable[[Path, Gaussians], None], suffix: str) -> None:
    """Replaces ``folder`` as a whole; holds one frame at a time."""
    with atomic_path(folder) as part:
        part.mkdir()
        bar = tqdm(moments(asset, options), desc=suffix[1:], unit="frame", dynamic_ncols=True, leave=False)
        for i, t in enumerate(bar):
            write(part / f"{i:04d}{suffix}", asset.at(t))
