"""Files in, files out, and one sentence for everything that can be wrong with them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gs4d.clip import Orbit, syncdreamer_rig
from gs4d.errors import UserError
from gs4d.gaussians import Gaussians
from gs4d.io.clips import read_clip, read_rig
from gs4d.io.encode import write_video
from gs4d.io.files import atomic_path, write_json
from gs4d.io.images import read_image, resize_rgba, write_png
from gs4d.io.ply import read_ply, write_ply
from gs4d.io.video import read_video


def save_rgba(path: Path, width: int = 12, height: int = 12, value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 4), value, np.uint8)
    pixels[..., 3] = 0
    pixels[2:-2, 2:-2, 3] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A clip 'toy' of 3 frames with 16 side views."""
    for t in range(3):
        save_rgba(tmp_path / "toy_pose0" / f"{t}.png", value=50 * t)
        for v in range(16):
            save_rgba(tmp_path / "toy_sync" / f"{t}_0_{v}_rgba.png", value=10 * v)
    return tmp_path


def test_a_clip_is_read_with_syncdreamers_rig(data: Path):
    clip = read_clip(data, "toy", resolution=256)
    assert (clip.frames, len(clip.tracks), clip.truth) == (3, 17, ())
    assert clip.tracks[0].orbit == Orbit()
    assert clip.tracks[5].orbit == Orbit(azimuth=90.0, elevation=30.0)
    assert clip.tracks[0].images[2][6, 6].tolist() == [100, 100, 100, 255]
    assert clip.tracks[8].images[0][6, 6, 0] == 70
    assert clip.times().tolist() == [0.0, 0.5, 1.0]
    assert clip.tracks[0].premultiplied(2)[0, 0].tolist() == [0, 0, 0, 0]


def test_large_and_odd_sized_frames_keep_their_aspect(tmp_path: Path):
    save_rgba(tmp_path / "wide_pose0" / "0.png", width=101, height=50)
    clip = read_clip(tmp_path, "wide", resolution=33)
    assert clip.tracks[0].size == (16, 33)
    assert clip.tracks[0].camera().width == 33
    assert clip.tracks[0].orbit.aspect == 33 / 16


@pytest.mark.parametrize("numbers", [(0, 1, 2), (1, 2, 3), (0, 2, 4, 6), (7, 8)])
def test_even_numberings_are_accepted(tmp_path: Path, numbers: tuple[int, ...]):
    for t in numbers:
        save_rgba(tmp_path / "a_pose0" / f"{t:03d}.png", value=t)
    clip = read_clip(tmp_path, "a", resolution=64)
    assert [int(picture[6, 6, 0]) for picture in clip.tracks[0].images] == list(numbers)


def test_truth_has_the_cameras_of_its_file_or_consistent4ds(data: Path):
    for k in range(2):
        for t in range(3):
            save_rgba(data / "toy_eval" / f"eval_{k}" / f"{t}.png")
    assert [t.orbit.azimuth for t in read_clip(data, "toy", resolution=64).truth] == [-75.0, 15.0]
    entries = {f"eval_{k}": {"azimuth_deg": 10 * k, "elevation_deg": -5} for k in range(2)}
    write_json(data / "toy_cameras.json", {"radius": 2.0, "fovy_deg": 40.0, "eval": entries})
    assert read_clip(data, "toy", resolution=64).truth[1].orbit == Orbit(10.0, -5.0, 2.0, 40.0)
    (data / "toy_eval" / "eval_1" / "1.png").unlink()
    with pytest.raises(UserError, match=r"eval_1/1\.png is missing"):
        read_clip(data, "toy", resolution=64)


