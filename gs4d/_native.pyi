"""The native module (submodules/native). Arrays are contiguous float32 CPU tensors unless said."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

def constants() -> dict[str, float]:
    """The numbers of submodules/native/constants.h."""

def isa() -> str:
    """The instruction set in use: "portable", "avx2" or "avx512"."""

def isas() -> list[str]:
    """The instruction sets this machine runs."""

def set_isa(name: str) -> None:
    """Uses this instruction set from now on.

    The environment variable GS4D_ISA does so from the start.
    """

def num_threads() -> int:
    """Threads that work on one call; at first the cores available to the process."""

def set_num_threads(threads: int) -> None:
    """Uses this many threads, at least 1. No result depends on it."""

class Frame:
    """What a forward pass leaves for its backward pass; may be used more than once."""

def raster_forward(
    fields: Sequence[Tensor | None],
    T_camera_world: Tensor,
    K: Tensor,
    background: Tensor,
    rgb: Tensor,
    alpha: Tensor,
    depth: Tensor,
    radii: Tensor,
    keep: bool,
) -> Frame:
    """Draws into ``rgb`` (b, h, w, 3), ``alpha`` and ``depth`` (b, h, w) and ``radii`` (b, n),
    int32.

    ``fields`` are those of ``Gaussians`` in order, each with a view axis or without, and
    screen_offsets (b, n, 2) or None; ``keep`` says whether :func:`raster_backward` will follow.
    """

def raster_backward(
    frame: Frame,
    fields: Sequence[Tensor | None],
    alpha: Tensor,
    depth: Tensor,
    gradients: Sequence[Tensor | None],
    out_fields: Sequence[Tensor | None],
) -> None:
    """Writes the gradients of ``fields``, summed over views where shared, into those of
    ``out_fields`` that are not None.

    ``gradients`` are those of rgb, alpha and depth, or None; ``alpha`` and ``depth`` are the
    forward pass's results.
    """

def mesh_draw(
    screen: NDArray[np.float32],
    columns: NDArray[np.float32],
    faces: NDArray[np.int32],
    material_of: NDArray[np.int32],
    flipped: NDArray[np.uint8],
    materials: NDArray[np.float32],
    reads: NDArray[np.int32],
    textures: Sequence[NDArray[np.float32]],
    light: NDArray[np.float32],
    encoded: NDArray[np.float32],
    samples: int,
    out: NDArray[np.uint8],
) -> None:
    """Draws triangles into ``out`` (h, w, 4), with straight alpha.

    All arrays are numpy's, contiguous.

    ``screen`` (v, 3) has columns and rows in samples, of which a pixel has ``samples`` along each
    side, and one over depth. ``columns`` (v, 11) are normal, texture coordinates of base colour and
    of emission, and linear RGBA; ``faces`` (f, 3) index them, with one of the ``materials`` each,
    and ``flipped`` where they are seen from behind. A material is RGBA, emitted RGB, what alpha
    does (0 nothing, 1 cuts off, 2 blends), from where on it is opaque, and whether light leaves it
    alone (m, 10); ``reads`` (m, 2, 4) names the texture of its colour and of its emission (-1 for
    none), how it wraps along u and v (0 repeats, 1 mirrors, 2 clamps) and whether it is smooth.
    ``textures`` (h, w, 4) are linear RGBA; ``light`` (4, 3) is that of the sky, the ground and the
    lamp, and the direction to the lamp; ``encoded`` is the sRGB value of linear light in even
    steps.
    """
