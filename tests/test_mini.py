"""``mini``: the true network at tiny size, saved and opened as users do, as painter, judge and
maker of orbit videos.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from toys import pixels, toy_clip

from gs4d.camera import Camera
from gs4d.clip import Orbit, cameras_of, orbits_of, premultiply
from gs4d.errors import UserError
from gs4d.fit import FitOptions, fit
from gs4d.guidance import GuidanceOptions
from gs4d.motion import HexPlaneOptions
from gs4d.prior import ScoreBatch, ScorePrior, ViewPrior, draw_clip, open_prior
from gs4d.prior.mini import DOUBT, Mini, save_folder, signed, told, windows_of
from gs4d.prior.mini_net import MiniTransformer, MotionBlock, linear_guess, motion_of, pluecker
from gs4d.prior.networks import Place
from gs4d.prior.sampling import Sampling
from gs4d.prior.sds import SdsOptions

TINY: dict[str, Any] = {
    "side": 16,
    "patch": 4,
    "width": 32,
    "num_hidden_layers": 2,
    "heads": 2,
    "refine": 8,
}


def network(seed: int = 0, still: bool = True, **shape: Any) -> MiniTransformer:
    """One whose answer is not nothing; ``still`` leaves its motion modules as they start."""
    torch.manual_seed(seed)
    made = MiniTransformer(**{**TINY, **shape})
    kept = (
        {
            id(p)
            for block in made.modules()
            if isinstance(block, MotionBlock)
            for p in block.parameters()
        }
        if still
        else set()
    )
    for parameter in made.parameters():
        if id(parameter) not in kept:
            torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def inputs(views: int = 3, frames: int = 2, batch: int = 2, side: int = 16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def randn(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    return {
        "noisy": randn(views, frames, 4, side, side),
        "abar": torch.linspace(0.9, 0.1, batch),
        "rendered": randn(views, frames, 4, side, side),
        "source": randn(frames, 4, side, side),
        "rays": randn(views + 1, frames, 6, side, side),
        "motion": torch.linspace(0.3, -1.0, batch),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("models") / "mini größer"
    save_folder(where, network(still=False), "inflate")
    return where


@pytest.fixture
def mini(folder: Path) -> Mini:
    prior = open_prior(f"mini:{folder}", "views")
    prior.sampling = Sampling(steps=2)
    return prior


def plain(folder: Path) -> Mini:
    """One that has learnt nothing, so that all its answers are known."""
    save_folder(folder, MiniTransformer(**TINY), "inflate")
    prior = open_prior(f"mini:{folder}", "views")
    prior.sampling = Sampling(steps=3)
    return prior


def told_of(prior: Mini, clip: Tensor, paths: list[list[Orbit]]) -> dict[str, Tensor]:
    rendered, _ = prior._rendered(clip, Orbit(), paths, seed())
    return prior.told(clip, Orbit(), paths, rendered)


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


# --- the ne ---
# t w o r k


@pytest.mark.parametrize(("views", "frames"), [(1, 1), (3, 2), (2, 5)])
def test_any_number_of_views_and_frames_is_answered(views: int, frames: int):
    given = inputs(views, frames)
    answer = network(still=False)(**given)
    assert answer.shape == given["noisy"].shape
    assert answer.isfinite().all()


def test_the_full_network_is_as_small_as_it_is_said_to_be():
    with torch.device("meta"):
        count = sum(p.numel() for p in MiniTransformer().parameters())
    assert 5e6 < count < 8e6
    assert 2 * count < 32e6, "bytes of half floats"


def test_before_training_the_answer_is_the_best_linear_guess():
    given = inputs()
    guess, rest = linear_guess(given["noisy"], given["abar"], given["rendered"])
    torch.testing.assert_close(MiniTransformer(**TINY)(**given), guess)
    # By hand: the mean of z given a z + s eps, where z is Normal(rendered, 0.35^2), and its
    # deviation.
    abar = 0.1
    precision = 1 / 0.1225 + abar / (1 - abar)
    by_hand = (
        given["rendered"][1] / 0.1225 + abar**0.5 * given["noisy"][1] / (1 - abar)
    ) / precision
    torch.testing.assert_close(guess[1], by_hand, atol=1e-5, rtol=1e-4)
    assert rest[1].item() == pytest.approx(precision**-0.5, rel=1e-5)


def test_motion_modules_change_nothing_before_they_are_trained_and_join_frames_after():
    given = inputs(frames=3)

    def alone(net: MiniTransformer) -> Tensor:
        def cut(name: str, t: int) -> Tensor:
            axis = {"noisy": 2, "rendered": 2, "source": 1, "rays": 2}.get(name)
            return given[name] if axis is None else given[name].narrow(axis, t, 1)

        return torch.cat([net(**{name: cut(name, t) for name in given}) for t in range(3)], 2)

    torch.testing.assert_close(network()(**given), alone(network()), atol=1e-5, rtol=1e-4)
    trained = network(still=False)
    assert (trained(**given) - alone(trained)).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["noisy", "abar", "rendered", "source", "rays", "motion"])
def test_the_answer_depends_on_all_that_is_told(name: str):
    net, given = network(), inputs()
    other = {**given, name: given[name] * 0.5 + 0.1}
    assert (net(**given)[0] - net(**other)[0]).abs().max() > 1e-4


def test_an_untold_motion_is_no_motion_of_any_amount():
    net, given = network(), inputs()
    answers = [net(**{**given, "motion": torch.full((2,), amount)}) for amount in (-1.0, -0.1, 0.0)]
    torch.testing.assert_close(answers[0], answers[1])
    assert (answers[0] - answers[2]).abs().max() > 1e-4


def test_views_of_one_frame_see_each_other_and_the_source():
    net, given = network(), inputs(frames=1)
    moved = given["noisy"].clone()
    moved[:, 0] += 1
    assert (net(**{**given, "noisy": moved}) - net(**given))[:, 1].abs().max() > 1e-4


def test_rays_meet_what_the_camera_sees():
    cameras = cameras_of([Orbit(30.0, 20.0), Orbit(-100.0, -40.0, 2.0, 30.0)], width=8, height=8)
    moment, direction = pluecker(cameras).chunk(2, 1)
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(2, 8, 8))
    depth = 1.3
    for camera in range(2):
        T, K = cameras.T_camera_world[camera], cameras.K[camera]
        point = cameras.centers[camera] + depth * direction[camera, :, 5, 2]
        seen = K @ (T[:3, :3] @ point + T[:3, 3])
        torch.testing.assert_close(
            seen[:2] / seen[2], torch.tensor([2.5, 5.5]), atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            torch.linalg.cross(point, direction[camera, :, 5, 2]), moment[camera, :, 5, 2]
        )


def test_motion_is_none_of_a_still_clip_and_twice_as_much_at_twice_the_change():
    still = torch.zeros(1, 3, 4, 8, 8)
    moving = still + torch.tensor([0.0, 0.1, 0.0])[:, None, None, None]
    moving[:, :, 3] = 0
    assert motion_of(still).item() == motion_of(still[:, :1]).item() == 0
    assert motion_of(2 * moving).item() == pytest.approx(2 * motion_of(moving).item(), rel=1e-5)


def test_orbits_are_found_again_from_their_cameras():
    orbits = [
        Orbit(),
        Orbit(170.0, 30.0, 2.0, 40.0),
        Orbit(-90.0, -90.0),
        Orbit(45.0, 90.0, 1.2, 60.0),
    ]
    for found, orbit in zip(
        orbits_of(cameras_of(orbits, width=16, height=16)), orbits, strict=True
    ):
        for name, value in vars(orbit).items():
            assert getattr(found, name) == pytest.approx(value, abs=2e-3), name


# --- the f ---
# o l d e r


def test_the_folder_is_diffusers_layout_and_opens_to_the_bit(folder: Path):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.fp16.safetensors",
    }
    prior = open_prior(f"mini:{folder}", "views", Place(device="cpu"))
    assert isinstance(prior, ViewPrior)
    assert isinstance(prior, ScorePrior)
    assert open_prior(f"mini:{folder}", "score", Place(device="cpu")).joint
    assert prior.weights[0]["licence"].startswith("Apache-2.0")
    theirs = MiniTransformer.from_pretrained(folder / "transformer", variant="fp16")
    for found in (prior.networks.transformer, theirs):
        for name, value in network(still=False).state_dict().items():
            torch.testing.assert_close(
                found.state_dict()[name].float(), value.half().float(), rtol=0, atol=0
            )


def test_what_is_saved_is_saved_again_the_same(folder: Path, tmp_path: Path):
    save_folder(
        tmp_path / "again", open_prior(f"mini:{folder}", "views").networks.transformer, "inflate"
    )
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(folder)).read_bytes()


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps(change(record)))


def drop_tensor(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.fp16.safetensors"
    weights = load_file(path)
    del weights["stem.bias"]
    save_file(weights, path)


def truncate(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.fp16.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "model index .* cannot be read"),
    "another model": (
        lambda f: edit(f / "model_index.json", lambda _: {"_class_name": "X"}),
        "not of a mini; train one",
    ),
    "another base": (
        lambda f: edit(f / "model_index.json", lambda r: {**r, "base": "zero123:x"}),
        "not of a mini",
    ),
    "no network": (
        lambda f: shutil.rmtree(f / "transformer"),
        "network description .* cannot be read",
    ),
    "no weights": (
        lambda f: (f / "transformer/diffusion_pytorch_model.fp16.safetensors").unlink(),
        "has no weights",
    ),
    "cut weights": (truncate, "cannot be read .*download it again"),
    "a tensor less": (drop_tensor, "lacks the tensor 'stem.bias'"),
    "another width": (
        lambda f: edit(f / "transformer/config.json", lambda r: {**r, "width": 64}),
        "of shape .*, wanted",
    ),
    "endless layers": (
        lambda f: edit(f / "transformer/config.json", lambda r: {**r, "num_hidden_layers": 10**9}),
        "more than 256 layers",
    ),
    "odd patches": (
        lambda f: edit(f / "transformer/config.json", lambda r: {**r, "patch": 5}),
        "16 pixels are no multiple",
    ),
    "predicts noise": (
        lambda f: edit(
            f / "scheduler/scheduler_config.json", lambda r: {**r, "prediction_type": "epsilon"}
        ),
        "predicts clean pictures, as mini does",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_folders_are_refused_in_a_sentence(case: str, folder: Path, tmp_path: Path):
    spoil, sentence = WRONG[case]
    copy = shutil.copytree(folder, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(UserError, match=sentence) as caught:
        open_prior(f"mini:{copy}", "views")
    assert "\n" not in str(caught.value)


# --- the pa ---
# i n t e r


def frames(count: int = 3) -> Tensor:
    return pixels(toy_clip(frames=count).tracks[0])


RIG = [Orbit(60.0 * k, 10.0) for k in range(5)]


def test_views_are_the_same_for_the_same_seed_and_trusted_where_two_samples_agree(mini: Mini):
    first, again, other = (mini.views(frames(), Orbit(), RIG, seed(s)) for s in (3, 3, 4))
    assert first.orbits == RIG
    assert first.images.shape == (5, 3, 32, 32, 4)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.confidence, again.confidence)
    assert not torch.equal(first.images, other.images)
    assert (
        first.confidence.max()
        <= draw_clip(
            open_prior("inflate", "views"), frames(1), Orbit(), None, seed()
        ).confidence.max()
    )
    assert first.confidence.unique().numel() > 1


def test_trust_falls_with_the_difference_of_the_samples(
    mini: Mini, monkeypatch: pytest.MonkeyPatch
):
    samples = [torch.zeros(1, 1, 4, 16, 16), torch.zeros(1, 1, 4, 16, 16)]
    samples[1][..., 8:] = DOUBT * 2**0.5
    monkeypatch.setattr(mini, "sample", lambda *_: samples.pop())
    confidence = mini.views(frames(1), Orbit(), RIG[:1], seed()).confidence[0, 0]
    whole = int(
        open_prior("inflate", "views").views(frames(1), Orbit(), RIG[:1], seed()).confidence.max()
    )
    assert confidence[:, :15].unique().tolist() == [whole]
    assert confidence[:, 17:].unique().tolist() == [round(whole / 2.718281828)]


def test_a_network_that_learnt_nothing_draws_around_what_was_rendered(tmp_path: Path):
    prior = plain(tmp_path / "plain")
    condition = told_of(prior, frames(), [[orbit] * 3 for orbit in RIG])
    drawn = torch.stack([prior.sample(condition, seed(k)) for k in range(30)])
    off = drawn - condition["rendered"]
    assert off.mean().abs() < 0.01
    spreads = []
    for strength in (0.02, 0.1, 0.4):
        prior.sampling = Sampling(steps=20, strength=strength)
        spreads.append((prior.sample(condition, seed()) - condition["rendered"]).std())
    assert spreads[0] < spreads[1] < spreads[2], "the noisier the start, the freer the views"


def test_views_keep_the_detail_of_what_was_rendered(mini: Mini, monkeypatch: pytest.MonkeyPatch):
    base = signed(open_prior("inflate", "views").views(frames(), Orbit(), RIG, seed()).images)
    for change in (0.0, 0.2):
        monkeypatch.setattr(
            mini, "sample", lambda condition, _, change=change: condition["rendered"][0] + change
        )
        drawn = signed(mini.views(frames(), Orbit(), RIG, seed()).images)
        torch.testing.assert_close(
            drawn[:, :, 3], (base[:, :, 3] + change).clamp(-1, 1), atol=1e-2, rtol=0
        )
        inside = (base[:, :, 3:] > 0.99).expand_as(base)
        torch.testing.assert_close(
            drawn[inside], (base[inside] + change).clamp(-1, 1), atol=2e-2, rtol=0
        )


def test_frames_that_are_the_same_are_drawn_the_same(folder: Path, tmp_path: Path):
    still = frames(1).expand(6, -1, -1, -1)
    save_folder(tmp_path / "still", network(), "inflate")
    images = (
        open_prior(f"mini:{tmp_path / 'still'}", "views").views(still, Orbit(), RIG, seed()).images
    )
    assert (images.int() - images[:, :1].int()).abs().max() <= 1


def test_the_input_camera_may_stand_anywhere(mini: Mini):
    here, there = (
        mini.views(
            frames(),
            Orbit(azimuth, 10.0),
            [replace(o, azimuth=o.azimuth + azimuth) for o in RIG],
            seed(),
        ).images
        for azimuth in (0.0, 40.0)
    )
    assert (here.float() - there.float()).abs().mean() < 1.0
    assert [
        round(o.azimuth) for o in draw_clip(mini, frames(1), Orbit(90.0), None, seed()).orbits[:2]
    ] == [90, 112]


def test_frames_that_are_not_square_are_padded(mini: Mini):
    narrow = frames()[:, :, 8:24]
    padded = torch.nn.functional.pad(narrow, (0, 0, 8, 8))
    found, wanted = (draw_clip(mini, some, Orbit(), RIG, seed()) for some in (narrow, padded))
    assert torch.equal(found.images, wanted.images)


@pytest.mark.parametrize("count", range(1, 12))
def test_windows_cover_all_frames_and_overlap(count: int):
    windows = windows_of(count, 4)
    assert sorted({t for some in windows for t in some}) == list(range(count))
    assert all(some == list(range(some[0], some[0] + min(count, 4))) for some in windows)
    assert all(set(a) & set(b) for a, b in pairwise(windows))


def test_without_time_every_frame_is_drawn_by_itself(mini: Mini):
    mini.sampling = Sampling(steps=2, temporal=False)
    clip = frames(3)
    together = mini.views(clip, Orbit(), RIG, seed()).images
    clip = clip.clone()
    clip[1] = clip[1].flip(1)
    other = mini.views(clip, Orbit(), RIG, seed()).images
    assert torch.equal(together[:, 0], other[:, 0])
    assert not torch.equal(together[:, 1], other[:, 1])


def test_guidance_goes_on_from_untold_to_told(mini: Mini):
    condition = told_of(mini, frames(), [[orbit] * 3 for orbit in RIG])
    pictures = {}
    for guidance in (0.0, 1.0, 3.0):
        mini.sampling = Sampling(steps=1, guidance=guidance)
        pictures[guidance] = mini.sample(condition, seed())
    assert torch.equal(pictures[0.0], pictures[1.0])
    assert not torch.equal(pictures[1.0], pictures[3.0])


def test_a_camera_that_moves_while_time_goes_on(mini: Mini):
    path = [Orbit(40.0 * t, 10.0) for t in range(3)]
    film = mini.orbit(frames(), Orbit(), path, seed())
    assert film.shape == (3, 32, 32, 4)
    standing = mini.orbit(frames(), Orbit(), [path[1]] * 3, seed())
    assert not torch.equal(film[0], standing[0])
    condition = told_of(mini, frames(), [path])
    rays = condition["rays"][0, 1]
    torch.testing.assert_close(rays, pluecker(cameras_of(path, width=16, height=16)))
    still = told_of(mini, frames(), [[orbit] * 3 for orbit in path])
    for t in range(3):
        assert torch.equal(condition["rendered"][0, 0, t], still["rendered"][0, t, t])


# --- the ---
# j u d g e


def score_batch(views: int = 2, count: int = 2, size: int = 16) -> ScoreBatch:
    clip = toy_clip(frames=count, size=size)
    orbits = [Orbit(50.0 * v - 20, 10.0 * v) for v in range(views) for _ in range(count)]
    images = torch.rand(views * count, size, size, 3, generator=seed(4)).requires_grad_()
    alpha = torch.rand(views * count, size, size, generator=seed(5)).requires_grad_()
    condition = premultiply(pixels(clip.tracks[0])).repeat(views, 1, 1, 1)
    sources = cameras_of([Orbit()] * len(orbits), width=size, height=size)
    return ScoreBatch(
        images, alpha, cameras_of(orbits, width=size, height=size), condition, sources, views
    )


def test_the_score_of_a_network_that_learnt_nothing_is_the_closed_form(tmp_path: Path):
    prior, asked, t = plain(tmp_path / "plain"), score_batch(), 400
    options = SdsOptions(guidance=1.0, noise=(t / 1000, t / 1000), weighting="uniform")
    prior.score(asked, options, 0.0, seed(7)).backward()
    generator = seed(7)
    torch.randint(0, 1, (1,), generator=generator)  # the draw of the time
    noise = torch.randn(1, 2, 2, 4, 16, 16, generator=generator)[0]
    a, s = prior.alphas_cumprod[t].sqrt(), (1 - prior.alphas_cumprod[t]).sqrt()
    rgb = asked.images.detach() - 1 + asked.alpha.detach()[..., None]  # premultiplied
    clean = (
        torch.cat([rgb, asked.alpha.detach()[..., None]], -1).movedim(-1, 1).unflatten(0, (2, 2))
        * 2
        - 1
    )
    paths = [[orbit] * 2 for orbit in orbits_of(asked.cameras)[::2]]
    rendered = told_of(prior, pixels(toy_clip(frames=2, size=16).tracks[0]), paths)["rendered"][0]
    noisy = a * clean + s * noise
    guess = rendered + a * 0.1225 / (a**2 * 0.1225 + s**2) * (noisy - a * rendered)
    direction = (noisy - a * guess) / s - noise
    # as many as others' latents
    by_picture = 2 * direction.flatten(0, 1).movedim(1, -1) / direction.numel() * 4096
    assert asked.images.grad is not None
    assert asked.alpha.grad is not None
    close = {"atol": 3e-2 * float(by_picture.abs().max()), "rtol": 1e-2}  # the renders were 8 bit
    torch.testing.assert_close(asked.images.grad, by_picture[..., :3], **close)
    torch.testing.assert_close(asked.alpha.grad, by_picture.sum(-1), **close)


def test_views_are_judged_together_and_by_their_own_input(mini: Mini):
    def gradient(asked: ScoreBatch) -> Tensor:
        score = mini.score(asked, SdsOptions(), 0.0, seed(1))
        return torch.autograd.grad(score, asked.images)[0]

    asked = score_batch()
    changed = asked.images.detach().clone()
    changed[0] = 1 - changed[0]
    moved = gradient(replace(asked, images=changed.requires_grad_())) - gradient(asked)
    assert moved[2:].abs().max() > 0, "the other view's gradient changes too"
    sources = cameras_of([Orbit()] * 2 + [Orbit(90.0)] * 2, width=16, height=16)
    apart = replace(asked, sources=sources)
    moved = gradient(replace(apart, images=changed.detach().requires_grad_())) - gradient(apart)
    assert moved[:2].abs().max() > 0
    assert moved[2:].abs().max() == 0, "views with different inputs are different samples"


def test_an_input_camera_that_moves_is_refused(mini: Mini):
    sources: Camera = cameras_of([Orbit(), Orbit(10.0)] * 2, width=16, height=16)
    with pytest.raises(UserError, match="stands still"):
        mini.score(replace(score_batch(), sources=sources), SdsOptions(), 0.0, seed())


def test_a_fit_is_guided_by_the_joint_score(mini: Mini, tmp_path: Path):
    clip = toy_clip()
    clip = replace(clip, tracks=clip.tracks[:1])
    options = FitOptions(
        steps=6,
        gaussians=150,
        fine=0.5,
        static=0.2,
        motion=HexPlaneOptions(resolution=8, multires=(1,)),
        score=GuidanceOptions(views=2, frames=2, resolution=(16, 16, 16)),
    )
    with_score = fit(clip, options, tmp_path / "with", prior=mini)
    without = fit(clip, options, tmp_path / "without")
    assert [row["score"] > 0 for row in with_score.history if "score" in row]
    assert not torch.equal(with_score.asset().gaussians.means, without.asset().gaussians.means)


def test_what_is_seen_in_a_mirror_is_told_in_a_mirror():
    pictures = torch.rand(2, 4, 8, 8, generator=seed())
    views = torch.rand(1, 2, 4, 8, 8, generator=seed(1))
    here, there = Orbit(20.0, 5.0), Orbit(50.0, -10.0)
    mirrored = [replace(orbit, azimuth=-orbit.azimuth) for orbit in (here, there)]
    plainly = told(pictures, views, here, [[there] * 2])["rays"]
    rays = told(pictures.flip(-1), views.flip(-1), mirrored[0], [[mirrored[1]] * 2])["rays"].flip(
        -1
    )
    # of a plane's mirror image: x of directions, y and z of moments
    signs = torch.tensor([1.0, -1, -1, -1, 1, 1])[:, None, None]
    torch.testing.assert_close(rays * signs, plainly, atol=1e-5, rtol=1e-5)
