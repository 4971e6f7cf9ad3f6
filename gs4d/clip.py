"""The third noun: what cameras saw.

A clip is a few cameras ("tracks") that each saw every frame of one object.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from .camera import DEFAULT_FOVY_DEG, DEFAULT_RADIUS, Camera, orbit_cameras

COVERED = 25  # alpha, 8 bit, above which a pixel shows the object


@dataclass(frozen=True)
class Orbit:
    """One camera of a rig, looking at the origin.

    Degrees, and a radius in world units (object inside 0.6).
    """

    azimuth: float = 0.0
    elevation: float = 0.0
    radius: float = DEFAULT_RADIUS
    fov: float = DEFAULT_FOVY_DEG  # vertical
    aspect: float = 1.0  # width over height of its pictures


def cameras_of(orbits: Sequence[Orbit], *, width: int, height: int) -> Camera:
    """The cameras of some orbits, as one batch."""
    return orbit_cameras(
        [o.azimuth for o in orbits],
        [o.elevation for o in orbits],
        radius=[o.radius for o in orbits],
        fovy_deg=[o.fov for o in orbits],
        width=width,
        height=height,
    )


def orbits_of(cameras: Camera) -> list[Orbit]:
    """Where cameras stand that look at the origin: what :func:`cameras_of` was given."""
    places, right = cameras.centers.double(), cameras.T_camera_world[:, 0, :3].double()
    radius = places.norm(dim=1)
    azimuth = torch.atan2(
        -right[:, 2], right[:, 0]
    ).rad2deg()  # of the camera's right: defined straight above and below, too
    elevation = (places[:, 1] / radius).clamp(-1, 1).asin().rad2deg()
    fov = 2 * torch.atan(cameras.height / 2 / cameras.K[:, 1, 1].double()).rad2deg()
    rows = torch.stack([azimuth, elevation, radius, fov], 1).tolist()
    return [Orbit(*row, aspect=cameras.width / cameras.height) for row in rows]


def syncdreamer_rig() -> list[Orbit]:
    """SyncDreamer's 16 side views: elevation 30, azimuth 22.5 k."""
    return [Orbit(azimuth=22.5 * k, elevation=30.0) for k in range(16)]


def orbit_along(orbits: Sequence[Orbit], t: float) -> Orbit:
    """The orbit at time ``t`` in [0, 1] of a camera with one orbit, or with one per frame.

    Between two frames their orbits are blended.
    """
    if len(orbits) == 1:
        return orbits[0]
    place = min(max(t, 0.0), 1.0) * (len(orbits) - 1)
    first = min(int(place), max(len(orbits) - 2, 0))
    a, b, share = orbits[first], orbits[min(first + 1, len(orbits) - 1)], place - first
    return Orbit(*(x + share * (y - x) for x, y in zip(astuple(a), astuple(b), strict=True)))


class Pictures(ABC):
    """The frames of a view where they need not all be in memory.

    Indexed by frame, each decoded when it is asked for.
    """

    shape: tuple[int, int, int, int]  # (frames, height, width, 4)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[UInt8[Tensor, "h w 4"]]:
        return (self[frame] for frame in range(len(self)))

    @abstractmethod
    def __getitem__(self, frame: int) -> UInt8[Tensor, "h w 4"]:
        """RGBA with straight alpha; not to be written to.

        Raises:
            UserError: its file was damaged or taken away since the clip was read.
        """

    @abstractmethod
    def expect(self, frame: int) -> None:
        """Says that ``frame`` will be asked for soon."""

    @abstractmethod
    def digest(self, start: int) -> int:
        """CRC-32 of what the pictures are made from, continued from ``start``."""


