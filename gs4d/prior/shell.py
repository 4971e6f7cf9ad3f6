"""A solid over a picture: a near and a far surface per pixel, as Gaussians that lie in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..clip import Orbit, cameras_of
from ..gaussians import Gaussians
from ..geometry import SH_C0, rotations_to_quats

# standard deviation of a splat within its surface, in pixels: neighbours overlap to an opaque skin
SPREAD = 0.6
THIN = 0.25  # and across it
# a step to a neighbour's surface of more pixels than this gets a splat of its own that closes it
WALL = 1.0


@dataclass(frozen=True)
class Shell:
    """Near and far surfaces over the pixels of ``b`` pictures, as one camera sees them.

    Attributes:
        mask: where the object is.
        depth: of the near and the far surface, relative to the plane through the origin, positive
            away from the camera, in pixels of that plane.
        colors: of the near and the far surface, in [0, 1].
        logit_opacities: of the near and the far surface, and of the walls that close their steps.
    """

    mask: Bool[Tensor, "b h w"]
    depth: Float[Tensor, "b 2 h w"]
    colors: Float[Tensor, "b 2 3 h w"]
    logit_opacities: Float[Tensor, "b 3 h w"]

    def __len__(self) -> int:
        return len(self.mask)


def shell_gaussians(shell: Shell, orbit: Orbit, item: int) -> Gaussians:
    """The Gaussians of picture ``item`` in world space; differentiable.

    A surface splat lies in its surface. Where a neighbour's surface is a step away, a second splat,
    along the ray, closes the step; at the rim of the object the near and the far one share the way
    between the surfaces.
    """
    mask = shell.mask[item]
    h, w = mask.shape
    camera = cameras_of([orbit], width=w, height=h)
    T, focal = camera.T_camera_world[0], float(camera.K[0, 0, 0])
    pixel = orbit.radius / focal
    y, x = mask.nonzero(as_tuple=True)
    gap = (shell.depth[item, 1] - shell.depth[item, 0])[y, x]
    depths, frames, log_scales, colors, opacities, where = [], [], [], [], [], []
    for side, inward in ((0, 1.0), (1, -1.0)):
        depth = shell.depth[item, side]
        slope, step = _slopes(depth * inward, mask)
        slope, step = slope[:, y, x].T * inward, torch.minimum(step[y, x], gap / 2)
        steep = (slope.square().sum(1) + 1e-12).sqrt()
        along = torch.where(
            (steep < 1e-3)[:, None], torch.tensor([1.0, 0.0]), slope / steep[:, None]
        )
        stretch = (1 + steep.square()).sqrt()
        zero = torch.zeros_like(steep)
        first = torch.cat([along, steep[:, None]], 1) / stretch[:, None]
        second = torch.stack([-along[:, 1], along[:, 0], zero], 1)
        wall = step > WALL
        depths += [depth[y, x], (depth[y, x] + inward * step / 2)[wall]]
        frames += [
            torch.stack([first, second, torch.linalg.cross(first, second)], -1),
            torch.eye(3).expand(int(wall.sum()), 3, 3),
        ]
        flat = torch.stack([SPREAD * stretch, zero + SPREAD, zero + THIN], 1)
        upright = torch.stack([zero + SPREAD * 0.8, zero + SPREAD * 0.8, step * 0.35], 1)[wall]
        log_scales += [flat.log(), upright.log()]
        color, opacity = (
            shell.colors[item, side][:, y, x].T,
            shell.logit_opacities[item, side][y, x],
        )
        colors += [color, color[wall]]
        opacities += [opacity, shell.logit_opacities[item, 2][y, x][wall]]
        xy = torch.stack([x + 0.5 - w / 2, y + 0.5 - h / 2], 1)
        where += [xy, xy[wall]]
    z = orbit.radius + pixel * torch.cat(depths)
    means = torch.cat([torch.cat(where) / focal * z[:, None], z[:, None]], 1)
    return Gaussians(
        means=(means - T[:3, 3]) @ T[:3, :3],
        quats=rotations_to_quats(T[:3, :3].T @ torch.cat(frames)),
        log_scales=torch.cat(log_scales) + (pixel * z / orbit.radius).log()[:, None],
        logit_opacities=torch.cat(opacities),
        sh=((torch.cat(colors) - 0.5) / SH_C0)[:, None],
    )


def _slopes(
    height: Float[Tensor, "h w"], mask: Bool[Tensor, "h w"]
) -> tuple[Float[Tensor, "2 h w"], Float[Tensor, "h w"]]:
    """Returns slopes of ``height`` along x and y, and the largest step up (infinite at the rim).

    Of the differences to both neighbours along an axis the smaller counts, 0 when they disagree in
    sign: a surface does not lean over a step.
    """
    inf = torch.full_like(height, torch.inf)
    slopes, steps = [], []
    for axis in (1, 0):
        ahead, behind = torch.roll(height, -1, axis) - height, height - torch.roll(height, 1, axis)
        has_ahead, has_behind = torch.roll(mask, -1, axis), torch.roll(mask, 1, axis)
        steps += [torch.where(has_ahead, ahead, inf), torch.where(has_behind, -behind, inf)]
        both = torch.where(ahead.abs() < behind.abs(), ahead, behind) * (ahead * behind > 0)
        one = torch.where(has_ahead, ahead, torch.where(has_behind, behind, 0.0))
        slopes.append(torch.where(has_ahead & has_behind, both, one.clamp(-1, 1)))
    return torch.stack(slopes), torch.stack(steps).amax(0).clamp_min(0)
