"""How far renders are from the clip's pictures, in colour and in coverage."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ...losses import l1, photometric
from .term import Drawn, Step, Term, always


def _color(step: Step, drawn: Drawn | None) -> Float[Tensor, ""]:
    assert drawn is not None
    share = step.options.losses.ssim
    return photometric(drawn.rgb, drawn.picture, ssim_weight=share, weights=drawn.weights)


def _coverage(step: Step, drawn: Drawn | None) -> Float[Tensor, ""]:
    assert drawn is not None
    return l1(drawn.alpha[..., None], drawn.coverage, drawn.weights)


COLOR = Term("color", lambda o: 1.0, always, _color, of_pictures=True)
COVERAGE = Term("coverage", lambda o: o.losses.alpha, always, _coverage, of_pictures=True)
