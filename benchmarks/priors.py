"""How well priors draw the sides of a clip that they see from the front.

``python -m benchmarks.priors --clips data/fox``.

Every clip needs its true side views (NAME_sync). Scores are means over those 12 of SyncDreamer's 16
views that lie farthest from the input, at 64x64 pixels over white; edges and gradients (see
gs4d.metrics.image) at 128x128. "repeat" takes the input picture for every view. --grey also shows
the priors the frames in one grey: what that costs is what they read from colours. --models FOLDER
adds the mean over one frame of every animated model of the split "validation" in its models.json,
seen from any direction: decide by these, so that the clips stay unseen.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gs4d.clip import Orbit, premultiply
from gs4d.io.clips import read_clip
from gs4d.io.files import read_json
from gs4d.mesh import Lighting, load_animated_mesh
from gs4d.metrics.image import edges, gradient_share, inside, mask_iou, psnr, psnr_inside
from gs4d.prior import open_prior
from gs4d.prior.rigs import syncdreamer_rig

SIDE, EDGE_SIDE = 64, 128
FARTHEST = 12
GREY = 128  # of 255


@dataclass(frozen=True)
class Task:
    """A clip to draw: its input, its farthest side cameras, and what they saw."""

    name: str
    frames: Tensor
    source: Orbit
    rig: list[Orbit]
    truth: Float[Tensor, "v t e e 4"]


def read_task(path: Path, chosen: list[int]) -> Task:
    """The clip DATA/NAME at some of its frames."""
    clip = read_clip(path.parent, path.name, resolution=256)
    source, *sides = clip.tracks

    def angle(azimuth: float) -> float:
        return abs((azimuth - source.orbit.azimuth + 180) % 360 - 180)

    far = sorted(sides, key=lambda track: -angle(track.orbit.azimuth))[:FARTHEST]
    truth = torch.stack([torch.stack([small(track.images[t]) for t in chosen]) for track in far])
    return Task(
        path.name,
        torch.stack([source.images[t] for t in chosen]),
        source.orbit,
        [track.orbit for track in far],
        truth,
    )


def model_tasks(models: Path) -> list[Task]:
    """One frame of every model of the split "validation", and its sides; always the same."""
    tasks = []
    rows = list(read_json(models / "models.json", "list of models"))
    for number, row in enumerate(r for r in rows if r["split"] == "validation"):
        rng = np.random.default_rng([2, number])
        mesh = load_animated_mesh(models / row["file"], row["clip"])
        mesh = mesh.fitted([k / 16 for k in range(17)])
        time, source = float(rng.random()), Orbit(rng.uniform(0, 360), rng.uniform(-15, 35))
        sky, ground, lamp = (
            tuple(rng.uniform(low, high, 3)) for low, high in ((0.4, 0.9), (0.1, 0.5), (0.1, 0.6))
        )
        toward = tuple((rng.normal(size=3) + np.array([0, 1.0, 1.0])).tolist())
        rig = sorted(syncdreamer_rig(), key=lambda o: -abs((o.azimuth + 180) % 360 - 180))
        rig = [replace(o, azimuth=(o.azimuth + source.azimuth) % 360) for o in rig[:FARTHEST]]
        pictures = torch.from_numpy(
            mesh.views(
                [time] * (1 + FARTHEST),
                [source, *rig],
                256,
                256,
                lighting=Lighting(sky, ground, lamp, toward),
            )
        )
        truth = torch.stack([small(picture) for picture in pictures[1:]])[:, None]
        tasks.append(Task("models", pictures[:1], source, rig, truth))
    return tasks


def reduced(picture: Float[Tensor, "h w 4"], side: int) -> Float[Tensor, "side side 4"]:
    """A premultiplied picture, reduced by means over areas."""
    return F.interpolate(picture.movedim(-1, 0)[None], (side, side), mode="area")[0].movedim(0, -1)


def small(picture: Tensor) -> Float[Tensor, "e e 4"]:
    """A picture of 8-bit RGBA, premultiplied and reduced to EDGE_SIDE pixels."""
    return reduced(premultiply(picture), EDGE_SIDE)


def greyed(frames: Tensor) -> Tensor:
    """Frames of 8-bit RGBA in one grey."""
    return torch.cat([torch.full_like(frames[..., :3], GREY), frames[..., 3:]], -1)


def drawn(prior: str, task: Task, together: bool) -> Float[Tensor, "v t e e 4"]:
    """What a prior makes of a task: frame by frame, or of all frames at once."""
    if prior == "repeat":
        return torch.stack([small(frame) for frame in task.frames]).expand(
            len(task.rig), -1, -1, -1, -1
        )
    painter = open_prior(prior, "views")
    groups = [task.frames] if together else list(task.frames.split(1))
    parts = [
        painter.views(group, task.source, task.rig, torch.Generator().manual_seed(0)).images
        for group in groups
    ]
    return torch.stack(
        [torch.stack([small(picture) for picture in view]) for view in torch.cat(parts, 1)]
    )


def scores(pictures: Float[Tensor, "v t e e 4"], truth: Float[Tensor, "v t e e 4"]) -> list[float]:
    """Means of PSNR and PSNR inside the object (dB), mask IoU, and edges, and gradients' share."""
    rows = []
    for sharp, true in zip(pictures.flatten(0, 1), truth.flatten(0, 1), strict=True):
        a, b = reduced(sharp, SIDE), reduced(true, SIDE)
        x, y, fine, fine_true = (
            (p[..., :3] + 1 - p[..., 3:]).clamp(0, 1) for p in (a, b, sharp, true)
        )
        mask = inside(a[..., 3], b[..., 3])
        row = [psnr(x, y), psnr_inside(x, y, mask), mask_iou(a[..., 3], b[..., 3])]
        rows.append(torch.stack([*row, edges(fine, fine_true), gradient_share(fine, fine_true)]))
    return torch.stack(rows).nanmean(0).tolist()


