"""Videos and animations in, frame by frame, through the ffmpeg inside PyAV and through Pillow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median
from typing import cast

import av
import av.filter
import av.logging
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from jaxtyping import UInt8

from ..errors import UserError
from .animation import is_animation, read_animation, read_animation_info
from .foreign import foreign, require_plain_file
from .images import MAX_PIXELS, open_picture

av.logging.set_level(None)  # what goes wrong is said once, by us

# A file from a stranger may be a playlist that names other files or addresses: only true containers
# are opened.
CONTAINERS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,h264,hevc,m4v,ivf,obu,yuv4mpegpipe,"
    "nut,mxf,dv,wtv,rm,gif,apng"
)
UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
HDR_CURVES = (16, 18)  # AVCOL_TRC_SMPTE2084 (PQ), AVCOL_TRC_ARIB_STD_B67 (HLG)
# ffmpeg's own decoders ignore the alpha plane of a webm
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
WIDE_PRIMARIES = (9, 11, 12)  # AVCOL_PRI_BT2020, AVCOL_PRI_SMPTE431 and AVCOL_PRI_SMPTE432 (P3)
STILL_BRANDS = ("heic", "heix", "mif1", "heim", "heis")  # of HEIF pictures, whose streams are tiles
NO_CLIP = (
    Disposition.attached_pic
    | Disposition.timed_thumbnails
    | Disposition.still_image
    | Disposition.dependent
)


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a moving picture before its frames are decoded.

    Attributes:
        times: when each frame is shown, in seconds after the first, rising.
        duration: how long the file says it is, in seconds; more than ``times`` reach when it is cut
            short.
        complete: whether all frames that the file announces are there.
        notes: what the user should know, as sentences: other streams, fields, colours beyond sRGB,
            guessed times.
    """

    times: tuple[float, ...]
    duration: float
    complete: bool = True
    notes: tuple[str, ...] = ()

    @property
    def interval(self) -> float:
        """Seconds from frame to frame: the median, 0 for a single frame."""
        return median(b - a for a, b in pairwise(self.times)) if len(self.times) > 1 else 0.0


@dataclass(frozen=True)
class _Index:
    """The places of a video's frames.

    Attributes:
        info: what callers see of it.
        stream: number of the stream that is shown.
        ticks: presentation time of each frame, in the stream's time base; None where frames are
            counted as they are decoded.
        turn: the display matrix, 16.16 fixed point, rows (a b u), (c d v), (x y w).
    """

    info: VideoInfo
    stream: int
    ticks: tuple[int, ...] | None
    turn: tuple[int, ...] | None


def video_info(path: Path) -> VideoInfo:
    """Reads the times of all frames of a video or an animated picture, holding none of them.

    Raises:
        UserError: the file is absent, too large, or neither.
    """
    if is_animation(path):
        animation = read_animation_info(path)
        ends = tuple(accumulate(animation.seconds))
        return VideoInfo((0.0, *ends[:-1]), ends[-1], animation.complete, animation.notes)
    return _index_of(path).info


def read_frames(
    path: Path, wanted: Sequence[int] | None = None, notes: list[str] | None = None
) -> Iterator[UInt8[np.ndarray, "h w 4"]]:
    """Yields frames of a moving picture as straight-alpha RGBA, upright, with square pixels.

    Args:
        path: the file.
        wanted: rising numbers of frames, counted as ``video_info(path).times``; None: all. One
            frame is held at a time.
        notes: gets a sentence, after the last frame, if some could not be decoded and others stand
            for them.

    Raises:
        UserError: the file is absent, cannot be decoded up to the last frame wanted, or changes its
            size between them.
    """
    moving = is_animation(path)
    info = video_info(path)
    numbers = list(range(len(info.times)) if wanted is None else wanted)
    size = None
    frames = (
        read_animation(path, numbers)
        if moving
        else _read_video(path, numbers, [] if notes is None else notes)
    )
    for number, frame in zip(numbers, frames, strict=True):
        size = size or frame.shape
        if frame.shape != size:
            raise UserError(
                f"{path} changes its size from {size[1]}x{size[0]} to "
                f"{frame.shape[1]}x{frame.shape[0]} pixels at {info.times[number]:.2f} s; take the "
                "part before or after with --end or --start, or export it in one size"
            )
        yield frame


