"""Which moments of an asset are written.

Its time is continuous, so any rate and number of frames will do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from ..asset import Asset
from ..gaussians import Gaussians
from ..motion import Motion
from .options import ExportOptions

CLOSED = (
    0.01  # of the object's size: a motion that ends this close to where it began is a loop already
)


def moments(asset: Asset, options: ExportOptions) -> list[float]:
    """Times in [0, 1] of the frames of a clip.

    Frame i of the input is time i / (frames - 1), so from first to last pass (frames - 1) /
    input_fps seconds, and at ``options.fps`` that takes round((frames - 1) fps / input_fps) + 1
    frames; ``options.frames`` asks for another number. With ``options.loop`` the way back is added,
    without its ends; a motion that ends where it began loses its last frame.
    """
    count = options.frames or round((asset.frames - 1) * options.fps / options.input_fps) + 1
    times = asset.times(count).tolist()
    if not options.loop or count < 2:
        return times
    return times[:-1] if is_closed(asset) else times + times[-2:0:-1]


def around(asset: Asset, options: ExportOptions) -> list[float]:
    """Times of the frames of one turntable, at the rate ``options.fps``."""
    count = options.frames or max(
        1, round(options.turntable_frames * options.fps / options.input_fps)
    )
    if options.freeze is not None:
        return [options.freeze] * count
    if not options.loop:
        return asset.times(count).tolist()
    phases = [i / count for i in range(count)]
    return phases if is_closed(asset) else [1 - abs(1 - 2 * phase) for phase in phases]


def is_closed(asset: Asset) -> bool:
    """Whether the motion ends where it began."""
    first, last = asset.at(0.0).means, asset.at(1.0).means
    if first.shape != last.shape:
        return False
    size = (first.amax(0) - first.amin(0)).norm()
    return bool(((last - first).norm(dim=1) <= CLOSED * size).all())


@dataclass(frozen=True)
class ThereAndBack:
    """Another motion forth and back again."""

    motion: Motion

    def at_times(self, gaussians: Gaussians, times: Float[Tensor, " b"]) -> Gaussians:
        """The ``Motion`` protocol."""
        return self.motion.at_times(gaussians, 1 - (1 - 2 * times).abs())


def whole(asset: Asset, options: ExportOptions) -> tuple[Asset, int]:
    """What formats of one file are made of, that hold a motion and not frames.

    The asset, and its frame count.

    With ``options.loop`` the asset goes there and back, so that its last frame is its first.
    """
    frames = len(moments(asset, replace(options, loop=False)))
    if not options.loop or frames < 2 or is_closed(asset):
        return asset, frames
    return replace(
        asset, motion=ThereAndBack(asset.motion), frames=2 * asset.frames - 1
    ), 2 * frames - 1
