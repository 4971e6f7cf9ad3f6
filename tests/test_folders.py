"""Folders of pictures as other programs leave them.

Which pictures are frames, in which order, and what is said about it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gs4d.errors import UserError, require_folder_name
from gs4d.intake import frames as frames_module
from gs4d.intake.frames import FramesOptions, make_frames
from gs4d.intake.layouts import find_views, numbered
from gs4d.intake.series import find_series
from gs4d.intake.sources import Pick, open_source
from gs4d.io.clips import frame_numbers, read_eval_rig, read_views
from gs4d.io.files import read_json
from gs4d.io.names import list_folder, name_of
from gs4d.run_folder import place_of_results


def put(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[8:24, 8:24] = (200, 60, 20, 255)
    for name in names:
        image = Image.fromarray(picture)
        (
            image
            if Path(name).suffix.lower() in (".png", ".webp", ".tif")
            else image.convert("RGB")
        ).save(folder / name)
    return folder


def names(folder: Path) -> list[str]:
    return [path.name for path in find_series(folder).files]


def test_a_frame_in_two_formats_counts_once(tmp_path: Path):
    folder = put(tmp_path / "a", *(f"{t}{suffix}" for t in range(4) for suffix in (".jpg", ".png")))
    assert names(folder) == ["0.png", "1.png", "2.png", "3.png"]
    assert "0.png and 0.jpg are the same frame" in find_series(folder).warnings[0]
    (folder / "2.png").unlink()
    assert names(folder) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    (folder / "3.jpg").unlink()
    with pytest.raises(UserError, match="are the same frame; remove one of them"):
        find_series(folder)


# a full-width 1
@pytest.mark.parametrize("pair", [("1.png", "01.png"), ("1.png", "1.PNG"), ("1.png", "\uff11.png")])
def test_two_spellings_of_a_number_are_one_frame(tmp_path: Path, pair: tuple[str, str]):
    with pytest.raises(UserError, match="are the same frame; remove one of them"):
        find_series(put(tmp_path / "a", "0.png", *pair))


def test_jumps_in_the_numbers_are_said_where_they_are(tmp_path: Path):
    folder = put(tmp_path / "a", *(f"f_{t:03d}.png" for t in (0, 2, 4, 12, 14, 16)))
    shots = open_source(folder, Pick(), tmp_path)
    assert any(
        "f_004.png to f_012.png: about 3 frames are missing" in warning
        for warning in shots.warnings
    )
    assert open_source(folder, Pick(start=3.0), tmp_path).warnings == []
    assert (
        open_source(
            put(tmp_path / "b", *(f"{t}.png" for t in (0, 7, 15, 22, 30))), Pick(), tmp_path
        ).warnings
        == []
    )


def test_what_is_not_a_frame_is_left_out_and_said(tmp_path: Path):
    folder = put(
        tmp_path / "a",
        "0.png",
        "1.PNG",
        "10.png",
        "2.png",
        ".hidden.png",
        "._0.png",
        "0_thumb.png",
        "1_thumb.png",
    )
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / ".DS_Store").write_bytes(b"x")
    put(folder / "@eaDir", "0.png")
    os.mkfifo(folder / "3.png")
    assert names(folder) == ["0.png", "1.PNG", "2.png", "10.png"]
    assert find_series(folder).warnings == ()
    put(folder, "cover.png")
    assert "cover.png" in find_series(folder).warnings[0]


@pytest.mark.parametrize(
    ("given", "order"),
    [
        (["scene2_take1_0010.png", "scene2_take1_0009.png"], [1, 0]),
        (["s1_0001_t33.png", "s1_0002_t66.png", "s1_0010_t330.png"], [0, 1, 2]),
        (
            [f"Screenshot 2026-05-01 10-{m}-{s:02d}.png" for m in (22, 23) for s in (1, 31)],
            [0, 1, 2, 3],
        ),
        ([f"t_{t:.2f}.png" for t in (0.0, 0.5, 1.0, 1.5)], [0, 1, 2, 3]),
    ],
)
def test_names_with_several_numbers_are_put_in_order(
    tmp_path: Path, given: list[str], order: list[int]
):
    assert names(put(tmp_path / "a", *given)) == [given[i] for i in order]


@pytest.mark.parametrize(
    "pattern", ["take{a}_{b:04d}.png", "{b}_0_{a}_rgba.png", "cam{a:02d}_frame{b}.png"]
)
def test_several_views_or_takes_are_refused(tmp_path: Path, pattern: str):
    folder = put(tmp_path / "a", *(pattern.format(a=a, b=b) for a in (1, 2) for b in range(3)))
    with pytest.raises(UserError, match="several numbers that change"):
        find_series(folder)


def test_names_without_numbers_say_that_their_order_is_a_guess(tmp_path: Path):
    assert (
        "alphabetical order" in find_series(put(tmp_path / "a", "jump.png", "land.png")).warnings[0]
    )


# --- cameras that move ----------------------------------------------------------------------------


def transforms(path: Path, files: list[str], *, moves: bool = True) -> None:
    frames = []
    for i, file in enumerate(files):
        matrix = np.eye(4)
        matrix[0, 3] = i if moves else 1.0
        frames.append({"file_path": file, "transform_matrix": matrix.tolist()})
    path.write_text(json.dumps({"camera_angle_x": 0.7, "frames": frames}))


def test_notes_that_place_every_picture_elsewhere_are_seen(tmp_path: Path):
    folder = put(tmp_path / "lego/train", "r_0.png", "r_1.png", "r_2.png")
    files = [f"./train/r_{i}" for i in range(3)]
    transforms(
        tmp_path / "lego/transforms_test.json", [name.replace("train", "test") for name in files]
    )
    transforms(tmp_path / "lego/transforms_train.json", files)
    with pytest.raises(
        UserError, match=r"transforms_train.json places the camera of every picture .* elsewhere"
    ):
        open_source(folder, Pick(), tmp_path)
    transforms(tmp_path / "lego/transforms_train.json", files, moves=False)
    transforms(tmp_path / "lego/transforms_test.json", ["./test/other_0", "./test/other_1"])
    assert len(open_source(folder, Pick(), tmp_path).files) == 3


@pytest.mark.parametrize("kind", ["colmap", "llff", "neus", "nerfies", "splatting"])
def test_other_tools_notes_are_seen(tmp_path: Path, kind: str):
    folder = put(tmp_path / "scene/images", "0.png", "1.png", "2.png")
    if kind == "colmap":
        (tmp_path / "scene/sparse/0").mkdir(parents=True)
        (tmp_path / "scene/sparse/0/images.bin").write_bytes(
            b"\x03" + b"0.png\0....1.png\0....2.png\0"
        )
    elif kind == "llff":
        np.save(tmp_path / "scene/poses_bounds.npy", np.zeros((3, 17)))
    elif kind == "neus":
        np.savez(tmp_path / "scene/cameras_sphere.npz", world_mat_0=np.eye(4))
    elif kind == "nerfies":
        (tmp_path / "scene/camera").mkdir()
        for t in range(3):
            (tmp_path / f"scene/camera/{t}.json").write_text(json.dumps({"position": [t, 0, 0]}))
    else:
        cameras = [
            {"img_name": str(t), "position": [t, 0, 0], "rotation": np.eye(3).tolist()}
            for t in range(3)
        ]
        (tmp_path / "scene/cameras.json").write_text(json.dumps(cameras))
    with pytest.raises(UserError, match="no video from one camera"):
        open_source(folder, Pick(), tmp_path)


def test_a_list_of_cameras_is_no_rig(tmp_path: Path):
    transforms(tmp_path / "transforms.json", ["0.png", "1.png"])
    with pytest.raises(UserError, match="one camera per picture"):
        read_views(tmp_path / "transforms.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_rig_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str):
    (tmp_path / "rig.json").write_bytes('{"azimuth": [0, 90]}'.encode(encoding))
    assert len(read_views(tmp_path / "rig.json")) == 2


@pytest.mark.parametrize(
    "entries",
    ["[1]", '{"../../a": {"azimuth_deg": 0, "elevation_deg": 0}}', "3", "null", '{"a": [1]}'],
)
def test_broken_camera_files_get_one_sentence(tmp_path: Path, entries: str):
    (tmp_path / "c.json").write_text('{"radius": 1.5, "fovy_deg": 49, "eval": ' + entries + "}")
    with pytest.raises(UserError, match=r"c\.json"):
        read_eval_rig(tmp_path / "c.json")


# --- huge numbers, pipes, folders that cannot be read ---------------------------------------------


def test_huge_numbers_in_names_take_no_memory(tmp_path: Path):
    folder = put(tmp_path / "a", "0_0_99999999999_rgba.png", "0_0_0_rgba.png")
    with pytest.raises(UserError, match="0_0_1_rgba.png is missing"):
        find_views(folder)
    files = [put(tmp_path / "b", f"{10**30 + t}.png") / f"{10**30 + t}.png" for t in range(2)]
    assert list(numbered(files, "the frames")) == [10**30, 10**30 + 1]


def test_pipes_are_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(UserError, match="is a pipe or device"):
        open_source(tmp_path / "clip.mp4", Pick(), tmp_path)
    with pytest.raises(UserError, match="is a pipe or device"):
        find_views(tmp_path / "clip.mp4")


def test_a_folder_that_cannot_be_listed_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match="cannot be read"):
        list_folder(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        open_source(tmp_path, Pick(), tmp_path)


def test_frames_may_have_upper_case_suffixes(tmp_path: Path):
    assert list(frame_numbers(put(tmp_path / "a_pose0", "0.PNG", "1.png"))) == [0, 1]


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("2026.05.01_scan.ply", "2026.05.01_scan"),
        ("2026.05.01", "2026.05.01"),
        ("Screencast from 2026-05-01 10:22:33.gif", "Screencast from 2026-05-01 10-22-33"),
        ("what?.mp4", "what-"),
        ("clip...mp4", "clip"),
        ("CON.mp4", "_CON"),
        (".mp4", "mp4"),
        ("a\nb.mp4", "a-b"),
    ],
)
def test_names_that_are_derived_can_be_folders(tmp_path: Path, file: str, name: str):
    assert name_of(tmp_path / file) == name
    require_folder_name("--name", name)


def test_long_names_are_cut_and_stay_apart(tmp_path: Path):
    a, b = (name_of(tmp_path / f"{'ü' * 110}{end}.gif") for end in "ab")
    assert a != b
    assert max(len(a.encode()), len(b.encode())) <= 100


def test_a_folder_keeps_what_follows_its_last_point(tmp_path: Path):
    (tmp_path / "take.v2").mkdir()
    assert name_of(tmp_path / "take.v2") == "take.v2"


def test_two_files_never_share_a_result_folder(tmp_path: Path):
    for name in ("2026.05.01_scan.ply", "2026.06.02_scan.ply", "cat.ply", "cat.spz"):
        (tmp_path / name).write_bytes(b"")
    places = [place_of_results(path)[1]("export").name for path in sorted(tmp_path.iterdir())]
    assert places == [
        "2026.05.01_scan_export",
        "2026.06.02_scan_export",
        "cat.ply_export",
        "cat.spz_export",
    ]


def test_another_source_of_the_same_name_replaces_nothing(tmp_path: Path):
    first, second = (put(tmp_path / side / "clip", "0.png", "1.png") for side in "ab")
    make_frames(FramesOptions(path=first, data_dir=tmp_path / "data"))
    with pytest.raises(UserError, match="give this one another name with --name"):
        make_frames(FramesOptions(path=second, data_dir=tmp_path / "data"))
    make_frames(FramesOptions(path=first, data_dir=tmp_path / "data"))


# --- kills ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("renames", range(8))
def test_frames_cut_anywhere_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
):
    source = put(tmp_path / "in", "0.png", "1.png", "2.png")
    options = FramesOptions(path=source, name="a", data_dir=tmp_path / "data", frames=2)
    make_frames(FramesOptions(path=source, name="a", data_dir=tmp_path / "data"))
    real, done = os.replace, []

    def replace(*arguments: object) -> None:
        if len(done) >= renames:
            raise KeyboardInterrupt  # of what a kill cuts off, too, nothing more is renamed
        done.append(arguments)
        real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with suppress(KeyboardInterrupt):
            make_frames(options)
    folder = tmp_path / "data/a_pose0"
    assert not folder.exists() or len(list(folder.glob("*.png"))) in (2, 3)
    make_frames(options)
    assert len(list(folder.glob("*.png"))) == 2
    assert len(read_json(tmp_path / "data/a_frames.json", "record")["files"]) == 2


def test_scratch_lies_beside_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    source = tmp_path / "a.gif"
    pictures = [
        Image.open(put(tmp_path / "in", f"{t}.png") / f"{t}.png").convert("RGBA") for t in range(2)
    ]
    pictures[0].save(
        source,
        save_all=True,
        append_images=[pictures[1].transpose(Image.Transpose.ROTATE_90), pictures[0]],
    )
    folder = make_frames(FramesOptions(path=source, data_dir=tmp_path / "data"))
    assert sorted(path.name for path in folder.parent.iterdir() if path.name.startswith(".")) == []
    monkeypatch.setattr(
        frames_module,
        "_write",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(UserError, match="No space left on device"):
        make_frames(FramesOptions(path=source, data_dir=tmp_path / "other"))
    assert not (tmp_path / "other").exists()
