"""Gaussians that live around moments of their own and move along cubics.

SpacetimeGaussians (Li et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..gaussians import Gaussians

LEAST_LOGIT = -30.0  # of the opacity far from a Gaussian's moment


class Moments:
    """Position plus a cubic of (t - center), rotation plus omega (t - center), opacity times a
    Gaussian of time.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        centers: Float[Tensor, " n"],
        widths: Float[Tensor, " n"],
        motion: Float[Tensor, "n 3 3"],
        omega: Float[Tensor, "n 4"],
        place: Callable[[Gaussians], Gaussians],
    ) -> None:
        """Gaussians at their own moments ``centers``, in [0, 1], in the space that ``place`` takes
        to the world.

        Args:
            gaussians: a set without views.
            centers: moments, 0 to 1.
            widths: the opacity falls to 1/e at this distance in time.
            motion: coefficients of the first to third power of (t - center): power, then axis.
            omega: change of the quaternion, wxyz, per unit of time.
            place: applied to the Gaussians of every time.
        """
        self.gaussians, self.centers, self.widths = gaussians, centers, widths
        self.motion, self.omega, self.place = motion, omega, place

    def set_at(self, t: float) -> Gaussians:
        """The Gaussians at one time, before they are placed."""
        g = self.gaussians
        since = t - self.centers
        powers = torch.stack([since, since**2, since**3], 1)
        faded = logsigmoid(g.logit_opacities) - (since / self.widths) ** 2  # log of the opacity
        logits = faded - torch.log1p(-faded.clamp(max=-1e-7).exp())
        return g.replace(
            means=g.means + torch.einsum("np,npc->nc", powers, self.motion).to(g.means.dtype),
            quats=g.quats + self.omega * since[:, None],
            logit_opacities=logits.clamp_min(LEAST_LOGIT),
        )

    def at_times(self, gaussians: Gaussians, times: Float[Tensor, " b"]) -> Gaussians:
        """The sets of ``b`` times in [0, 1], whatever ``gaussians`` are.

        The ``Motion`` protocol.
        """
        shown = [self.place(self.set_at(float(t))) for t in times.clamp(0, 1)]
        return Gaussians(
            **{
                name: torch.stack([getattr(g, name) for g in shown])
                for name, _ in gaussians.items()
            }
        )

    def __call__(self, gaussians: Gaussians, t: float) -> Gaussians:
        """The set of one time in [0, 1]: the ``Motion`` protocol."""
        return self.at_times(gaussians, torch.tensor([t])).at_view(0)
