"""Interpolation-driven consistency.

What is compared, what the term pulls, and that a fit with it is resumed exactly.
"""

import json
import math
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import toy_clip, write_clip

from gs4d.clip import Orbit
from gs4d.config import Config, save_config
from gs4d.consistency import ConsistencyOptions, Moments, along_time, along_views, inconsistency
from gs4d.errors import UserError
from gs4d.fit import FitOptions, Fitter, LossWeights, fit
from gs4d.motion import HexPlaneOptions
from gs4d.prior.flow import FlowInterpolator

ROOT = Path(__file__).parent.parent
FIT = FitOptions(
    steps=12,
    gaussians=150,
    views_per_step=2,
    times_per_step=2,
    motion=HexPlaneOptions(resolution=8, multires=(1,), width=16),
    consistency=ConsistencyOptions(every=2, resolution=16, triples=1),
    losses=LossWeights(time_consistency=3.0, view_consistency=5.0),
)


def seed(value: int) -> torch.Generator:
    return torch.Generator().manual_seed(value)


def places(moments: Moments) -> tuple[Tensor, Tensor]:
    """Azimuth and elevation, degrees, of the cameras."""
    x, y, z = moments.cameras.centers.unbind(1)
    return torch.atan2(x, z).rad2deg(), (y / moments.cameras.centers.norm(dim=1)).asin().rad2deg()


def test_triples_in_time_share_a_camera_and_are_evenly_spaced():
    options = ConsistencyOptions(triples=50, frames=2.0, elevation=(-5.0, 30.0))
    triples = along_time(toy_clip(frames=9), options, seed(0))
    assert triples is not None
    first, last = triples.outer.times.chunk(2)
    torch.testing.assert_close(triples.middle.times - first, torch.full((50,), 0.25))
    torch.testing.assert_close(last - triples.middle.times, torch.full((50,), 0.25))
    assert 0 <= first.min() < 0.05
    assert 0.95 < last.max() <= 1
    for outer in triples.outer.cameras.centers.chunk(2):
        torch.testing.assert_close(outer, triples.middle.cameras.centers)
    azimuth, elevation = places(triples.middle)
    assert (azimuth.max() - azimuth.min()) > 300
    assert -5.01 <= elevation.min() < 0
    assert 25 < elevation.max() <= 30.01


def test_triples_of_views_share_a_time_and_stand_evenly():
    triples = along_views(toy_clip(), ConsistencyOptions(triples=64, azimuth=(5.0, 15.0)), seed(1))
    for times in triples.outer.times.chunk(2):
        assert torch.equal(times, triples.middle.times)
    (azimuth, elevation), (outer, outer_elevation) = places(triples.middle), places(triples.outer)
    left, right = outer.chunk(2)
    turns = (right - azimuth + 180) % 360 - 180
    torch.testing.assert_close((azimuth - left + 180) % 360 - 180, turns, atol=1e-3, rtol=0)
    assert 5 <= turns.min() < 6
    assert 14 < turns.max() <= 15
    torch.testing.assert_close(outer_elevation, elevation.repeat(2), atol=1e-3, rtol=0)


def test_cameras_stand_as_far_away_as_the_input_camera():
    clip = toy_clip()
    far = replace(clip, tracks=(replace(clip.tracks[0], orbits=(Orbit(20.0, 10.0, 2.5, 30.0),)),))
    cameras = along_views(far, ConsistencyOptions(resolution=20), seed(0)).middle.cameras
    torch.testing.assert_close(cameras.centers.norm(dim=1), torch.full((2,), 2.5))
    assert cameras.K[0, 1, 1].item() == pytest.approx(10 / math.tan(math.radians(15)), rel=1e-5)


def test_one_frame_has_no_time_and_two_frames_have_all_of_it():
    assert along_time(toy_clip(frames=1), ConsistencyOptions(), seed(0)) is None
    two = along_time(toy_clip(frames=2), ConsistencyOptions(triples=3), seed(0))
    assert two is not None
    assert two.outer.times.tolist() == [0, 0, 0, 1, 1, 1]
    assert two.middle.times.tolist() == [0.5] * 3


class Halfway:
    """Knows an answer of its own."""

    def __init__(self) -> None:
        self.weights: list[dict[str, str]] = []

    def middle(self, a: Tensor, b: Tensor) -> Tensor:
        return 0.25 * a + 0.75 * b


def test_the_term_pulls_the_middle_alone():
    triples = along_views(toy_clip(), ConsistencyOptions(triples=2, resolution=8), seed(0))
    outer, middle = (torch.rand(n, 8, 8, 4, generator=seed(n)).requires_grad_() for n in (4, 2))
    value = inconsistency(
        Halfway(), triples, lambda moments: middle if len(moments.times) == 2 else outer
    )
    expected = 0.25 * outer[:2] + 0.75 * outer[2:]
    torch.testing.assert_close(value, (middle - expected).square().mean())
    value.backward()
    assert middle.grad is not None
    torch.testing.assert_close(middle.grad, 2 * (middle - expected).detach() / middle.numel())
    assert outer.grad is None


