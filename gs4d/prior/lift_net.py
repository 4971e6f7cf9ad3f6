"""The network of ``lift``: what lies behind every pixel of a clip's frames, as corrections to the inflated silhouette.

A transformer over patches of the frames (Dosovitskiy et al. 2021). Every fourth block attends across all frames of the clip, as
L4GM does (Ren et al. 2024, section 3.2), without knowing their order: another moment shows what one frame hides.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..clip import Orbit

PRIOR_SLOPE = 12.0  # of the inflated solid's logit, per unit of depth in REACH
PRIOR_MOST = 3.0


@dataclass(frozen=True)
class LiftShape:
    """Sizes of the network."""

    side: int = 64
    layers: int = 32
    patch: int = 8
    width: int = 256
    depth: int = 8
    heads: int = 4
    refine: int = 48

    def record(self) -> dict[str, int]:
        """As JSON values."""
        return asdict(self)


class Block(nn.Module):
    """Attention and two layers, each added to what it sees after normalisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Tokens that have seen each other."""
        b, n, c = x.shape
        q, k, v = self.qkv(self.before(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        x = x + self.out(seen)
        return x + self.down(F.gelu(self.up(self.between(x))))


class LiftNet(nn.Module):
    """Pictures and their inflated silhouettes to occupancy and colours behind their pixels."""

    def __init__(self, shape: LiftShape) -> None:
        super().__init__()
        self.shape = s = shape
        across = s.side // s.patch
        self.stem = nn.Linear(5 * s.patch**2, s.width)
        self.place = nn.Parameter(torch.randn(across**2, s.width) * 0.02)
        self.camera = nn.Linear(3, s.width)
        self.blocks = nn.ModuleList(Block(s.width, s.heads) for _ in range(s.depth))
        self.norm = nn.LayerNorm(s.width)
        self.solid = nn.Linear(s.width, s.patch**2 * s.layers)
        self.paint = nn.Linear(s.width, 3 * (s.patch // 2) ** 2 * (s.layers // 2))
        self.mix = nn.Conv2d(s.layers + 5, s.refine, 3, padding=1)
        self.sharpen = nn.Conv2d(s.refine, s.layers, 3, padding=1)
        for layer in (self.solid, self.paint, self.sharpen):
            with torch.no_grad():  # at first, next to nothing is corrected
                for parameter in layer.parameters():
                    parameter.normal_(std=1e-3)

    def forward(
        self,
        pictures: Float[Tensor, "b t 4 h w"],
        thickness: Float[Tensor, "b t h w"],
        camera: Float[Tensor, "b 3"],
    ) -> tuple[Float[Tensor, "b t d h w"], Float[Tensor, "b t 3 d2 h2 w2"]]:
        """Logits of occupancy, and colours on a grid half as fine, about [0, 1].

        Args:
            pictures: premultiplied RGBA.
            thickness: half of the inflated solid's, in units of REACH.
            camera: ``camera_numbers`` of the source.
        """
        s = self.shape
        b, t = pictures.shape[:2]
        a = s.side // s.patch
        seen = torch.cat([pictures, thickness[:, :, None]], 2).flatten(0, 1)
        patches = F.unfold(seen - 0.25, s.patch, stride=s.patch).transpose(1, 2)
        x = self.stem(patches) + self.place
        x = (x.unflatten(0, (b, t)) + self.camera(camera)[:, None, None]).flatten(0, 1)
        for i, block in enumerate(self.blocks):
            rows = b if i % 4 == 3 else b * t
            x = block(x.reshape(rows, -1, s.width)).reshape(b * t, a * a, s.width)
        x = self.norm(x)
        rough = F.pixel_shuffle(self.solid(x).transpose(1, 2).unflatten(2, (a, a)), s.patch)
        finer = self.sharpen(F.gelu(self.mix(torch.cat([rough, seen.to(rough.dtype)], 1))))
        logits = (rough + finer).float().unflatten(0, (b, t)) + prior_logits(thickness, s.layers)
        paint = F.pixel_shuffle(self.paint(x).transpose(1, 2).unflatten(2, (a, a)), s.patch // 2).float()
        colors = paint.unflatten(1, (3, s.layers // 2)).unflatten(0, (b, t))
        return logits, colors + prior_colors(pictures)


def prior_logits(thickness: Float[Tensor, "b t h w"], layers: int) -> Float[Tensor, "b t d h w"]:
    """Logits of the inflated solid: positive within its half thickness of the plane through the origin."""
    depth = ((torch.arange(layers, device=thickness.device) + 0.5) * 2 / layers - 1).abs()
    inside = thickness[:, :, None] - depth[:, None, None]
    return (PRIOR_SLOPE * inside).clamp(-PRIOR_MOST, PRIOR_MOST)


def prior_colors(pictures: Float[Tensor, "b t 4 h w"]) -> Float[Tensor, "b t 3 1 h2 w2"]:
    """What a picture shows, on a grid half as fine, for every layer behind it."""
    small = F.avg_pool2d(pictures.flatten(0, 1), 2)
    return (small[:, :3] / small[:, 3:].clamp_min(1 / 255)).clamp(0, 1).unflatten(0, pictures.shape[:2])[:, :, :, None]


def camera_numbers(source: Orbit) -> list[float]:
    """What the network is told of the source camera: elevation, how much of the plane through the origin it sees, its angle."""
    half = math.tan(math.radians(source.fov / 2))
    return [source.elevation / 30, (source.radius * half - 0.68) * 10, (half - 0.45) * 4]