CASES = {
    "hole": (lambda d: (d / "toy_pose0/1.png").unlink(), r"toy_pose0/1\.png is missing"),
    "side view missing": (
        lambda d: (d / "toy_sync/1_0_7_rgba.png").unlink(),
        r"1_0_7_rgba\.png is missing",
    ),
    "frame without side views": (
        lambda d: [p.unlink() for p in d.glob("toy_sync/2_0_*")],
        r"2_0_0_rgba\.png is missing",
    ),
    "fewer views": (
        lambda d: [p.unlink() for p in d.glob("toy_sync/*_15_rgba.png")],
        "has 15 views per frame but .* 16",
    ),
    "unequal size": (
        lambda d: save_rgba(d / "toy_pose0/1.png", width=9),
        "9x12 pixels but 0.png is 12x12",
    ),
    "no alpha": (
        lambda d: Image.new("RGB", (12, 12)).save(d / "toy_pose0/0.png"),
        "no alpha channel",
    ),
    "not a picture": (
        lambda d: (d / "toy_pose0/2.png").write_text("hello"),
        "2.png cannot be read as a picture",
    ),
    "cut short": (
        lambda d: (d / "toy_pose0/2.png").write_bytes((d / "toy_pose0/2.png").read_bytes()[:60]),
        "2.png cannot be read as a picture",
    ),
    "all transparent": (
        lambda d: [Image.new("RGBA", (12, 12)).save(p) for p in d.glob("toy_pose0/*.png")],
        "every pixel is transparent",
    ),
    "empty sync": (lambda d: [p.unlink() for p in d.glob("toy_sync/*")], "holds no side views"),
    "short rig": (
        lambda d: write_json(d / "toy_rig.json", {"azimuth": [0.0, 90.0]}),
        "16 views per frame but rig file .* 2",
    ),
    "rig typo": (
        lambda d: write_json(d / "toy_rig.json", {"azimut": [0.0] * 16}),
        "'azimut' .did you mean 'azimuth'",
    ),
    "rig huge": (
        lambda d: (d / "toy_rig.json").write_text('{"azimuth": [0], "radius": 1' + "0" * 400 + "}"),
        "radius as 1000",
    ),
    "rig deep": (lambda d: (d / "toy_rig.json").write_text("[" * 100000), "not valid JSON"),
    "rig link": (lambda d: (d / "toy_rig.json").symlink_to(d / "nowhere"), "cannot be read"),
    "surplus side views": (
        lambda d: save_rgba(d / "toy_sync/3_0_0_rgba.png"),
        "side views of frame 3, which the input video lacks",
    ),
    "twice": (lambda d: save_rgba(d / "toy_pose0/01.png"), "same frame"),
    "sync is a file": (
        lambda d: (shutil.rmtree(d / "toy_sync"), (d / "toy_sync").write_text("")),
        "toy_sync holds no side views",
    ),
    "16 bit": (
        lambda d: Image.new("I;16", (12, 12)).save(d / "toy_pose0/0.png"),
        "no alpha channel .mode I;16",
    ),
    "rig key": (
        lambda d: write_json(d / "toy_rig.json", {"azimuth": [0] * 16, "elevaton": 3}),
        "did you mean 'elevation'",
    ),
    "rig text": (lambda d: (d / "toy_rig.json").write_text("{"), "not valid JSON"),
    "rig range": (
        lambda d: write_json(d / "toy_rig.json", {"azimuth": [0] * 16, "fov": 200}),
        "out of range",
    ),
    "rig of words": (
        lambda d: write_json(d / "toy_rig.json", {"azimuth": ["a"] * 16}),
        "wanted a number",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_clips_get_one_sentence(data: Path, case: str):
    spoil, sentence = CASES[case]
    spoil(data)
    with pytest.raises(UserError, match=sentence) as caught:
        read_clip(data, "toy", resolution=64)
    assert "\n" not in str(caught.value)


def test_unknown_names_list_what_exists(data: Path):
    with pytest.raises(UserError, match="no clip named 'tyo' .*did you mean 'toy'.*there are: toy"):
        read_clip(data, "tyo", resolution=64)


def test_rig_files_in_both_forms(tmp_path: Path):
    path = tmp_path / "rig.json"
    write_json(
        path,
        {
            "azimuth": [0, 60],
            "elevation": 20,
            "radius": [1.5, 2],
            "fov": 40,
            "input": {"elevation": 5},
        },
    )
    by_column = read_rig(path)
    assert by_column == [Orbit(0.0, 20.0, 1.5, 40.0), Orbit(60.0, 20.0, 2.0, 40.0)]
    write_json(
        path,
        {
            "views": [
                {"azimuth": 0, "elevation": 20, "fov": 40},
                {"azimuth": 60, "elevation": 20, "radius": 2, "fov": 40},
            ]
        },
    )
    assert read_rig(path) == by_column
    write_json(path, {"azimuth": 90})
    assert read_rig(path) == [Orbit(90.0)]
    write_json(path, {"azimuth": [o.azimuth for o in syncdreamer_rig()], "elevation": 30})
    assert read_rig(path) == syncdreamer_rig()


def test_resizing_does_not_bleed_the_colour_under_alpha_zero():
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, :4] = (200, 10, 10, 255)
    image[:, 4:, 1] = 255  # hidden green
    small = resize_rgba(image, 3, 3)
    visible = small[small[..., 3] > 0]
    assert (visible[:, 1] <= 12).all()
    assert (abs(visible[:, 0].astype(int) - 200) <= 2).all()


def test_pictures_round_trip(tmp_path: Path):
    image = torch.rand(5, 7, 4)
    write_png(tmp_path / "a" / "b.png", image)
    assert (
        np.abs(read_image(tmp_path / "a" / "b.png") / 255.0 - image.numpy()).max()
        <= 0.5 / 255 + 1e-6
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ply_reads_back_bit_for_bit(tmp_path: Path, degree: int):
    n = 11
    g = Gaussians(
        torch.randn(n, 3),
        torch.randn(n, 4),
        torch.randn(n, 3),
        torch.randn(n),
        torch.randn(n, (degree + 1) ** 2, 3),
    )
    write_ply(tmp_path / "a.ply", g)
    for (_, wrote), (_, read) in zip(g.items(), read_ply(tmp_path / "a.ply").items(), strict=True):
        assert torch.equal(wrote, read)


def test_ply_has_the_standard_columns(tmp_path: Path):
    g = Gaussians(
        torch.zeros(2, 3),
        torch.zeros(2, 4),
        torch.zeros(2, 3),
        torch.zeros(2),
        torch.arange(24.0).view(2, 4, 3),
    )
    write_ply(tmp_path / "a.ply", g)
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    names = [
        line.split()[-1]
        for line in header.decode().splitlines()
        if line.startswith("property float")
    ]
    rest = [f"f_rest_{i}" for i in range(9)]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:] == [
        *rest,
        "opacity",
        "scale_0",
        "scale_1",
        "scale_2",
        "rot_0",
        "rot_1",
        "rot_2",
        "rot_3",
    ]
    # Colour channels of the higher coefficients are stored one after the other: all of red, then
    # green, then blue.
    row = np.frombuffer(body, "<f4").reshape(2, -1)[0]
    assert row[9:18].tolist() == [3, 6, 9, 4, 7, 10, 5, 8, 11]


@pytest.mark.parametrize("keep", [10, 200, 800])
def test_broken_ply_files_get_one_sentence(tmp_path: Path, keep: int):
    path = tmp_path / "a.ply"
    write_ply(
        path,
        Gaussians(
            torch.zeros(9, 3),
            torch.zeros(9, 4),
            torch.zeros(9, 3),
            torch.zeros(9),
            torch.zeros(9, 1, 3),
        ),
    )
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="not an intact PLY"):
        read_ply(path)


