"""Local files of network weights: read as plain tensors, never unpickled as code, never fetched."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from ..errors import UserError
from .foreign import foreign, require_plain_file

AGAIN = "download it again"
Network = TypeVar("Network", bound=nn.Module)
# whose objects are left out
TRAINERS = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "omegaconf.", "numpy.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of a state dict saved by ``torch.save``, by name.

    Raises:
        UserError: the file is absent, damaged, or holds anything but named tensors.
    """
    size = require_plain_file(path, "weights file")
    with foreign(f"weights file {path}", "state dict", AGAIN):
        if path.suffix == ".safetensors":
            return load_file(path)
        return _named_tensors(_load(path, size), path)


def read_training_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a training checkpoint (``.ckpt``).

    Those under ``state_dict``, or all where there is no such entry.

    Trainers leave objects of their own packages beside the tensors. Those of :data:`TRAINERS`
    become empty stand-ins, so that neither the packages nor their code are needed; anything else
    that would have to be called is refused. The tensors stay in the file until they are used, so
    that a checkpoint may be larger than the memory.

    Raises:
        UserError: the file is absent, damaged, or holds objects that are not data.
    """
    found = _load_training(path)
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    return _named_tensors(found, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint of any shape, by the dotted names of the mappings that hold them.

    Raises:
        UserError: as :func:`read_training_checkpoint`.
    """
    return dict(_flat(_load_training(path)))


def _flat(value: object, name: str = "", depth: int = 8) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping) and depth:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key), depth - 1)


def _load_training(path: Path) -> object:
    size = require_plain_file(path, "checkpoint")
    with foreign(f"checkpoint {path}", "training checkpoint", AGAIN):
        objects = get_unsafe_globals_in_checkpoint(path)
        if code := sorted(name for name in objects if not name.startswith(TRAINERS)):
            raise UserError(
                f"checkpoint {path} wants to call {code[0]}, which is code and was not run; do not "
                "trust this file"
            )
        with safe_globals([(StandIn, name) for name in objects]):
            return _load(path, size, mmap=True)


def _load(path: Path, size: int, mmap: bool = False) -> object:
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > size:  # torch.save compresses nothing
            raise UserError(
                f"{path} would unpack {size} bytes to {claimed}, as no checkpoint does; download "
                "it again"
            )
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and is_zip)


class StandIn:
    """In the place of a trainer's object: takes what it is given and does nothing."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _named_tensors(found: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(found, Mapping) or not all(
        isinstance(value, Tensor) for value in found.values()
    ):
        raise UserError(
            f"weights file {path} is no state dict of named tensors; save model.state_dict()"
        )
    return dict(found)


def fill(
    network: Network, weights: Mapping[str, Tensor], source: str, *, assign: bool = False
) -> Network:
    """Puts ``weights`` into a network in evaluation mode, frozen.

    Names that it does not have are passed over.

    Args:
        network: what to fill.
        weights: by name.
        source: names the files in sentences.
        assign: make the tensors themselves the parameters, of whatever dtype, instead of copying
            them: for a network without memory of its own (on the meta device).

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
                f"{source} has '{name}' of shape {tuple(weights[name].shape)}, wanted "
                f"{tuple(value.shape)}; it belongs to another network"
            )
    network.load_state_dict(weights, strict=False, assign=assign)
    return network.eval().requires_grad_(False)
