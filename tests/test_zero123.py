"""Zero123 with its true networks at tiny size, in the layouts in which people publish it."""

import json
import math
import os
import re
import runpy
import shutil
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ldm_layout
import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from toys import toy_clip, write_clip
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from gs4d.clip import Orbit, cameras_of
from gs4d.errors import UserError
from gs4d.io.weights import read_training_checkpoint
from gs4d.prior import ScoreBatch, ScorePrior, ViewPrior, draw_clip, ldm, open_prior
from gs4d.prior.networks import Place, build, renewed
from gs4d.prior.sampling import latents_of, resized_for_score
from gs4d.prior.sds import Denoiser, SdsOptions
from gs4d.prior.white import cut_from_white
from gs4d.prior.zero123 import NOISES, Networks, Zero123, open_stable_zero123, open_zero123

ROOT = Path(__file__).parent.parent
TOKEN = 24
UNET = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": TOKEN,
    "attention_head_dim": 8,
}
VAE = {
    "block_out_channels": [32, 32],
    "layers_per_block": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "latent_channels": 4,
}
CLIP = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": TOKEN,
    "hidden_act": "quick_gelu",
}


@pytest.fixture(scope="module")
def networks() -> Networks:
    torch.manual_seed(0)
    parts = Networks(
        unet=UNet2DConditionModel.from_config(UNET),
        vae=AutoencoderKL.from_config(VAE),
        image_encoder=CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP)),
        projection=nn.Linear(TOKEN + 4, TOKEN),
        scheduler=DDIMScheduler.from_config(NOISES),
    )
    for part in (parts.unet, parts.vae, parts.image_encoder, parts.projection):
        part.eval().requires_grad_(False)
    return parts


def save(folder: Path, parts: Networks, layout: str) -> Path:
    """Writes a model as ashawkey, bennyguo or kxic did.

    Which files, what they are called, what is in them.
    """
    parts.scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Zero123Pipeline"}))
    for name, part in (
        ("unet", parts.unet),
        ("vae", parts.vae),
        ("image_encoder", parts.image_encoder),
    ):
        part.save_pretrained(folder / name)
        stem = "model" if name == "image_encoder" else "diffusion_pytorch_model"
        path = folder / name / f"{stem}.safetensors"
        weights = load_file(path)
        if layout == "kxic":
            path.unlink()
            if name == "image_encoder":
                # older versions kept it
                weights["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
                stem = "pytorch_model"
            torch.save(weights, folder / name / f"{stem}.bin")
        elif layout == "bennyguo":
            save_file(
                {k: v.half() for k, v in weights.items()},
                folder / name / f"{stem}.fp16.safetensors",
            )
            save_file({k: torch.zeros_like(v) for k, v in weights.items()}, path)
            save_file(weights, folder / name / f"{stem}.fp16_ema.safetensors")
    place = folder / ("cc_projection" if layout == "kxic" else "clip_camera_projection")
    place.mkdir()
    state = parts.projection.state_dict()
    if layout == "kxic":
        (place / "config.json").write_text(
            json.dumps({"_class_name": "CCProjection", "_diffusers_version": "0.18.2"})
        )
        torch.save(
            {f"projection.{k}": v for k, v in state.items()}, place / "diffusion_pytorch_model.bin"
        )
    else:
        record = {
            "_class_name": "CLIPCameraProjection",
            "additional_embeddings": 4,
            "embedding_dim": TOKEN,
        }
        (place / "config.json").write_text(json.dumps(record))
        save_file(
            {f"proj.{k}": v for k, v in state.items()},
            place / "diffusion_pytorch_model.safetensors",
        )
        (place / "zero123.py").write_text("raise SystemExit('remote code was run')")
    return folder


@pytest.fixture(scope="module")
def folder(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "zero123 größer", networks, "ashawkey")


def score_batch(count: int = 2, size: int = 16) -> ScoreBatch:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(count, size, size, 3, generator=generator).requires_grad_()
    condition = torch.rand(count, 20, 20, 4, generator=generator)
    condition[..., :3] *= condition[..., 3:]
    orbits = [Orbit(50.0 * i - 20, 10.0 * i, 1.5 + 0.1 * i) for i in range(count)]
    sources = cameras_of([Orbit()] * count, width=20, height=20)
    return ScoreBatch(
        images,
        torch.ones(count, size, size),
        cameras_of(orbits, width=size, height=size),
        condition,
        sources,
        count,
    )


def verdict(prior: Zero123, options: SdsOptions | None = None) -> tuple[Tensor, Tensor]:
    """Score of a trial, and its gradient."""
    asked = score_batch()
    score = prior.score(asked, options or SdsOptions(), 0.0, torch.Generator().manual_seed(1))
    return score.detach(), torch.autograd.grad(score, asked.images)[0]


def assert_same(a: Zero123, b: Zero123) -> None:
    for x, y in zip(verdict(a), verdict(b), strict=True):
        assert torch.equal(x, y)
    assert verdict(a)[1].abs().max() > 0


@pytest.mark.parametrize("layout", ["ashawkey", "bennyguo", "kxic"])
def test_published_folders_load_to_the_same_bits(networks: Networks, tmp_path: Path, layout: str):
    save(tmp_path / layout, networks, layout)
    prior = open_prior(f"zero123:{tmp_path / layout}", "views")
    assert isinstance(prior, ScorePrior)
    assert isinstance(prior, ViewPrior)
    assert isinstance(prior, Denoiser)
    assert_same(prior, Zero123(networks, Place(), "zero123", stable=False))


def tiny_checkpoint() -> dict[str, Tensor]:
    shapes = (
        ldm_layout.unet(32, (1, 2), 1, (1,), TOKEN),
        ldm_layout.vae(32, (1, 1), 1),
        ldm_layout.clip_visual(64, 1, 14, 28, TOKEN),
    )
    generator = torch.Generator().manual_seed(8)
    layout = ldm_layout.zero123(shapes, TOKEN)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in layout.items()}


