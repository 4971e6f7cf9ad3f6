"""The formats that hold the whole motion in one file, with the rate and the loop that the options
ask for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..asset import Asset
from .glb import write_glb
from .options import ExportOptions
from .page import write_html
from .splatv import write_splatv
from .timing import whole


def export_glb(path: Path, asset: Asset, options: ExportOptions) -> None:
    """Animated glTF with splats."""
    asset, frames = whole(asset, options)
    write_glb(path, asset, frames=frames, fps=options.fps)


def export_html(path: Path, asset: Asset, options: ExportOptions) -> None:
    """A page with the animated glTF inside."""
    asset, frames = whole(asset, options)
    write_html(path, asset, frames=frames, fps=options.fps)


def export_splatv(path: Path, asset: Asset, options: ExportOptions) -> None:
    """SplaTV's format; says how well its polynomials follow the motion.

    Its viewers go forth and back, whatever the options.
    """
    asset, frames = whole(asset, replace(options, loop=False))
    error = write_splatv(path, asset, frames=frames)
    tqdm.write(
        f"{path.name}: 99 % of the Gaussians stray by at most {100 * error:.2g} % of the object's "
        "size"
    )
