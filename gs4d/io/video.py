"""Videos out and in, frame by frame, through the ffmpeg that comes with imageio-ffmpeg."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8

from ..errors import UserError
from .files import atomic_path


def write_video(path: Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float) -> None:
    """Writes an H.264 mp4 that browsers play, atomically; odd sizes lose their last row or column.

    Raises:
        UserError: there is no frame, or the file cannot be written.
    """
    with atomic_path(path) as part:
        options = {"fps": fps, "codec": "libx264", "quality": 8, "macro_block_size": 1, "ffmpeg_log_level": "quiet"}
        count = 0
        writer: Any = imageio.get_writer(part, **options)
        try:
            with writer as video:
                for frame in frames:
                    h, w = frame.shape[0] & ~1, frame.shape[1] & ~1
                    video.append_data(frame[:h, :w] if h and w else np.repeat(np.repeat(frame, 2, 0), 2, 1))
                    count += 1
            whole = _count_frames(part) == count  # on a full disk ffmpeg may also end without a word
        except OSError:
            whole = False
        if not count:
            raise UserError(f"{path} would have no frames; ask for at least one")
        if not whole:
            raise OSError("ffmpeg could not write the whole video, as on a full disk")


def _count_frames(path: Path) -> int:
    try:
        return imageio_ffmpeg.count_frames_and_secs(str(path))[0] or 0
    except RuntimeError:
        return 0


def read_video(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yields the frames of a video or gif as 8-bit RGB without holding more than one.

    Raises:
        UserError: the file is absent or cannot be decoded.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        for frame in iio.imiter(path, plugin="FFMPEG" if path.suffix.lower() != ".gif" else "pillow"):
            yield frame[..., :3]
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} cannot be decoded as a video ({str(error).splitlines()[0]}); re-encode it") from error
