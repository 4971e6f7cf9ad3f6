"""Growing and pruning the set of Gaussians.

Parameters, optimizer moments and motion residuals change rows together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .geometry import morton_order, quats_to_rotations
from .ranges import Options, Range


@dataclass(frozen=True)
class DensifyOptions(Options):
    """Adaptive density control (Kerbl et al. 2023, section 5.2) on a budget.

    The neediest Gaussians grow, up to a cap.
    """

    every: Annotated[int, Range(0, 10**8)] = 100
    """Steps between two passes; 0 turns densification off."""
    start: Annotated[float, Range(0, 1)] = 0.03
    """First pass, as a fraction of all steps."""
    stop: Annotated[float, Range(0, 1)] = 0.6
    """No pass after this fraction of all steps."""
    max_gaussians: Annotated[int, Range(1, 10**7)] = 16000
    """Growth stops here."""
    growth: Annotated[float, Range(0, 1)] = 0.12
    """At most this fraction of the Gaussians is cloned or split in one pass."""
    split_above: Annotated[float, Range(0, 1e3)] = 0.012
    """A Gaussian wider than this (world units) is split in two, a smaller one is cloned."""
    min_opacity: Annotated[float, Range(0, 1)] = 0.01
    """Gaussians fainter than this are pruned."""
    max_scale: Annotated[float, Range(0, 1e3)] = 0.3
    """Gaussians wider than this (world units) are pruned."""


class NeedMeter:
    """Mean screen-space positional gradient of each Gaussian since the last pass.

    Where the picture pulls hardest.
    """

    def __init__(self, count: int) -> None:
        self.total = torch.zeros(count)
        self.seen = torch.zeros(count)

    def observe(self, screen_gradients: Float[Tensor, "b n 2"], radii: Int[Tensor, "b n"]) -> None:
        """Adds the gradients of one step; a Gaussian that is off the screen does not count."""
        self.total += screen_gradients.norm(dim=-1).sum(0).cpu()
        self.seen += (radii > 0).sum(0).cpu()

    def need(self) -> Float[Tensor, "n"]:
        """Mean gradient norm per view in which the Gaussian was drawn."""
        return self.total / self.seen.clamp_min(1)


def regather(
    parameters: nn.ParameterDict,
    optimizer: torch.optim.Optimizer,
    rows: Int[Tensor, "m"],
    is_new: Tensor,
) -> None:
    """Rebuilds every per-Gaussian parameter as its ``rows``, and Adam's moments with it.

    New rows start without moments.
    """
    for group in optimizer.param_groups:
        name = str(group.get("name"))
        if name not in parameters:
            continue
        old = parameters[name]
        fresh = nn.Parameter(old.detach()[rows].contiguous())
        state = optimizer.state.pop(old, {})
        for key, value in state.items():
            if value.shape == old.shape:
                state[key] = value[rows].contiguous()
                state[key][is_new] = 0
        parameters[name] = fresh
        group["params"] = [fresh]
        if state:
            optimizer.state[fresh] = state


@torch.no_grad()
def densify(
    parameters: nn.ParameterDict,
    optimizer: torch.optim.Optimizer,
    need: Float[Tensor, "n"],
    options: DensifyOptions,
    generator: torch.Generator,
) -> None:
    """One pass: prune, then clone or split where ``need`` is largest, then sort along a Morton
    curve for the cache.

    ``parameters`` holds at least means, quats, log_scales and logit_opacities; every other entry
    (colours, motion residuals) is copied along.
    """
    scales, device = parameters["log_scales"].exp(), parameters["means"].device
    widest = scales.amax(1)
    keep = (torch.sigmoid(parameters["logit_opacities"]) >= options.min_opacity) & (
        widest <= options.max_scale
    )
    keep &= torch.isfinite(parameters["means"]).all(1)
    if not keep.any():
        keep = torch.ones_like(keep)
    kept = keep.nonzero().squeeze(1)
    room = options.max_gaussians - len(kept)
    grow = max(0, min(room, math.ceil(options.growth * len(kept))))
    order = torch.argsort(need.to(device)[kept], descending=True, stable=True)[:grow]
    chosen = kept[order[need.to(device)[kept][order] > 0]]
    rows = torch.cat([kept, chosen])
    is_new = torch.arange(len(rows), device=device) >= len(kept)

    split = widest[rows] > options.split_above
    split &= is_new | torch.isin(rows, chosen)
    regather(parameters, optimizer, rows, is_new)

    halves = split.nonzero().squeeze(1)
    noise = torch.randn(len(halves), 3, generator=generator).to(device)
    rotation = quats_to_rotations(parameters["quats"][halves])
    shift = (rotation @ (noise * parameters["log_scales"][halves].exp()).unsqueeze(-1)).squeeze(-1)
    parameters["means"].data[halves] += shift
    parameters["log_scales"].data[halves] -= math.log(1.6)

    order = morton_order(parameters["means"].detach())
    regather(parameters, optimizer, order, torch.zeros(len(order), dtype=torch.bool, device=device))
