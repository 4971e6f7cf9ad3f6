"""The network of ``mini``: a transformer over the patches of all views of all frames of a clip.

One view is the source, clean; the others are noisy. Views of one frame attend to each other
(MVDream, Shi et al. 2023), and patches to themselves at other times, in motion modules whose last
layer starts at zero (AnimateDiff, Guo et al. 2023; 4Diffusion, Zhang et al. 2024). Cameras are told
as Plücker rays. What a plainer prior rendered for a view is the mean around which pictures are
expected: the network's answer is scaled and added to the best linear guess (Karras et al. 2022,
section 5, with that mean in place of zero). Pictures are premultiplied RGBA in [-1, 1].
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..camera import Camera

NOTHING = -1.0  # every value of a picture that is not told
CHANNELS = 4
SPREAD = 0.35  # standard deviation of true pictures around what was rendered for them
LEVELS = 6.0  # of noise, log(s / a), to both sides of even: beyond they look alike


def pluecker(cameras: Camera) -> Float[Tensor, "b 6 h w"]:
    """Returns each pixel's ray direction, and the camera's place times it (cross product)."""
    T, K = cameras.T_camera_world, cameras.K
    y, x = torch.meshgrid(
        torch.arange(cameras.height) + 0.5, torch.arange(cameras.width) + 0.5, indexing="ij"
    )
    x, y = x.to(K), y.to(K)
    across = (x - K[:, 0, 2, None, None]) / K[:, 0, 0, None, None]
    down = (y - K[:, 1, 2, None, None]) / K[:, 1, 1, None, None]
    local = F.normalize(torch.stack([across, down, torch.ones_like(across)], 1), dim=1)
    directions = torch.einsum("bji,bjhw->bihw", T[:, :3, :3], local)
    places = cameras.centers[:, :, None, None].expand_as(directions)
    return torch.cat([torch.linalg.cross(places, directions, dim=1), directions], 1)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention along the last axis but one, in ``heads`` parts of the last."""
    shape = q.shape  # four axes are what torch's fast kernels want
    q, k, v = (
        values.reshape(-1, shape[-2], heads, shape[-1] // heads).transpose(1, 2)
        for values in (q, k, v)
    )
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(shape)


def changed(x: Float[Tensor, "*b c"], shift: Tensor, scale: Tensor) -> Float[Tensor, "*b c"]:
    """Normalised tokens, shifted and scaled."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class ViewBlock(nn.Module):
    """Attention across the views of a frame, then two layers.

    Noise and motion shift, scale and gate (Peebles and Xie 2023).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.table = nn.Parameter(torch.zeros(6, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(
        self, x: Float[Tensor, "b t p n c"], told: Float[Tensor, "b p d"]
    ) -> Float[Tensor, "b t p n c"]:
        """Tokens of ``p`` pictures per frame; ``told`` has six values per channel and picture."""
        m = (told.unflatten(-1, self.table.shape) + self.table)[:, None, :, None].unbind(-2)
        together = changed(x, m[0], m[1]).flatten(2, 3)
        q, k, v = self.qkv(together).chunk(3, -1)
        seen = self.out(attend(q, k, v, self.heads)).view(x.shape)
        x = x + (1 + m[2]) * seen
        return x + (1 + m[5]) * self.down(F.gelu(self.up(changed(x, m[3], m[4]))))


class MotionBlock(nn.Module):
    """Attention of every patch to itself at all times; adds nothing before it is trained."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "b t p n c"]) -> Float[Tensor, "b t p n c"]:
        """Tokens that have seen the other frames."""
        times = get_timestep_embedding(torch.arange(x.shape[1], device=x.device), x.shape[-1]).to(
            x.dtype
        )
        tokens = (self.before(x) + times[:, None, None]).permute(0, 2, 3, 1, 4)
        q, k, v = self.qkv(tokens).chunk(3, -1)
        seen = self.out(attend(q, k, v, self.heads))
        return x + seen.permute(0, 3, 1, 2, 4)


class MiniTransformer(ModelMixin, ConfigMixin):
    """Noisy views of a clip to clean ones."""

    @register_to_config
    def __init__(
        self,
        side: int = 64,
        patch: int = 8,
        width: int = 256,
        num_hidden_layers: int = 6,
        heads: int = 4,
        motion_every: int = 2,
        refine: int = 32,
    ) -> None:
        """A network that has learnt nothing: its answer is the best linear guess.

        Args:
            side: pixels of the pictures.
            patch: pixels of a token's side.
            width: channels of a token.
            num_hidden_layers: view blocks.
            heads: of attention.
            motion_every: view blocks per motion module.
            refine: channels of the convolutions that join patches.
        """
        super().__init__()
        if side % patch or width % heads or width % 2:
            raise ValueError(
                f"{side} pixels are no multiple of {patch}, or {width} channels none of {heads} "
                "and 2"
            )
        self.side, self.patch, self.width, self.motion_every = side, patch, width, motion_every
        self.stem = nn.Linear((2 * CHANNELS + 6) * patch**2, width)
        self.place = nn.Parameter(torch.randn((side // patch) ** 2, width) * 0.02)
        self.kind = nn.Parameter(torch.zeros(2, width))
        self.level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.motion = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.tell = nn.Linear(width, 6 * width)
        self.views = nn.ModuleList(ViewBlock(width, heads) for _ in range(num_hidden_layers))
        self.motions = nn.ModuleList(
            MotionBlock(width, heads) for _ in range(num_hidden_layers // motion_every)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CHANNELS * patch**2)
        self.mix = nn.Conv2d(3 * CHANNELS, refine, 3, padding=1)
        self.sharpen = nn.Conv2d(refine, CHANNELS, 3, padding=1)
        for layer in (self.tell, self.head, self.sharpen):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        noisy: Float[Tensor, "b v t 4 h w"],
        abar: Float[Tensor, "b"],
        rendered: Float[Tensor, "b v t 4 h w"],
        source: Float[Tensor, "b t 4 h w"],
        rays: Float[Tensor, "b p t 6 h w"],
        motion: Float[Tensor, "b"],
    ) -> Float[Tensor, "b v t 4 h w"]:
        """The clean views.

        Args:
            noisy: a z + s eps of clean views z.
            abar: a squared; s squared is the rest of 1.
            rendered: what a plainer prior shows for them; ``NOTHING`` when it is not told.
            source: the frames of the input view; ``NOTHING`` when they are not told.
            rays: ``pluecker`` of the source (first) and of the views.
            motion: ``motion_of`` the source; negative when it is not told.
        """
        across = noisy.shape[-1] // self.patch
        guess, rest = linear_guess(noisy, abar, rendered)
        seen = torch.cat([torch.cat([source[:, None]] * 2, 3), torch.cat([noisy, rendered], 3)], 1)
        pictures = torch.cat([seen, rays], 3).transpose(1, 2).to(self.stem.weight.dtype)
        patches = F.unfold(pictures.flatten(0, 2), self.patch, stride=self.patch).transpose(1, 2)
        kind = self.kind[[0] + [1] * noisy.shape[1]][:, None]
        x = self.stem(patches).unflatten(0, pictures.shape[:3]) + self.place + kind
        told = self._told(abar, motion, noisy.shape[1])
        for i, block in enumerate(self.views):
            x = block(x, told)
            if (i + 1) % self.motion_every == 0:
                x = self.motions[i // self.motion_every](x)
        tokens = self.head(self.norm(x[:, :, 1:])).flatten(0, 2).transpose(1, 2)
        rough = F.pixel_shuffle(tokens.unflatten(2, (across, across)), self.patch)
        beside = pictures[:, :, 1:, : 2 * CHANNELS].flatten(0, 2)
        finer = self.sharpen(F.gelu(self.mix(torch.cat([rough, beside], 1))))
        answer = (
            (rough + finer)
            .float()
            .unflatten(0, (*pictures.shape[:2], noisy.shape[1]))
            .transpose(1, 2)
        )
        return guess + rest * answer

    def _told(
        self, abar: Float[Tensor, "b"], motion: Float[Tensor, "b"], views: int
    ) -> Float[Tensor, "b p d"]:
        """What shifts and scales the tokens of the source, which has no noise, and of the views."""
        noise = ((1 - abar) / abar.clamp_min(1e-9)).clamp_min(1e-9).log() / 2
        levels = torch.stack([torch.full_like(noise, -LEVELS), noise.clamp(-LEVELS, LEVELS)], 1)
        dtype, width = self.stem.weight.dtype, self.width
        level = self.level(
            get_timestep_embedding(levels.flatten() * 100, width).to(dtype)
        ).unflatten(0, levels.shape)
        moves = self.motion(motion[:, None].to(dtype)) * (motion >= 0)[:, None]
        told = self.tell(F.silu(level + moves[:, None]))
        return told[:, [0] + [1] * views]


def linear_guess(
    noisy: Float[Tensor, "b v t 4 h w"],
    abar: Float[Tensor, "b"],
    rendered: Float[Tensor, "b v t 4 h w"],
) -> tuple[Float[Tensor, "b v t 4 h w"], Float[Tensor, "b 1 1 1 1 1"]]:
    """Returns mean and deviation of clean pictures whose prior is Normal(rendered, SPREAD^2)."""
    abar = abar.view(-1, 1, 1, 1, 1, 1)
    a, total = abar.sqrt(), abar * SPREAD**2 + 1 - abar
    return rendered + a * SPREAD**2 / total * (noisy - a * rendered), SPREAD * (
        (1 - abar) / total
    ).sqrt()


def motion_of(source: Float[Tensor, "b t 4 h w"]) -> Float[Tensor, "b"]:
    """Returns the mean change of pictures from frame to frame, over the share that is covered."""
    if source.shape[1] == 1:
        return source.new_zeros(len(source))
    change = source.diff(dim=1).abs().mean((1, 2, 3, 4))
    return change / ((source[:, :, 3] + 1) / 2).mean((1, 2, 3)).clamp_min(1e-3)
