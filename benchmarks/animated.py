"""What the bound on the motion's error costs and gives.

Python benchmarks/animated.py output/rose output/robot

For every tolerance the size of the animated .glb, and how far its centres and its pictures are from
those of the run (which are those of its PLY sequence) at the frames and between them; where the
run's clip is given by --data-dir, also how far both are from the truth.
A line of a .splatv follows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from gs4d.asset import Asset
from gs4d.clip import Orbit, cameras_of, over_white
from gs4d.export.glb import size_of, write_glb
from gs4d.export.splatv import write_splatv
from gs4d.io.clips import read_clip
from gs4d.open_asset import read_asset
from gs4d.render import render

HEAD = (
    *("tolerance", "targets (turn, stretch)", "MB", "MB per 10k", "seconds"),
    *("99.9 %, all centres at the frames", "99.9 %, all between"),
    *("dB to the PLY sequence", "between frames", "dB lost to the truth"),
)
VIEWS = [Orbit(azimuth=a) for a in (-75.0, 15.0, 105.0, 195.0)]  # Consistent4D's


@dataclass(frozen=True)
class Options:
    """What is measured."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs."""
    data_dir: Path | None = None
    """Where the clips of the runs are, for the distance to the truth."""
    tolerances: tuple[float, ...] = (0.005, 0.002, 0.001, 0.0005)
    size: int = 256
    """Pixels of the pictures."""


def psnr(a: Tensor, b: Tensor) -> float:
    """DB between pictures, over all of them."""
    return float(-10 * (a - b).square().mean().log10())


def pictures(asset: Asset, times: Float[Tensor, "t"], size: int) -> Float[Tensor, "t v h w 3"]:
    """The asset from all views."""
    cameras = cameras_of(VIEWS, width=size, height=size)
    return torch.stack([render(asset.at(t), cameras).rgb.clamp(0, 1) for t in times.tolist()])


def strayed(a: Asset, b: Asset, times: Float[Tensor, "t"]) -> str:
    """How far the centres of ``a`` are from those of ``b``, as parts of the object's size.

    99.9 % of them, and all.
    """
    errors = torch.cat(
        [(a.at_times(t).means - b.at_times(t).means).norm(dim=-1).flatten() for t in times.split(8)]
    )
    errors /= size_of(b.at(0.0).means)
    return f"{np.quantile(errors.numpy(), 0.999):.1e}, {errors.max():.1e}"


def to_truth(asset: Asset, run: Path, data_dir: Path, size: int) -> float:
    """PSNR against the views that the clip keeps for scoring, or else its training views."""
    clip = read_clip(data_dir, run.name, resolution=size)
    errors = []
    for frame, t in enumerate(clip.times().tolist()):
        gaussians = asset.at(t)
        for track in clip.truth or clip.tracks:
            seen, _ = over_white(track.images[frame])
            errors.append(
                (render(gaussians, track.camera()).rgb[0].clamp(0, 1) - seen).square().mean()
            )
    return float(-10 * torch.stack(errors).mean().log10())


def main() -> None:
    """Prints a table per run, in Markdown."""
    options = tyro.cli(Options)
    for run in options.runs:
        asset = read_asset(run)
        frames = asset.times()
        between = (frames[1:] + frames[:-1]) / 2
        dense = torch.linspace(0, 1, 16 * (asset.frames - 1) + 1)
        truth = pictures(asset, frames, options.size), pictures(asset, between, options.size)
        fitted = to_truth(asset, run, options.data_dir, options.size) if options.data_dir else None
        print(f"\n{run.name}: {asset.gaussians.count} Gaussians, {asset.frames} frames", end="")
        print(f", the run itself {fitted:.2f} dB from the truth\n" if fitted else "\n")
        print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "asset.glb"
            for tolerance in options.tolerances:
                start = time.perf_counter()
                write_glb(path, asset, tolerance=tolerance)
                seconds = time.perf_counter() - start
                back = read_asset(path)
                ranks = {name: len(deltas) for name, deltas in back.motion.deltas.items()}  # pyright: ignore[reportAttributeAccessIssue]
                turns, scales = ranks.get("quats", 0), ranks.get("log_scales", 0)
                modes = f"{ranks.get('means', 0)} ({turns}, {scales})"
                mega = path.stat().st_size / 1e6
                dbs = [
                    psnr(pictures(back, t, options.size), p)
                    for t, p in zip((frames, between), truth, strict=True)
                ]
                lost = (
                    f"{fitted - to_truth(back, run, options.data_dir, options.size):.2f}"
                    if options.data_dir and fitted
                    else ""
                )
                row = [
                    tolerance,
                    modes,
                    f"{mega:.2f}",
                    f"{mega / asset.gaussians.count * 1e4:.2f}",
                    f"{seconds:.1f}",
                ]
                row += [strayed(back, asset, t) for t in (frames, dense)]
                print("|", " | ".join(map(str, [*row, *(f"{db:.1f}" for db in dbs), lost])), "|")
            start = time.perf_counter()
            error = write_splatv(path, asset)
            seconds = time.perf_counter() - start
            mega = path.stat().st_size / 1e6
            print(
                f"\n.splatv: {mega:.2f} MB, {seconds:.1f} s, 99 % stray by at most "
                f"{100 * error:.2f} % of the size"
            )


if __name__ == "__main__":
    main()
