"""Tiny checkpoints of the multi-view models.

Their true classes, random weights, the layouts in which people publish them.
"""

import json
import math
from pathlib import Path
from typing import Any

import ldm_layout
import multiview_layout as layout
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from gs4d.clip import Orbit
from gs4d.prior import ViewPrior, Views, draw_clip, mvdream, open_prior, zero123plus
from gs4d.prior.sampling import Sampling

WORDS = [
    "<|startoftext|>",
    "<|endoftext|>",
    "a</w>",
    "rose</w>",
    "r",
    "o",
    "s",
    "e",
    "e</w>",
    "a",
    "ro",
    "se</w>",
    ",</w>",
]
TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
VISION: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": 32,
    "hidden_act": "gelu",
}
VAE = ldm_layout.vae(32, (1, 1), 1)
STABLE_DIFFUSION_2: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}


def frames(count: int = 2, size: int = 24, seed: int = 3) -> Tensor:
    """A disc that wanders and changes its colours."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    noise = torch.Generator().manual_seed(seed)
    made = torch.randint(0, 256, (count, size, size, 4), generator=noise, dtype=torch.uint8)
    for t in range(count):
        made[t, ..., 3] = 255 * ((x - size / 2 - t) ** 2 + (y - size / 2) ** 2 < (size / 3) ** 2)
    return made


def drawn(prior: Any, pictures: Tensor, seed: int = 0, source: Orbit | None = None) -> Views:
    assert isinstance(prior, ViewPrior)
    return draw_clip(prior, pictures, source or Orbit(), None, torch.Generator().manual_seed(seed))


def quick(prior: Any, **options: Any) -> Any:
    prior.sampling = Sampling(steps=2, **options)
    return prior


def syncdreamer_shapes() -> ldm_layout.Shapes:
    unet = ldm_layout.unet(32, (1, 1, 1, 2), 1, (4, 2, 1), 16)
    visual = ldm_layout.clip_visual(64, 1, 14, 28, 16)
    return layout.syncdreamer(unet, VAE, visual, dims=(8, 8, 16, 16), time=16, token=16)


def camera_tensors(side: int) -> dict[str, Tensor]:
    """SyncDreamer's cameras as its checkpoint has them.

    Z up, the first at +x, focal length 280 pixels of 256.
    """
    azimuth, el = torch.arange(16) * math.pi / 8, math.pi / 6
    centers = 1.5 * torch.stack(
        [
            math.cos(el) * azimuth.cos(),
            math.cos(el) * azimuth.sin(),
            torch.full((16,), math.sin(el)),
        ],
        1,
    )
    z = -centers / 1.5
    x = nn.functional.normalize(
        torch.linalg.cross(z, torch.tensor([0.0, 0.0, 1.0]).expand(16, 3)), dim=1
    )
    R = torch.stack([x, torch.linalg.cross(z, x), z], 1)
    f = 280 * side / 256
    K = torch.tensor([[f, 0, side / 2], [0, f, side / 2], [0, 0, 1]])
    wrapped = (azimuth + math.pi) % (2 * math.pi) - math.pi
    return {
        "poses": torch.cat([R, -R @ centers[:, :, None]], 2),
        "Ks": K.expand(16, 3, 3).clone(),
        "azimuth": wrapped,
    }


def syncdreamer_weights() -> dict[str, Tensor]:
    return {**layout.random_tensors(syncdreamer_shapes()), **camera_tensors(16)}


def mvdream_weights(*, pictures: bool) -> dict[str, Tensor]:
    unet = layout.with_cameras(layout.unet_2(64, (1, 2), 1, 32))
    visual = ldm_layout.clip_visual(64, 2, 14, 28, 32) if pictures else None
    unet = layout.with_pictures(unet, 64, 4, 1, 1) if pictures else unet
    return layout.random_tensors(layout.mvdream(unet, VAE, layout.clip_text(32, 2), visual))


def write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr o\ns e</w>\nro se</w>\n")
    special = {
        "bos_token": WORDS[0],
        "eos_token": WORDS[1],
        "unk_token": WORDS[1],
        "pad_token": "a",
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**special, "tokenizer_class": "CLIPTokenizer"})
    )
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def save_model(folder: Path, model: Any, prefix: str = "") -> None:
    """Writes a network as its library did when the published folders were made.

    CLIP's names began with its half.
    """
    model.save_pretrained(folder)
    path = next(folder.glob("*.safetensors"))
    weights = load_file(path)
    save_file(
        {
            k if not prefix or k.startswith((prefix, "visual_")) else prefix + k: v
            for k, v in weights.items()
        },
        path,
    )


def write_mvdream(folder: Path, weights: dict[str, Tensor], *, pictures: bool) -> Path:
    """A checkpoint like ashawkey/mvdream-sd2.1-diffusers or imagedream-ipmv-diffusers."""
    parts = mvdream.from_checkpoint(weights, "here")
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text(
        json.dumps({"_class_name": "MultiViewUNetModel", "camera_dim": 16})
    )
    (folder / "unet" / "mv_unet.py").write_text("raise SystemExit('remote code was run')")
    unet = {
        k.removeprefix("model.diffusion_model."): v
        for k, v in weights.items()
        if k.startswith("model.")
    }
    save_file(unet, folder / "unet" / "diffusion_pytorch_model.safetensors")
    save_model(folder / "vae", parts.vae)
    save_model(folder / "text_encoder", parts.text_encoder, "text_model.")
    if pictures:
        save_model(folder / "image_encoder", parts.image_encoder, "vision_model.")
    parts.scheduler.save_pretrained(folder / "scheduler")
    write_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "MVDreamPipeline"}))
    return folder


def zero123plus_networks() -> zero123plus.Networks:
    torch.manual_seed(0)
    unet = {
        **STABLE_DIFFUSION_2,
        "block_out_channels": [32, 64],
        "layers_per_block": 1,
        "cross_attention_dim": 32,
    }
    unet |= {
        "attention_head_dim": [2, 4],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    }
    unet |= {"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
    vae = {"block_out_channels": [32, 32], "layers_per_block": 1, "latent_channels": 4}
    vae |= {
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
    }
    noises = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
    }
    prepare = zero123plus.Preparation
    parts: dict[str, Any] = {
        "unet": UNet2DConditionModel(**unet),
        "vae": AutoencoderKL(**vae),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                **{**TEXT, "vocab_size": len(WORDS), "bos_token_id": 0, "eos_token_id": 1}
            )
        ),
        "vision_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
    }
    for part in parts.values():
        part.eval().requires_grad_(False)
    return zero123plus.Networks(
        **parts,
        tokenizer=Path(),
        scheduler=EulerAncestralDiscreteScheduler(**noises, timestep_spacing="trailing"),
        for_clip=prepare(
            28, 28, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        ),
        for_vae=prepare(16, 0, (0.5, 0.5, 0.5), (0.8, 0.8, 0.8)),
        ramp=torch.linspace(0, 1, 77),
    )


def write_zero123plus(folder: Path, parts: zero123plus.Networks) -> Path:
    """A model in the layout of sudo-ai/zero123plus-v1.1."""
    save_model(folder / "unet", parts.unet)
    save_model(folder / "vae", parts.vae)
    save_model(folder / "text_encoder", parts.text_encoder, "text_model.")
    save_model(folder / "vision_encoder", parts.vision_encoder, "vision_model.")
    parts.scheduler.save_pretrained(folder / "scheduler")
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "timestep_spacing": "leading"}))
    write_tokenizer(folder / "tokenizer")
    for name, prepared in (("clip", parts.for_clip), ("vae", parts.for_vae)):
        record = {
            "do_resize": True,
            "size": {"shortest_edge": prepared.side},
            "do_center_crop": prepared.crop > 0,
        }
        record |= {
            "crop_size": {"height": 28, "width": 28},
            "image_mean": prepared.mean,
            "image_std": prepared.spread,
        }
        (folder / f"feature_extractor_{name}").mkdir()
        (folder / f"feature_extractor_{name}" / "preprocessor_config.json").write_text(
            json.dumps(record)
        )
    index = {"_class_name": "Zero123PlusPipeline", "ramping_coefficients": parts.ramp.tolist()}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def open_plus(folder: Path, **options: Any) -> zero123plus.Zero123Plus:
    prior = quick(open_prior(f"zero123plus:{folder}", "views"), **options)
    prior.tile = 8
    return prior


def open_dream(folder: Path, **options: Any) -> mvdream.ImageDream:
    prior = quick(open_prior(f"imagedream:{folder}", "views"), **options)
    prior.side = 16
    return prior


def write_syncdreamer(path: Path) -> Path:
    """A checkpoint as PyTorch Lightning saves it."""
    torch.save(
        {"state_dict": syncdreamer_weights(), "epoch": 8, "global_step": 80000, "callbacks": {}},
        path,
    )
    return path
