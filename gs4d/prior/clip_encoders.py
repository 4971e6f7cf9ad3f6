"""CLIP's two encoders, from folders of transformers and published checkpoints; their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import UserError
from ..io.files import read_json
from ..io.weights import read_weights
from . import ldm
from .networks import build, weights_file
from .pictures import resized
from .sampling import fill_exactly

TOKENS = 77  # length of every prompt
BEGIN, END = 49406, 49407  # around it; what is left over is filled with 0, as OpenCLIP does
HEADS = 16  # of ViT-L/14's and ViT-H/14's vision halves and of ViT-H/14's text half
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def load_clip(folder: Path, kind: str) -> Any:
    """A CLIP model of transformers in a folder: ``config.json`` and its weights beside it.

    Raises:
        UserError: a file is missing or damaged, or they do not belong together.
    """
    config = read_json(folder / "config.json", "network description")
    network = build(
        "transformers",
        kind,
        config if isinstance(config, dict) else {},
        str(folder / "config.json"),
    )
    path = weights_file(folder)
    return fill_clip(network, read_weights(path), str(path))


def fill_clip(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> Any:
    """Fills a CLIP model; with some transformers its names lack the prefix that files have."""
    known = network.state_dict().keys()
    half = "text_model." if any("token_embedding" in name for name in known) else "vision_model."
    named = {}
    for name, value in weights.items():
        other = name.removeprefix(half) if name.startswith(half) else half + name
        named[other if name not in known and other in known else name] = value
    return fill_exactly(network, named, source, f"CLIP {half.split('_')[0]} encoder")


def clip_vision(
    weights: Mapping[str, Tensor], source: str, *, act: str, projection: bool = False
) -> Any:
    """Builds the vision encoder of a checkpoint by OpenAI (``act`` quick_gelu) or LAION (gelu).

    Raises:
        UserError: tensors are missing, left over, or of other shapes.
    """
    try:
        config, renamed = ldm.clip_vision(weights)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(
            f"{source} has no CLIP vision encoder as this family's ({error!r})"
        ) from error
    if not projection:
        renamed.pop("visual_projection.weight", None)
    kind = "CLIPVisionModelWithProjection" if projection else "CLIPVisionModel"
    config |= {"num_attention_heads": HEADS, "hidden_act": act}
    return fill_clip(build("transformers", kind, config, source), renamed, source)


def clip_text(weights: Mapping[str, Tensor], source: str, *, layers_left_out: int) -> Any:
    """The text half of a checkpoint by LAION, without its last layers.

    Stable Diffusion 2 reads the last but one.

    Raises:
        UserError: tensors are missing, left over, or of other shapes.
    """
    names = {
        "token_embedding.weight": "embeddings.token_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_final.weight": "final_layer_norm.weight",
        "ln_final.bias": "final_layer_norm.bias",
    }
    try:
        layers = (
            len(
                {
                    name.split(".")[2]
                    for name in weights
                    if name.startswith("transformer.resblocks.")
                }
            )
            - layers_left_out
        )
        kept = {
            k: v
            for k, v in weights.items()
            if not k.startswith("transformer.") or int(k.split(".")[2]) < layers
        }
        inner = {k: v for k, v in kept.items() if k not in names}
        renamed = {names[k]: v for k, v in kept.items() if k in names}
        renamed |= {k.removeprefix("vision_model."): v for k, v in ldm.clip_layers(inner).items()}
        words, channels = weights["token_embedding.weight"].shape
        config = {
            "vocab_size": words,
            "hidden_size": channels,
            "intermediate_size": len(weights["transformer.resblocks.0.mlp.c_fc.weight"]),
            "num_hidden_layers": layers,
            "num_attention_heads": HEADS,
            "max_position_embeddings": len(weights["positional_embedding"]),
            "hidden_act": "gelu",
            "bos_token_id": words - 2,
            "eos_token_id": words - 1,
            "pad_token_id": 0,
        }
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"{source} has no CLIP text encoder as this family's ({error!r})"
        ) from error
    return fill_clip(build("transformers", "CLIPTextModel", config, source), renamed, source)


def read_prompt(prompt: str, tokenizer: Path | None) -> Int[Tensor, "1 n"]:
    """Numbers of the tokens of a prompt; without a tokenizer only the empty prompt can be read.

    Raises:
        UserError: there is no tokenizer, or its files are damaged.
    """
    if tokenizer is None:
        if prompt:
            raise UserError(
                f"the prompt '{prompt}' cannot be read, since no folder tokenizer (vocab.json, "
                "merges.txt) lies beside the "
                "weights; put that of stabilityai/stable-diffusion-2-1 there, or leave the prompt "
                "out"
            )
        return torch.tensor([[BEGIN, END, *[0] * (TOKENS - 2)]])
    from transformers import CLIPTokenizer

    try:
        reader = CLIPTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
        return reader(
            [prompt], padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
        ).input_ids
    except (
        Exception
    ) as error:  # transformers has no common class for what can be wrong with a tokenizer's files
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"the tokenizer in {tokenizer} cannot be used ({why}); download it again"
        ) from error


def clip_pictures(pictures: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 s s"]:
    """Pictures in [0, 1] as CLIP wants to see them."""
    return normalised(resized(pictures, side, "bicubic").clamp(0, 1), MEAN, SPREAD)


def normalised(
    pictures: Float[Tensor, "b 3 h w"], mean: Any, spread: Any
) -> Float[Tensor, "b 3 h w"]:
    """Colours less ``mean``, in units of ``spread``."""
    return (pictures - pictures.new_tensor(mean)[:, None, None]) / pictures.new_tensor(spread)[
        :, None, None
    ]


@dataclass(frozen=True)
class Preparation:
    """What ``preprocessor_config.json`` says.

    Square pictures are resized, cut in the middle, and normalised.

    Attributes:
        side: pixels after resizing; 0: left as they are.
        crop: pixels after cutting; 0: left as they are.
        mean: colour that becomes 0.
        spread: what becomes 1.
    """

    side: int
    crop: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    def __call__(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        pictures = resized(pictures, self.side, "bicubic").clamp(0, 1) if self.side else pictures
        cut = (pictures.shape[-1] - self.crop) // 2 if 0 < self.crop < pictures.shape[-1] else 0
        pictures = pictures[..., cut : cut + self.crop, cut : cut + self.crop] if cut else pictures
        return normalised(pictures, self.mean, self.spread)


def read_preparation(folder: Path) -> Preparation:
    """The preparation that a folder describes.

    Raises:
        UserError: the file is absent or no such description.
    """
    path = folder / "preprocessor_config.json"
    record = read_json(path, "picture preparation")
    try:
        flags = {
            name: bool(record.get(name, True))
            for name in ("do_resize", "do_center_crop", "do_normalize")
        }
        side, crop = (_side(record.get(name, 224)) for name in ("size", "crop_size"))
        mean, spread = (
            tuple(float(x) for x in record[name]) for name in ("image_mean", "image_std")
        )
        if not (
            0 < side <= 4096
            and 0 < crop <= 4096
            and len(mean) == len(spread) == 3
            and min(spread) > 0
        ):
            raise ValueError("a number is out of its range")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"picture preparation {path} cannot be used ({error}); download it again"
        ) from error
    plain = (0.0,) * 3, (1.0,) * 3
    mean, spread = (mean, spread) if flags["do_normalize"] else plain
    return Preparation(side * flags["do_resize"], crop * flags["do_center_crop"], mean, spread)


def _side(value: Any) -> int:
    return (
        int(value.get("shortest_edge") or value["height"])
        if isinstance(value, dict)
        else int(value)
    )
