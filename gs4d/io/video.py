"""Videos out and in, frame by frame, through the ffmpeg that comes with imageio-ffmpeg."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8
from scipy.ndimage import distance_transform_edt

from ..errors import UserError
from .files import atomic_path

CUT = "ffmpeg could not write the whole video, as on a full disk"
GIF_MAX_FPS = 50.0  # delays are whole hundredths of a second, and players take 1 for a mistake


def write_video(path: Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float) -> None:
    """Writes an H.264 mp4 that browsers play, atomically; odd sizes lose their last row or column.

    Raises:
        UserError: there is no frame, or the file cannot be written.
    """

    def even(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        h, w = frame.shape[0] & ~1, frame.shape[1] & ~1
        return frame[:h, :w] if h and w else np.repeat(np.repeat(frame, 2, 0), 2, 1)

    with atomic_path(path) as part:
        _encode(path, part, map(even, frames), fps, codec="libx264", quality=8)


def write_transparent_video(path: Path, frames: Iterable[UInt8[np.ndarray, "h w 4"]], fps: float) -> None:
    """Writes a VP9 webm with alpha from straight-alpha RGBA, atomically.

    Raises:
        UserError: there is no frame, or the file cannot be written.
    """
    settings = ["-crf", "24", "-b:v", "0", "-auto-alt-ref", "0", "-row-mt", "1", "-deadline", "good", "-cpu-used", "4"]
    with atomic_path(path) as part:
        pictures = map(_bleed, frames)
        _encode(path, part, pictures, fps, codec="libvpx-vp9", pix_fmt_out="yuva420p", output_params=settings)


def write_animation(path: Path, frames: Iterable[UInt8[np.ndarray, "h w c"]], fps: float) -> None:
    """Writes a GIF that repeats for ever, with one palette made for all its frames, atomically.

    Args:
        path: of the file.
        frames: RGB; or straight-alpha RGBA, of which an alpha of 128 and more is opaque and the rest transparent.
        fps: at most 50.

    Raises:
        UserError: there is no frame, the rate is too high, or the file cannot be written.
    """
    if fps > GIF_MAX_FPS:
        raise UserError(f"{path} would have {fps:g} frames per second, more than a GIF can; ask for {GIF_MAX_FPS:g} or less")
    with atomic_path(path) as part:
        # On disk, so that memory does not grow with the number of frames: the palette is known only after the last one.
        whole, palette = part.with_suffix(".mkv"), part.with_suffix(".png")
        count = _encode(path, whole, frames, fps, codec="ffv1", pix_fmt_out="bgra")
        _ffmpeg("-i", str(whole), "-vf", "palettegen=stats_mode=full", str(palette))
        # An ordered pattern stays where it is from frame to frame, where diffused errors would swarm.
        use = "paletteuse=dither=bayer:bayer_scale=4:diff_mode=rectangle:alpha_threshold=128"
        _ffmpeg("-i", str(whole), "-i", str(palette), "-lavfi", use, "-loop", "0", str(part))
        _require_frames(part, count)


def _encode(path: Path, part: Path, frames: Iterable[UInt8[np.ndarray, "h w c"]], fps: float, **settings: Any) -> int:
    """Feeds the frames to ffmpeg, which writes ``part``; returns how many there were."""
    count, writer = 0, None
    try:
        for frame in frames:
            if writer is None:
                size, pixels = (frame.shape[1], frame.shape[0]), "rgba" if frame.shape[2] == 4 else "rgb24"
                settings |= {"fps": fps, "macro_block_size": 1, "ffmpeg_log_level": "quiet"}
                writer = imageio_ffmpeg.write_frames(str(part), size, pix_fmt_in=pixels, **settings)
                writer.send(None)
            writer.send(np.ascontiguousarray(frame))
            count += 1
    except OSError as error:  # its text is ffmpeg's command line
        raise OSError(CUT) from error
    finally:
        if writer is not None:
            writer.close()
    if not count:
        raise UserError(f"{path} would have no frames; ask for at least one")
    _require_frames(part, count)
    return count


def _require_frames(part: Path, count: int) -> None:
    """On a full disk ffmpeg may also end without a word."""
    try:
        found = imageio_ffmpeg.count_frames_and_secs(str(part))[0]
    except RuntimeError:
        found = 0
    if found != count:
        raise OSError(CUT)


def _ffmpeg(*arguments: str) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ffmpeg failed: {done.stderr}")


def _bleed(image: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Gives transparent pixels the colour of the nearest other one, so that coding does not mix black into the edges."""
    empty = image[..., 3] == 0
    if not empty.any() or empty.all():
        return image
    nearest: Any = distance_transform_edt(empty, return_distances=False, return_indices=True)
    return np.concatenate([image[nearest[0], nearest[1], :3], image[..., 3:]], -1)


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
