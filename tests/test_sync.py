"""Other people's side views: recognised, cut out, placed, matched with the input's frames, and
doubted where they should be.
"""

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from PIL import Image
from toys import blobs

from gs4d.clip import Orbit, cameras_of, syncdreamer_rig
from gs4d.errors import UserError
from gs4d.intake.agreement import compare, shrink
from gs4d.intake.layouts import FORMATS, find_views
from gs4d.intake.sync import SyncOptions, make_sync
from gs4d.io.clips import View, read_clip, read_views
from gs4d.io.encode import write_video
from gs4d.io.files import write_json
from gs4d.io.images import read_image, to_bytes
from gs4d.render import render

ROOT = Path(__file__).parent.parent
FRAMES, SIDE = 2, 64
WHITE, GREY = (1.0, 1.0, 1.0), (0.5, 0.5, 0.5)
Pictures = UInt8[np.ndarray, "v h w c"]


def shoot(
    t: int,
    orbits: Sequence[Orbit],
    ground: tuple[float, float, float] | None = None,
    count: int = FRAMES,
) -> Pictures:
    """The blobs at frame ``t``, as RGBA, or as RGB before a ground."""
    cameras = cameras_of(orbits, width=SIDE, height=SIDE)
    drawn = render(blobs(t / max(count - 1, 1)), cameras, background=ground or (0.0, 0.0, 0.0))
    if ground:
        return to_bytes(drawn.rgb)
    straight = drawn.rgb / drawn.alpha.clamp_min(1e-6)[..., None]
    return to_bytes(torch.cat([straight, drawn.alpha[..., None]], -1))


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def film(path: Path, pictures: Sequence[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, iter(pictures), 8.0)


def rig_of(name: str, scale: float = 1.0) -> list[Orbit]:
    """The cameras of a format; those of an object that its generator shows ``scale`` times as large
    are nearer.
    """
    return [
        replace(view.orbits[0], radius=view.orbits[0].radius / scale)
        for view in FORMATS[name].views
    ]


def strips(folder: Path, count: int = FRAMES) -> None:
    for t in range(count):
        save(
            folder / f"{t}_0.png",
            np.concatenate(list(shoot(t, rig_of("syncdreamer"), WHITE, count)), 1),
        )
        # the input, which SyncDreamer's script also saves
        save(folder / f"{t}.png", shoot(t, [Orbit()], WHITE, count)[0])


def cut(folder: Path, prefix: str = "") -> None:
    for t in range(FRAMES):
        for v, picture in enumerate(shoot(t, rig_of("4dgen"))):
            save(folder / f"{prefix}{t}_0_{v}_rgba.png", picture)
            # what 4DGen's script makes of that saved input
            save(folder / f"{t}_{v}_rgba.png", picture[:, :4])


def grids(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for t in range(FRAMES):
            tiles = shoot(t, rig_of(name, 1.2), GREY)
            save(
                folder / f"{t:03d}.png",
                np.concatenate([np.concatenate(list(tiles[i : i + 2]), 1) for i in (0, 2, 4)], 0),
            )

    return write


def six_folders(folder: Path) -> None:
    for t in range(FRAMES):
        save(folder / "ref" / f"{t}_rgba.png", shoot(t, [Orbit()])[0])
        for v, picture in enumerate(shoot(t, rig_of("zero123plus", 1.2))):
            save(folder / "zero123" / f"{t}_rgba" / f"{v}.png", picture)


def sv4d(name: str, *others: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for v, orbit in enumerate(rig_of(name)):
            film(
                folder / f"000000_v{v + 1:03d}.mp4",
                [shoot(t, [orbit], WHITE)[0] for t in range(FRAMES)],
            )
        for other in others:
            film(
                folder / f"000000_{other}.mp4",
                [shoot(t, [Orbit()], WHITE)[0] for t in range(FRAMES)],
            )

    return write


def diffusion4d(folder: Path) -> None:
    for t, orbit in enumerate([Orbit(0.0, 10.0, 2.0, 39.6), Orbit(100.0, 10.0, 2.0, 39.6)]):
        save(folder / f"multi_frame{t}.png", shoot(t, [orbit])[0])
        save(folder / f"front_frame{t}.png", shoot(t, [Orbit(0.0, 0.0, 2.0, 39.6)])[0])
        a, e = math.radians(orbit.azimuth), math.radians(orbit.elevation)
        origin = [2 * math.sin(a) * math.cos(e), -2 * math.cos(a) * math.cos(e), 2 * math.sin(e)]
        write_json(folder / f"multi{t}.json", {"origin": origin, "y_fov": math.radians(39.6)})


def walk(count: int) -> list[Orbit]:
    return [Orbit(360 * t / (count - 1), 0.0, 2.0, 39.6) for t in range(count)]


def l4gm(folder: Path) -> None:
    for name in ("wo_interp_toy_fixed", "wo_interp_toy"):
        film(
            folder / f"{name}.mp4",
            [np.concatenate(list(shoot(t, rig_of("l4gm"), WHITE)), 1) for t in range(FRAMES)],
        )


def imagedream(folder: Path) -> None:
    for t in range(FRAMES):
        for v, picture in enumerate(shoot(t, rig_of("imagedream"))):
            save(folder / f"{t}_{v}_rgba.png", picture)


def imagedream_row(folder: Path) -> None:
    for t in range(FRAMES):
        save(folder / f"{t}.png", np.concatenate(list(shoot(t, rig_of("imagedream"), WHITE)), 1))


def three_films(folder: Path) -> None:
    orbits = [Orbit(20.0, 10.0), Orbit(140.0, 10.0, 2.0, 40.0), Orbit(260.0, -10.0)]
    for v, orbit in enumerate(orbits):
        film(folder / f"cam{v}.mp4", [shoot(t, [orbit], WHITE)[0] for t in range(FRAMES)])
    views = [
        {"azimuth": o.azimuth, "elevation": o.elevation, "radius": o.radius, "fov": o.fov}
        for o in orbits
    ]
    write_json(folder / "rig.json", {"views": views})


SOURCES: dict[
    str, tuple[Callable[[Path], None], str, float]
] = {  # how to write one, what it is, its object's scale
    "strips": (strips, "syncdreamer", 1.0),
    "cut": (cut, "4dgen", 1.0),
    "cut, with a name": (lambda folder: cut(folder, "toy"), "4dgen", 1.0),
    "grids": (grids("zero123plus"), "zero123plus", 1.2),
    "grids of v1.2": (grids("zero123plus-1.2"), "zero123plus-1.2", 1.2),
    "six folders": (six_folders, "zero123plus", 1.2),
    "sv4d": (sv4d("sv4d", "v000", "t000"), "sv4d", 1.0),
    "sv4d2": (sv4d("sv4d2"), "sv4d2", 1.0),
    "sv4d2 with 8 views": (sv4d("sv4d2-8views"), "sv4d2-8views", 1.0),
    "diffusion4d": (diffusion4d, "diffusion4d", 1.0),
    "l4gm": (l4gm, "l4gm", 1.0),
    "imagedream": (imagedream, "imagedream", 1.0),
    "imagedream in a row": (imagedream_row, "imagedream", 1.0),
    "three films": (three_films, "rig", 1.0),
}


def write_input(data: Path, count: int = FRAMES) -> None:
    for t in range(count):
        save(data / "toy_pose0" / f"{t}.png", shoot(t, [Orbit()], count=count)[0])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_input(tmp_path / "data")
    return tmp_path / "data"


def take(data: Path, *paths: Path, **options) -> Path:
    return make_sync(SyncOptions(path=paths, name="toy", data_dir=data, **options))


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_is_taken(
    data: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
):
    write, name, scale = SOURCES[kind]
    write(tmp_path / "source")
    folder = take(data, tmp_path / "source")
    said = capsys.readouterr().out
    assert f": {name}, by " in said
    source = find_views(tmp_path / "source", name="toy")
    expected = source.views or FORMATS[name].views
    written = read_views(data / "toy_rig.json")
    assert len(written) == len(expected)
    for view, one in zip(written, expected, strict=True):
        for orbit, right in zip(view.orbits, one.orbits, strict=True):
            assert (orbit.azimuth, orbit.elevation, orbit.fov) == pytest.approx(
                (right.azimuth, right.elevation, right.fov)
            )
            assert orbit.radius * scale == pytest.approx(
                right.radius, rel=0.08 if FORMATS[name].framed else 1e-6
            )
        assert min(view.confidence) > 0.9
    for t in range(FRAMES):
        truth = shoot(
            t,
            [
                replace(o.orbits[min(t, len(o.orbits) - 1)], radius=_at(o, t).radius / scale)
                for o in expected
            ],
        )
        for v, right in enumerate(truth):
            got = read_image(folder / f"{t}_0_{v}_rgba.png", need_alpha=True)
            assert got.shape == right.shape
            a, b = got[..., 3] > 127, right[..., 3] > 127
            assert (a & b).sum() / (a | b).sum() > 0.9
            solid = got[..., 3] > 250
            assert np.abs(got[solid].astype(int) - right[solid]).mean() < 12
    assert read_clip(data, "toy", resolution=SIDE).frames == FRAMES
    assert (data / "toy_sync_preview.png").is_file()
    assert sorted(p.name for p in data.iterdir()) == [
        "toy_pose0",
        "toy_rig.json",
        "toy_sync",
        "toy_sync_preview.png",
    ]


def _at(view: View, t: int) -> Orbit:
    return view.orbits[min(t, len(view.orbits) - 1)]


def test_views_of_one_frame_are_a_still(tmp_path: Path):
    for v, picture in enumerate(shoot(0, rig_of("syncdreamer"), WHITE)):
        save(tmp_path / "still" / f"{v:03d}.png", picture)
        save(tmp_path / "still" / f"{v:03d}-depth.png", np.zeros((9, 9), np.uint16))
    take(tmp_path / "data", tmp_path / "still")  # no input view yet
    assert len(list((tmp_path / "data" / "toy_sync").iterdir())) == 16
    write_input(tmp_path / "data", 1)
    assert read_clip(tmp_path / "data", "toy", resolution=SIDE).frames == 1
    assert read_views(tmp_path / "data" / "toy_rig.json") == [
        View((orbit,)) for orbit in syncdreamer_rig()
    ]


def test_a_video_whose_camera_moves(tmp_path: Path):
    data, count = tmp_path / "data", 5
    write_input(data, count)
    film(
        tmp_path / "orbit.mp4",
        [shoot(t, [orbit], WHITE, count)[0] for t, orbit in enumerate(walk(count))],
    )
    with pytest.raises(UserError, match="nothing says where their cameras stand"):
        take(data, tmp_path / "orbit.mp4")
    take(data, tmp_path / "orbit.mp4", format="diffusion4d", scale=1.0)
    track = read_clip(data, "toy", resolution=SIDE).tracks[1]
    assert [track.orbit_at(t).azimuth for t in range(count)] == pytest.approx(
        [0, 90, 180, 270, 360]
    )
    assert track.orbit.radius == 2.0


def test_sources_with_different_cameras_are_used_together(data: Path, tmp_path: Path):
    strips(tmp_path / "a")
    grids("zero123plus")(tmp_path / "b")
    take(data, tmp_path / "a", tmp_path / "b", scale=None)
    views = read_views(data / "toy_rig.json")
    assert [view.orbits[0].radius for view in views[:16]] == [1.5] * 16
    assert [view.orbits[0].radius for view in views[16:]] == pytest.approx([1.5 / 1.2] * 6, rel=0.1)
    assert min(w for view in views for w in view.confidence) > 0.8


SPOILED = {  # what is done to view 5 of all frames
    "mirrored": lambda views: views[5][:, ::-1],
    "of another side": lambda views: views[9],
    "smaller": lambda views: np.pad(views[5][::2, ::2], ((16, 16), (16, 16), (0, 0))),
    "recoloured": lambda views: views[5][..., [2, 0, 1, 3]],
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_view_that_disagrees_is_doubted(
    data: Path, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
):
    cut(tmp_path / "source")
    for t in range(FRAMES):
        views = shoot(t, rig_of("4dgen"))
        save(tmp_path / "source" / f"{t}_0_5_rgba.png", np.ascontiguousarray(SPOILED[how](views)))
    take(data, tmp_path / "source")
    weights = [np.mean(view.confidence) for view in read_views(data / "toy_rig.json")]
    assert weights[5] < 0.5
    assert min(w for v, w in enumerate(weights) if v != 5) > 0.9
    assert re.search(
        r"warning: view 5 \(azimuth 112.5\) disagrees .* in 2 of 2 frames", capsys.readouterr().out
    )


def test_a_single_wrong_frame_costs_its_view_that_frame_alone(tmp_path: Path):
    count, data = 3, tmp_path / "data"
    write_input(data, count)
    for t in range(count):
        for v, picture in enumerate(shoot(t, rig_of("4dgen"), count=count)):
            save(
                tmp_path / "source" / f"{t}_0_{v}_rgba.png",
                picture[:, ::-1] if (t, v) == (1, 3) else picture,
            )
    take(data, tmp_path / "source")
    assert read_views(data / "toy_rig.json")[3].confidence[0::2] == (1.0, 1.0)
    assert read_views(data / "toy_rig.json")[3].confidence[1] < 0.5


def test_cameras_that_go_the_other_way_are_noticed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for t in range(FRAMES):
        for v, picture in enumerate(
            shoot(t, [replace(o, azimuth=-o.azimuth) for o in rig_of("4dgen")])
        ):
            save(tmp_path / "source" / f"{t}_0_{v}_rgba.png", picture)
    take(data, tmp_path / "source")
    assert "would agree better if its cameras went around the other way" in capsys.readouterr().out
    take(data, tmp_path / "source", reverse=True)
    assert "other way" not in capsys.readouterr().out
    assert read_views(data / "toy_rig.json")[1].orbits[0].azimuth == -22.5


def test_an_input_of_another_size_or_of_another_object_is_noticed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cut(tmp_path / "source")
    for t in range(FRAMES):
        save(data / "toy_pose0" / f"{t}.png", shoot(t, [Orbit(0.0, 0.0, 2.2)])[0])
    take(data, tmp_path / "source")
    said = capsys.readouterr().out
    assert float(re.findall(r"add --scale (\d\.\d+)", said)[0]) == pytest.approx(
        1.5 / 2.2, rel=0.12
    )
    for t in range(FRAMES):
        save(data / "toy_pose0" / f"{t}.png", np.ascontiguousarray(shoot(t, [Orbit(90.0)])[0]))
    take(data, tmp_path / "source", scale=1.0)
    assert "the input view disagrees with the side views" in capsys.readouterr().out


def test_exact_views_agree_whatever_their_number():
    for orbits in (syncdreamer_rig(), syncdreamer_rig()[::4], rig_of("zero123plus")):
        found = compare([shrink(picture) for picture in shoot(0, orbits)], orbits)
        assert found.shape.min() > 0.93
        assert found.weights().min() > 0.97


def test_frames_that_do_not_match_must_be_chosen(data: Path, tmp_path: Path):
    source = tmp_path / "source"
    films = [[shoot(t, [orbit], WHITE, 5)[0] for t in range(5)] for orbit in rig_of("sv4d2")]
    for v, pictures in enumerate(films):
        film(source / f"000000_v{v + 1:03d}.mp4", pictures)
    with pytest.raises(
        UserError,
        match=r"\(sv4d2\) has 5 frames and toy_pose0 has 2; say with --frames .* first .* spread",
    ):
        take(data, source)
    for wanted, last in (("first", 1), ("spread", 4), ("0,3", 3)):
        folder = take(data, source, frames=wanted)
        got = read_image(folder / "1_0_2_rgba.png")
        errors = [np.abs(over_white(got) - picture.astype(float)).mean() for picture in films[2]]
        assert int(np.argmin(errors)) == last
    for wanted, sentence in (
        ("0,9", "must rise and lie below 5"),
        ("0,1,2", "names 3 frames"),
        ("some", "wanted first"),
    ):
        with pytest.raises(UserError, match=sentence):
            take(data, source, frames=wanted)


def over_white(picture: np.ndarray) -> np.ndarray:
    alpha = picture[..., 3:] / 255
    return picture[..., :3] * alpha + 255 * (1 - alpha)


def test_frames_with_numbers_are_matched_by_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "data"
    for t in (1, 2):
        save(data / "toy_pose0" / f"{t}.png", shoot(t, [Orbit()], count=3)[0])
    strips(tmp_path / "source", 3)
    take(data, tmp_path / "source")
    assert "took the 2 of 3 frames whose numbers the input view has" in capsys.readouterr().out
    assert {p.name.split("_")[0] for p in (data / "toy_sync").iterdir()} == {"1", "2"}
    assert (
        np.abs(
            over_white(read_image(data / "toy_sync" / "1_0_4_rgba.png"))
            - shoot(1, rig_of("4dgen"), WHITE, 3)[4]
        ).mean()
        < 4
    )


def test_views_that_lie_in_place_are_left_as_they_are(data: Path):
    cut(data / "toy_sync")
    before = {p.name: p.read_bytes() for p in (data / "toy_sync").iterdir()}
    take(data, data / "toy_sync")
    assert {p.name: p.read_bytes() for p in (data / "toy_sync").iterdir()} == before
    assert len(read_views(data / "toy_rig.json")) == 16


def test_what_others_made_is_not_replaced_unasked(data: Path, tmp_path: Path):
    cut(tmp_path / "source")
    save(data / "toy_sync" / "mine.png", shoot(0, [Orbit()])[0])
    with pytest.raises(UserError, match="was not made by this command.*--overwrite"):
        take(data, tmp_path / "source")
    write_json(data / "toy_rig.json", {"azimuth": [0] * 16, "input": {"elevation": 7}})
    take(data, tmp_path / "source", overwrite=True)
    assert not (data / "toy_sync" / "mine.png").exists()
    assert json.loads((data / "toy_rig.json").read_text())["input"]["elevation"] == 7
    take(data, tmp_path / "source")  # its own work


BAD = {
    "nothing there": (lambda s: None, "source does not exist"),
    "empty": (lambda s: s.mkdir(), "source holds no pictures and no videos"),
    "pictures without cameras": (
        lambda s: [
            save(s / f"mushroom_{i}.png", np.zeros((70, 60 + i, 4), np.uint8)) for i in range(3)
        ],
        "3 pictures.*of 60x70, 61x70, 62x70 pixels.*place them with a rig file.*zero123plus, ",
    ),
    "a view is missing": (
        lambda s: (cut(s), (s / "1_0_3_rgba.png").unlink()),
        r"1_0_3_rgba\.png is missing: every frame",
    ),
    "a strip is missing": (
        lambda s: (strips(s, 4), (s / "2_0.png").unlink()),
        r"a gap between 1_0\.png and 3_0\.png",
    ),
    "a strip is cut short": (
        lambda s: (strips(s), (s / "1_0.png").write_bytes((s / "1_0.png").read_bytes()[:500])),
        r"1_0\.png cannot be read as a picture",
    ),
    "text": (
        lambda s: (strips(s), (s / "1_0.png").write_text("hello")),
        r"1_0\.png cannot be read as a picture",
    ),
    "a folder lacks a view": (
        lambda s: (six_folders(s), (s / "zero123/1_rgba/5.png").unlink()),
        "1_rgba holds 5 views but",
    ),
    "two series": (
        lambda s: [
            save(s / f"{t}_{k}.png", np.zeros((8, 128, 4), np.uint8))
            for t in range(2)
            for k in range(2)
        ],
        "not one series of frames",
    ),
    "two runs": (
        lambda s: (sv4d("sv4d2")(s), shutil.copy(s / "000000_v001.mp4", s / "000001_v001.mp4")),
        r"several runs of SV4D \(000000, 000001\)",
    ),
    "a film is missing": (
        lambda s: (sv4d("sv4d2")(s), (s / "000000_v002.mp4").unlink()),
        "holds 3 of the videos",
    ),
    "no background": (
        lambda s: [
            save(
                s / f"{t}.png",
                np.random.default_rng(t).integers(0, 255, (SIDE, 16 * SIDE, 3), np.uint8),
            )
            for t in range(2)
        ],
        "no alpha and no background of one colour",
    ),
    "several sets": (
        lambda s: (strips(s / "one"), strips(s / "two")),
        "several sets of views; give one of them: one, two",
    ),
    "a rig of others": (
        lambda s: (three_films(s), write_json(s / "rig.json", {"azimuth": [0, 90]})),
        "places 2 cameras, but .* 3 videos",
    ),
    "other frames": (
        lambda s: strips(s, 1),
        "has 1 frames and toy_pose0 has 2; make the missing views",
    ),
    "tiny": (
        lambda s: [save(s / f"{t}.png", np.zeros((3, 48, 4), np.uint8)) for t in range(2)],
        "too small to hold 16 views",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_sources_get_one_sentence_and_leave_nothing(data: Path, tmp_path: Path, case: str):
    spoil, sentence = BAD[case]
    spoil(tmp_path / "source")
    with pytest.raises(UserError, match=sentence) as caught:
        take(data, tmp_path / "source")
    assert "\n" not in str(caught.value)
    assert [p.name for p in data.iterdir()] == ["toy_pose0"]


def test_a_named_format_must_fit(data: Path, tmp_path: Path):
    strips(tmp_path / "source")
    with pytest.raises(
        UserError, match=r"does not look like zero123plus \(Zero123\+\+ v1.1.*it holds 4 pictures"
    ):
        take(data, tmp_path / "source", format="zero123plus")
    with pytest.raises(UserError, match=r"has no rig\.json"):
        take(data, tmp_path / "source", format="rig")


def test_a_run_cut_at_any_picture_leaves_what_was_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cut(tmp_path / "source")
    take(data, tmp_path / "source")
    before = {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gs4d.intake.sync.write_sheet", stop)
    with pytest.raises(KeyboardInterrupt):
        take(data, tmp_path / "source", scale=1.3)
    assert {p: p.read_bytes() for p in data.rglob("*") if p.is_file()} == before


def test_the_command_works_as_typed(tmp_path: Path):
    data = tmp_path / "meine Daten"
    write_input(data)
    strips(tmp_path / "Ansichten für Rosé")
    command = [
        sys.executable,
        "preprocess/sync.py",
        "--name",
        "toy",
        "--data_dir",
        str(data),
        "--path",
    ]
    done = subprocess.run(
        [*command, str(tmp_path / "Ansichten für Rosé")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "syncdreamer, by 2 pictures of 16 squares in a row; 16 views, 2 frames" in done.stdout
    done = subprocess.run(
        [*command, str(tmp_path / "gone")], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "gone does not exist" in done.stderr
