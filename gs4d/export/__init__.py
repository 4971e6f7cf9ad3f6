"""What leaves a run: one PLY per frame and videos. Time is continuous, so any number of frames will do."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from tqdm import tqdm

from ..asset import Asset
from ..camera import DEFAULT_FOVY_DEG, DEFAULT_RADIUS
from ..clip import Orbit, cameras_of, orbit_along
from ..errors import require_ranges
from ..io.files import atomic_path
from ..io.images import to_bytes, write_png
from ..io.ply import write_ply
from ..io.video import write_video
from ..render import render

VIEWS_PER_CALL = 4
BLACK = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ExportOptions:
    """What is written, and how the videos look."""

    fps: float = 8.0
    """Frames per second of the videos."""
    frames: int | None = None
    """Frames from first to last; None writes one per frame of the input."""
    width: int = 512
    """Pixels of the videos."""
    height: int = 512
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """RGB in [0, 1]."""
    turntable_frames: int = 64
    """Frames of the turntable, once around while time runs from first to last."""
    elevation: float = 15.0
    """Of the turntable's camera, degrees."""
    azimuth: float = 0.0
    """Where the turntable starts, degrees."""
    turns: float = 1.0
    """Times around; 0 keeps the camera still."""
    radius: float = DEFAULT_RADIUS
    fov: float = DEFAULT_FOVY_DEG
    """Vertical field of view, degrees."""
    freeze: float | None = None
    """Time in [0, 1] at which the turntable's object stands still; None lets it move."""

    def __post_init__(self) -> None:
        require_ranges(
            "export", self, fps=(0.1, 240), width=(1, 8192), height=(1, 8192), background=(0, 1), elevation=(-90, 90)
        )
        require_ranges("export", self, turntable_frames=(1, 10**5), azimuth=(-1e4, 1e4), turns=(-1e3, 1e3), radius=(0.01, 100))
        require_ranges("export", self, fov=(0.1, 179))
        if self.frames is not None:
            require_ranges("export", self, frames=(1, 10**5))
        if self.freeze is not None:
            require_ranges("export", self, freeze=(0, 1))

    def with_aspect(self, aspect: float) -> ExportOptions:
        """The largest size within width x height whose sides have the ratio ``aspect``, width over height."""
        width = min(self.width, max(1, round(self.height * aspect)))
        return replace(self, width=width, height=min(self.height, max(1, round(width / aspect))))


def draw_frames(
    asset: Asset, times: list[float], orbits: list[Orbit], options: ExportOptions, *, label: str, alpha: bool = False
) -> Generator[UInt8[np.ndarray, "h w c"], None, None]:
    """Pictures of the asset, one per (time, orbit), a few at a time: RGB, or RGBA with straight alpha and no background.

    Close it when the pictures are not taken to the end, so that its progress bar is gone before an error is printed.
    """
    with tqdm(total=len(times), desc=label, unit="frame", dynamic_ncols=True, leave=False) as bar, torch.no_grad():
        for begin in range(0, len(times), VIEWS_PER_CALL):
            some = slice(begin, begin + VIEWS_PER_CALL)
            cameras = cameras_of(orbits[some], width=options.width, height=options.height)
            moved = asset.at_times(torch.tensor(times[some]))
            drawn = render(moved, cameras, background=BLACK if alpha else options.background)
            colour = drawn.rgb
            if alpha:
                colour = torch.cat([colour / drawn.alpha[..., None].clamp_min(1e-6), drawn.alpha[..., None]], -1)
            pictures = to_bytes(colour)
            bar.update(len(pictures))
            yield from pictures


def write_ply_sequence(folder: Path, asset: Asset, count: int | None = None) -> None:
    """``0000.ply``, ``0001.ply``, ... at ``count`` even times (None: the input's frames); replaces ``folder`` as a whole."""
    with atomic_path(folder) as part:
        part.mkdir()
        for i, t in enumerate(tqdm(asset.times(count).tolist(), desc="ply", unit="frame", dynamic_ncols=True, leave=False)):
            write_ply(part / f"{i:04d}.ply", asset.at(t))


def write_input_view(path: Path, asset: Asset, orbits: Orbit | Sequence[Orbit], options: ExportOptions) -> None:
    """The asset from the input camera, which stays or has one orbit per frame of the clip, over time."""
    times = asset.times(options.frames).tolist()
    along = [orbit_along(orbits, t) for t in times]
    options = options.with_aspect(along[0].aspect)
    with closing(draw_frames(asset, times, along, options, label="input view")) as pictures:
        write_video(path, pictures, options.fps)


def write_turntable(path: Path, asset: Asset, options: ExportOptions) -> None:
    """Once (or ``turns`` times) around the asset while time advances, or stands still at ``freeze``."""
    n = options.turntable_frames
    times = asset.times(n).tolist() if options.freeze is None else [options.freeze] * n
    orbits = [
        Orbit(options.azimuth + 360 * options.turns * i / n, options.elevation, options.radius, options.fov) for i in range(n)
    ]
    with closing(draw_frames(asset, times, orbits, options, label="turntable")) as pictures:
        write_video(path, pictures, options.fps)


def write_views(
    folder: Path,
    asset: Asset,
    orbits: Mapping[str, Orbit | Sequence[Orbit]],
    options: ExportOptions,
    *,
    alpha: bool = False,
) -> None:
    """``{view}/{t}.png`` for every view and frame, over the background or with alpha; replaces ``folder`` as a whole.

    A camera stays, or has one orbit per frame of the clip.
    """
    times = asset.times(options.frames).tolist()
    with atomic_path(folder) as part:
        for view, camera in orbits.items():
            along = [orbit_along(camera, t) for t in times]
            shape = options.with_aspect(along[0].aspect)
            pictures = draw_frames(asset, times, along, shape, label=view, alpha=alpha)
            for t, picture in enumerate(pictures):
                write_png(part / view / f"{t}.png", torch.from_numpy(picture) / 255)
