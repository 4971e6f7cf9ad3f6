"""Multi-view models with their true networks at tiny size, and their published names and shapes at
full size.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ldm_layout
import multiview_layout as layout
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from tiny_multiview import (
    STABLE_DIFFUSION_2,
    camera_tensors,
    drawn,
    frames,
    mvdream_weights,
    open_dream,
    open_plus,
    quick,
    syncdreamer_weights,
    write_mvdream,
    write_syncdreamer,
    write_tokenizer,
    write_zero123plus,
    zero123plus_networks,
)
from torch import Tensor, nn

from gs4d.clip import Orbit, cameras_of, syncdreamer_rig
from gs4d.errors import UserError
from gs4d.prior import (
    ViewPrior,
    draw_clip,
    ldm,
    mvdream,
    open_prior,
    syncdreamer,
    volumes,
    zero123plus,
)
from gs4d.prior.networks import Place, build
from gs4d.prior.sampling import Sampling, attend_anchored, fill_exactly


@pytest.fixture(autouse=True)
def coarse_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer cells than SyncDreamer's 32: the tensors of the networks have the same shapes."""
    monkeypatch.setattr(volumes, "CELLS", 8)
    monkeypatch.setattr(volumes, "DEPTHS", 16)


@pytest.fixture(scope="module")
def plus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zero123plus(
        tmp_path_factory.mktemp("models") / "größer plus", zero123plus_networks()
    )


@pytest.fixture(scope="module")
def dream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "image dream"
    return write_mvdream(folder, mvdream_weights(pictures=True), pictures=True)


@pytest.fixture(scope="module")
def sync_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_syncdreamer(tmp_path_factory.mktemp("models") / "syncdreamer-pretrain.ckpt")


# -------------------------------------------------------------------------------------------------
# published names and shapes


def full(family: str) -> tuple[ldm_layout.Shapes, Callable[[dict[str, Tensor], str], Any]]:
    if family == "syncdreamer":
        return layout.syncdreamer(
            ldm_layout.unet(), ldm_layout.vae(), ldm_layout.clip_visual()
        ), syncdreamer.from_checkpoint
    unet, visual = (
        layout.with_cameras(layout.unet_2()),
        ldm_layout.clip_visual(1280, 32, 14, 224, 1024),
    )
    pictures = family == "imagedream"
    unet = layout.with_pictures(unet) if pictures else unet
    return layout.mvdream(
        unet, ldm_layout.vae(), layout.clip_text(), visual if pictures else None
    ), mvdream.from_checkpoint


@pytest.mark.parametrize("family", ["mvdream", "imagedream", "syncdreamer"])
def test_every_tensor_of_the_published_checkpoint_has_one_place(family: str):
    shapes, load = full(family)
    weights = layout.meta_tensors(shapes)
    parts = load(weights, "the checkpoint")
    networks = [part for part in vars(parts).values() if isinstance(part, nn.Module)]
    # nothing was left as it was built
    assert all(p.is_meta for network in networks for p in network.parameters())
    used = sum(p.numel() for network in networks for p in network.parameters())
    idle = [
        k
        for k in shapes
        if k.split(".")[0] in layout.SCHEDULE or k in ("alphas", "poses", "Ks", "azimuth")
    ]
    idle += [
        k
        for k in shapes
        if k.rpartition(".")[2] in ("logit_scale", "text_projection") or ".model.visual.proj" in k
    ]
    if family == "syncdreamer":
        idle.remove("clip_image_encoder.model.visual.proj")
        idle += [
            k
            for k in shapes
            if k.startswith("clip_image_encoder.model.") and "visual" not in k and k not in idle
        ]
    else:
        idle += [k for k in shapes if ".model.transformer.resblocks.23." in k]
    assert used == sum(math.prod(shape) for name, shape in shapes.items() if name not in idle)


