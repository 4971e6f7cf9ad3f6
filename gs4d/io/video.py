"""Videos and animations, frame by frame: out through the ffmpeg that comes with imageio-ffmpeg, in through PyAV and Pillow.

PyAV decodes in this process, which gives what a pipe to ffmpeg does not: the true time of every frame, alpha, and the rotation.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import av
import av.logging
import imageio_ffmpeg
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from jaxtyping import UInt8
from scipy.ndimage import distance_transform_edt

from ..errors import UserError
from .files import atomic_path
from .images import ANIMATED_FORMATS, MAX_PIXELS, open_picture, to_rgba

CUT = "ffmpeg could not write the whole video, as on a full disk"
GIF_MAX_FPS = 50.0  # delays are whole hundredths of a second, and players take 1 for a mistake

av.logging.set_level(None)  # what goes wrong is said once, by us

# A file from a stranger may be a playlist that names other files or addresses: only true containers are opened.
CONTAINERS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,h264,hevc,m4v,ivf,obu,yuv4mpegpipe,nut,mxf,dv,wtv,rm,gif,apng"
)
UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
HDR_CURVES = (16, 18)  # AVCOL_TRC_SMPTE2084 (PQ), AVCOL_TRC_ARIB_STD_B67 (HLG)
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # ffmpeg's own decoders ignore the alpha plane of a webm
BROWSER_GIF_SECONDS = 0.1  # what every browser makes of a GIF frame that asks for less than 20 ms


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


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a moving picture before its pixels are decoded.

    Attributes:
        times: when each frame is shown, in seconds after the first, rising.
        duration: how long the file says it is, in seconds; more than ``times`` reach when it is cut short.
        complete: whether all frames that the file announces are there.
        hdr: whether its brightness follows an HDR curve (PQ or HLG), which is shown as if it were an ordinary one.
    """

    times: tuple[float, ...]
    duration: float
    complete: bool = True
    hdr: bool = False

    @property
    def interval(self) -> float:
        """Seconds from frame to frame: the median, 0 for a single frame."""
        return median(b - a for a, b in pairwise(self.times)) if len(self.times) > 1 else 0.0


def video_info(path: Path) -> VideoInfo:
    """Reads the times of all frames of a video or of an animated GIF, PNG or WebP, holding none of them.

    Raises:
        UserError: the file is absent, too large, or neither.
    """
    if _is_animation(path):
        return _animation_info(path)
    with _opened(path) as (container, stream):
        packets = [p.pts for p in container.demux(stream) if p.size and not p.is_discard]
        seconds = float(stream.time_base or 0)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        known = [p for p in packets if p is not None]
        if len(known) == len(packets):
            times = [(p - min(known)) * seconds for p in sorted(set(known))]
        else:  # raw streams carry no times
            times = [i / rate for i in range(len(packets))]
        if not times:
            raise UserError(f"{path} holds no picture that can be read; it is cut short or empty: copy or export it again")
        duration = stream.duration * seconds if stream.duration else (container.duration or 0) / av.time_base
        announced = max(duration, times[-1] + 1 / rate)
        # Only some containers count their frames; the others give a length, which may be that of the sound, or of a last frame
        # that stays.
        gaps = [b - a for a, b in pairwise(times)]
        even = len(gaps) > 1 and max(gaps) < 2 * median(gaps) and len(container.streams) == 1
        missing = stream.frames > len(packets) or (even and duration - times[-1] > max(3 * median(gaps), 0.1 * duration))
        hdr = stream.codec_context.color_trc in HDR_CURVES
        return VideoInfo(tuple(times), announced, not missing, hdr)


def read_frames(path: Path, wanted: Sequence[int] | None = None) -> Iterator[UInt8[np.ndarray, "h w 4"]]:
    """Yields frames of a video or of an animated picture as RGBA with straight alpha, upright, with square pixels.

    Args:
        path: the file.
        wanted: rising numbers of frames, counted as ``video_info(path).times``; None: all. One frame is held at a time.

    Raises:
        UserError: the file is absent or cannot be decoded up to the last frame wanted.
    """
    if _is_animation(path):
        yield from _read_animation(path, wanted)
        return
    info = video_info(path)
    numbers = list(range(len(info.times)) if wanted is None else wanted)
    at = 0
    with _opened(path) as (container, stream):
        origin: float | None = None
        picture: Any = None
        for count, frame in enumerate(_decode(container, stream)):
            if origin is None:
                origin = frame.time or 0.0
            time = count * info.interval if frame.pts is None else (frame.time or 0.0) - origin
            picture = None
            # A frame that cannot be decoded, as at the start of a stream that was cut, is replaced by the next that can.
            while at < len(numbers) and info.times[numbers[at]] <= time + info.interval / 4:
                picture = _upright(frame, stream) if picture is None else picture
                yield picture
                at += 1
            if at == len(numbers):
                return
    if at < len(numbers):
        reached = info.times[numbers[at - 1]] if at else 0.0
        raise UserError(
            f"{path} is cut short: it can be decoded for {reached:.2f} s of {info.duration:.2f} s; "
            f"copy it again, or take the part that is there with --end {int(reached * 100) / 100:g}"
        )


