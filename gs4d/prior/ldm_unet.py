"""The UNet of CompVis' latent diffusion, with the parts of MVDream, ImageDream and SyncDreamer.

diffusers' classes have no place for attention over several views, tokens of a picture, or volumes;
these files keep ldm's names for everything anyway. Every size is read off the tensors; only the
width of a head is not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from .sampling import attend_anchored

GROUPS = 32
HEAD = 64  # width of a head in the resampler, and in Stable Diffusion 2


@dataclass(frozen=True)
class UNetShape:
    """Sizes of a UNet.

    Attributes:
        inputs: channels of its input.
        outputs: channels of its output.
        width: channels of the first level.
        levels: channels of each level; every level but the last ends in halving the picture.
        blocks: residual blocks per level.
        attend: whether a level has attention.
        context: channels of a token.
        heads: number of heads; 0: one per 64 channels.
        linear: projections into attention are linear layers, not convolutions.
        camera: numbers that describe a camera; 0: none.
        picture_tokens: tokens of an input picture behind those of the text; 0: none.
        picture_width: channels of the features that they are made of.
        picture_layers: layers that make them.
        picture_heads: and their heads.
    """

    inputs: int
    outputs: int
    width: int
    levels: tuple[int, ...]
    blocks: int
    attend: tuple[bool, ...]
    context: int
    heads: int = 0
    linear: bool = False
    camera: int = 0
    picture_tokens: int = 0
    picture_width: int = 0
    picture_layers: int = 0
    picture_heads: int = 0


def shape_of(weights: Mapping[str, Tensor], heads: int, source: str) -> UNetShape:
    """The sizes that tensors of a UNet have.

    Raises:
        UserError: they are not a UNet's; ``source`` names the file.
    """
    try:
        levels: list[int] = []
        attend: list[bool] = []
        count, number = 0, 1
        while (
            f"input_blocks.{number}.0.in_layers.0.weight" in weights
            or f"input_blocks.{number}.0.op.weight" in weights
        ):
            if f"input_blocks.{number}.0.op.weight" in weights:
                number += 1
                continue
            first = number == 1 or f"input_blocks.{number - 1}.0.op.weight" in weights
            if first:
                levels.append(len(weights[f"input_blocks.{number}.0.out_layers.3.weight"]))
                attend.append(f"input_blocks.{number}.1.norm.weight" in weights)
            count += 1
            number += 1
        picture = "image_embed.latents" in weights
        return UNetShape(
            inputs=weights["input_blocks.0.0.weight"].shape[1],
            outputs=len(weights["out.2.weight"]),
            width=len(weights["input_blocks.0.0.weight"]),
            levels=tuple(levels),
            blocks=count // len(levels),
            attend=tuple(attend),
            context=weights["middle_block.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
            heads=heads,
            linear=weights["middle_block.1.proj_in.weight"].ndim == 2,
            camera=weights["camera_embed.0.weight"].shape[1]
            if "camera_embed.0.weight" in weights
            else 0,
            picture_tokens=weights["image_embed.latents"].shape[1] if picture else 0,
            picture_width=weights["image_embed.proj_in.weight"].shape[1] if picture else 0,
            picture_layers=sum(
                name.startswith("image_embed.") and name.endswith("to_q.weight") for name in weights
            ),
            picture_heads=len(weights["image_embed.layers.0.0.to_q.weight"]) // HEAD
            if picture
            else 0,
        )
    except (KeyError, IndexError, ZeroDivisionError, AttributeError) as error:
        raise UserError(
            f"{source} has no UNet as this family's ({error!r}); it belongs to another network"
        ) from error


class ResBlock(nn.Module):
    """Two convolutions around the time step, with a skip."""

    def __init__(self, channels: int, out: int, time: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b t"]
    ) -> Float[Tensor, "b d h w"]:
        return self.skip_connection(x) + self.out_layers(
            self.in_layers(x) + self.emb_layers(time)[..., None, None]
        )


class Resize(nn.Module):
    """Halves the picture (under the name ``op``) or doubles it (``conv``)."""

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        if up:
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        else:
            self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c y x"]:
        return (
            self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")) if self.up else self.op(x)
        )


class Attention(nn.Module):
    """Attention to other tokens; a picture's come last and have keys and values of their own."""

    def __init__(self, channels: int, context: int, heads: int, picture_tokens: int = 0) -> None:
        super().__init__()
        self.heads, self.picture_tokens = heads, picture_tokens
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k, self.to_v = (nn.Linear(context, channels, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(channels, channels))
        if picture_tokens:
            self.to_k_ip, self.to_v_ip = (
                nn.Linear(context, channels, bias=False) for _ in range(2)
            )

    def forward(
        self, x: Float[Tensor, "b n c"], context: Float[Tensor, "b m k"]
    ) -> Float[Tensor, "b n c"]:
        q = self.to_q(x)
        if not self.picture_tokens:
            return self.to_out(heads_attend(q, self.to_k(context), self.to_v(context), self.heads))
        text, picture = context[:, : -self.picture_tokens], context[:, -self.picture_tokens :]
        found = heads_attend(q, self.to_k(text), self.to_v(text), self.heads)
        return self.to_out(
            found + heads_attend(q, self.to_k_ip(picture), self.to_v_ip(picture), self.heads)
        )


def heads_attend(
    q: Float[Tensor, "b n c"], k: Float[Tensor, "b m c"], v: Float[Tensor, "b m c"], heads: int
) -> Float[Tensor, "b n c"]:
    """Attention of several heads that lie beside each other in the channels."""
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class GatedGelu(nn.Module):
    """A linear layer, half of whose output opens or closes the other half."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * out)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n d"]:
        x, gate = self.proj(x).chunk(2, -1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    """Two layers per token."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            GatedGelu(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Attention within the pictures of a group, to the context, and two layers per token."""

    def __init__(self, channels: int, shape: UNetShape) -> None:
        super().__init__()
        heads = shape.heads or channels // HEAD
        self.attn1 = Attention(channels, channels, heads)
        self.ff = FeedForward(channels)
        self.attn2 = Attention(channels, shape.context, heads, shape.picture_tokens)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self, x: Float[Tensor, "b n c"], context: Float[Tensor, "b m k"], views: int, frames: int
    ) -> Float[Tensor, "b n c"]:
        seen = self.norm1(x).reshape(-1, views * x.shape[1], x.shape[2])
        x = x + attend_anchored(self.attn1, seen, seen, frames).reshape(x.shape)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block over the pixels of pictures."""

    def __init__(self, channels: int, shape: UNetShape) -> None:
        super().__init__()
        self.linear = shape.linear
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in, self.proj_out = (
            nn.Linear(channels, channels) if shape.linear else nn.Conv2d(channels, channels, 1)
            for _ in range(2)
        )
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, shape)])

    def forward(
        self, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b m k"], views: int, frames: int
    ) -> Float[Tensor, "b c h w"]:
        y = self.norm(x)
        y = (
            self.proj_in(y.flatten(2).transpose(1, 2))
            if self.linear
            else self.proj_in(y).flatten(2).transpose(1, 2)
        )
        y = self.transformer_blocks[0](y, context, views, frames)
        y = (
            self.proj_out(y).transpose(1, 2)
            if self.linear
            else self.proj_out(y.transpose(1, 2).unflatten(2, x.shape[2:]))
        )
        return x + y.reshape(x.shape)


class PerceiverAttention(nn.Module):
    """Attention of learned queries to features and to themselves."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, heads * HEAD, bias=False)
        self.to_kv = nn.Linear(channels, 2 * heads * HEAD, bias=False)
        self.to_out = nn.Linear(heads * HEAD, channels, bias=False)

    def forward(
        self, features: Float[Tensor, "b m c"], queries: Float[Tensor, "b n c"]
    ) -> Float[Tensor, "b n c"]:
        queries = self.norm2(queries)
        k, v = self.to_kv(torch.cat([self.norm1(features), queries], 1)).chunk(2, -1)
        return self.to_out(heads_attend(self.to_q(queries), k, v, self.heads))


