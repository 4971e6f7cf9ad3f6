"""Features of videos for Frechet video distances.

The Inception-I3D network (Carreira & Zisserman 2017).
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..io.weights import fill, read_weights

SIDE = 224  # pixels of the input, as trained on Kinetics-400
SHORTEST = 9  # frames below which the last pooling, two steps long, has nothing left
CLASSES = 400


def _pad_same(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """TensorFlow's SAME padding, which the published weights were trained with.

    The odd zero goes behind.
    """
    pads: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class _Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel, kernel, kernel), (stride, stride, stride)
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(_pad_same(x, self.kernel, self.stride))))


class _Pool(nn.Module):
    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(_pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class _Mixed(nn.Module):
    """An Inception block of four branches: 1, 1-3, 1-3 and pooling-1."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.outputs = widths[0] + widths[2] + widths[4] + widths[5]
        self.b0 = _Unit(inputs, widths[0])
        self.b1a, self.b1b = _Unit(inputs, widths[1]), _Unit(widths[1], widths[2], 3)
        self.b2a, self.b2b = _Unit(inputs, widths[3]), _Unit(widths[3], widths[4], 3)
        self.b3a, self.b3b = _Pool((3, 3, 3), (1, 1, 1)), _Unit(inputs, widths[5])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], 1
        )


MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


class I3D(nn.Module):
    """Inception-I3D for RGB; its layers are named as in the file ``i3d_pretrained_400.pt`` that FVD
    scripts use.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, 2)
        self.MaxPool3d_2a_3x3 = _Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = _Pool((1, 3, 3), (1, 2, 2))
        channels = 192
        for name, widths in MIXED.items():
            if name == "Mixed_4b":
                self.MaxPool3d_4a_3x3 = _Pool((3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                self.MaxPool3d_5a_2x2 = _Pool((2, 2, 2), (2, 2, 2))
            block = _Mixed(channels, widths)
            self.add_module(name, block)
            channels = block.outputs
        self.logits = nn.Sequential()
        self.logits.add_module("conv3d", nn.Conv3d(channels, CLASSES, 1))

    def forward(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 400"]:
        """Logits over Kinetics-400 averaged over time, of videos with colours in [-1, 1].

        224x224, at least 9 frames.
        """
        x = video
        for name, layer in self.named_children():
            if name == "logits":
                x = F.avg_pool3d(x, (2, 7, 7), stride=1)
            x = layer(x)
        return x.mean((2, 3, 4))


def load_i3d(path: Path) -> I3D:
    """Reads I3D from a local file in the key layout of ``i3d_pretrained_400.pt``
    (``Conv3d_1a_7x7.conv3d.weight`` ...).

    Raises:
        UserError: the file cannot be read, or a tensor is missing or misshapen.
    """
    return fill(I3D(), read_weights(path), str(path))


def i3d_frame(picture: Float[Tensor, "h w 3"]) -> Float[Tensor, "224 224 3"]:
    """A picture in [0, 1] as I3D sees it, in [-1, 1].

    Antialiased bicubic whatever the aspect, not clamped.

    The result is float16, which keeps more than 8 bits and makes long videos half as large.
    """
    small = F.interpolate(
        picture.movedim(-1, 0)[None].float(), (SIDE, SIDE), mode="bicubic", antialias=True
    )
    return (small[0].movedim(0, -1) * 2 - 1).half()


@torch.inference_mode()
def video_logits(network: I3D, frames: Float[Tensor, "t 224 224 3"]) -> Float[Tensor, "400"]:
    """The features of one video of :func:`i3d_frame`.

    Fewer than 9 frames are slowed down to 9 by repeating them evenly.

    Raises:
        ValueError: there is no frame.
    """
    count = len(frames)
    if not count:
        raise ValueError("a video without frames has no features")
    length = max(count, SHORTEST)
    slowed = frames[torch.arange(length) * count // length]
    return network(slowed.float().permute(3, 0, 1, 2)[None])[0]
