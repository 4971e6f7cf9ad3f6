"""``gs4d export``: a fitted run, or a splat of anyone's, in the formats that others read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .checkpoint import read_asset
from .config import parse
from .errors import UserError
from .export import FORMATS, ExportOptions, export
from .native import set_threads

ABOUT = "Writes a fitted run in the formats of --to: " + "; ".join(f"{name}: {f.about}" for name, f in FORMATS.items()) + "."


@dataclass(frozen=True)
class DeliverOptions(ExportOptions):
    """What to write of which run."""

    model_path: Annotated[Path, tyro.conf.Positional] = Path("output/rose")
    """Folder of the run."""
    out: Path | None = None
    """Where files go; None: a folder named export in the run's."""


def main(arguments: list[str]) -> None:
    """Parses, writes, and says where things are."""
    options = parse(DeliverOptions, arguments, default=DeliverOptions(), program="gs4d export", description=ABOUT)
    for path in deliver(options):
        print(path)


def deliver(options: DeliverOptions) -> list[Path]:
    """Writes every format that is asked for; returns what was written.

    Raises:
        UserError: nothing is asked for, the run is absent or damaged, or a format cannot be written.
    """
    if not options.to:
        raise UserError(f"gs4d export wants --to with one or more of: {', '.join(FORMATS)}")
    source = options.model_path
    asset = read_asset(source)
    set_threads(0)
    folder = options.out or (source if source.is_dir() else source.parent) / "export"
    return export(asset, folder, source.resolve().stem, options)