def with_lightning(weights: dict[str, Tensor], path: Path) -> Path:
    """Saves as PyTorch Lightning 1.4 did: with the class of a callback among the keys."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback  # type: ignore[attr-defined]
    packages = {
        name: types.ModuleType(name)
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks")
    }
    sys.modules |= {**packages, module.__name__: module}
    try:
        state = {
            callback: {
                "best_model_score": torch.tensor(0.1),
                "monitor": "val/loss",
                "seen": callback(),
            }
        }
        torch.save(
            {"state_dict": weights, "callbacks": state, "epoch": 3, "global_step": 105000}, path
        )
    finally:
        for name in (*packages, module.__name__):
            del sys.modules[name]
    return path


@pytest.mark.parametrize("averages", [True, False])
def test_the_original_checkpoint_is_what_diffusers_makes_of_it(tmp_path: Path, averages: bool):
    weights = tiny_checkpoint()
    if not averages:
        weights = {
            name: value for name, value in weights.items() if not name.startswith("model_ema")
        }
    prior = open_prior(f"zero123:{with_lightning(weights, tmp_path / 'zero123-xl.ckpt')}", "views")
    assert {name for name in sys.modules if name.startswith("pytorch_lightning")} == set()
    found = prior.networks
    if averages:  # diffusers itself wants a hundred of them before it believes in averages
        start = "model.diffusion_model."
        averaged = {
            k: weights["model_ema." + k.removeprefix("model.").replace(".", "")]
            for k in weights
            if k.startswith(start)
        }
        weights = {**weights, **averaged}
    pieces = [
        (
            found.unet,
            convert_ldm_unet_checkpoint(
                dict(weights), {**UNET, "num_class_embeds": None, "class_embed_type": None}
            ),
        ),
        (found.vae, convert_ldm_vae_checkpoint(dict(weights), VAE)),
    ]
    for network, expected in pieces:
        state = network.state_dict()
        assert state.keys() == expected.keys()
        assert [
            name
            for name in state
            if not torch.equal(state[name], expected[name].view_as(state[name]))
        ] == []
    assert torch.equal(found.projection.weight, weights["cc_projection.weight"])
    assert (prior.side, found.vae.config.scaling_factor) == (64, 0.18215)


def test_openais_clip_is_converted_to_a_network_that_computes_the_same(tmp_path: Path):
    torch.manual_seed(2)
    shapes = ldm_layout.clip_visual(128, 2, 7, 14, TOKEN)
    weights = {name: 0.2 * torch.randn(shape) for name, shape in shapes.items()}
    config, renamed = ldm.clip_vision(weights)
    network = build("transformers", "CLIPVisionModelWithProjection", config, "here")
    network.load_state_dict(renamed, assign=True)
    pictures = torch.randn(2, 3, 14, 14)

    def norm(x: Tensor, name: str) -> Tensor:
        return nn.functional.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"]
        )

    # The forward pass of OpenAI's VisionTransformer, from its tensors alone.
    x = nn.functional.conv2d(pictures, weights["conv1.weight"], stride=7).flatten(2).transpose(1, 2)
    x = (
        torch.cat([weights["class_embedding"].expand(2, 1, -1), x], 1)
        + weights["positional_embedding"]
    )
    x = norm(x, "ln_pre")
    for i in range(2):
        at = f"transformer.resblocks.{i}"
        y = norm(x, f"{at}.ln_1").transpose(0, 1)
        y, _ = nn.functional.multi_head_attention_forward(
            y,
            y,
            y,
            128,
            2,
            weights[f"{at}.attn.in_proj_weight"],
            weights[f"{at}.attn.in_proj_bias"],
            None,
            None,
            False,
            0.0,
            weights[f"{at}.attn.out_proj.weight"],
            weights[f"{at}.attn.out_proj.bias"],
            training=False,
        )
        x = x + y.transpose(0, 1)
        y = nn.functional.linear(
            norm(x, f"{at}.ln_2"), weights[f"{at}.mlp.c_fc.weight"], weights[f"{at}.mlp.c_fc.bias"]
        )
        y = y * torch.sigmoid(1.702 * y)
        x = x + nn.functional.linear(
            y, weights[f"{at}.mlp.c_proj.weight"], weights[f"{at}.mlp.c_proj.bias"]
        )
    expected = norm(x[:, 0], "ln_post") @ weights["proj"]
    torch.testing.assert_close(
        network(pixel_values=pictures).image_embeds, expected, atol=1e-4, rtol=1e-4
    )


def test_the_published_checkpoint_fills_the_full_size_networks():
    """Every tensor of the networks in zero123-xl.ckpt is used once, and none is missing.

    Nothing is allocated.
    """
    # parameters, as counted by their publishers
    expected = {"unet": 859_532_484, "vae": 83_653_863, "clip": 303_966_208}
    pieces: list[tuple[str, ldm_layout.Shapes, Callable[..., Any], str, str]] = [
        ("unet", ldm_layout.unet(), ldm.unet, "diffusers", "UNet2DConditionModel"),
        ("vae", ldm_layout.vae(), ldm.vae, "diffusers", "AutoencoderKL"),
        (
            "clip",
            ldm_layout.clip_visual(),
            ldm.clip_vision,
            "transformers",
            "CLIPVisionModelWithProjection",
        ),
    ]
    for name, shapes, convert, library, kind in pieces:
        config, renamed = convert(
            {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        )
        network = build(library, kind, config, name)
        state = network.state_dict()
        assert {key: value.shape for key, value in renamed.items()} == {
            key: value.shape for key, value in state.items()
        }
        split = sum(".attn.in_proj_" in key for key in shapes)
        assert len(renamed) == len(shapes) + 2 * split
        assert sum(math.prod(shape) for shape in shapes.values()) == expected[name]
    text_to_image = ldm_layout.unet(channels=(4, 4))
    # Stable Diffusion 1
    assert sum(math.prod(shape) for shape in text_to_image.values()) == 859_520_964


def test_published_descriptions_are_the_full_size_networks():
    """The sizes in the folders of ashawkey, bennyguo and kxic, against those that are read off the
    original checkpoint.
    """
    unet, _ = ldm.unet({k: torch.empty(s, device="meta") for k, s in ldm_layout.unet().items()})
    assert unet["block_out_channels"] == [320, 640, 1280, 1280]
    assert unet["down_block_types"] == ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    assert unet["up_block_types"] == ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    assert [
        unet[k]
        for k in ("layers_per_block", "cross_attention_dim", "attention_head_dim", "in_channels")
    ] == [2, 768, 8, 8]
    clip, _ = ldm.clip_vision(
        {k: torch.empty(s, device="meta") for k, s in ldm_layout.clip_visual().items()}
    )
    sizes = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "image_size",
        "projection_dim",
    )
    assert [clip[k] for k in sizes] == [1024, 4096, 24, 16, 224, 768]


def test_old_names_of_the_autoencoders_attention_are_understood():
    with torch.device("meta"):
        names = AutoencoderKL.from_config(VAE).state_dict()
    new = {name: torch.zeros(1) for name in names}
    old = {
        name.replace("to_q", "query")
        .replace("to_k", "key")
        .replace("to_v", "value")
        .replace("to_out.0", "proj_attn"): value
        for name, value in new.items()
    }
    assert old.keys() != new.keys()
    assert renewed(old).keys() == renewed(new).keys() == new.keys()


def test_the_camera_is_told_as_the_model_was_trained(networks: Networks):
    source = cameras_of([Orbit(20.0, 10.0, 1.5)] * 2, width=8, height=8)
    target = cameras_of([Orbit(50.0, 40.0, 1.8), Orbit(-70.0, -15.0, 1.5)], width=8, height=8)
    first = torch.deg2rad(torch.tensor([-30.0, 25.0]))  # polar angles fall as elevations grow
    turn = torch.deg2rad(torch.tensor([30.0, -90.0]))
    plain = Zero123(networks, Place(), "zero123", stable=False).turns(source, target)
    torch.testing.assert_close(
        plain,
        torch.stack([first, turn.sin(), turn.cos(), torch.tensor([0.3, 0.0])], 1),
        atol=2e-6,
        rtol=0,
    )
    stable = Zero123(networks, Place(), "zero123", stable=True).turns(source, target)
    torch.testing.assert_close(stable[:, :3], plain[:, :3])
    torch.testing.assert_close(stable[:, 3], torch.deg2rad(torch.tensor([80.0, 80.0])))


def test_azimuths_run_as_in_the_data_of_zero123(networks: Networks):
    """Its azimuth is atan2(y, x) with z up.

    Our world turned so that z is up: (x, y, z) -> (z, x, y).
    """
    orbits = [Orbit(a, e) for a, e in ((0.0, 0.0), (35.0, 20.0), (130.0, -40.0), (-100.0, 60.0))]
    cameras = cameras_of(orbits, width=8, height=8)
    y, z, x = cameras.centers.unbind(1)
    polar, azimuth = torch.atan2(torch.hypot(x, y), z), torch.atan2(y, x)
    # a rotation, no mirror
    assert torch.linalg.det(torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])) == 1
    turns = Zero123(networks, Place(), "zero123", stable=False).turns(
        cameras.select([0, 0, 0]), cameras.select([1, 2, 3])
    )
    expected = torch.stack(
        [polar[1:] - polar[0], (azimuth[1:] - azimuth[0]).sin(), (azimuth[1:] - azimuth[0]).cos()],
        1,
    )
    torch.testing.assert_close(turns[:, :3], expected, atol=1e-5, rtol=0)


def test_the_unet_is_told_the_input_and_nothing_by_zeros(networks: Networks):
    prior = Zero123(networks, Place(), "zero123", stable=False)
    pictures = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    turns = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]])
    told = prior.conditions(pictures, turns)
    x = pictures.movedim(-1, 1)
    torch.testing.assert_close(
        told.wanted["latents"], networks.vae.encode(2 * x - 1).latent_dist.mean
    )
    small = nn.functional.interpolate(x, (28, 28), mode="bicubic", align_corners=True)
    mean, std = (
        torch.tensor([0.48145466, 0.4578275, 0.40821073]),
        torch.tensor([0.26862954, 0.26130258, 0.27577711]),
    )
    embedding = networks.image_encoder(
        (small - mean[:, None, None]) / std[:, None, None]
    ).image_embeds
    token = networks.projection(torch.cat([embedding, turns], 1))[:, None]
    torch.testing.assert_close(told.wanted["token"], token)
    assert {name: value.shape for name, value in told.empty.items()} == {
        name: v.shape for name, v in told.wanted.items()
    }
    assert all(value.abs().max() == 0 for value in told.empty.values())


def test_the_score_pulls_through_the_autoencoder(networks: Networks):
    """The gradient by the pictures is that of the latents, w(t) d, carried back through the
    encoder.
    """
    prior, asked, options = (
        Zero123(networks, Place(), "zero123", stable=False),
        score_batch(),
        SdsOptions(noise=(0.5, 0.5), guidance=2.0, latents="mean"),
    )
    score = prior.score(asked, options, 0.0, torch.Generator().manual_seed(6))
    found = torch.autograd.grad(score, asked.images)[0]
    generator = torch.Generator().manual_seed(6)
    torch.randint(0, 1, (2,), generator=generator)
    latents = (
        networks.vae.encode(2 * asked.images.movedim(-1, 1) - 1).latent_dist.mean
        * networks.vae.config.scaling_factor
    )
    noise = torch.randn(latents.shape, generator=generator)
    over_white = asked.condition[..., :3] + 1 - asked.condition[..., 3:]
    told = prior.conditions(over_white, prior.turns(asked.sources, asked.cameras))
    abar, t = prior.alphas_cumprod[500], torch.tensor([500, 500])
    with torch.no_grad():
        noisy = abar.sqrt() * latents + (1 - abar).sqrt() * noise
        empty, wanted = (
            networks.unet(torch.cat([noisy, c["latents"]], 1), t, c["token"]).sample
            for c in (told.empty, told.wanted)
        )
        weighted = (1 - abar) * (empty + 2 * (wanted - empty) - noise)
    expected = torch.autograd.grad((latents * weighted).sum() / len(latents), asked.images)[0]
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-3)


def test_the_latents_are_a_sample_of_the_posterior_as_the_authors_take_it(networks: Networks):
    prior = Zero123(networks, Place(), "zero123", stable=False)
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = prior.encode(pictures, torch.Generator().manual_seed(3))
    parameters = networks.vae.encode(2 * pictures - 1).latent_dist
    noise = torch.randn(parameters.mean.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, parameters.mean + parameters.std * noise)
    assert torch.autograd.grad(found.sum(), pictures)[0].abs().max() > 0
    torch.testing.assert_close(prior.encode(pictures), parameters.mean)
    (default, _), (mean, _) = verdict(prior), verdict(prior, SdsOptions(latents="mean"))
    assert not torch.equal(default, mean)
    assert SdsOptions().latents == "sample"


@pytest.mark.parametrize("size", [16, 24, 32, 40])
def test_renders_are_reduced_as_threestudio_does_it(size: int):
    renders = torch.rand(2, size, size, 3, generator=torch.Generator().manual_seed(0))
    wanted = nn.functional.interpolate(
        renders.movedim(-1, 1), (16, 16), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(resized_for_score(renders, 16), wanted, atol=0, rtol=0)


def test_pictures_with_their_channels_last_keep_their_digits():
    """Group norms of torch lose them on a CPU where pictures are nearly of one colour, as those
    over white are.
    """
    torch.manual_seed(0)
    vae = AutoencoderKL.from_config(VAE).eval()
    for layer in vae.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            # means that are large beside deviations, as published weights have
            nn.init.normal_(layer.bias, std=2.0)
    pictures = 1 - 0.01 * torch.rand(1, 64, 64, 3).movedim(-1, 1)
    assert not pictures.is_contiguous()
    with torch.no_grad():
        found = latents_of(vae, pictures, Place(device="cpu"))
        exact = vae.double().encode(2 * pictures.double() - 1).latent_dist.mean
    scale = exact.abs().max()
    assert (found - exact).abs().max() < 2e-5 * scale


@pytest.mark.parametrize(
    ("place", "slack"),
    [
        (Place(vae_slicing=True), 1e-4),
        (Place(vae_tiling=True), 1e-4),
        (Place(offload=True), 1e-4),
        (Place(device="cpu", dtype="bfloat16"), 0.15),
        (Place(device="cpu", dtype="float16"), 0.02),
    ],
)
def test_ways_to_save_memory_change_little(folder: Path, place: Place, slack: float):
    (score, pull), (_, other) = (
        verdict(open_zero123(str(folder), Place())),
        verdict(open_zero123(str(folder), place)),
    )
    assert score > 0
    assert (other - pull).norm() < slack * pull.norm()


def test_half_floats_do_not_round_small_gradients_to_zero(folder: Path):
    """A mean over many latents has gradients as small as this one over few."""

    def pull(place: Place) -> Tensor:
        prior, asked = open_zero123(str(folder), place), score_batch()
        score = prior.score(asked, SdsOptions(), 0.0, torch.Generator().manual_seed(1))
        return torch.autograd.grad(1e-3 * score, asked.images)[0]

    full, half = pull(Place(device="cpu")), pull(Place(device="cpu", dtype="float16"))
    assert (half - full).norm() < 0.05 * full.norm()


def test_places_that_are_not_there_are_refused():
    with pytest.raises(UserError, match="Place.device is 'gpu'; give auto, cpu, cuda"):
        Place(device="gpu")
    with pytest.raises(UserError, match=r"no GPU cuda:9.*set place.device to cpu"):
        Place(device="cuda:9").torch_device()


def test_stable_is_known_by_name_or_by_wish(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(folder, tmp_path / "stable-zero123-diffusers")
    assert not open_zero123(str(folder), Place()).stable
    assert "MIT" in capsys.readouterr().out
    stable = open_zero123(str(tmp_path / "stable-zero123-diffusers"), Place())
    assert stable.stable
    assert open_stable_zero123(str(folder), Place()).stable
    assert "non-commercial" in capsys.readouterr().out
    assert "non-commercial" in stable.weights[0]["licence"]


def test_views_are_drawn_where_they_are_wanted(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gs4d.prior.zero123.STEPS", 3)
    prior = open_zero123(str(folder), Place())
    frames = toy_clip(frames=2).tracks[0].images[[0, 1, 0, 0, 1]]
    rig = [Orbit(30.0), Orbit(180.0, 20.0)]
    views = prior.views(frames, Orbit(), rig, torch.Generator().manual_seed(3))
    assert views.images.shape == (2, 5, prior.side, prior.side, 4)
    assert views.orbits == rig
    assert views.confidence.shape == views.images.shape[:-1]
    # Frames of the same picture get the same views, also in different batches; other frames, views
    # and seeds do not.
    assert torch.equal(views.images[:, 0], views.images[:, 2])
    assert not torch.equal(views.images[:, 0], views.images[:, 1])
    assert not torch.equal(views.images[0], views.images[1])
    again = prior.views(frames[:1], Orbit(), rig, torch.Generator().manual_seed(3))
    assert (
        again.images[:, 0].int() - views.images[:, 0].int()
    ).abs().max() <= 1  # batches of another size round differently
    monkeypatch.setattr("gs4d.prior.zero123.STEPS", 1)
    assert [
        round(o.azimuth)
        for o in draw_clip(prior, frames[:1], Orbit(90.0), None, torch.Generator()).orbits[:3]
    ] == [90, 112, 135]


def test_objects_are_cut_from_white():
    image = torch.full((1, 20, 20, 3), 255, dtype=torch.uint8)
    image[0, 0, :, :] = 250  # white that wavers
    image[0, 5:15, 5:15] = torch.tensor([200, 30, 30], dtype=torch.uint8)
    image[0, 8:12, 8:12] = 255  # white that belongs to the object
    image[0, 4, 5:15] = torch.tensor([248, 233, 233], dtype=torch.uint8)  # a rim, one tenth red
    cut = cut_from_white(image)[0]
    assert (cut[[0, 3, 16]][..., 3] == 0).all()
    assert (cut[6:14, 6:14, 3] == 255).all()
    assert torch.equal(cut[9, 9, :3], torch.tensor([255, 255, 255], dtype=torch.uint8))
    assert ((cut[4, 5:15, 3] > 0) & (cut[4, 5:15, 3] < 255)).all()
    shown = cut[..., :3] * (cut[..., 3:] / 255) + 255 - cut[..., 3:]
    assert (shown - image[0]).abs().max() < 6


class Bomb:
    """Pickled, it is a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def break_folder(folder: Path, how: str, bomb: Path) -> None:
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if how == "no unet":
        shutil.rmtree(folder / "unet")
    elif how == "no projection":
        shutil.rmtree(folder / "clip_camera_projection")
    elif how == "no weights":
        unet.unlink()
    elif how == "cut":
        unet.write_bytes(unet.read_bytes()[:5000])
    elif how == "shape":
        weights = load_file(unet)
        weights["conv_in.weight"] = weights["conv_in.weight"][:, :4].contiguous()
        save_file(weights, unet)
    elif how == "missing":
        weights = load_file(unet)
        del weights["mid_block.resnets.1.conv1.bias"]
        save_file(weights, unet)
    elif how == "bomb":
        weights = load_file(unet)
        unet.unlink()
        torch.save({**weights, "x": Bomb(bomb)}, folder / "unet" / "diffusion_pytorch_model.bin")
    elif how == "projection":
        path = folder / "clip_camera_projection" / "diffusion_pytorch_model.safetensors"
        save_file(
            {"proj.weight": torch.zeros(TOKEN, TOKEN + 3), "proj.bias": torch.zeros(TOKEN)}, path
        )
    elif how in ("v", "schedule"):
        change = (
            {"prediction_type": "v_prediction"} if how == "v" else {"beta_schedule": "nonsense"}
        )
        (folder / "scheduler" / "scheduler_config.json").write_text(
            json.dumps({**NOISES, **change})
        )
    else:
        change = {
            "blocks": {"down_block_types": ["Nonsense"] * 2},
            "huge": {"block_out_channels": [32000000, 64000000]},
            "endless": {"layers_per_block": 10**9},
        }
        path = folder / "unet" / "config.json"
        path.write_text(
            "{" if how == "json" else json.dumps({**json.loads(path.read_text()), **change[how]})
        )


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("no unet", "is no Zero123 model: it has no folder unet; give a folder as of ashawkey"),
        ("no projection", "has no folder clip_camera_projection or cc_projection"),
        ("no weights", "unet has no weights"),
        ("cut", r"unet.*cannot be read.*download it again"),
        ("shape", r"unet.*'conv_in.weight' of shape \(32, 4, 3, 3\), wanted \(32, 8, 3, 3\)"),
        ("missing", "lacks the tensor 'mid_block.resnets.1.conv1.bias'"),
        ("bomb", r"unet.*cannot be read"),
        ("projection", "camera projection of .* goes from 27 to 24 numbers, wanted 28 to 24"),
        ("v", "is not of a model that predicts noise"),
        ("schedule", "noise schedule of .* cannot be used"),
        ("json", "unet.*not valid JSON"),
        ("blocks", "config.json does not describe a UNet2DConditionModel"),
        ("endless", "does not describe a UNet2DConditionModel .more than 256 layers"),
        ("huge", r"of shape \(32, 8, 3, 3\), wanted \(32000000, 8, 3, 3\)"),
    ],
)
def test_damaged_folders_are_refused_in_a_sentence(
    folder: Path, tmp_path: Path, how: str, sentence: str
):
    shutil.copytree(folder, tmp_path / "model")
    break_folder(tmp_path / "model", how, tmp_path / "exploded")
    with pytest.raises(UserError, match=sentence) as caught:
        open_zero123(str(tmp_path / "model"), Place())
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "exploded").exists()


