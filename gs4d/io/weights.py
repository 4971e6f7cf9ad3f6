"""Local files of network weights: read as plain tensors, never unpickled as code, never fetched."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import UserError

Network = TypeVar("Network", bound=nn.Module)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of a state dict saved by ``torch.save``, by name.

    Raises:
        UserError: the file is absent, damaged, or holds anything but named tensors.
    """
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"weights file {path} cannot be read ({reason}); download it again") from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"weights file {path} is no state dict of named tensors; save model.state_dict()")
    return dict(found)


def fill(network: Network, weights: Mapping[str, Tensor], source: str) -> Network:
    """Puts ``weights`` into a network in evaluation mode, frozen; names that it does not have are passed over.

    Raises:
        UserError: a tensor is missing or has another shape; ``source`` names the files in the sentence.
    """
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):  # a counter of training that older files lack
            continue
        if name not in weights:
            raise UserError(f"{source} lacks the tensor '{name}'; it belongs to another network")
        if weights[name].shape != value.shape:
            raise UserError(
                f"{source} has '{name}' of shape {tuple(weights[name].shape)}, wanted {tuple(value.shape)}; "
                "it belongs to another network"
            )
    network.load_state_dict(weights, strict=False)
    return network.eval().requires_grad_(False)
