"""The renderer for CUDA: gsplat 1.5.3's stages, whose constants the other backends share."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..camera import Camera
from ..gaussians import FIELD_NDIM, Gaussians
from ..geometry import moderate_quats
from . import Render
from .constants import COLOR_MAX, EPS2D, FAR, NEAR

TILE = 16  # pixels; the only size gsplat tests


def draw(
    gaussians: Gaussians, cameras: Camera, background: Tensor, screen_offsets: Tensor | None
) -> Render:
    """As :func:`gs4d.render.render`, for float32 CUDA tensors.

    Raises:
        ImportError: gsplat is missing.
        ValueError: the Gaussians are not on a CUDA device.
    """
    gsplat = _gsplat()
    device = gaussians.means.device
    if device.type != "cuda":
        raise ValueError(
            f"the cuda renderer got Gaussians on '{device}': move them with "
            "gaussians.to(torch.device('cuda'))"
        )
    b, n, width, height = len(cameras), gaussians.count, cameras.width, cameras.height
    if b == 0 or n == 0:
        rgb = background.view(b, 1, 1, 3).expand(b, height, width, 3)
        zero = torch.zeros(b, height, width, device=device)
        return Render(rgb, zero, zero, torch.zeros(b, n, dtype=torch.int32, device=device))

    # gsplat calls "batch" what we call view: every set of Gaussians is seen by one camera.
    fields = {
        k: t if t.ndim > FIELD_NDIM[k] else t.expand(b, *t.shape) for k, t in gaussians.items()
    }
    means, quats, opacities = (
        fields["means"],
        fields["quats"],
        torch.sigmoid(fields["logit_opacities"]),
    )
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0], device=device)
    quats = moderate_quats(quats)
    quats = torch.where((quats == 0).all(-1, keepdim=True), identity, quats)
    cameras = cameras.to(device)
    radii, means2d, depths, conics, _ = gsplat.fully_fused_projection(
        means,
        None,
        quats,
        fields["log_scales"].exp(),
        cameras.T_camera_world[:, None],
        cameras.K[:, None],
        width,
        height,
        eps2d=EPS2D,
        near_plane=NEAR,
        far_plane=FAR,
        opacities=opacities,
    )
    if screen_offsets is not None:
        means2d = means2d + screen_offsets[:, None]
    directions = normalize(means - cameras.centers[:, None], dim=-1)[:, None]
    seen = (radii > 0).all(-1)
    colors = gsplat.spherical_harmonics(
        gaussians.sh_degree, directions, fields["sh"][:, None], masks=seen
    )
    is_color = ((colors + 0.5).abs() <= COLOR_MAX).all(-1)
    radii = torch.where((is_color | ~seen)[..., None], radii, torch.zeros_like(radii))
    colors = torch.where((is_color & seen)[..., None], colors, torch.zeros_like(colors))
    features = torch.cat([(colors + 0.5).clamp_min(0), depths[..., None]], -1)

    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    _, intersections, order = gsplat.isect_tiles(means2d, radii, depths, TILE, tiles_x, tiles_y)
    starts = gsplat.isect_offset_encode(intersections, b, tiles_x, tiles_y).reshape(
        b, 1, tiles_y, tiles_x
    )
    backdrop = torch.nn.functional.pad(background, (0, 1))[:, None]  # depth has none
    image, alpha = gsplat.rasterize_to_pixels(
        means2d,
        conics,
        features,
        opacities[:, None],
        width,
        height,
        TILE,
        starts,
        order,
        backgrounds=backdrop,
    )
    alpha = alpha[:, 0, ..., 0]
    return Render(
        image[:, 0, ..., :3],
        alpha,
        image[:, 0, ..., 3] / alpha.clamp_min(1e-10),
        radii[:, 0].amax(-1),
    )


def _gsplat() -> ModuleType:
    try:
        import gsplat  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "the cuda renderer needs gsplat: run: pip install gsplat==1.5.3"
        ) from error
    if not torch.cuda.is_available():
        raise ImportError(
            "the cuda renderer needs a CUDA device and a torch built for it: use backend='cpu'"
        )
    return gsplat