def test_a_text_to_image_model_is_not_taken_for_zero123(networks: Networks, tmp_path: Path):
    plain = UNet2DConditionModel.from_config({**UNET, "in_channels": 4})
    save(tmp_path / "model", replace(networks, unet=plain), "ashawkey")
    with pytest.raises(
        UserError, match="has 4 input channels; Zero123's has 8, so this is another model"
    ):
        open_zero123(str(tmp_path / "model"), Place())


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("cut", "cannot be read"),
        ("text", "cannot be read"),
        (
            "bomb",
            "wants to call [a-z]*.mkdir, which is code and was not run; do not trust this file",
        ),
        ("other", r"has no tensors named first_stage_model"),
        ("foreign", "has other tensors below model.diffusion_model. than a Zero123 has"),
        ("shape", r"wanted \(64,"),
        ("numbers", "no state dict of named tensors"),
    ],
)
def test_damaged_checkpoints_are_refused_in_a_sentence(tmp_path: Path, how: str, sentence: str):
    path, weights, bomb = tmp_path / "model.ckpt", tiny_checkpoint(), tmp_path / "exploded"
    beside: dict[Any, Any] = {}
    if how == "bomb":
        beside = {"callbacks": Bomb(bomb)}
    elif how == "other":
        weights = {
            name: value
            for name, value in weights.items()
            if not name.startswith("first_stage_model")
        }
    elif how == "foreign":
        weights["model.diffusion_model.input_blocks.1.0.surprise.weight"] = torch.zeros(1)
    elif how == "shape":
        name = "model_ema.diffusion_modelinput_blocks10emb_layers1weight".replace("10emb", "30emb")
        weights[name] = torch.zeros(3, 3)
    torch.save({"state_dict": {"x": 3} if how == "numbers" else weights, **beside}, path)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    elif how == "text":
        path.write_text("not a checkpoint")
    with pytest.raises(UserError, match=sentence):
        open_zero123(str(path), Place())
    assert not bomb.exists()


