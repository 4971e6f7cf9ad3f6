"""MVDream and ImageDream as judges: rings of four views, of one frame or of several together."""

import json
import math
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_multiview import mvdream_weights, write_mvdream
from torch import Tensor
from toys import toy_clip, write_clip

from gs4d.clip import Orbit, cameras_of
from gs4d.errors import UserError
from gs4d.guidance import GuidanceOptions, open_score_prior, sample_views
from gs4d.prior import ScoreBatch, ScorePrior, mvdream
from gs4d.prior.networks import Place
from gs4d.prior.sds import Denoiser, SdsOptions

ROOT = Path(__file__).parent.parent
ROSE = SdsOptions(prompt="a rose", guidance=2.0, noise=(0.4, 0.4), latents="mean")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mvdream, "SIDE", 16)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    kinds = {"mvdream": False, "imagedream": True}
    return {
        n: write_mvdream(place / n, mvdream_weights(pictures=p), pictures=p)
        for n, p in kinds.items()
    }


def opened(folders: dict[str, Path], name: str, **place: Any) -> Any:
    prior = open_score_prior(
        f"{name}:{folders[name]}", GuidanceOptions(sds=ROSE, place=Place(**place))
    )
    assert isinstance(prior, ScorePrior)
    assert isinstance(prior, Denoiser)
    return prior


