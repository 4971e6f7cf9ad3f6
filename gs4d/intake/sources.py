"""Opens whatever holds a clip, and picks its frames.

They go to disk one by one, so that a long video is never in memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from ..errors import UserError
from ..io.foreign import require_plain_file
from ..io.images import open_picture, read_image
from ..io.video import VideoInfo, is_still, read_frames, video_info
from .poses import require_one_camera
from .series import PICTURES, find_series

DEFAULT_FRAMES = 32  # as many as Consistent4D's protocol and most models of this field take
MAX_FRAMES = 1024
MIN_SIDE = 8  # pixels


@dataclass(frozen=True)
class Pick:
    """A choice of frames of a clip.

    Attributes:
        frames: how many, evenly over the time; None: all of a short clip, every n-th of a long one,
            at most 32.
        fps: frames per second of the source's time; None: as ``frames`` says.
        start: seconds into the clip (for a folder: position of the first picture).
        end: likewise, included; None: to the end.
    """

    frames: int | None = None
    fps: float | None = None
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class Shots:
    """The frames that were picked, as files.

    Attributes:
        files: one picture each, in order.
        numbers: which frames of the source they are, counted from 0.
        times: seconds into the source; in a folder the positions of the pictures.
        fps: frames per second of the source's time, None where there is no time.
        said: what was taken, as a sentence.
        warnings: what the user should know.
    """

    files: tuple[Path, ...]
    numbers: tuple[int, ...]
    times: tuple[float, ...]
    fps: float | None
    said: str
    warnings: list[str] = field(default_factory=list)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 4"]:
        """A frame as RGBA with straight alpha."""
        return read_image(self.files[index])


def open_source(path: Path, pick: Pick, scratch: Path) -> Shots:
    """Picks the frames of a video, an animated or still picture, or a folder of pictures.

    Args:
        path: the source.
        pick: which frames.
        scratch: an empty folder that outlives the result; decoded frames go there.

    Raises:
        UserError: there is nothing to read, or it does not have the frames that are asked for.
    """
    if os.path.isdir(path):
        shots = _open_folder(path, pick)
        return _large_enough(path, shots)
    require_plain_file(path, "the source")
    if is_still(path):
        shots = _open_still(path, pick)
    else:
        if path.suffix.lower() in PICTURES:
            with open_picture(path):  # which says what is wrong with it, if it is no picture
                pass
        shots = _open_video(path, pick, scratch)
    return _large_enough(path, shots)


def _large_enough(path: Path, shots: Shots) -> Shots:
    height, width = shots.image(0).shape[:2]
    if min(height, width) < MIN_SIDE:
        raise UserError(
            f"{path} is {width}x{height} pixels; a clip needs at least {MIN_SIDE}x{MIN_SIDE}"
        )
    return shots


def _open_still(path: Path, pick: Pick) -> Shots:
    if pick.fps is not None or (pick.frames or 1) > 1 or pick.start or pick.end:
        raise UserError(
            f"{path} is one picture, so there are no frames to choose from; leave out --frames, "
            "--fps, --start, --end"
        )
    warning = (
        "the source is one picture, so the clip has one frame and nothing moves: make a video of "
        "it first to get motion"
    )
    return Shots((path,), (0,), (0.0,), None, f"took the one picture {path}", [warning])


def _open_folder(folder: Path, pick: Pick) -> Shots:
    series = find_series(folder)
    files = series.files
    if len(files) == 1:
        raise UserError(
            f"{folder} holds a single picture; a clip needs two or more: for a still, give "
            f"{files[0]} itself"
        )
    if pick.fps is not None:
        raise UserError(
            f"{folder} is a folder of pictures, which have no times, so --fps means nothing; use "
            "--frames"
        )
    require_one_camera(folder, files)
    info = VideoInfo(tuple(float(i) for i in range(len(files))), float(len(files)))
    numbers = pick_frames(info, pick, str(folder))
    shots = tuple(files[i] for i in numbers)
    sizes = {}
    for path in tqdm(shots, desc="reading", unit="frame", leave=False):
        sizes.setdefault(read_image(path).shape[:2], path)
    if len(sizes) > 1:
        (a, first), (b, other) = list(sizes.items())[:2]
        raise UserError(
            f"{other} is {b[1]}x{b[0]} pixels but {first.name} is {a[1]}x{a[0]}; the frames of a "
            "clip have one size: give pictures of different things one at a time"
        )
    said = _say(numbers, pick, len(files), f"{shots[0].name} to {shots[-1].name}")
    inside = [
        i
        for i in range(len(files))
        if pick.start <= i <= (len(files) if pick.end is None else pick.end)
    ]
    jump = series.jump(inside[0], inside[-1])
    warnings = [*series.warnings, *([jump] if jump else [])]
    return Shots(shots, tuple(numbers), tuple(float(n) for n in numbers), None, said, warnings)


def pictures_in(folder: Path) -> list[Path]:
    """Returns the pictures of a folder by number, without depth maps, masks and the like.

    Raises:
        UserError: as :func:`find_series`.
    """
    return list(find_series(folder).files)


def _open_video(path: Path, pick: Pick, scratch: Path) -> Shots:
    info = video_info(path)
    if len(info.times) == 1:
        raise UserError(
            f"{path} has a single frame; a clip needs two or more: for a still, save it as a "
            "picture and give that"
        )
    if not info.complete and (pick.end is None or pick.end > info.times[-1]):
        raise UserError(
            f"{path} is cut short: frames are there up to {info.times[-1]:.2f} s of "
            f"{info.duration:.2f} s; copy or export it "
            f"again, or take the part that is there with --end {int(info.times[-1] * 100) / 100:g}"
        )
    numbers = pick_frames(info, pick, str(path))
    files = []
    warnings = [*info.notes]
    frames = read_frames(path, numbers, warnings)
    for frame in tqdm(frames, desc="reading", unit="frame", total=len(numbers), leave=False):
        files.append(scratch / f"{len(files)}.png")
        Image.fromarray(frame).save(files[-1], compress_level=1)
    times = tuple(round(info.times[n], 4) for n in numbers)
    span = times[-1] - times[0]
    if repeated := len(numbers) - len(set(numbers)):
        warnings.append(
            f"{repeated} of {len(numbers)} frames repeat the one before: the source shows fewer "
            "pictures per second"
        )
    said = _say(numbers, pick, len(info.times), f"{times[0]:.2f} to {times[-1]:.2f} s")
    return Shots(
        tuple(files),
        tuple(numbers),
        times,
        (len(numbers) - 1) / span if span else None,
        said,
        warnings,
    )


def _say(numbers: Sequence[int], pick: Pick, count: int, where: str) -> str:
    steps = set(np.diff(numbers).tolist())
    how = (
        "evenly over time"
        if len(steps) != 1
        else "all in a row"
        if steps == {1}
        else f"one of every {steps.pop()}"
    )
    more = (
        f"; --frames {count} takes all"
        if len(numbers) < count <= MAX_FRAMES and pick == Pick()
        else ""
    )
    return f"took {len(numbers)} of {count} frames, {how}, {where}{more}"


def pick_frames(info: VideoInfo, pick: Pick, source: str) -> list[int]:
    """Numbers of the frames to take, rising.

    Without wishes every n-th frame is taken, so that the motion stays even; where the source's own
    frames are uneven in time, and with ``frames``, those nearest to even times; with ``fps``, those
    on display at these times.

    Raises:
        UserError: the clip is shorter than asked.
    """
    times = np.array(info.times)
    end = info.times[-1] if pick.end is None else pick.end
    inside = np.nonzero((times >= pick.start - 1e-6) & (times <= end + 1e-6))[0]
    if not len(inside):
        raise UserError(
            f"no frame of {source} lies between --start {pick.start:g} and --end {end:g}; it runs "
            f"from 0 to {times[-1]:g}"
        )
    first, last, count = times[inside[0]], times[inside[-1]], len(inside)
    wanted = pick.frames
    if pick.fps is not None:
        steps = np.arange(int((last - first) * pick.fps + 1e-6) + 1)[: wanted or None]
        if wanted and len(steps) < wanted:
            raise UserError(
                f"{source} gives {len(steps)} frames at --fps {pick.fps:g}, not {wanted}; lower "
                "--frames"
            )
        shown = np.searchsorted(times, first + steps / pick.fps + 1e-6, side="right") - 1
        return [int(n) for n in shown]
    if wanted is not None and wanted > count:
        raise UserError(
            f"{source} has {count} frames from {first:g} to {last:g}, not {wanted}; lower --frames"
        )
    gaps = np.diff(times[inside])
    uneven = len(gaps) > 0 and float(np.abs(gaps - np.median(gaps)).max()) > 0.25 * float(
        np.median(gaps)
    )
    if wanted is None and not uneven:
        return [int(n) for n in inside[:: -(-count // DEFAULT_FRAMES)]]
    targets = np.linspace(first, last, wanted or min(count, DEFAULT_FRAMES))
    halfway = (times[inside][1:] + times[inside][:-1]) / 2
    return [int(inside[n]) for n in np.searchsorted(halfway, targets)]