@pytest.mark.parametrize("family", ["mvdream", "imagedream", "syncdreamer"])
def test_a_tensor_too_few_or_too_many_or_of_another_shape_is_named(family: str):
    shapes, load = full(family)
    weights = layout.meta_tensors(shapes)
    names = [
        k
        for k in shapes
        if ".middle_block.1." in k
        or ".image_embed." in k
        or ".out_conv1." in k
        or ".mid.attn_1." in k
    ]
    names += [k for k in shapes if "resblocks.0.mlp" in k] + [
        k for k in shapes if "output_conditions.8." in k
    ]
    for name in names[:: len(names) // 2]:
        less = {k: v for k, v in weights.items() if k != name}
        with pytest.raises(UserError, match=r"the checkpoint"):
            load(less, "the checkpoint")
        other = torch.empty(*shapes[name], 2, device="meta")
        with pytest.raises(UserError, match=r"the checkpoint"):
            load({**weights, name: other}, "the checkpoint")
    for name in (
        "model.diffusion_model.input_blocks.0.0.gate",
        "lora.down",
        "first_stage_model.loss.logvar",
    ):
        if name.startswith("first_stage") and family == "imagedream":
            continue
        with pytest.raises(UserError, match=name.rpartition(".")[2]):
            load({**weights, name: torch.empty(3, device="meta")}, "the checkpoint")


def test_published_sizes():
    """Sizes of the files on the hub and in the authors' drives, and of the networks as users
    counted them.
    """

    def count(shapes: ldm_layout.Shapes) -> int:
        return sum(math.prod(shape) for shape in shapes.values())

    assert (
        abs(2 * count(layout.with_pictures(layout.with_cameras(layout.unet_2()))) - 1.88e9)
        < 0.005e9
    )
    sync = full("syncdreamer")[0] | {
        "clip_image_encoder.model.token_embedding.weight": (49408, 768)
    }
    assert abs(4 * count(sync) / 2**30 - 5.2) < 0.05
    assert count(layout.unet_2()) == 865_910_724  # Zero123++ v1.2
    assert count(ldm_layout.vae()) == 83_653_863


def test_zero123plus_has_the_published_tensors():
    unet = {ldm.unet_name(name, 2): shape for name, shape in layout.unet_2().items()}
    fill_exactly(
        build("diffusers", "UNet2DConditionModel", STABLE_DIFFUSION_2, "x"),
        layout.meta_tensors(unet),
        "x",
        "UNet",
    )
    vision = {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
    }
    vision |= {"patch_size": 14, "projection_dim": 1024}
    text = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
    }
    models = {
        "CLIPVisionModelWithProjection": (vision, 632_076_800),
        "CLIPTextModel": (text, 340_387_840),
    }
    for kind, (config, wanted) in models.items():
        assert (
            sum(p.numel() for p in build("transformers", kind, config, "x").parameters()) == wanted
        )


# --- the netwo ---
# r k s


@pytest.mark.parametrize("linear", [False, True])
def test_the_unet_is_that_of_diffusers(linear: bool):
    shapes = (
        layout.unet_2(64, (1, 2), 1, 24)
        if linear
        else ldm_layout.unet(64, (1, 2), 1, (1,), 24, (4, 4))
    )
    weights = layout.random_tensors(shapes)
    config, renamed = ldm.unet(weights)
    config |= {"use_linear_projection": linear, "attention_head_dim": [1, 2] if linear else 8}
    other = UNet2DConditionModel(**config)
    other.load_state_dict(renamed)
    mine = mvdream.UNet(mvdream.shape_of(weights, 0 if linear else 8, "x"))
    fill_exactly(mine, weights, "x", "UNet")
    x, t, tokens = torch.randn(3, 4, 8, 8), torch.tensor([999, 500, 1]), torch.randn(3, 5, 24)
    with torch.no_grad():
        torch.testing.assert_close(
            mine(x, t, tokens), other(x, t, tokens).sample, rtol=1e-4, atol=1e-5
        )


@pytest.fixture(scope="module")
def picture_unet() -> Any:
    weights = mvdream_weights(pictures=True)
    return mvdream.from_checkpoint(weights, "x").unet


