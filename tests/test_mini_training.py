"""What ``mini`` is taught: true samples, the renders beside them, and a few steps of a tiny
network.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gs4d.clip import Orbit, cameras_of, premultiply
from gs4d.errors import UserError
from gs4d.prior import open_prior
from gs4d.prior.mini_net import NOTHING, pluecker
from gs4d.prior.train import mini as task_module
from gs4d.prior.train.__main__ import open_task
from gs4d.prior.train.loop import Trainer, TrainOptions, train
from gs4d.prior.train.mini import MiniTask
from gs4d.prior.train.solid_samples import VIEWS, SolidSampleStore, halved

TINY: dict[str, Any] = {"patch": 16, "width": 32, "num_hidden_layers": 2, "heads": 2, "refine": 8}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> MiniTask:
    folder = tmp_path_factory.mktemp("store")
    return MiniTask(SolidSampleStore(folder / "samples"), "inflate", folder / "albums", TINY)


def batch_of(task: MiniTask, seeds: range, sample: int = 0) -> dict[str, Tensor]:
    samples = [task.example(sample, seed) for seed in seeds]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def test_an_album_is_the_lesson_and_what_the_plainer_prior_makes_of_two_of_its_views(
    task: MiniTask,
):
    album, again, sample = task.album(0), task.album(0), task.store.sample(0)
    assert torch.equal(album.renders, again.renders), "read again where it was kept"
    assert album.orbits == again.orbits
    assert album.inputs == again.inputs
    assert torch.equal(album.pictures[0], halved(premultiply(sample.frames)))
    assert torch.equal(album.pictures[1:], sample.views)
    first, second = album.inputs
    assert first == 0 < second <= VIEWS
    drawn = open_prior("inflate", "views").views(
        album.pictures[second], album.orbits[second], album.orbits, torch.Generator()
    )
    assert torch.equal(album.renders[1], drawn.images)


def test_samples_are_their_seeds(task: MiniTask):
    first, again, other = task.example(0, 5), task.example(0, 5), task.example(0, 6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["clean"], other["clean"])


def test_clean_views_are_the_samples_seen_by_the_cameras_whose_rays_are_told(task: MiniTask):
    """Their masks are those of the sample's views that have these rays, plain or mirrored.

    The ring is its own mirror image.
    """
    album = task.album(0)
    masks = premultiply(album.pictures)[..., 3]
    signs = torch.tensor([1.0, -1, -1, -1, 1, 1])[:, None, None]
    moving = 0
    for seed in range(12):
        sample = task.example(0, seed)
        fits = []
        for i in album.inputs:
            places = [
                Orbit(o.azimuth - album.orbits[i].azimuth, o.elevation, o.radius, o.fov)
                for o in album.orbits
            ]
            plain = pluecker(cameras_of(places, width=64, height=64))
            for rays, seen in ((plain, masks), ((plain * signs).flip(-1), masks.flip(-1))):
                off = (sample["rays"][1:, :, None] - rays).abs().amax((-1, -2, -3))
                if off.amin(-1).max() < 1e-4:
                    which = off.argmin(-1)
                    fits.append(
                        (sample["clean"][:, :, 3] / 2 + 0.5 - seen[which, torch.arange(4)])
                        .abs()
                        .max()
                        .item()
                    )
        moving += int((which[:, 0] != which[:, 1]).any())
        assert min(fits) < 1e-5
    assert 0 < moving < 12, "some cameras move while time goes on"


def test_what_is_told_is_sometimes_kept_back(task: MiniTask):
    batch = batch_of(task, range(60))
    for name, least in (("rendered", 3), ("source", 1), ("motion", 3)):
        kept_back = (
            (batch[name].flatten(1) if batch[name].ndim > 1 else batch[name][:, None])
            .eq(NOTHING)
            .all(1)
        )
        assert least <= kept_back.sum() < 40, name
    same = (batch["noise"][:, :, :1] == batch["noise"]).flatten(1).all(1)
    assert 15 < same.sum() < 45, "and noise is sometimes the same in all frames"
    assert batch["abar"].min() < 0.05
    assert batch["abar"].max() > 0.6


def test_a_few_steps_lower_the_loss_and_a_network_that_learnt_nothing_has_that_of_the_linear_guess(
    task: MiniTask,
):
    torch.manual_seed(0)
    network, batch = task.network(), batch_of(task, range(4))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = []
    for step in range(12):
        found = task.loss(network, batch, step)
        found["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append({name: value.item() for name, value in found.items()})
    told = {name: batch[name] for name in ("rendered", "abar")}
    a2 = told["abar"].view(-1, 1, 1, 1, 1, 1)
    noisy = a2.sqrt() * batch["clean"] + (1 - a2).sqrt() * batch["noise"]
    precision = 1 / 0.35**2 + a2 / (1 - a2)
    guess = (told["rendered"] / 0.35**2 + a2.sqrt() * noisy / (1 - a2)) / precision
    error = guess - batch["clean"]
    assert losses[0]["picture"] == pytest.approx(error.square().mean().item(), rel=1e-3)
    assert losses[0]["loss"] == pytest.approx((error.square() * precision).mean().item(), rel=1e-3)
    assert losses[-1]["loss"] < 0.8 * losses[0]["loss"]


def test_a_batch_costs_the_mean_of_its_samples(task: MiniTask):
    network = task.network()
    whole = task.loss(network, batch_of(task, range(4)), 0)["loss"].item()
    halves = [
        task.loss(network, batch_of(task, some), 0)["loss"].item()
        for some in (range(2), range(2, 4))
    ]
    assert whole == pytest.approx(sum(halves) / 2, rel=1e-5)


def test_a_measured_network_opens_as_users_open_it(
    task: MiniTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(task_module, "HELD_OUT", 0)  # the sample that is there
    monkeypatch.setattr(task_module, "HELD_OUT_COUNT", 1)
    monkeypatch.setattr(task_module, "VIEWS", 5)
    network = task.network()
    scores = task.measure(network, tmp_path, 7)
    assert scores.keys() == {
        f"{base}{name}" for base in ("", "rendered_") for name in ("psnr", "psnr_inside", "iou")
    }
    assert scores["psnr"] == pytest.approx(scores["rendered_psnr"], abs=0.5), (
        "what learnt nothing draws what was rendered"
    )
    assert scores["psnr"] != scores["rendered_psnr"]
    assert (tmp_path / "held_out_000007.png").stat().st_size > 1000
    opened = open_prior(f"mini:{tmp_path / 'model'}", "views").networks.transformer
    for name, value in network.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value.half().float())


def test_a_resumed_run_is_the_run_that_was_not_cut(task: MiniTask, tmp_path: Path):
    options = TrainOptions(
        model="mini", steps=4, batch=1, first_samples=1, samples_per_step=0.0, warmup=1, workers=0
    )
    whole, cut, resumed = (
        Trainer(options, task),
        Trainer(options, task),
        Trainer(options, task),
    )
    losses = [whole.advance() for _ in range(4)]
    assert losses[:2] == [cut.advance() for _ in range(2)]
    cut.save(tmp_path)
    resumed.restore(tmp_path)
    assert losses[2:] == [resumed.advance() for _ in range(2)]
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name


def test_a_run_leaves_a_model_that_draws(
    task: MiniTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(task_module, "HELD_OUT", 0)
    monkeypatch.setattr(task_module, "HELD_OUT_COUNT", 1)
    monkeypatch.setattr(task_module, "VIEWS", 5)
    options = TrainOptions(
        model="mini",
        out=tmp_path,
        steps=1,
        batch=1,
        first_samples=1,
        samples_per_step=0.0,
        workers=0,
        threads=1,
    )
    train(options, task)
    prior = open_prior(f"mini:{tmp_path / 'model'}", "views")
    images = prior.views(
        task.album(0).pictures[0, :2], Orbit(), [Orbit(90.0)], torch.Generator()
    ).images
    assert images.shape == (1, 2, 64, 64, 4)
    assert (tmp_path / "curves.png").is_file()


def test_the_command_teaches_mini_from_the_prior_that_is_named(tmp_path: Path):
    made = open_task(TrainOptions(model="mini", base="inflate", samples=tmp_path))
    assert isinstance(made, MiniTask)
    assert made.base == "inflate"
    with pytest.raises(
        UserError,
        match=r"--base is 'zero123'; mini draws anew what one of these renders: lift, inflate",
    ):
        open_task(TrainOptions(model="mini", base="zero123", samples=tmp_path))
