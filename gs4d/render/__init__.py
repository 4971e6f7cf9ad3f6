"""The second verb: draw Gaussians with a batch of cameras, on whichever backend is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Camera
from ..gaussians import Gaussians


@dataclass(frozen=True)
class Render:
    """Pictures of ``b`` views.

    Attributes:
        rgb: colour over the background, 0-1 and above where spherical harmonics overshoot.
        alpha: coverage in [0, 1].
        depth: expected camera-space z of what covers the pixel, world units; 0 where nothing does.
        radii: half width in pixels of each Gaussian's box on the screen (the larger of both axes),
            0 when not drawn.
    """

    rgb: Float[Tensor, "b h w 3"]
    alpha: Float[Tensor, "b h w"]
    depth: Float[Tensor, "b h w"]
    radii: Int[Tensor, "b n"]


def can_draw_on_cuda() -> bool:
    """Whether there is a GPU and gsplat to draw with.

    Without gsplat, or without a GPU, everything stays on the CPU.
    """
    return torch.cuda.is_available() and find_spec("gsplat") is not None


Backend = Callable[[Gaussians, Camera, Tensor, "Tensor | None"], Render]
BACKENDS = {"reference": ".reference", "cpu": ".cpu", "cuda": ".cuda"}


def load_backend(name: str) -> Backend:
    """The draw function of a backend.

    Its module is imported only now, so that a missing one costs nothing.
    """
    if name not in BACKENDS:
        raise ValueError(f"no render backend named '{name}': there are auto, {', '.join(BACKENDS)}")
    return import_module(BACKENDS[name], __package__).draw


def render(
    gaussians: Gaussians,
    cameras: Camera,
    *,
    background: Tensor | tuple[float, float, float] = (1.0, 1.0, 1.0),
    backend: str = "auto",
    screen_offsets: Float[Tensor, "b n 2"] | None = None,
) -> Render:
    """Draws every camera's view in one call.

    Args:
        gaussians: one set for all views, or with a leading view axis of ``len(cameras)`` on some or
            all fields.
        cameras: ``b`` cameras.
        background: RGB in [0, 1], shape (3,) or (b, 3).
        backend: "auto" (cuda for CUDA tensors, cpu otherwise), "reference", "cpu" or "cuda".
        screen_offsets: pixels added to each projected centre. Its gradient is the screen-space
            positional gradient that densification wants, the same on every backend.

    Raises:
        ValueError: the number of sets differs from the number of cameras, or an argument has the
            wrong shape.
    """
    b = len(cameras)
    if gaussians.views not in (None, b):
        raise ValueError(
            f"{gaussians.views} sets of Gaussians for {b} cameras: wanted one set, or one per "
            "camera"
        )
    means = gaussians.means
    colour = torch.as_tensor(background, dtype=means.dtype, device=means.device)
    if colour.shape not in ((3,), (b, 3)):
        raise ValueError(f"background has shape {tuple(colour.shape)}, wanted (3,) or ({b}, 3)")
    if screen_offsets is not None and screen_offsets.shape != (b, gaussians.count, 2):
        raise ValueError(
            f"screen_offsets has shape {tuple(screen_offsets.shape)}, wanted ({b}, "
            f"{gaussians.count}, 2)"
        )
    name = ("cuda" if means.is_cuda else "cpu") if backend == "auto" else backend
    return load_backend(name)(gaussians, cameras, colour.expand(b, 3), screen_offsets)
