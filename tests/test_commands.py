"""The commands as people type them, end to end on a tiny clip."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toys import toy_clip, write_clip

from gs4d.checkpoint import read_asset
from gs4d.config import load_config
from gs4d.io.ply import read_ply
from gs4d.io.video import read_video

ROOT = Path(__file__).parent.parent
TINY = (
    "--fit.steps 24 --fit.gaussians 200 --fit.densify.every 8 --fit.densify.max_gaussians 300 --fit.motion.resolution 8 "
    "--fit.motion.multires 1 --export.width 32 --export.height 32 --export.turntable_frames 6"
).split()


def command(script: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clips: 'toy' complete, 'bare' the input video alone; and 'toy' fitted."""
    folder = tmp_path_factory.mktemp("place")
    clip = toy_clip()
    write_clip(folder / "data", clip)
    write_clip(folder / "data", type(clip)("bare", clip.tracks[:1]))
    done = train(folder, "-e", "toy", *TINY)
    assert done.returncode == 0, done.stderr
    return folder


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ["--data_dir", str(folder / "data"), "--output_dir", str(folder / "output")]
    return command("train.py", "--configs", str(ROOT / "arguments/quick.py"), *where, *arguments)


def test_a_run_leaves_everything(place: Path):
    out = place / "output" / "toy"
    assert [p.name for p in sorted((out / "ply").iterdir())] == ["0000.ply", "0001.ply", "0002.ply"]
    assert len(list(read_video(out / "input_view.mp4"))) == 3
    assert [f.shape for f in read_video(out / "turntable.mp4")] == [(32, 32, 3)] * 6
    report = json.loads((out / "report.json").read_text())
    assert report["gaussians"] == read_ply(out / "ply" / "0000.ply").count
    assert set(report["scores"]) == {"input", "train", "eval", "views"}
    assert report["scores"]["eval"]["psnr"] > 15
    assert report["fit_seconds"] > 0
    assert report["peak_memory_mb"] > 50
    assert report["versions"]["torch"] == torch.__version__
    assert load_config(out / "config.json").fit.steps == 24
    assert [p for p in out.iterdir() if p.name.startswith(".")] == []


def test_the_ply_sequence_is_the_asset(place: Path):
    asset = read_asset(place / "output" / "toy")
    for i, t in enumerate((0.0, 0.5, 1.0)):
        written = read_ply(place / "output" / "toy" / "ply" / f"{i:04d}.ply")
        for (_, a), (_, b) in zip(asset.at(t).items(), written.items(), strict=True):
            assert torch.equal(a, b)


def test_render_as_4dgen_users_type_it(place: Path, tmp_path: Path):
    model = place / "output" / "toy"
    arguments = ["--skip_train", "--configs", "arguments/i2v.py", "--skip_test", "--model_path", f"{model}/"]
    orbit = "--elevation 40 --radius 2 --fov 35 --width 48 --height 20 --turntable_frames 4 --freeze 0.5 --frames 5".split()
    done = command("render.py", *arguments, *orbit, "--background", "0", "0", "0", "--out", str(tmp_path), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert [f.shape for f in read_video(tmp_path / "turntable.mp4")] == [(20, 48, 3)] * 4
    assert len(list(read_video(tmp_path / "input_view.mp4"))) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["input_view.mp4", "turntable.mp4"]


def test_render_writes_the_evaluation_views(place: Path, tmp_path: Path):
    model = str(place / "output" / "toy")
    done = command("render.py", "--model_path", model, "--skip_video", "--skip_train", "--out", str(tmp_path), "--width", "24")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("eval/eval_[0-3]/[0-2].png"))) == 12


def test_without_side_views_a_run_says_what_that_means(place: Path):
    done = train(place, "-e", "bare", *TINY)
    assert done.returncode == 0, done.stderr
    assert "bare_sync does not exist, so only the input view is fitted" in done.stdout


def test_ctrl_c_saves_and_says_how_to_go_on(place: Path):
    where = ["--data_dir", str(place / "data"), "--output_dir", str(place / "output")]
    arguments = ["-e", "cut", "--name_override", "toy", *TINY, "--fit.steps", "100000", *where]
    run = [sys.executable, str(ROOT / "train.py"), *arguments]
    process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    seen = ""
    deadline = time.monotonic() + 60
    while "static:" not in seen.replace("0/100000", "") and time.monotonic() < deadline:
        seen += process.stderr.read(200)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "everything so far is saved" in errors
    assert errors.strip().endswith("--resume")
    assert read_asset(place / "output" / "cut").frames == 3
    changed = command("train.py", *arguments, "--resume", "--fit.seed", "1")
    assert changed.returncode == 2
    assert "the config changed (fit.seed 6666 -> 1)" in changed.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-e", "tyo"], "no clip named 'tyo'"),
        (["-e", "toy", "--fit.stpes", "3"], "did you mean '--fit.steps'"),
        (["-e", "toy", "--resume", "--output_dir", "/nonexistent"], "nothing to resume"),
        (["-e", "toy", "--output_dir", "/dev/null/x"], "cannot make the output folder"),
        (["-e", "toy", "--configs", "arguments/i2w.py"], "did you mean 'arguments/i2v.py'"),
        (["-e", "toy", "--fit.static_frame", "9"], "static_frame is 9"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(place: Path, arguments: list[str], sentence: str):
    before = sorted(str(p) for p in place.rglob("*"))
    done = command("train.py", "--data_dir", str(place / "data"), "--output_dir", str(place / "output"), *TINY, *arguments)
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip().splitlines()
    assert len(line) == 1
    assert line[0].startswith("error: ")
    assert sentence in line[0]
    assert sorted(str(p) for p in place.rglob("*")) == before


@pytest.mark.parametrize("kilobytes", [60, 150])
def test_a_disk_that_fills_up_leaves_nothing_half_written(place: Path, kilobytes: int):
    """A limit on the size of files stands for the full disk: writes fail at the same places, with an OSError."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, kilobytes * 1000))

    where = ["--data_dir", str(place / "data"), "--output_dir", str(place / "output")]
    # Within 60 kB the checkpoint does not fit; within 150 kB it does, and the turntable does not.
    arguments = [
        "-e",
        f"full{kilobytes}",
        "--name_override",
        "toy",
        *TINY,
        *where,
        "--export.width",
        "512",
        "--export.height",
        "512",
    ]
    run = [sys.executable, str(ROOT / "train.py"), *arguments, "--export.turntable_frames", "90"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, check=False, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: cannot write ")
    folder = place / "output" / f"full{kilobytes}"
    left = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert not [name for name in left if "/." in f"/{name}"]
    if kilobytes == 60:
        assert left == {"config.json"}
    else:
        assert read_asset(folder).frames == 3


def test_a_run_that_is_not_there_cannot_be_rendered(tmp_path: Path):
    done = command("render.py", "--model_path", str(tmp_path))
    assert done.returncode == 2
    assert "train it first" in done.stderr
