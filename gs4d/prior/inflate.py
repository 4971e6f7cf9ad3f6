"""The prior that needs no weights.

Every frame's silhouette is blown up to a solid, coloured by what the frame shows.

Half thickness is the square root of the solution of a Poisson equation inside the mask, as Igarashi
et al. 1999 ("Teddy") and Dvorožňák et al. 2020 ("Monster Mash", section 4.1): a disc becomes a
sphere, a strip a round bar, thin parts stay thin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from ..clip import Orbit, cameras_of, premultiply, straighten
from ..errors import UserError
from ..io.images import resize_rgba
from ..ranges import Options, Range
from ..render import render
from . import Views
from .networks import Place
from .pictures import straight_colors
from .rigs import FREE_RIG, Rig
from .sampling import Context, Sampling
from .shell import Shell, shell_gaussians

LOGIT_OPACITY = 4.0
SIDE = 256  # pixels that are blown up; larger frames are reduced to as many
CONFIDENCE = 64  # in its views, of 255: a guess
BLUR = 0.1  # of the longer side: the far side keeps colours that change more slowly than this


@dataclass(frozen=True)
class InflateOptions(Options):
    """How silhouettes become solids."""

    depth: Annotated[float, Range(0.05, 4)] = 1.0
    """Thickness over that of a round body; below 1 flatter."""
    far_side: Literal["smooth", "mirror"] = "smooth"
    """Colour of the side that the frame does not show: the frame's colours without their detail, or
    the near side's own."""


def half_thickness(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Half thickness in pixels of the solid over ``mask``.

    It is sqrt(u) with laplace(u) = -4 inside and u = 0 outside.
    """
    inner = np.pad(mask, 1)
    ys, xs = np.nonzero(inner)
    n = len(ys)
    out = np.zeros(inner.shape, np.float32)
    if n:
        index = np.full(inner.shape, -1)
        index[ys, xs] = np.arange(n)
        near = np.stack([index[ys + dy, xs + dx] for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))])
        _, row = np.nonzero(near >= 0)
        i, j = np.concatenate([np.arange(n), row]), np.concatenate([np.arange(n), near[near >= 0]])
        laplacian = coo_matrix(
            (np.concatenate([np.full(n, 4.0), np.full(len(row), -1.0)]), (i, j)), (n, n)
        )
        out[ys, xs] = np.sqrt(np.asarray(spsolve(laplacian.tocsc(), np.full(n, 4.0))))
    return out[1:-1, 1:-1]


def far_colors(image: Float[np.ndarray, "h w 4"]) -> Float[np.ndarray, "h w 3"]:
    """The colours of a premultiplied picture without their detail.

    A wide blur that ignores what is outside the object.
    """
    blur = BLUR * max(image.shape[:2])
    soft = ndimage.gaussian_filter(image, (blur, blur, 0), mode="constant", truncate=6.0)
    return soft[..., :3] / np.maximum(soft[..., 3:], 1e-6)


def inflate(images: UInt8[Tensor, "b h w 4"], options: InflateOptions) -> Shell:
    """The solid over every picture (RGBA, straight alpha)."""
    pictures = premultiply(images)
    mask = pictures[..., 3] > 0.5
    thick = (
        torch.stack([torch.from_numpy(half_thickness(one.numpy())) for one in mask]) * options.depth
    )
    near = straight_colors(pictures)
    far = (
        torch.stack([torch.from_numpy(far_colors(one.numpy())) for one in pictures])
        if options.far_side == "smooth"
        else near
    )
    depth = torch.stack([-thick, thick], 1)
    colors = torch.stack([near, far], 1).permute(0, 1, 4, 2, 3)
    return Shell(mask, depth, colors, torch.full((len(mask), 3, *mask.shape[1:]), LOGIT_OPACITY))


def open_inflate(where: str, place: Place, sampling: Sampling | None = None) -> Inflate:
    """Opens the prior without weights, which no place and no sampling changes.

    Raises:
        UserError: weights are named.
    """
    if where:
        raise UserError(f"inflate has no weights; leave out ':{where}'")
    return Inflate(InflateOptions())


@dataclass(frozen=True)
class Inflate:
    """A ``ViewPrior``: every frame's solid, drawn."""

    options: InflateOptions
    context: ClassVar[Context] = "none"  # every frame is drawn by itself
    layout: ClassVar[str] = "rig"
    rig: ClassVar[Rig] = FREE_RIG
    weights: ClassVar[list[dict[str, str]]] = []

    def views(
        self,
        frames: UInt8[Tensor, "t s s 4"],
        source: Orbit,
        rig: list[Orbit],
        generator: torch.Generator,
    ) -> Views:
        """See ``ViewPrior``."""
        side = min(frames.shape[1], SIDE)
        small = torch.stack(
            [torch.from_numpy(resize_rgba(frame.numpy(), side, side).copy()) for frame in frames]
        )
        cameras = cameras_of(rig, width=side, height=side)
        drawn = torch.empty(len(rig), len(frames), side, side, 4, dtype=torch.uint8)
        shells = inflate(small, self.options)
        for t in range(len(frames)):
            seen = render(shell_gaussians(shells, source, t), cameras, background=(0.0, 0.0, 0.0))
            drawn[:, t] = straighten(torch.cat([seen.rgb, seen.alpha[..., None]], -1))
        return Views(rig, drawn, torch.full(drawn.shape[:-1], CONFIDENCE, dtype=torch.uint8))
