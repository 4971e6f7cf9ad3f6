"""Draws README.md's pictures.

Python benchmarks/pictures.py --data_dir data --output_dir output --names rose
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from gs4d.clip import Clip, Orbit, cameras_of, over_white
from gs4d.io.clips import read_clip
from gs4d.io.images import write_png
from gs4d.open_asset import read_asset
from gs4d.render import render

SIZE = 256


@dataclass(frozen=True)
class Options:
    """What to draw."""

    names: tuple[str, ...] = ("rose",)
    data_dir: Path = Path("data")
    output_dir: Path = Path("output")
    docs: Path = Path("docs")


def strip(clip: Clip, folder: Path) -> Float[Tensor, "h w 3"]:
    """Draws four times: the input video above; below, the asset from where no picture was."""
    asset, top, bottom = read_asset(folder), [], []
    for i, azimuth in enumerate((-60.0, -15.0, 35.0, 80.0)):
        frame = round(i * (clip.frames - 1) / 3)
        top.append(over_white(clip.tracks[0].images[frame])[0])
        camera = cameras_of([Orbit(azimuth, 15.0)], width=SIZE, height=SIZE)
        bottom.append(render(asset.at(clip.times()[frame].item()), camera).rgb[0])
    return torch.cat([torch.cat(top, 1), torch.cat(bottom, 1)])


def main(options: Options) -> None:
    """Writes ``{docs}/{name}.png`` for every name."""
    for name in options.names:
        clip = read_clip(options.data_dir, name, resolution=SIZE)
        write_png(options.docs / f"{name}.png", strip(clip, options.output_dir / name))


if __name__ == "__main__":
    main(tyro.cli(Options, use_underscores=True))
