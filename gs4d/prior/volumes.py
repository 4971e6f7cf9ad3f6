"""SyncDreamer's volumes (Liu et al. 2024).

What all noisy views say of the space around the object, as each UNet sees it.

The names of the layers are those of the authors' checkpoint. Sizes are read off its tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .ldm_unet import UNet, UNetShape

GROUPS = 8
CELLS = 32  # of the spatial volume, along each side
HALF = 0.5  # its half extent, in world units of SyncDreamer, whose cameras stand at distance 1.5
# the frustum: its middle, half its length (sqrt(3) / 2), planes
DISTANCE, HALF_DEPTH, DEPTHS = (1.5, 0.86603, 48)
VIEW = 4  # numbers that describe a view
HEADS = 4  # of attention along the depth


class ViewBlock(nn.Module):
    """Two convolutions over a noisy view, around its camera and the time step."""

    def __init__(self, channels: int, time: int) -> None:
        super().__init__()
        self.time_embed, self.view_embed = (
            nn.Conv2d(time, channels, 1),
            nn.Conv2d(VIEW, channels, 1),
        )
        layers = [
            (nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
            for _ in range(2)
        ]
        self.conv = nn.Sequential(*layers[0], *layers[1])

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, "b k"], v: Float[Tensor, "b 4"]
    ) -> Tensor:
        return x + self.conv(
            x + self.time_embed(t[..., None, None]) + self.view_embed(v[..., None, None])
        )


class ViewEncoder(nn.Module):
    """Features of a noisy view."""

    def __init__(self, latents: int, channels: int, out: int, time: int) -> None:
        super().__init__()
        self.init_conv = nn.Conv2d(latents, channels, 3, padding=1)
        self.out_conv0, self.out_conv1, self.out_conv2 = (
            ViewBlock(channels, time) for _ in range(3)
        )
        self.final_out = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, "b k"], v: Float[Tensor, "b 4"]
    ) -> Tensor:
        x = self.init_conv(x)
        for block in (self.out_conv0, self.out_conv1, self.out_conv2):
            x = block(x, t, v)
        return self.final_out(x)


class VolumeBlock(nn.Module):
    """A convolution over a volume, around the time step and, if ``view``, a camera.

    It may halve or double the volume.
    """

    def __init__(
        self, channels: int, out: int, time: int, *, view: bool, step: int = 1, up: bool = False
    ) -> None:
        super().__init__()
        self.up = up
        self.t_conv = nn.Conv3d(time, channels, 1)
        if view:
            self.v_conv = nn.Conv3d(VIEW, channels, 1)
        if up:
            self.norm = nn.GroupNorm(GROUPS, channels)
            self.conv: nn.Module = nn.ConvTranspose3d(
                channels, out, 3, padding=1, output_padding=1, stride=2
            )
        else:
            self.bn = nn.GroupNorm(GROUPS, channels)
            self.conv = nn.Conv3d(channels, out, 3, padding=1, stride=step)

    def forward(
        self, x: Tensor, t: Float[Tensor, "b k"], v: Float[Tensor, "b 4"] | None = None
    ) -> Tensor:
        x = x + self.t_conv(t[..., None, None, None])
        if v is not None:
            x = x + self.v_conv(v[..., None, None, None])
        return self.conv(F.silu(self.norm(x) if self.up else self.bn(x)))


class SpaceNet(nn.Module):
    """A U-Net over the volume that all views make together."""

    def __init__(self, channels: int, dims: tuple[int, ...], time: int) -> None:
        super().__init__()

        def block(i: int, j: int, step: int = 1, up: bool = False) -> VolumeBlock:
            return VolumeBlock(dims[i], dims[j], time, view=False, step=step, up=up)

        self.init_conv = nn.Conv3d(channels, dims[0], 3, padding=1)
        self.conv0 = block(0, 0)
        self.conv1, self.conv2_0, self.conv2_1 = block(0, 1, 2), block(1, 1), block(1, 1)
        self.conv3, self.conv4_0, self.conv4_1 = block(1, 2, 2), block(2, 2), block(2, 2)
        self.conv5, self.conv6_0, self.conv6_1 = block(2, 3, 2), block(3, 3), block(3, 3)
        self.conv7, self.conv8, self.conv9 = (
            block(3, 2, up=True),
            block(2, 1, up=True),
            block(1, 0, up=True),
        )

    def forward(
        self, x: Float[Tensor, "b c n n n"], t: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b d n n n"]:
        a = self.conv0(self.init_conv(x), t)
        b = self.conv2_1(self.conv2_0(self.conv1(a, t), t), t)
        c = self.conv4_1(self.conv4_0(self.conv3(b, t), t), t)
        d = self.conv6_1(self.conv6_0(self.conv5(c, t), t), t)
        c = c + self.conv7(d, t)
        b = b + self.conv8(c, t)
        return a + self.conv9(b, t)


class FrustumNet(nn.Module):
    """A U-Net over what one view sees of that volume."""

    def __init__(self, channels: int, dims: tuple[int, ...], time: int) -> None:
        super().__init__()

        def block(i: int, j: int, step: int = 1, up: bool = False) -> VolumeBlock:
            return VolumeBlock(dims[i], dims[j], time, view=True, step=step, up=up)

        self.conv0 = nn.Conv3d(channels, dims[0], 3, padding=1)
        self.conv1, self.conv2 = block(0, 1, 2), block(1, 1)
        self.conv3, self.conv4 = block(1, 2, 2), block(2, 2)
        self.conv5, self.conv6 = block(2, 3, 2), block(3, 3)
        self.up0, self.up1, self.up2 = (
            block(3, 2, up=True),
            block(2, 1, up=True),
            block(1, 0, up=True),
        )

    def forward(
        self, x: Float[Tensor, "b c d h w"], t: Float[Tensor, "b k"], v: Float[Tensor, "b 4"]
    ) -> dict[int, Tensor]:
        """Volumes by their width in cells."""
        a = self.conv0(x)
        b = self.conv2(self.conv1(a, t, v), t, v)
        c = self.conv4(self.conv3(b, t, v), t, v)
        d = self.conv6(self.conv5(c, t, v), t, v)
        c = c + self.up0(d, t, v)
        b = b + self.up1(c, t, v)
        a = a + self.up2(b, t, v)
        return {y.shape[-1]: y for y in (a, b, c, d)}


def frustum_widths(shapes: Mapping[str, torch.Size]) -> tuple[int, ...]:
    """Channels of the frustum volumes, from the widest, by the shapes of a checkpoint's tensors."""
    return tuple(
        shapes[f"frustum_volume_feats.{name}.weight"][0]
        for name in ("conv0", "conv1.conv", "conv3.conv", "conv5.conv")
    )


