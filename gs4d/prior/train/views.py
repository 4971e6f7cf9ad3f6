"""What networks learn from: a frame of a moving object, both of its surfaces as that camera sees them, and other views."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ...camera import Camera
from ...clip import Orbit, cameras_of
from ...gaussians import Gaussians
from ...geometry import rotations_to_quats
from ...io.images import to_bytes
from ...render import render


def turned_inside_out(gaussians: Gaussians, camera: Camera, radius: float) -> Gaussians:
    """The scene with its depth order reversed along every ray of ``camera``: drawn, it shows the far surface in each pixel.

    A point at depth z goes to 2 ``radius`` - z on its own ray; its Gaussian is scaled with its distance and mirrored.
    """
    T = camera.T_camera_world[0]
    R = T[:3, :3]
    points = gaussians.means @ R.T + T[:3, 3]
    z = points[:, 2:]
    ratio = (2 * radius - z).clamp_min(1e-3) / z
    flipped = torch.cat([points[:, :2] * ratio, points[:, 2:] * ratio], 1)
    turn = rotations_to_quats(R[None])[0]
    local = _product(turn.expand(len(z), 4), gaussians.quats)
    mirrored = local * torch.tensor([1.0, -1.0, -1.0, 1.0])
    back = _product((turn * torch.tensor([1.0, -1.0, -1.0, -1.0])).expand(len(z), 4), mirrored)
    return gaussians.replace(means=(flipped - T[:3, 3]) @ R, quats=back, log_scales=gaussians.log_scales + ratio.log())


def _product(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    aw, ax, ay, az = a.unbind(1)
    bw, bx, by, bz = b.unbind(1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        1,
    )


@dataclass(frozen=True)
class Sample:
    """Some frames of one object.

    Attributes:
        images: the input view, RGBA with straight alpha.
        depth: of the near and the far surface in that view, as in :class:`~gs4d.prior.shell.Shell`; NaN off the object.
        far: colours of the far surface.
        source: the input camera.
        orbits: the other cameras.
        targets: what they see, premultiplied.
    """

    images: UInt8[Tensor, "f h w 4"]
    depth: Float[Tensor, "f 2 h w"]
    far: Float[Tensor, "f 3 h w"]
    source: Orbit
    orbits: list[Orbit]
    targets: Float[Tensor, "f v h w 4"]


BLACK = (0.0, 0.0, 0.0)


def see(moved: Gaussians, source: Orbit, orbits: list[Orbit], size: int) -> Sample:
    """What there is to learn from ``moved``, Gaussians with a leading axis of frames."""
    camera = cameras_of([source], width=size, height=size)
    around = cameras_of(orbits, width=size, height=size)
    pixel = source.radius / float(camera.K[0, 0, 0])
    images, depths, fars, targets = [], [], [], []
    for f in range(moved.views or 1):
        gaussians = moved.at_view(f)
        near = render(gaussians, camera, background=BLACK)
        far = render(turned_inside_out(gaussians, camera, source.radius), camera, background=BLACK)
        views = render(gaussians, around, background=BLACK)
        alpha = near.alpha[0, ..., None]
        picture = torch.cat([near.rgb[0] / alpha.clamp_min(1e-6), alpha], -1)
        images.append(torch.from_numpy(to_bytes(picture)))
        depth = torch.stack([near.depth[0] - source.radius, source.radius - far.depth[0]]) / pixel
        depths.append(torch.where(alpha[..., 0] > 0.5, depth, torch.nan))
        fars.append((far.rgb[0] / far.alpha[0, ..., None].clamp_min(1e-6)).clamp(0, 1).permute(2, 0, 1))
        targets.append(torch.cat([views.rgb, views.alpha[..., None]], -1).clamp(0, 1))
    return Sample(torch.stack(images), torch.stack(depths), torch.stack(fars), source, orbits, torch.stack(targets))
