"""The networks of RIFE's versions 4.2 to 4.26, told apart by the names and shapes of their tensors.

Each is a chain of blocks from coarse to fine. A block sees both frames as the flow so far warps
them, and corrects the flow and the share of the first frame. What differs between versions:

- 4.2 to 4.4: plain convolutions, and an answer at half the resolution of the block's input.
- 4.5: residual convolutions, and an answer at full resolution by a pixel shuffle (20 channels);
  4.6: the same with 24.
- 4.7 on: an encoder whose features of both frames are warped along; a block's mask replaces the
  one before instead of correcting it. The encoder is two layers up to 4.9, four from 4.10 on.
- 4.21 to 4.23, 4.25 and 4.26: blocks hand features on (52 channels); the last two have five blocks.

The lite and heavy versions differ in widths and groups alone, except that 4.25.lite has coarser
scales. Architecture facts from the published models (hzwer/Practical-RIFE, MIT).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .flow import sample

SLOPE = 0.2  # of the leaky ReLUs
LAYERS = 8  # convolutions in the middle of a block
SCALES = {4: (8, 4, 2, 1), 5: (16, 8, 4, 2, 1)}  # by number of blocks
# of 4.25.lite, known by the width of its last block
LITE_SCALES, LITE_WIDTH = ((32, 16, 8, 4, 1), 24)
MOST_BLOCKS, MOST_WIDTH = 5, 1024  # no published network has more; a file may say anything


@dataclass(frozen=True)
class Layout:
    """Sizes of a network.

    Attributes:
        widths: channels of each block.
        scales: by which each block shrinks its input.
        outputs: channels of a block's answer: 4 of flow, 1 of mask, and what it hands on.
        plain: whether the convolutions are plain ones, without residuals (4.2 to 4.4).
        groups: of the residual convolutions.
        encoder: hidden and output channels of the encoder; None: there is none (4.2 to 4.6).
        encoder_names: names of its layers, the last of which doubles the resolution.
        carried: channels of features that a block hands to the next.
    """

    widths: tuple[int, ...]
    scales: tuple[int, ...]
    outputs: int
    plain: bool
    groups: int
    encoder: tuple[int, int] | None
    encoder_names: tuple[str, ...]
    carried: int

    @property
    def features(self) -> int:
        """Channels of a frame's features."""
        return self.encoder[1] if self.encoder else 0

    @property
    def multiple(self) -> int:
        """Pixels that the sides of a frame must be a multiple of: a block quarters its input."""
        return 4 * self.scales[0]


def layout_of(shapes: Mapping[str, torch.Size]) -> Layout:
    """The sizes of the network that a file's tensors belong to.

    Args:
        shapes: of the tensors, by name without "module.".

    Raises:
        KeyError, IndexError, ValueError: they belong to another network.
    """
    count = next(i for i in range(MOST_BLOCKS + 1) if f"block{i}.conv0.1.0.weight" not in shapes)
    widths = tuple(shapes[f"block{i}.conv0.1.0.weight"][0] for i in range(count))
    if count not in SCALES or "block0.conv0.0.1.weight" in shapes or max(widths) > MOST_WIDTH:
        raise ValueError(f"{count} blocks of widths {widths}")
    plain = "block0.convblock.0.0.weight" in shapes
    last = shapes["block0.lastconv.weight" if plain else "block0.lastconv.0.weight"]
    outputs = last[1] if plain else last[1] // 4
    groups = 1 if plain else widths[0] // shapes["block0.convblock.0.conv.weight"][1]
    by_name, by_number = (f"encode.{name}.weight" for name in ("cnn0", "0"))
    encoder, names = None, ()
    if by_name in shapes:
        names = tuple(f"cnn{k}" for k in range(4))
    elif by_number in shapes:
        names = ("0", "1") if "encode.1.weight" in shapes else ("0", "2", "4", "6")
    if names:
        hidden = shapes[f"encode.{names[0]}.weight"][0]
        encoder = (hidden, shapes[f"encode.{names[-1]}.weight"][1])
    seen = 12 + 2 * (encoder[1] if encoder else 0)
    carried = shapes["block1.conv0.0.0.weight"][1] - seen
    if carried not in (0, outputs - 5):
        raise ValueError(f"blocks of {carried + seen} input and {outputs} output channels")
    scales = LITE_SCALES if count == 5 and widths[-1] == LITE_WIDTH else SCALES[count]
    return Layout(widths, scales, outputs, plain, groups, encoder, names, carried)


