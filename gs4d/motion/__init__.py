"""The first verb: move Gaussians through time.

Every motion is the identity until it has been trained.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ..gaussians import Gaussians
from .deltas import DeltaMotion, Heads, apply_deltas
from .hexplane import HexPlane, HexPlaneOptions
from .lowrank import Bounds, LowRank, factor
from .moments import Moments
from .sequence import FrameSequence
from .vanishing import Vanishing

__all__ = [
    "Bounds",
    "DeltaMotion",
    "FrameSequence",
    "Heads",
    "HexPlane",
    "HexPlaneOptions",
    "LowRank",
    "Moments",
    "Motion",
    "Vanishing",
    "apply_deltas",
    "factor",
]


@runtime_checkable
class Motion(Protocol):
    """Anything that says where the Gaussians are at times in [0, 1].

    First frame 0, last frame 1.
    """

    def at_times(self, gaussians: Gaussians, times: Float[Tensor, " b"]) -> Gaussians:
        """The Gaussians of ``b`` views, each at its own time.

        A leading view axis on the fields that move.
        """
        ...
