"""A path of its own for every Gaussian, on top of a shared field.

For what the field's texels cannot tell apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..ranges import Options, Range
from .deltas import DeltaMotion, Heads


@dataclass(frozen=True)
class TrajectoryOptions(Options):
    """Which functions of time a trajectory is made of, and what it moves.

    Attributes:
        basis: "cosine" is the DCT-II over the frames without its constant (that is the canonical
            position): smooth, few numbers. "hats" is linear interpolation between evenly spaced
            knots: local; one knot per frame is exact.
        count: number of functions ``k``, at least 1 ("hats": at least 2).
        rotation: also turn.
        color: also change the colour of degree 0.
    """

    basis: Literal["cosine", "hats"] = "cosine"
    count: Annotated[int, Range(1, 1024)] = 8
    rotation: bool = False
    color: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.basis == "hats" and self.count < 2:
            raise self.error(f"{{count}} is {self.count}; it must be at least 2 for {{basis}} hats")


class Trajectories(DeltaMotion):
    """Residual motion: per Gaussian, coefficients of a few fixed functions of time.

    Attributes:
        coefficients: (n, k, d), a per-Gaussian parameter that densification indexes and clones like
            the means; columns as in ``heads`` (position in world units), zero is the identity.
        base: the motion underneath, its deltas are added; None for none.
    """

    def __init__(
        self, options: TrajectoryOptions, frames: int, count: int, base: DeltaMotion | None = None
    ) -> None:
        """Trajectories at rest of ``count`` Gaussians through a clip of ``frames`` frames."""
        super().__init__()
        self.options, self.frames, self.base = options, frames, base
        self.heads = Heads(rotation=options.rotation, log_scale=False, color=options.color)
        self.coefficients = nn.Parameter(torch.zeros(count, options.count, self.heads.count()))

    def basis(self, times: Float[Tensor, " t"]) -> Float[Tensor, "t k"]:
        """The functions of time at ``times`` in [0, 1]."""
        k = self.options.count
        if self.options.basis == "hats":
            knots = torch.arange(k, dtype=times.dtype, device=times.device)
            return (1 - (times[:, None].clamp(0, 1) * (k - 1) - knots).abs()).clamp_min(0)
        frequency = (
            math.pi / self.frames * torch.arange(1, k + 1, dtype=times.dtype, device=times.device)
        )
        return torch.cos((times[:, None] * (self.frames - 1) + 0.5) * frequency)

    def moves(self, means: Float[Tensor, "n 3"], times: Float[Tensor, " t"]) -> dict[str, Tensor]:
        n, k, d = self.coefficients.shape
        if n != len(means):
            raise ValueError(
                f"Trajectories hold {n} Gaussians, got {len(means)}: index the coefficients like "
                "the means"
            )
        basis = self.basis(times).to(self.coefficients.dtype)
        deltas = (basis @ self.coefficients.transpose(0, 1).reshape(k, n * d)).view(-1, n, d)
        moves = self.base.moves(means, times) if self.base is not None else {}
        for name, residual in self.heads.split(deltas).items():
            moves[name] = moves[name] + residual if name in moves else residual
        return moves
