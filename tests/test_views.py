"""Side views drawn by a prior.

Frame by frame, kept when a run is cut, and taken like any tool's output.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_sync import FRAMES, GREY, rig_of, shoot, sv4d, write_input
from tiny_multiview import write_zero123plus, zero123plus_networks

from gs4d.clip import Orbit
from gs4d.errors import UserError
from gs4d.intake import views
from gs4d.intake.views import ViewsOptions, calls, make_views
from gs4d.io.clips import read_clip, read_rig
from gs4d.io.files import write_json
from gs4d.io.images import read_image
from gs4d.prior import draw_clip, open_prior, zero123plus
from gs4d.prior.framing import plan_framing
from gs4d.prior.sampling import Sampling

ROOT = Path(__file__).parent.parent


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_input(tmp_path / "data", 4)
    return tmp_path / "data"


def run(data: Path, prior: str = "inflate", **options: Any) -> Path:
    return make_views(ViewsOptions(path=data / "toy_pose0", prior=prior, **options))


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.png")}


def test_inflated_views_become_a_clip(data: Path):
    assert run(data, name="toy") == data / "toy_sync"
    clip = read_clip(data, "toy", resolution=64)
    assert (clip.frames, len(clip.tracks)) == (4, 17)
    assert read_rig(data / "toy_rig.json") == [Orbit(22.5 * k, 30.0) for k in range(16)]
    assert (data / "toy_sync_preview.png").is_file()
    record = json.loads((data / "toy_views" / "2" / "views.json").read_text())
    assert record["made"]["seed"] == 0
    assert record["made"]["prior"] == "inflate"
    assert all(
        view["weight"] <= 64 / 255 + 0.01
        for view in json.loads((data / "toy_rig.json").read_text())["views"]
    )
    # The red ball is on the left of the input (azimuth 0) and on the right of what lies behind it
    # (azimuth 180).
    for view, side in ((0, 1), (8, -1)):
        seen = read_image(data / "toy_sync" / f"0_0_{view}_rgba.png")
        assert seen.shape == (64, 64, 4)
        red = (seen[..., 0].astype(int) - seen[..., 2]) * (seen[..., 3] > 128)
        columns = np.arange(64) - 31.5
        assert side * (columns * (red > 60)).sum() < side * (columns * (red < -60)).sum()


@pytest.mark.parametrize("context", ["first", "neighbours", "none", "clip"])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("missing", [[0, 1, 2, 3, 4, 5], [1, 2, 5], [4]])
def test_calls(context: str, batch: int, missing: list[int]):
    made = list(calls(missing, 6, context, batch))
    assert [i for kept, _ in made for i in kept] == missing
    for kept, seen in made:
        assert seen == sorted(set(seen))
        wanted = {
            "first": {0},
            "neighbours": {i + d for i in kept for d in (-1, 1)} & set(range(6)),
            "none": set(),
        }
        assert set(seen) == (set(kept) | wanted[context] if context != "clip" else set(range(6)))
        assert context == "clip" or (
            len(kept) <= batch and kept == list(range(kept[0], kept[-1] + 1))
        )


def test_a_run_that_is_cut_goes_on_where_it_was(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(data, tmp_path / "uncut")
    run(tmp_path / "uncut")
    write, count = views._keep, 0

    def cut(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(views, "_keep", cut)
    with pytest.raises(KeyboardInterrupt):
        run(data, batch=1)
    assert sorted(p.name for p in (data / "toy_views").iterdir()) == ["0", "1"]
    assert not (data / "toy_sync").exists()
    times = {p: p.stat().st_mtime_ns for p in (data / "toy_views").rglob("*.png")}
    run(data, batch=1)
    assert count == 5  # two frames were left
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert pictures(data / "toy_sync") == pictures(tmp_path / "uncut" / "toy_sync")


def test_what_changed_is_drawn_again(data: Path):
    run(data)

    def drawn() -> dict[str, int]:
        return {
            p.parent.name: p.stat().st_mtime_ns for p in (data / "toy_views").rglob("views.json")
        }

    before = drawn()
    run(data)
    assert drawn() == before
    Image.fromarray(np.roll(read_image(data / "toy_pose0" / "2.png"), 3, 0)).save(
        data / "toy_pose0" / "2.png"
    )
    run(data)
    # the frame and its neighbours
    assert {t for t, time in drawn().items() if time != before[t]} == {"1", "2", "3"}
    before = drawn()
    run(data, seed=5)
    assert all(time != before[t] for t, time in drawn().items())


def test_frames_that_were_drawn_need_no_weights_any_more(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = write_zero123plus(tmp_path / "models" / "plus", zero123plus_networks())
    monkeypatch.setattr(zero123plus, "TILE", 8)
    options: dict[str, Any] = {"sampling": Sampling(steps=2, crop_size=-1), "seed": 3}
    # random networks draw noise
    with pytest.raises(UserError, match=r"no background of one colour"):
        run(data, f"zero123plus:{folder}", batch=2, **options)
    record = json.loads((data / "toy_views" / "3" / "views.json").read_text())
    assert [camera["azimuth"] for camera in record["cameras"]] == [30, 90, 150, 210, 270, 330]
    assert (record["layout"], record["trust"], record["made"]["sampling"]["steps"]) == (
        "zero123plus",
        [0.502] * 6,
        2,
    )
    assert "CC BY-NC" in record["weights"][0]["licence"]
    whole = open_prior(f"zero123plus:{folder}", "views", sampling=options["sampling"])
    inputs = torch.stack(
        [torch.from_numpy(read_image(data / "toy_pose0" / f"{t}.png").copy()) for t in range(4)]
    )
    wanted = draw_clip(
        whole, inputs, Orbit(), None, torch.Generator().manual_seed(3)
    ).images.numpy()
    for t in range(4):
        for v in range(6):
            found = read_image(data / "toy_views" / str(t) / f"{v}.png").astype(int)
            # whatever the number of frames that are drawn together
            assert np.abs(found - wanted[v, t]).max() <= 2

    # Had the model drawn the object over its grey, the command would go on from here, without the
    # model.
    shutil.rmtree(folder)
    for t in range(4):
        for v, picture in enumerate(shoot(t, rig_of("zero123plus", 1.2), GREY, 4)):
            Image.fromarray(picture).save(data / "toy_views" / str(t) / f"{v}.png")
    run(data, f"zero123plus:{folder}", **options)
    clip = read_clip(data, "toy", resolution=64)
    assert len(clip.tracks) == 7
    assert [track.orbit.elevation for track in clip.tracks[1:]] == [30, -20] * 3
    # the size that the generator gave the object is measured
    assert abs(clip.tracks[1].orbit.radius - 1.5 / 1.2) < 0.1
    seen = read_image(data / "toy_sync" / "0_0_1_rgba.png")
    assert (seen[0, 0, 3], seen[..., 3].max()) == (0, 255)


def test_frames_are_cropped_as_the_authors_do_and_views_placed_back(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = write_zero123plus(tmp_path / "models" / "plus", zero123plus_networks())
    monkeypatch.setattr(zero123plus, "TILE", 8)
    name, sampling = f"zero123plus:{folder}", Sampling(steps=1)
    # random networks draw noise
    with pytest.raises(UserError, match=r"no background of one colour"):
        run(data, name, batch=2, sampling=sampling)
    assert (
        "zero123plus sees the object at 0.75 of the frame, as its authors crop it"
        in capsys.readouterr().out
    )
    inputs = torch.stack(
        [torch.from_numpy(read_image(data / "toy_pose0" / f"{t}.png").copy()) for t in range(4)]
    )
    framing = plan_framing(inputs[..., 3], Orbit(), 0.75)
    assert framing is not None
    record = json.loads((data / "toy_views" / "3" / "views.json").read_text())
    assert record["made"]["framing"]["center"] == [round(x, 6) for x in framing.center]
    whole = open_prior(name, "views", sampling=sampling)
    drawn = draw_clip(
        whole, framing.crop(inputs), framing.seen, None, torch.Generator().manual_seed(0)
    )
    wanted = framing.place(drawn)
    for t in range(4):
        for v in range(6):
            found = read_image(data / "toy_views" / str(t) / f"{v}.png").astype(int)
            assert np.abs(found - wanted.images[v, t].numpy()).max() <= 2
    assert record["cameras"] == [asdict(orbit) for orbit in wanted.orbits]
    with pytest.raises(UserError):
        run(data, name, sampling=Sampling(steps=1, crop_size=-1))  # another wish: drawn anew
    again = json.loads((data / "toy_views" / "3" / "views.json").read_text())
    assert [camera["azimuth"] for camera in again["cameras"]] == [30, 90, 150, 210, 270, 330]
    assert "framing" not in again["made"]


def test_videos_of_sv4d_are_taken_as_its_sampler_names_them(tmp_path: Path):
    data, films = tmp_path / "data", tmp_path / "outputs" / "sv4d2"
    write_input(data, FRAMES)
    sv4d("sv4d2", "process_input")(films)
    run(data, f"sv4d2:{films}")
    assert [orbit.azimuth for orbit in read_rig(data / "toy_rig.json")] == [60, 120, 180, 240]
    assert len(pictures(data / "toy_sync")) == 4 * FRAMES


BAD = {
    "no path": (lambda data: {"path": None}, "--path is missing"),
    "no input": (lambda data: {"path": data / "other_pose0"}, "other_pose0 is no folder"),
    "no clip": (lambda data: {"path": data}, "wanted a folder named NAME_pose0"),
    "other name": (lambda data: {"name": "rose"}, "wanted a folder named rose_pose0"),
    "no prior": (
        lambda data: {"prior": ""},
        "--prior is missing: say what draws the views; there are: inflate, lift, mini, zero123",
    ),
    "unknown prior": (lambda data: {"prior": "inflat"}, "did you mean 'inflate'"),
    "prior that reads": (lambda data: {"prior": "mvdream"}, "cannot draw the views of a clip"),
    "weights for none": (lambda data: {"prior": "inflate:x"}, "leave out ':x'"),
    "no films": (lambda data: {"prior": "sv4d2:nowhere"}, "nowhere does not exist"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_wishes_get_one_sentence_and_leave_nothing(data: Path, case: str):
    change, sentence = BAD[case]
    with pytest.raises(UserError) as caught:
        make_views(ViewsOptions(**{"path": data / "toy_pose0", "prior": "inflate", **change(data)}))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [p.name for p in data.iterdir()] == ["toy_pose0"]


def test_bad_clips_get_one_sentence(data: Path):
    rig = data / "toy_rig.json"
    write_json(
        rig,
        {
            "views": [],
            "input": {"azimuth": [0, 1, 2, 3], "elevation": 0, "radius": 1.5, "fov": 49.13},
        },
    )
    with pytest.raises(UserError, match="the input camera of toy moves"):
        run(data)
    rig.unlink()
    Image.fromarray(np.zeros((20, 30, 4), np.uint8)).save(data / "toy_pose0" / "1.png")
    with pytest.raises(UserError, match=r"1\.png has another size"):
        run(data)
    (data / "toy_pose0" / "2.png").unlink()
    with pytest.raises(UserError, match=r"2\.png is missing"):
        run(data)
    (data / "toy_views" / "0").mkdir(parents=True, exist_ok=True)
    (data / "toy_views" / "0" / "views.json").write_text("[]")
    shutil.copy(data / "toy_pose0" / "0.png", data / "toy_pose0" / "1.png")
    shutil.copy(data / "toy_pose0" / "0.png", data / "toy_pose0" / "2.png")
    with pytest.raises(UserError, match="no record of drawn views"):
        run(data)


def test_views_of_others_are_not_replaced_unasked(data: Path):
    (data / "toy_sync").mkdir()
    (data / "toy_sync" / "mine.png").touch()
    with pytest.raises(UserError, match="was not made by this command"):
        run(data)
    assert (data / "toy_sync" / "mine.png").exists()
    run(data, overwrite=True)
    assert (data / "toy_sync" / "3_0_15_rgba.png").exists()


def test_the_command_works_as_typed(tmp_path: Path):
    data = tmp_path / "meine Dätén"
    write_input(data)
    command = [
        sys.executable,
        "preprocess/views.py",
        "--name",
        "toy",
        "--path",
        str(data / "toy_pose0"),
        "--prior",
    ]
    done = subprocess.run([*command, "inflate"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "toy_sync_preview.png" in done.stdout
    done = subprocess.run([*command, "imagedream:gone/"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("error:")) == (2, 1)
    assert "gone/ is no folder or file of imagedream weights" in done.stderr