class SpatialVolume(nn.Module):
    """From noisy views to the volumes that their UNets look into."""

    def __init__(self, shapes: Mapping[str, torch.Size], views: int) -> None:
        """Sizes by the names of the checkpoint's tensors."""
        super().__init__()
        first = shapes["target_encoder.init_conv.weight"]
        time = shapes["target_encoder.out_conv0.time_embed.weight"][1]
        out = shapes["target_encoder.final_out.2.weight"][0]
        space = tuple(shapes[f"spatial_volume_feats.conv{i}.conv.weight"][0] for i in (0, 1, 3, 5))
        self.target_encoder = ViewEncoder(first[1], first[0], out, time)
        self.spatial_volume_feats = SpaceNet(views * out, space, time)
        self.frustum_volume_feats = FrustumNet(space[0], frustum_widths(shapes), time)

    def space(
        self,
        x: Float[Tensor, "v c h w"],
        t: Float[Tensor, "1 k"],
        v: Float[Tensor, "v 4"],
        coords: Float[Tensor, "v n m 2"],
    ) -> Float[Tensor, "1 d n n n"]:
        """The volume that all views of a frame make together.

        ``coords`` as of :func:`seen_from`.
        """
        features = self.target_encoder(x, t.expand(len(x), -1), v)
        lifted = F.grid_sample(features, coords.to(features.dtype), align_corners=True)
        return self.spatial_volume_feats(lifted.reshape(1, -1, CELLS, CELLS, CELLS), t)

    def frustums(
        self,
        space: Float[Tensor, "1 c n n n"],
        t: Float[Tensor, "1 k"],
        v: Float[Tensor, "v 4"],
        points: Float[Tensor, "v d h w 3"],
    ) -> dict[int, Tensor]:
        """What some views see of the volume, by width; ``points`` as of :func:`frustum_points`."""
        seen = F.grid_sample(
            space.expand(len(v), -1, -1, -1, -1), points.to(space.dtype), align_corners=True
        )
        return self.frustum_volume_feats(seen, t.expand(len(v), -1), v)


