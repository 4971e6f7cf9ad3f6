"""Which pictures of the clip a step is fitted to, and what it needs of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..camera import Camera
from ..clip import Clip, Pictures, cameras_of
from .options import FitOptions

DECODE_AHEAD = 4  # steps


class Batch(NamedTuple):
    """Pictures of one size: picture i is frame ``frames[i]`` of track ``tracks[i]``."""

    frames: list[int]
    tracks: list[int]


class Batches:
    """The pictures of every step.

    Attributes:
        static_frame: the frame of the static stage.
        shown: the frames in which anything is seen; the others are fitted to nothing.
        times: of the clip's frames, in [0, 1].
    """

    def __init__(self, clip: Clip, options: FitOptions) -> None:
        """Batches of ``clip`` as ``options`` ask for them.

        Raises:
            UserError: the static frame does not exist, or shows nothing.
        """
        options.check(clip)
        self.clip, self.options = clip, options
        most = clip.areas.index(max(clip.areas))
        self.static_frame = most if options.static_frame is None else options.static_frame
        self.shown = [frame for frame, hidden in enumerate(clip.hidden) if not hidden]
        self.times = clip.times()
        self._cameras = [
            cameras_of(t.orbits, width=t.size[1], height=t.size[0]) for t in clip.tracks
        ]

    def of_step(self, step: int) -> list[Batch]:
        """The pictures of a step, in groups of one size.

        They depend on nothing but the seed and the step, so that the pictures of later steps can be
        decoded ahead.
        """
        o, tracks = self.options, self.clip.tracks
        draw = torch.Generator().manual_seed((o.seed * 1_000_003 + step) % 2**63)
        order = torch.randperm(len(self.shown), generator=draw)[: o.times_per_step]
        some = [self.shown[i] for i in order.tolist()]
        views = torch.randperm(len(tracks), generator=draw).tolist()
        # What a prior made up must not outvote what was seen.
        if any(track.confidence_map is not None for track in tracks):
            views = [0, *(view for view in views if view)]
        static = o.stage(step) == "static"
        groups: dict[tuple[int, int], Batch] = {}
        for i in range(o.views_per_step):
            track = views[i % len(views)]
            group = groups.setdefault(tracks[track].size, Batch([], []))
            group.frames.append(self.static_frame if static else some[i % len(some)])
            group.tracks.append(track)
        return list(groups.values())

    def expect(self, step: int) -> None:
        """Has the pictures of a later step decoded while this one is computed."""
        later = step + DECODE_AHEAD
        for frames, tracks in self.of_step(later) if later < self.options.steps else ():
            for frame, track in zip(frames, tracks, strict=True):
                if isinstance(images := self.clip.tracks[track].images, Pictures):
                    images.expect(frame)

    def pictures_of(self, batch: Batch) -> UInt8[Tensor, "b h w 4"]:
        """The clip's pictures, RGBA with straight alpha."""
        pairs = zip(*batch, strict=True)
        return torch.stack([self.clip.tracks[k].images[t] for t, k in pairs])

    def cameras_of(self, batch: Batch) -> Camera:
        """The cameras that took them."""
        cameras = [
            self._cameras[k].select([min(t, len(self._cameras[k]) - 1)])
            for t, k in zip(*batch, strict=True)
        ]
        T, K = torch.cat([c.T_camera_world for c in cameras]), torch.cat([c.K for c in cameras])
        return Camera(T, K, cameras[0].width, cameras[0].height)

    def weights_of(self, batch: Batch) -> Float[Tensor, ...]:
        """Factors of the loss: per picture or, where any has a map of confidence, per pixel."""
        anchor = self.options.losses.anchor
        factors = torch.tensor([anchor if k == 0 else 1.0 for k in batch.tracks])
        shown = [(t, self.clip.tracks[k]) for t, k in zip(*batch, strict=True)]
        if any(track.confidence_map is not None for _, track in shown):
            maps = torch.stack([track.confidence_map_at(t) for t, track in shown])
            return factors[:, None, None] * maps
        return factors * torch.tensor([track.confidence_at(t) for t, track in shown])
