"""How far renders are from what an interpolator makes of their neighbours."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ...clip import Clip
from ...consistency import (
    ConsistencyOptions,
    Moments,
    Triples,
    along_time,
    along_views,
    inconsistency,
)
from .term import Drawn, Step, Term

NOTE = "mean square difference from what an interpolator expects"


def _term(
    name: str,
    label: str,
    title: str,
    triples_of: Callable[[Clip, ConsistencyOptions, torch.Generator], Triples | None],
) -> Term:
    """A term whose weight ``fit.losses`` has under its name."""

    def due(step: Step) -> bool:
        asked = step.interpolator is not None and step.number % step.options.consistency.every == 0
        return asked and step.stage != "static" and getattr(step.options.losses, name) > 0

    def value(step: Step, _: Drawn | None) -> Float[Tensor, ""] | None:
        def drawn(moments: Moments) -> Float[Tensor, "b h w 4"]:
            picture = step.draw(moments.times, moments.cameras)
            return torch.cat([picture.rgb, picture.alpha[..., None]], -1)

        triples = triples_of(step.clip, step.options.consistency, step.state.generator)
        if triples is None:
            return None
        assert step.interpolator is not None
        return inconsistency(step.interpolator, triples, drawn)

    # A step that has the term stands for those since the last one.
    return Term(
        name,
        lambda o: o.consistency.every * getattr(o.losses, name),
        due,
        value,
        label=label,
        title=title,
        note=NOTE,
    )


TIME_CONSISTENCY = _term("time_consistency", "time", "Inconsistency over time", along_time)
VIEW_CONSISTENCY = _term("view_consistency", "view", "Inconsistency over views", along_views)
