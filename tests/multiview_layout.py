"""Names and shapes of the tensors in checkpoints of multi-view models, by the rules of their
published configurations.
"""

import math
from collections.abc import Mapping, Sequence

import ldm_layout
import torch
from ldm_layout import Shapes, below, layer
from torch import Tensor

SCHEDULE = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
)
SCHEDULE += (
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
)
SCHEDULE += ("posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2")


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Tensors that keep what passes through them at about the same size."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        scale = 1 / math.sqrt(max(math.prod(shape[1:]), 1)) if len(shape) > 1 else 0.1
        one = len(shape) == 1 and name.endswith(".weight")
        made[name] = noise * scale + one
    return made


def meta_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors without memory."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def unet_2(
    width: int = 320, mults: Sequence[int] = (1, 2, 4, 4), blocks: int = 2, tokens: int = 1024
) -> Shapes:
    """As :func:`ldm_layout.unet`, of Stable Diffusion 2.

    Linear layers around attention, four channels in.
    """
    looks = [2**i for i in range(len(mults) - 1)]
    found = ldm_layout.unet(width, mults, blocks, looks, tokens, (4, 4))
    return {
        k: s[:2] if k.endswith(("proj_in.weight", "proj_out.weight")) else s
        for k, s in found.items()
    }


def with_cameras(unet: Shapes) -> Shapes:
    """``MultiViewUNetModel`` with camera_dim 16."""
    time = unet["time_embed.0.weight"][0]
    return {**unet, **layer("camera_embed.0", time, 16), **layer("camera_embed.2", time, time)}


