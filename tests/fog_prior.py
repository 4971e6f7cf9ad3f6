"""A prior in one file, as somebody may write it: every view is a grey disc."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gs4d.clip import Orbit
from gs4d.prior import Views, sampled_views
from gs4d.prior.networks import Place
from gs4d.prior.rigs import Rig
from gs4d.prior.sampling import Context, Sampling

SIDE = 32  # pixels of its views


def open_fog(where: str, place: Place, sampling: Sampling | None = None) -> Fog:
    """Opens it; ``where`` is the grey value."""
    return Fog(int(where or 100))


class Fog:
    """A ``ViewPrior``."""

    context: ClassVar[Context] = "none"
    layout: ClassVar[str] = "rig"
    rig: ClassVar[Rig] = Rig((Orbit(90.0, 10.0), Orbit(180.0, 10.0)))

    def __init__(self, grey: int) -> None:
        self.grey = grey
        self.weights = [{"name": "fog", "licence": "CC0"}]

    def views(
        self, frames: Tensor, source: Orbit, rig: list[Orbit], generator: torch.Generator
    ) -> Views:
        """See ``ViewPrior``."""
        at = torch.arange(SIDE) - (SIDE - 1) / 2
        inside = at.square()[:, None] + at.square() < (SIDE / 3) ** 2
        disc = torch.full((SIDE, SIDE, 4), self.grey, dtype=torch.uint8)
        disc[..., 3] = 255 * inside
        return sampled_views(rig, disc.expand(len(rig), len(frames), -1, -1, -1).contiguous())
