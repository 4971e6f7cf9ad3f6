"""The score of a prior for random views at random times (score distillation)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ...guidance import ask, judge
from ...native import torch_threads
from .term import Drawn, Step, Term


def _due(step: Step) -> bool:
    return step.stage == "fine" and step.prior is not None


def _value(step: Step, _: Drawn | None) -> Float[Tensor, ""]:
    o, prior, generator = step.options, step.prior, step.state.generator
    assert prior is not None
    progress = 1 - (1 - step.number / o.steps) / o.fine
    question = ask(step.clip, o.score, progress, prior.joint, generator, ring=prior.ring)
    drawn = step.draw(step.batches.times[question.frames], question.cameras)
    with torch_threads(o.threads):  # a prior's networks are large enough to gain from them
        return judge(prior, drawn, question, o.score.sds, progress, generator)


SCORE = Term(
    "score",
    lambda o: o.losses.distillation,
    _due,
    _value,
    label="score",
    title="Score of the prior",
    note="half the mean square of its gradient",
)