@torch.no_grad()
def test_views_see_each_other_and_their_cameras(picture_unet: Any):
    x, t = torch.randn(4, 4, 8, 8), torch.full((4,), 300)
    tokens, cameras = torch.randn(1, 9, 32).expand(4, -1, -1), torch.randn(4, 16)
    noise = picture_unet(x, t, tokens, cameras, 4)
    turned = picture_unet(x.roll(1, 0), t, tokens, cameras.roll(1, 0), 4)
    torch.testing.assert_close(turned, noise.roll(1, 0), rtol=1e-4, atol=1e-5)
    assert (picture_unet(x, t, tokens, cameras, 1) - noise).abs().max() > 1e-3
    assert (picture_unet(x, t, tokens, cameras.roll(1, 0), 4) - noise).abs().max() > 1e-3
    assert (
        picture_unet(x, t, tokens.roll(1, 1), cameras, 4) - noise
    ).abs().max() > 1e-3  # the picture's tokens are the last
    same = x[:1].expand(4, -1, -1, -1), t, tokens, cameras[:1].expand(4, -1)
    torch.testing.assert_close(picture_unet(*same, 4), picture_unet(*same, 1), rtol=1e-4, atol=1e-5)


def clip_states(
    weights: dict[str, Tensor], x: Tensor, act: Callable[[Tensor], Tensor], mask: Tensor | None
) -> list[Tensor]:
    """The states between the layers of OpenAI's CLIP, by torch's own attention."""
    states = [x]
    for i in range(len({k.split(".")[2] for k in weights if k.startswith("transformer.")})):
        w = {
            k.removeprefix(f"transformer.resblocks.{i}."): v
            for k, v in weights.items()
            if f"resblocks.{i}." in k
        }
        attend = nn.MultiheadAttention(x.shape[-1], 16, batch_first=True)
        attend.load_state_dict(
            {k.removeprefix("attn."): v for k, v in w.items() if k.startswith("attn.")}
        )
        y = nn.functional.layer_norm(x, x.shape[-1:], w["ln_1.weight"], w["ln_1.bias"])
        x = x + attend(y, y, y, attn_mask=mask, need_weights=False)[0]
        y = nn.functional.layer_norm(x, x.shape[-1:], w["ln_2.weight"], w["ln_2.bias"])
        y = act(nn.functional.linear(y, w["mlp.c_fc.weight"], w["mlp.c_fc.bias"]))
        x = x + nn.functional.linear(y, w["mlp.c_proj.weight"], w["mlp.c_proj.bias"])
        states.append(x)
    return states


@torch.no_grad()
def test_clip_is_converted_to_the_same_function():
    weights = layout.random_tensors(layout.clip_text(32, 3))
    ids = mvdream.read_prompt("", None)
    x = weights["token_embedding.weight"][ids] + weights["positional_embedding"]
    states = clip_states(weights, x, nn.functional.gelu, torch.full((77, 77), -math.inf).triu(1))
    wanted = nn.functional.layer_norm(
        states[-2], (32,), weights["ln_final.weight"], weights["ln_final.bias"]
    )
    kept = {k: v for k, v in weights.items() if k not in mvdream.LEFT_OUT}
    found = mvdream.clip_text(kept, "x", layers_left_out=1)(ids).last_hidden_state
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)

    weights = layout.random_tensors(ldm_layout.clip_visual(64, 3, 14, 28, 32))
    pictures = torch.randn(2, 3, 28, 28)
    x = (
        nn.functional.conv2d(pictures, weights["conv1.weight"], stride=14)
        .flatten(2)
        .transpose(1, 2)
    )
    x = (
        torch.cat([weights["class_embedding"].expand(2, 1, -1), x], 1)
        + weights["positional_embedding"]
    )
    x = nn.functional.layer_norm(x, (64,), weights["ln_pre.weight"], weights["ln_pre.bias"])
    for act, name in (
        (nn.functional.gelu, "gelu"),
        (lambda y: y * torch.sigmoid(1.702 * y), "quick_gelu"),
    ):
        states = clip_states(weights, x, act, None)
        encoder = mvdream.clip_vision(weights, "x", act=name)
        found = encoder(pictures, output_hidden_states=True).hidden_states[-2]
        torch.testing.assert_close(found, states[-2], rtol=1e-4, atol=1e-5)
        last = nn.functional.layer_norm(
            states[-1][:, 0], (64,), weights["ln_post.weight"], weights["ln_post.bias"]
        )
        projected = syncdreamer.clip_vision(weights, "x", act=name, projection=True)
        torch.testing.assert_close(
            projected(pictures).image_embeds, last @ weights["proj"], rtol=1e-4, atol=1e-5
        )


