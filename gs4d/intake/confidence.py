"""Maps of confidence in the pixels of side views that a prior drew, 255 = full."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ..clip import premultiply
from .agreement import SIDE as CONFIDENCE_SIDE

STEADY = 0.1  # change of a value (of 1) there and back between frames that any motion may make
JUMP = 0.3  # change beyond it that takes the confidence down to 1/e


def reduced(confidence: UInt8[Tensor, "v h w"]) -> UInt8[Tensor, "v s s"]:
    """Returns maps of full size at ``CONFIDENCE_SIDE`` pixels."""
    small = F.adaptive_avg_pool2d(confidence.float()[:, None], CONFIDENCE_SIDE)[:, 0]
    return small.round().to(torch.uint8)


def steadied_confidence(
    confidence: UInt8[Tensor, "v t s s"], small: Sequence[Sequence[UInt8[np.ndarray, "s s 4"]]]
) -> UInt8[Tensor, "v t s s"]:
    """Returns lower confidence where a view differs from the frames before and after.

    Args:
        confidence: confidence by the prior.
        small: the pictures per frame and view, as large as the maps.
    """
    if confidence.shape[1] < 3:
        return confidence
    films = [torch.from_numpy(np.stack(film)) for film in zip(*small, strict=True)]
    factors = torch.stack([steadiness(premultiply(film)) for film in films])
    return (confidence.float() * factors).round().to(torch.uint8)


def steadiness(film: Float[Tensor, "t h w 4"]) -> Float[Tensor, "t h w"]:
    """Returns 1 for pixels half way between the frames before and after, less for those that jump.

    At least three frames are needed.
    """
    jump = (film[1:-1] - (film[:-2] + film[2:]) / 2).abs().amax(-1)
    jump = torch.cat([jump[:1], jump, jump[-1:]])
    return torch.exp(-(((jump - STEADY).clamp_min(0) / JUMP) ** 2))


def save_confidence(confidence: UInt8[Tensor, ...], path: Path) -> None:
    """Writes maps; not atomic by itself.

    Raises:
        OSError: the disk is full.
    """
    try:
        save_file({"trust": confidence}, path)
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(str(error)) from error
