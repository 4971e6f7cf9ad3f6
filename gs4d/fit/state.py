"""What a fit changes: Gaussians and motion field, their optimizer, growth, and random numbers."""

from __future__ import annotations

import torch
from torch import nn

from ..densify import NeedMeter, densify
from ..gaussians import Gaussians
from ..motion import HexPlane
from .options import FitOptions

BOX_MARGIN = 0.25  # of the object's size in the static frame, for where it moves and grows later


class State:
    """Parameters, optimizer and densification.

    Attributes:
        options: of the fit.
        generator: of all randomness but the field's start and the choice of pictures; on the CPU.
        device: where everything else is.
        field: moves the Gaussians.
        parameters: of the Gaussians by name; spherical harmonics as sh_dc and, if there are any of
            a higher degree, sh_rest.
        optimizer: Adam of parameters and field, one named group each with its own "rate".
        need: where the pictures pull at the Gaussians since the last densification.
    """

    def __init__(
        self,
        options: FitOptions,
        frames: int,
        start: Gaussians,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        """Gaussians that stand still, and a motion field around them."""
        self.options, self.generator, self.device = options, generator, device
        self.field = HexPlane(options.motion, frames)
        self.field.fit_box(start.means, margin=BOX_MARGIN)
        self.field.to(device)
        values = dict(start.to(device).items())
        sh = values.pop("sh")
        values["sh_dc"], values["sh_rest"] = sh[:, :1].contiguous(), sh[:, 1:].contiguous()
        self.parameters = nn.ParameterDict(
            {k: nn.Parameter(v.clone()) for k, v in values.items() if v.numel() or not len(v)}
        )
        self.optimizer = torch.optim.Adam(self._groups(), lr=0.0, eps=1e-15, fused=True)
        self.need = NeedMeter(start.count)

    def _groups(self) -> list[dict[str, object]]:
        rates, field = self.options.learning_rates, self.field
        groups = {
            **{name: [parameter] for name, parameter in self.parameters.items()},
            "planes": [*field.space, *field.time],
            "decoder": [*field.hidden.parameters(), *field.out.parameters()],
        }
        return [{"name": n, "params": p, "rate": getattr(rates, n)} for n, p in groups.items()]

    def gaussians(self) -> Gaussians:
        """The canonical set, with history."""
        p = self.parameters
        sh = torch.cat([p["sh_dc"], p["sh_rest"]], 1) if "sh_rest" in p else p["sh_dc"]
        return Gaussians(p["means"], p["quats"], p["log_scales"], p["logit_opacities"], sh)

    def update(self, progress: float) -> None:
        """One step of the optimizer along the gradients, which are cleared.

        Args:
            progress: steps that were made, as a share of all; rates decay with it.
        """
        decay = self.options.learning_rates.final**progress
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * decay
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def densify(self, step: int) -> None:
        """Grows and prunes, if it is time for that after ``step`` steps."""
        o = self.options.densify
        due = o.every and step % o.every == 0
        if not due or not o.start <= step / self.options.steps <= o.stop:
            return
        densify(self.parameters, self.optimizer, self.need.need(), o, self.generator)
        self.need = NeedMeter(len(self.parameters["means"]))
