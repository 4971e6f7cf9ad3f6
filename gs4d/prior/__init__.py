"""Networks, and a solid blown up without one, that know what an object looks like from where no camera was.

Small Protocols stand between the recipe and the families of models; each family has one file, imported when it is asked for.
A prior is named by a short text: ``inflate``, ``lift``, or ``family:where`` with a folder, a file or a hub id after the colon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..camera import Camera
from ..clip import Orbit
from ..errors import UserError, nearest


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


@runtime_checkable
class ScorePrior(Protocol):
    """Judges pictures: score distillation."""

    def score(
        self, images: Float[Tensor, "b h w 3"], cameras: Camera, condition: Float[Tensor, "b h w 4"], progress: float
    ) -> Float[Tensor, ""]:
        """A loss whose gradient is the score.

        Args:
            images: renders over white, in [0, 1], with gradient.
            cameras: where they were rendered from.
            condition: the input view of each render's own frame, RGBA premultiplied, in [0, 1].
            progress: 0 at the start of the stage, 1 at its end, for annealing.
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


FAMILIES = {  # name -> (module here, function that opens it: where the weights are -> the prior)
    "inflate": ("inflate", "open_inflate"),
    "lift": ("lift", "open_lift"),
}


def open_prior(name: str) -> Any:
    """The prior of a name like ``inflate``, ``zero123:folder`` or ``zero123:owner/model``.

    Raises:
        UserError: there is no such family, or its weights are absent or damaged.
    """
    family, _, where = name.partition(":")
    if family not in FAMILIES:
        raise UserError(f"no prior is named '{family}'{nearest(family, FAMILIES)}; there are: {', '.join(FAMILIES)}")
    module, function = FAMILIES[family]
    opener: Callable[[str], Any] = getattr(import_module(f".{module}", __package__), function)
    return opener(where)
