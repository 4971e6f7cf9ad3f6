"""What a motion may change about a Gaussian, and how the change is applied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..gaussians import FIELD_NDIM, Gaussians
from ..geometry import SH_C0


@dataclass(frozen=True)
class Heads:
    """The quantities that move; their columns stand in this order in a tensor of deltas, and all
    zeros is the identity.

    Attributes:
        position: 3 columns, added to the means, world units.
        rotation: 3 columns r; the quaternion becomes (1, r) * q: a turn of 2 atan |r| about r, in
            world axes. It needs no unit q, is the same for all Gaussians of a rigid part however
            each is oriented, and never degenerates.
        log_scale: 3 columns, added to the log scales.
        opacity: 1 column, added to the logit of the opacity.
        color: 3 columns, added to the colour of spherical-harmonic degree 0, on the scale of [0, 1]
            colours.
    """

    position: bool = True
    rotation: bool = True
    log_scale: bool = True
    opacity: bool = False
    color: bool = False

    def widths(self) -> dict[str, int]:
        """Columns of every head that is on, in order."""
        columns = {"position": 3, "rotation": 3, "log_scale": 3, "opacity": 1, "color": 3}
        return {name: width for name, width in columns.items() if getattr(self, name)}

    def count(self) -> int:
        """Number of columns ``d``."""
        return sum(self.widths().values())

    def split(self, deltas: Float[Tensor, "t n d"]) -> dict[str, Tensor]:
        """The columns of each head that is on, by its name."""
        widths = self.widths()
        return dict(zip(widths, deltas.split(list(widths.values()), -1), strict=True))


def apply_deltas(gaussians: Gaussians, deltas: dict[str, Tensor]) -> Gaussians:
    """Gaussians with a leading time axis on what moves; the other fields stay shared.

    Args:
        gaussians: one set, without a view axis.
        deltas: name of a head in ``Heads`` -> (t, n, columns).
    """
    moved = {}
    if "position" in deltas:
        moved["means"] = gaussians.means + deltas["position"]
    if "rotation" in deltas:
        moved["quats"] = _turned(gaussians.quats, deltas["rotation"])
    if "log_scale" in deltas:
        moved["log_scales"] = gaussians.log_scales + deltas["log_scale"]
    if "opacity" in deltas:
        moved["logit_opacities"] = gaussians.logit_opacities + deltas["opacity"].squeeze(-1)
    if "color" in deltas:
        color = deltas["color"].unsqueeze(-2) / SH_C0
        rest = gaussians.sh[:, 1:].expand(len(color), -1, -1, -1)
        moved["sh"] = torch.cat([gaussians.sh[:, :1] + color, rest], -2)
    return gaussians.replace(**moved)


def _turned(quats: Float[Tensor, "n 4"], turns: Float[Tensor, "t n 3"]) -> Float[Tensor, "t n 4"]:
    """(1, r) * q for every turn r.

    One contiguous tensor per component halves the time of strided ones.
    """
    w, x, y, z = quats.T.contiguous().unbind(0)
    a, b, c = turns.movedim(-1, 0).contiguous().unbind(0)
    rows = [
        w - a * x - b * y - c * z,
        x + a * w + b * z - c * y,
        y + b * w + c * x - a * z,
        z + c * w + a * y - b * x,
    ]
    return torch.stack(rows, -1)


class DeltaMotion(nn.Module, ABC):
    """A motion that adds deltas to one canonical set of Gaussians."""

    @abstractmethod
    def moves(self, means: Float[Tensor, "n 3"], times: Float[Tensor, " t"]) -> dict[str, Tensor]:
        """The deltas of each head that is on, (t, n, columns), for Gaussians whose canonical
        centres are ``means``.
        """

    def at_times(self, gaussians: Gaussians, times: Float[Tensor, " b"]) -> Gaussians:
        """The Gaussians of ``b`` views, each at its own time in [0, 1].

        A time that repeats is computed once.

        Returns:
            A set with a leading view axis on the fields that move, the others shared.

        Raises:
            ValueError: the Gaussians already have a view axis.
        """
        if gaussians.views is not None:
            raise ValueError(
                f"{type(self).__name__}.at_times got Gaussians of {gaussians.views} views: pass "
                "one set"
            )
        distinct, views = torch.unique(times, return_inverse=True)
        if len(distinct) == len(times):
            return apply_deltas(gaussians, self.moves(gaussians.means, times))
        moved = apply_deltas(gaussians, self.moves(gaussians.means, distinct))
        picked = {
            name: t.index_select(0, views) for name, t in moved.items() if t.ndim > FIELD_NDIM[name]
        }
        return moved.replace(**picked)

    def forward(self, gaussians: Gaussians, t: float) -> Gaussians:
        """The Gaussians at one time in [0, 1]: the ``Motion`` protocol."""
        return self.at_times(gaussians, gaussians.means.new_tensor([t])).at_view(0)