class Resampler(nn.Module):
    """Makes a few tokens of a picture's features (the perceiver of Flamingo and IP-Adapter)."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        c = shape.context
        self.latents = nn.Parameter(torch.empty(1, shape.picture_tokens, c))
        self.proj_in, self.proj_out = nn.Linear(shape.picture_width, c), nn.Linear(c, c)
        self.norm_out = nn.LayerNorm(c)
        feed = [
            nn.Sequential(
                nn.LayerNorm(c),
                nn.Linear(c, 4 * c, bias=False),
                nn.GELU(),
                nn.Linear(4 * c, c, bias=False),
            )
            for _ in range(shape.picture_layers)
        ]
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(c, shape.picture_heads), net]) for net in feed
        )

    def forward(self, features: Float[Tensor, "b m k"]) -> Float[Tensor, "b n c"]:
        features = self.proj_in(features)
        tokens = self.latents.expand(len(features), -1, -1)
        for attend, feed in self.layers:  # type: ignore[misc]
            tokens = tokens + attend(features, tokens)
            tokens = tokens + feed(tokens)
        return self.norm_out(self.proj_out(tokens))


class UNet(nn.Module):
    """Predicts the noise in latents."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        time = 4 * shape.width
        self.time_embed = nn.Sequential(
            nn.Linear(shape.width, time), nn.SiLU(), nn.Linear(time, time)
        )
        if shape.camera:
            self.camera_embed = nn.Sequential(
                nn.Linear(shape.camera, time), nn.SiLU(), nn.Linear(time, time)
            )
        if shape.picture_tokens:
            self.image_embed = Resampler(shape)
        channels, kept = shape.width, [shape.width]
        self.input_blocks = nn.ModuleList(
            [nn.ModuleList([nn.Conv2d(shape.inputs, channels, 3, padding=1)])]
        )
        for level, (out, attend) in enumerate(zip(shape.levels, shape.attend, strict=True)):
            for _ in range(shape.blocks):
                self.input_blocks.append(self._block(channels, out, attend))
                channels = out
                kept.append(channels)
            if level + 1 < len(shape.levels):
                self.input_blocks.append(nn.ModuleList([Resize(channels, up=False)]))
                kept.append(channels)
        self.middle_block = self._block(channels, channels, True).append(
            ResBlock(channels, channels, time)
        )
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(shape.levels))):
            for number in range(shape.blocks + 1):
                block = self._block(channels + kept.pop(), shape.levels[level], shape.attend[level])
                channels = shape.levels[level]
                if level and number == shape.blocks:
                    block.append(Resize(channels, up=True))
                self.output_blocks.append(block)
        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, channels),
            nn.SiLU(),
            nn.Conv2d(channels, shape.outputs, 3, padding=1),
        )

    def _block(self, channels: int, out: int, attend: bool) -> nn.ModuleList:
        layers: list[nn.Module] = [ResBlock(channels, out, 4 * self.shape.width)]
        return nn.ModuleList([*layers, SpatialTransformer(out, self.shape)] if attend else layers)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Int[Tensor, "b"],
        context: Float[Tensor, "b m k"],
        camera: Float[Tensor, "b n"] | None = None,
        views: int = 1,
        frames: int = 1,
        extra: Any = None,
    ) -> Float[Tensor, "b d h w"]:
        """The noise in ``x``.

        Args:
            x: latents; the views of a frame lie beside each other, and the frames of a clip.
            t: their time step.
            context: tokens, those of pictures last.
            camera: what describes it.
            views: this many attend to each other.
            frames: this many frames, the first of which the others look at too; 1: none looks at
                another.
            extra: for :meth:`conditioned`.
        """
        time = self.time_embed(sinusoid(t, self.shape.width).to(x.dtype))
        if camera is not None:
            time = time + self.camera_embed(camera)

        def run(block: Any, h: Tensor) -> Tensor:
            for layer in block:
                if isinstance(layer, ResBlock):
                    h = layer(h, time)
                else:
                    h = (
                        layer(h, context, views, frames)
                        if isinstance(layer, SpatialTransformer)
                        else layer(h)
                    )
            return h

        kept = []
        for block in self.input_blocks:
            x = run(block, x)
            kept.append(x)
        x = self.conditioned(-1, run(self.middle_block, x), extra)
        for number, block in enumerate(self.output_blocks):
            x = self.conditioned(number, run(block, torch.cat([x, kept.pop()], 1)), extra)
        return self.out(x)

    def conditioned(
        self, place: int, x: Float[Tensor, "b c h w"], extra: Any
    ) -> Float[Tensor, "b c h w"]:
        """What families add behind the middle (place -1) and behind every block on the way up.

        Here nothing.
        """
        del place, extra
        return x


def sinusoid(t: Int[Tensor, "b"], channels: int) -> Float[Tensor, "b c"]:
    """Cosines, then sines of the time step at falling frequencies."""
    from diffusers.models.embeddings import get_timestep_embedding

    return get_timestep_embedding(t, channels, flip_sin_to_cos=True, downscale_freq_shift=0)