def test_what_nobody_has_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="no folder or file of zero123 weights"):
        open_prior(f"zero123:{tmp_path / 'absent'}", "views")
    with pytest.raises(UserError, match="ashawkey/zero123-xl-diffusers are not on this machine"):
        open_prior("zero123", "views")
    with pytest.raises(UserError, match="did you mean 'zero123'"):
        open_prior("zero132:here", "score")
    with pytest.raises(
        UserError, match="'inflate' cannot judge pictures; those that can: mini, zero123"
    ):
        open_prior("inflate", "score")
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(UserError, match="is no checkpoint of Zero123; give a .ckpt file"):
        open_prior(f"zero123:{tmp_path / 'photo.png'}", "views")


def test_tensors_of_a_checkpoint_stay_in_the_file(tmp_path: Path):
    weights = read_training_checkpoint(
        with_lightning({"a": torch.arange(6.0)}, tmp_path / "x.ckpt")
    )
    assert torch.equal(weights["a"], torch.arange(6.0))
    torch.save({"b": torch.ones(2)}, tmp_path / "plain.ckpt")
    assert torch.equal(read_training_checkpoint(tmp_path / "plain.ckpt")["b"], torch.ones(2))


def test_a_whole_run_is_guided_by_the_model(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    write_clip(tmp_path / "data", toy_clip(views=2, size=24))
    arguments = (
        "--configs arguments/quick.py -e toy --fit.steps 10 --fit.fine 0.5 --fit.gaussians 120 "
        "--fit.motion.resolution 8 "
        "--fit.motion.multires 1 --fit.score.views 2 --fit.score.resolution 16 16 16 "
        "--fit.score.anchors 0.4 "
        "--fit.losses.distillation 1 --export.width 16 --export.height 16 "
        "--export.turntable_frames 2"
    ).split()
    where = [
        "--data_dir",
        str(tmp_path / "data"),
        "--output_dir",
        str(tmp_path / "out"),
        "--prior",
        f"zero123:{folder}",
    ]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *where])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path("train.py", run_name="__main__")
    said = capsys.readouterr()
    assert stop.value.code == 0, said.err
    assert "licence of the weights: MIT" in said.out
    assert "fine: 100%" in said.err
    assert re.search(r", score \d+\.\d", said.err)
    report = json.loads((tmp_path / "out" / "toy" / "report.json").read_text())
    assert report["history"][-1]["score"] > 0
    assert report["weights"][0]["name"] == f"zero123:{folder}"
    assert report["config"]["prior"] == f"zero123:{folder}"
    assert "diffusers" in report["versions"]
    page = (tmp_path / "out" / "toy" / "report.html").read_text()
    assert "Score of the prior" in page
    assert "MIT (Columbia University)" in page
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *where[:-2], "--resume"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path("train.py", run_name="__main__")
    assert stop.value.code == 2
    assert "the config changed (prior 'zero123:" in capsys.readouterr().err
