"""The loop: it fits, it resumes exactly, it grows and prunes, it leaves room for a prior."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn
from toys import blobs, pixels, toy_clip

from gs4d.asset import Asset
from gs4d.clip import Clip
from gs4d.densify import DensifyOptions, NeedMeter, densify
from gs4d.errors import Interrupted, UserError
from gs4d.fit import FitOptions, Fitter, LearningRates, LossWeights, fit
from gs4d.fit.record import changed
from gs4d.guidance import GuidanceOptions
from gs4d.hull import carve, start_gaussians
from gs4d.io.checkpoint import INDEX, read_checkpoint, write_checkpoint
from gs4d.motion import HexPlaneOptions, factor
from gs4d.native import set_threads
from gs4d.open_asset import read_asset
from gs4d.prior import ScoreBatch
from gs4d.prior.sds import SdsOptions
from gs4d.render import render
from gs4d.score.asset import score_asset

OPTIONS = FitOptions(
    steps=60,
    gaussians=300,
    resolution=32,
    views_per_step=3,
    times_per_step=2,
    densify=DensifyOptions(every=10, max_gaussians=400),
    motion=HexPlaneOptions(resolution=8, multires=(1,), width=32),
)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return toy_clip()


@pytest.fixture(autouse=True)
def one_thread():
    set_threads(1)


def states(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(next(folder.glob("*.safetensors")))


def test_a_fit_learns_the_object_and_its_motion(clip: Clip, tmp_path: Path):
    options = replace(OPTIONS, steps=250, densify=DensifyOptions(every=50, max_gaussians=500))
    fitter = fit(clip, options, tmp_path)
    scores = score_asset(fitter.asset(), clip)
    assert scores["eval"]["psnr"] > 24
    assert scores["eval"]["iou"] > 0.85
    # The red ball rises by 0.15 while the blue one rests.
    first, last = (fitter.asset().at(t) for t in (0.0, 1.0))
    red = first.means[:, 0] < 0
    rise = (last.means - first.means)[:, 1] * torch.sigmoid(first.logit_opacities)
    assert rise[red].mean() > 0.04
    assert rise[~red].abs().mean() < 0.02


@pytest.mark.parametrize("cut", [1, 7, 10, 31])
def test_a_run_cut_anywhere_ends_bit_identical(clip: Clip, tmp_path: Path, cut: int):
    options = replace(OPTIONS, steps=36, sh_degree=1)
    fit(clip, options, tmp_path / "whole")

    def stop(fitter: Fitter) -> None:
        if fitter.step == cut:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        fit(clip, options, tmp_path / "cut", on_step=stop)
    assert json.loads((tmp_path / "cut" / INDEX).read_text())["record"]["step"] == cut
    torch.manual_seed(99)  # whatever happens in between must not matter
    fit(clip, options, tmp_path / "cut", resume=True)
    whole, resumed = states(tmp_path / "whole"), states(tmp_path / "cut")
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_a_resumed_run_carves_no_hull(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = replace(OPTIONS, steps=12)
    fit(clip, options, tmp_path, on_step=lambda f: "stop" if f.step == 5 else None)

    def carve(*_: object, **__: object) -> None:
        raise AssertionError("the hull is of no use to a run that is resumed")

    monkeypatch.setattr("gs4d.fit.loop.start_gaussians", carve)
    assert fit(clip, options, tmp_path, resume=True).step == 12
    with pytest.raises(AssertionError, match="of no use"):
        fit(clip, options, tmp_path)


def test_a_run_from_before_the_paths_went_is_resumed(clip: Clip, tmp_path: Path):
    options = replace(OPTIONS, steps=12)
    fit(clip, options, tmp_path / "whole")
    folder = tmp_path / "cut"
    fit(clip, options, folder, on_step=lambda f: "stop" if f.step == 5 else None)
    tensors, record = read_checkpoint(folder)
    old: Any = {key: value for key, value in record.items() if key not in ("format", "sha256")}
    old["motion"]["trajectories"] = None
    old["options"] |= {"free_paths": False, "trajectories": {"basis": "cosine", "count": 8}}
    old["options"]["learning_rates"]["trajectories"] = 1e-3
    write_checkpoint(folder, tensors, old)
    assert changed(folder, options) == []
    assert changed(folder, replace(options, threads=1, seed=3)) == ["fit.seed 6666 -> 3"]
    fit(clip, options, folder, resume=True)
    whole, resumed = states(tmp_path / "whole"), states(folder)
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_paths_that_are_gone_are_not_dropped_in_silence(clip: Clip, tmp_path: Path):
    fit(clip, replace(OPTIONS, steps=3), tmp_path)
    tensors, record = read_checkpoint(tmp_path)
    old: Any = {key: value for key, value in record.items() if key not in ("format", "sha256")}
    old["motion"]["trajectories"] = {"basis": "cosine", "count": 8}
    old["options"]["free_paths"] = True
    write_checkpoint(tmp_path, tensors, old)
    with pytest.raises(UserError, match=r"free_paths, which gs4d no longer has; train again"):
        read_asset(tmp_path)
    with pytest.raises(UserError, match="the option free_paths is no longer there"):
        changed(tmp_path, OPTIONS)


def test_the_seed_decides(clip: Clip, tmp_path: Path):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit(clip, replace(OPTIONS, steps=12, seed=seed), tmp_path / folder)
    a, b, c = (states(tmp_path / f)["asset.means"] for f in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_the_saved_asset_is_the_fitted_one(clip: Clip, tmp_path: Path):
    fitter = fit(clip, replace(OPTIONS, steps=20), tmp_path)
    fitted, read = fitter.asset(), read_asset(tmp_path)
    for (_, a), (_, b) in zip(fitted.at(0.37).items(), read.at(0.37).items(), strict=True):
        assert torch.equal(a, b)
    assert (read.frames, read.orbits) == (fitted.frames, fitted.orbits)


@pytest.mark.parametrize(
    "what", ["tensors cut", "tensors changed", "index changed", "index cut", "tensors gone"]
)
def test_damaged_checkpoints_are_refused(clip: Clip, tmp_path: Path, what: str):
    fit(clip, replace(OPTIONS, steps=3), tmp_path)
    index, tensors = tmp_path / INDEX, next(tmp_path.glob("*.safetensors"))
    content = tensors.read_bytes()
    if what == "tensors cut":
        tensors.write_bytes(content[: len(content) // 2])
    elif what == "tensors changed":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif what == "tensors gone":
        tensors.unlink()
    else:
        text = index.read_text()
        index.write_text(
            text.replace('"step": 3', '"step": 2') if what == "index changed" else text[:100]
        )
    for read in (
        lambda: read_asset(tmp_path),
        lambda: fit(clip, replace(OPTIONS, steps=3), tmp_path, resume=True),
    ):
        with pytest.raises(UserError, match=r"checkpoint.*(cut short|JSON)"):
            read()


def test_a_checkpoint_of_another_run_does_not_fit(clip: Clip, tmp_path: Path):
    fit(clip, replace(OPTIONS, steps=3), tmp_path)
    with pytest.raises(UserError, match="does not fit this run"):
        fit(
            clip,
            replace(OPTIONS, steps=3, motion=HexPlaneOptions(resolution=16)),
            tmp_path,
            resume=True,
        )


class Greyish:
    """A prior with a closed form: it wants every picture grey."""

    joint, views_per_ring, needs_prompt = False, 0, False

    def __init__(self) -> None:
        self.weights: list[dict[str, str]] = []
        self.progress: list[float] = []
        self.shapes: set[tuple[int, ...]] = set()

    def score(
        self, batch: ScoreBatch, options: SdsOptions, progress: float, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        images = batch.images
        assert len(batch.cameras) == len(images) == len(batch.condition) == len(batch.sources)
        self.progress.append(progress)
        self.shapes.add(tuple(images.shape))
        return (images - images.mean(-1, keepdim=True)).square().mean()


def test_the_fine_stage_follows_a_prior(clip: Clip, tmp_path: Path):
    rates, losses = LearningRates(sh_dc=0.12), LossWeights(distillation=100.0)
    score = GuidanceOptions(views=4, resolution=(16, 24, 32))
    options = replace(
        OPTIONS, steps=60, static=0.2, fine=0.5, learning_rates=rates, losses=losses, score=score
    )
    prior = Greyish()
    grey = fit(clip, options, tmp_path / "grey", prior=prior).asset()
    free = fit(clip, options, tmp_path / "free").asset()

    def chroma(asset: Asset) -> float:
        picture = render(asset.at(0.5), clip.tracks[2].camera()).rgb
        return float((picture - picture.mean(-1, keepdim=True)).abs().mean())

    assert chroma(grey) < 0.7 * chroma(free)
    assert len(prior.progress) == 30
    assert prior.progress[0] == pytest.approx(0.0, abs=1e-6)
    assert prior.progress[-1] == pytest.approx(29 / 30)
    assert prior.shapes == {(4, side, side, 3) for side in (16, 24, 32)}


class Endless(Greyish):
    """A prior that asks for too much."""

    def score(
        self, batch: ScoreBatch, options: SdsOptions, progress: float, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        return batch.images.sum() * 1e38 * 1e38


def test_a_loss_that_runs_away_is_reported(clip: Clip, tmp_path: Path):
    with pytest.raises(UserError, match=r"the loss is inf at step 48"):
        fit(clip, OPTIONS, tmp_path, prior=Endless())


def test_a_single_frame_stands_still(clip: Clip, tmp_path: Path):
    tracks = tuple(replace(track, images=pixels(track)[:1]) for track in clip.tracks)
    asset = fit(Clip("still", tracks), replace(OPTIONS, steps=60), tmp_path).asset()
    assert torch.equal(asset.at(0.0).means, asset.at(1.0).means)


def test_other_pictures_or_cameras_are_not_resumed(clip: Clip, tmp_path: Path):
    fit(clip, replace(OPTIONS, steps=3), tmp_path)
    darker = replace(clip.tracks[0], images=pixels(clip.tracks[0]) // 2)
    turned = replace(clip.tracks[1], orbits=(replace(clip.tracks[1].orbit, azimuth=5.0),))
    for tracks in (
        (darker, *clip.tracks[1:]),
        (clip.tracks[0], turned, *clip.tracks[2:]),
        clip.tracks[:1],
    ):
        with pytest.raises(UserError, match="the pictures or the cameras of the clip changed"):
            fit(Clip("toy", tracks), replace(OPTIONS, steps=3), tmp_path, resume=True)


def test_one_view_alone_is_fitted(clip: Clip, tmp_path: Path):
    alone = Clip("alone", clip.tracks[:1])
    fitter = fit(alone, replace(OPTIONS, steps=80), tmp_path)
    assert score_asset(fitter.asset(), alone)["input"]["psnr"] > 22


def test_one_frame_alone_is_fitted(clip: Clip, tmp_path: Path):
    tracks = tuple(replace(track, images=pixels(track)[:1]) for track in clip.tracks)
    fitter = fit(Clip("still", tracks), replace(OPTIONS, steps=40), tmp_path)
    assert fitter.step == 40


def test_views_of_different_sizes_are_fitted_together(clip: Clip, tmp_path: Path):
    small = replace(clip.tracks[1], images=pixels(clip.tracks[1])[:, 4:25])
    fitter = fit(Clip("mixed", (clip.tracks[0], small)), replace(OPTIONS, steps=6), tmp_path)
    assert fitter.step == 6


def test_the_hull_holds_the_object_and_little_else(clip: Clip):
    hull = carve(clip, 0, cells=64)
    truth = blobs(0.0).means
    nearest = torch.cdist(hull, truth).amin(1)
    assert nearest.max() < 0.25
    assert torch.cdist(truth, hull).amin(1).max() < 0.06
    start = start_gaussians(clip, 0, 500, 0, torch.Generator().manual_seed(0))
    assert torch.cdist(start.means, truth).amin(1).max() < 0.3
    red = start.means[:, 0] < -0.1
    assert start.sh[red, 0, 0].mean() > start.sh[red, 0, 2].mean()


def test_masks_that_disagree_still_give_a_start(clip: Clip):
    generator = torch.Generator().manual_seed(0)
    shifted = [
        replace(t, images=pixels(t).roll(11 * (i % 3), 2)) for i, t in enumerate(clip.tracks)
    ]
    start = start_gaussians(Clip("bad", tuple(shifted)), 0, 200, 0, generator)
    assert start.means.isfinite().all()
    assert start.means.norm(dim=1).max() < 1


def parameters(n: int) -> tuple[nn.ParameterDict, torch.optim.Adam]:
    values = {
        "means": torch.randn(n, 3),
        "quats": torch.randn(n, 4),
        "log_scales": torch.full((n, 3), -5.0),
        "logit_opacities": torch.zeros(n),
        "trajectories": torch.arange(float(n))[:, None, None].repeat(1, 2, 3),
    }
    p = nn.ParameterDict({k: nn.Parameter(v) for k, v in values.items()})
    optimizer = torch.optim.Adam([{"name": k, "params": [v]} for k, v in p.items()], lr=0.1)
    sum(
        (v * torch.arange(float(n)).view(-1, *[1] * (v.ndim - 1))).sum() for v in p.values()
    ).backward()
    optimizer.step()
    return p, optimizer


def test_rows_of_everything_move_together():
    p, optimizer = parameters(50)
    with torch.no_grad():
        p["logit_opacities"][:10] = -9.0
        p["log_scales"][20:] = -1.5
    before = {k: v.detach().clone() for k, v in p.items()}
    need = torch.zeros(50)
    need[15] = need[25] = 1.0
    options = DensifyOptions(max_gaussians=100, growth=0.05, split_above=0.05, max_scale=1.0)
    densify(p, optimizer, need, options, torch.Generator().manual_seed(0))
    who = p["trajectories"][:, 0, 0].round().long()
    assert sorted(who.tolist()) == sorted([*range(10, 50), 15, 25])
    small, large = who == 15, who == 25
    assert (p["means"][small] == before["means"][15]).all()
    assert (p["means"][large] != before["means"][25]).all()
    torch.testing.assert_close(
        p["log_scales"][large].exp(), before["log_scales"][25].exp().expand(2, 3) / 1.6
    )
    # Adam's first moment of row i is i / 10 here: it must travel with its row, and new rows must
    # have none.
    for name, value in p.items():
        moment = (
            optimizer.state[value]["exp_avg"].flatten(1)
            if value.ndim > 1
            else optimizer.state[value]["exp_avg"][:, None]
        )
        assert (moment != 0).any(1).sum() == 40, name
        kept = (moment != 0).any(1)
        torch.testing.assert_close(moment[kept][:, 0], who[kept] / 10)


def test_growth_stops_at_the_cap_and_something_always_stays():
    p, optimizer = parameters(50)
    densify(
        p,
        optimizer,
        torch.ones(50),
        DensifyOptions(max_gaussians=53, growth=0.5),
        torch.Generator(),
    )
    assert len(p["means"]) == 53
    with torch.no_grad():
        p["logit_opacities"].fill_(-20.0)
    densify(p, optimizer, torch.ones(53), DensifyOptions(max_gaussians=53), torch.Generator())
    assert len(p["means"]) > 0


def test_need_is_the_mean_over_the_views_that_drew():
    meter = NeedMeter(2)
    meter.observe(
        torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[0.0, 0.0], [6.0, 8.0]]]),
        torch.tensor([[1, 0], [1, 2]]),
    )
    assert meter.need().tolist() == [2.5, 10.0]


def test_what_appears_late_is_fitted_where_it_shows_and_vanishes_where_not(
    clip: Clip, tmp_path: Path
):
    def blank(frames: list[int]) -> Clip:
        tracks = []
        for track in clip.tracks:
            images = torch.stack(list(track.images)).clone()
            images[frames] = 0
            tracks.append(replace(track, images=images))
        return replace(clip, tracks=tuple(tracks))

    late = blank([0, 1])
    assert late.hidden[:3] == (True, True, False)
    fitter = fit(late, replace(OPTIONS, steps=3), tmp_path)
    assert fitter.batches.static_frame == late.areas.index(max(late.areas)) > 1
    assert all(
        frame > 1
        for step in range(50)
        for frames, _ in fitter.batches.of_step(step)
        for frame in frames
    )
    asset = read_asset(tmp_path)
    cover = [
        float(render(asset.at(t), late.tracks[0].camera(0)).alpha.max())
        for t in late.times().tolist()
    ]
    assert max(cover[:2]) == 0
    assert min(cover[2:]) > 0
    moved = asset.at_times(late.times())
    # as files that hold a motion take it
    base, motion = factor(asset.at_times, late.times(), tolerance=1e-3)
    again = motion.at_times(base, late.times()).logit_opacities.sigmoid()
    assert torch.allclose(again, moved.logit_opacities.sigmoid(), atol=0.02)
    with pytest.raises(UserError, match="shows nothing; leave it out"):
        replace(OPTIONS, static_frame=0).check(late)
    assert not any(clip.hidden)
