"""Alpha of pictures that were painted on white, as the models of this field do."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8
from scipy import ndimage
from torch import Tensor

# farthest from white that still counts as background, values in [0, 1]; white itself wavers this
# much
BACKGROUND = 0.04
SOLID = 0.25  # distance from white at which a pixel on the rim is fully the object's


def cut_from_white(images: UInt8[Tensor, "b h w 3"]) -> UInt8[Tensor, "b h w 4"]:
    """Returns RGBA with straight alpha: white that the border reaches is background.

    White inside the object stays.

    Pixels on the rim, which are a mixture of both, get a share of alpha and their colour without
    the white in it.
    """
    return torch.stack([torch.from_numpy(_cut(image.numpy())) for image in images])


def _cut(image: np.ndarray) -> np.ndarray:
    values = image.astype(np.float32) / 255
    distance = 1 - values.min(-1)
    border = np.ones(distance.shape, bool)
    border[1:-1, 1:-1] = False
    outside = np.asarray(ndimage.binary_propagation(border, mask=distance <= BACKGROUND), bool)
    rim = np.asarray(ndimage.binary_dilation(outside), bool) & ~outside
    alpha = np.where(outside, 0, np.where(rim, np.clip(distance / SOLID, 0, 1), 1)).astype(
        np.float32
    )[..., None]
    color = np.clip((values - (1 - alpha)) / np.maximum(alpha, 1e-3), 0, 1) * (alpha > 0)
    return np.rint(np.concatenate([color, alpha], -1) * 255).astype(np.uint8)
