"""Videos and animations in, frame by frame, through the ffmpeg inside PyAV and through Pillow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import av
import av.logging
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from jaxtyping import UInt8

from ..errors import UserError
from .images import ANIMATED_FORMATS, MAX_PIXELS, open_picture, to_rgba

av.logging.set_level(None)  # what goes wrong is said once, by us

# A file from a stranger may be a playlist that names other files or addresses: only true containers are opened.
CONTAINERS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,h264,hevc,m4v,ivf,obu,yuv4mpegpipe,nut,mxf,dv,wtv,rm,gif,apng"
)
UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
HDR_CURVES = (16, 18)  # AVCOL_TRC_SMPTE2084 (PQ), AVCOL_TRC_ARIB_STD_B67 (HLG)
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # ffmpeg's own decoders ignore the alpha plane of a webm
BROWSER_GIF_SECONDS = 0.1  # what every browser makes of a GIF frame that asks for less than 20 ms


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