def test_imagedream_cameras():
    """At azimuth 0 the camera stands at the front, which is +x in MVDream's world (z up), and is
    turned as Blender's are.
    """
    front, right = mvdream.camera_numbers(
        cameras_of([Orbit(0.0, 0.0, 2.0), Orbit(90.0, 30.0, 3.0)], width=8, height=8)
    ).unflatten(1, (4, 4))
    torch.testing.assert_close(front[:3, 3], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        front[:3, :3], torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        right[:3, 3], torch.tensor([0.0, math.cos(math.pi / 6), 0.5]), atol=1e-6, rtol=0
    )
    assert torch.equal(front[3], torch.tensor([0.0, 0, 0, 1]))


# --- SyncDreamer's volu ---
# m e s


def test_the_volume_and_the_frustums_lie_where_the_cameras_look():
    found = camera_tensors(256)
    # The same cameras as our rig, whose up is y and whose azimuth 0 is +z instead of +x.
    turn = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    ours = cameras_of(syncdreamer_rig(), width=256, height=256)
    torch.testing.assert_close(
        found["poses"][:, :, :3], ours.T_camera_world[:, :3, :3] @ turn, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(found["Ks"], ours.K, rtol=1e-3, atol=0.1)

    coords = volumes.seen_from(found["poses"], found["Ks"], 32, 256).reshape(16, -1, 2)
    axis = torch.linspace(-0.5, 0.5, 8)
    corner = torch.tensor([axis[7], axis[2], axis[0]])  # x, y, z: cells are counted z first, x last
    camera = found["poses"][:, :, :3] @ corner + found["poses"][:, :, 3]
    pixel = (found["Ks"] @ camera[:, :, None])[:, :2, 0] / camera[:, 2:]
    torch.testing.assert_close(
        (coords[:, 0 * 64 + 2 * 8 + 7] + 1) * 31 / 2 * 8, pixel, rtol=1e-4, atol=1e-3
    )

    points = volumes.frustum_points(found["poses"], found["Ks"], 32, 256)
    assert points.shape == (16, 16, 32, 32, 3)
    world = points[:, :, 5, 20] * 0.5  # row 5, column 20
    camera = world @ found["poses"][:, :, :3].transpose(1, 2) + found["poses"][:, None, :, 3]
    torch.testing.assert_close(
        camera[..., 2], torch.linspace(1.5 - 0.86603, 1.5 + 0.86603, 16).expand(16, -1)
    )
    pixel = camera @ found["Ks"].transpose(1, 2)
    wanted = torch.tensor([20.0, 5.0]).expand(16, 16, 2) * 8
    torch.testing.assert_close(pixel[..., :2] / pixel[..., 2:], wanted, rtol=1e-4, atol=1e-2)


def test_depth_attention_looks_along_each_ray():
    torch.manual_seed(1)
    attend = volumes.DepthAttention(16, 8)
    x, context = torch.randn(2, 16, 3, 3), torch.randn(2, 8, 5, 3, 3)
    found = attend(x, context)
    q, k, v = (
        layer(y) for layer, y in ((attend.to_q, x), (attend.to_k, context), (attend.to_v, context))
    )
    one = []
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        share = torch.softmax((q[1, part, 2, 0] @ k[1, part, :, 2, 0]) / 2, 0)
        one.append(v[1, part, :, 2, 0] @ share)
    wanted = attend.to_out(torch.cat(one)[None, :, None, None])[0, :, 0, 0]
    torch.testing.assert_close(found[1, :, 2, 0], wanted)


def test_syncdreamer_counts_elevation_down_from_the_input():
    prior = syncdreamer.SyncDreamer(
        syncdreamer.from_checkpoint(syncdreamer_weights(), "x"), Place(), Sampling(), "x"
    )
    turns = prior._turns(10.0)
    torch.testing.assert_close(turns[:, 0], torch.full((16,), -math.pi / 9))
    # azimuth 90
    torch.testing.assert_close(turns[4, 1:], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0)


def test_volumes_of_neighbours_are_mixed():
    a, b, c = (torch.full((1, 1, 2, 2, 2), value) for value in (0.0, 1.0, 5.0))
    assert [float(v.mean()) for v in syncdreamer.smoothed([a, b, c], 0.25)] == [0.25, 1.75, 4.0]
    assert syncdreamer.smoothed([a], 0.25)[0] is a


# --- Zero12 ---
# 3 + +


@torch.no_grad()
def plain_zero123plus(
    parts: zero123plus.Networks, picture: Tensor, ids: Tensor, steps: int, cells: int, seed: int
) -> Tensor:
    """One frame as the report tells it, with diffusers' attention around reference tokens."""
    kept: dict[str, Tensor] = {}

    class Reader(AttnProcessor2_0):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def __call__(
            self,
            attn: Any,
            hidden_states: Tensor,
            encoder_hidden_states: Any = None,
            write: bool = False,
            **_: Any,
        ) -> Tensor:
            if encoder_hidden_states is None and write:
                kept[self.name] = hidden_states
            elif encoder_hidden_states is None:
                encoder_hidden_states = torch.cat([hidden_states, kept[self.name]], 1)
            return super().__call__(attn, hidden_states, encoder_hidden_states)

    unet = parts.unet
    unet.set_attn_processor({name: Reader(name) for name in unet.attn_processors})
    generator = torch.Generator().manual_seed(
        int(torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(seed)))
    )
    rgb = picture[..., :3].float() / 255
    alpha = picture[..., 3:].float() / 255
    shown = (rgb * alpha + 127 / 255 * (1 - alpha)).permute(2, 0, 1)[None]
    seen, small = parts.for_vae(shown), parts.for_clip(shown)
    nothing = parts.vae.encode(torch.zeros_like(seen)).latent_dist.sample(generator)
    condition = torch.cat([nothing, parts.vae.encode(seen).latent_dist.sample(generator)])
    text = parts.text_encoder(ids).last_hidden_state
    told = text + parts.vision_encoder(small).image_embeds[:, None] * parts.ramp[:, None]
    context = torch.cat([text, told])
    parts.scheduler.set_timesteps(steps)
    x = (
        torch.randn(1, 4, 3 * cells, 2 * cells, generator=generator)
        * parts.scheduler.init_noise_sigma
    )
    for t in parts.scheduler.timesteps:
        noise = torch.randn(condition.shape[1:], generator=generator)
        noised = parts.scheduler.add_noise(condition, noise.expand_as(condition), t[None])
        noised = parts.scheduler.scale_model_input(noised, t)
        unet(noised, t, context, cross_attention_kwargs={"write": True})
        both = parts.scheduler.scale_model_input(torch.cat([x, x]), t)
        avoided, wanted = unet(
            both, t, context, cross_attention_kwargs={"write": False}
        ).sample.chunk(2)
        x = parts.scheduler.step(
            avoided + 4.0 * (wanted - avoided), t, x, generator=generator
        ).prev_sample
    grid = (
        parts.vae.decode((x / 0.75 + 0.22) / parts.vae.config.scaling_factor).sample[0] / 0.5 * 0.8
    )
    grid = (grid.permute(1, 2, 0) * 127.5 + 127.5).round().clamp(0, 255)
    h, w = grid.shape[0] // 3, grid.shape[1] // 2
    return torch.stack(
        [grid[r * h : (r + 1) * h, c * w : (c + 1) * w] for r in range(3) for c in range(2)]
    )


