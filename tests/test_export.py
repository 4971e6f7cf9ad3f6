"""What leaves a run: the moments that are written, films, sequences, and the command."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor
from toys import blobs

from gs4d.asset import Asset
from gs4d.asset_record import pack_asset
from gs4d.cli import main
from gs4d.clip import Orbit
from gs4d.errors import UserError
from gs4d.export import FORMATS, ExportOptions, export
from gs4d.export.timing import around, moments
from gs4d.io.checkpoint import write_checkpoint
from gs4d.io.encode import write_animation, write_transparent_video
from gs4d.io.gaussians import SEQUENCE, read_gaussians
from gs4d.io.owned import LIST
from gs4d.io.ply import read_ply
from gs4d.io.video import read_frames, read_video
from gs4d.motion import DeltaMotion
from gs4d.open_asset import read_asset


class Lift(DeltaMotion):
    """The red half rises to ``height`` at the middle or the end of time."""

    def __init__(self, height: float = 0.15, *, returns: bool = False) -> None:
        super().__init__()
        self.height, self.returns = height, returns

    def moves(self, means: Tensor, times: Tensor) -> dict[str, Tensor]:
        phase = (np.pi * times).sin() if self.returns else times
        up = torch.zeros(len(times), len(means), 3)
        up[:, : len(means) // 2, 1] = self.height * phase[:, None]
        return {"position": up}


def toy_asset(frames: int = 5, *, returns: bool = False) -> Asset:
    return Asset(
        blobs(0.0),
        Lift(returns=returns),
        frames,
        {"input": (Orbit(aspect=2.0),), "side": (Orbit(90.0),)},
    )


def small(*to: str, **changes: object) -> ExportOptions:
    return ExportOptions(**{"to": to, "width": 48, "height": 48, **changes})


def test_the_rate_resamples_the_same_span_of_time():
    asset = toy_asset(frames=16)
    assert moments(asset, ExportOptions()) == asset.times().tolist()
    # 15 steps of the input, three of the output each
    assert len(moments(asset, ExportOptions(fps=24.0))) == 46
    assert len(moments(asset, ExportOptions(fps=24.0, input_fps=24.0))) == 16
    assert len(moments(asset, ExportOptions(fps=24.0, frames=7))) == 7
    times = moments(asset, ExportOptions(fps=24.0))
    assert (times[0], times[-1]) == (0.0, 1.0)
    assert times[::3] == pytest.approx(asset.times().tolist())
    assert moments(toy_asset(frames=1), ExportOptions(fps=60.0)) == [0.0]


def test_a_loop_goes_back_unless_the_motion_does():
    assert moments(toy_asset(), ExportOptions(loop=True)) == [
        0.0,
        0.25,
        0.5,
        0.75,
        1.0,
        0.75,
        0.5,
        0.25,
    ]
    assert moments(toy_asset(returns=True), ExportOptions(loop=True)) == [0.0, 0.25, 0.5, 0.75]
    turn = ExportOptions(loop=True, turntable_frames=4)
    assert around(toy_asset(), turn) == [0.0, 0.5, 1.0, 0.5]
    assert around(toy_asset(returns=True), turn) == [0.0, 0.25, 0.5, 0.75]
    assert (
        around(toy_asset(), ExportOptions(loop=True, turntable_frames=3, freeze=0.4)) == [0.4] * 3
    )


def test_a_turntable_lasts_as_long_at_any_rate():
    assert len(around(toy_asset(), ExportOptions(turntable_frames=16, fps=30.0))) == 60
    assert len(around(toy_asset(), ExportOptions(turntable_frames=16, fps=30.0, frames=9))) == 9


def test_a_ply_sequence_is_the_asset_at_its_moments(tmp_path: Path):
    asset = toy_asset(frames=3)
    (folder,) = export(asset, tmp_path, "toy", small("ply", fps=16.0))
    assert [p.name for p in sorted(folder.iterdir())] == [f"{i:04d}.ply" for i in range(5)]
    for i in range(5):
        assert torch.equal(read_ply(folder / f"{i:04d}.ply").means, asset.at(i / 4).means)
    export(asset, tmp_path, "toy", small("ply", frames=2))
    # the earlier ones are gone
    assert [p.name for p in sorted(folder.iterdir())] == ["0000.ply", "0001.ply"]


def test_films_move_and_stand_where_the_camera_does(tmp_path: Path):
    asset = toy_asset()
    (path,) = export(asset, tmp_path, "toy", small("mp4"))
    shown = list(read_video(path))
    assert [frame.shape for frame in shown] == [(24, 48, 3)] * 5  # the input's shape
    assert red_row(shown[0]) - red_row(shown[4]) > 2  # rows count down, the blob goes up
    side = list(
        read_video(
            export(
                asset, tmp_path, "side", small("mp4", camera="orbit", azimuth=180.0, elevation=0.0)
            )[0]
        )
    )
    assert [frame.shape for frame in side] == [(48, 48, 3)] * 5
    assert red_column(shown[0]) < 24 < red_column(side[0])
    around = list(
        read_video(
            export(
                asset, tmp_path, "around", small("mp4", camera="turntable", frames=4, elevation=0.0)
            )[0]
        )
    )
    assert [red_column(frame) < 24 for frame in (around[0], around[2])] == [True, False]


def red_row(frame: np.ndarray) -> float:
    return float(np.nonzero(red(frame))[0].mean())


def red_column(frame: np.ndarray) -> float:
    return float(np.nonzero(red(frame))[1].mean())


def red(frame: np.ndarray) -> np.ndarray:
    values = frame[..., :3].astype(int)
    return (values[..., 0] > 120) & (values[..., 1] < 110) & (values[..., 2] < 110)


def test_a_gif_repeats_at_its_rate_and_can_be_transparent(tmp_path: Path):
    asset = toy_asset()
    (path,) = export(
        asset, tmp_path, "toy", small("gif", fps=25.0, frames=6, background=(0.0, 0.0, 1.0))
    )
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.info["loop"]) == (6, 0)
        assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(gif)) == 240
        gif.seek(5)
        last = np.asarray(gif.convert("RGBA"))
    assert last[0, 0].tolist() == pytest.approx([0, 0, 255, 255], abs=6)
    assert red(last).sum() > 20
    (path,) = export(asset, tmp_path, "clear", small("gif", transparent=True))
    with Image.open(path) as gif:
        gif.seek(4)
        picture = np.asarray(gif.convert("RGBA"))
    assert set(np.unique(picture[..., 3])) == {0, 255}
    assert picture[0, 0, 3] == 0
    assert (picture[red(picture)][:, 3] == 255).sum() > 20


def test_a_webm_has_alpha_and_no_dark_edges(tmp_path: Path):
    disc = np.zeros((64, 64, 4), np.uint8)
    rows, columns = np.indices((64, 64)) - 32
    disc[rows**2 + columns**2 < 400] = (250, 240, 40, 255)
    write_transparent_video(tmp_path / "a.webm", iter([disc] * 3), 8.0)
    frames = list(read_frames(tmp_path / "a.webm"))
    assert len(frames) == 3
    alpha = frames[2][..., 3]
    assert alpha[32, 32] > 250
    assert alpha[:8].max() < 5
    assert frames[2][alpha > 60][:, :2].min() > 200


def test_what_a_gif_cannot_play_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="60 frames per second, more than a GIF can; ask for 50"):
        write_animation(tmp_path / "a.gif", iter([]), 60.0)
    with pytest.raises(UserError, match="no frames"):
        write_animation(tmp_path / "a.gif", iter([]), 8.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_writer(name: str, tmp_path: Path):
    """What the table says appears, under the run's name, and nothing else.

    A still asset is one frame of it.
    """
    for frames in (3, 1):
        (path,) = export(toy_asset(frames), tmp_path, "rosé 1", small(name, faces=500))
        assert path == tmp_path / FORMATS[name].target.format(name="rosé 1")
        assert [p.name for p in tmp_path.iterdir() if p.name != LIST] == [path.name]
        files = [path] if path.is_file() else list(path.iterdir())
        assert files
        assert all(file.stat().st_size > 100 for file in files if file.name != SEQUENCE)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gs4d", "export", *arguments])
    return main()


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "my rosé"
    folder.mkdir()
    save_run(folder)
    small = ["--width", "32", "--height", "32"]
    assert run(monkeypatch, str(folder), "--to", "ply", "gif", "--fps", "16", *small) == 0
    out = folder / "export"
    assert capsys.readouterr().out.splitlines() == [str(out / "ply"), str(out / "my rosé.gif")]
    assert len(list((out / "ply").iterdir())) == 3
    assert (
        run(monkeypatch, str(folder), "--to", "mp4", "--out", str(tmp_path / "else"), *small) == 0
    )
    assert len(list(read_video(tmp_path / "else" / "my rosé.mp4"))) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--to"], "gs4d export wants --to with one or more of: ply, "),
        (["--to", "gfi"], "--to is 'gfi' (did you mean 'gif'?); there are: ply, "),
        (["--to", "gif", "--fps", "90"], "more than a GIF can"),
        (["--to", "mp4", "--input_fps", "0"], "--input_fps is 0.0; it must lie in 0.1 to 240"),
        (["--to", "mp4", "--camera", "side"], "camera"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    save_run(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(monkeypatch, str(tmp_path), *arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert sentence in said[0]
    assert [p for p in sorted(tmp_path.iterdir()) if p.name not in ("export", LIST)] == before
    assert list((tmp_path / "export").glob("*")) == []


def save_run(folder: Path) -> None:
    """A checkpoint with a motion at rest, as a fit leaves it."""
    from gs4d.motion import HexPlane, HexPlaneOptions

    motion = HexPlane(HexPlaneOptions(resolution=8, multires=(1,)), 2)
    tensors, record = pack_asset(Asset(blobs(0.0), motion, 2, {"input": (Orbit(),)}))
    write_checkpoint(folder, tensors, {"step": 0, **record})


@pytest.mark.parametrize("y_down", [False, True])
@pytest.mark.parametrize("name", ["ply", "compressed-ply", "splat", "spz"])
def test_frames_stand_upright_again_whichever_way_they_were_written(
    name: str, y_down: bool, tmp_path: Path
):
    asset = toy_asset(frames=2)
    (folder,) = export(asset, tmp_path, "a", small(name, y_down=y_down))
    height = read_gaussians(sorted(folder.glob("0000*"))[0]).means[:, 1].mean()
    assert height == pytest.approx(
        (-1 if y_down else 1) * asset.at(0.0).means[:, 1].mean().item(), abs=1e-3
    )
    again = read_asset(folder)
    assert again.at(0.0).means.mean(0).tolist() == pytest.approx(
        asset.at(0.0).means.mean(0).tolist(), abs=1e-3
    )
