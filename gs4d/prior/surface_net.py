"""The network that sees depth.

The visible surface of a clip's frames first, then what lies behind it, relative to it.

A U-net over the frames (Ronneberger et al. 2015) whose coarsest level attends across all frames of
the clip, as L4GM does (Ren et al. 2024, section 3.2). It predicts depth and normals of the visible
surface at the pictures' own resolution (the ray of every pixel is an input, as in DSINE, Bae and
Davison 2024), and occupancy and colours in layers behind that surface (the order of Flash3D,
Szymanowicz et al. 2024).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .lift_net import FINE, START, Across, Convolutions, prior_colors
from .solid import REACH

SPAN = 0.96  # world units behind the visible surface that the layers of occupancy cover
OUTSIDE = -8.0  # logit of what lies before the visible surface or beyond the layers
# channels of what it sees of a cell: its pixels, inflated thickness, its ray, and a constant
SEEN = 4 * FINE**2 + 4
OPENED = 8  # channels of features per pixel


@dataclass(frozen=True)
class SurfaceShape:
    """Sizes of the network."""

    side: int = 64
    """Cells along each side of a picture, which has FINE times as many pixels."""
    layers: int = 32
    """Layers of occupancy behind the visible surface; colours have half as many."""
    channels: tuple[int, ...] = (32, 64, 128, 192)
    """Channels at 1, 1/2, 1/4 and so on of ``side``, two levels or more; tokens have the last."""
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    """Residual blocks at each of them on the way down; on the way up there are as many, but for the
    coarsest."""
    across: int = 3
    """Layers of attention between all frames' tokens at the coarsest level."""
    heads: int = 4
    mlp: int = 0
    """Hidden width over width of the perceptron after each of them; 0: there is none."""

    def record(self) -> dict[str, object]:
        """The sizes as JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Surfaces:
    """What the network says of some frames: of clips (b, t), or one after the other.

    Attributes:
        depth: camera z of the visible surface minus that of the origin, in units of REACH, per
            pixel.
        normals: of the visible surface in camera axes (x right, y down, z forward), not normalised,
            per pixel.
        logits: of occupancy in layers behind the visible surface, layer k at (k + 1/2) / layers of
            SPAN, per cell.
        colors: of the same layers, half as many along every axis, about [0, 1].
    """

    depth: Float[Tensor, "*n p p"]
    normals: Float[Tensor, "*n 3 p p"]
    logits: Float[Tensor, "*n d s s"]
    colors: Float[Tensor, "*n 3 d2 s2 s2"]

    def flat(self) -> Surfaces:
        """The same of all clips' frames, one after the other."""
        return Surfaces(
            *(x.flatten(0, 1) for x in (self.depth, self.normals, self.logits, self.colors))
        )


class Mix(nn.Module):
    """A perceptron of two layers over every token, added to it, scaled as in :class:`Across`."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide, self.out = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)
        self.scale = nn.Parameter(torch.full((width,), START))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Tokens of the same size."""
        return x + self.scale * self.out(F.gelu(self.wide(self.norm(x))))


