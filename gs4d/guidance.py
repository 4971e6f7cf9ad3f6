"""Score distillation during a fit: which views and times are scored, by which pictures.

``sample_views`` draws the cameras, the fit renders them, ``score_gradient`` scores the renders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from .camera import Camera
from .clip import Clip, Orbit, Track, cameras_of
from .errors import UserError
from .prior import ScoreBatch, ScorePrior, open_prior
from .prior.networks import Place
from .prior.pictures import square_fov, squared
from .prior.sds import SdsOptions
from .ranges import Options, Range
from .render import Render


@dataclass(frozen=True)
class GuidanceOptions(Options):
    """How the prior's score is taken in the fine stage."""

    views: Annotated[int, Range(1, 1024)] = 4
    """Random cameras per step; priors that judge rings of views together (MVDream, ImageDream: 4)
    get whole rings."""
    frames: Annotated[int, Range(1, 1024)] = 1
    """Frames that each of them shows; at random, but for priors that judge all views and frames
    together."""
    azimuth: Annotated[tuple[float, float], Range(-360, 360)] = (-180.0, 180.0)
    """Where the cameras stand, degrees from the input camera."""
    elevation: Annotated[tuple[float, float], Range(-90, 90)] = (-30.0, 30.0)
    """Degrees above the horizon."""
    radius: Annotated[tuple[float, float], Range(0.1, 10)] = (1.0, 1.0)
    """Their distance, in times the input camera's."""
    fov: Annotated[tuple[float, float], Range(0.1, 10)] = (1.0, 1.0)
    """Their field of view, in times the input camera's."""
    resolution: Annotated[tuple[int, int, int], Range(8, 4096)] = (128, 256, 512)
    """Side of the pictures that are judged, in pixels: at first, then, and at last."""
    resolution_at: Annotated[tuple[float, float], Range(0, 1)] = (0.3, 0.6)
    """Shares of the stage after which the resolution changes."""
    anchors: Annotated[float, Range(0, 1)] = 0.0
    """Share of the views that are judged by the nearest side view of the clip instead of the input
    view (STAG4D: 0.4)."""
    sds: SdsOptions = field(default_factory=SdsOptions)
    place: Place = field(default_factory=Place)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_ascending("azimuth", "elevation", "radius", "fov")

    def side(self, progress: float) -> int:
        """Pixels of the pictures at ``progress`` of the stage."""
        return self.resolution[sum(progress >= at for at in self.resolution_at)]


@dataclass(frozen=True)
class ViewSample:
    """A :class:`~gs4d.prior.ScoreBatch` before it is rendered, and the frame of each picture."""

    frames: list[int]
    cameras: Camera
    condition: Float[Tensor, "b s s 4"]
    sources: Camera
    views: int


def open_score_prior(name: str, options: GuidanceOptions) -> ScorePrior:
    """Opens the prior of a name.

    Raises:
        UserError: it is not there, damaged, scores nothing, or needs a prompt that is missing.
    """
    prior = open_prior(name, "score", options.place)
    if prior.needs_prompt and not options.sds.prompt:
        raise UserError(
            f"{name} judges by a sentence: say what the clip shows, as in "
            '--fit.score.sds.prompt "a rose in a pot"'
        )
    return prior


def sample_views(
    clip: Clip,
    options: GuidanceOptions,
    progress: float,
    joint: bool,
    generator: torch.Generator,
    *,
    views_per_ring: int = 0,
) -> ViewSample:
    """Draws one step's cameras and frames; ``joint`` and ``views_per_ring`` are the prior's."""
    o, source = options, clip.tracks[0]
    views = math.ceil(o.views / views_per_ring) * views_per_ring if views_per_ring else o.views
    draws = torch.rand(views // (views_per_ring or 1), 5, generator=generator).repeat_interleave(
        views_per_ring or 1, 0
    )
    count = min(o.frames, clip.frames)
    if joint:
        first = int(torch.randint(clip.frames - count + 1, (1,), generator=generator))
        frames = [list(range(first, first + count))] * views
    else:
        frames = [
            torch.randperm(clip.frames, generator=generator)[:count].tolist() for _ in range(views)
        ]

    orbits, judges = [], []
    for view, draw in enumerate(draws.tolist()):
        azimuth, elevation, radius, fov = (
            low + u * (high - low)
            for u, (low, high) in zip(draw, (o.azimuth, o.elevation, o.radius, o.fov), strict=False)
        )
        base = source.orbit
        azimuth += 360 * (view % views_per_ring) / views_per_ring if views_per_ring else 0
        wide = min(fov * _square_fov(source), 175.0)
        orbits += [Orbit(base.azimuth + azimuth, elevation, base.radius * radius, wide)] * count
        judges += [nearest_track(clip, orbits[-1]) if draw[4] < o.anchors else source] * count
    shown = [t for some in frames for t in some]
    side = max(max(track.size) for track in clip.tracks)
    condition = torch.stack(
        [squared(track.premultiplied(t), side) for track, t in zip(judges, shown, strict=True)]
    )
    sources = [
        replace(track.orbit_at(t), fov=_square_fov(track), aspect=1.0)
        for track, t in zip(judges, shown, strict=True)
    ]
    pixels = o.side(progress)
    return ViewSample(
        shown,
        cameras_of(orbits, width=pixels, height=pixels),
        condition,
        cameras_of(sources, width=side, height=side),
        views,
    )


def nearest_track(clip: Clip, orbit: Orbit) -> Track:
    """The side view whose camera looks from the direction closest to that of ``orbit``.

    The input view when there is none.
    """
    tracks = clip.tracks[1:] or clip.tracks
    places = cameras_of([orbit, *(track.orbit for track in tracks)], width=1, height=1).centers
    directions = torch.nn.functional.normalize(places, dim=1)
    return tracks[int((directions[1:] @ directions[0]).argmax())]


def _square_fov(track: Track) -> float:
    """Vertical field of view, degrees, of a track's picture in its square."""
    return square_fov(track.orbit.fov, *track.size)


def score_gradient(
    prior: ScorePrior,
    drawn: Render,
    sample: ViewSample,
    options: SdsOptions,
    progress: float,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Returns the score of renders, whose gradient is already found.

    The prior's graph and its memory are freed.

    Args:
        prior: scores.
        drawn: what the sample asks for, over white, with gradient.
        sample: the rest of the batch.
        options: how the score becomes a gradient.
        progress: of the stage.
        generator: of all randomness.
    """
    rgb, alpha = (values.detach().requires_grad_() for values in (drawn.rgb, drawn.alpha))
    batch = ScoreBatch(rgb, alpha, sample.cameras, sample.condition, sample.sources, sample.views)
    score = prior.score(batch, options, progress, generator)
    if not score.isfinite():  # the fit says so
        return score.detach()
    # of alpha: 0 where a prior scores colours alone
    gradients = torch.autograd.grad(score, (rgb, alpha), materialize_grads=True)
    carrier = (drawn.rgb * gradients[0]).sum() + (drawn.alpha * gradients[1]).sum()
    return carrier + (score - carrier).detach()
