"""What a player would show of a video, an animation or a picture, and one sentence where that
cannot be had.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from gs4d.errors import UserError
from gs4d.io.images import read_image, read_size
from gs4d.io.video import has_layers, is_still, read_frames, video_info

WIDTH, HEIGHT = 96, 64
ONE = 1 << 16  # in the fixed point of a display matrix


def frame(t: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A red square that walks to the right over white, a green corner at the top left."""
    image = np.full((height, width, 3), 255, np.uint8)
    image[height // 4 : height // 2, 4 * t : 4 * t + 16] = (200, 30, 30)
    image[:8, :12] = (30, 160, 30)
    return image


def place(image: np.ndarray) -> int:
    """The number of the frame, by where the square is."""
    return round(int(np.argmax(image[image.shape[0] * 3 // 8, :, 1] < 120)) / 4)


def encode(
    path: Path,
    count: int = 8,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    make: Callable[[int], np.ndarray] = frame,
    options: dict[str, str] | None = None,
    start: int = 0,
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 10, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for t in range(count):
            image = make(t)
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(image), "rgba" if image.shape[-1] == 4 else "rgb24"
            )
            picture.pts, picture.time_base = start + t, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def streams(
    path: Path, sizes: list[tuple[int, int]], default: int | None, counts: list[int] | None = None
) -> Path:
    with av.open(str(path), "w") as container:
        tracks = []
        for k, (width, height) in enumerate(sizes):
            track = container.add_stream("libx264", 10)
            track.width, track.height, track.pix_fmt = width, height, "yuv420p"
            if default is not None:
                track.disposition = Disposition.default if k == default else Disposition(0)
            tracks.append(track)
        for t in range(12):
            for k, (track, size) in enumerate(zip(tracks, sizes, strict=True)):
                if counts is None or t < counts[k]:
                    container.mux(
                        track.encode(av.VideoFrame.from_ndarray(frame(t, *size), "rgb24"))
                    )
        for track in tracks:
            container.mux(track.encode(None))
    return path


@pytest.mark.parametrize(
    ("sizes", "default", "counts", "shown"),
    [
        # a thumbnail track that a muxer marked because it came first
        ([(64, 48), (320, 240)], 0, None, 1),
        ([(192, 128), (192, 128)], 1, None, 1),
        ([(320, 240), (240, 160)], 1, None, 1),  # the default, though it is smaller
        ([(640, 480), (192, 128)], 0, [1, 12], 1),  # a cover without a flag
    ],
)
def test_the_stream_that_a_player_shows_is_read_and_the_others_are_named(
    tmp_path: Path, sizes: list[tuple[int, int]], default: int, counts: list[int] | None, shown: int
):
    path = streams(tmp_path / "clip.mkv", sizes, default, counts)
    info = video_info(path)
    assert len(info.times) == 12
    assert next(iter(read_frames(path))).shape[:2] == sizes[shown][::-1]
    assert f"holds 2 video streams: {sizes[0][0]}x" in info.notes[0]
    assert f"number {shown + 1} is read" in info.notes[0]


def test_a_cover_picture_is_no_stream(tmp_path: Path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        cover, film = container.add_stream("mjpeg", 10), container.add_stream("libx264", 10)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = (
            640,
            480,
            "yuvj420p",
            Disposition.attached_pic,
        )
        film.width, film.height, film.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(frame(0, 640, 480), "rgb24")))
        for t in range(4):
            container.mux(film.encode(av.VideoFrame.from_ndarray(frame(t), "rgb24")))
        container.mux(film.encode(None))
    assert video_info(path).notes == ()
    assert [place(f) for f in read_frames(path)] == [0, 1, 2, 3]


@pytest.mark.parametrize(("bframes", "first", "count"), [(0, 5, 11), (2, 10, 6)])
def test_a_trimmed_clip_has_the_frames_that_are_shown(
    tmp_path: Path, bframes: int, first: int, count: int
):
    path = encode(
        tmp_path / "a.mp4", 20, options={"x264-params": f"bframes={bframes}:keyint=8:scenecut=0"}
    )
    data = bytearray(path.read_bytes())
    at, scale = data.index(b"elst") + 4, struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    length, begin = struct.unpack_from(">Ii", data, at + 8)
    struct.pack_into(">Ii", data, at + 8, length * count // 20, begin + scale * first // 10)
    path.write_bytes(data)
    info = video_info(path)
    assert info.complete
    assert info.times == pytest.approx([i / 10 for i in range(count)], abs=1e-3)
    assert [place(f) for f in read_frames(path)] == list(range(first, first + count))
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(UserError, match="cut short"):
        video_info(path)


MATRICES = {
    "90": ((0, ONE, -ONE, 0), lambda i: np.rot90(i, -1)),
    "180": ((-ONE, 0, 0, -ONE), lambda i: i[::-1, ::-1]),
    "270": ((0, -ONE, ONE, 0), lambda i: np.rot90(i)),
    "mirrored": ((-ONE, 0, 0, ONE), lambda i: i[:, ::-1]),
    "upside down mirrored": ((ONE, 0, 0, -ONE), lambda i: i[::-1]),
    "transposed": ((0, ONE, ONE, 0), lambda i: i.swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices_are_applied(tmp_path: Path, name: str):
    (a, b, c, d), turn = MATRICES[name]
    path = encode(tmp_path / "a.mp4", 2)
    data = path.read_bytes()
    at = data.index(struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    path.write_bytes(
        data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :]
    )
    image, truth = next(iter(read_frames(path)))[..., :3], turn(frame(0))
    assert image.shape == truth.shape
    assert np.abs(image.astype(float) - truth).mean() < 8


def test_interlaced_video_is_made_whole_and_said(tmp_path: Path):
    def woven(t: int) -> np.ndarray:
        return np.where((np.arange(HEIGHT) % 2 == 0)[:, None, None], frame(t), frame(t + 2))

    path = encode(tmp_path / "a.mp4", 8, make=woven, options={"x264-params": "tff=1", "crf": "10"})
    image = list(read_frames(path))[3][..., 1].astype(int)
    combs = np.abs(2 * image[20:28] - image[19:27] - image[21:29]).mean()
    raw = woven(3)[..., 1].astype(int)
    assert combs < 0.5 * np.abs(2 * raw[20:28] - raw[19:27] - raw[21:29]).mean()
    assert "is interlaced" in video_info(path).notes[0]


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options"),
    [
        ("a.mov", "prores_ks", "yuva444p10le", {}),
        ("a.mov", "qtrle", "argb", {}),
        ("a.mov", "png", "rgba", {}),
        ("a.avi", "utvideo", "gbrap", {}),
        ("a.mkv", "ffv1", "yuva444p", {}),
        ("a.webm", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0", "crf": "10"}),
        ("a.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "b": "2M"}),
    ],
)
def test_alpha_of_every_codec_is_read(
    tmp_path: Path, name: str, codec: str, pixels: str, options: dict[str, str]
):
    def see_through(t: int) -> np.ndarray:
        alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
        alpha[40:52], alpha[52:] = 128, 0
        return np.concatenate([frame(t), alpha], -1)

    path = encode(tmp_path / name, 3, codec, pixels, see_through, options)
    images = list(read_frames(path))
    assert [place(i) for i in images] == [0, 1, 2]
    assert [int(images[1][y, 50, 3]) for y in (20, 46, 60)] == pytest.approx([255, 128, 0], abs=4)


def test_a_second_layer_of_hevc_is_noticed():
    def header(*layers: int) -> bytes:
        units = [
            struct.pack(">BHH", 0x20, 1, 2) + bytes([0x40 | layer >> 5, (layer & 31) << 3 | 1])
            for layer in layers
        ]
        return bytes([1]) + bytes(21) + bytes([len(units)]) + b"".join(units)

    assert has_layers(header(0, 0, 1))
    assert not has_layers(header(0, 0, 0))
    assert not has_layers(b"")


def test_a_late_first_time_is_no_missing_end(tmp_path: Path):
    info = video_info(encode(tmp_path / "a.mkv", start=50))
    assert info.complete
    assert info.duration == pytest.approx(0.8, abs=0.01)


def test_damage_inside_is_said(tmp_path: Path):
    path = encode(tmp_path / "a.mp4", 20, options={"x264-params": "bframes=0:keyint=5:scenecut=0"})
    notes: list[str] = []
    assert len(list(read_frames(path, notes=notes))) == 20
    assert notes == []
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") + 1500
    data[at : at + 200] = np.random.default_rng(1).integers(0, 255, 200, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    assert len(list(read_frames(path, notes=notes))) == 20
    assert "is damaged" in notes[0]


def test_a_clip_cut_before_a_key_frame_begins_where_it_can_be_decoded(tmp_path: Path):
    path = encode(tmp_path / "a.ts", 18, options={"x264-params": "bframes=2:keyint=8:scenecut=0"})
    data = path.read_bytes()
    # the first picture is gone, and with it all up to the next key frame
    path.write_bytes(data[188 * 8 :])
    info = video_info(path)
    places = [place(f) for f in read_frames(path)]
    assert info.complete
    assert places == list(range(18 - len(places), 18))
    assert 0 < len(places) < 18


def test_guessed_times_are_said(tmp_path: Path):
    path = encode(tmp_path / "a.h264")
    assert "25 per second are assumed" in video_info(path).notes[0]
    assert [place(f) for f in read_frames(path)] == list(range(8))


def test_a_video_that_changes_its_size_is_read_up_to_there(tmp_path: Path):
    small = tmp_path / "b.h264"
    with av.open(str(small), "w") as container:
        stream = container.add_stream("libx264", 10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for t in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(t, 64, 48), "rgb24")))
        container.mux(stream.encode(None))
    path = encode(tmp_path / "a.h264", 4)
    path.write_bytes(path.read_bytes() + small.read_bytes())
    assert len(list(read_frames(path, range(4)))) == 4
    assert {f.shape for f in read_frames(path, range(4, 8))} == {(48, 64, 4)}
    with pytest.raises(UserError, match="changes its size from 96x64 to 64x48 pixels at 0.16 s"):
        list(read_frames(path))


def gif(path: Path, width: int, height: int, delays: list[int]) -> Path:
    """A GIF whose frames hold one pixel each."""
    parts = [b"GIF89a", struct.pack("<HHBBB", width, height, 0x80, 0, 0), bytes(6)]
    for delay in delays:
        parts.append(b"\x21\xf9\x04\x00" + struct.pack("<H", delay) + b"\x00\x00,")
        parts.append(struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00")
    path.write_bytes(b"".join(parts) + b";")
    return path


def test_a_small_gif_of_many_large_frames_is_refused_at_once(tmp_path: Path):
    path = gif(tmp_path / "a.gif", 8000, 8000, [10] * 400)
    begin = time.monotonic()
    with pytest.raises(UserError, match="400 frames of 8000x8000 pixels"):
        video_info(path)
    path = gif(tmp_path / "b.gif", 4000, 4000, [10, 0, 1, 2, 300] * 40)
    info = video_info(path)
    assert time.monotonic() - begin < 5  # no frame was decoded
    assert np.diff(info.times)[:5] == pytest.approx([0.1, 0.1, 0.1, 0.02, 3.0])


@pytest.mark.parametrize("kind", ["png", "webp", "avif", "gif"])
def test_animations_say_their_times_and_what_is_missing(tmp_path: Path, kind: str):
    first, *rest = [Image.fromarray(frame(t)) for t in range(5)]
    path, spans = tmp_path / f"a.{kind}", [100, 200, 50, 100, 60]
    lossless = {"lossless": True} if kind == "webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=spans, **lossless)
    assert not is_still(path)
    info = video_info(path)
    assert info.complete
    assert info.times == pytest.approx(np.cumsum([0, *spans[:-1]]) / 1000)
    assert [place(f) for f in read_frames(path)] == list(range(5))
    assert [place(f) for f in read_frames(path, [1, 4])] == [1, 4]
    path.write_bytes(path.read_bytes()[:-200])
    if kind in ("png", "gif"):
        assert not video_info(path).complete
    else:  # not opened at all when they are cut
        with pytest.raises(UserError):
            video_info(path)
    with pytest.raises(UserError):
        read_image(path)


def test_the_still_picture_of_an_animated_png_is_no_frame(tmp_path: Path):
    still, frames = (
        Image.new("RGB", (WIDTH, HEIGHT), (250, 0, 0)),
        [Image.fromarray(frame(t)) for t in range(4)],
    )
    still.save(
        tmp_path / "a.png", save_all=True, default_image=True, append_images=frames, duration=100
    )
    assert len(video_info(tmp_path / "a.png").times) == 4
    assert [place(f) for f in read_frames(tmp_path / "a.png")] == [0, 1, 2, 3]


def test_pages_of_a_tiff_are_frames(tmp_path: Path):
    first, *rest = [Image.fromarray(frame(t)) for t in range(3)]
    first.save(tmp_path / "a.tif", save_all=True, append_images=rest)
    assert "3 pages and no times" in video_info(tmp_path / "a.tif").notes[0]
    assert [place(f) for f in read_frames(tmp_path / "a.tif")] == [0, 1, 2]


def png(path: Path, depth: int, kind: int, rows: np.ndarray, transparent: bytes) -> Path:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    width = rows.shape[1] if depth >= 8 else rows.shape[1] * 8 // depth
    width = width // ({0: 1, 2: 3}[kind] * (2 if depth == 16 else 1)) if depth >= 8 else width
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0))
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    end = chunk(b"tRNS", transparent) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + end)
    return path


@pytest.mark.parametrize(
    ("depth", "kind", "rows", "transparent"),
    [
        (1, 0, np.array([[0b10101010]], np.uint8), struct.pack(">H", 1)),
        (4, 0, np.array([[0x5A, 0x5A]], np.uint8), struct.pack(">H", 5)),
        (16, 0, np.array([[0x12, 0x34, 0x56, 0x78]], np.uint8), struct.pack(">H", 0x1234)),
        (
            16,
            2,
            np.array([[0x12, 0x34, 0, 1, 2, 3, 9, 9, 9, 9, 9, 9]], np.uint8),
            struct.pack(">HHH", 0x1234, 1, 0x203),
        ),
    ],
)
def test_a_transparent_colour_is_found_at_every_depth(
    tmp_path: Path, depth: int, kind: int, rows: np.ndarray, transparent: bytes
):
    image = read_image(png(tmp_path / "a.png", depth, kind, rows, transparent))
    assert image[0, :2, 3].tolist() == [0, 255]


def tiff(path: Path, data: np.ndarray, extra: int | None, photometric: int = 2) -> Path:
    height, width, samples = data.shape
    tags = {
        256: width,
        257: height,
        258: data.itemsize * 8,
        259: 1,
        262: photometric,
        277: samples,
        278: height,
    }
    tags |= {273: 200, 279: data.nbytes, 284: 1} | ({} if extra is None else {338: extra})
    entries = []
    for tag, value in sorted(tags.items()):
        if tag == 258 and samples > 2:
            entries.append(struct.pack("<HHII", tag, 3, samples, 180))
        else:
            count = samples if tag == 258 else 1
            packed = (
                struct.pack(f"<{count}H", *[value] * count)
                if tag == 258
                else struct.pack("<I", value)
            )
            entries.append(
                struct.pack("<HHI", tag, 3 if tag == 258 else 4, count) + packed.ljust(4, b"\0")
            )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(entries) + bytes(4)
    depth = struct.pack(f"<{samples}H", *[data.itemsize * 8] * samples)
    path.write_bytes((head.ljust(180, b"\0") + depth).ljust(200, b"\0") + data.tobytes())
    return path


def test_alpha_of_a_tiff_is_as_the_file_says(tmp_path: Path):
    straight = np.full((8, 8, 4), (200, 100, 40, 128), np.uint8)
    assert read_image(tiff(tmp_path / "a.tif", straight, 2))[0, 0].tolist() == [200, 100, 40, 128]
    dark = np.full((8, 8, 4), (100, 50, 20, 128), np.uint8)
    assert read_image(tiff(tmp_path / "a.tif", dark, 1))[0, 0].tolist() == pytest.approx(
        [200, 100, 40, 128], abs=2
    )
    grey = np.full((8, 8, 2), (100, 128), np.uint8)
    assert read_image(tiff(tmp_path / "a.tif", grey, 1, 1))[0, 0].tolist() == pytest.approx(
        [200] * 3 + [128], abs=2
    )
    with pytest.raises(UserError, match="does not say whether that is alpha"):
        read_image(tiff(tmp_path / "a.tif", straight, 0))
    white_is_zero = np.full((8, 8, 1), 65535 - 200 * 257, np.uint16)
    assert read_image(tiff(tmp_path / "a.tif", white_is_zero, None, 0))[0, 0].tolist() == [
        200,
        200,
        200,
        255,
    ]


def test_numbers_whose_white_is_unknown_are_refused(tmp_path: Path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tif")
    # and not stretched to white
    assert read_image(tmp_path / "a.tif")[0, 0].tolist() == [128, 128, 128, 255]
    for values in (np.full((8, 8), 90.0, np.float32), np.full((8, 8), 90, np.int32)):
        Image.fromarray(values).save(tmp_path / "a.tif")
        with pytest.raises(
            UserError,
            match=r"a\.tif cannot be read as a picture: it holds .* nothing says which is white",
        ):
            read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_pixels_and_size(tmp_path: Path, orientation: int):
    turns: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda i: i,
        lambda i: i[:, ::-1],
        lambda i: i[::-1, ::-1],
        lambda i: i[::-1],
        lambda i: i.swapaxes(0, 1),
        np.rot90,
        lambda i: i[::-1, ::-1].swapaxes(0, 1),
        lambda i: np.rot90(i, -1),
    ]
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = np.ascontiguousarray(turns[orientation - 1](frame(3)))
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png")[..., :3], frame(3))
    assert read_size(tmp_path / "a.png") == (WIDTH, HEIGHT)


def test_a_32_bit_targa_without_alpha_is_opaque(tmp_path: Path):
    Image.fromarray(np.dstack([frame(0), np.zeros((HEIGHT, WIDTH), np.uint8)])).save(
        tmp_path / "a.tga"
    )
    assert (read_image(tmp_path / "a.tga")[..., 3] == 255).all()


def test_an_animation_is_not_taken_for_one_picture(tmp_path: Path):
    Image.fromarray(frame(0)).save(
        tmp_path / "a.webp", save_all=True, append_images=[Image.fromarray(frame(1))]
    )
    with pytest.raises(UserError, match="is an animation where one picture is wanted"):
        read_image(tmp_path / "a.webp")


def test_a_pipe_is_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "a.mp4")
    for read in (video_info, read_image):
        with pytest.raises(UserError, match="a pipe or device"):
            read(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.png", "a.webp", "a.avif", "a.tif"])
def test_mutated_files_are_read_or_refused_in_a_sentence(tmp_path: Path, name: str):
    path = tmp_path / name
    if name in ("a.mp4", "a.webm"):
        encode(path, 3, "libx264" if name == "a.mp4" else "libvpx")
    else:
        first, *rest = [Image.fromarray(frame(t)) for t in range(3)]
        first.save(path, save_all=True, append_images=rest)
    whole, rng, said = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(int(os.environ.get("GS4D_FUZZ", "12"))):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 12):
            data[at] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data) // 2, len(data) + 1)])
        try:
            video_info(path)
            list(read_frames(path))
        except UserError as error:
            said.append(str(error))
    assert said
    assert not any("\n" in sentence for sentence in said)
