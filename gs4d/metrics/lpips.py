"""LPIPS: how far two pictures lie apart for a network that people's judgements calibrated (Zhang et
al. 2018).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..io.weights import fill, read_weights
from .image import check_pair

Backbone = Literal["alex", "vgg"]
# of ImageNet, for colours in [0, 1]: what torchvision's backbones were trained on
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class _Conv(NamedTuple):
    place: int  # in torchvision's `features`
    channels: int
    kernel: int
    stride: int = 1
    padding: int = 1


class _Stage(NamedTuple):
    pool: int  # side of a max pooling of stride 2 before the stage, 0 for none
    convs: tuple[_Conv, ...]  # each followed by ReLU; the stage's last output is compared


STAGES: dict[str, tuple[_Stage, ...]] = {
    "alex": (
        _Stage(0, (_Conv(0, 64, 11, 4, 2),)),
        _Stage(3, (_Conv(3, 192, 5, 1, 2),)),
        _Stage(3, (_Conv(6, 384, 3),)),
        _Stage(0, (_Conv(8, 256, 3),)),
        _Stage(0, (_Conv(10, 256, 3),)),
    ),
    "vgg": (
        _Stage(0, (_Conv(0, 64, 3), _Conv(2, 64, 3))),
        _Stage(2, (_Conv(5, 128, 3), _Conv(7, 128, 3))),
        _Stage(2, (_Conv(10, 256, 3), _Conv(12, 256, 3), _Conv(14, 256, 3))),
        _Stage(2, (_Conv(17, 512, 3), _Conv(19, 512, 3), _Conv(21, 512, 3))),
        _Stage(2, (_Conv(24, 512, 3), _Conv(26, 512, 3), _Conv(28, 512, 3))),
    ),
}
SMALLEST_SIDE = {"alex": 31, "vgg": 16}  # pixels below which a pooling has nothing left
_KEY = re.compile(r"(?:features|net\.slice\d)\.(\d+)\.(weight|bias)|(lin)(\d)\.model\.1\.weight")


class LPIPS(nn.Module):
    """Learned perceptual distance, version 0.1 with calibrated channel weights."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.features = nn.ModuleDict()
        self.lins = nn.ModuleList()
        channels = 3
        for stage in STAGES[backbone]:
            for conv in stage.convs:
                self.features[str(conv.place)] = nn.Conv2d(
                    channels, conv.channels, conv.kernel, conv.stride, conv.padding
                )
                channels = conv.channels
            self.lins.append(nn.Conv2d(channels, 1, 1, bias=False))

    def forward(
        self, pred: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"]
    ) -> Float[Tensor, ""]:
        """The distance of two pictures with colours in [0, 1].

        0 for equal ones (Zhang et al. 2018, eq. 1).

        Raises:
            ValueError: a side is shorter than ``SMALLEST_SIDE``, or the pictures cannot be
                compared.
        """
        check_pair(pred, truth)
        if min(pred.shape[:2]) < SMALLEST_SIDE[self.backbone]:
            raise ValueError(
                f"LPIPS ({self.backbone}) is undefined for {pred.shape[1]}x{pred.shape[0]} pixels, "
                f"below {SMALLEST_SIDE[self.backbone]} a side"
            )
        x = torch.stack([pred, truth])
        x = ((x - x.new_tensor(MEAN)) / x.new_tensor(STD)).movedim(-1, 1)
        distance = x.new_zeros(())
        for stage, lin in zip(STAGES[self.backbone], self.lins, strict=True):
            if stage.pool:
                x = F.max_pool2d(x, stage.pool, 2)
            for conv in stage.convs:
                x = F.relu(self.features[str(conv.place)](x))
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
            distance = distance + lin((unit[:1] - unit[1:]).square()).mean()
        return distance


def load_lpips(backbone: Backbone, files: Sequence[Path]) -> LPIPS:
    """Reads LPIPS from local files whose tensors are taken together.

    Either the two parts as published, torchvision's backbone (``features.0.weight`` ...) and the
    calibration of richzhang/PerceptualSimilarity (``lin0.model.1.weight`` ...), or that project's
    whole state dict in one file.

    Raises:
        UserError: a file cannot be read, or a tensor is missing or misshapen.
    """
    weights: dict[str, Tensor] = {}
    for path in files:
        for key, value in read_weights(path).items():
            if match := _KEY.fullmatch(key):
                index, kind, lin, number = match.groups()
                weights[f"lins.{number}.weight" if lin else f"features.{index}.{kind}"] = value
    names = " and ".join(str(path) for path in files)
    if not any(key.startswith("lins.") for key in weights):
        raise UserError(
            f"{names} holds no calibration 'lin0.model.1.weight'; give richzhang's {backbone}.pth "
            "(v0.1) as well"
        )
    if not any(key.startswith("features.") for key in weights):
        raise UserError(
            f"{names} holds no backbone 'features.0.weight'; give torchvision's {backbone} weights "
            "as well"
        )
    return fill(LPIPS(backbone), weights, names)
