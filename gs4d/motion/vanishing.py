"""Gaussians that are not there at some frames, because nothing was seen in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import Gaussians

GONE = -12.0  # logit of the opacity of what is not there: below all that is drawn


@dataclass(frozen=True)
class Vanishing:
    """Another motion, whose Gaussians are invisible at the times nearest to frames that show
    nothing.

    Attributes:
        motion: moves them; any :class:`gs4d.motion.Motion`.
        hidden: per frame, whether it shows nothing.
    """

    motion: Any
    hidden: tuple[bool, ...]

    def at_times(self, gaussians: Gaussians, times: Float[Tensor, " b"]) -> Gaussians:
        """The ``Motion`` protocol."""
        moved = self.motion.at_times(gaussians, times)
        frames = (times.clamp(0, 1) * (len(self.hidden) - 1)).round().long()
        gone = torch.tensor(self.hidden, device=frames.device)[frames][:, None].to(
            moved.logit_opacities.device
        )
        # every time has its own, so that a file can move them
        opacities = moved.logit_opacities.expand(len(times), -1)
        return moved.replace(
            logit_opacities=torch.where(gone, opacities.new_tensor(GONE), opacities)
        )
