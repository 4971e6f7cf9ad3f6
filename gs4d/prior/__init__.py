"""Priors: what knows how an object looks from where no camera was.

Small Protocols stand between the recipe and the families of models. Each family has one file beside
this one and one row in ``catalogue.py``; it is imported when one of its priors is opened. A prior
is named by a short text: ``inflate``, or ``family:where`` with a folder, a file or a hub id after
the colon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol, overload, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..camera import Camera
from ..clip import Orbit
from ..errors import UserError
from .catalogue import LIFT_WEIGHTS, TASKS, Family, Task, able, family_of
from .networks import Place
from .pictures import square_views
from .pipelines import Drawing
from .rigs import Rig
from .sampling import Context, Sampling
from .sds import SdsOptions

__all__ = [
    "IMAGE_PRIORS",
    "SCORE_PRIORS",
    "VIDEO_PRIORS",
    "VIEW_PRIORS",
    "ImagePrior",
    "Interpolator",
    "ScoreBatch",
    "ScorePrior",
    "VideoPrior",
    "ViewPrior",
    "Views",
    "check_prior",
    "default_view_prior",
    "draw_clip",
    "open_prior",
    "sampled_views",
]

SAMPLED_CONFIDENCE = 128  # in sampled views, of 255: plausible, not seen


@dataclass(frozen=True)
class Views:
    """Pseudo views: what a prior thinks that some cameras would have seen.

    Attributes:
        orbits: one camera per view, in the world of the input camera.
        images: RGBA with straight alpha.
        confidence: in each pixel, 255 = as in a photograph.
    """

    orbits: list[Orbit]
    images: UInt8[Tensor, "v t h w 4"]
    confidence: UInt8[Tensor, "v t h w"]


def sampled_views(orbits: list[Orbit], images: UInt8[Tensor, "v t h w 4"]) -> Views:
    """Returns views that a network sampled, in which confidence is alike everywhere."""
    confidence = torch.full(images.shape[:-1], SAMPLED_CONFIDENCE, dtype=torch.uint8)
    return Views(orbits, images, confidence)


@runtime_checkable
class Weighted(Protocol):
    """What says whose weights take part."""

    @property
    def weights(self) -> list[dict[str, str]]:
        """``name`` and ``licence`` of each network that takes part, for records and the report."""
        ...


@runtime_checkable
class ViewPrior(Weighted, Protocol):
    """Draws views of a clip; callers go through :func:`draw_clip`."""

    @property
    def context(self) -> Context:
        """Which other frames it looks at while it draws one."""
        ...

    @property
    def layout(self) -> str:
        """Name in ``gs4d.intake.layouts`` that says how its views are cut out and matched."""
        ...

    @property
    def rig(self) -> Rig:
        """The cameras that it draws where none are asked for."""
        ...

    def views(
        self,
        frames: UInt8[Tensor, "t s s 4"],
        source: Orbit,
        rig: list[Orbit],
        generator: torch.Generator,
    ) -> Views:
        """Draws the views of every frame.

        Args:
            frames: the input video, RGBA with straight alpha, square.
            source: its camera.
            rig: the wanted cameras; ``self.rig`` around ``source`` where that is not free.
            generator: source of all randomness.
        """
        ...


@dataclass(frozen=True)
class ScoreBatch:
    """Renders to be scored, and the picture of the clip that each is scored by.

    Attributes:
        images: renders over white, in [0, 1], square, with gradient. They are a grid of views times
            frames, one view after the other.
        alpha: their coverage, with gradient.
        cameras: where they were rendered from.
        condition: for each the picture of its own frame that the clip has, RGBA premultiplied, in
            [0, 1], square.
        sources: where those were taken from.
        views: number of views of the grid.
    """

    images: Float[Tensor, "b h w 3"]
    alpha: Float[Tensor, "b h w"]
    cameras: Camera
    condition: Float[Tensor, "b s s 4"]
    sources: Camera
    views: int


@runtime_checkable
class ScorePrior(Weighted, Protocol):
    """Scores renders: score distillation."""

    @property
    def joint(self) -> bool:
        """Whether it scores all views and frames of a batch together.

        Then every view shows the same, consecutive frames.
        """
        ...

    @property
    def views_per_ring(self) -> int:
        """Views of a batch, in a row, that stand evenly around the object at one height.

        0: each view stands anywhere.
        """
        ...

    @property
    def needs_prompt(self) -> bool:
        """Whether it needs a sentence (``SdsOptions.prompt``)."""
        ...

    def score(
        self, batch: ScoreBatch, options: SdsOptions, progress: float, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Returns a loss whose gradient is the score.

        Args:
            batch: what is scored.
            options: how the score becomes a gradient.
            progress: 0 at the start of the stage, 1 at its end, for annealing.
            generator: source of all randomness, on the CPU.
        """
        ...


