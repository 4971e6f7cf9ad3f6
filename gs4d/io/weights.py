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
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from ..errors import UserError

Network = TypeVar("Network", bound=nn.Module)
TRAINERS = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "omegaconf.", "numpy.")  # whose objects are left out


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
    return _named_tensors(found, path)


def read_training_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a training checkpoint (``.ckpt``): those under ``state_dict``, or all where there is no such entry.

    Trainers leave objects of their own packages beside the tensors. Those of :data:`TRAINERS` become empty stand-ins, so that
    neither the packages nor their code are needed; anything else that would have to be called is refused. The tensors stay in
    the file until they are used, so that a checkpoint may be larger than the memory.

    Raises:
        UserError: the file is absent, damaged, or holds objects that are not data.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        objects = get_unsafe_globals_in_checkpoint(path)
        if foreign := sorted(name for name in objects if not name.startswith(TRAINERS)):
            raise UserError(
                f"checkpoint {path} wants to call {foreign[0]}, which is code and was not run; do not trust this file"
            )
        with safe_globals([(StandIn, name) for name in objects]):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, KeyError, IndexError, pickle.UnpicklingError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"checkpoint {path} cannot be read ({reason}); download it again") from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    return _named_tensors(found, path)


class StandIn:
    """In the place of a trainer's object: takes what it is given and does nothing."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _named_tensors(found: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"weights file {path} is no state dict of named tensors; save model.state_dict()")
    return dict(found)


def fill(network: Network, weights: Mapping[str, Tensor], source: str, *, assign: bool = False) -> Network:
    """Puts ``weights`` into a network in evaluation mode, frozen; names that it does not have are passed over.

    Args:
        network: what to fill.
        weights: by name.
        source: names the files in sentences.
        assign: make the tensors themselves the parameters, of whatever dtype, instead of copying them: for a network without
            memory of its own (on the meta device).

    Raises:
        UserError: a tensor is missing or has another shape.
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
    network.load_state_dict(weights, strict=False, assign=assign)
    return network.eval().requires_grad_(False)
