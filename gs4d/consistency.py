"""What lies between two pictures of an asset is what an interpolator finds there.

Along time, and along the circle of views.

Interpolation-driven consistency (Jiang et al. 2024, "Consistent4D", section 3.3): of three
pictures, evenly spaced in time or in azimuth, the middle one should be what a network that
interpolates videos makes of the outer two. It is asked of places that no picture shows, and so
speaks where the clip does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from .camera import Camera
from .clip import Clip, cameras_of
from .prior import Interpolator
from .ranges import Options, Range


@dataclass(frozen=True)
class ConsistencyOptions(Options):
    """Which pictures are held to be consistent.

    ``fit.losses.time_consistency`` and ``view_consistency`` say how much.
    """

    interpolator: str = "flow"
    """What finds the middle: flow (needs no weights), or rife:WHERE with the folder or the file of
    a flownet.pkl, versions 4.2 to 4.26."""
    every: Annotated[int, Range(1, 10**6)] = 4
    """Steps from one time that it is asked to the next; it counts so many times more."""
    triples: Annotated[int, Range(1, 64)] = 2
    """Three pictures of each kind are drawn this many times."""
    frames: Annotated[float, Range(0.01, 1000)] = 1.0
    """From the middle one to the outer ones in time, in frames."""
    azimuth: Annotated[tuple[float, float], Range(0.1, 60)] = (5.0, 15.0)
    """From the middle one to the outer ones along the circle, at random in this range, degrees."""
    elevation: Annotated[tuple[float, float], Range(-90, 90)] = (-10.0, 40.0)
    """Of their cameras, degrees above the horizon; their azimuth is anywhere."""
    resolution: Annotated[int, Range(8, 2048)] = 64
    """Side of the pictures, in pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_ascending("azimuth", "elevation")


@dataclass(frozen=True)
class Moments:
    """Pictures to be drawn: when, and from where."""

    times: Float[Tensor, "b"]
    cameras: Camera


@dataclass(frozen=True)
class Triples:
    """The middle and the outer pictures of evenly spaced triples.

    Of the outer ones, all firsts stand before all lasts.
    """

    middle: Moments
    outer: Moments


def along_time(
    clip: Clip, options: ConsistencyOptions, generator: torch.Generator
) -> Triples | None:
    """Triples of one camera each, at three times.

    None for a clip of a single frame, whose time stands still.
    """
    if clip.frames < 2:
        return None
    gap = min(options.frames / (clip.frames - 1), 0.5)
    draws = torch.rand(options.triples, 4, generator=generator)
    return _triples(
        clip, options, draws, gap + draws[:, 2] * (1 - 2 * gap), gap, torch.zeros(options.triples)
    )


def along_views(clip: Clip, options: ConsistencyOptions, generator: torch.Generator) -> Triples:
    """Triples of three cameras each, at one time."""
    draws = torch.rand(options.triples, 4, generator=generator)
    low, high = options.azimuth
    return _triples(clip, options, draws, draws[:, 2], 0.0, low + draws[:, 3] * (high - low))


def _triples(
    clip: Clip,
    options: ConsistencyOptions,
    draws: Float[Tensor, "n 4"],
    times: Float[Tensor, "n"],
    gap: float,
    turns: Float[Tensor, "n"],
) -> Triples:
    base, (low, high) = clip.tracks[0].orbit, options.elevation
    azimuths, elevations = 360 * draws[:, 0], low + draws[:, 1] * (high - low)

    def moments(*ways: int) -> Moments:
        """The pictures so many gaps and turns from the middle."""
        orbits = [
            replace(base, azimuth=azimuth, elevation=elevation, aspect=1.0)
            for way in ways
            for azimuth, elevation in zip(
                (azimuths + way * turns).tolist(), elevations.tolist(), strict=True
            )
        ]
        cameras = cameras_of(orbits, width=options.resolution, height=options.resolution)
        return Moments(torch.cat([times + way * gap for way in ways]).clamp(0, 1), cameras)

    return Triples(moments(0), moments(-1, 1))


def inconsistency(
    interpolator: Interpolator,
    triples: Triples,
    draw: Callable[[Moments], Float[Tensor, "b h w c"]],
) -> Float[Tensor, ""]:
    """Mean square difference between the middles and what the interpolator makes of the outer
    pictures, which stay as they are.

    Args:
        interpolator: who finds the middle.
        triples: what is compared.
        draw: makes the pictures, in [0, 1], with gradient.
    """
    with torch.no_grad():
        expected = interpolator.middle(*draw(triples.outer).chunk(2))
    return mse_loss(draw(triples.middle), expected)
