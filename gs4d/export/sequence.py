"""One static splat per frame, in the formats that viewers read.

All formats get the same numbers: gs4d's world, y up, or with ``y_down`` half a turn about x from
it, as viewers that take y as pointing down want them. PLY files say which in a comment; beside the
frames of the other formats stands a small JSON file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..asset import Asset
from ..gaussians import Gaussians
from ..io.compressed_ply import write_compressed_ply
from ..io.files import write_json
from ..io.gaussians import SEQUENCE
from ..io.owned import atomic_folder
from ..io.ply import Y_UP, write_ply
from ..io.splat import write_splat
from ..io.spz import write_spz
from .options import ExportOptions
from .timing import moments

SIDES = {False: Y_UP, True: "gs4d: y down"}  # what a PLY file says of itself


def write_ply_sequence(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """``0000.ply``, ``0001.ply``, ...: every viewer's layout, in full precision."""
    _write(folder, asset, options, partial(write_ply, comment=SIDES[options.y_down]), ".ply")


def write_compressed_ply_sequence(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """``0000.compressed.ply``, ...: SuperSplat's layout."""
    _write(
        folder,
        asset,
        options,
        partial(write_compressed_ply, comment=SIDES[options.y_down]),
        ".compressed.ply",
    )


def write_splat_sequence(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """``0000.splat``, ...: 32 bytes per Gaussian."""
    _write(folder, asset, options, write_splat, ".splat")


def write_spz_sequence(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """``0000.spz``, ...: Niantic's compressed format."""
    _write(folder, asset, options, write_spz, ".spz")


def _write(
    folder: Path,
    asset: Asset,
    options: ExportOptions,
    write: Callable[[Path, Gaussians], None],
    suffix: str,
) -> None:
    """Replaces ``folder`` as a whole; holds one frame at a time."""
    with atomic_folder(folder) as part:
        if not suffix.endswith(".ply"):
            write_json(
                part / SEQUENCE, {"fps": options.fps, "y": "down" if options.y_down else "up"}
            )
        bar = tqdm(
            moments(asset, options), desc=suffix[1:], unit="frame", dynamic_ncols=True, leave=False
        )
        for i, t in enumerate(bar):
            moved = asset.at(t)
            write(part / f"{i:04d}{suffix}", moved.half_turn() if options.y_down else moved)
