"""The formats that hold the whole motion in one file, with the rate and the loop that the options ask for."""

from __future__ import annotations

from pathlib import Path

from ..asset import Asset
from .glb import write_glb
from .options import ExportOptions
from .page import write_html
from .timing import whole


def export_glb(path: Path, asset: Asset, options: ExportOptions) -> None:
    """Animated glTF with splats."""
    asset, frames = whole(asset, options)
    write_glb(path, asset, frames=frames, fps=options.fps)


def export_html(path: Path, asset: Asset, options: ExportOptions) -> None:
    """A page that plays the animated glTF inside it."""
    asset, frames = whole(asset, options)
    write_html(path, asset, frames=frames, fps=options.fps)