class Residual(nn.Module):
    """A convolution that is added to its input, channel by channel as far as ``beta`` says."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x) * self.beta + x, SLOPE)


def _activated(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(SLOPE))


class Block(nn.Module):
    """Motion and mixing at one scale."""

    def __init__(self, channels: int, width: int, layout: Layout) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(
            _activated(channels, width // 2, 2), _activated(width // 2, width, 2)
        )
        self.plain = layout.plain
        self.convblock = nn.Sequential(
            *(
                _activated(width, width, 1) if self.plain else Residual(width, layout.groups)
                for _ in range(LAYERS)
            )
        )
        self.lastconv: nn.Module
        if self.plain:
            self.lastconv = nn.ConvTranspose2d(width, layout.outputs, 4, 2, 1)
        else:
            up = nn.ConvTranspose2d(width, 4 * layout.outputs, 4, 2, 1)
            self.lastconv = nn.Sequential(up, nn.PixelShuffle(2))

    def forward(
        self, seen: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 4 h w"] | None, scale: int
    ) -> tuple[Float[Tensor, "b 4 h w"], Float[Tensor, "b k h w"]]:
        """The correction of the flow, in pixels, and the rest: the mask first."""
        if flow is not None:
            seen = torch.cat([seen, flow / scale], 1)
        seen = _scaled(seen, 1 / scale)
        found = self.lastconv(self.convblock(self.conv0(seen)))
        up = scale * (2 if self.plain else 1)
        found = _scaled(found, up)
        return found[:, :4] * up, found[:, 4:]


def _scaled(x: Float[Tensor, "b c h w"], factor: int | float) -> Float[Tensor, "b c i j"]:
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


class Encoder(nn.Module):
    """Features of a frame, as many pixels as it has."""

    def __init__(self, hidden: int, out: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        for k, name in enumerate(names):
            if k == len(names) - 1:
                layer: nn.Module = nn.ConvTranspose2d(hidden, out, 4, 2, 1)
            else:
                layer = nn.Conv2d(hidden if k else 3, hidden, 3, 1 if k else 2, 1)
            self.add_module(name, layer)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f h w"]:
        for k, name in enumerate(self.names):
            if k and len(self.names) > 2:  # the two layers of 4.7 to 4.9 follow without one
                x = F.leaky_relu(x, SLOPE)
            x = self.get_submodule(name)(x)
        return x


class IFNet(nn.Module):
    """The chain of blocks."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        if layout.encoder:
            self.encode = Encoder(*layout.encoder, layout.encoder_names)
        for i, width in enumerate(layout.widths):
            channels = (12 + layout.carried if i else 7) + 2 * layout.features
            self.add_module(f"block{i}", Block(channels, width, layout))

    def forward(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 4 h w"], Float[Tensor, "b 1 h w"]]:
        """Returns the middle's places in ``a`` and ``b`` (x y x y, pixels), and the share of ``a``.

        Args:
            a: the frame before, in [0, 1]; its sides are a multiple of ``layout.multiple``.
            b: the frame after.
        """
        layout = self.layout
        time = torch.full_like(a[:, :1], 0.5)
        both = torch.cat([a, b])
        frames = torch.cat([both, self.encode(both)], 1) if layout.encoder else both
        flow, mask, handed = None, a[:, :0], a[:, :0]
        for i, scale in enumerate(layout.scales):
            block = self.get_submodule(f"block{i}")
            moved = frames if flow is None else sample(frames, torch.cat(flow.split(2, 1)))
            (x, y), (f, g) = moved[:, :3].chunk(2), moved[:, 3:].chunk(2)
            seen = torch.cat([x, y, f, g, time, mask, handed], 1)
            more, rest = block(seen, flow, scale)
            flow = more if flow is None else flow + more
            corrected = bool(i) and not layout.encoder
            mask = mask + rest[:, :1] if corrected else rest[:, :1]
            handed = rest[:, 1:] if layout.carried else handed
        assert flow is not None
        return flow, mask.sigmoid()
