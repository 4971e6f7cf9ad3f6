"""The 4D asset: one canonical set of Gaussians and the motion that carries it through time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .clip import Orbit, orbit_along
from .errors import UserError
from .gaussians import Gaussians
from .motion import Motion


@dataclass(frozen=True)
class Asset:
    """What a fit makes and what is drawn, exported and scored.

    Attributes:
        gaussians: the canonical set.
        motion: moves it to any time in [0, 1].
        frames: frames of the clip it was fitted to; frame i is time i / (frames - 1).
        orbits: the cameras it was fitted to by name; "input" is the video's. One orbit for a
            camera that stays, or one per frame.
    """

    gaussians: Gaussians
    motion: Motion
    frames: int
    orbits: dict[str, tuple[Orbit, ...]]

    def orbit_at(self, name: str, t: float) -> Orbit:
        """Where a camera that it was fitted to stands at time ``t`` in [0, 1]."""
        return orbit_along(self.orbits[name], t)

    def times(self, count: int | None = None) -> Float[Tensor, "t"]:
        """``count`` even times from 0 to 1 (None: one per frame of the clip).

        0 alone for a single one.
        """
        n = self.frames if count is None else count
        return torch.arange(n) / max(n - 1, 1)

    @torch.no_grad()
    def at_times(self, times: Float[Tensor, "b"]) -> Gaussians:
        """The Gaussians of ``b`` views, each at its own time.

        An asset of one frame knows no motion and stands still.

        Raises:
            UserError: a time is no number.
        """
        if times.isnan().any():
            raise UserError("a time of the asset is no number (NaN); give times from 0 to 1")
        return self.motion.at_times(
            self.gaussians, times if self.frames > 1 else torch.zeros_like(times)
        )

    def at(self, t: float) -> Gaussians:
        """The Gaussians at time ``t``: a plain static set."""
        return self.at_times(torch.tensor([t])).at_view(0)