def seen_from(
    poses: Float[Tensor, "v 3 4"], Ks: Float[Tensor, "v 3 3"], cells: int, side: int
) -> Float[Tensor, "v n m 2"]:
    """Where the cells of the spatial volume appear in views of ``cells`` latents, in [-1, 1].

    Args:
        poses: from the world to the cameras, OpenCV axes.
        Ks: their intrinsics in pixels.
        cells: latents along a side of a view.
        side: pixels.
    """
    axis = torch.linspace(-HALF, HALF, CELLS)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], -1).reshape(-1, 3)
    camera = points @ poses[:, :, :3].transpose(1, 2) + poses[:, None, :, 3]
    pixel = camera @ Ks.transpose(1, 2)
    pixel = pixel[..., :2] / pixel[..., 2:].clamp_min(1e-4) * (cells / side)
    return (pixel / ((cells - 1) / 2) - 1).reshape(len(poses), CELLS, CELLS * CELLS, 2)


def frustum_points(
    poses: Float[Tensor, "v 3 4"], Ks: Float[Tensor, "v 3 3"], cells: int, side: int
) -> Float[Tensor, "v d h w 3"]:
    """Returns points along the rays of a view's latents, in units of the volume's half extent."""
    depth = torch.linspace(DISTANCE - HALF_DEPTH, DISTANCE + HALF_DEPTH, DEPTHS)
    y, x = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1).float().reshape(-1, 3)
    rays[:, :2] *= side / cells
    camera = (rays @ Ks.inverse().transpose(1, 2))[:, None] * depth[:, None, None]
    world = (camera - poses[:, None, None, :, 3]) @ poses[:, None, :, :3]
    return (world / HALF).reshape(len(poses), DEPTHS, cells, cells, 3)


class DepthAttention(nn.Module):
    """Every latent of a view attends to the cells of its own ray."""

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.to_q = nn.Conv2d(channels, channels, 1, bias=False)
        self.to_k, self.to_v = (nn.Conv3d(context, channels, 1, bias=False) for _ in range(2))
        self.to_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(
        self, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b k d h w"]
    ) -> Float[Tensor, "b c h w"]:
        q, k, v = (
            y.unflatten(1, (HEADS, -1))
            for y in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        share = ((q[:, :, :, None] * k).sum(2) * q.shape[2] ** -0.5).softmax(2)  # b heads d h w
        return self.to_out((v * share[:, :, None]).sum(3).flatten(1, 2))


class DepthTransformer(nn.Module):
    """Adds what lies along the rays to the features of a view."""

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        inner = HEADS * (context // 2)
        self.proj_in = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.GroupNorm(GROUPS, inner), nn.SiLU()
        )
        self.proj_context = nn.Sequential(
            nn.Conv3d(context, context, 1, bias=False), nn.GroupNorm(GROUPS, context), nn.ReLU()
        )
        self.depth_attn = DepthAttention(inner, context)
        self.proj_out = nn.Sequential(
            nn.GroupNorm(GROUPS, inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, inner),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 3, padding=1, bias=False),
        )

    def forward(
        self, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b k d h w"]
    ) -> Float[Tensor, "b c h w"]:
        return x + self.proj_out(self.depth_attn(self.proj_in(x), self.proj_context(context)))


class VolumeUNet(UNet):
    """A UNet that looks along its rays.

    Behind the middle, and behind every block on the way up from the second level.
    """

    def __init__(self, shape: UNetShape, volumes: tuple[int, ...]) -> None:
        """``volumes``: channels of the frustum volumes, from the widest."""
        super().__init__(shape)
        self.first = shape.blocks + 1
        self.middle_conditions = DepthTransformer(shape.levels[-1], volumes[-1])
        levels = [level for level in reversed(range(len(shape.levels))) for _ in range(self.first)][
            self.first :
        ]
        # The last block of a level has doubled the picture already.
        seen = [level - (level > 0 and (i + 1) % self.first == 0) for i, level in enumerate(levels)]
        self.output_conditions = nn.ModuleList(
            DepthTransformer(shape.levels[level], volumes[at])
            for level, at in zip(levels, seen, strict=True)
        )

    def conditioned(
        self, place: int, x: Float[Tensor, "b c h w"], extra: dict[int, Tensor]
    ) -> Float[Tensor, "b c h w"]:
        if place < 0:
            return self.middle_conditions(x, extra[x.shape[-1]])
        number = place - self.first
        return x if number < 0 else self.output_conditions[number](x, extra[x.shape[-1]])