def test_other_ply_files_are_refused(tmp_path: Path):
    path = tmp_path / "cube.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float "
        "y\nend_header\n0 0\n"
    )
    with pytest.raises(UserError, match="lacks the property 'z'"):
        read_ply(path)


def test_videos_have_all_their_frames(tmp_path: Path):
    frames = [np.full((33, 21, 3), 20 * i, np.uint8) for i in range(6)]
    write_video(tmp_path / "a.mp4", iter(frames), fps=8.0)
    read = list(read_video(tmp_path / "a.mp4"))
    assert [f.shape for f in read] == [(32, 20, 3)] * 6
    assert [round(float(f.mean()) / 20) for f in read] == list(range(6))
    with pytest.raises(UserError, match="no frames"):
        write_video(tmp_path / "b.mp4", iter([]), fps=8.0)
    (tmp_path / "c.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"c\.mp4 cannot be read as a video"):
        list(read_video(tmp_path / "c.mp4"))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def fail() -> None:
        with atomic_path(path) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path):
    for content in ("one", "two"):
        with atomic_path(tmp_path / "ply") as part:
            part.mkdir()
            (part / content).write_text(content)
    assert [p.name for p in (tmp_path / "ply").iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["ply"]


def test_unwritable_places_get_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*choose another folder"):
        write_json(tmp_path / "file" / "a.json", {})
