"""From a video, a picture or a sentence to the input view of a clip.

Every step is done once, and redone when it must be.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import WHITE, over, thing, things
from PIL import Image
from test_commands import TINY, train
from test_frames import encode
from test_matting import write_onnx
from tiny_pipelines import write_pipeline

from gs4d.config import Config, load_config
from gs4d.errors import UserError
from gs4d.intake.frames import FramesOptions, make_frames
from gs4d.io.images import read_image
from gs4d.options import parse
from gs4d.origins import Origin, OriginOptions, make_input
from gs4d.prior import open_prior
from gs4d.prior.networks import Place
from gs4d.prior.pipelines import Drawing
from gs4d.prior.video_models import Filming, VideoModel

SMALL = OriginOptions(
    frames=3, picture=Drawing(steps=2, width=64, height=64), film=Filming(steps=2)
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("models")
    for name in ("cogvideox", "sdxl"):
        write_pipeline(name, home / name)
    write_onnx(home / "u2net.onnx", 320)
    return home


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return


def drawn(models: Path, **given: Any) -> Origin:
    """What random networks draw has no flat background, so that matting cuts it."""
    priors = {
        "image_prior": f"sdxl:{models / 'sdxl'}",
        "video_prior": f"cogvideox:{models / 'cogvideox'}",
    }
    return Origin(**{**priors, "matting": models / "u2net.onnx", "origin": SMALL, **given})


def video(path: Path, seed: float = 0.0, background: Any = WHITE) -> Path:
    return encode(path, [over(thing(seed + i / 5), background) for i in range(6)])


def state(folder: Path) -> dict[str, int]:
    """When every file was written."""
    return {
        str(p.relative_to(folder)): p.stat().st_mtime_ns
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def changed(before: dict[str, int], folder: Path) -> set[str]:
    """The results that were written since; previews and records aside."""
    after = state(folder)
    written = {name for name, when in after.items() if before.get(name) != when}
    return {
        str(Path(name).parent)
        for name in written
        if name.endswith(".png") and "preview" not in name
    }


def test_a_video_becomes_a_clip_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    clip, data, other = video(tmp_path / "walk.mp4"), tmp_path / "data", tmp_path / "other"
    origin = Origin(video=clip)
    assert make_input(origin, data, "bot") == []
    make_frames(FramesOptions(path=clip, name="bot", data_dir=other))
    assert sorted(p.name for p in (data / "bot_pose0").iterdir()) == [f"{t}.png" for t in range(6)]
    for path in (other / "bot_pose0").iterdir():
        assert (data / "bot_pose0" / path.name).read_bytes() == path.read_bytes()

    before = state(data)
    capsys.readouterr()
    make_input(origin, data, "bot")
    assert state(data) == before
    assert "bot_pose0: kept" in capsys.readouterr().out
    # the same content
    make_input(Origin(video=shutil.copy(clip, tmp_path / "renamed.mp4")), data, "bot")
    assert state(data) == before
    make_input(replace(origin, origin=OriginOptions(frames=4)), data, "bot")
    assert len(list((data / "bot_pose0").iterdir())) == 4
    video(clip, seed=0.5)
    make_input(replace(origin, origin=OriginOptions(frames=4)), data, "bot")
    assert changed(before, data) == {"bot_pose0"}
    assert not list(data.rglob(".*"))


def test_what_others_made_is_left_alone(tmp_path: Path):
    clip, data = video(tmp_path / "walk.mp4"), tmp_path / "data"
    make_frames(FramesOptions(path=clip, name="bot", data_dir=data))
    before = state(data)
    with pytest.raises(
        UserError,
        match=r"bot_pose0 is there and was not made by this recipe.*leave out --video.*-e",
    ):
        make_input(Origin(video=clip), data, "bot")
    assert state(data) == before
    make_input(Origin(video=clip), data, "cat")
    Image.new("RGBA", (80, 80)).save(data / "cat_pose0" / "2.png")
    before = state(data)
    for again in (clip, video(tmp_path / "other.mp4", seed=0.3)):
        with pytest.raises(UserError, match="cat_pose0 was changed after it was made"):
            make_input(Origin(video=again), data, "cat")
    assert state(data) == before


def test_a_step_that_fails_leaves_everything_as_it_was(tmp_path: Path):
    data = tmp_path / "data"
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3))
    wild = video(tmp_path / "wild.mp4", background=noise)
    with pytest.raises(UserError, match="no background of one colour.*--matting"):
        make_input(Origin(video=wild), data, "bot")
    assert state(data) == {}
    make_frames(FramesOptions(path=wild, name="bot", data_dir=data, mask=masks(tmp_path / "masks")))
    # what was made by hand instead is not replaced
    with pytest.raises(UserError, match="was not made by this recipe"):
        make_input(Origin(video=wild), data, "bot")
    make_input(Origin(video=video(tmp_path / "walk.mp4")), data, "cat")
    before = state(data)
    with pytest.raises(UserError, match="no background of one colour"):
        make_input(Origin(video=wild), data, "cat")
    make_input(Origin(video=tmp_path / "walk.mp4"), data, "cat")
    assert changed(before, data) == set()


def masks(folder: Path) -> Path:
    folder.mkdir()
    for i, picture in enumerate(things()):
        Image.fromarray(picture[..., 3]).save(folder / f"{i}.png")
    return folder


def test_a_still_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Image.fromarray(thing()).save(tmp_path / "horse.png")
    make_input(Origin(image=tmp_path / "horse.png", still=True), tmp_path / "data", "horse")
    assert [p.name for p in (tmp_path / "data" / "horse_pose0").iterdir()] == ["0.png"]
    assert "nothing moves" not in capsys.readouterr().out  # that was asked for


def test_a_picture_becomes_a_video_of_the_object_before_white(models: Path, tmp_path: Path):
    picture, data = tmp_path / "horse.png", tmp_path / "data"
    Image.fromarray(thing()).save(picture)
    weights = make_input(drawn(models, image=picture), data, "horse")
    assert [w["name"] for w in weights] == [str(models / "cogvideox")]
    assert "CogVideoX" in weights[0]["licence"]
    home = data / "horse_origin"
    alone = read_image(home / "object_pose0" / "0.png", need_alpha=True)
    # cut out by its own alpha, and not by the matting, which takes all that is bright
    assert alone[..., 3].mean() < 200
    assert alone.shape[0] == alone.shape[1]

    prior = open_prior(f"cogvideox:{models / 'cogvideox'}", "video", Place(), SMALL.film)
    flat = Image.alpha_composite(
        Image.new("RGBA", alone.shape[:2], WHITE), Image.fromarray(alone)
    ).convert("RGB")
    truth = prior.frames(
        torch.from_numpy(np.array(flat)), "", 3, torch.Generator().manual_seed(0)
    ).numpy()
    for t in range(3):
        assert (read_image(home / "video" / f"{t}.png")[..., :3] == truth[t]).all()
    assert len(list((data / "horse_pose0").iterdir())) == 3
    record = json.loads((home / "video.json").read_text())
    assert record["made"]["seed"] == 0
    assert record["weights"] == weights
    assert record["made"]["film"]["steps"] == 2


def test_a_sentence_becomes_a_picture_and_then_a_video(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data, origin = tmp_path / "data", drawn(models, text="a horse walking, toy, 3d asset")
    weights = make_input(origin, data, "horse")
    assert [Path(w["name"]).name for w in weights] == ["sdxl", "cogvideox"]
    home = data / "horse_origin"
    made = json.loads((home / "image.json").read_text())["made"]
    assert made["prompt"].startswith("a horse walking, toy, 3d asset, ")
    assert "white background" in made["prompt"]
    assert (
        json.loads((home / "video.json").read_text())["made"]["prompt"]
        == "a horse walking, toy, 3d asset"
    )
    assert read_image(home / "image.png").shape == (64, 64, 4)

    def redone(**options: Any) -> set[str]:
        before = state(data)
        assert (
            make_input(replace(origin, origin=replace(SMALL, **options)), data, "horse") == weights
        )
        return changed(before, data)

    everything = {"horse_origin", "horse_origin/object_pose0", "horse_origin/video", "horse_pose0"}
    assert redone() == set()
    assert redone(video_seed=1) == {"horse_origin/video", "horse_pose0"}
    # where it is drawn does not matter
    assert redone(video_seed=1, place=Place(vae_slicing=True)) == set()
    assert redone(image_seed=1) == everything
    assert redone(image_seed=1, setting="") == everything
    assert (
        json.loads((home / "image.json").read_text())["made"]["prompt"]
        == "a horse walking, toy, 3d asset"
    )
    assert redone(image_seed=1, setting="", prompt="it stands") == {
        "horse_origin/video",
        "horse_pose0",
    }
    shutil.move(models / "cogvideox", models / "moved")
    try:
        # no model is needed for what is done
        assert redone(image_seed=1, setting="", prompt="it stands") == set()
    finally:
        shutil.move(models / "moved", models / "cogvideox")
    assert not list(data.rglob(".*"))

    Image.new("RGB", (64, 64)).save(home / "image.png")
    with pytest.raises(UserError, match=r"image.png was changed after it was made.*delete it"):
        make_input(origin, data, "horse")


def test_a_cut_keeps_what_is_done(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data, origin = tmp_path / "data", drawn(models, text="a rose")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VideoModel, "frames", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_input(origin, data, "horse")
    home = data / "horse_origin"
    assert (home / "image.png").exists()
    assert not (home / "video").exists()
    assert not (home / "video.json").exists()
    assert not (data / "horse_pose0").exists()
    before = state(home)
    make_input(origin, data, "horse")
    assert {name: state(home)[name] for name in before} == before
    assert (data / "horse_pose0" / "2.png").exists()

    (home / "video.json").write_text(
        json.dumps({**json.loads((home / "video.json").read_text()), "digest": None})
    )
    before = state(data)
    make_input(origin, data, "horse")  # as after a kill, which leaves no time to tidy up
    assert changed(before, data) == {"horse_origin/video"}


def test_a_wrong_video_model_is_refused_before_a_picture_is_drawn(models: Path, tmp_path: Path):
    data = tmp_path / "data"
    with pytest.raises(UserError, match="no such"):
        make_input(
            drawn(models, text="a rose", video_prior=f"svd:{tmp_path / 'no such'}"), data, "horse"
        )
    assert state(data) == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"video": "a.mp4", "text": "a"}, "--video and --text both say"),
        ({"image": "a.png", "text": "a"}, "--image and --text both say"),
        ({"still": True}, "--still makes a clip of one picture"),
        ({"still": True, "video": "a.mp4"}, "--still makes a clip of one picture"),
        ({"text": " "}, "--text is empty"),
        ({"text": "a rose"}, "--text needs --image_prior.*sdxl:FOLDER"),
        (
            {"text": "a rose", "image_prior": "sdxl:x"},
            "--text needs --video_prior.*svd:FOLDER.*--still",
        ),
        (
            {"image": "horse.png"},
            "--image needs --video_prior.*svd, wan, ltx, cogvideox.*--still, and nothing moves",
        ),
        ({"video": "no such.mp4"}, "--video .*no such.mp4 does not exist"),
        ({"image": "walk.mp4", "still": True}, "is not one picture; give a video .* with --video"),
        ({"image": ".", "still": True}, "is not one picture"),
        (
            {"text": "a", "still": True, "image_prior": "svd:x"},
            "'svd' cannot draw a picture of a sentence",
        ),
        (
            {"image": "horse.png", "video_prior": "sdxl:x"},
            "'sdxl' cannot turn a picture into a video",
        ),
    ],
)
def test_wrong_requests_get_one_sentence(tmp_path: Path, given: dict[str, Any], words: str):
    Image.fromarray(thing()).save(tmp_path / "horse.png")
    video(tmp_path / "walk.mp4")
    paths = {
        name: tmp_path / value if name in ("video", "image") else value
        for name, value in given.items()
    }
    with pytest.raises(UserError, match=words) as caught:
        make_input(Origin(**paths), tmp_path / "data", "bot")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / "bot_pose0").exists()


def test_the_built_in_clip_keeps_its_name(tmp_path: Path):
    with pytest.raises(UserError, match="rose is the built-in clip.*-e NAME"):
        make_input(Origin(video=video(tmp_path / "walk.mp4")), tmp_path, "rose")


def test_the_flags(tmp_path: Path):
    words = "-e horse --image horse.png --video_prior svd:here --matting u2net.onnx"
    words += " --origin.film.length 14 --origin.frames 8"
    words += " --origin.prompt walking --origin.video_seed 3"
    words += " --origin.place.dtype bfloat16 --origin.film.guidance 2"
    config = parse(Config, words.split(), default=Config(), program="train.py", description="")
    assert (config.image, config.video_prior, config.matting) == (
        Path("horse.png"),
        "svd:here",
        Path("u2net.onnx"),
    )
    assert config.origin.film == Filming(length=14, guidance=2.0)
    assert (config.origin.frames, config.origin.prompt, config.origin.video_seed) == (
        8,
        "walking",
        3,
    )
    assert config.origin.place.dtype == "bfloat16"
    with pytest.raises(UserError, match=r"--vidoe.*did you mean '--video'"):
        parse(Config, ["--vidoe", "a.mp4"], default=Config(), program="train.py", description="")
    with pytest.raises(UserError, match=r"--origin\.frames is 1; it must lie in 2 to 1024"):
        parse(
            Config, ["--origin.frames", "1"], default=Config(), program="train.py", description=""
        )


def test_a_whole_run_from_a_sentence(models: Path, tmp_path: Path):
    given = ["--text", "a horse walking, toy, 3d asset", "--image_prior", f"sdxl:{models / 'sdxl'}"]
    given += [
        "--video_prior",
        f"cogvideox:{models / 'cogvideox'}",
        "--matting",
        str(models / "u2net.onnx"),
    ]
    given += ["--origin.frames", "3", "--origin.film.steps", "2"]
    given += [
        "--origin.picture.steps",
        "2",
        "--origin.picture.width",
        "64",
        "--origin.picture.height",
        "64",
    ]
    done = train(tmp_path, "-e", "horse", *TINY, *given)
    assert done.returncode == 0, done.stderr
    out, data = tmp_path / "output" / "horse", tmp_path / "data"
    report = json.loads((out / "report.json").read_text())
    assert [Path(w["name"]).name for w in report["weights"]] == ["sdxl", "cogvideox"]
    assert report["config"]["origin"]["video_seed"] == 0
    assert len(list((out / "ply").iterdir())) == 3
    assert (out / "export" / "horse.glb").exists()

    before = state(data)
    done = train(tmp_path, "-e", "horse", *TINY, *given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": kept, ") == 4
    assert state(data) == before
    config = load_config(out / "config.json")
    assert config.text == "a horse walking, toy, 3d asset"
    make_input(
        replace(config, origin=replace(config.origin, video_seed=1)), config.data_dir, config.clip
    )
    assert changed(before, data) == {"horse_origin/video", "horse_pose0"}


def test_a_picture_without_a_model_is_refused_by_the_command_and_stands_still_if_that_is_wanted(
    tmp_path: Path,
):
    Image.fromarray(thing()).save(tmp_path / "horse.png")
    given = ["-e", "horse", "--image", str(tmp_path / "horse.png"), *TINY]
    done = train(tmp_path, *given)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "svd:FOLDER" in done.stderr
    done = train(tmp_path, *given, "--still")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "output" / "horse" / "ply").iterdir()] == ["0000.ply"]
