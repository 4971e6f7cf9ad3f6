"""Which rows of a file of Gaussians can be splats.

The others are left out, and counted in one sentence.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from .errors import UserError
from .gaussians import Gaussians
from .geometry import QUAT_MIN
from .io.foreign import warn

LOG_SCALE_MIN = -30.0  # what is thinner is drawn as thin
LOGIT_MAX = 20.0
LOGIT_ABSURD = (
    1e4  # finite logits beyond it come from no opacity; infinite ones are those of 0 and 1
)
SH_ABSURD = 1e6
FARTHEST = 1e15  # file units
FAR = 1e6  # of the median distance from the middle
HUGE = 1e3  # standard deviation, of the median distance from the middle
HUGE_LOG = 40.0  # of one that stands alone


def drawable(path: Path, g: Gaussians, kept: list[Tensor] | None = None) -> Gaussians:
    """The rows that can be splats; infinite opacities and scales of zero are made finite.

    Args:
        path: names the file in sentences.
        g: one set.
        kept: takes the mask of the rows that are kept.

    Raises:
        UserError: none can.
    """
    g = g.replace(log_scales=torch.where(g.log_scales < LOG_SCALE_MIN, LOG_SCALE_MIN, g.log_scales))
    reasons = _reasons(g)
    bad = torch.stack(list(reasons.values())).any(0)
    g = g.replace(logit_opacities=g.logit_opacities.clamp(-LOGIT_MAX, LOGIT_MAX))
    if kept is not None:
        kept.append(~bad)
    if bad.all():
        why = max(reasons, key=lambda name: int(reasons[name].sum()))
        raise UserError(
            f"{path} holds no Gaussian that can be drawn (all {len(bad)} have {why}); export it "
            "again"
        )
    if not bad.any():
        return g
    counts = ", ".join(
        f"{int(rows.sum())} with {why}" for why, rows in reasons.items() if rows.any()
    )
    warn(
        f"{path}: {int(bad.sum())} of {len(bad)} Gaussians can be no splats and are left out "
        f"({counts})"
    )
    return g.select(~bad)


def _reasons(g: Gaussians) -> dict[str, Bool[Tensor, " n"]]:
    """Rows to leave out, by what is wrong with them; the first reason of each."""
    opacity = g.logit_opacities
    finite = [
        t.reshape(g.count, -1).isfinite().all(1)
        for name, t in g.items()
        if name != "logit_opacities"
    ]
    whole = torch.stack([*finite, ~opacity.isnan()]).all(0)
    near = (g.means.abs() < FARTHEST).all(1)
    sound = whole & near
    far, huge = torch.zeros_like(whole), g.log_scales.amax(1) > HUGE_LOG
    if sound.any():
        means = g.means[sound].double()
        distance = (g.means.double() - means.median(0).values).abs().amax(1)
        typical = float(distance[sound].median())
        if typical > 0:
            far = distance > FAR * typical
            huge |= (
                g.log_scales.amax(1).double()
                > torch.tensor(HUGE * typical, dtype=torch.float64).log()
            )
    round_ = g.log_scales.amax(1) - g.log_scales.amin(1) < 1e-3  # looks the same from everywhere
    faults = {
        "numbers that are not finite": ~whole,
        "positions beyond any scene": far | ~near,
        "no rotation": (g.quats.abs().amax(1) <= QUAT_MIN) & ~round_,
        "sizes beyond any scene": huge,
        "opacities that are none": opacity.isfinite() & (opacity.abs() > LOGIT_ABSURD),
        "colours that are none": g.sh.abs().flatten(1).amax(1) > SH_ABSURD,
    }
    seen = torch.zeros_like(whole)
    found = {}
    for why, rows in faults.items():
        found[why] = rows & ~seen
        seen = seen | rows
    return found