def score_batch(frames: int = 1, turn: float = 0.0, seed: int = 0) -> ScoreBatch:
    """Four views of some frames, the first of each frame's condition at azimuth ``turn``."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4 * frames, 16, 16, 3, generator=generator).requires_grad_()
    condition = torch.rand(frames, 16, 16, 4, generator=generator)
    condition[..., :3] *= condition[..., 3:]
    orbits = [Orbit(30.0 + 90 * v + turn, 10.0) for v in range(4) for _ in range(frames)]
    sources = cameras_of([Orbit(turn)] * (4 * frames), width=16, height=16)
    alpha = torch.ones(images.shape[:3])
    return ScoreBatch(
        images,
        alpha,
        cameras_of(orbits, width=16, height=16),
        condition.repeat(4, 1, 1, 1),
        sources,
        4,
    )


def verdict(
    prior: Any, asked: ScoreBatch, options: SdsOptions = ROSE, seed: int = 1
) -> tuple[Tensor, Tensor]:
    score = prior.score(asked, options, 0.0, torch.Generator().manual_seed(seed))
    return score.detach(), torch.autograd.grad(score, asked.images)[0]


@pytest.mark.parametrize("name", ["mvdream", "imagedream"])
@pytest.mark.parametrize("frames", [1, 2])
def test_the_gradient_is_that_of_the_published_network(
    folders: dict[str, Path], name: str, frames: int
):
    """w(t) (guided noise - noise) from direct calls of the UNet, carried back through the
    autoencoder.
    """
    prior, asked = opened(folders, name), score_batch(frames)
    nets = prior.networks
    _, found = verdict(prior, asked)
    generator = torch.Generator().manual_seed(1)
    torch.randint(0, 1, (1,), generator=generator)
    scale = nets.vae.config.scaling_factor
    latents = nets.vae.encode(2 * asked.images.movedim(-1, 1) - 1).latent_dist.mean * scale
    rows = latents.unflatten(0, (4, frames)).transpose(0, 1)  # frames, views
    noise = torch.randn(1, *rows.shape, generator=generator)[0]
    abar, t = prior.alphas_cumprod[400], torch.tensor(400)
    numbers = mvdream.camera_numbers(asked.cameras).unflatten(0, (4, frames)).transpose(0, 1)
    with torch.no_grad():
        noisy = abar.sqrt() * rows + (1 - abar).sqrt() * noise
        guesses = []
        for text, seen in ((prior.avoid, False), ("a rose, 3d asset", True)):
            tokens = prior._text(text).expand(frames, -1, -1)
            x, cameras = noisy, numbers
            if name == "imagedream":
                pictures = (
                    asked.condition[:frames, ..., :3] + 1 - asked.condition[:frames, ..., 3:]
                ).movedim(-1, 1)
                tokens = torch.cat([tokens, prior._tokens(pictures)[int(seen)]], 1)
                shown = nets.vae.encode(2 * pictures - 1).latent_dist.mean * scale * seen
                x, cameras = (
                    torch.cat([x, shown[:, None]], 1),
                    torch.cat([cameras, torch.zeros(frames, 1, 16)], 1),
                )
            n = x.shape[1]
            told = tokens[:, None].expand(-1, n, -1, -1).flatten(0, 1)
            guess = nets.unet(
                x.flatten(0, 1), t.expand(n * frames), told, cameras.flatten(0, 1), n, frames
            )
            guesses.append(guess.unflatten(0, (frames, n))[:, :4])
        empty, wanted = guesses
        weighted = (1 - abar) * (empty + 2 * (wanted - empty) - noise)
    expected = torch.autograd.grad((rows * weighted).sum() / (4 * frames), asked.images)[0]
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-3)
    assert found.abs().max() > 0


def test_each_view_is_judged_with_the_others_and_each_frame_with_the_first(
    folders: dict[str, Path],
):
    prior, asked = opened(folders, "mvdream"), score_batch(2)
    _, before = verdict(prior, asked)
    changed = asked.images.detach().clone()
    changed[0] = 1 - changed[0]  # view 0 of the first frame
    _, after = verdict(
        prior,
        ScoreBatch(
            changed.requires_grad_(), asked.alpha, asked.cameras, asked.condition, asked.sources, 4
        ),
    )
    change = (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
    assert change.min() > 1e-5  # pictures are views x frames: all of both frames feel it


def test_the_words_and_the_picture_matter(folders: dict[str, Path]):
    for name, words in (("mvdream", True), ("imagedream", False)):
        prior, asked = opened(folders, name), score_batch()
        score, _ = verdict(prior, asked)
        assert not torch.equal(
            score,
            verdict(
                prior, asked, SdsOptions(prompt="a", guidance=2.0, noise=(0.4, 0.4), latents="mean")
            )[0],
        )
        other = ScoreBatch(
            asked.images, asked.alpha, asked.cameras, asked.condition.flip(1), asked.sources, 4
        )
        assert torch.equal(score, verdict(prior, other)[0]) == words
    negative = SdsOptions(prompt="a rose", variant="nfsd", noise=(0.4, 0.4), latents="mean")
    assert verdict(opened(folders, "mvdream"), score_batch(), negative)[1].abs().max() > 0


@pytest.mark.parametrize("name", ["mvdream", "imagedream"])
def test_guidance_leads_away_from_the_negative_prompt(folders: dict[str, Path], name: str):
    prior, asked = opened(folders, name), score_batch()

    def pull(negative: str | None) -> Tensor:
        return verdict(prior, asked, replace(ROSE, negative_prompt=negative))[1]

    authors = {
        "mvdream": "ugly, bad anatomy, blurry, pixelated obscure",
        "imagedream": "uniform low no texture ugly",
    }
    assert prior.avoid.startswith(authors[name])
    assert torch.equal(pull(None), pull(prior.avoid))
    assert not torch.equal(pull(None), pull(""))
    assert not torch.equal(pull("flat"), pull(""))


def test_the_front_is_where_the_input_camera_stands(folders: dict[str, Path]):
    prior = opened(folders, "imagedream")
    straight, turned = (verdict(prior, score_batch(turn=turn))[1] for turn in (0.0, 70.0))
    torch.testing.assert_close(straight, turned, atol=1e-4 * float(straight.abs().max()), rtol=1e-3)


def test_half_floats_and_offloading_change_little(folders: dict[str, Path]):
    _, pull = verdict(opened(folders, "imagedream"), score_batch())
    for place, slack in (
        ({"device": "cpu", "dtype": "bfloat16"}, 0.2),
        ({"offload": True, "vae_slicing": True}, 1e-4),
    ):
        _, other = verdict(opened(folders, "imagedream", **place), score_batch())
        assert (other - pull).norm() < slack * pull.norm()


def test_rings_are_asked_for():
    options = GuidanceOptions(views=5, frames=2, elevation=(5.0, 40.0), anchors=0.5)
    sample = sample_views(
        toy_clip(frames=4, views=4),
        options,
        0.0,
        True,
        torch.Generator().manual_seed(0),
        views_per_ring=4,
    )
    assert sample.views == 8  # whole rings
    assert sample.frames == sample.frames[:2] * 8
    centers = sample.cameras.centers.view(2, 4, 2, 3)
    assert torch.equal(centers[:, :, 0], centers[:, :, 1])
    for ring in centers[:, :, 0]:
        azimuth = torch.atan2(ring[:, 0], ring[:, 2]).rad2deg()
        torch.testing.assert_close(
            (azimuth - azimuth[0]) % 360, torch.tensor([0.0, 90, 180, 270]), atol=1e-3, rtol=0
        )
        assert ring[:, 1].std() < 1e-5
        assert math.sin(math.radians(5)) * 1.5 <= ring[0, 1] <= math.sin(math.radians(40)) * 1.5
    assert not torch.equal(centers[0], centers[1])


def test_a_judge_that_reads_wants_a_sentence(folders: dict[str, Path]):
    with pytest.raises(
        UserError,
        match=r"judges by a sentence: say what the clip shows, as in --fit.score.sds.prompt",
    ):
        open_score_prior(f"mvdream:{folders['mvdream']}", GuidanceOptions())
    assert not open_score_prior(
        f"imagedream:{folders['imagedream']}", GuidanceOptions()
    ).needs_prompt


def test_a_whole_run_is_guided_by_rings(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    write_clip(tmp_path / "data", toy_clip(views=0, size=24))
    arguments = (
        "--configs arguments/quick.py -e toy --fit.steps 6 --fit.fine 0.5 --fit.gaussians 120 "
        "--fit.motion.resolution 8 "
        "--fit.motion.multires 1 --fit.score.frames 2 --fit.score.resolution 16 16 16 "
        "--export.width 16 --export.height 16 --export.turntable_frames 2"
    ).split()
    where = ["--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
    where += ["--prior", f"mvdream:{folders['mvdream']}", "--fit.score.sds.prompt", "a rose"]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *where])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path("train.py", run_name="__main__")
    said = capsys.readouterr()
    assert stop.value.code == 0, said.err
    report = json.loads((tmp_path / "out" / "toy" / "report.json").read_text())
    assert report["history"][-1]["score"] > 0
    assert (
        "OpenRAIL" in report["weights"][0]["licence"]
        or "Open RAIL" in report["weights"][0]["licence"]
    )
