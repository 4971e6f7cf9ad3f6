"""The asset filmed: videos, GIFs and single pictures, along a path of the camera."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from tqdm import tqdm

from ..asset import Asset
from ..clip import Orbit, cameras_of, orbit_along
from ..io.encode import write_animation, write_transparent_video, write_video
from ..io.images import to_bytes, write_png
from ..io.owned import atomic_folder
from ..render import render
from .options import ExportOptions
from .timing import around, moments

VIEWS_PER_CALL = 4
BLACK = (0.0, 0.0, 0.0)


def write_mp4(path: Path, asset: Asset, options: ExportOptions) -> None:
    """An H.264 video over the background."""
    with closing(film(asset, options, label=path.name)) as pictures:
        write_video(path, pictures, options.fps)


def write_webm(path: Path, asset: Asset, options: ExportOptions) -> None:
    """A VP9 video with alpha."""
    with closing(film(asset, options, label=path.name, alpha=True)) as pictures:
        write_transparent_video(path, pictures, options.fps)


def write_gif(path: Path, asset: Asset, options: ExportOptions) -> None:
    """A GIF that repeats for ever, over the background or ``options.transparent``."""
    with closing(film(asset, options, label=path.name, alpha=options.transparent)) as pictures:
        write_animation(path, pictures, options.fps)


def write_turntable(path: Path, asset: Asset, options: ExportOptions) -> None:
    """The turntable's video, whatever the camera and the number of frames that ``options`` ask of
    other videos.
    """
    write_mp4(path, asset, replace(options, camera="turntable", frames=None))


def write_input_view(path: Path, asset: Asset, options: ExportOptions) -> None:
    """The video from the input's camera."""
    write_mp4(path, asset, replace(options, camera="input"))


def film(
    asset: Asset, options: ExportOptions, *, label: str, alpha: bool = False
) -> Generator[UInt8[np.ndarray, "h w c"], None, None]:
    """The pictures of ``options.camera``'s path, as :func:`draw_frames`."""
    if options.camera == "turntable":
        times = around(asset, options)
        angles = [options.azimuth + 360 * options.turns * i / len(times) for i in range(len(times))]
    else:
        times = moments(asset, options)
        angles = [options.azimuth] * len(times)
    orbits = [Orbit(angle, options.elevation, options.radius, options.fov) for angle in angles]
    if options.camera == "input":
        source = asset.orbits.get("input", (Orbit(),))
        orbits = [orbit_along(source, t) for t in times]
        options = options.with_aspect(orbits[0].aspect)
    return draw_frames(asset, times, orbits, options, label=label, alpha=alpha)


def draw_frames(
    asset: Asset,
    times: list[float],
    orbits: list[Orbit],
    options: ExportOptions,
    *,
    label: str,
    alpha: bool = False,
) -> Generator[UInt8[np.ndarray, "h w c"], None, None]:
    """Pictures of the asset, one per (time, orbit), a few at a time.

    RGB, or RGBA with straight alpha and no background.

    Close it when the pictures are not taken to the end, so that its progress bar is gone before an
    error is printed.
    """
    with (
        tqdm(total=len(times), desc=label, unit="frame", dynamic_ncols=True, leave=False) as bar,
        torch.no_grad(),
    ):
        for begin in range(0, len(times), VIEWS_PER_CALL):
            some = slice(begin, begin + VIEWS_PER_CALL)
            cameras = cameras_of(orbits[some], width=options.width, height=options.height)
            moved = asset.at_times(torch.tensor(times[some]))
            drawn = render(moved, cameras, background=BLACK if alpha else options.background)
            colour = drawn.rgb
            if alpha:
                colour = torch.cat(
                    [colour / drawn.alpha[..., None].clamp_min(1e-6), drawn.alpha[..., None]], -1
                )
            pictures = to_bytes(colour)
            bar.update(len(pictures))
            yield from pictures


def write_views(
    folder: Path,
    asset: Asset,
    orbits: Mapping[str, Sequence[Orbit]],
    options: ExportOptions,
    *,
    alpha: bool = False,
) -> None:
    """``{view}/{t}.png`` for every view and frame, over the background or with alpha.

    Replaces ``folder`` as a whole.

    A camera stays, or has one orbit per frame of the clip.
    """
    times = moments(asset, options)
    with atomic_folder(folder) as part:
        for view, camera in orbits.items():
            along = [orbit_along(camera, t) for t in times]
            pictures = draw_frames(
                asset, times, along, options.with_aspect(along[0].aspect), label=view, alpha=alpha
            )
            for t, picture in enumerate(pictures):
                write_png(part / view / f"{t}.png", torch.from_numpy(picture) / 255)
