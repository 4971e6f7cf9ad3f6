"""The start of a fit: coloured points inside the visual hull of the masks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from .camera import project
from .clip import Clip
from .gaussians import Gaussians
from .geometry import SH_C0, morton_order

BALL_RADIUS = 0.5  # of the random start, as 4DGen's
BOUND = 0.7  # half side of the carved cube: what SyncDreamer's camera sees at the object


def carve(
    clip: Clip, frame: int, *, cells: int = 96, agreement: float = 1.0
) -> Float[Tensor, "m 3"]:
    """Centres of the cells of a cube whose projection lies inside the mask in at least
    ``agreement`` of the views.

    With the input view alone the hull is an endless cone; it is cut where the depth exceeds half
    the silhouette's radius.
    """
    line = (torch.arange(cells) + 0.5) / cells * 2 * BOUND - BOUND
    points = torch.cartesian_prod(line, line, line)
    votes = torch.zeros(len(points))
    for track in clip.tracks:
        where, depth = project(track.camera(frame), points)
        mask = track.images[frame][..., 3].float()[None, None] / 255
        votes += (grid_sample(mask, where[None, None], align_corners=False).flatten() > 0.5) & (
            depth > 0
        )
    inside = points[votes >= agreement * len(clip.tracks) - 1e-6]
    if len(clip.tracks) == 1 and len(inside):
        camera = clip.tracks[0].camera(frame)
        axis = camera.T_camera_world[0, 2, :3]
        inside = inside[
            (inside @ axis).abs()
            <= 0.5 * (inside - (inside @ axis)[:, None] * axis).norm(dim=1).quantile(0.9)
        ]
    return inside


def start_gaussians(
    clip: Clip,
    frame: int,
    count: int,
    sh_degree: int,
    generator: torch.Generator,
    *,
    kind: str = "hull",
) -> Gaussians:
    """``count`` Gaussians inside the visual hull of ``frame``, or in a ball where the masks leave
    no hull.

    Labels that disagree carve too much away, so that the vote is lowered until at least 0.05 % of
    the cube is left.
    """
    cells = 96
    inside = torch.zeros(0, 3)
    for agreement in (1.0, 0.9, 0.8, 0.7) if kind == "hull" else ():
        inside = carve(clip, frame, cells=cells, agreement=agreement)
        if len(inside) >= 5e-4 * cells**3:
            break
    if len(inside):
        pick = torch.randint(len(inside), (count,), generator=generator)
        spread = (torch.rand(count, 3, generator=generator) - 0.5) * (2 * BOUND / cells)
        means = inside[pick] + spread
        spacing = (len(inside) * (2 * BOUND / cells) ** 3 / count) ** (1 / 3)
    else:
        direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
        means = direction * BALL_RADIUS * torch.rand(count, 1, generator=generator) ** (1 / 3)
        spacing = BALL_RADIUS * (4.19 / count) ** (1 / 3)
    means = means[morton_order(means)]
    k = (sh_degree + 1) ** 2
    sh = torch.zeros(count, k, 3)
    sh[:, 0] = (mean_colors(clip, frame, means) - 0.5) / SH_C0
    return Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        log_scales=torch.full((count, 3), 0.5 * spacing).log(),
        logit_opacities=torch.full((count,), -1.0),
        sh=sh,
    )


def mean_colors(clip: Clip, frame: int, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Mean colour of the pictures at the points' projections, occlusion ignored.

    Grey where no picture has the object.
    """
    total, weight = torch.full((len(points), 3), 0.5e-3), torch.full((len(points), 1), 1e-3)
    for track in clip.tracks:
        where, _ = project(track.camera(frame), points)
        picture = track.premultiplied(frame).permute(2, 0, 1)[None]
        sampled = grid_sample(picture, where[None, None], align_corners=False)[0, :, 0].T
        total, weight = total + sampled[:, :3], weight + sampled[:, 3:]
    return total / weight