def test_zero123plus_samples_as_reported(plus: Path):
    prior, pictures = open_plus(plus), frames(1)
    found = drawn(prior, pictures, seed=7)
    ids = zero123plus.read_prompt("", plus / "tokenizer")
    assert ids[0, :3].tolist() == [0, 1, 9]  # begin, end, and padding
    wanted = plain_zero123plus(zero123plus.load_folder(plus), pictures[0], ids, 2, 4, 7)
    assert found.images.shape == (6, 1, 8, 8, 4)
    assert (found.images[:, 0, ..., :3].float() - wanted).abs().max() <= 1
    assert wanted.std() > 20


def test_zero123plus_rigs(plus: Path):
    views = drawn(open_plus(plus), frames(1), source=Orbit(azimuth=350.0))
    assert [(o.azimuth, o.elevation) for o in views.orbits] == [
        (20, 30),
        (80, -20),
        (140, 30),
        (200, -20),
        (260, 30),
        (320, -20),
    ]
    newer = open_prior(f"zero123plus-1.2:{plus}", "views")
    assert {(o.elevation, o.fov) for o in newer.rig.orbits} == {(20.0, 30.0), (-10.0, 30.0)}
    with pytest.raises(UserError, match="its own 6 cameras"):
        draw_clip(newer, frames(1), Orbit(), [Orbit()], torch.Generator())


