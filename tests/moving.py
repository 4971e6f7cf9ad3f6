"""A toy asset in which everything moves along curves, and is measured by formulas of its own."""

import numpy as np
import torch
from torch import Tensor

from gs4d.asset import Asset
from gs4d.clip import Orbit
from gs4d.gaussians import Gaussians
from gs4d.geometry import covariances
from gs4d.motion import DeltaMotion


class Sway(DeltaMotion):
    """Everything bends, turns and swells; on request it also fades and changes its colour."""

    def __init__(self, *, paints: bool = False) -> None:
        super().__init__()
        self.paints = paints

    def moves(self, means: Tensor, times: Tensor) -> dict[str, Tensor]:
        t, (x, y, _) = times[:, None], means.unbind(1)
        bend = torch.stack(
            [0.3 * torch.sin(2 * t) * y, 0.2 * t * t * x, 0.1 * torch.sin(5 * t) * y], -1
        )
        swell = (0.4 * t * torch.ones_like(x))[..., None].expand(-1, -1, 3)
        moves = {
            "position": bend,
            "rotation": torch.stack([t * y, 0 * t * y, 2 * t * t * x], -1),
            "log_scale": swell,
        }
        if self.paints:
            moves |= {
                "opacity": -2 * t[..., None] * torch.ones(len(means), 1),
                "color": 0.3 * t[..., None] * means.abs(),
            }
        return moves


def random_gaussians(count: int = 200, degree: int = 0, seed: int = 5) -> Gaussians:
    """Long Gaussians of all directions and colours in a ball of radius 0.5."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    ball = (
        torch.nn.functional.normalize(normal(count, 3), dim=1)
        * torch.rand(count, 1, generator=generator)
        * 0.5
    )
    return Gaussians(
        means=ball,
        quats=normal(count, 4),
        log_scales=-3 + 0.5 * normal(count, 3),
        logit_opacities=2 * normal(count),
        sh=0.5 * normal(count, (degree + 1) ** 2, 3),
    )


def moving_asset(
    count: int = 200, degree: int = 0, *, frames: int = 7, paints: bool = False
) -> Asset:
    """The asset of this file: seen by an input camera and one more."""
    orbits = {"input": (Orbit(20.0, 10.0, aspect=1.5),), "side": (Orbit(90.0),)}
    return Asset(random_gaussians(count, degree), Sway(paints=paints), frames, orbits)


def shape_error(a: Gaussians, b: Gaussians) -> float:
    """The largest difference of covariances, as a part of their size."""
    first, second = covariances(a.quats, a.log_scales), covariances(b.quats, b.log_scales)
    return float(((first - second).norm(dim=(1, 2)) / first.norm(dim=(1, 2))).max())


def strayed(a: Gaussians, b: Gaussians) -> np.ndarray:
    """Distance of every center from where it should be."""
    return (a.means - b.means).norm(dim=1).numpy()
