"""The specification: every formula of the rasterizer in plain torch, any float dtype,
differentiated by autograd.

EWA splatting (Zwicker et al. 2001) as 3D Gaussian Splatting draws it (Kerbl et al. 2023), with
gsplat 1.5.3's cut-offs. Memory is b * n * h * w for one row block at a time: for tests and small
pictures.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera
from ..gaussians import Gaussians
from ..geometry import covariances, sh_basis
from . import Render
from .constants import (
    ALPHA_MAX,
    ALPHA_MIN,
    COLOR_MAX,
    EPS2D,
    EXTENT_MAX,
    FAR,
    FOV_MARGIN,
    NEAR,
    T_MIN,
)


def draw(
    gaussians: Gaussians, cameras: Camera, background: Tensor, screen_offsets: Tensor | None
) -> Render:
    """As :func:`gs4d.render.render`; computes in the dtype of the means."""
    views = []
    for view in range(len(cameras)):
        offsets = None if screen_offsets is None else screen_offsets[view]
        camera = cameras.select([view]).to(gaussians.means.dtype)
        views.append(_draw_one(gaussians.at_view(view), camera, background[view], offsets))
    if not views:
        h, w, empty = cameras.height, cameras.width, gaussians.means.new_zeros
        return Render(
            empty(0, h, w, 3),
            empty(0, h, w),
            empty(0, h, w),
            torch.zeros(0, gaussians.count, dtype=torch.int32),
        )
    rgb, alpha, depth, radii = (torch.stack(parts) for parts in zip(*views, strict=True))
    return Render(rgb, alpha, depth, radii)


def _draw_one(
    g: Gaussians, camera: Camera, background: Tensor, offsets: Tensor | None
) -> tuple[Tensor, ...]:
    width, height = camera.width, camera.height
    T_camera_world, K = camera.T_camera_world[0], camera.K[0]
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    rotation, translation = T_camera_world[:3, :3], T_camera_world[:3, 3]

    means_camera = g.means @ rotation.T + translation
    z = means_camera[:, 2]
    opacities = torch.sigmoid(g.logit_opacities)
    finite = (
        torch.cat([g.means, g.quats, g.log_scales.exp(), opacities[:, None], g.sh.flatten(1)], 1)
        .isfinite()
        .all(1)
    )
    safe = finite & (z >= NEAR) & (z <= FAR)

    # Gaussians that are culled get harmless values, so that no NaN reaches the gradients of the
    # others.
    index = safe.nonzero().squeeze(-1)
    x, y, z = means_camera[index].unbind(-1)
    margin_x, margin_y = FOV_MARGIN * 0.5 * width / fx, FOV_MARGIN * 0.5 * height / fy
    tx = z * torch.minimum(
        (width - cx) / fx + margin_x, torch.maximum(-(cx / fx + margin_x), x / z)
    )
    ty = z * torch.minimum(
        (height - cy) / fy + margin_y, torch.maximum(-(cy / fy + margin_y), y / z)
    )
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([fx / z, zero, -fx * tx / z**2], -1),
            torch.stack([zero, fy / z, -fy * ty / z**2], -1),
        ],
        -2,
    )
    to_screen = jacobian @ rotation
    cov2d = to_screen @ covariances(g.quats[index], g.log_scales[index]) @ to_screen.transpose(1, 2)
    a, b, c = cov2d[:, 0, 0] + EPS2D, cov2d[:, 0, 1], cov2d[:, 1, 1] + EPS2D
    det = a * c - b * b
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    if offsets is not None:
        means2d = means2d + offsets[index]

    center = camera.centers[0]
    directions = torch.nn.functional.normalize(g.means[index] - center, dim=-1)
    colors = torch.einsum("nk,nkc->nc", sh_basis(directions, g.sh_degree), g.sh[index]) + 0.5

    with torch.no_grad():
        level = 2 * torch.log(opacities[index] / ALPHA_MIN)
        extent = level.clamp_min(0).sqrt().clamp_max(EXTENT_MAX)
        rx, ry = torch.ceil(extent * a.sqrt()), torch.ceil(extent * c.sqrt())
        u, v = means2d.unbind(-1)
        drawn = (det > 0) & (level >= 0) & (rx > 0) & (ry > 0)
        drawn &= (u + rx > 0) & (u - rx < width) & (v + ry > 0) & (v - ry < height)
        drawn &= torch.stack([a, b, c, u, v], 0).isfinite().all(0) & (
            colors.abs() <= COLOR_MAX
        ).all(1)
    radii = torch.zeros(g.count, dtype=torch.int32)
    radii[index] = torch.where(drawn, torch.maximum(rx, ry), 0).nan_to_num().clamp_max(2**30).int()

    order = torch.argsort(z.detach(), stable=True)
    order = order[drawn[order]]
    index, means2d, z = index[order], means2d[order], z[order]
    conic = torch.stack([c, -b, a], -1)[order] / det[order, None]
    colors = colors[order].clamp_min(0)

    xs = torch.arange(width, dtype=z.dtype, device=z.device) + 0.5
    ys = torch.arange(height, dtype=z.dtype, device=z.device) + 0.5
    rows = [_blend_row(xs, row, means2d, conic, opacities[index], colors, z) for row in ys]
    rgb, alpha, depth = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return rgb + (1 - alpha)[..., None] * background, alpha, depth, radii


def _blend_row(
    xs: Float[Tensor, "w"],
    y: Tensor,
    means2d: Float[Tensor, "n 2"],
    conic: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    colors: Float[Tensor, "n 3"],
    z: Float[Tensor, "n"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Front-to-back blending of one image row; Gaussians come sorted by depth."""
    dx, dy = means2d[:, :1] - xs, means2d[:, 1:] - y
    sigma = 0.5 * (conic[:, :1] * dx * dx + conic[:, 2:] * dy * dy) + conic[:, 1:2] * dx * dy
    alpha = torch.clamp_max(opacities[:, None] * torch.exp(-sigma), ALPHA_MAX)
    alpha = torch.where((sigma >= 0) & (alpha >= ALPHA_MIN), alpha, torch.zeros_like(alpha))
    transmittance = torch.cumprod(1 - alpha, 0)
    # The Gaussian that would bring transmittance to T_MIN is not blended, and nothing behind it is.
    alive = (transmittance.detach() > T_MIN).to(alpha.dtype)
    before = (
        torch.cat([torch.ones_like(transmittance[:1]), transmittance[:-1]], 0)
        if len(alpha)
        else transmittance
    )
    weights = alive * alpha * before
    covered = weights.sum(0)
    depth = (weights * z[:, None]).sum(0) / covered.clamp_min(1e-10)
    return weights.T @ colors, covered, depth
