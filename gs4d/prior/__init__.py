"""Networks, and a solid blown up without one, that know what an object looks like from where no camera was.

Small Protocols stand between the recipe and the families of models; each family has one file, imported when it is asked for.
A prior is named by a short text: ``inflate``, or ``family:where`` with a folder, a file or a hub id after the colon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..camera import Camera
from ..clip import Orbit
from ..errors import UserError, nearest
from .sds import SdsOptions

if TYPE_CHECKING:
    from .networks import Place


@dataclass(frozen=True)
class Views:
    """Pseudo views: what a prior thinks that some cameras would have seen.

    Attributes:
        orbits: one camera per view, in the world of the input camera.
        images: RGBA with straight alpha.
        trust: how far each pixel is to be believed, 255 = as a photograph.
    """

    orbits: list[Orbit]
    images: UInt8[Tensor, "v t h w 4"]
    trust: UInt8[Tensor, "v t h w"]


@runtime_checkable
class ViewPrior(Protocol):
    """Samples views of a clip."""

    def views(
        self, frames: UInt8[Tensor, "t h w 4"], source: Orbit, rig: list[Orbit] | None, generator: torch.Generator
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
class Trial:
    """Renders to be judged, and what each is judged by.

    Attributes:
        images: renders over white, in [0, 1], square, with gradient. They are a grid of views times frames, one view after the
            other.
        alpha: their coverage, with gradient.
        cameras: where they were rendered from.
        condition: for each the picture of its own frame that the clip has, RGBA premultiplied, in [0, 1], square.
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
    """Whether it judges all views and frames of a trial together: then every view shows the same, consecutive frames."""
    weights: list[dict[str, str]]
    """``name`` and ``licence`` of what takes part, for the report."""

    def score(self, trial: Trial, options: SdsOptions, progress: float, generator: torch.Generator) -> Float[Tensor, ""]:
        """A loss whose gradient is the score.

        Args:
            trial: what is judged.
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

    def middle(self, a: Float[Tensor, "b h w c"], b: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        """The frames half way between ``a`` and ``b``, values in [0, 1]; differentiable."""
        ...


LIFT_WEIGHTS = Path(__file__).parent / "weights" / "lift.safetensors"  # they come with gs4d

FAMILIES = {  # name -> (module here, function that opens it: where the weights are -> the prior)
    "inflate": ("inflate", "open_inflate"),
    "lift": ("lift", "open_lift"),
    "zero123": ("zero123", "open_zero123"),
    "stable-zero123": ("zero123", "open_stable_zero123"),
    "zero123plus": ("zero123plus", "open_zero123plus"),
    "zero123plus-1.2": ("zero123plus", "open_zero123plus_1_2"),
    "mvdream": ("mvdream", "open_mvdream"),
    "imagedream": ("mvdream", "open_imagedream"),
    "syncdreamer": ("syncdreamer", "open_syncdreamer"),
    "svd": ("video_models", "open_svd"),
    "wan": ("video_models", "open_wan"),
    "ltx": ("video_models", "open_ltx"),
    "cogvideox": ("video_models", "open_cogvideox"),
    "sdxl": ("image_models", "open_sdxl"),
    "text2image": ("image_models", "open_text2image"),
    "mini": ("mini", "open_mini"),
}
PAINTERS = (  # the families that are a ViewPrior
    "inflate",
    "lift",
    "zero123",
    "stable-zero123",
    "zero123plus",
    "zero123plus-1.2",
    "imagedream",
    "syncdreamer",
    "mini",
)
JUDGES = ("zero123", "stable-zero123", "mini")  # the families that are a ScorePrior, opened with a place
FILMERS = ("svd", "wan", "ltx", "cogvideox")  # the families that are a VideoPrior
ILLUSTRATORS = ("sdxl", "text2image")  # the families that are an ImagePrior


def best_painter() -> str:
    """The best prior that comes with gs4d and draws views."""
    return "lift" if LIFT_WEIGHTS.is_file() else "inflate"


def open_prior(name: str, place: Place | None = None) -> Any:
    """The prior of a name like ``inflate``, ``zero123:folder`` or ``zero123:owner/model``.

    Args:
        name: the family, and after a colon where its weights are.
        place: where and how precisely its networks run; only for families that have networks to place.

    Raises:
        UserError: there is no such family, or its weights are absent or damaged.
    """
    family, _, where = name.partition(":")
    if family not in FAMILIES:
        raise UserError(f"no prior is named '{family}'{nearest(family, FAMILIES)}; there are: {', '.join(FAMILIES)}")
    module, function = FAMILIES[family]
    opener: Callable[..., Any] = getattr(import_module(f".{module}", __package__), function)
    return opener(where) if place is None else opener(where, place)


def open_score_prior(name: str, place: Place) -> ScorePrior:
    """As :func:`open_prior`, for one that can judge pictures.

    Raises:
        UserError: as there, or the family only draws views.
    """
    return _open_as(JUDGES, "judge pictures", name, place)


def open_video_prior(name: str, place: Place) -> VideoPrior:
    """As :func:`open_prior`, for one that turns a picture into a video.

    Raises:
        UserError: as there, or the family does something else.
    """
    return _open_as(FILMERS, "turn a picture into a video", name, place)


def open_image_prior(name: str, place: Place) -> ImagePrior:
    """As :func:`open_prior`, for one that draws a picture of a sentence.

    Raises:
        UserError: as there, or the family does something else.
    """
    return _open_as(ILLUSTRATORS, "draw a picture of a sentence", name, place)


def _open_as(families: tuple[str, ...], what: str, name: str, place: Place) -> Any:
    family = name.partition(":")[0]
    if family in FAMILIES and family not in families:
        raise UserError(f"the prior '{family}' cannot {what}; those that can: {', '.join(families)}")
    return open_prior(name, place)
