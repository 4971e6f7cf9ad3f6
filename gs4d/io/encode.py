"""Videos and animations out, frame by frame, through the ffmpeg inside PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from av.error import BlockingIOError as Empty
from av.error import EOFError as Ended
from av.error import FFmpegError
from av.video.frame import VideoFrame
from jaxtyping import UInt8
from scipy.ndimage import distance_transform_edt

from ..errors import UserError
from .files import atomic_path
from .video import video_info

CUT = "ffmpeg could not write the whole video, as on a full disk"
GIF_MAX_FPS = 50.0  # delays are whole hundredths of a second, and players take 1 for a mistake
# An ordered pattern stays where it is from frame to frame, where diffused errors would swarm.
DITHER = "dither=bayer:bayer_scale=4:diff_mode=rectangle:alpha_threshold=128"


def write_video(path: Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float) -> None:
    """Writes an H.264 mp4 that browsers play, atomically; odd sizes lose their last row or column.

    Raises:
        UserError: there is no frame, or the file cannot be written.
    """

    def even(frame: UInt8[np.ndarray, "h w 3"]) -> VideoFrame:
        h, w = frame.shape[0] & ~1, frame.shape[1] & ~1
        return _picture(frame[:h, :w] if h and w else np.repeat(np.repeat(frame, 2, 0), 2, 1))

    with atomic_path(path) as part:
        _encode(
            path,
            part,
            map(even, frames),
            fps,
            "libx264",
            "yuv420p",
            {"crf": "12"},
            {"movflags": "faststart"},
        )


def write_transparent_video(
    path: Path, frames: Iterable[UInt8[np.ndarray, "h w 4"]], fps: float
) -> None:
    """Writes a VP9 webm with alpha from straight-alpha RGBA, atomically.

    Raises:
        UserError: there is no frame, or the file cannot be written.
    """
    settings = {
        "crf": "24",
        "b": "0",
        "auto-alt-ref": "0",
        "row-mt": "1",
        "deadline": "good",
        "cpu-used": "4",
    }
    with atomic_path(path) as part:
        _encode(
            path,
            part,
            (_picture(_bleed(f)) for f in frames),
            fps,
            "libvpx-vp9",
            "yuva420p",
            settings,
        )


def write_animation(path: Path, frames: Iterable[UInt8[np.ndarray, "h w c"]], fps: float) -> None:
    """Writes a GIF that repeats for ever, with one palette made for all its frames, atomically.

    Args:
        path: of the file.
        frames: RGB; or straight-alpha RGBA, of which an alpha of 128 and more is opaque and the
            rest transparent.
        fps: at most 50.

    Raises:
        UserError: there is no frame, the rate is too high, or the file cannot be written.
    """
    if fps > GIF_MAX_FPS:
        raise UserError(
            f"{path} would have {fps:g} frames per second, more than a GIF can; ask for "
            f"{GIF_MAX_FPS:g} or less"
        )
    with atomic_path(path) as part:
        # On disk, so that memory does not grow with the number of frames: the palette is known only
        # after the last one.
        whole = part.with_suffix(".mkv")
        _encode(path, whole, map(_picture, frames), fps, "ffv1", "bgra", {})
        try:
            palette = next(_filtered(whole, "palettegen", "stats_mode=full"))
            _encode(
                path,
                part,
                _filtered(whole, "paletteuse", DITHER, palette),
                fps,
                "gif",
                "pal8",
                {},
                {"loop": "0"},
            )
        except FFmpegError as error:
            raise OSError(CUT) from error


def _picture(image: UInt8[np.ndarray, "h w c"]) -> VideoFrame:
    return VideoFrame.from_ndarray(
        np.ascontiguousarray(image), format="rgba" if image.shape[2] == 4 else "rgb24"
    )


def _encode(
    path: Path,
    part: Path,
    frames: Iterable[VideoFrame],
    fps: float,
    codec: str,
    pixels: str,
    settings: dict[str, str],
    container_options: dict[str, str] | None = None,
) -> None:
    count, rate = 0, Fraction(fps).limit_denominator(1001)
    try:
        with av.open(f"file:{part}", "w", options=container_options or {}) as container:
            stream: Any = container.add_stream(codec, rate, options=settings)
            for frame in frames:
                if not count:
                    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pixels
                frame.pts, frame.time_base = count, 1 / rate
                container.mux(stream.encode(frame))
                count += 1
            if not count:
                raise UserError(f"{path} would have no frames; ask for at least one")
            container.mux(stream.encode(None))
    except FFmpegError as error:
        raise OSError(CUT) from error
    if len(video_info(part).times) != count:  # on a full disk ffmpeg may also end without a word
        raise OSError(CUT)


def _filtered(
    source: Path, name: str, options: str, second: VideoFrame | None = None
) -> Iterator[VideoFrame]:
    """Yields the frames of a video through one filter; a second input is a single picture."""
    with av.open(f"file:{source}") as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        inputs = [graph.add_buffer(template=stream)]
        if second is not None:
            size: dict[str, Any] = {
                "width": second.width,
                "height": second.height,
                "format": second.format,
            }
            inputs.append(graph.add_buffer(**size, time_base=stream.time_base))
        used, sink = graph.add(name, options), graph.add("buffersink")
        for pad, source_node in enumerate(inputs):
            source_node.link_to(used, 0, pad)
        used.link_to(sink)
        graph.configure()
        if second is not None:
            second.pts = 0
            inputs[1].push(second)
            inputs[1].push(None)
        for frame in container.decode(stream):
            inputs[0].push(frame)
            yield from _pulled(sink.pull)
        inputs[0].push(None)
        yield from _pulled(sink.pull)


def _pulled(pull: Callable[[], Any]) -> Iterator[VideoFrame]:
    while True:
        try:
            yield pull()
        except (Empty, Ended):
            return


def _bleed(image: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Gives transparent pixels the nearest colour, so that coding mixes no black into the edges."""
    empty = image[..., 3] == 0
    if not empty.any() or empty.all():
        return image
    nearest: Any = distance_transform_edt(empty, return_distances=False, return_indices=True)
    return np.concatenate([image[nearest[0], nearest[1], :3], image[..., 3:]], -1)