@dataclass(frozen=True)
class Track:
    """One camera over time.

    Attributes:
        name: what to call it in tables ("input", "sync_3", "eval_0").
        orbits: where it stands: one for a camera that stays, or one per frame.
        images: RGBA with straight alpha, 8 bit.
        confidence: in its pictures, from 0 to 1: one number, or one per frame.
        confidence_map: small maps of the confidence in parts of a picture beside its others; None:
            all alike.
    """

    name: str
    orbits: tuple[Orbit, ...]
    images: UInt8[Tensor, "t h w 4"] | Pictures
    confidence: tuple[float, ...] = (1.0,)
    confidence_map: UInt8[Tensor, "t s s"] | None = None

    def __post_init__(self) -> None:
        if len(self.orbits) not in (1, len(self.images)):
            raise ValueError(
                f"track '{self.name}' has {len(self.orbits)} cameras for {len(self.images)} frames"
            )
        if len(self.confidence) not in (1, len(self.images)):
            raise ValueError(
                f"track '{self.name}' has {len(self.confidence)} weights for {len(self.images)} "
                "frames"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def orbit(self) -> Orbit:
        """Where the camera stands, or begins."""
        return self.orbits[0]

    def orbit_at(self, frame: int) -> Orbit:
        """Where the camera stands at ``frame``."""
        return self.orbits[min(frame, len(self.orbits) - 1)]

    def confidence_at(self, frame: int) -> float:
        """Returns the confidence in the picture of ``frame``, in [0, 1]."""
        return self.confidence[min(frame, len(self.confidence) - 1)]

    def confidence_map_at(self, frame: int) -> Float[Tensor, "h w"]:
        """Returns the confidence in each pixel of ``frame``.

        Its mean is at most ``confidence_at``.
        """
        if self.confidence_map is None:
            return torch.full(self.size, self.confidence_at(frame))
        confidence = self.confidence_map[frame].float()[None, None]
        grown = F.interpolate(confidence, self.size, mode="bilinear", align_corners=False)[0, 0]
        return grown * (self.confidence_at(frame) / grown.mean().clamp_min(1.0))

    def camera(self, frame: int | None = None) -> Camera:
        """The camera at ``frame``, as a batch of one.

        Of a camera that stays, no frame need be named.
        """
        if frame is None and len(self.orbits) > 1:
            raise ValueError(f"the camera of track '{self.name}' moves; say at which frame")
        return cameras_of(
            [self.orbit if frame is None else self.orbit_at(frame)],
            width=self.size[1],
            height=self.size[0],
        )

    def premultiplied(self, frame: int) -> Float[Tensor, "h w 4"]:
        """Colour times alpha, and alpha, in [0, 1].

        Over a background c it shows rgb + (1 - a) c.
        """
        return premultiply(self.images[frame])


def premultiply(images: UInt8[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """8-bit straight-alpha RGBA as float with colours times alpha, in [0, 1]."""
    values = images.float() / 255
    return torch.cat([values[..., :3] * values[..., 3:], values[..., 3:]], -1)


def straighten(images: Float[Tensor, "*b 4"]) -> UInt8[Tensor, "*b 4"]:
    """Premultiplied RGBA as 8-bit with straight alpha, clamped: what ``premultiply`` takes."""
    alpha = images[..., 3:].clamp(0, 1)
    colors = images[..., :3] / alpha.clamp_min(0.5 / 255)  # less alpha is none in 8 bits
    return (torch.cat([colors, alpha], -1).clamp(0, 1) * 255).round().to(torch.uint8)


def over_white(
    images: UInt8[Tensor, "*b 4"],
) -> tuple[Float[Tensor, "*b 3"], Float[Tensor, "*b 1"]]:
    """8-bit straight-alpha RGBA as it looks on white, and its alpha, as float in [0, 1]."""
    values = images.float().div_(255)
    color, alpha = values[..., :3], values[..., 3:]
    return torch.lerp(torch.ones_like(color), color, alpha), alpha


@dataclass(frozen=True)
class Clip:
    """What a fit sees: the input video first, then side views if there are any.

    Every track has the same frames.

    Attributes:
        name: the name its folders carry.
        tracks: ``tracks[0]`` is the input view.
        truth: views to score on and never to train on; may be empty.
    """

    name: str
    tracks: tuple[Track, ...]
    truth: tuple[Track, ...] = ()

    def __post_init__(self) -> None:
        counts = {track.name: len(track.images) for track in (*self.tracks, *self.truth)}
        if len(set(counts.values())) != 1:
            raise ValueError(
                f"the tracks of clip '{self.name}' have different numbers of frames: {counts}"
            )

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.tracks[0].images)

    @cached_property
    def areas(self) -> list[int]:
        """Pixels of the input view that the object covers, per frame."""
        return [int((picture[..., 3] > COVERED).sum()) for picture in self.tracks[0].images]

    @cached_property
    def hidden(self) -> tuple[bool, ...]:
        """Per frame, whether no view shows anything: the object appears later or is gone."""
        others = self.tracks[1:]
        return tuple(
            not area and not any((track.images[frame][..., 3] > COVERED).any() for track in others)
            for frame, area in enumerate(self.areas)
        )

    def times(self) -> Float[Tensor, "t"]:
        """Time of every frame: 0 for the first, 1 for the last (0 alone for a single frame)."""
        return torch.arange(self.frames) / max(self.frames - 1, 1)
