"""Other people's readers on the files of a run: python tools/oracles/check.py output/rose

Wants `npm ci --ignore-scripts` in this folder first, and for the pictures Chromium (in $CHROMIUM, or /usr/bin/chromium).
The validator of Khronos must find nothing; three.js must put every point where gs4d reads it from the file; pictures of
Babylon.js (of the .glb) and gsplat.js (of the .splatv) must look like gs4d's of the run. Files stay in {run}/oracles.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import Tensor

from gs4d.asset import Asset
from gs4d.checkpoint import read_asset
from gs4d.clip import cameras_of
from gs4d.export.glb import write_glb
from gs4d.export.splatv import write_splatv
from gs4d.io.images import read_image, write_png
from gs4d.render import render

HERE = Path(__file__).parent
TIMES = (0.0, 0.13, 0.5, 0.8, 1.0)
FAR = 1e-3  # of the object's size
LIKE = {"babylon": 28.0, "gsplat": 22.0}  # dB: others blur and cut off in their own ways, and cubics are not the motion
FPS = 8.0


@dataclass(frozen=True)
class Options:
    """What is checked."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run."""
    pictures: bool = True
    """Also draw in a browser."""


def node(script: str, *arguments: object) -> None:
    """Runs a script of this folder; its output is ours, and its failure too."""
    done = subprocess.run(["node", HERE / script, *map(str, arguments)], check=False)
    if done.returncode:
        sys.exit(f"{script} says no")


def draw(asset: Asset, t: float) -> Tensor:
    """What gs4d shows from the input camera."""
    return render(asset.at(t), cameras_of([asset.orbits["input"]], width=256, height=256)).rgb[0].clamp(0, 1)


def distances(path: Path, asset: Asset, out: Path) -> tuple[float, float]:
    """How far three.js' points are from gs4d's reading at most, and 99 % of them from the asset: parts of its size."""
    seconds = [t * (asset.frames - 1) / FPS for t in TIMES]
    node("positions.mjs", path, out, *seconds)
    theirs = torch.from_numpy(np.fromfile(out, "<f4")).view(len(TIMES), -1, 3)
    times = torch.tensor(TIMES)
    truth, ours = (a.at_times(times).means.expand_as(theirs) for a in (asset, read_asset(path)))
    size = (truth[0].amax(0) - truth[0].amin(0)).max()
    read, lost = ((theirs - x).norm(dim=-1) / size for x in (ours, truth))
    return float(read.max()), float(lost.flatten().quantile(0.99))


def main() -> None:
    """Prints what was found; exits with 1 on the first thing that is wrong."""
    options = tyro.cli(Options)
    asset = read_asset(options.run)
    folder = options.run / "oracles"
    folder.mkdir(exist_ok=True)
    write_glb(folder / "asset.glb", asset, fps=FPS)
    write_splatv(folder / "asset.splatv", asset)
    node("validate.mjs", folder / "asset.glb")
    far, lost = distances(folder / "asset.glb", asset, folder / "positions.f32")
    print(f"three.js: points at most {far:.1e} of the object's size from gs4d's reading; 99 % within {lost:.1e} of the run's")
    bad = far > FAR
    if options.pictures:
        node("pictures.mjs", folder, "three", "asset.glb", folder / "three.png", (asset.frames - 1) / FPS / 2)
        shows = [("babylon", "asset.glb", 0.0), ("gsplat", "asset.splatv", 0.5)]
        for viewer, name, t in shows:
            picture = folder / f"{viewer}.png"
            node("pictures.mjs", folder, viewer, name, picture, t)
            ours = draw(asset, t)
            write_png(folder / f"{viewer}-ours.png", ours)
            theirs = torch.from_numpy(np.array(read_image(picture)))[..., :3] / 255
            db = float(-10 * (theirs - ours).square().mean().log10())
            print(f"{viewer}: {db:.1f} dB from gs4d at time {t}")
            bad |= db < LIKE[viewer]
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
