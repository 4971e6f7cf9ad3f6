"""How smooth the field is over space and over time (K-Planes, section 4.2)."""

from __future__ import annotations

from .term import Term, moving

PLANE_SMOOTHNESS = Term(
    "plane_smoothness",
    lambda o: o.losses.plane_smoothness,
    moving,
    lambda step, _: step.state.field.plane_smoothness(),
)
TIME_SMOOTHNESS = Term(
    "time_smoothness",
    lambda o: o.losses.time_smoothness,
    moving,
    lambda step, _: step.state.field.time_smoothness(),
)
