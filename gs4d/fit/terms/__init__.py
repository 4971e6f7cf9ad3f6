"""The terms of the loss: one file and one line each."""

from __future__ import annotations

from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from .consistency import TIME_CONSISTENCY, VIEW_CONSISTENCY
from .pictures import COLOR, COVERAGE
from .score import SCORE
from .smoothness import PLANE_SMOOTHNESS, TIME_SMOOTHNESS
from .term import Drawn, Step, Term, always, moving

__all__ = ["TERMS", "Drawn", "Step", "Term", "always", "labelled", "moving", "total"]

# In the order in which they are computed: random numbers and rounding depend on it.
TERMS: list[Term] = [
    PLANE_SMOOTHNESS,
    TIME_SMOOTHNESS,
    COLOR,
    COVERAGE,
    SCORE,
    TIME_CONSISTENCY,
    VIEW_CONSISTENCY,
]


def labelled() -> list[Term]:
    """The terms that the progress line, the history and the report show."""
    return [term for term in TERMS if term.label]


def total(step: Step) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """The loss of a step, and the values of its labelled terms without their weights."""
    loss, values = torch.zeros((), device=step.state.device), {}
    for of_pictures, terms in groupby(TERMS, key=lambda term: term.of_pictures):
        due = [term for term in terms if term.when(step)]
        groups: list[Drawn] | list[None] = step.drawn if of_pictures else [None]
        for group in groups:
            share = 1.0 if group is None else group.share
            for term in due:
                if (value := term.value(step, group)) is None:
                    continue
                loss = loss + share * term.weight(step.options) * value
                if term.label:
                    values[term.name] = values.get(term.name, 0.0) + share * value.item()
    return loss, values