def flicker(film: Float[Tensor, "v t e e 4"]) -> float:
    """Mean change there and back between successive frames; at least three frames."""
    return float((film[:, 1:-1] - (film[:, :-2] + film[:, 2:]) / 2).abs().mean())


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clips", nargs="*", type=Path, default=[], help="DATA/NAME with NAME_pose0 and NAME_sync"
    )
    parser.add_argument("--models", type=Path, help="folder of animated models and models.json")
    parser.add_argument("--priors", nargs="+", default=["repeat", "inflate", "lift"])
    parser.add_argument("--frames", nargs="+", type=int, default=[0, 5, 10, 15])
    parser.add_argument(
        "--together", action="store_true", help="show priors all frames at once, not each alone"
    )
    parser.add_argument(
        "--flicker", action="store_true", help="also draw every frame of the clip, for its flicker"
    )
    parser.add_argument(
        "--grey", action="store_true", help="also show the priors the frames in one grey"
    )
    options = parser.parse_args()
    print(
        f"{'clip':10}{'prior':28}{'PSNR':>7}{'inside':>8}{'IoU':>7}{'edges':>7}{'grads':>7}{'s':>7}"
        + ("  flicker / truth's" if options.flicker else "")
        + ("  grey IoU" if options.grey else "")
    )
    if options.models:
        tasks = model_tasks(options.models)
        for prior in options.priors:
            line(f"{len(tasks)} models", prior, tasks, options)
    for path in options.clips:
        for prior in options.priors:
            line(path.name, prior, [read_task(path, options.frames)], options)


def line(name: str, prior: str, tasks: list[Task], options: argparse.Namespace) -> None:
    """Prints the means of a prior over some tasks."""
    began = time.perf_counter()
    rows = [scores(drawn(prior, task, options.together), task.truth) for task in tasks]
    seconds = (time.perf_counter() - began) / len(tasks)
    a, b, c, d, e = np.nanmean(rows, 0)
    text = f"{name[-10:]:10}{prior[-26:]:28}{a:7.2f}{b:8.2f}{c:7.3f}{d:7.3f}{e:7.2f}{seconds:7.1f}"
    if options.flicker and name == tasks[0].name:
        path = next(path for path in options.clips if path.name == name)
        count = len(list(path.parent.glob(f"{name}_pose0/*.png")))
        whole = read_task(path, list(range(count)))
        text += f"{flicker(drawn(prior, whole, True)) / flicker(whole.truth):10.2f}"
    if options.grey:
        grey = [replace(task, frames=greyed(task.frames)) for task in tasks]
        again = [scores(drawn(prior, task, options.together), task.truth)[2] for task in grey]
        text += f"{np.nanmean(again):10.3f}"
    print(text, flush=True)


if __name__ == "__main__":
    main()
