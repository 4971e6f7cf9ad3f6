"""A motion that was never one: a sequence of frames from files, each with Gaussians of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import Gaussians

CACHED_FRAMES = 4
INVISIBLE = -30.0  # logit of the opacity of what fills a frame up to the count of another


class FrameSequence:
    """Shows the frame nearest to each time.

    Frames are loaded when they are asked for, and a few are kept.

    Nothing is interpolated: files do not say which Gaussian of one frame is which of the next, and
    some writers sort them.
    """

    def __init__(self, load: Callable[[int], Gaussians], frames: int) -> None:
        """``load(i)`` gives frame i of ``frames``: first at time 0, last at time 1."""
        self.load, self.frames = load, frames
        self._kept: OrderedDict[int, Gaussians] = OrderedDict()

    def frame(self, index: int) -> Gaussians:
        """One frame, as it was loaded."""
        if index not in self._kept:
            while len(self._kept) >= CACHED_FRAMES:
                self._kept.popitem(last=False)
            self._kept[index] = self.load(index)
        self._kept.move_to_end(index)
        return self._kept[index]

    def at_times(self, gaussians: Gaussians, times: Float[Tensor, " b"]) -> Gaussians:
        """The frames nearest to ``b`` times in [0, 1], whatever ``gaussians`` are.

        The ``Motion`` protocol.

        Returns:
            A set with a leading view axis on every field. Frames of fewer Gaussians are filled up
            with invisible ones, and
            missing spherical-harmonic coefficients with zeros: one time alone needs neither.
        """
        indices = (times.clamp(0, 1) * (self.frames - 1)).round().long().tolist()
        shown = {index: self.frame(index) for index in indices}
        count = max(g.count for g in shown.values())
        coefficients = max(g.sh.shape[-2] for g in shown.values())
        filled = {index: _filled(g, count, coefficients) for index, g in shown.items()}
        names = [name for name, _ in gaussians.items()]
        return Gaussians(
            **{
                name: torch.stack([getattr(filled[index], name) for index in indices])
                for name in names
            }
        )

    def __call__(self, gaussians: Gaussians, t: float) -> Gaussians:
        """The frame nearest to one time in [0, 1]: the ``Motion`` protocol."""
        return self.at_times(gaussians, torch.tensor([t])).at_view(0)


def _filled(g: Gaussians, count: int, coefficients: int) -> Gaussians:
    pad = torch.nn.functional.pad
    more = count - g.count
    return Gaussians(
        means=pad(g.means, (0, 0, 0, more)),
        quats=pad(g.quats, (0, 0, 0, more)),
        log_scales=pad(g.log_scales, (0, 0, 0, more), value=INVISIBLE),
        logit_opacities=pad(g.logit_opacities, (0, more), value=INVISIBLE),
        sh=pad(g.sh, (0, 0, 0, coefficients - g.sh.shape[-2], 0, more)),
    )
