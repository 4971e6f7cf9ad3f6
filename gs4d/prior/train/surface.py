"""What lift learns of a training sample: the visible surface, and what lies behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ...io.files import atomic_path
from ..solid import REACH, SHARP
from ..surface_net import OUTSIDE, SPAN, SurfaceNet, Surfaces, SurfaceShape, anchored, cell_depth
from .lift import augment
from .samples import PIXELS, RAYS, SampleStore

# Of the parts of the loss: with these, depth, relief, normals and outlines move the encoder about
# equally; were all 1, normals, which only shading tells, would count for a tenth of outlines.
WEIGHTS = {
    "depth": 1.0,
    "relief": 8.0,
    "normals": 5.0,
    "behind": 1.5,
    "outline": 0.5,
    "overlap": 0.5,
    "color": 2.0,
}
RELIEF_STEPS = (1, 2, 4, 8, 16, 32)  # pixels
SHOWN_RAYS = 300  # per frame, of RAYS
POINTS = 36  # along a ray
DEEP = 40  # layers of depth that rays are followed through
# numbers of the samples of the validation split that training measures
HELD_OUT, HELD_OUT_COUNT = (10**8, 64)
GREY = 0.5  # of a frame whose colours are taken away


@dataclass(frozen=True)
class SurfaceTask:
    """Samples for lift's network.

    Attributes:
        store: where samples come from.
        held_out: the same for models that are never learnt from.
        shape: of the network.
    """

    store: SampleStore
    held_out: SampleStore
    shape: SurfaceShape = field(default_factory=SurfaceShape)

    def network(self) -> SurfaceNet:
        """A network that has learnt nothing."""
        return SurfaceNet(self.shape)

    def metadata(self) -> dict[str, str]:
        """The network's sizes."""
        return {"shape": json.dumps(self.shape.record())}

    def example(self, number: int, seed: int) -> dict[str, Tensor]:
        """A training sample with changes drawn from ``seed`` that a video could have."""
        return sample_tensors(self.store, number, torch.Generator().manual_seed(seed))

    def loss(self, network: SurfaceNet, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The loss and its parts, means over the samples of a batch.

        Frames are seen together in every other step.
        """
        t = batch["pictures"].shape[1]
        together = (t, 1)[step % 2]
        pictures, thickness = (
            batch[name].reshape(-1, together, *batch[name].shape[2:])
            for name in ("pictures", "thickness")
        )
        said = network(pictures, thickness, batch["camera"].repeat_interleave(t // together, 0))
        rows = {
            name: x.flatten(0, 1) for name, x in batch.items() if name not in ("camera", "lens")
        }
        rows["lens"] = batch["lens"].repeat_interleave(t, 0)
        parts = losses(said.flat(), rows)
        means = {name: part.mean() for name, part in parts.items()}
        return {
            "loss": torch.stack([WEIGHTS[name] * mean for name, mean in means.items()]).sum(),
            **means,
        }

    def measure(self, network: SurfaceNet, folder: Path, step: int) -> dict[str, float]:
        """Measures relief and ray overlap on held-out samples, and on their frames painted grey."""
        found: dict[str, list[Tensor]] = {}
        sheet = []
        for number in range(HELD_OUT, HELD_OUT + HELD_OUT_COUNT):
            row = sample_tensors(self.held_out, number, None)
            single = {
                name: x[:1] if name not in ("camera", "lens") else x for name, x in row.items()
            }
            for kind in ("", "grey_"):
                pictures = single["pictures"].clone()
                if kind:
                    pictures[:, :3] = GREY * pictures[:, 3:]
                with torch.no_grad():
                    flat = network(
                        pictures[None], single["thickness"][None], row["camera"][None]
                    ).flat()
                found.setdefault(kind + "relief", []).append(
                    relief_correlation(flat.depth, single["depth"], single["there"])
                )
                rows = {**single, "lens": row["lens"][None]}
                found.setdefault(kind + "iou", []).append(_ray_overlap(flat, rows))
                if not kind and number < HELD_OUT + 24:
                    sheet.append(
                        _sheet_row(
                            single["pictures"][0],
                            single["depth"][0],
                            flat.depth[0],
                            flat.normals[0],
                        )
                    )
                    inflated = F.interpolate(
                        -single["thickness"][None].float(), scale_factor=2.0, mode="bilinear"
                    )[0]
                    found.setdefault("inflated_relief", []).append(
                        relief_correlation(inflated, single["depth"], single["there"])
                    )
        tiles = [torch.cat(sheet[i : i + 3], 1) for i in range(0, len(sheet) // 3 * 3, 3)]
        with atomic_path(folder / f"held_out_{step:06d}.png") as part:
            Image.fromarray((torch.cat(tiles).clamp(0, 1) * 255).byte().numpy()).save(part)
        return {name: float(torch.cat(values).nanmean()) for name, values in found.items()}


def _sheet_row(
    picture: Tensor, depth: Tensor, said: Tensor, normals: Tensor
) -> Float[Tensor, "h w 3"]:
    alpha = picture[3:]
    rgb = picture[:3] + 1 - alpha
    shades = [0.5 + 0.8 * torch.where(alpha > 0.5, x, 0.0).expand(3, -1, -1) for x in (depth, said)]
    unit = 0.5 + 0.5 * F.normalize(normals, dim=0) * (alpha > 0.5)
    return torch.cat([rgb, *shades, unit], 2).movedim(0, -1)


def sample_tensors(
    store: SampleStore, number: int, draw: torch.Generator | None
) -> dict[str, Tensor]:
    """A kept sample as the loss wants it, per frame but for the camera.

    ``draw`` changes its colours and its side.
    """
    kept = store.sample(number)
    pictures, colors = kept.frames.float() / 255, kept.colors.float() / 255
    chosen = (
        torch.arange(RAYS) if draw is None else torch.randperm(RAYS, generator=draw)[:SHOWN_RAYS]
    )
    rays, met, colors = kept.rays.float()[:, chosen], kept.met.float()[:, chosen], colors[:, chosen]
    there = (pictures[..., 3] > 0.5).float()
    if draw is not None:
        pictures, colors = augment(pictures, draw, colors)
    behind = torch.from_numpy(np.unpackbits(kept.behind.numpy(), axis=-1))
    out = {
        "pictures": pictures.movedim(-1, 1),
        "depth": kept.depth.float(),
        "normals": kept.normals.float().movedim(-1, 1) / 127,
        "there": there,
        "thickness": kept.thickness.float(),
        "behind": behind,
    }
    if draw is not None and torch.rand((), generator=draw) < 0.5:
        out = {name: x.flip(-1) for name, x in out.items()}
        out["normals"] = out["normals"] * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
        rays = rays * torch.tensor([-1.0, 1.0, 1.0])
    return {
        **out,
        "rays": rays,
        "met": met,
        "colors": colors,
        "camera": kept.camera,
        "lens": kept.lens,
    }


def losses(said: Surfaces, rows: dict[str, Tensor]) -> dict[str, Float[Tensor, "n"]]:
    """Parts of the loss, per frame.

    Of the visible surface: its depth (units of REACH), differences of depth, angles of normals;
    behind it: cross entropy of occupancy; from around: cross entropy and overlap of outlines, and
    colours where rays meet the object.
    """
    there = rows["there"]
    error = (said.depth - rows["depth"]) * there
    count = there.sum((1, 2)).clamp_min(1)
    depth = error.abs().sum((1, 2)) / count
    steps = []
    for apart in RELIEF_STEPS:
        for axis in (1, 2):
            n = PIXELS - apart
            both = there.narrow(axis, apart, n) * there.narrow(axis, 0, n)
            change = (error.narrow(axis, apart, n) - error.narrow(axis, 0, n)).abs() * both
            steps.append(change.sum((1, 2)) / both.sum((1, 2)).clamp_min(1))
    cosine = (F.normalize(said.normals, dim=1) * rows["normals"]).sum(1)
    normals = ((1 - cosine) * there).sum((1, 2)) / count
    near = cell_depth(said.depth, rows["pictures"][:, 3])
    columns = (F.max_pool2d(there[:, None], 2) > 0).float()
    surprise = (
        F.binary_cross_entropy_with_logits(said.logits, rows["behind"].float(), reduction="none")
        * columns
    )
    behind = surprise.sum((1, 2, 3)) / (columns.sum((1, 2, 3)) * said.logits.shape[1]).clamp_min(1)
    logits = torch.where(columns > 0, said.logits, OUTSIDE)
    highest = followed(logits, near, rows["rays"], rows["lens"])
    truth = (rows["met"] >= 0).float()
    outline = F.binary_cross_entropy_with_logits(SHARP * highest, truth, reduction="none").mean(1)
    inside = (SHARP * highest).sigmoid()
    both = (inside * truth).sum(1)
    overlap = 1 - (both + 1) / ((inside + truth).sum(1) - both + 1)
    color = color_error(said.colors, near.detach(), columns, rows)
    return {
        "depth": depth,
        "relief": torch.stack(steps).mean(0),
        "normals": normals,
        "behind": behind,
        "outline": outline,
        "overlap": overlap,
        "color": color,
    }


def on_picture(
    points: Float[Tensor, "n ... 3"], lens: Float[Tensor, "n 2"]
) -> Float[Tensor, "n ... 3"]:
    """Returns places in camera axes as x, y in [-1, 1] of the picture, depth in units of REACH."""
    shape = (len(lens), *[1] * (points.dim() - 2))
    focal, distance = lens[:, 0].view(shape), lens[:, 1].view(shape)
    x, y, z = points.unbind(-1)
    return torch.stack([focal * x / (z + distance), focal * y / (z + distance), z / REACH], -1)


def followed(
    logits: Float[Tensor, "n d s s"],
    near: Float[Tensor, "n s s"],
    rays: Float[Tensor, "n r 2 3"],
    lens: Float[Tensor, "n 2"],
) -> Float[Tensor, "n r"]:
    """Highest logit of the cells on the way of each ray."""
    field = anchored(logits, near, DEEP)[:, None] - OUTSIDE
    share = torch.linspace(0, 1, POINTS, device=rays.device)[:, None]
    points = rays[:, :, None, 0] + share * (rays[:, :, None, 1] - rays[:, :, None, 0])
    at = on_picture(points, lens)[:, None]
    return (F.grid_sample(field, at, align_corners=False)[:, 0, 0] + OUTSIDE).amax(-1)


def color_error(
    colors: Float[Tensor, "n 3 d c c"],
    near: Float[Tensor, "n s s"],
    columns: Float[Tensor, "n 1 s s"],
    rows: dict[str, Tensor],
) -> Float[Tensor, "n"]:
    """Mean absolute error of colours where rays meet the object.

    Places that lie outside the layers count at their border.
    """
    ends = rows["rays"]
    place = ends[:, :, 0] + rows["met"][..., None] * (ends[:, :, 1] - ends[:, :, 0])
    at = on_picture(place, rows["lens"])
    cell = F.grid_sample(near[:, None], at[:, :, None, :2], mode="nearest", align_corners=False)[
        :, 0, :, 0
    ]
    covered = F.grid_sample(columns, at[:, :, None, :2], mode="nearest", align_corners=False)[
        :, 0, :, 0
    ]
    behind = (at[..., 2] - cell) * (2 * REACH / SPAN) - 1
    spot = torch.stack([at[..., 0], at[..., 1], behind], -1)[:, None, None]
    tint = F.grid_sample(colors, spot, align_corners=False, padding_mode="border")[
        :, :, 0, 0
    ].movedim(1, -1)
    met = (rows["met"] >= 0) * covered
    return ((tint - rows["colors"]).abs().mean(-1) * met).sum(1) / met.sum(1).clamp_min(1)


def relief_correlation(
    said: Float[Tensor, "n p p"], true: Float[Tensor, "n p p"], there: Float[Tensor, "n p p"]
) -> Float[Tensor, "n"]:
    """Pearson correlation of depths inside the mask after a plane is taken out of both.

    NaN where the true relief is flat.
    """
    out = []
    for a, b, mask in zip(said.double(), true.double(), there, strict=True):
        y, x = torch.nonzero(mask > 0.5, as_tuple=True)
        if len(y) < 50:
            out.append(torch.tensor(float("nan")))
            continue
        basis = torch.stack([torch.ones(len(y)), x / 64.0, y / 64.0], 1).double()
        rest = []
        for values in (a[y, x], b[y, x]):
            plane = torch.linalg.lstsq(basis, values[:, None]).solution
            rest.append(values - (basis @ plane)[:, 0])
        u, v = rest
        scale = u.norm() * v.norm()
        out.append(
            torch.dot(u, v) / scale if v.std() > 1e-4 and scale > 0 else torch.tensor(float("nan"))
        )
    return torch.stack([x.float() for x in out])


def _ray_overlap(said: Surfaces, rows: dict[str, Tensor]) -> Float[Tensor, "n"]:
    near = cell_depth(said.depth, rows["pictures"][:, 3])
    columns = F.max_pool2d(rows["there"][:, None], 2) > 0
    logits = torch.where(columns, said.logits, OUTSIDE)
    inside = followed(logits, near, rows["rays"], rows["lens"]) > 0
    truth = rows["met"] >= 0
    return (inside & truth).sum(1) / (inside | truth).sum(1).clamp_min(1)


def open_surface_task(folder: Path, models: Path | None, shape: SurfaceShape) -> SurfaceTask:
    """The task over samples kept in ``folder``.

    Held-out samples are of the models' split "validation".

    Raises:
        UserError: the folder of models holds none.
    """
    from .scenes import read_models

    held = models if models is not None and (models / "models.json").is_file() else None
    return SurfaceTask(
        SampleStore(folder, read_models(models) if models else None),
        SampleStore(folder / "held_out", read_models(held, "validation") if held else None),
        shape,
    )
