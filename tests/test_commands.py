"""The commands as people type them, end to end on a tiny clip."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toys import toy_clip, write_clip

from gs4d.cli import main
from gs4d.config import load_config
from gs4d.io.images import read_image
from gs4d.io.owned import LIST
from gs4d.io.ply import read_ply
from gs4d.io.video import read_video
from gs4d.open_asset import read_asset

ROOT = Path(__file__).parent.parent
TINY = (
    "--fit.steps 24 --fit.gaussians 200 --fit.densify.every 8 --fit.densify.max_gaussians 300 "
    "--fit.motion.resolution 8 "
    "--fit.motion.multires 1 --export.width 32 --export.height 32 --export.turntable_frames 6"
).split()


def command(script: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
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


def outcomes(calls: list[list[str]]) -> list[tuple[int, str]]:
    """Exit codes of several calls of train.py, and what each says on stderr.

    In one process, because starting takes seconds.
    """
    code = """
import contextlib, io, json, sys
import train
for arguments in json.loads(sys.argv[1]):
    with (
        contextlib.redirect_stderr(io.StringIO()) as said,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        status = train.guarded(train.main, arguments)
    print(json.dumps([status, said.getvalue()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_run_leaves_everything(place: Path):
    out = place / "output" / "toy"
    assert [p.name for p in sorted((out / "ply").iterdir())] == ["0000.ply", "0001.ply", "0002.ply"]
    assert len(list(read_video(out / "input_view.mp4"))) == 3
    assert [f.shape for f in read_video(out / "turntable.mp4")] == [(32, 32, 3)] * 6
    assert [p.name for p in sorted((out / "export").iterdir())] == ["toy.glb", "toy.html"]
    assert read_asset(out / "export" / "toy.glb").gaussians.count == read_asset(out).gaussians.count
    report = json.loads((out / "report.json").read_text())
    assert report["gaussians"] == read_ply(out / "ply" / "0000.ply").count
    assert set(report["scores"]) == {"input", "train", "eval", "views"}
    assert report["scores"]["eval"]["psnr"] > 15
    assert report["fit_seconds"] > 0
    assert report["peak_memory_mb"] > 50
    assert report["versions"]["torch"] == torch.__version__
    assert load_config(out / "config.json").fit.steps == 24
    assert report["config"] == json.loads((out / "config.json").read_text())
    assert len(report["motion"]) == 2
    assert (
        f"<td>{report['scores']['views']['eval_0']['psnr']:.2f}</td>"
        in (out / "report.html").read_text()
    )
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [LIST]


def test_the_ply_sequence_is_the_asset(place: Path):
    asset = read_asset(place / "output" / "toy")
    for i, t in enumerate((0.0, 0.5, 1.0)):
        written = read_ply(place / "output" / "toy" / "ply" / f"{i:04d}.ply")
        for (_, a), (_, b) in zip(asset.at(t).items(), written.items(), strict=True):
            assert torch.equal(a, b)


def test_render_as_4dgen_users_type_it(place: Path, tmp_path: Path):
    model = place / "output" / "toy"
    arguments = [
        "--skip_train",
        "--configs",
        "arguments/i2v.py",
        "--skip_test",
        "--model_path",
        f"{model}/",
    ]
    orbit = (
        "--elevation 40 --radius 2 --fov 35 --width 48 --height 20 "
        "--turntable_frames 4 --freeze 0.5 --frames 5"
    ).split()
    done = command(
        "render.py",
        *arguments,
        *orbit,
        "--background",
        "0",
        "0",
        "0",
        "--out",
        str(tmp_path),
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert [f.shape for f in read_video(tmp_path / "turntable.mp4")] == [(20, 48, 3)] * 4
    assert len(list(read_video(tmp_path / "input_view.mp4"))) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == [LIST, "input_view.mp4", "turntable.mp4"]


def test_a_resumed_run_has_its_whole_history_in_its_report(place: Path):
    out = place / "output" / "toy"
    before = json.loads((out / "report.json").read_text())
    (out / "report.html").unlink()
    done = train(place, "-e", "toy", *TINY, "--resume")
    assert done.returncode == 0, done.stderr
    assert str(out / "report.html") in done.stdout
    assert json.loads((out / "report.json").read_text())["history"] == before["history"]
    assert "24 steps" in (out / "report.html").read_text()


@pytest.mark.parametrize("level", ["", "toy"])
def test_evaluation_renders_are_what_score_reads(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
):
    model, truth, out = place / "output" / "toy", tmp_path / "truth", tmp_path / "scores.json"
    shutil.copytree(place / "data" / "toy_eval", truth / level)
    rig = ["--rig", str(place / "data" / "toy_cameras.json"), "--width", "32", "--height", "32"]
    done = command("render.py", "--eval", "--model_path", f"{model}/", *rig)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(model / "eval_renders" / "toy")]
    pred = model / "eval_renders" / ("" if level else "toy")
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "gs4d",
            "score",
            "--gt",
            str(truth),
            "--pred",
            str(pred),
            "--json",
            str(out),
            "--metrics",
            "psnr",
            "iou",
        ],
    )
    assert main() == 0
    scores = json.loads(out.read_text())["overall"]
    report = json.loads((model / "report.json").read_text())["scores"]["eval"]
    assert scores["psnr"]["mean"] == pytest.approx(report["psnr"], abs=0.1)
    assert scores["iou"]["mean"] == pytest.approx(report["iou"], abs=0.01)


def test_evaluation_renders_stand_at_consistent4ds_views_or_a_rig(place: Path, tmp_path: Path):
    model, rig = str(place / "output" / "toy"), tmp_path / "rig.json"
    options = [
        "--eval",
        "--model_path",
        model,
        "--width",
        "24",
        "--height",
        "24",
        "--frames",
        "2",
        "--out",
        str(tmp_path),
    ]
    done = command("render.py", *options)
    assert done.returncode == 0, done.stderr
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    assert found == [f"toy/eval_{k}/{t}.png" for k in range(4) for t in range(2)]
    assert read_image(tmp_path / "toy/eval_1/0.png", need_alpha=True)[..., 3].max() > 200
    before = read_image(tmp_path / "toy/eval_1/0.png")
    rig.write_text('{"azimuth": [15.0, 200.0], "elevation": [0.0, 45.0]}')
    done = command("render.py", *options, "--rig", str(rig))
    assert done.returncode == 0, done.stderr
    # the earlier ones are gone
    assert sorted(p.name for p in (tmp_path / "toy").iterdir()) == ["eval_0", "eval_1"]
    assert (read_image(tmp_path / "toy/eval_0/0.png") == before).all()
    rig.write_text('{"eval": {"eval_0": {}}}')
    done = command("render.py", *options, "--rig", str(rig))
    assert done.returncode == 2
    assert "does not place every eval view" in done.stderr


def test_render_writes_the_evaluation_views(place: Path, tmp_path: Path):
    model = str(place / "output" / "toy")
    done = command(
        "render.py",
        "--model_path",
        model,
        "--skip_video",
        "--skip_train",
        "--out",
        str(tmp_path),
        "--width",
        "24",
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("eval/eval_[0-3]/[0-2].png"))) == 12


def test_without_side_views_a_prior_draws_them_or_a_run_says_what_that_means(place: Path):
    done = train(place, "-e", "bare", *TINY)
    assert done.returncode == 0, done.stderr
    assert (
        "bare_sync does not exist, so lift draws what the other sides may look like" in done.stdout
    )
    assert "bare_sync_preview.png: what a prior made up for the other sides" in done.stdout
    again = train(place, "-e", "bare", *TINY, "--pseudo.prior", "none")
    assert again.returncode == 0, again.stderr
    assert "bare_sync does not exist, so only the input view is fitted" in again.stdout


def test_ctrl_c_saves_and_says_how_to_go_on(place: Path):
    where = ["--data_dir", str(place / "data"), "--output_dir", str(place / "output")]
    arguments = ["-e", "cut", "--name_override", "toy", *TINY, "--fit.steps", "100000", *where]
    run = [sys.executable, str(ROOT / "train.py"), *arguments]
    process = subprocess.Popen(
        run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
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


def test_bad_input_is_one_sentence_and_exit_code_2(place: Path):
    cases = [
        (["-e", "tyo"], "no clip named 'tyo'"),
        (["-e", "toy", "--fit.stpes", "3"], "did you mean '--fit.steps'"),
        (["-e", "toy", "--resume", "--output_dir", "/nonexistent"], "nothing to resume"),
        (["-e", "toy", "--output_dir", "/dev/null/x"], "cannot make the output folder"),
        (["-e", "toy", "--configs", "arguments/i2w.py"], "did you mean 'arguments/i2v.py'"),
        (["-e", "toy", "--fit.static_frame", "9"], "static_frame is 9"),
    ]
    before = sorted(str(p) for p in place.rglob("*"))
    where = ["--data_dir", str(place / "data"), "--output_dir", str(place / "output"), *TINY]
    found = outcomes([[*where, *arguments] for arguments, _ in cases])
    for (status, said), (_, sentence) in zip(found, cases, strict=True):
        assert status == 2, said
        assert said.startswith("error: ")
        assert sentence in said
        assert said.count("\n") == 1
    assert sorted(str(p) for p in place.rglob("*")) == before
    done = command("train.py", *where, *cases[0][0])
    assert (done.returncode, done.stderr) == tuple(found[0])


@pytest.mark.parametrize("kilobytes", [60, 150])
def test_a_disk_that_fills_up_leaves_nothing_half_written(place: Path, kilobytes: int):
    """A limit on the size of files stands for the full disk.

    Writes fail at the same places, with an OSError.
    """

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
    done = subprocess.run(
        run, capture_output=True, text=True, cwd=ROOT, check=False, preexec_fn=limit
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: cannot write ")
    folder = place / "output" / f"full{kilobytes}"
    left = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert [name for name in left if "/." in f"/{name}"] == [LIST]
    if kilobytes == 60:
        assert left == {LIST, "config.json"}
    else:
        assert read_asset(folder).frames == 3


def test_config_files_with_values_of_the_wrong_type(tmp_path: Path):
    """Here, because the tests of other configs run with types checked at every call."""
    cases = {
        "fit=3": "fit is 3, wanted the options of FitOptions",
        "fit=FitOptions(steps=4.5)": "fit: steps is 4.5, wanted int",
        "fit=FitOptions(steps='many')": "fit: steps is 'many', wanted int",
        "fit=FitOptions(start='cube')": "FitOptions.start is 'cube'; there are: hull, ball",
        "resume='no'": "resume is 'no', wanted bool",
        "data_dir='elsewhere', name='x'": "no clip named 'x' in elsewhere",
    }
    calls = []
    for k, options in enumerate(cases):
        (tmp_path / f"{k}.py").write_text(
            f"from gs4d.config import Config, FitOptions\nconfig = Config({options})"
        )
        calls.append(["--configs", str(tmp_path / f"{k}.py"), "--output_dir", str(tmp_path)])
    for (status, said), sentence in zip(outcomes(calls), cases.values(), strict=True):
        assert status == 2, said
        assert sentence in said
        assert said.count("\n") == 1


def test_a_run_that_is_not_there_cannot_be_rendered(tmp_path: Path):
    done = command("render.py", "--model_path", str(tmp_path))
    assert done.returncode == 2
    assert "train it first" in done.stderr