# -------------------------------------------------------------------------------------------------
# loading: the same bits


def test_zero123plus_loads_to_the_same_bits(plus: Path):
    parts = zero123plus_networks()
    parts.tokenizer = plus / "tokenizer"
    built = quick(zero123plus.Zero123Plus(parts, Place(), Sampling(), "zero123plus", "built"))
    built.tile = 8
    a, b = drawn(built, frames()), drawn(open_plus(plus), frames())
    assert torch.equal(a.images, b.images)
    assert a.images[..., :3].float().std() > 20


@pytest.mark.parametrize("names", ["vae_model", "first_stage_model"])
def test_imagedream_loads_to_the_same_bits(dream: Path, tmp_path: Path, names: str):
    weights = mvdream_weights(pictures=True)
    weights = {
        k.replace("vae_model", names).replace("clip_model", "cond_stage_model"): v
        for k, v in weights.items()
    }
    if names == "vae_model":
        weights = {k.replace("cond_stage_model", "clip_model"): v for k, v in weights.items()}
    file = tmp_path / "größer" / "sd-v2.1-base-4view-ipmv.pt"
    file.parent.mkdir()
    torch.save(weights, file)
    write_tokenizer(file.parent / "tokenizer")
    a, b = (drawn(open_dream(where, prompt="a rose"), frames()) for where in (file, dream))
    assert torch.equal(a.images, b.images)
    assert a.images.shape == (4, 2, 16, 16, 4)
    assert a.images[..., :3].float().std() > 20
    assert not torch.equal(
        a.images, drawn(open_dream(dream, prompt="a rose"), frames(), seed=1).images
    )
    assert not torch.equal(a.images, drawn(open_dream(dream, prompt=""), frames()).images)


def test_mvdream_loads_to_the_same_bits_and_draws_from_words(tmp_path: Path):
    weights = mvdream_weights(pictures=False)
    torch.save(weights, tmp_path / "sd-v2.1-base-4view.pt")
    write_tokenizer(tmp_path / "tokenizer")
    folder = write_mvdream(tmp_path / "folder", weights, pictures=False)
    found = []
    for where in (tmp_path / "sd-v2.1-base-4view.pt", folder):
        prior = quick(open_prior(f"mvdream:{where}", "score"))
        prior.side = 16
        assert not isinstance(prior, ViewPrior)
        found.append(prior.sample("a rose", torch.Generator().manual_seed(0)))
    assert torch.equal(*found)
    assert found[0].shape == (4, 16, 16, 4)
    assert not torch.equal(found[0], prior.sample("a", torch.Generator().manual_seed(0)))


