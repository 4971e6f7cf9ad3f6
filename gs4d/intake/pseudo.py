"""Side views that a prior makes up for a clip that has none."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from ..io.clips import CONFIDENCE_FILE
from ..prior import default_view_prior
from ..prior.sampling import Sampling
from ..ranges import Options, Range
from .views import ViewsOptions, make_views


@dataclass(frozen=True)
class PseudoOptions(Options):
    """Side views for a clip that comes without any."""

    prior: str = "auto"
    """What draws them: auto (the best of those that come with gs4d), none, inflate, lift, or one
    with weights of its own, such as zero123plus:FOLDER; `gs4d views --help` lists them."""
    pixels: bool = True
    """Believe each pixel as far as the prior is sure of it, instead of all alike."""
    steady: bool = True
    """Believe less what differs from the frames before and after."""
    veils: bool = True
    """Have lift draw what may be there as a veil, which is nearest to the truth; without, outlines
    are hard guesses."""
    batch: Annotated[int, Range(1, 1000)] = 4
    """Frames that are drawn together, by priors for which that makes a difference."""
    seed: Annotated[int, Range(0, 2**62)] = 0
    """Of all randomness."""
    sampling: Sampling = field(default_factory=Sampling)


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
    folder = make_views(
        ViewsOptions(
            path=data_dir / f"{name}_pose0",
            prior=prior,
            batch=options.batch,
            seed=options.seed,
            sampling=options.sampling,
            steady=options.steady,
            veils=options.veils,
            overwrite=True,
            out_dir=out,
        )
    )
    if not options.pixels:
        (folder / CONFIDENCE_FILE).unlink()
    return out
