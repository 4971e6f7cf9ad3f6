"""The configuration: typed options of the modules below, from defaults, a file and the command line, in rising precedence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from .errors import require_folder_name
from .export import ExportOptions
from .fit import FitOptions
from .intake.pseudo import PseudoOptions
from .io.files import write_json
from .options import read_options, to_record
from .origins import Origin
from .ranges import Range


@dataclass(frozen=True)
class Config(Origin):
    """What one run does."""

    name: Annotated[str, tyro.conf.arg(aliases=["-e", "--expname"])] = "rose"
    """Name of the run: results go to {output_dir}/{name}."""
    name_override: str | None = None
    """Name of the clip, where it differs from the run's: frames come from
    {data_dir}/{clip}_pose0."""
    data_dir: Path = Path("data")
    """Where clips are looked up."""
    output_dir: Path = Path("output")
    """Where results go."""
    prior: str | None = None
    """Model whose score guides the fine stage, such as zero123:FOLDER or zero123:owner/model; none
    by default."""
    pseudo: PseudoOptions = field(default_factory=PseudoOptions)
    fit: FitOptions = field(default_factory=FitOptions)
    export: ExportOptions = field(default_factory=ExportOptions)
    view: bool = False
    """Show the fit while it goes on, on a page at localhost: splat, cameras, losses, pause and
    finish."""
    view_port: Annotated[int, Range(1, 65535)] = 8080
    """Of that page; the next free one if it is taken."""
    resume: bool = False
    """Go on from the checkpoint of a run that was cut; the result is that of an uncut run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder_name("-e", self.name)
        require_folder_name("--name_override", self.clip)

    @property
    def clip(self) -> str:
        """Name of the clip that is fitted."""
        return self.name_override or self.name

    @property
    def folder(self) -> Path:
        """Where this run's results go."""
        return self.output_dir / self.name


def load_config(path: Path) -> Config:
    """As :func:`gs4d.options.read_options` for a whole run."""
    return read_options(Config, path)


def save_config(path: Path, config: Config) -> None:
    """Writes the effective config; :func:`load_config` reads it back equal."""
    write_json(path, to_record(config))
