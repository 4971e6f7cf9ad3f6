"""RIFE (Huang et al. 2022), as Practical-RIFE's versions 4.2 to 4.6: a network that finds what lies between two frames.

Four blocks, from an eighth of the resolution to all of it, each correct the motion from the middle to both frames and how the
two are mixed. It is what Consistent4D interpolates with. Read from the ``flownet.pkl`` of a model's folder, whose names and
shapes are those of the published code (hzwer/Practical-RIFE, MIT; nothing was copied). It was never run with the published
weights, which could not be had where this was made.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..io.weights import read_weights
from .catalogue import licence_of
from .flow import sample
from .models import find_model
from .networks import Place
from .sampling import place_all

FILE = "flownet.pkl"
WIDTHS, SCALES = (192, 128, 96, 64), (8, 4, 2, 1)
MULTIPLE = 32  # pixels that the sides are a multiple of: the coarsest block has a quarter of an eighth
TRAINING = ("teacher.", "caltime.")  # parts that published files may hold and only training uses


class Residual(nn.Module):
    """A convolution that is added to its input, channel by channel as far as ``beta`` says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x) * self.beta + x, 0.2)


class Block(nn.Module):
    """Motion and mixing at one scale."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()

        def halved(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(0.2))

        self.conv0 = nn.Sequential(halved(channels, width // 2), halved(width // 2, width))
        self.convblock = nn.Sequential(*(Residual(width) for _ in range(8)))
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 4 * 6, 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, seen: Tensor, flow: Tensor | None, scale: int) -> tuple[Tensor, Tensor]:
        """Corrections of the flow (4 channels, pixels) and of the mixing (1)."""
        if flow is not None:
            seen = torch.cat([seen, flow / scale], 1)
        seen = F.interpolate(seen, scale_factor=1 / scale, mode="bilinear", align_corners=False)
        found = self.lastconv(self.convblock(self.conv0(seen)))
        found = F.interpolate(found, scale_factor=float(scale), mode="bilinear", align_corners=False)
        return found[:, :4] * scale, found[:, 4:5]


class IFNet(nn.Module):
    """The four blocks."""

    def __init__(self) -> None:
        super().__init__()
        for i, width in enumerate(WIDTHS):
            self.add_module(f"block{i}", Block(12 if i else 7, width))

    def forward(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 4 h w"], Float[Tensor, "b 1 h w"]]:
        """Where the middle's pixels are in ``a`` and in ``b`` (x y x y, pixels), and the share of ``a``."""
        time = torch.full_like(a[:, :1], 0.5)
        flow, mixing = self.get_submodule("block0")(torch.cat([a, b, time], 1), None, SCALES[0])
        for i in range(1, len(WIDTHS)):
            seen = torch.cat([sample(a, flow[:, :2]), sample(b, flow[:, 2:]), time, mixing], 1)
            more, mixed = self.get_submodule(f"block{i}")(seen, flow, SCALES[i])
            flow, mixing = flow + more, mixing + mixed
        return flow, mixing.sigmoid()


class Rife:
    """An ``Interpolator``."""

    def __init__(self, network: IFNet, place: Place, where: str) -> None:
        """Puts the network in its place."""
        self.network, self.device = network.to(place.torch_device()), place.torch_device()
        self.weights = [{"name": f"rife:{where}", "licence": licence_of("rife")}]

    def middle(self, a: Float[Tensor, "b h w c"], b: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        """See ``Interpolator``. The network sees the first three channels, as colours; all channels are moved and mixed alike.

        Motion and mixing are held constant: gradients go to the colours of ``a`` and ``b`` alone.
        """
        x, y = (frames.movedim(-1, 1).to(self.device) for frames in (a, b))
        h, w = x.shape[2:]
        with torch.no_grad():
            padding = (0, -w % MULTIPLE, 0, -h % MULTIPLE)
            padded = [F.pad(frames[:, :3], padding, mode="replicate") for frames in (x, y)]
            flow, mixing = (found[:, :, :h, :w] for found in self.network(*padded))
        return torch.lerp(sample(y, flow[:, 2:]), sample(x, flow[:, :2]), mixing).movedim(1, -1).to(a.device)


def open_rife(where: str, place: Place | None = None) -> Rife:
    """RIFE of a folder with a ``flownet.pkl``, of that file, or of a hub model that has it.

    Raises:
        UserError: it is not there, damaged, of another version, or something else.
    """
    path = find_model(where, family="rife", licence=licence_of("rife"), patterns=[f"*{FILE}"])
    if path.is_dir():
        files = sorted(path.rglob(FILE))
        if not files:
            raise UserError(f"{path} has no {FILE}; give the folder of a model of Practical-RIFE, version 4.2 to 4.6")
        path = files[0]
    network = load_rife(path)
    print(f"interpolator rife from {where}; licence of the weights: {licence_of('rife')}")
    return Rife(network, place or Place(), where)


def load_rife(path: Path) -> IFNet:
    """The network of a ``flownet.pkl``, frozen.

    Raises:
        UserError: the file is damaged, holds more than tensors, or another network.
    """
    weights = {name.removeprefix("module."): value for name, value in read_weights(path).items()}
    weights = {name: value.float() for name, value in weights.items() if not name.startswith(TRAINING)}
    if other := next((name for name in weights if not name.startswith("block") or name.startswith("block_tea")), None):
        raise UserError(f"{path} has '{other}', so it is another network than RIFE 4.2 to 4.6; give the {FILE} of version 4.6")
    with torch.device("meta"):
        network = IFNet()
    return place_all(network, weights, str(path), "network of RIFE 4.2 to 4.6")
