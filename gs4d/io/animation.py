"""Animated pictures (GIF, APNG, WebP, AVIF, TIFF of several pages).

Times from the file, frames through Pillow.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ..errors import UserError
from .foreign import foreign, require_plain_file
from .images import ANIMATED_FORMATS, open_picture, to_rgba

BROWSER_SECONDS = 0.1  # what browsers make of a frame that asks for 10 ms or less
MAX_FRAMES = 100_000
MAX_WORK = 4_000_000_000  # pixels of all frames together: minutes of decoding
REDUCED = 254  # TIFF tag NewSubfileType, whose lowest bit marks a thumbnail


@dataclass(frozen=True)
class Animation:
    """The frames of an animated picture, before any pixel is decoded.

    Attributes:
        seconds: how long each frame is shown.
        complete: whether all frames that the file announces are there.
        first: the number that Pillow gives to the first frame; 1 where a still picture that is no
            frame lies before it.
        notes: what the user should know, as sentences.
    """

    seconds: tuple[float, ...]
    complete: bool = True
    first: int = 0
    notes: tuple[str, ...] = ()


def is_animation(path: Path) -> bool:
    """Whether the file is a picture that moves, whatever its name."""
    try:
        with open_picture(path) as picture:
            if picture.format == "TIFF":
                return len(_pages(picture)) > 1
            return picture.format in ANIMATED_FORMATS and bool(
                getattr(picture, "is_animated", False)
            )
    except UserError:
        return False


def read_animation_info(path: Path) -> Animation:
    """Reads how long each frame is shown.

    Raises:
        UserError: nothing of it is intact, or its frames are more than can be decoded in minutes.
    """
    with open_picture(path) as picture:
        width, height = picture.size
        if picture.format == "TIFF":
            pages = len(_pages(picture))
            note = (
                f"{path.name} has {pages} pages and no times; its pages are read as frames, "
                f"{1 / BROWSER_SECONDS:g} per second"
            )
            info = Animation((BROWSER_SECONDS,) * pages, notes=(note,))
        elif picture.format == "AVIF":
            info = Animation(_avif_seconds(path, getattr(picture, "n_frames", 1)))
        else:
            info = _scan(path, SCANNERS[str(picture.format)])
    count = len(info.seconds)
    if not count:
        raise UserError(f"{path} holds no whole frame; it is damaged or cut short: export it again")
    if count > MAX_FRAMES or count * width * height > MAX_WORK:
        raise UserError(
            f"{path} holds {count} frames of {width}x{height} pixels; beyond {MAX_WORK // 10**9} "
            "billion pixels or "
            f"{MAX_FRAMES} frames in all it is not decoded: scale it down or shorten it"
        )
    seconds = tuple(s if s > 0.0105 else BROWSER_SECONDS for s in info.seconds)
    return Animation(seconds, info.complete, info.first, info.notes)


def read_animation(path: Path, numbers: Sequence[int]) -> Iterator[UInt8[np.ndarray, "h w 4"]]:
    """Yields frames as RGBA with straight alpha, each as large as the first; one is held at a time.

    Raises:
        UserError: a frame cannot be decoded.
    """
    first = read_animation_info(path).first
    with open_picture(path) as picture:
        places = _pages(picture) if picture.format == "TIFF" else None
        for number in numbers:
            advice = "export it again, or leave that frame out with --start and --end"
            with foreign(f"frame {number} of {path}", "a picture", advice):
                picture.seek(places[number] if places else number + first)
                frame = to_rgba(picture)
            yield frame


def _pages(picture: Image.Image) -> list[int]:
    """Numbers of the pages of a TIFF, without thumbnails.

    The first alone where the others differ from it in size.
    """
    found, sizes = [], set()
    for number in range(min(getattr(picture, "n_frames", 1), MAX_FRAMES + 1)):
        picture.seek(number)
        if not int(getattr(picture, "tag_v2", {}).get(REDUCED, 0)) & 1:
            found.append(number)
            sizes.add(picture.size)
    picture.seek(0)
    return found if len(sizes) == 1 else [0]


def _avif_seconds(path: Path, count: int) -> tuple[float, ...]:
    only = {"format_whitelist": "mov", "protocol_whitelist": "file"}
    with foreign(path, "AVIF"), av.open(f"file:{path}", options=only) as file:
        for stream in file.streams.video:
            if stream.frames == count and stream.time_base:
                spans = [
                    (p.duration or 0) * float(stream.time_base)
                    for p in file.demux(stream)
                    if p.size
                ]
                return tuple(spans) if len(spans) == count else (BROWSER_SECONDS,) * count
    return (BROWSER_SECONDS,) * count


Scanner = Callable[[mmap.mmap], Animation]


def _scan(path: Path, scanner: Scanner) -> Animation:
    require_plain_file(path)
    with (
        foreign(path, "an animation"),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return scanner(data)


def _scan_gif(data: mmap.mmap) -> Animation:
    def colors(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    def past_blocks(at: int) -> int:
        while data[at]:
            at += data[at] + 1
        return at + 1

    seconds: list[float] = []
    delay, at = 0.0, 13 + colors(data[10])
    try:
        while at < len(data) and data[at] != 0x3B:
            if data[at] == 0x21 and data[at + 1] == 0xF9:
                delay = int.from_bytes(data[at + 4 : at + 6], "little") / 100
            if data[at] == 0x2C:
                at = past_blocks(at + 11 + colors(data[at + 9]))
                seconds.append(delay)
                delay = 0.0
            elif data[at] == 0x21:
                at = past_blocks(at + 2)
            else:  # what programs leave behind the last frame
                break
    except IndexError:
        return Animation(tuple(seconds), complete=False)
    return Animation(tuple(seconds))


def _scan_png(data: mmap.mmap) -> Animation:
    seconds: list[float] = []
    announced, first, at = 0, 0, 8
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + min(size, 26)]
        at += size + 12
        if at > len(data):
            break
        if kind == b"acTL":
            announced = int.from_bytes(body[:4], "big")
        elif kind == b"fcTL":
            part, whole = (
                int.from_bytes(body[20:22], "big"),
                int.from_bytes(body[22:24], "big") or 100,
            )
            seconds.append(part / whole)
        elif kind == b"IDAT" and not seconds:
            first = 1
        elif kind == b"IEND":
            return Animation(tuple(seconds), len(seconds) >= announced, first)
    # the last may lack data, those before it do not
    return Animation(tuple(seconds[:-1]), complete=False, first=first)


def _scan_webp(data: mmap.mmap) -> Animation:
    seconds: list[float] = []
    end = int.from_bytes(data[4:8], "little") + 8
    at = 12
    while at + 8 <= min(len(data), end):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > len(data):
            break
        if data[at : at + 4] == b"ANMF":
            seconds.append(int.from_bytes(data[at + 20 : at + 23], "little") / 1000)
        at += 8 + size + size % 2
    return Animation(tuple(seconds), complete=len(data) + 1 >= end)


SCANNERS: dict[str, Scanner] = {"GIF": _scan_gif, "PNG": _scan_png, "WEBP": _scan_webp}
