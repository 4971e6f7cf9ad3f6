"""``gs4d export``: a fitted run, or a splat of anyone's, in the formats that others read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .errors import UserError
from .export import FORMATS, ExportOptions, export, export_paths
from .io.owned import claim
from .native import set_threads
from .open_asset import read_asset
from .options import parse
from .run_folder import place_of_results, writing_into
from .scene import YAxis

ABOUT = (
    "Writes a fitted run in the formats of --to: "
    + "; ".join(f"{name}: {f.about}" for name, f in FORMATS.items())
    + "."
)


@dataclass(frozen=True)
class DeliverOptions(ExportOptions):
    """What to write of which run."""

    model_path: Annotated[Path, tyro.conf.Positional] = Path("output/rose")
    """Folder of the run, a file of Gaussians, or a folder with one such file per frame."""
    y_axis: YAxis = "auto"
    """Where up is in files: y up, y down, or z; see render.py."""
    out: Path | None = None
    """Where files go; None: the run's folder export, or for files beside them: scene.spz gets
    scene_export."""


def main(arguments: list[str]) -> None:
    """Parses, writes, and says where things are."""
    options = parse(
        DeliverOptions,
        arguments,
        default=DeliverOptions(),
        program="gs4d export",
        description=ABOUT,
    )
    for path in deliver(options):
        print(path)


def deliver(options: DeliverOptions) -> list[Path]:
    """Writes every format that is asked for; returns what was written.

    Raises:
        UserError: nothing is asked for, the run is absent or damaged, or a format cannot be
            written.
    """
    if not options.to:
        raise UserError(f"gs4d export wants --to with one or more of: {', '.join(FORMATS)}")
    asset = read_asset(options.model_path, options.y_axis)
    set_threads(0)
    name, place = place_of_results(options.model_path)
    with writing_into(options.model_path, options.out):
        claim(*export_paths(options.out or place("export"), name, options))
        return export(asset, options.out or place("export"), name, options)