def read_video(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yields the frames of a video or gif as 8-bit RGB without holding more than one.

    Alpha is dropped.

    Raises:
        UserError: the file is absent or cannot be decoded.
    """
    for frame in read_frames(path):
        yield frame[..., :3]


def is_still(path: Path) -> bool:
    """Whether the file is a single picture, whatever its name."""
    try:
        with open_picture(path):
            return not is_animation(path)
    except UserError:
        return False


def _read_video(
    path: Path, numbers: Sequence[int], notes: list[str]
) -> Iterator[UInt8[np.ndarray, "h w 4"]]:
    index, at = _index_of(path), 0
    failed: list[int | None] = []
    with _opened(path) as container:
        stream = container.streams.video[index.stream]
        for count, frame in enumerate(_deinterlaced(_decoded(container, stream, failed))):
            picture = None
            # A frame that cannot be decoded is replaced by the next that can.
            while at < len(numbers) and _is_due(index, numbers[at], count, frame, stream):
                picture = _shown(frame, stream, index.turn) if picture is None else picture
                yield picture
                at += 1
            if at == len(numbers):
                break
    if failed:
        notes.append(
            f"{path.name} is damaged: {len(failed)} of its packets cannot be decoded, so that some "
            "frames repeat another or "
            "show blocks; copy or export it again, or leave that part out with --start and --end"
        )
    if at == len(numbers):
        return
    reached = index.info.times[numbers[at - 1]] if at else 0.0
    raise UserError(
        f"{path} is cut short: it can be decoded for {reached:.2f} s of {index.info.duration:.2f} "
        f"s; copy it again, or take the part that is there with --end {int(reached * 100) / 100:g}"
    )


def _is_due(index: _Index, number: int, count: int, frame: VideoFrame, stream: VideoStream) -> bool:
    tick = _tick(frame, stream)
    return count >= number if index.ticks is None or tick is None else tick >= index.ticks[number]


def _tick(frame: VideoFrame, stream: VideoStream) -> int | None:
    """Presentation time in the stream's time base; a filter may have given the frame another."""
    if frame.pts is None or not stream.time_base:
        return None
    return round(frame.pts * (frame.time_base or stream.time_base) / stream.time_base)


@contextmanager
def _opened(path: Path, **options: str) -> Iterator[InputContainer]:
    require_plain_file(path)
    only = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", **options}
    with foreign(path, "a video", "it is damaged or cut short: copy or re-encode it"):
        try:
            with av.open(f"file:{path}", options=only, metadata_errors="replace") as container:
                if container.metadata.get("major_brand") in STILL_BRANDS:
                    raise UserError(
                        f"{path} is a HEIF picture, which is not read; save it as PNG or JPEG"
                    )
                yield container
        except FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error


def _index_of(path: Path) -> _Index:
    status = path.stat() if require_plain_file(path) >= 0 else None
    return _index(path, status.st_size if status else 0, status.st_mtime_ns if status else 0)


@lru_cache(maxsize=64)
def _index(path: Path, size: int, changed: int) -> _Index:
    """The frames of a video, by its packets.

    By decoding it where these do not say which of them is a frame.
    """
    number, notes = _choose(path)
    with _opened(path) as container:
        stream = container.streams.video[number]
        first = next(_decoded(container, stream, own=True), None)
        if first is None:
            raise UserError(
                f"{path} holds no picture that can be read; it is cut short or empty: copy or "
                "export it again"
            )
        notes += _notes(path, first)
        if (
            stream.codec_context.name == "hevc"
            and not _has_alpha(first)
            and has_layers(stream.codec_context.extradata or b"")
        ):
            notes.append(
                f"{path.name} has a second layer (alpha or another view) that is not decoded; "
                "export it as ProRes 4444"
            )
        start = first.pts
        interlaced = first.interlaced_frame
    with _opened(path) as container:
        stream = container.streams.video[number]
        # whose helper frames, never shown, are packets of their own
        vp8 = stream.codec_context.name == "vp8"
        packets = [p for p in container.demux(stream) if p.size]
        found, announced = len(packets), stream.frames
        ticks = [
            p.pts for p in packets if not p.is_discard and not (vp8 and bytes(p)[0] & 0x10 == 0)
        ]
        clear = (
            not interlaced
            and None not in ticks
            and len(set(ticks)) == len(ticks)
            and start is not None
        )
        seconds = float(stream.time_base or 0)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        rate = rate if 0.1 <= rate <= 1000 else 25.0
        duration = _duration(container, stream)
        alone = len(container.streams) == 1
    if clear:
        shown = sorted(t for t in ticks if t is not None and start is not None and t >= start)
    else:
        shown = list(_decoded_ticks(path, number))
    if not shown:
        raise UserError(
            f"{path} holds no picture that is shown; it is cut short or empty: copy or export it "
            "again"
        )
    if None in shown or any(b <= a for a, b in pairwise(cast(list[int], shown))):
        notes.append(
            f"{path.name} does not say when its frames are shown; {rate:g} per second are assumed"
        )
        times = [i / rate for i in range(len(shown))]
        kept = None
    else:
        kept = tuple(cast(list[int], shown))
        times = [(t - kept[0]) * seconds for t in kept]
    if kept and (known := [t for t in ticks if t is not None]):
        # what cannot be decoded before the first key frame
        duration -= max(0, kept[0] - min(known)) * seconds
    gaps = [b - a for a, b in pairwise(times)]
    # Only some containers count their frames; the others give a length, which may be that of the
    # sound, or of a last frame that stays.
    even = len(gaps) > 1 and max(gaps) < 2 * median(gaps) and alone
    missing = even and duration - times[-1] > max(3 * median(gaps), 0.1 * duration)
    if announced > found:
        missing = announced > _packets_in_all(path, number)
    info = VideoInfo(tuple(times), max(duration, times[-1] + 1 / rate), not missing, tuple(notes))
    return _Index(info, number, kept if clear else None, _display_matrix(first))


def _choose(path: Path) -> tuple[int, list[str]]:
    """The video stream that a player would show, and a sentence if there were several.

    Covers and thumbnails are left out: by their flags, by having far fewer frames than the richest
    stream or less than a quarter of the pixels of the largest. Of the rest the one marked as
    default is taken, then that with the most pixels.
    """
    with _opened(path) as container:
        streams = container.streams.video
        moving = [i for i, s in enumerate(streams) if not s.disposition & NO_CLIP]
        if not moving:
            raise UserError(f"{path} holds no moving picture; give a video")
        if len(moving) == 1:
            return _small_enough(path, streams[moving[0]], moving[0]), []
        names = {streams[i].index: i for i in moving}
        counts = Counter(
            names[p.stream_index] for p in container.demux(*[streams[i] for i in moving]) if p.size
        )
        pixels = {i: streams[i].width * streams[i].height for i in moving}
        rich = [i for i in moving if 4 * counts[i] >= max(counts.values(), default=0)]
        large = [i for i in rich if 4 * pixels[i] >= max(pixels[k] for k in rich)]
        chosen = max(
            large,
            key=lambda i: (
                bool(streams[i].disposition & Disposition.default),
                pixels[i],
                counts[i],
                -i,
            ),
        )
        rows = ", ".join(
            f"{streams[i].width}x{streams[i].height} ({counts[i]} frames)" for i in moving
        )
        place = moving.index(chosen) + 1
        note = (
            f"{path.name} holds {len(moving)} video streams: {rows}; number {place} is read and "
            "the others are left out"
        )
        return _small_enough(path, streams[chosen], chosen), [note]


def _small_enough(path: Path, stream: VideoStream, number: int) -> int:
    if stream.width * stream.height > MAX_PIXELS:
        limit = MAX_PIXELS // 10**6
        raise UserError(
            f"{path} is {stream.width}x{stream.height} pixels; scale it down to {limit} megapixels"
        )
    return number


def _duration(container: InputContainer, stream: VideoStream) -> float:
    """Seconds of the stream, or of the whole file, from its first picture on."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # which says when it ends
    late = container.start_time or 0 if container.format.name.startswith("matroska") else 0
    return ((container.duration or 0) - max(late, 0)) / av.time_base


def _packets_in_all(path: Path, number: int) -> int:
    """Packets of a stream with those that an edit list (a clip trimmed on a telephone) hides."""
    with _opened(path, ignore_editlist="1") as container:
        return sum(1 for p in container.demux(container.streams.video[number]) if p.size)


def _decoded_ticks(path: Path, number: int) -> Iterator[int | None]:
    with _opened(path) as container:
        stream = container.streams.video[number]
        for frame in _deinterlaced(_decoded(container, stream)):
            yield _tick(frame, stream)


def _notes(path: Path, first: VideoFrame) -> list[str]:
    notes = []
    if first.interlaced_frame:
        notes.append(
            f"{path.name} is interlaced; every frame is made of its first field and what did not "
            "move of the second"
        )
    if first.color_trc in HDR_CURVES:
        notes.append(
            "the video is HDR and is read as if it were not, so its colours are pale; export it as "
            "SDR to avoid that"
        )
    elif first.color_primaries in WIDE_PRIMARIES:
        notes.append(
            "the video has colours beyond sRGB and is read as sRGB, so its colours are a little "
            "pale"
        )
    angle = _angle(_display_matrix(first))
    if angle % 90:
        notes.append(
            f"{path.name} asks to be shown turned by {angle:g} degrees; only right angles are "
            "applied, so it is not turned"
        )
    return notes


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    failed: list[int | None] | None = None,
    *,
    own: bool = False,
) -> Iterator[VideoFrame]:
    """Decoded frames in the order of showing; packets that are damaged are passed over.

    Args:
        container: the file.
        stream: of it.
        failed: gets the times of the packets that cannot be decoded, but for those before the first
            picture.
        own: keep to ffmpeg's own decoder, which ignores alpha in a webm but knows the display
            matrix.
    """
    context: VideoCodecContext = stream.codec_context
    if not own and stream.metadata.get("alpha_mode") == "1" and context.name in ALPHA_DECODERS:
        context = cast(VideoCodecContext, av.CodecContext.create(ALPHA_DECODERS[context.name], "r"))
    context.thread_type = ThreadType.AUTO
    context.options = {"max_pixels": str(MAX_PIXELS)}
    begun = False
    for packet in container.demux(stream):
        try:
            for frame in context.decode(packet):
                begun = True
                if frame.is_corrupt and failed is not None:
                    failed.append(frame.pts)
                yield frame
        except InvalidDataError:
            if begun and failed is not None:
                failed.append(packet.pts)


def _deinterlaced(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """One whole picture per frame from the first interlaced one on (bwdif).

    What moved is taken from the first field.
    """
    graph: av.filter.Graph | None = None
    shape = None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        now = (frame.width, frame.height, frame.format.name)
        if graph is None or now != shape:
            if graph is not None:
                yield from _pulled(graph)
            graph, shape = _bwdif(frame), now
        graph.push(frame)
        yield from _pulled(graph, flush=False)
    if graph is not None:
        yield from _pulled(graph)


def _bwdif(frame: VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    base = frame.time_base or Fraction(1, 90000)
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=base
    )
    field = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(field)
    field.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: av.filter.Graph, *, flush: bool = True) -> Iterator[VideoFrame]:
    if flush:
        graph.push(None)
    while True:
        try:
            yield cast(VideoFrame, graph.pull())
        except (BlockingIOError, EOFError):  # PyAV's own errors derive from these
            return


def _shown(
    frame: VideoFrame, stream: VideoStream, turn: tuple[int, ...] | None
) -> UInt8[np.ndarray, "h w 4"]:
    """The frame as a viewer shows it.

    Its colour matrix, its pixel shape and its display matrix applied.
    """
    # A large video that does not name its colour matrix has that of HD, as every player assumes.
    source = Colorspace.ITU709 if frame.colorspace == UNSPECIFIED and frame.height >= 720 else None
    shape = stream.sample_aspect_ratio or Fraction(1)
    width = round(frame.width * shape) if 0.25 <= shape <= 4 else frame.width
    alpha = _has_alpha(frame)
    out = frame.reformat(
        width,
        frame.height,
        "rgba" if alpha else "rgb24",
        source,
        interpolation="BICUBIC",
        dst_color_range=ColorRange.JPEG,
    )
    image = _turned(out.to_ndarray(), turn)
    if not alpha:
        image = np.concatenate([image, np.full_like(image[..., :1], 255)], -1)
    return np.ascontiguousarray(image)


def _has_alpha(frame: VideoFrame) -> bool:
    return any(part.is_alpha for part in frame.format.components) or frame.format.name == "pal8"


def has_layers(header: bytes) -> bool:
    """Whether an HEVC stream's hvcC (ISO/IEC 14496-15) names a second layer, as alpha is."""
    at = 23
    for _ in range(header[22] if len(header) > at and header[0] == 1 else 0):
        units = int.from_bytes(header[at + 1 : at + 3], "big")
        at += 3
        for _ in range(units):
            unit = header[at + 2 : at + 4]  # forbidden bit, type (6), layer (6), temporal id (3)
            if len(unit) == 2 and (unit[0] & 1) << 5 | unit[1] >> 3:
                return True
            at += 2 + int.from_bytes(header[at : at + 2], "big")
    return False


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    for data in cast(Iterator[SideData], iter(frame.side_data)):
        if data.type.name == "DISPLAYMATRIX":
            return tuple(int(v) for v in np.frombuffer(memoryview(data), np.int32))
    return None


def _angle(turn: tuple[int, ...] | None) -> float:
    return round(float(np.degrees(np.arctan2(turn[1], turn[0]))), 1) if turn else 0.0


def _turned(
    image: UInt8[np.ndarray, "h w c"], turn: tuple[int, ...] | None
) -> UInt8[np.ndarray, "H W c"]:
    """Applies a display matrix of quarter turns and mirrors: (x, y) to (a x + c y, b x + d y)."""
    if turn is None or _angle(turn) % 90:
        return image
    a, b, c, d = turn[0], turn[1], turn[3], turn[4]
    if abs(b) > abs(a):
        image, right, down = image.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
