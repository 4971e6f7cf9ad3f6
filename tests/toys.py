"""A tiny clip with a known answer.

Two coloured blobs, one of which moves, seen from a ring of cameras.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gs4d.clip import Clip, Orbit, Track, cameras_of
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0
from gs4d.io.files import write_json
from gs4d.io.images import to_bytes
from gs4d.render import render


def blobs(t: float) -> Gaussians:
    """Two opaque balls made of many small Gaussians; the red one rises with time."""
    generator = torch.Generator().manual_seed(3)
    n = 400
    ball = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1) * 0.16
    lift = torch.tensor([0.0, 0.15 * t, 0.0])
    means = torch.cat(
        [ball + torch.tensor([-0.2, 0.0, 0.0]) + lift, ball + torch.tensor([0.22, 0.0, 0.05])]
    )
    colors = torch.cat(
        [torch.tensor([0.9, 0.2, 0.1]).repeat(n, 1), torch.tensor([0.1, 0.3, 0.8]).repeat(n, 1)]
    )
    return Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(2 * n, 1),
        log_scales=torch.full((2 * n, 3), -3.6),
        logit_opacities=torch.full((2 * n,), 3.0),
        sh=((colors - 0.5) / SH_C0)[:, None],
    )


def cloud(n: int = 700, degree: int = 3, seed: int = 0) -> Gaussians:
    """Gaussians whose numbers all lie where every format can say them."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    sh = (rand(n, (degree + 1) ** 2, 3) - 0.5) * 1.8
    sh[:, 0] = (rand(n, 3) - 0.5) / SH_C0
    return Gaussians(
        means=rand(n, 3) - 0.5,
        quats=torch.randn(n, 4, generator=generator),
        log_scales=rand(n, 3) * 4 - 6,
        logit_opacities=rand(n) * 8 - 4,
        sh=sh,
    )


def toy_clip(frames: int = 3, views: int = 6, size: int = 32) -> Clip:
    """The blobs from the input camera and ``views`` side cameras, and one more to score on."""
    orbits = {
        "input": Orbit(),
        **{f"sync_{v}": Orbit(360.0 * v / views, 30.0) for v in range(views)},
        "eval_0": Orbit(40.0, 0.0),
    }
    cameras = cameras_of(list(orbits.values()), width=size, height=size)
    images = []
    for t in range(frames):
        drawn = render(blobs(t / max(frames - 1, 1)), cameras, background=(0.0, 0.0, 0.0))
        straight = drawn.rgb / drawn.alpha.clamp_min(1e-6)[..., None]
        images.append(torch.from_numpy(to_bytes(torch.cat([straight, drawn.alpha[..., None]], -1))))
    stacked = torch.stack(images, 1)
    tracks = [Track(name, (orbit,), stacked[i]) for i, (name, orbit) in enumerate(orbits.items())]
    return Clip("toy", tuple(tracks[:-1]), (tracks[-1],))


def pixels(track: Track) -> torch.Tensor:
    """The pictures of a track of this module, which are all in memory."""
    assert isinstance(track.images, torch.Tensor)
    return track.images


def write_clip(folder: Path, clip: Clip) -> None:
    """Writes a clip in the layout that ``read_clip`` reads, with a rig file."""

    def save(path: Path, image: torch.Tensor) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image)).save(path)

    for t in range(clip.frames):
        save(folder / f"{clip.name}_pose0" / f"{t}.png", clip.tracks[0].images[t])
        for v, track in enumerate(clip.tracks[1:]):
            save(folder / f"{clip.name}_sync" / f"{t}_0_{v}_rgba.png", track.images[t])
        for k, track in enumerate(clip.truth):
            save(folder / f"{clip.name}_eval" / f"eval_{k}" / f"{t}.png", track.images[t])
    side = [track.orbit for track in clip.tracks[1:]]
    rig = {"azimuth": [o.azimuth for o in side], "elevation": [o.elevation for o in side]}
    if side:
        write_json(folder / f"{clip.name}_rig.json", rig)
    entries = {
        f"eval_{k}": {"azimuth_deg": t.orbit.azimuth, "elevation_deg": t.orbit.elevation}
        for k, t in enumerate(clip.truth)
    }
    write_json(
        folder / f"{clip.name}_cameras.json", {"radius": 1.5, "fovy_deg": 49.13, "eval": entries}
    )
