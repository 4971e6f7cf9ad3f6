"""Networks of the diffusion libraries.

Built from the description beside their weights, filled, frozen, and put where they run.

Nothing of a downloaded folder is ever run: descriptions are JSON, weights are tensors, classes are
named here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..io.files import read_json
from ..io.weights import fill, read_weights
from ..ranges import Options

# Best first: the averaged weights (EMA) are what every sampler of Zero123 uses.
FILES = (
    "diffusion_pytorch_model.fp16_ema.safetensors",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "model.fp16_ema.safetensors",
    "model.safetensors",
    "model.fp16.safetensors",
    "pytorch_model.bin",
)
# a description is a stranger's: it may say anything
LAYER_COUNTS, MOST_LAYERS = (("layers_per_block", "num_hidden_layers"), 256)
# diffusers before 0.16
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Place(Options):
    """Where a prior's networks run, and how they save memory."""

    device: str = "auto"
    """"cpu", "cuda" or a certain GPU such as "cuda:1"; auto: a GPU if there is one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision; auto: float16 on a GPU, float32 on a CPU."""
    vae_slicing: bool = False
    """Encode and decode one picture at a time."""
    vae_tiling: bool = False
    """Encode and decode large pictures in tiles."""
    offload: bool = False
    """Keep the large networks in main memory and bring each to the device for its turn: less GPU
    memory, slower."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            torch.device("cpu" if self.device == "auto" else self.device)
        except RuntimeError as error:
            raise self.error(
                f"{{device}} is '{self.device}'; give auto, cpu, cuda or cuda:1"
            ) from error

    def torch_device(self) -> torch.device:
        """The device.

        Raises:
            UserError: it is not there.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise UserError(
                f"there is no GPU {self.device}: torch sees {torch.cuda.device_count()}; set "
                "place.device to cpu"
            )
        return device

    def torch_dtype(self) -> torch.dtype:
        """The precision."""
        if self.dtype == "auto":
            return torch.float32 if self.torch_device().type == "cpu" else torch.float16
        return getattr(torch, self.dtype)

    def settle(self, network: nn.Module, *, waits: bool = False) -> nn.Module:
        """Gives a network its precision and device.

        One that ``waits`` stays in main memory while there is offloading.

        Its parameters become copies in memory of their own: until then they may be pages of a file.
        """
        dtype, device = (
            self.torch_dtype(),
            torch.device("cpu") if waits and self.offload else self.torch_device(),
        )
        for parameter in network.parameters():
            parameter.data = parameter.data.to(device, dtype, copy=True)
        return network.to(device)

    @contextmanager
    def turn(self, network: nn.Module) -> Iterator[None]:
        """Has a network that waits in main memory on the device for the length of the block."""
        if not self.offload:
            yield
            return
        network.to(self.torch_device())
        try:
            yield
        finally:
            network.to("cpu")


def build(library: str, kind: str, config: Mapping[str, Any], source: str) -> nn.Module:
    """A network of a library's class, without memory for its parameters until they are filled in.

    Args:
        library: "diffusers", "transformers", or a module of ours with networks of diffusers'
            making.
        kind: name of the class.
        config: its description.
        source: what to blame in sentences.

    Raises:
        UserError: the library is missing, or the description is not one of that class.
    """
    try:
        network_class = getattr(import_module(library), kind)
    except ImportError as error:
        raise UserError(
            "this prior needs the packages of the extra [diffusion]; run: pip install "
            "'gs4d[diffusion]'"
        ) from error
    try:
        if any(not 0 < config.get(name, 1) <= MOST_LAYERS for name in LAYER_COUNTS):
            raise ValueError(f"more than {MOST_LAYERS} layers, or none")
        with torch.device("meta"):
            if library == "transformers":
                network = network_class(network_class.config_class.from_dict(dict(config)))
            else:
                network = network_class.from_config(
                    {k: v for k, v in config.items() if not k.startswith("_")}
                )
    except (
        Exception
    ) as error:  # the libraries have no common class for what can be wrong with a description
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"{source} does not describe a {kind} ({why}); download the model again"
        ) from error
    for name, buffer in network.named_buffers():
        if buffer.is_meta and name.endswith("position_ids"):  # 0, 1, 2 ..., which no file has
            owner, _, last = name.rpartition(".")
            network.get_submodule(owner).register_buffer(
                last, torch.arange(buffer.shape[-1])[None], persistent=False
            )
    return network


def load_part(folder: Path, library: str, kind: str) -> nn.Module:
    """One network of a model's folder: ``config.json`` and its weights beside it.

    Raises:
        UserError: a file is missing or damaged, or they do not belong together.
    """
    config = read_json(folder / "config.json", "network description")
    if not isinstance(config, dict):
        raise UserError(
            f"network description {folder / 'config.json'} is no JSON object; download the model "
            "again"
        )
    network = build(library, kind, config, str(folder / "config.json"))
    path = weights_file(folder)
    return fill(network, renewed(read_weights(path)), str(path), assign=True)


def weights_file(folder: Path) -> Path:
    """The best weights in a network's folder.

    Raises:
        UserError: there are none.
    """
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"{folder} has no weights: no {FILES[1]} and the like; download the model again"
    )


def renewed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with today's names of the attention inside an autoencoder."""
    names = {}
    for name in weights:
        parts = name.split(".")
        if "mid_block" in parts and "attentions" in parts and parts[-2] in OLD_ATTENTION:
            parts[-2] = OLD_ATTENTION[parts[-2]]
        names[name] = ".".join(parts)
    return {names[name]: value for name, value in weights.items()}
