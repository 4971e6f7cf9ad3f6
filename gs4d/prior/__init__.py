"""Frozen networks behind small Protocols."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ..camera import Camera


@runtime_checkable
class ViewPrior(Protocol):
    """A network that knows what an object looks like from elsewhere."""

    def score(
        self, images: Float[Tensor, "b h w 3"], cameras: Camera, condition: Float[Tensor, "b h w 4"], progress: float
    ) -> Float[Tensor, ""]:
        """Score distillation: a loss whose gradient is the score.

        Args:
            images: renders over white, in [0, 1], with gradient.
            cameras: where they were rendered from.
            condition: the input view of each render's own frame, RGBA premultiplied, in [0, 1].
            progress: 0 at the start of the stage, 1 at its end, for annealing.
        """
        ...
