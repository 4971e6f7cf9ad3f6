"""Networks, and a solid blown up without one, that know what an object looks like from where no camera was.

Small Protocols stand between the recipe and the families of models; each family has one file,
imported when it is asked for. A prior is named by a short text: ``inflate``, or ``family:where``
with a folder, a file or a hub id after the colon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..camera import Camera
from ..clip import Orbit
from ..errors import UserError, nearest
from .catalogue import FAMILIES, LIFT_WEIGHTS, TASKS, Task, able
from .sds import SdsOptions

if TYPE_CHECKING:
    from .networks import Place


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


@runtime_checkable
class ViewPrior(Protocol):
    """Samples views of a clip."""

    def views(
        self,
        frames: UInt8[Tensor, "t h w 4"],
        source: Orbit,
        rig: list[Orbit] | None,
        generator: torch.Generator,
    ) -> Views:
        """The views of every frame.

        Args:
            frames: the input video, RGBA with straight alpha, square.
            source: its camera.
            rig: the wanted cameras; None for the prior's own rig.
            generator: of all randomness.

        Raises:
            UserError: the prior cannot draw that rig.
        """
        ...


@dataclass(frozen=True)
class ScoreBatch:
    """Renders to be judged, and what each is judged by.

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
class ScorePrior(Protocol):
    """Judges pictures: score distillation."""

    joint: bool
    """Whether it judges all views and frames of a batch together: then every view shows the same,
    consecutive frames."""
    views_per_ring: int
    """Views of a batch that stand evenly around the object at one height, in a row; 0: each stands
    anywhere."""
    needs_prompt: bool
    """Whether it needs a sentence (``SdsOptions.prompt``)."""
    weights: list[dict[str, str]]
    """``name`` and ``licence`` of what takes part, for the report."""

    def score(
        self, batch: ScoreBatch, options: SdsOptions, progress: float, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """A loss whose gradient is the score.

        Args:
            batch: what is judged.
            options: how the score becomes a gradient.
            progress: 0 at the start of the stage, 1 at its end, for annealing.
            generator: of all randomness, on the CPU.
        """
        ...


@runtime_checkable
class VideoPrior(Protocol):
    """Turns a picture into a video."""

    def frames(
        self, image: UInt8[Tensor, "h w 3"], prompt: str, count: int, generator: torch.Generator
    ) -> UInt8[Tensor, "t h w 3"]:
        """``count`` frames, the first close to ``image``."""
        ...


@runtime_checkable
class ImagePrior(Protocol):
    """Turns a sentence into a picture."""

    def image(self, prompt: str, generator: torch.Generator) -> UInt8[Tensor, "h w 3"]:
        """One picture."""
        ...


@runtime_checkable
class Interpolator(Protocol):
    """Finds what lies between two frames."""

    weights: list[dict[str, str]]
    """``name`` and ``licence`` of what takes part, for the report."""

    def middle(
        self, a: Float[Tensor, "b h w c"], b: Float[Tensor, "b h w c"]
    ) -> Float[Tensor, "b h w c"]:
        """The frames half way between ``a`` and ``b``.

        Values in [0, 1], the first three channels colours.

        Differentiable by the colours of both; what moves where may be held constant.
        """
        ...


VIEW_PRIORS, SCORE_PRIORS = able("views"), able("score")
VIDEO_PRIORS, IMAGE_PRIORS = able("video"), able("image")


def default_view_prior() -> str:
    """The best prior that comes with gs4d and draws views."""
    return "lift" if LIFT_WEIGHTS.is_file() else "inflate"


def open_prior(name: str, place: Place | None = None) -> Any:
    """The prior of a name like ``inflate``, ``zero123:folder`` or ``zero123:owner/model``.

    Args:
        name: the family, and after a colon where its weights are.
        place: where and how precisely its networks run; only for families that have networks to
            place.

    Raises:
        UserError: there is no such family, or its weights are absent or damaged.
    """
    family, _, where = name.partition(":")
    if family not in FAMILIES:
        raise UserError(
            f"no prior is named '{family}'{nearest(family, FAMILIES)}; there are: "
            f"{', '.join(FAMILIES)}"
        )
    row = FAMILIES[family]
    opener: Callable[..., Any] = getattr(import_module(f".{row.module}", __package__), row.opener)
    return opener(where) if place is None else opener(where, place)


def open_score_prior(name: str, place: Place) -> ScorePrior:
    """As :func:`open_prior`, for one that can judge pictures.

    Raises:
        UserError: as there, or the family does something else.
    """
    return _open_able("score", name, place)


def open_video_prior(name: str, place: Place) -> VideoPrior:
    """As :func:`open_prior`, for one that turns a picture into a video.

    Raises:
        UserError: as there, or the family does something else.
    """
    return _open_able("video", name, place)


def open_image_prior(name: str, place: Place) -> ImagePrior:
    """As :func:`open_prior`, for one that draws a picture of a sentence.

    Raises:
        UserError: as there, or the family does something else.
    """
    return _open_able("image", name, place)


def open_interpolator(name: str) -> Interpolator:
    """As :func:`open_prior`, for one that finds what lies between frames.

    Raises:
        UserError: as there, or the family does something else.
    """
    return _open_able("middle", name, None)


def _open_able(task: Task, name: str, place: Place | None) -> Any:
    family = name.partition(":")[0]
    if family in FAMILIES and family not in able(task):
        raise UserError(
            f"the prior '{family}' cannot {TASKS[task]}; those that can: {', '.join(able(task))}"
        )
    return open_prior(name, place)