@runtime_checkable
class VideoPrior(Weighted, Protocol):
    """Turns a picture into a video."""

    def frames(
        self, image: UInt8[Tensor, "h w 3"], prompt: str, count: int, generator: torch.Generator
    ) -> UInt8[Tensor, "t h w 3"]:
        """Returns ``count`` frames, the first close to ``image``."""
        ...


@runtime_checkable
class ImagePrior(Weighted, Protocol):
    """Turns a sentence into a picture."""

    def image(self, prompt: str, generator: torch.Generator) -> UInt8[Tensor, "h w 3"]:
        """Returns one picture."""
        ...


@runtime_checkable
class Interpolator(Weighted, Protocol):
    """Finds what lies between two frames."""

    def middle(
        self, a: Float[Tensor, "b h w c"], b: Float[Tensor, "b h w c"]
    ) -> Float[Tensor, "b h w c"]:
        """Returns the frames half way between ``a`` and ``b``, differentiable by their colours.

        Values in [0, 1], the first three channels colours. What moves where may be held constant.
        """
        ...


AnyPrior = ViewPrior | ScorePrior | VideoPrior | ImagePrior | Interpolator
PROTOCOLS: dict[Task, type] = {
    "views": ViewPrior,
    "score": ScorePrior,
    "video": VideoPrior,
    "image": ImagePrior,
    "middle": Interpolator,
}
VIEW_PRIORS, SCORE_PRIORS = able("views"), able("score")
VIDEO_PRIORS, IMAGE_PRIORS = able("video"), able("image")


def default_view_prior() -> str:
    """Returns the name of the best prior that comes with gs4d and draws views."""
    return "lift" if LIFT_WEIGHTS.is_file() else "inflate"


def check_prior(name: str, task: Task) -> Family:
    """Returns the row of the family that a prior's name begins with.

    Raises:
        UserError: there is no such family, or it does something else.
    """
    family = family_of(name)
    if task not in family.tasks:
        raise UserError(
            f"the prior '{name.partition(':')[0]}' cannot {TASKS[task]}; those that can: "
            f"{', '.join(able(task))}"
        )
    return family


@overload
def open_prior(
    name: str, task: Literal["views"], place: Place = ..., sampling: Sampling | None = ...
) -> ViewPrior: ...
@overload
def open_prior(name: str, task: Literal["score"], place: Place = ...) -> ScorePrior: ...
@overload
def open_prior(
    name: str, task: Literal["video"], place: Place = ..., sampling: Drawing | None = ...
) -> VideoPrior: ...
@overload
def open_prior(
    name: str, task: Literal["image"], place: Place = ..., sampling: Drawing | None = ...
) -> ImagePrior: ...
@overload
def open_prior(name: str, task: Literal["middle"], place: Place = ...) -> Interpolator: ...
@overload
def open_prior(name: str, task: Task) -> AnyPrior: ...
def open_prior(
    name: str, task: Task, place: Place | None = None, sampling: Sampling | Drawing | None = None
) -> AnyPrior:
    """Opens the prior of a name like ``inflate``, ``zero123:folder`` or ``zero123:owner/model``.

    Args:
        name: the family, and after a colon where its weights are.
        task: what it is to do.
        place: where and how precisely its networks run; None: as ``Place()``.
        sampling: how it draws: ``ViewSampling`` or ``Sampling`` for views, ``Drawing`` for an
            image, ``Filming`` for a video; None: as its authors do.

    Raises:
        UserError: there is no such family, it does something else, or its weights are absent or
            damaged.
    """
    family = check_prior(name, task)
    opener: Callable[..., Any] = getattr(
        import_module(f".{family.module}", __package__), family.opener
    )
    prior = opener(name.partition(":")[2], place or Place(), sampling)
    if not isinstance(prior, PROTOCOLS[task]):
        raise TypeError(f"{family.opener} made no {PROTOCOLS[task].__name__}")
    return prior


def draw_clip(
    prior: ViewPrior,
    frames: UInt8[Tensor, "t h w 4"],
    source: Orbit,
    rig: Sequence[Orbit] | None,
    generator: torch.Generator,
) -> Views:
    """Has a prior draw views of a clip, whose frames are padded to squares for it.

    Args:
        prior: draws.
        frames: the input video, RGBA with straight alpha.
        source: its camera.
        rig: the wanted cameras; None for the prior's own, around ``source``.
        generator: source of all randomness.

    Raises:
        UserError: the prior cannot draw that rig.
    """
    own = prior.rig.around(source)
    if rig is not None and list(rig) != own and not prior.rig.free:
        raise UserError(
            f"{prior.layout} draws its own {len(own)} cameras and no others; ask for no rig"
        )
    return prior.views(*square_views(frames, source), own if rig is None else list(rig), generator)
