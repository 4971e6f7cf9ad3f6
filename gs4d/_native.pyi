"""The native module (submodules/native). Arrays are contiguous float32 CPU tensors unless said."""

from collections.abc import Sequence

from torch import Tensor

def constants() -> dict[str, float]:
    """The numbers of submodules/native/constants.h."""

def isa() -> str:
    """The instruction set in use: "portable", "avx2" or "avx512"."""

def isas() -> list[str]:
    """The instruction sets this machine runs."""

def set_isa(name: str) -> None:
    """Uses this instruction set from now on; the environment variable GS4D_ISA does so from the start."""

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
    """Draws into ``rgb`` (b, h, w, 3), ``alpha`` and ``depth`` (b, h, w) and ``radii`` (b, n), int32.

    ``fields`` are those of ``Gaussians`` in order, each with a view axis or without, and screen_offsets (b, n, 2) or None;
    ``keep`` says whether :func:`raster_backward` will follow.
    """

def raster_backward(
    frame: Frame,
    fields: Sequence[Tensor | None],
    alpha: Tensor,
    depth: Tensor,
    gradients: Sequence[Tensor | None],
    out_fields: Sequence[Tensor | None],
) -> None:
    """Writes the gradients of ``fields``, summed over views where shared, into those of ``out_fields`` that are not None.

    ``gradients`` are those of rgb, alpha and depth, or None; ``alpha`` and ``depth`` are the forward pass's results.
    """
