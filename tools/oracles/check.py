"""Other people's readers on a run's files: ``python tools/oracles/check.py output/rose``.

Wants `npm ci --ignore-scripts` in this folder first, and for the pictures Chromium (in $CHROMIUM,
or /usr/bin/chromium). The validator of Khronos must find nothing; three.js must put every point
where gs4d reads it from the file, and at the frames where the run itself has it; pictures of
Babylon.js (of the .glb) and gsplat.js (of the .splatv) must look like gs4d's of the run. Files stay
in {run}/oracles.
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
from gs4d.clip import cameras_of
from gs4d.export.glb import size_of, write_glb
from gs4d.export.splatv import write_splatv
from gs4d.io.images import read_image, write_png
from gs4d.open_asset import read_asset
from gs4d.render import render

HERE = Path(__file__).parent
FAR = 1e-3  # of the object's size
# dB: others blur and cut off in their own ways, and cubics are not the motion
LIKE = {"babylon": 28.0, "gsplat": 22.0}
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
    return (
        render(asset.at(t), cameras_of([asset.orbits["input"][0]], width=256, height=256))
        .rgb[0]
        .clamp(0, 1)
    )


def distances(path: Path, asset: Asset, out: Path) -> tuple[float, Tensor, Tensor]:
    """Largest distances of three.js' points, in parts of the object's size.

    From gs4d's reading; from the run at its frames; and between them, at times that are no
    keyframes.
    """
    frames = asset.times()
    between = torch.cat([torch.lerp(frames[:-1], frames[1:], f) for f in (0.3, 0.5, 0.85)])
    times = torch.cat([frames, between])
    node("positions.mjs", path, out, *((asset.frames - 1) / FPS * times.double()).tolist())
    theirs = torch.from_numpy(np.fromfile(out, "<f4")).view(len(times), -1, 3)
    truth, ours = (a.at_times(times).means.expand_as(theirs) for a in (asset, read_asset(path)))
    read, lost = ((theirs - x).norm(dim=-1) / size_of(truth[0]) for x in (ours, truth))
    return float(read.max()), lost[: len(frames)].flatten(), lost[len(frames) :].flatten()


def spread(errors: Tensor) -> str:
    """The largest, and what 99.9 % and 99 % do not exceed."""
    return " ".join(
        f"{100 * p:g} %: {float(np.quantile(errors.numpy(), p)):.1e}" for p in (1.0, 0.999, 0.99)
    )


def main() -> None:
    """Prints what was found; exits with 1 on the first thing that is wrong."""
    options = tyro.cli(Options)
    asset = read_asset(options.run)
    folder = options.run / "oracles"
    folder.mkdir(exist_ok=True)
    write_glb(folder / "asset.glb", asset, fps=FPS)
    write_splatv(folder / "asset.splatv", asset)
    node("validate.mjs", folder / "asset.glb")
    far, lost, between = distances(folder / "asset.glb", asset, folder / "positions.f32")
    print(
        f"three.js: points at most {far:.1e} of the object's size from gs4d's reading of the file"
    )
    print(
        f"three.js: from the run's own points at its frames {spread(lost)}; between them "
        f"{spread(between)}"
    )
    bad = max(far, float(lost.max())) > FAR
    if options.pictures:
        node(
            "pictures.mjs",
            folder,
            "three",
            "asset.glb",
            folder / "three.png",
            (asset.frames - 1) / FPS / 2,
        )
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
