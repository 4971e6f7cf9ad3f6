"""What ``lift`` learns: from frames of a sample to its solid and its colours."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ...clip import Orbit, cameras_of, over_white, premultiply
from ...io.files import atomic_path
from ...io.images import to_bytes
from ...metrics.image import inside, mask_iou, psnr, psnr_inside
from ..lift import Lift, network_inputs
from ..lift_net import FINE, LiftNet, LiftShape
from ..solid import REACH, SHARP
from .solid_samples import FRAMES, SIDE, VIEWS, SolidSample, SolidSampleStore, halved, view_orbits

# of the loss's parts
WEIGHTS = {"solid": 1.0, "relief": 0.5, "color": 2.0, "outline": 1.5, "overlap": 1.0, "view": 12.0}
RELIEF_STEPS = (1, 2, 4, 8)  # cells
SHOWN_VIEWS, SHOWN_RAYS = 4, 100  # per example, and per view, that are compared
SHOWN_FRAMES = 2  # per example: many objects in a step teach more than many moments of few
POINTS = 40  # along a ray
# of what is prepared, what has a time axis first
FILM = ("frames", "thickness", "occupancy", "colors", "seen")
OUTSIDE = -8.0  # logit of what the source does not show
HELD_OUT, HELD_OUT_COUNT = 10**9, 16  # numbers of samples that are never learnt from


@dataclass(frozen=True)
class LiftTask:
    """Lessons for lift; a sample is a clip, or single frames of it.

    Attributes:
        store: where samples come from.
        shape: of the network.
    """

    store: SolidSampleStore
    shape: LiftShape = field(default_factory=LiftShape)

    def network(self) -> LiftNet:
        """A network that has learnt nothing."""
        return LiftNet(self.shape)

    def metadata(self) -> dict[str, str]:
        """The network's sizes."""
        return {"shape": json.dumps(self.shape.record())}

    def example(self, number: int, seed: int) -> dict[str, Tensor]:
        """A sample with changes drawn from ``seed`` that a video could have."""
        kept = self._prepared(number)
        film = [kept[name] for name in FILM]
        source = Orbit(*kept["source"].tolist())
        draw = torch.Generator().manual_seed(seed)
        times = torch.randperm(FRAMES, generator=draw)[:SHOWN_FRAMES]
        frames, thickness, occupancy, colors, seen = (x[times] for x in film)
        chosen = torch.randperm(VIEWS, generator=draw)[:SHOWN_VIEWS]
        rays, pixels = _rays(source, chosen.tolist(), draw)
        watched = kept["views"][chosen][:, times].flatten(2, 3)
        shown = (
            watched[torch.arange(SHOWN_VIEWS)[:, None], :, pixels].permute(2, 0, 1, 3).float() / 255
        )
        pictures, colors, tints = augment(
            premultiply(frames), draw, colors.float() / 255, shown[..., :3]
        )
        sample = {
            "pictures": pictures.movedim(-1, 1),
            "thickness": thickness.float(),
            "camera": kept["camera"],
            "occupancy": torch.from_numpy(np.unpackbits(occupancy.numpy(), axis=-1)),
            "colors": colors.movedim(-1, 1),
            "seen": torch.from_numpy(np.unpackbits(seen.numpy(), axis=-1)),
        }
        if torch.rand((), generator=draw) < 0.5:
            sample = {
                name: value if name == "camera" else value.flip(-1)
                for name, value in sample.items()
            }
            rays = rays * torch.tensor([-1.0, 1.0, 1.0])
        return sample | {
            "rays": rays,
            "views": torch.cat([tints * shown[..., 3:], shown[..., 3:]], -1),
        }

    def _prepared(self, number: int) -> dict[str, Tensor]:
        """What examples of a sample begin with, in a file of its own.

        That is mapped into memory, where processes share it.
        """
        path = self.store.folder / "prepared" / f"{self.store.path(number).stem}.safetensors"
        if not path.is_file():
            with atomic_path(path) as part:
                save_file(_prepare(self.store.sample(number)), part)
        return load_file(path)

    def loss(self, network: LiftNet, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Returns the loss and its parts, means over the samples of a batch.

        Cross entropies of occupancy behind the object's pixels and of outlines from around; how
        little these overlap; errors of the relief of what is seen; squared errors of colours near
        surfaces and of views from around over white.

        A view is what is to be expected where the likeliest cell on the way is as likely as the
        whole way so far: what a ray meets is the solid that it enters at some depth, or nothing
        (``solid.soft_skin`` draws the same).
        """
        b, t = batch["pictures"].shape[:2]
        together = (SHOWN_FRAMES, 1)[step % 2]  # frames that are seen together
        clips = {name: value for name, value in batch.items() if name not in ("camera", "rays")}
        rows = {
            name: value.reshape(b * t // together, together, *value.shape[2:])
            for name, value in clips.items()
        }
        camera = batch["camera"].repeat_interleave(t // together, 0)
        logits, colors = network(rows["pictures"], rows["thickness"], camera)
        columns = (F.avg_pool2d(rows["pictures"][:, :, 3], FINE)[:, :, None] > 0).float()
        surprise = (
            F.binary_cross_entropy_with_logits(logits, rows["occupancy"].float(), reduction="none")
            * columns
        )
        solid = _mean(surprise, columns.expand_as(surprise), b)
        where = rows["seen"][:, :, None].float()
        color = _mean(
            (colors - rows["colors"]).square() * where, where.expand_as(rows["colors"]), b
        )
        field = (
            torch.where(columns > 0, logits, OUTSIDE).reshape(b * t, 1, *logits.shape[2:]) - OUTSIDE
        )
        rays = batch["rays"].repeat_interleave(t, 0)
        # nothing is outside the grid
        along = F.grid_sample(field, rays, align_corners=False)[:, 0] + OUTSIDE
        highest = along.cummax(-1).values
        truth = batch["views"].flatten(0, 1)
        outline = F.binary_cross_entropy_with_logits(
            SHARP * highest[..., -1], truth[..., 3], reduction="none"
        )
        met = (SHARP * highest).sigmoid()
        inside, there = met[..., -1], truth[..., 3]
        both = (inside * there).sum((1, 2))
        # of a frame's rays; where there is nothing, none
        overlap = 1 - (both + 1) / ((inside + there).sum((1, 2)) - both + 1)
        entered = torch.diff(met, dim=-1, prepend=torch.zeros_like(met[..., :1]))
        tints = F.grid_sample(
            colors.reshape(b * t, *colors.shape[2:]),
            rays,
            align_corners=False,
            padding_mode="border",
        )
        expected = (entered[:, None] * tints).sum(-1).movedim(1, -1) - met[..., -1:]
        view = (expected - truth[..., :3] + truth[..., 3:]).square()
        parts = {
            "solid": solid,
            "relief": relief_error(logits, rows["occupancy"] * (columns > 0), b),
            "color": color,
            **{
                name: x.reshape(b, -1).mean(1)
                for name, x in (("outline", outline), ("overlap", overlap), ("view", view))
            },
        }
        means = {name: part.mean() for name, part in parts.items()}
        return {
            "loss": torch.stack([WEIGHTS[name] * mean for name, mean in means.items()]).sum(),
            **means,
        }

    def measure(self, network: LiftNet, folder: Path, step: int) -> dict[str, float]:
        """Scores views of held-out samples, as the network draws them, against the truth."""
        rows, sheet = [], []
        for number in range(HELD_OUT, HELD_OUT + HELD_OUT_COUNT):
            sample = self.store.sample(number)
            orbits, chosen = view_orbits(sample.source)[2:-1], sample.frames[::2]
            drawn = halved(
                premultiply(
                    Lift(network).views(chosen, sample.source, orbits, torch.Generator()).images
                )
            )
            for view, true in zip(
                drawn.flatten(0, 1), sample.views[2:-1, ::2].flatten(0, 1), strict=True
            ):
                (rgb, alpha), (truth, coverage) = over_white(view), over_white(true)
                mask = inside(alpha[..., 0], coverage[..., 0])
                overlap = mask_iou(alpha[..., 0], coverage[..., 0])
                rows.append(
                    [float(psnr(rgb, truth)), float(psnr_inside(rgb, truth, mask)), float(overlap)]
                )
            sheet += [
                torch.cat([over_white(view)[0] for view in film[::2, 0]], 1)
                for film in (drawn, sample.views[2:-1])
            ]
        with atomic_path(folder / f"held_out_{step:06d}.png") as part:
            Image.fromarray(to_bytes(torch.cat(sheet[:16]))).save(part)
        means = torch.tensor(rows).nanmean(0).tolist()
        return dict(zip(("psnr", "psnr_inside", "iou"), means, strict=True))


def relief_error(
    logits: Float[Tensor, "b t d h w"], occupancy: UInt8[Tensor, "b t d h w"], samples: int
) -> Float[Tensor, "samples"]:
    """Returns errors of depth differences between visible cells some way apart, in units of REACH.

    Where in depth an object is as a whole, a picture hardly tells. As long as that is open, cross
    entropies of cells reward little what shading and inner outlines do tell: how its parts lie to
    each other.
    """
    depth = (1 - (SHARP * logits.cummax(2).values).sigmoid()).sum(2).flatten(0, 1)
    true = occupancy.flatten(0, 1)
    error = (depth - true.argmax(1)) * (2 / logits.shape[2])
    there = true.amax(1) > 0
    rows = []
    for apart in RELIEF_STEPS:
        for axis in (1, 2):
            n = error.shape[axis] - apart
            step = error.narrow(axis, apart, n) - error.narrow(axis, 0, n)
            both = there.narrow(axis, apart, n) & there.narrow(axis, 0, n)
            rows.append([part.reshape(samples, -1).sum(1) for part in (step.abs() * both, both)])
    sums, counts = (torch.stack(column).sum(0) for column in zip(*rows, strict=True))
    return sums / counts.clamp_min(1)


def _mean(values: Tensor, weights: Tensor, samples: int) -> Float[Tensor, "samples"]:
    """Mean per sample, so that a batch's loss is the mean over samples however it is split."""
    return values.reshape(samples, -1).sum(1) / weights.reshape(samples, -1).sum(1).clamp_min(1)


def _prepare(sample: SolidSample) -> dict[str, Tensor]:
    source = sample.source
    _, thickness, camera = network_inputs(sample.frames, source, SIDE)
    return {
        "frames": sample.frames,
        "thickness": thickness.half(),
        "occupancy": torch.from_numpy(np.packbits(sample.occupancy.numpy(), axis=-1)),
        "colors": sample.colors,
        "seen": torch.from_numpy(np.packbits(sample.seen.numpy(), axis=-1)),
        "camera": camera,
        "views": halved(premultiply(sample.views)),
        "source": torch.tensor(astuple(source), dtype=torch.float64),
    }


def _rays(
    source: Orbit, chosen: list[int], draw: torch.Generator
) -> tuple[Float[Tensor, "v r n 3"], Int[Tensor, "v r"]]:
    """Some rays of some of a sample's views.

    Their points as places in the source's solid, and their pixels.

    Places are x, y, z in [-1, 1]. Rays that pass the sphere of radius REACH by are never drawn:
    they meet nothing.
    """
    orbits = view_orbits(source)
    size = SIDE // 2
    cameras, own = (
        cameras_of([orbits[v] for v in chosen], width=size, height=size),
        cameras_of([source], width=1, height=1),
    )
    across = (torch.arange(size) + 0.5 - size / 2) / cameras.K[0, 0, 0]
    y, x = torch.meshgrid(across, across, indexing="ij")
    slope = (x.square() + y.square()).flatten()
    radius = orbits[0].radius  # all have the same
    near = torch.nonzero(radius**2 * slope < REACH**2 * (1 + slope))[:, 0]
    pixels = near[
        torch.stack([torch.randperm(len(near), generator=draw)[:SHOWN_RAYS] for _ in chosen])
    ]
    z = (radius + torch.linspace(-REACH, REACH, POINTS)).expand(*pixels.shape, -1)
    points = torch.stack(
        [x.flatten()[pixels][..., None] * z, y.flatten()[pixels][..., None] * z, z], -1
    )
    T = cameras.T_camera_world[:, None, None]
    world = ((points - T[..., :3, 3])[..., None, :] @ T[..., :3, :3])[..., 0, :]
    at = world @ own.T_camera_world[0, :3, :3].T + own.T_camera_world[0, :3, 3]
    focal = 2 * own.K[0, 0, 0]  # of pictures from -1 to 1
    x, y, z = at.unbind(-1)
    return torch.stack([focal * x / z, focal * y / z, (z - source.radius) / REACH], -1), pixels


def augment(
    pictures: Float[Tensor, "t h w 4"], draw: torch.Generator, *truths: Float[Tensor, "t ... 3"]
) -> tuple[Tensor, ...]:
    """Other hues, exposure and tint in pictures and true colours alike.

    Noise, other sharpness and a worse mask in pictures.
    """

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw)

    gain, gamma = (0.75 + 0.5 * rand(1)) * (0.92 + 0.16 * rand(3)), 2 ** (rand(1) - 0.5)
    rgb, alpha = pictures[..., :3], pictures[..., 3:]
    hues = torch.randperm(3, generator=draw)  # else colours tell which sample it is
    straight = rgb / alpha.clamp_min(1 / 255)
    straight, *others = (
        x.clamp(0, 1)[..., hues].pow(gamma).mul(gain).clamp(0, 1) for x in (straight, *truths)
    )
    if rand(1) < 0.4:
        rough = torch.randn(
            len(pictures) if rand(1) < 0.5 else 1, 16, 16, 3, generator=draw
        ).movedim(-1, 1)
        texture = F.interpolate(rough, pictures.shape[1:3], mode="bilinear").movedim(1, -1)
        straight = straight + 0.05 * rand(1) * texture
    if rand(1) < 0.5:
        straight = straight + 0.04 * rand(1) * torch.randn(straight.shape, generator=draw)
    if rand(1) < 0.3:
        edge = 0.3 * (rand(1) - 0.5)
        alpha = ((alpha - 0.5) * (1 + 2 * rand(1)) + 0.5 + edge).clamp(0, 1) * (alpha > 0)
    out = torch.cat([straight.clamp(0, 1) * alpha, alpha], -1)
    if rand(1) < 0.5:
        wide = 3 if rand(1) < 0.5 else 5
        soft = F.avg_pool2d(
            out.movedim(-1, 1), wide, 1, wide // 2, count_include_pad=False
        ).movedim(1, -1)
        rgb, alpha = (
            (torch.lerp(out, soft, 1.6 * rand(1) - 0.6) * (pictures[..., 3:] > 0))
            .clamp(0, 1)
            .split([3, 1], -1)
        )
        out = torch.cat([torch.minimum(rgb, alpha), alpha], -1)
    return out, *others
