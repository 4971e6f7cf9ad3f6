"""Side views that a prior draws for a clip that has none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..prior import default_view_prior
from .sync import SyncOptions
from .views import DrawOptions, draw_views


@dataclass(frozen=True)
class PseudoOptions(DrawOptions):
    """Side views for a clip that comes without any."""

    prior: str = "auto"
    """What draws them: auto (the best of those that come with gs4d), none, inflate, lift, or one
    with weights of its own, such as zero123plus:FOLDER; `gs4d views --help` lists them."""
    pixels: bool = True
    """Believe each pixel as far as the prior is sure of it, instead of all alike."""


def make_pseudo_views(data_dir: Path, name: str, options: PseudoOptions, out: Path) -> Path | None:
    """Draws what the clip lacks into ``out``.

    Returns it, or None where the clip has side views or none are wanted.

    Frames that were drawn there before with the same settings are kept.

    Raises:
        UserError: the prior is absent or wrong.
    """
    if (
        options.prior == "none"
        or os.path.lexists(data_dir / f"{name}_sync")
        or not (data_dir / f"{name}_pose0").is_dir()
    ):
        return None
    prior = default_view_prior() if options.prior == "auto" else options.prior
    print(
        f"{data_dir / f'{name}_sync'} does not exist, so {prior} draws what the other sides may "
        "look like."
    )
    sync = SyncOptions((out / f"{name}_views",), name, data_dir, out, overwrite=True)
    draw_views(sync, prior, options, maps=options.pixels)
    return out
