"""What a term of the loss is, and what it sees of a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...camera import Camera
from ...clip import Clip, over_white
from ...gaussians import Gaussians
from ...motion import Motion
from ...prior import Interpolator, ScorePrior
from ...render import Render, render
from ..batches import Batch, Batches
from ..options import FitOptions
from ..state import State

WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Drawn:
    """Renders of one size beside the clip's pictures over white.

    Attributes:
        rgb: renders over white, with gradient.
        alpha: their coverage, with gradient.
        picture: the clip's colours over white.
        coverage: the clip's alpha.
        weights: factors per picture or per pixel.
        share: of the step's pictures.
        offsets: zeros on the screen, whose gradient tells where Gaussians are needed.
        radii: of the Gaussians on the screen, pixels; 0 for those that are not drawn.
    """

    rgb: Float[Tensor, "b h w 3"]
    alpha: Float[Tensor, "b h w"]
    picture: Float[Tensor, "b h w 3"]
    coverage: Float[Tensor, "b h w 1"]
    weights: Float[Tensor, ...]
    share: float
    offsets: Float[Tensor, "b n 2"]
    radii: Int[Tensor, "b n"]


@dataclass
class Step:
    """One step of a fit, as its loss terms see it.

    Attributes:
        number: of the step, from 0.
        stage: static, coarse or fine.
        options: of the fit.
        clip: what is fitted.
        state: parameters, field, random numbers.
        batches: which pictures the step has.
        gaussians: the canonical set, with gradient.
        motion: moves them; they vanish in frames that show nothing.
        prior: scores renders in the fine stage.
        interpolator: finds what lies between renders.
    """

    number: int
    stage: str
    options: FitOptions
    clip: Clip
    state: State
    batches: Batches
    gaussians: Gaussians
    motion: Motion
    prior: ScorePrior | None = None
    interpolator: Interpolator | None = None

    def draw(self, times: Float[Tensor, " b"], cameras: Camera) -> Render:
        """Renders over white of ``b`` cameras, each at its own time in [0, 1]."""
        device = self.state.device
        moved = self.motion.at_times(self.gaussians, times.to(device))
        return render(moved, cameras.to(device), background=WHITE)

    @cached_property
    def drawn(self) -> list[Drawn]:
        """The step's pictures and their renders, in groups of one size."""
        return [self._drawn(batch) for batch in self.batches.of_step(self.number)]

    def _drawn(self, batch: Batch) -> Drawn:
        # A frame in which nothing is seen is in no batch, so that the field alone moves them.
        moved, device = self.gaussians, self.state.device
        if self.stage != "static":
            moved = self.state.field.at_times(moved, self.batches.times[batch.frames].to(device))
        count = len(batch.frames)
        offsets = torch.zeros(count, moved.count, 2, device=device, requires_grad=True)
        cameras = self.batches.cameras_of(batch).to(device)
        render_ = render(moved, cameras, background=WHITE, screen_offsets=offsets)
        picture, coverage = over_white(self.batches.pictures_of(batch).to(device))
        weights = self.batches.weights_of(batch).to(device)
        share = count / self.options.views_per_step
        return Drawn(
            render_.rgb, render_.alpha, picture, coverage, weights, share, offsets, render_.radii
        )


@dataclass(frozen=True)
class Term:
    """A summand of the loss.

    Attributes:
        name: in the history and in messages.
        weight: its factor.
        when: whether a step has it.
        value: the term without its weight; None where the step has none after all. Terms of
            pictures get each group of renders in turn and are means over its pixels, the others
            get None.
        of_pictures: whether it compares the step's pictures with their renders.
        label: on the progress line. A term without one is part of the loss alone; one with a label
            also stands in the history and in the report.
        title: of its chart in the report.
        note: what the chart shows.
    """

    name: str
    weight: Callable[[FitOptions], float]
    when: Callable[[Step], bool]
    value: Callable[[Step, Drawn | None], Float[Tensor, ""] | None]
    of_pictures: bool = False
    label: str = ""
    title: str = ""
    note: str = ""


def always(step: Step) -> bool:
    """Every step has it."""
    return True


def moving(step: Step) -> bool:
    """Every step has it but those of the static stage."""
    return step.stage != "static"
