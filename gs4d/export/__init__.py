"""What leaves a run: splats, one animated file, videos, a mesh. One table says who writes what."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ..asset import Asset
from .films import write_input_view, write_turntable, write_views
from .formats import FORMATS
from .options import ExportOptions
from .sequence import write_ply_sequence

__all__ = [
    "FORMATS",
    "ExportOptions",
    "export",
    "export_paths",
    "write_input_view",
    "write_ply_sequence",
    "write_previews",
    "write_turntable",
    "write_views",
]


def export(asset: Asset, folder: Path, name: str, options: ExportOptions) -> list[Path]:
    """Writes every format of ``options.to`` into ``folder`` under ``name``, and returns what was
    written, in that order.

    Each file or folder appears whole or not at all. Memory does not grow with the number of frames.

    Raises:
        UserError: a format needs a package that is not installed (before anything is written), or
            cannot be written.
    """
    chosen = [FORMATS[key] for key in dict.fromkeys(options.to)]
    writers = [getattr(import_module(f.module, __package__), f.function) for f in chosen]
    paths = export_paths(folder, name, options)
    for path, write in zip(paths, writers, strict=True):
        write(path, asset, options)
    return paths


def write_previews(folder: Path, asset: Asset, options: ExportOptions) -> None:
    """Writes what every run leaves: a PLY per frame, and videos from the input and all around.

    Raises:
        UserError: one of them cannot be written.
    """
    write_ply_sequence(folder / "ply", asset, options)
    write_input_view(folder / "input_view.mp4", asset, options)
    write_turntable(folder / "turntable.mp4", asset, options)


def export_paths(folder: Path, name: str, options: ExportOptions) -> list[Path]:
    """The files and folders that :func:`export` writes."""
    return [folder / FORMATS[key].target.format(name=name) for key in dict.fromkeys(options.to)]