def with_pictures(
    unet: Shapes, width: int = 1280, count: int = 16, layers: int = 4, heads: int = 12
) -> Shapes:
    """``with_ip`` and ip_mode "local_resample".

    Keys and values for the picture's tokens, and the IP-Adapter's resampler.
    """
    found = dict(unet)
    c = unet["middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1]
    for name, shape in unet.items():
        for kind in ("to_k", "to_v"):
            if name.endswith(f"attn2.{kind}.weight"):
                found[name.replace(kind, f"{kind}_ip")] = shape
    made: Shapes = {
        "latents": (1, count, c),
        **layer("proj_in", c, width),
        **layer("proj_out", c, c),
        **layer("norm_out", c),
    }
    for i in range(layers):
        look = {
            **layer("norm1", c),
            **layer("norm2", c),
            **layer("to_q", 64 * heads, c, bias=False),
        }
        look |= {
            **layer("to_kv", 128 * heads, c, bias=False),
            **layer("to_out", c, 64 * heads, bias=False),
        }
        feed = {
            **layer("0", c),
            **layer("1", 4 * c, c, bias=False),
            **layer("3", c, 4 * c, bias=False),
        }
        made |= {**below(f"layers.{i}.0", look), **below(f"layers.{i}.1", feed)}
    return {**found, **below("image_embed", made)}


def clip_text(width: int = 1024, layers: int = 24, words: int = 49408, length: int = 77) -> Shapes:
    """The text half of OpenCLIP; the defaults are ViT-H/14."""
    found: Shapes = {
        "positional_embedding": (length, width),
        "text_projection": (width, width),
        "logit_scale": (),
    }
    found |= {"token_embedding.weight": (words, width), **layer("ln_final", width)}
    blocks = ldm_layout.clip_visual(width, layers)
    return {
        **found,
        **{name: shape for name, shape in blocks.items() if name.startswith("transformer.")},
    }


def mvdream(unet: Shapes, vae: Shapes, text: Shapes, visual: Shapes | None = None) -> Shapes:
    """A whole checkpoint of MVDream, or with CLIP's visual half of ImageDream."""
    found = {**below("model.diffusion_model", unet), **dict.fromkeys(SCHEDULE, (1000,))}
    if visual is None:
        return {**found, **below("first_stage_model", vae), **below("cond_stage_model.model", text)}
    return {
        **found,
        **below("vae_model", vae),
        **below("clip_model.model", {**text, **below("visual", visual)}),
    }


def depth_transformer(channels: int, context: int) -> Shapes:
    inner = 2 * context
    found = {**layer("proj_in.0", inner, channels, 1, 1), **layer("proj_in.1", inner)}
    found |= {
        **layer("proj_context.0", context, context, 1, 1, 1, bias=False),
        **layer("proj_context.1", context),
    }
    attend = {
        **layer("to_q", inner, inner, 1, 1, bias=False),
        **layer("to_out", inner, inner, 1, 1, bias=False),
    }
    attend |= {
        **layer("to_k", inner, context, 1, 1, 1, bias=False),
        **layer("to_v", inner, context, 1, 1, 1, bias=False),
    }
    found |= {
        **below("depth_attn", attend),
        **layer("proj_out.0", inner),
        **layer("proj_out.3", inner),
    }
    found |= {
        **layer("proj_out.2", inner, inner, 3, 3, bias=False),
        **layer("proj_out.5", channels, inner, 3, 3, bias=False),
    }
    return found


def volume(dims: Sequence[int], time: int) -> Shapes:
    """``SpatialVolumeNet`` for 16 views with 16 features each."""

    def block(inside: int, out: int, *, view: bool, up: bool = False) -> Shapes:
        shapes = {**layer("t_conv", inside, time, 1, 1, 1), **layer("norm" if up else "bn", inside)}
        shapes |= layer("v_conv", inside, 4, 1, 1, 1) if view else {}
        return {
            **shapes,
            "conv.weight": ((inside, out) if up else (out, inside)) + (3, 3, 3),
            "conv.bias": (out,),
        }

    encoder = {
        **layer("init_conv", 16, 4, 3, 3),
        **layer("final_out.0", 16),
        **layer("final_out.2", 16, 16, 3, 3),
    }
    for i in range(3):
        view = {**layer("time_embed", 16, time, 1, 1), **layer("view_embed", 16, 4, 1, 1)}
        for norm, conv in ((0, 2), (3, 5)):
            view |= {**layer(f"conv.{norm}", 16), **layer(f"conv.{conv}", 16, 16, 3, 3)}
        encoder |= below(f"out_conv{i}", view)
    a, b, c, d = dims
    space = {**layer("init_conv", a, 256, 3, 3, 3), **below("conv0", block(a, a, view=False))}
    for number, inside, out in ((1, a, b), (3, b, c), (5, c, d)):
        space |= below(f"conv{number}", block(inside, out, view=False))
        space |= {
            k: s
            for i in (0, 1)
            for k, s in below(f"conv{number + 1}_{i}", block(out, out, view=False)).items()
        }
    frustum = layer("conv0", a, a, 3, 3, 3)
    for number, inside, out in ((1, a, b), (3, b, c), (5, c, d)):
        frustum |= below(f"conv{number}", block(inside, out, view=True))
        frustum |= below(f"conv{number + 1}", block(out, out, view=True))
    for i, (inside, out) in enumerate(((d, c), (c, b), (b, a))):
        space |= below(f"conv{7 + i}", block(inside, out, view=False, up=True))
        frustum |= below(f"up{i}", block(inside, out, view=True, up=True))
    return {
        **below("target_encoder", encoder),
        **below("spatial_volume_feats", space),
        **below("frustum_volume_feats", frustum),
    }


def syncdreamer(
    unet: Shapes,
    vae: Shapes,
    visual: Shapes,
    *,
    dims: Sequence[int] = (64, 128, 256, 512),
    time: int = 256,
    token: int = 768,
) -> Shapes:
    """A whole checkpoint of SyncDreamer.

    Its CLIP has lost the layers of its text half and kept the rest of it.
    """
    blocks = (
        sum(
            name.endswith("in_layers.0.weight") and name.startswith("output_blocks.")
            for name in unet
        )
        // 4
    )
    levels = [unet[f"input_blocks.{1 + blocks * i}.0.out_layers.3.weight"][0] for i in range(4)]
    # Blocks on the way up from the second-lowest level; the last of a level has doubled the picture
    # and sees the next volume.
    pairs = [
        (level, level - (i == blocks - 1 and level > 0))
        for level in (2, 1, 0)
        for i in range(blocks)
    ]
    looks = {"middle_conditions": (levels[3], dims[3])}
    looks |= {
        f"output_conditions.{i}": (levels[level], dims[seen])
        for i, (level, seen) in enumerate(pairs)
    }
    unet = dict(unet)
    for name, (channels, context) in looks.items():
        unet |= below(name, depth_transformer(channels, context))
    text: Shapes = {
        "positional_embedding": (77, token),
        "text_projection": (token, token),
        "logit_scale": (),
    }
    text |= {"token_embedding.weight": (99, token), **layer("ln_final", token)}
    found = {
        **below("model.diffusion_model", unet),
        **below("first_stage_model", vae),
        **below("spatial_volume", volume(dims, time)),
    }
    found |= {**below("clip_image_encoder.model", {**text, **below("visual", visual)})}
    found |= {
        **layer("time_embed.0", time, time),
        **layer("time_embed.2", time, time),
        **layer("cc_projection", token, token + 4),
    }
    found |= dict.fromkeys(
        ("betas", "alphas", *SCHEDULE[1:2], *SCHEDULE[3:5], *SCHEDULE[8:10]), (1000,)
    )
    return {**found, "poses": (16, 3, 4), "Ks": (16, 3, 3), "azimuth": (16,)}
