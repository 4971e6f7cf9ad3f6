"""The network of ``lift``: what lies behind each pixel, as corrections to inflated silhouettes.

A U-net over the frames (Ronneberger et al. 2015) whose coarsest level attends across all frames of
the clip, as L4GM does (Ren et al. 2024, section 3.2), and knows no order: one moment shows what
another hides.
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
PRIOR_BLUR = 9  # cells of the colours' grid, odd
START = 0.1  # scale of what a block adds, before it learns
# pixels of a picture per cell, along both axes: shading and inner outlines are too fine for one
FINE = 2
SEEN = (
    7  # channels of what it sees of a cell as a whole: premultiplied RGBA, thickness, where it is
)


@dataclass(frozen=True)
class LiftShape:
    """Sizes of the network."""

    side: int = 64
    layers: int = 32
    channels: tuple[int, int, int] = (32, 64, 128)
    """Of the convolutions at full, half and quarter resolution."""
    depth: int = 5
    """Pairs of convolutions at quarter resolution on the way down; one at the others and on the way
    up."""
    width: int = 256
    """Of the tokens, at an eighth."""
    across: int = 2
    """Layers of attention between tokens."""
    heads: int = 4

    def record(self) -> dict[str, object]:
        """As JSON values."""
        return {**asdict(self), "channels": list(self.channels)}


class Convolutions(nn.Module):
    """Two convolutions, added to what they see."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, after), nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Features of the same size."""
        y = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(y)))


class Across(nn.Module):
    """Attention between the tokens of all frames, added to them.

    Queries and keys are normalised (Dehghani et al., Scaling Vision Transformers to 22 Billion
    Parameters, 2023), and what is added is scaled, per channel (Touvron et al., Going Deeper with
    Image Transformers, 2021): else, at the rates that the convolutions want, tokens grow until all
    are the same.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.full((width,), START))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Tokens that have seen each other."""
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (F.rms_norm(part, part.shape[-1:]) for part in (q, k))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return x + self.scale * self.out(seen)


