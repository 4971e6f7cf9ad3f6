"""How well priors see the relief of what a frame shows.

python -m benchmarks.relief --models DIR [--priors inflate lift lift:FILE]

DIR holds a models.json; the models of its split "validation" are drawn at random times and
azimuths, elevations -15 to 35 and in random light, three frames each, 128 pixels. The score is the
Pearson correlation of the near surface's depth with the true one (by ray casting) inside the mask,
after a plane is taken out of both, its mean over frames; "grey" is the same for frames painted in
one grey. Needs open3d.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gs4d.clip import Orbit
from gs4d.io.files import read_json
from gs4d.mesh import Lighting, load_animated_mesh
from gs4d.prior import open_prior
from gs4d.prior.inflate import Inflate, half_thickness
from gs4d.prior.solid import REACH
from gs4d.prior.train.samples import PIXELS, pixel_rays
from gs4d.prior.train.surface import relief_correlation

from .priors import greyed

FRAMES_PER_MODEL = 3


@dataclass(frozen=True)
class Frame:
    """A frame and the depth of what it shows, in units of REACH about the origin, else 0."""

    image: UInt8[Tensor, "p p 4"]
    depth: Float[Tensor, "p p"]
    source: Orbit


def frames_of(models: Path) -> list[Frame]:
    """Frames of all models of the split "validation"; always the same."""
    import open3d

    out = []
    for number, row in enumerate(
        r for r in read_json(models / "models.json", "list of models") if r["split"] == "validation"
    ):
        rng = np.random.default_rng([1, number])
        mesh = load_animated_mesh(models / row["file"], row["clip"]).fitted(
            [k / 16 for k in range(17)]
        )
        for _ in range(FRAMES_PER_MODEL):
            time, source = (
                float(rng.random()),
                Orbit(float(rng.uniform(0, 360)), float(rng.uniform(-15, 35))),
            )
            sky, ground, lamp = (
                tuple(rng.uniform(low, high, 3))
                for low, high in ((0.4, 0.9), (0.1, 0.5), (0.1, 0.6))
            )
            x, y, z = (rng.normal(size=3) + np.array([0, 1.0, 1.0])).tolist()
            image = mesh.views(
                [time], [source], PIXELS, PIXELS, lighting=Lighting(sky, ground, lamp, (x, y, z))
            )[0]
            scene = open3d.t.geometry.RaycastingScene()
            faces = open3d.core.Tensor.from_numpy(mesh.painter.faces.astype(np.uint32))
            scene.add_triangles(
                open3d.core.Tensor.from_numpy(mesh.at(time).vertices.astype(np.float32)), faces
            )
            seen = (
                scene.cast_rays(open3d.core.Tensor.from_numpy(pixel_rays(source, PIXELS)))["t_hit"]
                .numpy()
                .reshape(PIXELS, PIXELS)
            )
            depth = np.where(np.isfinite(seen), (seen - source.radius) / REACH, 0).astype(
                np.float32
            )
            out.append(Frame(torch.from_numpy(image), torch.from_numpy(depth), source))
    return out


def near_depth(prior: object, frame: Frame, image: UInt8[Tensor, "p p 4"]) -> Float[Tensor, "p p"]:
    """Depth of the near surface that a prior makes of a frame, in units of REACH."""
    if isinstance(prior, Inflate):
        pixel = (
            2 * frame.source.radius * math.tan(math.radians(frame.source.fov / 2)) / PIXELS / REACH
        )
        return torch.from_numpy(-half_thickness(image[..., 3].numpy() > 127) * pixel)
    return prior.visible_depth(image[None], frame.source)[0]  # type: ignore[attr-defined]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--priors", nargs="+", default=["inflate", "lift"])
    options = parser.parse_args()
    frames = frames_of(options.models)
    print(f"{len(frames)} frames\n{'prior':40}{'relief':>8}{'grey':>8}")
    for name in options.priors:
        prior, means = open_prior(name, "views"), []
        for painted in (False, True):
            rows = []
            for frame in frames:
                image = greyed(frame.image) if painted else frame.image
                there = ((frame.image[..., 3] > 127) & (frame.depth != 0)).float()
                rows.append(
                    relief_correlation(
                        near_depth(prior, frame, image)[None], frame.depth[None], there[None]
                    )
                )
            means.append(float(torch.cat(rows).nanmean()))
        print(f"{name[-38:]:40}{means[0]:8.3f}{means[1]:8.3f}", flush=True)


if __name__ == "__main__":
    main()
