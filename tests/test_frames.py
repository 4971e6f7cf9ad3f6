"""From any source to the input view of a clip.

Every kind of file, every kind of mask, and one sentence for what is wrong.
"""

from __future__ import annotations

import json
import re
import runpy
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from pictures import SIZE, WHITE, over, screen, thing, things
from PIL import Image, ImageDraw

from gs4d.cli import guarded
from gs4d.errors import UserError
from gs4d.intake import sources
from gs4d.intake.backdrop import find_backdrop, key
from gs4d.intake.crop import SPHERE, outermost, plan_crop
from gs4d.intake.frames import FramesOptions, make_frames
from gs4d.intake.masks import mask_facts, soften, steady, to_levels, true_colors
from gs4d.intake.sources import Pick, pick_frames
from gs4d.io.clips import clip_names, read_clip
from gs4d.io.images import read_image, resize_rgba
from gs4d.io.video import VideoInfo, read_frames, video_info

ROOT = Path(__file__).parent.parent


def encode(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    milliseconds: Sequence[int] | None = None,
    **options: str,
) -> Path:
    """Writes a video; RGB or RGBA frames, 10 per second or at the given times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            codec,
            rate=1000 if milliseconds else 10,
            options={"crf": "10", "auto-alt-ref": "0", **options},
        )
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame), "rgba" if frame.shape[-1] == 4 else "rgb24"
            )
            picture.pts, picture.time_base = (
                milliseconds[i] if milliseconds else 100 * i,
                Fraction(1, 1000),
            )
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def animate(path: Path, frames: Sequence[np.ndarray]) -> Path:
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=100, loop=0, disposal=2)
    return path


def folder_of(path: Path, frames: Sequence[np.ndarray]) -> Path:
    path.mkdir(parents=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{i}.png")
    return path


def made(path: Path, data: Path, **options: object) -> tuple[list[np.ndarray], dict]:
    folder = make_frames(FramesOptions(path=path, name="a", data_dir=data, **options))  # type: ignore[arg-type]
    files = sorted(folder.iterdir(), key=lambda p: int(p.stem))
    return [read_image(p) for p in files], json.loads((data / "a_frames.json").read_text())


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def turned(path: Path) -> Path:
    """Sets the rotation of an mp4 as a telephone does, in the matrix of its track header."""
    data = path.read_bytes()
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(
        data[:at]
        + struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
        + data[at + 36 :]
    )
    return path


SOURCES: dict[str, Callable[[Path], Path]] = {
    "white.mp4": lambda p: encode(p, [over(t, WHITE) for t in things()]),
    "black and odd.mp4": lambda p: encode(
        p, [over(t, (0, 0, 0))[:-1, :-1] for t in things()], pixels="yuv444p"
    ),
    "ten bit.mkv": lambda p: encode(
        p, [over(t, (120, 125, 130)) for t in things()], pixels="yuv420p10le"
    ),
    "alpha vp9.webm": lambda p: encode(p, things(), "libvpx-vp9", "yuva420p"),
    "alpha vp8.webm": lambda p: encode(p, things(), "libvpx", "yuva420p", b="2M"),
    "alpha.gif": lambda p: animate(p, things()),
    "alpha.webp": lambda p: animate(p, things()),
    "animated.png": lambda p: animate(p, things()),
    "grün screen.mp4": lambda p: encode(p, [over(t, screen()) for t in things()]),
    "folder": lambda p: folder_of(p, things()),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_the_same_cut_out_frames(tmp_path: Path, name: str):
    frames, record = made(SOURCES[name](tmp_path / name), tmp_path / "data")
    assert len(frames) == len(record["times"]) == 6
    for truth, frame, center in zip(things(), frames, record["crop"]["path"], strict=True):
        half = record["crop"]["side"] / 2
        box = (center[0] - half, center[1] - half, center[0] + half, center[1] + half)
        expected = resize_rgba(truth, record["crop"]["size"], record["crop"]["size"], box)
        assert iou(expected[..., 3] > 127, frame[..., 3] > 127) > 0.93
        both = (expected[..., 3] > 60) & (frame[..., 3] > 60)
        error = np.abs(expected[both][:, :3].astype(float) - frame[both][:, :3]).mean()
        assert error < 12  # 4:2:0 blurs colours; a halo of the background would be far more
        stray = frame[..., 3][expected[..., 3] == 0].sum()
        assert stray < 0.02 * expected[..., 3].sum()


def test_what_is_written_is_a_clip_with_previews_beside_it(tmp_path: Path):
    path = SOURCES["white.mp4"](tmp_path / "white.mp4")
    made(path, tmp_path / "data")
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [
        "a_frames.json",
        "a_pose0",
        "a_pose0_preview.mp4",
        "a_pose0_preview.png",
    ]
    assert clip_names(tmp_path / "data") == ["a"]
    clip = read_clip(tmp_path / "data", "a", resolution=64)
    assert clip.frames == 6
    assert len(video_info(tmp_path / "data" / "a_pose0_preview.mp4").times) == 6
    assert Image.open(tmp_path / "data" / "a_pose0_preview.png").width > 1000


def test_rotation_is_applied(tmp_path: Path):
    frames = [over(t, WHITE) for t in things(3)]
    path = turned(encode(tmp_path / "phone.mp4", frames))
    read = next(iter(read_frames(path)))
    assert read.shape == (SIZE[0], SIZE[1], 4)
    upright = np.rot90(frames[0], -1).astype(float)
    assert np.abs(read[..., :3] - upright).mean() < 3


def test_times_of_uneven_video_are_true(tmp_path: Path):
    times = [0, 40, 80, 500, 1000, 2000]
    path = encode(tmp_path / "uneven.mp4", [over(t, WHITE) for t in things()], milliseconds=times)
    info = video_info(path)
    assert info.times == pytest.approx([t / 1000 for t in times], abs=1e-3)
    assert pick_frames(info, Pick(fps=2.0), "x") == [0, 3, 4, 4, 5]
    assert pick_frames(info, Pick(start=0.4, end=1.2), "x") == [3, 4]


def test_frames_are_read_one_at_a_time(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    path = encode(tmp_path / "long.mp4", [np.roll(noise, i, 1) for i in range(300)], crf="40")
    whole = 300 * 64 * 96 * 4
    tracemalloc.start()
    count = sum(1 for _ in read_frames(path))
    picked = [frame[0, 0].tolist() for frame in read_frames(path, [5, 200])]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, len(picked)) == (300, 2)
    assert peak < whole / 8


EVEN = VideoInfo(tuple(i / 10 for i in range(100)), 10.0)


@pytest.mark.parametrize(
    ("pick", "numbers"),
    [
        (Pick(), list(range(0, 100, 4))),
        (Pick(frames=3), [0, 49, 99]),
        (Pick(fps=1.0), list(range(0, 100, 10))),
        (Pick(fps=1.0, frames=2), [0, 10]),
        (Pick(start=2.0, end=2.5), [20, 21, 22, 23, 24, 25]),
        (Pick(frames=100), list(range(100))),
    ],
)
def test_frames_are_picked_evenly(pick: Pick, numbers: list[int]):
    chosen = pick_frames(EVEN, pick, "x")
    assert np.abs(np.array(chosen) - numbers).max() <= (1 if pick.frames == 3 else 0)


@pytest.mark.parametrize(
    ("pick", "sentence"),
    [
        (Pick(frames=101), "has 100 frames from 0 to 9.9, not 101"),
        (Pick(start=11.0), "no frame of x lies between --start 11 and --end 9.9"),
        (Pick(fps=1.0, frames=20), "gives 10 frames at --fps 1, not 20"),
    ],
)
def test_frames_that_are_not_there_get_one_sentence(pick: Pick, sentence: str):
    with pytest.raises(UserError, match=sentence):
        pick_frames(EVEN, pick, "x")


@pytest.mark.parametrize("background", [WHITE, (0, 0, 0), (0, 200, 60), (90, 90, 140)])
def test_keying_gives_soft_edges_and_pure_colours(background: tuple[int, int, int]):
    truth = thing(0.4)
    image = over(truth, background)
    backdrop = find_backdrop(image)
    assert backdrop is not None
    alpha = key(image, backdrop)
    assert np.abs(alpha - truth[..., 3] / 255).mean() < 0.004
    cut = true_colors(np.dstack([image, truth[..., 3]]), to_levels(alpha), backdrop)
    inverse = [255 - c for c in background]
    edge = (truth[..., 3] > 0) & (truth[..., 3] < 255)
    halo = np.abs(over(cut, inverse)[edge].astype(float) - over(truth, inverse)[edge])
    assert halo.mean() < 12


def test_a_white_thing_before_white_stays_whole_and_gaps_are_seen_through():
    picture = Image.new("RGB", (200, 200), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle([40, 40, 160, 160], fill=(225, 225, 228))  # a white body ...
    # ... with a white eye ...
    draw.ellipse([60, 60, 90, 90], fill="white", outline=(60, 60, 60), width=2)
    draw.ellipse([72, 72, 78, 78], fill="black")
    # ... and an outlined white patch,
    draw.rectangle([110, 60, 140, 90], fill="white", outline=(70, 70, 70), width=3)
    draw.rectangle([80, 110, 120, 140], fill="white")  # and a gap
    draw.line([0, 199, 0, 150], fill=(225, 225, 228))
    image = np.asarray(picture)
    backdrop = find_backdrop(image)
    assert backdrop is not None
    alpha = key(image, backdrop)
    assert alpha[45:155, 45:105][:60].min() == 1  # the eye
    assert alpha[63:88, 113:138].min() == 1  # the patch: lines around it, not limbs
    assert alpha[20, 20] == 0
    green = image.copy()
    green[(image == 255).all(-1)] = (0, 200, 0)
    screen = find_backdrop(green)
    assert screen is not None
    assert key(green, screen)[125, 100] == 0  # a screen's colour is never the thing's own


def test_a_gap_between_dark_limbs_is_seen_through_on_white():
    picture = Image.new("RGB", (200, 200), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle([40, 40, 160, 160], fill=(90, 60, 50))
    draw.rectangle([80, 80, 120, 120], fill="white")
    image = np.asarray(picture)
    backdrop = find_backdrop(image)
    assert backdrop is not None
    assert key(image, backdrop)[85:115, 85:115].max() == 0


def test_faint_compression_blocks_are_not_cut_out():
    image = over(thing(), WHITE)
    image[80:88, 60:68] = 246
    image[20:24, 100:104] = 247
    backdrop = find_backdrop(image)
    assert backdrop is not None
    alpha = key(image, backdrop)
    assert alpha[80:88, 68:72].max() == 0
    assert alpha[20:24, 100:104].max() == 0


def test_natural_backgrounds_are_not_taken_for_flat_ones():
    y, x = np.mgrid[0:90, 0:120]
    image = np.stack(
        [120 + 90 * np.sin(x / 7), 120 + 90 * np.cos(y / 9), 100 + 60 * np.sin(x * y / 500)], -1
    ).astype(np.uint8)
    assert find_backdrop(image) is None


def test_premultiplied_alpha_is_recognised_and_straight_alpha_left_alone():
    truth = thing(0.3)
    dark = truth.astype(np.float32)
    dark[..., :3] *= dark[..., 3:] / 255
    repaired = true_colors(dark.round().astype(np.uint8), truth[..., 3], "alpha")
    some = (truth[..., 3] > 90) & (truth[..., 3] < 240)
    assert np.abs(repaired[some][:, :3].astype(float) - truth[some][:, :3]).mean() < 12
    assert np.array_equal(true_colors(truth, truth[..., 3], "alpha")[some], truth[some])


def test_hard_masks_that_hold_a_rim_of_background_are_softened():
    blurred = np.asarray(
        Image.fromarray(thing()).resize((60, 45)).resize((360, 270), Image.Resampling.BICUBIC)
    )
    truth = blurred[..., 3].astype(np.float32) / 255
    image = np.dstack([over(blurred, (0, 0, 0)), np.where(truth > 0.04, 255, 0).astype(np.uint8)])
    soft = soften(image, image[..., 3])
    assert np.abs(soft / 255 - truth).mean() < 0.5 * np.abs(image[..., 3] / 255 - truth).mean()
    sharp = np.kron(np.pad(np.full((20, 20), 255, np.uint8), 20), np.ones((4, 4), np.uint8))
    assert np.array_equal(soften(np.dstack([sharp, sharp, sharp, sharp]), sharp), sharp)


def test_masks_are_steady_over_time():
    whole = np.zeros((80, 80), np.uint8)
    whole[20:60, 20:60] = 255
    flawed = whole.copy()
    flawed[38:41, 38:41] = 0  # a hole that comes and goes
    flawed[5:8, 5:8] = 255  # a crumb that comes and goes
    assert np.array_equal(
        steady(flawed, [whole, whole], largest_only=False, close_holes=True), whole
    )
    assert steady(flawed, [flawed, flawed], largest_only=False, close_holes=True)[39, 39] == 0
    assert steady(flawed, [whole, whole], largest_only=False, close_holes=False)[39, 39] == 0
    two = whole.copy()
    two[30:50, 70:80] = 255
    assert np.array_equal(steady(two, [two], largest_only=True, close_holes=True), whole)
    assert np.array_equal(steady(two, [two], largest_only=False, close_holes=True), two)


def test_masks_from_elsewhere(tmp_path: Path):
    frames = folder_of(tmp_path / "frames", [over(t, screen()[::-1] * 0.3 + 90) for t in things()])
    masks = tmp_path / "masks"
    masks.mkdir()
    for i, truth in enumerate(things()):
        # numbered, not white
        Image.fromarray((truth[..., 3] > 127).astype(np.uint8)).save(masks / f"{i:05d}.png")
    cut, record = made(frames, tmp_path / "data", mask=masks)
    assert record["mask"] == f"the masks in {masks}: labels, object 1"
    assert mask_facts(cut[0][..., 3]).parts[0] > 500
    (masks / "00005.png").unlink()
    with pytest.raises(UserError, match="holds 5 masks, but 6 frames were taken"):
        made(frames, tmp_path / "data", mask=masks)


def test_one_crop_holds_the_whole_clip_inside_the_sphere(tmp_path: Path):
    truth = things()
    _, record = made(folder_of(tmp_path / "in", truth), tmp_path / "data")
    crop = record["crop"]
    assert len({tuple(center) for center in crop["path"]}) == 1
    center, radius = np.array(crop["path"][0]), crop["side"] / 2
    for image in truth:
        assert np.hypot(*(outermost(image[..., 3]) - center).T).max() <= SPHERE * radius + 0.1
        assert np.abs(outermost(image[..., 3]) - center).max() <= 200 / 256 * radius + 0.1


def test_the_crop_follows_a_thing_that_walks(tmp_path: Path):
    frames = []
    for i in range(8):
        wide = np.zeros((90, 400, 4), np.uint8)
        wide[:, 40 * i : 40 * i + 120] = thing()
        frames.append(wide)
    path = folder_of(tmp_path / "in", frames)
    small, record = made(path, tmp_path / "data")
    assert any(
        "--stabilise" in warning and "moves across" in warning for warning in record["warnings"]
    )
    large, record = made(path, tmp_path / "data", stabilise=True)
    steps = np.diff(np.array(record["crop"]["path"])[:, 0])
    assert (steps > 15).all()
    assert (large[3][..., 3] > 127).mean() > 2 * (small[3][..., 3] > 127).mean()


def test_frames_with_nothing_in_them_do_not_stop_the_crop():
    seen = mask_facts(thing()[..., 3])
    empty = mask_facts(np.zeros((90, 120), np.uint8))
    points = [outermost(thing()[..., 3]), np.zeros((0, 2)), outermost(thing()[..., 3])]
    crop = plan_crop([seen, empty, seen], points, follow=True, fill=0.78)
    assert np.isfinite(crop.centers).all()


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (
            [np.roll(t, -40, 1)[:, :60] for t in things()],
            r"cut by the border of the picture in 4 of 6 frames .* at the left",
        ),
        ([thing()] * 4, "too little motion"),
        ([np.concatenate([t, t], 1) for t in things()], "several objects: in 6 of 6 frames"),
        (
            [thing(), np.where(np.arange(120)[None, :, None] < 45, thing(), 0), thing()],
            r"mask jumps before 2 of 3 frames",
        ),
        ([thing(), np.zeros_like(thing()), thing()], r"nothing is seen in 1 of 3 frames \(1\)"),
        (
            [thing()[25:], thing(0.2)[25:], thing(0.4)[25:]],
            "cut by the border of the picture in 3 of 3 frames",
        ),
        (
            [np.pad(t[25:], ((20, 0), (0, 0), (0, 0))) for t in things(4)],
            r"straight line at the top \(pixel 20\) in 4 of 4",
        ),
    ],
)
def test_doubtful_clips_get_warnings_with_numbers(
    tmp_path: Path, frames: list[np.ndarray], sentence: str
):
    _, record = made(folder_of(tmp_path / "in", frames), tmp_path / "data")
    assert any(re.search(sentence, warning) for warning in record["warnings"]), record["warnings"]


def test_a_picture_makes_one_frame_and_a_warning(tmp_path: Path):
    image = over(thing(), WHITE)
    exif = Image.Exif()
    exif[0x112] = 6  # lies on its side
    Image.fromarray(np.rot90(image)).save(tmp_path / "lying.jpg", quality=95, exif=exif)
    Image.fromarray(image).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    Image.fromarray(image).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(thing()).save(tmp_path / "alpha.png")
    gray = image[..., 1].astype(np.uint16) * 257
    Image.fromarray(gray).save(tmp_path / "sixteen.png")
    masks = []
    for name in ("alpha.png", "lying.jpg", "print.jpg", "palette.png", "sixteen.png"):
        frames, record = made(tmp_path / name, tmp_path / "data")
        assert len(frames) == 1
        assert "one frame and nothing moves" in record["warnings"][0]
        masks.append(frames[0][..., 3] > 127)
    for mask in masks[1:]:
        assert iou(masks[0], mask) > 0.9


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is large, and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


def cut_short(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def saved(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "absent.mp4": (lambda p: p, "does not exist"),
    "empty.mp4": (lambda p: written(p, b""), "cannot be read as a video"),
    "cut.mp4": (lambda p: cut_short(SOURCES["white.mp4"](p)), "damaged or cut short"),
    "cut.gif": (
        lambda p: cut_short(SOURCES["alpha.gif"](p)),
        "cut short: frames are there up to .* --end",
    ),
    "cut.webm": (
        lambda p: cut_short(encode(p, things(40), "libvpx-vp9", "yuva420p")),
        "cut short: frames are there up to",
    ),
    "faststart.mp4": (
        lambda p: cut_short(encode(p, [over(t, WHITE) for t in things(40)], movflags="faststart")),
        "cut short",
    ),
    "empty": (lambda p: folder_of(p, []), "holds no pictures"),
    "single": (lambda p: folder_of(p, [thing()]), "holds a single picture"),
    "frame.mp4": (lambda p: encode(p, [over(thing(), WHITE)]), "has a single frame"),
    "tiny.png": (lambda p: saved(p, np.zeros((1, 1, 3), np.uint8)), "is 1x1 pixels"),
    "text.png": (lambda p: written(p, b"hello"), "cannot be read as a picture"),
    "huge.png": (lambda p: written(p, png_of(20000, 20000)), "more than 64 million pixels"),
    "large.png": (lambda p: written(p, png_of(9000, 9000)), "is 9000x9000 pixels"),
    "list.mp4": (
        lambda p: written(p, b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n"),
        "cannot be read as a video",
    ),
    "clear.png": (lambda p: saved(p, np.zeros((20, 20, 4), np.uint8)), "shows no object"),
    "blank.png": (lambda p: saved(p, np.full((20, 20, 3), 255, np.uint8)), "shows no object"),
    "room.mp4": (
        lambda p: encode(
            p, [np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8) for i in (0, 1)]
        ),
        "give --matting MODEL.onnx",
    ),
    "mixed": (
        lambda p: folder_of(p, [thing(), thing(size=(60, 60))]),
        r"is 60x60 pixels but 0.png is 120x90",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sources_get_one_sentence_and_nothing_is_written(tmp_path: Path, name: str):
    spoil, sentence = BAD[name]
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=sentence) as caught:
        made(spoil(tmp_path / name), tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 4}, "FramesOptions.size is 4; it must lie in 16 to 4096"),
        ({"frames": 0}, "FramesOptions.frames is 0; it must lie in 1 to 1024"),
        ({"fps": float("nan")}, "FramesOptions.fps is nan; it must lie in 0.01 to 1000"),
        ({"fps": 5.0}, "have no times, so --fps means nothing"),
        ({"mask": Path("nowhere")}, "--mask nowhere does not exist"),
        ({"mask_label": "2"}, "there is no FramesOptions.mask; give it"),
        ({"matting": Path("nowhere.onnx")}, "--matting nowhere.onnx does not exist"),
        ({"path": None}, "--path is missing"),
    ],
)
def test_bad_options_get_one_sentence(tmp_path: Path, options: dict, sentence: str):
    given = {
        "path": folder_of(tmp_path / "in", things(2)),
        "name": "a",
        "data_dir": tmp_path / "data",
        **options,
    }
    with pytest.raises(UserError, match=sentence):
        make_frames(FramesOptions(**given))


def test_several_series_in_one_folder_are_told_apart(tmp_path: Path):
    path = folder_of(tmp_path / "in", things(3))
    for i in range(3):
        Image.fromarray(thing()[..., 3]).save(path / f"{i}-depth.png")
    assert [p.name for p in sources.pictures_in(path)] == ["0.png", "1.png", "2.png"]
    for i in range(2):
        Image.fromarray(thing()).save(path / f"cat_{i}.png")
    with pytest.raises(UserError, match=r"several series of pictures: # \(3\), cat_# \(2\)"):
        sources.pictures_in(path)


def test_running_again_replaces_only_what_was_made(tmp_path: Path):
    path = folder_of(tmp_path / "in", things(3))
    made(path, tmp_path / "data")
    assert len(made(path, tmp_path / "data", frames=2)[0]) == 2
    Image.fromarray(thing()).save(tmp_path / "data/a_pose0/2.png")
    with pytest.raises(UserError, match="was changed after it was made"):
        made(path, tmp_path / "data")
    assert (tmp_path / "data/a_pose0/2.png").exists()
    made(path, tmp_path / "data", overwrite=True)
    (tmp_path / "data/a_frames.json").unlink()
    with pytest.raises(UserError, match="was not made by this command"):
        made(path, tmp_path / "data")
    (tmp_path / "data/a_sync").mkdir()
    assert "side views of the frames that were here before" in str(
        made(path, tmp_path / "data", overwrite=True)[1]["warnings"]
    )


def test_the_command_works_as_typed(tmp_path: Path):
    path = SOURCES["white.mp4"](tmp_path / "mein clip ü.mp4")
    script = [sys.executable, "preprocess/frames.py", "--data_dir", str(tmp_path / "dä ta")]
    done = subprocess.run(
        [*script, "--path", str(path), "--frames", "3"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert read_clip(tmp_path / "dä ta", "mein clip ü", resolution=32).frames == 3


def test_the_command_exits_with_2_after_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = cut_short(SOURCES["white.mp4"](tmp_path / "mein clip ü.mp4"))
    main = runpy.run_path(str(ROOT / "preprocess" / "frames.py"))["main"]
    assert guarded(main, ["--path", str(path), "--data_dir", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: ")
    assert not (tmp_path / "data").exists()
