"""The renderer for CPUs, a torch.autograd function over the rasterizer of submodules/native."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..camera import Camera
from ..gaussians import Gaussians
from . import Render

try:
    from .. import _native
except ImportError as error:
    raise ImportError(
        f"gs4d's native module is missing ({error}): run: pip install -e ."
    ) from error


def draw(
    gaussians: Gaussians, cameras: Camera, background: Tensor, screen_offsets: Tensor | None
) -> Render:
    """As :func:`gs4d.render.render`, computed in float32 whatever the dtype.

    The same bits for any number of threads.

    Gradients flow to the Gaussians and to ``screen_offsets``, not to the cameras or the background.
    """
    dtype = gaussians.means.dtype
    fields = [tensor.to(torch.float32).contiguous() for _, tensor in gaussians.items()]
    offsets = None if screen_offsets is None else screen_offsets.to(torch.float32).contiguous()
    poses, intrinsics = (
        m.detach().to("cpu", torch.float32).contiguous()
        for m in (cameras.T_camera_world, cameras.K)
    )
    colour = background.detach().to(torch.float32).contiguous()
    size = cameras.height, cameras.width
    rgb, alpha, depth, radii = _Rasterize.apply(*fields, offsets, poses, intrinsics, colour, size)
    return Render(rgb.to(dtype), alpha.to(dtype), depth.to(dtype), radii)


class _Rasterize(Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        fields, (poses, intrinsics, background, (height, width)) = args[:6], args[6:]
        b, n = len(poses), fields[0].shape[-2]
        rgb, alpha, depth = (
            torch.empty(b, height, width, *channels) for channels in ((3,), (), ())
        )
        radii = torch.empty(b, n, dtype=torch.int32)
        keep = any(ctx.needs_input_grad)
        raw = [None if tensor is None else tensor.detach() for tensor in fields]
        frame = _native.raster_forward(
            raw, poses, intrinsics, background, rgb, alpha, depth, radii, keep
        )
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(radii)
        if keep:
            ctx.frame = frame
            ctx.save_for_backward(*fields, alpha, depth)
        return rgb, alpha, depth, radii

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        *fields, alpha, depth = ctx.saved_tensors
        # without views nothing is written
        new = torch.empty_like if len(depth) else torch.zeros_like
        outputs = [
            new(t) if wanted else None
            for t, wanted in zip(fields, ctx.needs_input_grad[:6], strict=True)
        ]
        images = [None if g is None else g.contiguous() for g in grads[:3]]
        _native.raster_backward(ctx.frame, fields, alpha, depth, images, outputs)
        return *outputs, None, None, None, None