def test_the_fit_adds_exactly_the_weighted_terms():
    clip, found = toy_clip(views=3, size=24), {}
    for time, view in ((0.0, 0.0), (2.0, 0.0), (0.0, 3.0)):
        weights = LossWeights(time_consistency=time, view_consistency=view)
        options = replace(FIT, static=0.0, losses=weights)
        found[time, view] = Fitter(clip, options, None, FlowInterpolator()).advance()
    plain = found[0.0, 0.0]
    assert plain.keys() == {"stage", "loss", "psnr", "gaussians"}
    for (time, view), stats in found.items():
        # every second step
        terms = 2 * time * stats.get("time_consistency", 0) + 2 * view * stats.get(
            "view_consistency", 0
        )
        assert stats["loss"] == pytest.approx(plain["loss"] + terms, rel=1e-5)
        assert ("time_consistency" in stats, "view_consistency" in stats) == (time > 0, view > 0)
        assert (terms > 0) == (time + view > 0)


def test_it_is_asked_as_often_as_wanted_and_not_of_a_still_object():
    fitter = Fitter(toy_clip(views=3, size=24), replace(FIT, static=0.25), None, FlowInterpolator())
    asked = [fitter.step - 1 for _ in range(10) if "view_consistency" in fitter.advance()]
    assert asked == [4, 6, 8]


@pytest.mark.parametrize("cut", [5, 8])
def test_a_fit_with_it_is_resumed_bit_for_bit(tmp_path: Path, cut: int):
    clip = toy_clip(views=3, size=24)
    whole = fit(clip, FIT, tmp_path, interpolator=FlowInterpolator())
    first = Fitter(clip, FIT, None, FlowInterpolator())
    for _ in range(cut):
        first.advance()
    first.save(tmp_path)
    torch.manual_seed(99)
    resumed = fit(clip, FIT, tmp_path, interpolator=FlowInterpolator(), resume=True)
    for (name, a), (_, b) in zip(
        whole.gaussians().items(), resumed.gaussians().items(), strict=True
    ):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"azimuth": (15.0, 5.0)},
            "ConsistencyOptions.azimuth is .15.0, 5.0.; the smaller number comes first",
        ),
        ({"every": 0}, "ConsistencyOptions.every is 0"),
        ({"frames": 0.0}, "ConsistencyOptions.frames is 0.0"),
        ({"resolution": 4}, "ConsistencyOptions.resolution is 4"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=sentence):
        ConsistencyOptions(**options)


@pytest.mark.parametrize("on", [True, False])
def test_a_whole_run_shows_the_terms_only_when_they_are_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on: bool
):
    write_clip(tmp_path / "data", toy_clip(views=0, size=24))
    arguments = (
        "--configs arguments/quick.py -e toy --fit.steps 8 --fit.gaussians 120 "
        "--fit.motion.resolution 8 "
        "--fit.motion.multires 1 --fit.consistency.resolution 16 --fit.consistency.every 1 "
        "--export.width 16 --export.height 16 --export.turntable_frames 2"
    ).split()
    weight = "2" if on else "0"
    arguments += ["--fit.losses.time_consistency", weight, "--fit.losses.view_consistency", weight]
    where = ["--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *where])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path("train.py", run_name="__main__")
    said = capsys.readouterr()
    assert stop.value.code == 0, said.err
    report = json.loads((tmp_path / "out" / "toy" / "report.json").read_text())
    page = (tmp_path / "out" / "toy" / "report.html").read_text()
    for name, short, title in (
        ("time_consistency", "time", "over time"),
        ("view_consistency", "view", "over views"),
    ):
        assert (name in report["history"][-1]) == on
        assert (f", {short} 0." in said.err) == on
        assert (f"Inconsistency {title}" in page) == on


def test_a_wrong_interpolator_is_refused_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    write_clip(tmp_path / "data", toy_clip(views=0, size=24))
    (tmp_path / "out" / "toy").mkdir(parents=True)
    (tmp_path / "out" / "toy" / "report.json").write_text("{}")
    save_config(tmp_path / "out" / "toy" / "config.json", Config())  # a run of before
    flags = [
        "--data_dir",
        str(tmp_path / "data"),
        "--output_dir",
        str(tmp_path / "out"),
        "-e",
        "toy",
    ]
    flags += [
        "--fit.losses.time_consistency",
        "1",
        "--fit.consistency.interpolator",
        f"rife:{tmp_path / 'none'}",
    ]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py", "--configs", "arguments/quick.py", *flags])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path("train.py", run_name="__main__")
    assert stop.value.code == 2
    assert "is no folder or file of rife weights" in capsys.readouterr().err
    assert (tmp_path / "out" / "toy" / "report.json").exists()