def read_video(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yields the frames of a video or gif as 8-bit RGB without holding more than one; alpha is dropped.

    Raises:
        UserError: the file is absent or cannot be decoded.
    """
    for frame in read_frames(path):
        yield frame[..., :3]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        with av.open(f"file:{path}", options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                raise UserError(f"{path} holds no moving picture; give a video")
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_PIXELS:
                limit = MAX_PIXELS // 10**6
                raise UserError(f"{path} is {stream.width}x{stream.height} pixels; scale it down to {limit} megapixels")
            yield container, stream
    except (FFmpegError, OSError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path} cannot be decoded as a video ({why}); it is damaged or cut short: copy or re-encode it"
        ) from error


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decoded frames in the order of showing; packets that are damaged are passed over."""
    context: VideoCodecContext = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and context.name in ALPHA_DECODERS:
        context = cast(VideoCodecContext, av.CodecContext.create(ALPHA_DECODERS[context.name], "r"))
    context.thread_type = ThreadType.AUTO
    for packet in container.demux(stream):
        try:
            yield from context.decode(packet)
        except InvalidDataError:
            continue


def _upright(frame: VideoFrame, stream: VideoStream) -> UInt8[np.ndarray, "h w 4"]:
    """The frame as a viewer shows it: its colour matrix, its pixel shape and its rotation applied."""
    # A large video that does not name its colour matrix has that of HD, as every player assumes.
    source = Colorspace.ITU709 if frame.colorspace == UNSPECIFIED and frame.height >= 720 else None
    shape = stream.sample_aspect_ratio or Fraction(1)
    width = round(frame.width * shape) if 0.25 <= shape <= 4 else frame.width
    alpha = any(part.is_alpha for part in frame.format.components) or frame.format.name == "pal8"
    out = frame.reformat(
        width, frame.height, "rgba" if alpha else "rgb24", source, interpolation="BICUBIC", dst_color_range=ColorRange.JPEG
    )
    image = np.rot90(out.to_ndarray(), frame.rotation // 90)
    if not alpha:
        image = np.concatenate([image, np.full_like(image[..., :1], 255)], -1)
    return np.ascontiguousarray(image)


def _is_animation(path: Path) -> bool:
    try:
        with open_picture(path) as picture:
            return picture.format in ANIMATED_FORMATS
    except UserError:
        return False


def _animation_info(path: Path) -> VideoInfo:
    times, now = [], 0.0
    with open_picture(path) as picture:
        try:
            for number in range(getattr(picture, "n_frames", 1)):
                picture.seek(number)
                picture.load()
                times.append(now)
                seconds = float(picture.info.get("duration", 0)) / 1000
                now += seconds if seconds >= 0.02 else BROWSER_GIF_SECONDS
        except (OSError, EOFError, SyntaxError, ValueError) as error:
            if not times:
                raise UserError(f"{path} cannot be decoded ({error}); it is damaged or cut short: export it again") from error
            return VideoInfo(tuple(times), now, complete=False)
    return VideoInfo(tuple(times), now)


def _read_animation(path: Path, wanted: Sequence[int] | None) -> Iterator[UInt8[np.ndarray, "h w 4"]]:
    with open_picture(path) as picture:
        for number in range(getattr(picture, "n_frames", 1)) if wanted is None else wanted:
            try:
                picture.seek(number)
                yield to_rgba(picture)
            except (OSError, EOFError, SyntaxError, ValueError) as error:
                raise UserError(
                    f"{path} cannot be decoded at frame {number} ({error}); it is damaged or cut short: export it again"
                ) from error


def is_still(path: Path) -> bool:
    """Whether the file is a single picture, whatever its name."""
    try:
        with open_picture(path) as picture:
            return getattr(picture, "n_frames", 1) == 1 or picture.format not in ANIMATED_FORMATS
    except UserError:
        return False
