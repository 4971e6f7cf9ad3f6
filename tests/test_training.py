"""Lessons, and the loop that trains on them.

The same for any number of processes, and after a cut.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from gs4d.clip import Orbit, premultiply
from gs4d.errors import UserError
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0
from gs4d.prior import open_prior
from gs4d.prior.lift_net import LiftNet, LiftShape
from gs4d.prior.solid import REACH, cell_centers
from gs4d.prior.train import lift as task_module
from gs4d.prior.train.__main__ import main
from gs4d.prior.train.lift import LiftTask, augment, relief_error
from gs4d.prior.train.loop import Trainer, TrainOptions, draw, train
from gs4d.prior.train.solid_samples import (
    FRAMES,
    LAYERS,
    SHOTS,
    SIDE,
    VIEWS,
    SolidSampleStore,
    _look,
    halved,
    make_solid_sample,
)

ROOT = Path(__file__).parent.parent
TINY = LiftShape(channels=(8, 8, 8), width=16, depth=2, heads=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SolidSampleStore:
    store = SolidSampleStore(tmp_path_factory.mktemp("samples"))
    for number in range(3):
        store.prepare(number)
    return store


def options(store: SolidSampleStore, out: Path, **changes: object) -> TrainOptions:
    plain = {
        "samples": store.folder,
        "first_samples": 3,
        "samples_per_step": 0.0,
        "workers": 0,
        "precision": "no",
    }
    return TrainOptions(
        **{
            **plain,
            "lift": TINY,
            "out": out,
            "batch": 2,
            "steps": 6,
            "warmup": 2,
            "threads": 1,
            **changes,
        }
    )


def test_a_sample_is_its_number_in_any_process(store: SolidSampleStore) -> None:
    sample = store.sample(1)
    code = (
        "import hashlib; from gs4d.prior.train.solid_samples import make_solid_sample; sample = "
        "make_solid_sample(1)\n"
        "print(hashlib.sha256(sample.frames.numpy().tobytes() + "
        "sample.occupancy.numpy().tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    here = hashlib.sha256(
        sample.frames.numpy().tobytes() + sample.occupancy.numpy().tobytes()
    ).hexdigest()
    assert done.stdout.strip() == here


def test_a_kept_sample_is_the_made_one(store: SolidSampleStore) -> None:
    made, kept = make_solid_sample(2), store.sample(2)
    assert made.source == kept.source
    for name in ("frames", "occupancy", "seen", "views"):
        assert torch.equal(getattr(made, name), getattr(kept, name)), name
    assert torch.equal(made.colors[made.seen], kept.colors[kept.seen])
    assert kept.frames.shape == (FRAMES, SHOTS, SHOTS, 4)
    assert kept.views.shape == (VIEWS, FRAMES, SIDE, SIDE, 4)


def test_a_ball_is_carved_as_a_ball() -> None:
    # Fibonacci's points on a sphere
    turn, height = (2.399963 * torch.arange(6000), 1 - (2 * torch.arange(6000) + 1) / 6000)
    ring = (1 - height**2).sqrt()
    way = torch.stack([ring * turn.cos(), height, ring * turn.sin()], 1)
    green = torch.tensor([0.1, 0.8, 0.2])
    shell = Gaussians(
        means=0.3 * way,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(6000, 1),
        log_scales=torch.full((6000, 3), 0.01).log(),
        logit_opacities=torch.full((6000,), 5.0),
        sh=((green - 0.5) / SH_C0).expand(6000, 1, 3),
    )
    source = Orbit(0.0, 10.0)
    frame, occupancy, colors, seen, _ = _look(shell, source)
    radius = cell_centers(source, SIDE, LAYERS).norm(dim=-1)
    assert occupancy[radius < 0.26].all()
    assert not occupancy[radius > 0.34].any()
    assert (colors[seen].float() / 255 - green).abs().mean() < 0.03
    assert seen.any()
    assert (frame[..., 3] > 127).sum() > 1600


def test_hidden_hollows_are_not_solid(store: SolidSampleStore) -> None:
    """Cells between limbs are carved out.

    An object's solid fills its own views, and less than its columns.
    """
    sample = store.sample(0)
    for t in range(FRAMES):
        columns = halved(premultiply(sample.frames[t]))[..., 3] > 127
        share = sample.occupancy[t][:, columns].float().mean()
        assert 0.01 < share < 0.6
        assert sample.occupancy[t].any(0)[columns].float().mean() > 0.9


def test_augmented_truth_keeps_the_pictures_colours() -> None:
    pictures = torch.tensor([0.2, 0.4, 0.6, 1.0]).expand(2, 8, 8, 4)
    for seed in range(20):
        seen, colors = augment(
            pictures, torch.Generator().manual_seed(seed), pictures[:, :4, :4, None, :3]
        )
        assert (seen[..., :3].mean((0, 1, 2)) - colors.mean((0, 1, 2, 3))).abs().max() < 0.06
        assert ((seen >= 0) & (seen <= 1)).all()


def test_the_true_solid_has_the_least_loss_and_shows_the_true_views(
    store: SolidSampleStore,
) -> None:
    task = LiftTask(store, TINY)
    sample = task.example(0, 5)
    batch = {name: value[None] for name, value in sample.items()}
    where = sample["seen"][:, None].float()
    known = F.avg_pool3d(where * sample["colors"], 5, 1, 2) / F.avg_pool3d(
        where, 5, 1, 2
    ).clamp_min(1e-6)
    colors = torch.where(where > 0, sample["colors"], known)[None]

    class Answer(LiftNet):
        def forward(self, *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return 16 * self.occupancy[None].float() - 8, colors

    def of(occupancy: torch.Tensor) -> dict[str, float]:
        network = Answer(TINY)
        network.occupancy = occupancy
        # its frames together
        return {name: float(value) for name, value in task.loss(network, batch, 0).items()}

    true, deeper, nothing = (
        of(x)
        for x in (sample["occupancy"], sample["occupancy"].roll(4, 1), 0 * sample["occupancy"])
    )
    assert true["solid"] < 0.01
    assert true["color"] < 1e-6
    assert true["view"] < 0.02
    for name in ("solid", "outline", "overlap", "view", "loss"):
        assert true[name] < 0.5 * min(deeper[name], nothing[name])
    assert true["relief"] < 0.01
    assert deeper["relief"] < 0.2 * nothing["relief"], (
        "as a whole, it lies elsewhere; its relief is the same"
    )


def test_relief_is_how_parts_lie_to_each_other() -> None:
    depth = torch.full((8, 8), 4)
    depth[:, 4:] = 7  # a step in the middle
    layers = torch.arange(16)[:, None, None]
    true = ((layers >= depth) & (layers < 12)).float()
    flat = ((layers >= 4) & (layers < 12)).float().expand(16, 8, 8)
    half = true * (torch.arange(8) < 4)  # beyond, nothing is there, and nothing is asked

    def error(said: torch.Tensor, occupancy: torch.Tensor) -> float:
        return float(
            relief_error(20 * said[None, None] - 10, occupancy[None, None].to(torch.uint8), 1)[0]
        )

    assert error(true, true) == pytest.approx(0, abs=1e-6)
    assert error(true.roll(2, 0), true) == pytest.approx(0, abs=1e-6)
    assert error(flat, half) == pytest.approx(0, abs=1e-6)
    # Of the 8 * (7 + 6 + 4) pairs along one axis and as many along the other, 8 * (1 + 2 + 4) span
    # the step of 3 of 8 layers.
    assert error(flat, true) == pytest.approx(3 / 8 * (1 + 2 + 4) / (2 * (7 + 6 + 4)), rel=1e-5)


def test_wide_layers_learn_more_slowly(store: SolidSampleStore, tmp_path: Path) -> None:
    """The first step of Adam moves whatever has a gradient by the rate, so a layer's own rate can
    be read from it.
    """
    o = options(
        store, tmp_path, learning_rate=0.01, warmup=0, cooldown=0.0, weight_decay=0.0, fan_in=36
    )
    trainer = Trainer(o, LiftTask(store, TINY))
    before = {name: value.detach().clone() for name, value in trainer.bare().named_parameters()}
    trainer.advance()
    rates = {
        name: float((value.detach() - before[name]).abs().max())
        for name, value in trainer.bare().named_parameters()
    }
    # 16 channels of 3x3
    assert rates["draw.0.conv1.weight"] == pytest.approx(0.01 * 36 / 144, rel=0.01)
    assert rates["draw.0.conv2.weight"] == pytest.approx(0.01 * 36 / 72, rel=0.01)
    assert rates["draw.0.skip.weight"] == pytest.approx(0.01, rel=0.01)
    assert rates["draw.0.norm1.weight"] == pytest.approx(0.01, rel=0.01)


def test_a_saved_state_fits_other_rates_of_wide_layers(
    store: SolidSampleStore, tmp_path: Path
) -> None:
    task = LiftTask(store, TINY)
    first = Trainer(options(store, tmp_path, fan_in=36), task)
    first.advance()
    first.save(tmp_path)
    second = Trainer(options(store, tmp_path, fan_in=0), task)
    second.restore(tmp_path)
    for before, after in zip(first.bare().parameters(), second.bare().parameters(), strict=True):
        kept, restored = (
            first.optimizer.state[before]["exp_avg"],
            second.optimizer.state[after]["exp_avg"],
        )
        assert torch.equal(kept, restored)
    second.advance()


def test_steps_draw_from_ever_more_lessons() -> None:
    o = TrainOptions(first_samples=5, samples_per_step=2.0, most_samples=50)
    assert [o.known_samples(step) for step in (0, 10, 100)] == [5, 25, 50]
    assert draw(o, 7, 6) == draw(o, 7, 6) != draw(o, 8, 6)
    assert {sample for sample, _ in draw(o, 0, 200)} == set(range(5))


def test_the_rate_rises_stays_and_falls() -> None:
    o = TrainOptions(steps=100, warmup=10, cooldown=0.3, learning_rate=1.0)
    assert o.rate(0) == pytest.approx(0.1)
    assert [o.rate(step) for step in (10, 40, 69)] == [1.0, 1.0, 1.0]
    assert o.rate(85) == pytest.approx(0.5)
    assert o.rate(99) == pytest.approx(1 / 30)


def test_training_lowers_the_loss_and_leaves_weights_that_open(
    store: SolidSampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_module, "HELD_OUT", 0)  # samples that are there already
    monkeypatch.setattr(task_module, "HELD_OUT_COUNT", 1)
    o = options(
        store, tmp_path / "run", steps=60, learning_rate=5e-3, measure_every=30, average=0.9
    )
    folder = train(o, LiftTask(store, TINY))
    rows = json.loads((folder / "history.json").read_text())["history"]
    for part in ("solid", "loss"):
        assert np.mean([row[part] for row in rows[-5:]]) < 0.9 * np.mean(
            [row[part] for row in rows[:5]]
        )
    assert [row["step"] for row in rows if "iou" in row] == [30, 60]
    assert {p.name for p in folder.glob("*.png")} == {
        "curves.png",
        "held_out_000030.png",
        "held_out_000060.png",
    }
    views = open_prior(f"lift:{folder}", "views").views(
        store.sample(0).frames, Orbit(), [Orbit(90.0)], torch.Generator()
    )
    assert views.images.shape == (1, FRAMES, SHOTS, SHOTS, 4)


def test_a_resumed_run_is_the_run_that_was_not_cut(store: SolidSampleStore, tmp_path: Path) -> None:
    whole = Trainer(options(store, tmp_path), LiftTask(store, TINY))
    for _ in range(4):
        whole.advance()
    first = Trainer(options(store, tmp_path), LiftTask(store, TINY))
    for _ in range(2):
        first.advance()
    first.save(tmp_path)
    second = Trainer(options(store, tmp_path), LiftTask(store, TINY))
    second.restore(tmp_path)
    for _ in range(2):
        second.advance()
    for name, value in whole.bare().state_dict().items():
        assert torch.equal(value, second.bare().state_dict()[name]), name
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name]), name


def test_state_of_another_network_is_refused(store: SolidSampleStore, tmp_path: Path) -> None:
    Trainer(options(store, tmp_path), LiftTask(store, TINY)).save(tmp_path)
    wider = LiftShape(channels=(8, 8, 8), width=32, depth=2, heads=2)
    with pytest.raises(UserError, match="of another network"):
        Trainer(options(store, tmp_path), LiftTask(store, wider)).restore(tmp_path)


def test_two_processes_learn_as_one_with_twice_the_batch(
    store: SolidSampleStore, tmp_path: Path
) -> None:
    flags = (
        "--samples_per_step 0 --first_samples 3 --workers 0 --precision no --steps 3 --warmup 1 "
        "--measure_every 100 --threads 1"
    )
    flags += " --lift.channels 8 8 8 --lift.width 16 --lift.depth 2 --lift.heads 2"
    command = ["-m", "gs4d.prior.train", "--samples", str(store.folder), *flags.split()]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--master_port=29617",
    ]
    two = [*launcher, *command, "--batch", "1", "--out", str(tmp_path / "two")]
    one = [sys.executable, *command, "--batch", "2", "--out", str(tmp_path / "one")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    code = "import gs4d.prior.train.lift as l; l.HELD_OUT, l.HELD_OUT_COUNT = 0, 1"
    # the last step measures: on a sample that is there
    (tmp_path / "sitecustomize.py").write_text(code)
    environment["PYTHONPATH"] = str(tmp_path)
    for line in (one, two):
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
    records = [
        json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "two")
    ]
    assert [record["processes"] for record in records] == [1, 2]
    losses = [[row["loss"] for row in record["history"]] for record in records]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    weights = [load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two")]
    for name, value in weights[0].items():
        assert torch.allclose(value.float(), weights[1][name].float(), atol=2e-3), name


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no .glb or .gltf file"):
        TrainOptions(meshes=tmp_path).solid_store()
    with pytest.raises(UserError, match="TrainOptions.steps is 0; it must lie in 1 to"):
        TrainOptions(steps=0)
    with pytest.raises(UserError, match="absent.safetensors"):
        Trainer(
            TrainOptions(start=tmp_path / "absent.safetensors"),
            LiftTask(SolidSampleStore(tmp_path), TINY),
        )


def test_reach_is_the_radius_of_objects() -> None:
    from gs4d.synth.objects import RADIUS

    assert REACH == RADIUS


def test_old_names_of_options_are_read_and_the_new_ones_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert TrainOptions(first_lessons=7).first_samples == 7  # pyright: ignore[reportCallIssue]
    assert "first_lessons is now called first_samples" in capsys.readouterr().err
    assert main(["--most-lessons=0"]) == 2
    said = capsys.readouterr().err
    assert "most_lessons is now called most_samples" in said
    assert "most_samples is 0" in said
