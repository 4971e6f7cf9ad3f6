"""Checkpoints of CompVis' latent diffusion (``ldm``) under the names of diffusers.

Every size is read off the tensors; what they cannot tell is Stable Diffusion's: 8 heads,
normalisation in 32 groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import UserError

HEADS = 8
CLIP_HEAD_WIDTH = 64  # of every CLIP by OpenAI
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
VAE_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
CLIP = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "proj": "visual_projection.weight",
}
CLIP_LAYERS = {
    "ln_pre": "vision_model.pre_layrnorm",  # so written in transformers
    "ln_post": "vision_model.post_layernorm",
    "transformer.resblocks": "vision_model.encoder.layers",
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def part(weights: Mapping[str, Tensor], prefix: str, source: str) -> dict[str, Tensor]:
    """The tensors below ``prefix``, without it.

    Averaged ones (EMA) in place of the last where the file has them.

    Raises:
        UserError: there are none; ``source`` names the file.
    """
    found = {}
    for name, value in weights.items():
        if name.startswith(prefix):
            averaged = "model_ema." + name.removeprefix("model.").replace(".", "")
            found[name.removeprefix(prefix)] = weights.get(averaged, value)
    if not found:
        raise UserError(
            f"{source} has no tensors named {prefix}*; it is no checkpoint of this family"
        )
    return found


def unet(weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and weights of a UNet2DConditionModel."""
    stages = 1 + sum(name.endswith("op.weight") for name in weights)
    layers = (
        1 + max(int(name.split(".")[1]) for name in weights if name.startswith("input_blocks."))
    ) // stages - 1
    renamed = {unet_name(name, layers): value for name, value in weights.items()}
    widths = [len(renamed[f"down_blocks.{i}.resnets.0.conv1.weight"]) for i in range(stages)]
    looks = [f"down_blocks.{i}.attentions.0.norm.weight" in renamed for i in range(stages)]
    tokens = next(v.shape[1] for k, v in renamed.items() if k.endswith("attn2.to_k.weight"))
    config = {
        "sample_size": 32,
        "in_channels": renamed["conv_in.weight"].shape[1],
        "out_channels": len(renamed["conv_out.weight"]),
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if look else "DownBlock2D" for look in looks],
        "up_block_types": [
            "CrossAttnUpBlock2D" if look else "UpBlock2D" for look in reversed(looks)
        ],
        "cross_attention_dim": tokens,
        "attention_head_dim": HEADS,
    }
    return config, renamed


def unet_name(name: str, layers: int) -> str:
    """Returns the diffusers name of a tensor of ldm's UNet, which counts all its blocks in one
    list.
    """
    for old, new in UNET_ENDS.items():
        if name.startswith(old + "."):
            return new + name.removeprefix(old)
    side, *rest = name.split(".")
    if side == "middle_block":
        where, rest = f"mid_block.{MIDDLE[rest[0]]}", rest[1:]
    else:
        number, item, *rest = rest
        block, layer = divmod(int(number) - (side == "input_blocks"), layers + 1)
        way = "down" if side == "input_blocks" else "up"
        if rest[0] in ("op", "conv"):
            return f"{way}_blocks.{block}.{way}samplers.0.conv.{rest[-1]}"
        where = f"{way}_blocks.{block}.{'resnets' if item == '0' else 'attentions'}.{layer}"
    tail = ".".join(rest)
    if "resnets" in where:
        kept, last = tail.rsplit(".", 1)
        tail = f"{RESNET[kept]}.{last}"
    return f"{where}.{tail}"


def vae(weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and weights of an AutoencoderKL."""
    stages = 1 + max(
        int(name.split(".")[2]) for name in weights if name.startswith("encoder.down.")
    )
    renamed = {}
    for name, value in weights.items():
        new = vae_name(name, stages)
        is_linear = "attentions" in new and "group_norm" not in new and value.ndim == 4
        renamed[new] = value[:, :, 0, 0] if is_linear else value
    config = {
        "in_channels": renamed["encoder.conv_in.weight"].shape[1],
        "out_channels": len(renamed["decoder.conv_out.weight"]),
        "block_out_channels": [
            len(renamed[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"]) for i in range(stages)
        ],
        "layers_per_block": sum(
            name.startswith("encoder.down.0.") and name.endswith("conv1.weight") for name in weights
        ),
        "down_block_types": ["DownEncoderBlock2D"] * stages,
        "up_block_types": ["UpDecoderBlock2D"] * stages,
        "latent_channels": renamed["post_quant_conv.weight"].shape[1],
        "scaling_factor": 0.18215,
    }
    return config, renamed


def vae_name(name: str, stages: int) -> str:
    """Returns diffusers' name of a tensor of ldm's autoencoder, whose decoder counts backwards."""
    name = re.sub(r"^encoder\.down\.(\d+)\.block\.", r"encoder.down_blocks.\1.resnets.", name)
    name = re.sub(
        r"^encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0.", name
    )
    name = re.sub(
        r"^decoder\.up\.(\d+)\.block\.",
        lambda m: f"decoder.up_blocks.{stages - 1 - int(m[1])}.resnets.",
        name,
    )
    name = re.sub(
        r"^decoder\.up\.(\d+)\.upsample\.",
        lambda m: f"decoder.up_blocks.{stages - 1 - int(m[1])}.upsamplers.0.",
        name,
    )
    name = re.sub(r"\.mid\.block_(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}.", name)
    name = re.sub(
        r"\.mid\.attn_1\.(\w+)\.",
        lambda m: f".mid_block.attentions.0.{VAE_ATTENTION.get(m[1], m[1])}.",
        name,
    )
    return name.replace("nin_shortcut", "conv_shortcut").replace("norm_out", "conv_norm_out")


def clip_vision(weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns config and weights of a CLIPVisionModelWithProjection from OpenAI's ``visual``."""
    renamed = {
        CLIP[name]: value.T if name == "proj" else value
        for name, value in weights.items()
        if name in CLIP
    }
    renamed |= clip_layers({name: value for name, value in weights.items() if name not in CLIP})
    patches = renamed["vision_model.embeddings.patch_embedding.weight"]
    side = round((len(renamed["vision_model.embeddings.position_embedding.weight"]) - 1) ** 0.5)
    config = {
        "hidden_size": len(patches),
        "intermediate_size": len(renamed["vision_model.encoder.layers.0.mlp.fc1.weight"]),
        "num_hidden_layers": sum(name.endswith("mlp.fc1.weight") for name in renamed),
        "num_attention_heads": max(len(patches) // CLIP_HEAD_WIDTH, 1),
        "patch_size": patches.shape[-1],
        "image_size": side * patches.shape[-1],
        "projection_dim": len(renamed["visual_projection.weight"]),
        "hidden_act": "quick_gelu",
    }
    return config, renamed


def clip_layers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layers of either half of CLIP; the one matrix of queries, keys and values comes apart."""
    renamed = {}
    for name, value in weights.items():
        for old, new in CLIP_LAYERS.items():
            name = name.replace(old, new)
        head, joined, kind = name.partition(".attn.in_proj_")
        if joined:
            renamed |= {
                f"{head}.self_attn.{x}_proj.{kind}": v
                for x, v in zip("qkv", value.chunk(3), strict=True)
            }
        else:
            renamed[name] = value
    return renamed
