"""The third noun: what cameras saw. A clip is a few still cameras ("tracks") that each saw every frame of one object."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from .camera import DEFAULT_FOVY_DEG, DEFAULT_RADIUS, Camera, orbit_cameras


@dataclass(frozen=True)
class Orbit:
    """One camera of a rig, looking at the origin: degrees, and a radius in world units (object inside 0.6)."""

    azimuth: float = 0.0
    elevation: float = 0.0
    radius: float = DEFAULT_RADIUS
    fov: float = DEFAULT_FOVY_DEG  # vertical
    aspect: float = 1.0  # width over height of its pictures


def cameras_of(orbits: list[Orbit], *, width: int, height: int) -> Camera:
    """The cameras of some orbits, as one batch."""
    return orbit_cameras(
        [o.azimuth for o in orbits],
        [o.elevation for o in orbits],
        radius=[o.radius for o in orbits],
        fovy_deg=[o.fov for o in orbits],
        width=width,
        height=height,
    )


def syncdreamer_rig() -> list[Orbit]:
    """SyncDreamer's 16 side views: elevation 30, azimuth 22.5 k."""
    return [Orbit(azimuth=22.5 * k, elevation=30.0) for k in range(16)]


@dataclass(frozen=True)
class Track:
    """One camera over time.

    Attributes:
        name: what to call it in tables ("input", "sync_3", "eval_0").
        orbit: where it stands.
        images: RGBA with straight alpha, 8 bit.
        weight: how far its pictures are believed, 1 = fully.
    """

    name: str
    orbit: Orbit
    images: UInt8[Tensor, "t h w 4"]
    weight: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def camera(self) -> Camera:
        """A batch of this one camera."""
        return cameras_of([self.orbit], width=self.size[1], height=self.size[0])

    def premultiplied(self, frame: int) -> Float[Tensor, "h w 4"]:
        """Colour times alpha, and alpha, in [0, 1]: over a background c it shows rgb + (1 - a) c."""
        return premultiply(self.images[frame])


def premultiply(images: UInt8[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """8-bit straight-alpha RGBA as float with colours times alpha, in [0, 1]."""
    values = images.float() / 255
    return torch.cat([values[..., :3] * values[..., 3:], values[..., 3:]], -1)


def over_white(images: UInt8[Tensor, "*b 4"]) -> tuple[Float[Tensor, "*b 3"], Float[Tensor, "*b 1"]]:
    """8-bit straight-alpha RGBA as it looks on white, and its alpha, as float in [0, 1]."""
    values = images.float().div_(255)
    color, alpha = values[..., :3], values[..., 3:]
    return torch.lerp(torch.ones_like(color), color, alpha), alpha


@dataclass(frozen=True)
class Clip:
    """What a fit sees: the input video first, then side views if there are any; every track has the same frames.

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
            raise ValueError(f"the tracks of clip '{self.name}' have different numbers of frames: {counts}")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.tracks[0].images)

    def times(self) -> Float[Tensor, "t"]:
        """Time of every frame: 0 for the first, 1 for the last (0 alone for a single frame)."""
        return torch.arange(self.frames) / max(self.frames - 1, 1)