class SurfaceNet(nn.Module):
    """Pictures and their inflated silhouettes to the visible surface and what lies behind it."""

    def __init__(self, shape: SurfaceShape) -> None:
        super().__init__()
        self.shape = s = shape
        c = s.channels
        self.stem = nn.Conv2d(SEEN, c[0], 3, padding=1)
        self.look = nn.ModuleList(
            nn.Sequential(*(Convolutions(n, n) for _ in range(k)))
            for n, k in zip(c, s.blocks, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(c))
        self.place = nn.Parameter(torch.randn((s.side >> (len(c) - 1)) ** 2, c[-1]) * 0.02)
        self.camera = nn.Linear(3, c[-1])
        self.across = nn.ModuleList(Across(c[-1], s.heads) for _ in range(s.across))
        self.mix = nn.ModuleList(Mix(c[-1], s.mlp) for _ in range(s.across if s.mlp else 0))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(c))
        self.draw = nn.ModuleList(
            nn.Sequential(Convolutions(2 * n, n), *(Convolutions(n, n) for _ in range(k - 1)))
            for n, k in zip(c[:-1], s.blocks[:-1], strict=True)
        )
        self.open = nn.Sequential(
            nn.GroupNorm(8, c[0]), nn.SiLU(), nn.Conv2d(c[0], OPENED * FINE**2, 3, padding=1)
        )
        self.surface = nn.Sequential(
            nn.Conv2d(OPENED + 4, 12, 3, padding=1), nn.SiLU(), nn.Conv2d(12, 4, 3, padding=1)
        )
        self.solid = nn.Sequential(
            nn.GroupNorm(8, c[0]), nn.SiLU(), nn.Conv2d(c[0], s.layers, 3, padding=1)
        )
        self.paint = nn.Sequential(
            nn.GroupNorm(8, c[1]), nn.SiLU(), nn.Conv2d(c[1], 3 * s.layers // 2, 3, padding=1)
        )
        with torch.no_grad():  # at first, next to nothing is corrected
            for head in (self.surface, self.solid, self.paint):
                for parameter in head[-1].parameters():
                    parameter.mul_(0.1)

    def forward(
        self,
        pictures: Float[Tensor, "b t 4 p p"],
        thickness: Float[Tensor, "b t s s"],
        camera: Float[Tensor, "b 3"],
    ) -> Surfaces:
        """Predicts from a clip's frames.

        Args:
            pictures: premultiplied RGBA.
            thickness: half of the inflated silhouette's, in units of REACH.
            camera: ``lift_net.camera_numbers`` of the source.
        """
        s, (b, t) = self.shape, pictures.shape[:2]
        sharp = pictures.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        thick = thickness.flatten(0, 1)[:, None]
        line = torch.linspace(-1, 1, s.side, device=pictures.device)
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy")).expand(
            b * t, 2, s.side, s.side
        )
        x = torch.cat([F.pixel_unshuffle(sharp, FINE), 4 * thick, grid, torch.ones_like(thick)], 1)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        kept = []
        for look, down in zip(self.look, self.down, strict=False):
            kept.append(look(x))
            x = down(kept[-1])
        x = self.look[-1](x)
        side, width = x.shape[-1], x.shape[1]
        tokens = (x.flatten(2).transpose(1, 2) + self.place).reshape(b, -1, width) + self.camera(
            camera
        )[:, None]
        for level, across in enumerate(self.across):
            tokens = across(tokens)
            if self.mix:
                tokens = self.mix[level](tokens)
        x = tokens.reshape(b * t, -1, width).transpose(1, 2).unflatten(2, (side, side))
        half = x
        for level in reversed(range(len(kept))):
            x = F.interpolate(self.up[level](x), scale_factor=2.0, mode="nearest")
            x = self.draw[level](torch.cat([x, kept[level]], 1))
            half = x if level == 1 else half
        fine = torch.cat([F.pixel_shuffle(self.open(x), FINE), sharp], 1)
        surface = self.surface(fine).float()
        near = F.interpolate(-thick, scale_factor=float(FINE), mode="bilinear", align_corners=False)
        depth = near[:, 0] + surface[:, 0]
        logits = self.solid(x).float() + behind_logits(thick, s.layers)
        colors = self.paint(half).float().unflatten(1, (3, s.layers // 2))
        coarse = F.avg_pool2d(sharp, FINE).unflatten(0, (b, t))
        return Surfaces(
            depth.unflatten(0, (b, t)),
            surface[:, 1:].unflatten(0, (b, t))
            + torch.tensor([0.0, 0.0, -0.5], device=x.device)[:, None, None],
            logits.unflatten(0, (b, t)),
            colors.unflatten(0, (b, t)) + prior_colors(coarse, s.layers),
        )


def behind_logits(thickness: Float[Tensor, "b 1 s s"], layers: int) -> Float[Tensor, "b d s s"]:
    """Logits of the inflated solid in layers behind its surface.

    ``thickness`` is half of its own, in units of REACH.
    """
    behind = (torch.arange(layers, device=thickness.device) + 0.5) / layers * SPAN / REACH
    return (6.0 * (2 * thickness - behind[:, None, None])).clamp(-3, 3)


def cell_depth(
    depth: Float[Tensor, "n p p"], alpha: Float[Tensor, "n p p"]
) -> Float[Tensor, "n s s"]:
    """Depth of cells: the mean over their covered pixels, 0 where none is."""
    cover = (alpha > 0.5).to(depth.dtype)[:, None]
    total = F.avg_pool2d(cover, FINE)
    return (F.avg_pool2d(depth[:, None] * cover, FINE) / total.clamp_min(1e-6))[:, 0]


def anchored(
    layers: Float[Tensor, "n d s s"], depth: Float[Tensor, "n s s"], count: int
) -> Float[Tensor, "n z s s"]:
    """Resamples layers behind the visible surface to ``count`` even ones from -REACH to REACH.

    Args:
        layers: logits, as in :class:`Surfaces`.
        depth: of the visible surface, in units of REACH; gradients reach it.
        count: layers of the result.
    """
    n, d, h, w = layers.shape
    edge = layers.new_full((n, 1, h, w), OUTSIDE)
    padded = torch.cat([edge, layers, edge], 1)
    z = ((torch.arange(count, device=layers.device) + 0.5) * 2 / count - 1)[:, None, None]
    place = ((z - depth[:, None]) * (REACH / SPAN * d) + 0.5).clamp(0, d + 1 - 1e-4)
    low = place.floor()
    index = low.long()
    start, end = padded.gather(1, index), padded.gather(1, index + 1)
    return start + (place - low) * (end - start)