def test_syncdreamer_loads_to_the_same_bits(sync_file: Path):
    built = quick(
        syncdreamer.SyncDreamer(
            syncdreamer.from_checkpoint(syncdreamer_weights(), "x"), Place(), Sampling(), "x"
        )
    )
    opened = quick(open_prior(f"syncdreamer:{sync_file}", "views"))
    a, b = drawn(built, frames()), drawn(opened, frames())
    assert torch.equal(a.images, b.images)
    assert a.images.shape == (16, 2, 16, 16, 4)
    assert a.images[..., :3].float().std() > 20
    assert a.orbits == syncdreamer_rig()
    assert not torch.equal(a.images, drawn(opened, frames(), source=Orbit(elevation=20.0)).images)


# --- over t ---
# i m e


def test_anchored_attention():
    torch.manual_seed(0)
    x, context = torch.randn(6, 3, 4), torch.randn(6, 5, 4)
    calls = []

    def attend(a: Tensor, b: Tensor) -> Tensor:
        calls.append(b)
        return a

    assert torch.equal(attend_anchored(attend, x, context, 3), x)
    first, rest = calls
    assert torch.equal(first, context[[0, 3]])
    assert torch.equal(rest, torch.cat([context[[1, 2, 4, 5]], x[[0, 0, 3, 3]]], 1))


@pytest.mark.parametrize("family", ["zero123plus", "imagedream"])
def test_the_first_frame_anchors_the_others(family: str, plus: Path, dream: Path):
    def make(**options: Any) -> Any:
        return (
            open_plus(plus, **options) if family == "zero123plus" else open_dream(dream, **options)
        )

    pictures = frames(3)
    anchored, apart = make(), make(temporal=False)
    assert (anchored.context, apart.context) == ("first", "none")
    together = drawn(anchored, pictures).images.int()
    alone = torch.cat([drawn(apart, pictures[[t]]).images for t in range(3)], 1).int()
    assert (together[:, 0] - alone[:, 0]).abs().max() <= 2
    assert (together[:, 1:] - alone[:, 1:]).abs().max() > 2
    assert (drawn(apart, pictures).images.int() - alone).abs().max() <= 2
    assert (
        drawn(anchored, pictures[[0, 2]]).images.int() - together[:, [0, 2]]
    ).abs().max() <= 2  # a part of the clip
    same = drawn(apart, pictures[[1, 1]]).images.int()
    assert (same[:, 0] - same[:, 1]).abs().max() <= 2  # the same noise in every frame


def test_syncdreamer_smooths_over_its_neighbours(sync_file: Path, monkeypatch: pytest.MonkeyPatch):
    # random networks hardly look at their volumes
    monkeypatch.setattr(syncdreamer, "NEIGHBOUR", 10.0)
    prior, pictures = open_prior(f"syncdreamer:{sync_file}", "views"), frames(2)
    assert prior.context == "neighbours"
    # volumes differ from the second step on, and the last step hardly changes anything
    smooth = Sampling(steps=3)
    apart = replace(smooth, temporal=False)
    found = {}
    for name, sampling, seen in (
        ("alone", apart, [1]),
        ("apart", apart, [0, 1]),
        ("smooth", smooth, [0, 1]),
        ("same", smooth, [1, 1]),
    ):
        prior.sampling = sampling
        found[name] = drawn(prior, pictures[seen]).images[:, -1].int()
    assert prior.context == "neighbours"
    assert (found["apart"] - found["alone"]).abs().max() <= 2
    assert (found["smooth"] - found["alone"]).abs().max() > 2
    assert (found["same"] - found["alone"]).abs().max() <= 2  # nothing moves, nothing changes
    prior.sampling = apart
    assert prior.context == "none"