class LiftNet(nn.Module):
    """Pictures and their inflated silhouettes to occupancy and colours behind their pixels."""

    def __init__(self, shape: LiftShape) -> None:
        super().__init__()
        self.shape = s = shape
        levels, wider = s.channels, (*s.channels[1:], s.width)
        self.stem = nn.Conv2d(SEEN, levels[0], 3, padding=1)
        self.detail = nn.Sequential(
            nn.PixelUnshuffle(FINE),
            nn.Conv2d(4 * FINE**2, levels[0], 3, padding=1),
            Convolutions(levels[0], levels[0]),
            nn.Conv2d(levels[0], levels[0], 1),
        )
        pairs = zip(levels, (1, 1, s.depth), strict=True)
        self.look = nn.ModuleList(
            nn.Sequential(*(Convolutions(c, c) for _ in range(n))) for c, n in pairs
        )
        self.down = nn.ModuleList(
            nn.Conv2d(c, d, 3, stride=2, padding=1) for c, d in zip(levels, wider, strict=True)
        )
        self.enter = nn.LayerNorm(s.width)
        self.place = nn.Parameter(torch.randn((s.side // 8) ** 2, s.width) * 0.02)
        self.camera = nn.Linear(3, s.width)
        self.across = nn.ModuleList(Across(s.width, s.heads) for _ in range(s.across))
        self.norm = nn.LayerNorm(s.width)
        self.rough = nn.Linear(s.width, 4 * s.layers)
        self.up = nn.ModuleList(
            nn.Conv2d(d, c, 3, padding=1) for c, d in zip(levels, wider, strict=True)
        )
        self.draw = nn.ModuleList(Convolutions(2 * c, c) for c in levels)
        self.solid = nn.Sequential(
            nn.GroupNorm(8, levels[0]), nn.SiLU(), nn.Conv2d(levels[0], s.layers, 3, padding=1)
        )
        self.paint = nn.Sequential(
            nn.GroupNorm(8, levels[1]),
            nn.SiLU(),
            nn.Conv2d(levels[1], 3 * s.layers // 2, 3, padding=1),
        )
        with torch.no_grad():  # at first, next to nothing is corrected
            for parameter in (*self.solid[-1].parameters(), *self.paint[-1].parameters()):
                parameter.mul_(0.1)
            for parameter in (*self.rough.parameters(), *self.detail[-1].parameters()):
                parameter.zero_()

    def forward(
        self,
        pictures: Float[Tensor, "b t 4 s s"],
        thickness: Float[Tensor, "b t h w"],
        camera: Float[Tensor, "b 3"],
    ) -> tuple[Float[Tensor, "b t d h w"], Float[Tensor, "b t 3 d2 h2 w2"]]:
        """Logits of occupancy, and colours on a grid half as fine, about [0, 1].

        Args:
            pictures: premultiplied RGBA, FINE times as fine as the solid.
            thickness: half of the inflated solid's, in units of REACH.
            camera: ``camera_numbers`` of the source.
        """
        s = self.shape
        b, t = pictures.shape[:2]
        line = torch.linspace(-1, 1, s.side, device=pictures.device)
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy")).expand(
            b * t, 2, s.side, s.side
        )
        sharp = pictures.flatten(0, 1)
        coarse = F.avg_pool2d(sharp, FINE)
        x = torch.cat([coarse, 4 * thickness.flatten(0, 1)[:, None], grid], 1)
        x, sharp = (y.contiguous(memory_format=torch.channels_last) for y in (x, sharp))
        x = self.stem(x) + self.detail(sharp)
        kept = []
        for look, down in zip(self.look, self.down, strict=True):
            kept.append(look(x))
            x = down(kept[-1])
        side = x.shape[-1]
        x = self.enter(x.flatten(2).transpose(1, 2)) + self.place
        x = x.reshape(b, -1, s.width) + self.camera(camera)[:, None]
        for across in self.across:
            x = across(x)
        x = self.norm(x.reshape(b * t, -1, s.width))
        # Tokens also say themselves, in four cells each, where the solid is: the way through the
        # convolutions is long, and they learn to do without it.
        rough = F.pixel_shuffle(self.rough(x).transpose(1, 2).unflatten(2, (side, side)), 2)
        rough = F.interpolate(
            rough.float(), (s.side, s.side), mode="bilinear", align_corners=False
        ).unflatten(0, (b, t))
        x = half = x.transpose(1, 2).unflatten(2, (side, side))
        for level in (2, 1, 0):
            x = self.up[level](F.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = self.draw[level](torch.cat([x, kept[level]], 1))
            half = x if level == 1 else half
        logits = (
            self.solid(x).float().unflatten(0, (b, t)) + rough + prior_logits(thickness, s.layers)
        )
        colors = self.paint(half).float().unflatten(1, (3, s.layers // 2)).unflatten(0, (b, t))
        return logits, colors + prior_colors(coarse.unflatten(0, (b, t)), s.layers)


def prior_logits(thickness: Float[Tensor, "b t h w"], layers: int) -> Float[Tensor, "b t d h w"]:
    """Logits of the inflated solid.

    Positive within its half thickness of the plane through the origin.
    """
    depth = ((torch.arange(layers, device=thickness.device) + 0.5) * 2 / layers - 1).abs()
    inside = thickness[:, :, None] - depth[:, None, None]
    return (PRIOR_SLOPE * inside).clamp(-PRIOR_MOST, PRIOR_MOST)


def prior_colors(
    pictures: Float[Tensor, "b t 4 h w"], layers: int
) -> Float[Tensor, "b t 3 d2 h2 w2"]:
    """What a picture shows, on a grid half as fine.

    As it is on the near side, without its detail on the far side.

    No face is on the back of a head: there, colours are means over ``PRIOR_BLUR`` cells around,
    twice.
    """
    near = F.avg_pool2d(pictures.flatten(0, 1), 2)
    far = near
    for _ in range(2):
        far = F.avg_pool2d(far, PRIOR_BLUR, 1, PRIOR_BLUR // 2)
    near, far = (
        (x[:, :3] / x[:, 3:].clamp_min(1 / 255)).clamp(0, 1)[:, :, None] for x in (near, far)
    )
    depth = (torch.arange(layers // 2, device=pictures.device) + 0.5) * 4 / layers - 1
    behind = (0.5 + 2 * depth).clamp(0, 1)[:, None, None]
    return torch.lerp(near, far, behind).unflatten(0, pictures.shape[:2])


def camera_numbers(source: Orbit) -> list[float]:
    """What the network is told of the source camera.

    Elevation, how much of the plane through the origin it sees, its angle.
    """
    half = math.tan(math.radians(source.fov / 2))
    return [source.elevation / 30, (source.radius * half - 0.68) * 10, (half - 0.45) * 4]
