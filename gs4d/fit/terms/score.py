"""The score of a prior for random views at random times (score distillation)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ...guidance import sample_views, score_gradient
from ...native import torch_threads
from .term import Drawn, Step, Term


def _due(step: Step) -> bool:
    return step.stage == "fine" and step.prior is not None


def _value(step: Step, _: Drawn | None) -> Float[Tensor, ""]:
    o, prior, generator = step.options, step.prior, step.state.generator
    assert prior is not None
    progress = 1 - (1 - step.number / o.steps) / o.fine
    sample = sample_views(
        step.clip,
        o.score,
        progress,
        prior.joint,
        generator,
        views_per_ring=prior.views_per_ring,
    )
    drawn = step.draw(step.batches.times[sample.frames], sample.cameras)
    with torch_threads(o.threads):  # a prior's networks are large enough to gain from them
        return score_gradient(prior, drawn, sample, o.score.sds, progress, generator)


SCORE = Term(
    "score",
    lambda o: o.losses.distillation,
    _due,
    _value,
    label="score",
    title="Score of the prior",
    note="half the mean square of its gradient",
)
