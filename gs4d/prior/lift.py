"""The prior that was trained: a network that corrects the inflated solid of every frame of a clip, then draws it.

Like Splatter Image (Szymanowicz et al. 2024) it turns pixels into Gaussians, like L4GM (Ren et al. 2024) it looks at all frames
of a clip at once; unlike both it only predicts what the silhouette leaves open: near and far depth, the far side's colours, and
how solid each is. Views agree with each other because they are drawn from one set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, scaled_dot_product_attention, silu

from ..clip import premultiply
from ..errors import require_ranges
from .inflate import InflateOptions, inflate
from .shell import Shell

PATCH = 2
INPUTS = 10  # premultiplied RGB, alpha, half thickness, far colours, x, y
OUTPUTS = 8  # depth of the near and the far side, far colours, opacity of the near side, the far side and the walls
THICKNESS_UNIT = 8.0  # pixels at the working size


@dataclass(frozen=True)
class LiftOptions:
    """Shape of the network."""

    size: int = 64
    """Pixels of its square pictures."""
    widths: tuple[int, ...] = (64, 128, 256)
    """Channels per level; each level halves the picture, the first is at half the size."""
    blocks: int = 2
    """Residual blocks per level on each way."""
    heads: int = 4
    """Of the attention over space and over time, at the lowest level."""

    def __post_init__(self) -> None:
        require_ranges("prior.lift", self, size=(16, 512), widths=(8, 2048), blocks=(1, 16), heads=(1, 64))


class ResBlock(nn.Module):
    """Two convolutions with group normalisation around a skip."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(8, channels), nn.GroupNorm(8, out)])
        last = nn.Conv2d(out, out, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.convs = nn.ModuleList([nn.Conv2d(channels, out, 3, padding=1), last])
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        y = self.convs[0](silu(self.norms[0](x)))
        return self.skip(x) + self.convs[1](silu(self.norms[1](y)))


class Attention(nn.Module):
    """Self-attention over the tokens of a sequence, with a zero-initialised way out: at first it changes nothing."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "s n c"]) -> Float[Tensor, "s n c"]:
        s, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).view(s, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return x + self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(s, n, c))


class Lift(nn.Module):
    """A U-Net over pixels with attention over space and time at its lowest level."""

    def __init__(self, options: LiftOptions) -> None:
        super().__init__()
        self.options = options
        w = options.widths
        self.stem = nn.Conv2d(INPUTS * PATCH**2, w[0], 3, padding=1)
        down, up = [], []
        skips = [w[0]]
        channels = w[0]
        for level, width in enumerate(w):
            for _ in range(options.blocks):
                down.append(ResBlock(channels, width))
                channels = width
                skips.append(channels)
            if level + 1 < len(w):
                down.append(nn.Conv2d(channels, channels, 3, 2, 1))
                skips.append(channels)
        self.space, self.time = Attention(channels, options.heads), Attention(channels, options.heads)
        self.middle = ResBlock(channels, channels)
        for level, width in reversed(list(enumerate(w))):
            for _ in range(options.blocks + 1):
                up.append(ResBlock(channels + skips.pop(), width))
                channels = width
            if level:
                up.append(nn.Upsample(scale_factor=2.0))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.head = nn.Conv2d(channels, OUTPUTS * PATCH**2, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "b i h w"], clips: int) -> Float[Tensor, "b o h w"]:
        """Raw outputs of ``clips`` clips of equal length, one after the other along ``b``."""
        x = self.stem(pixel_unshuffle(x, PATCH))
        kept = [x]
        for block in self.down:
            x = block(x)
            kept.append(x)
        b, c, h, w = x.shape
        tokens = self.space(x.flatten(2).transpose(1, 2))
        if b > clips:
            frames = b // clips
            tokens = tokens.view(clips, frames, h * w, c).transpose(1, 2).reshape(clips * h * w, frames, c)
            tokens = self.time(tokens).view(clips, h * w, frames, c).transpose(1, 2).reshape(b, h * w, c)
        x = self.middle(tokens.transpose(1, 2).reshape(b, c, h, w))
        for block in self.up:
            x = block(x if isinstance(block, nn.Upsample) else torch.cat([x, kept.pop()], 1))
        return pixel_shuffle(self.head(x), PATCH)

    def lift(self, images: UInt8[Tensor, "b h w 4"], clips: int = 1) -> Shell:
        """The corrected solids of ``clips`` clips of equal length, one after the other along ``b``; differentiable."""
        pictures = premultiply(images).permute(0, 3, 1, 2)
        return self.correct(inflate(images, InflateOptions()), pictures, clips)

    def correct(self, shell: Shell, pictures: Float[Tensor, "b 4 h w"], clips: int) -> Shell:
        """As :meth:`lift`, from premultiplied pictures and the solids over them."""
        raw = self(features(shell, pictures), clips).float()
        near, far = (shell.depth + THICKNESS_UNIT * raw[:, :2]).unbind(1)
        colors = torch.stack([shell.colors[:, 0], (shell.colors[:, 1] + raw[:, 2:5]).clamp(0, 1)], 1)
        depth = torch.stack([near, torch.maximum(far, near)], 1)
        return Shell(shell.mask, depth, colors, shell.logit_opacities + 4 * raw[:, 5:8])


def features(shell: Shell, pictures: Float[Tensor, "b 4 h w"]) -> Float[Tensor, "b 10 h w"]:
    """What the network sees: the picture, the inflated solid, and where on the picture it is."""
    b, _, h, w = pictures.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    inside = shell.mask[:, None]
    thick = shell.depth[:, 1:] / THICKNESS_UNIT
    return torch.cat([pictures, thick, shell.colors[:, 1] * inside, torch.stack([x, y]).expand(b, 2, h, w)], 1)
