"""The checkpoint of a fit: its keys, and what may change when it is resumed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..asset_record import motion_record, of_motion, pack_asset, unpack_gaussians
from ..clip import Clip, Pictures
from ..errors import UserError
from ..io.checkpoint import read_checkpoint, read_record, write_checkpoint
from ..options import changes, from_record, to_record
from .options import FitOptions
from .state import State

if TYPE_CHECKING:
    from .loop import Fitter

FREE = {"fit.threads", "fit.checkpoint_seconds"}  # options on which results do not depend


def save(fitter: Fitter, folder: Path) -> None:
    """Writes the whole state of a fit, which :func:`restore` takes up."""
    state = fitter.state
    tensors, record = pack_asset(fitter.asset())
    for name, slot, moments in _moments(state):
        tensors |= {f"optimizer.{name}.{slot}.{key}": t for key, t in moments.items()}
    tensors |= {
        "need.total": state.need.total,
        "need.seen": state.need.seen,
        "random": state.generator.get_state(),
    }
    record |= {
        "step": fitter.step,
        "seconds": fitter.seconds,
        "history": fitter.history,
        "options": asdict(fitter.options),
        "pictures": fingerprint(fitter.clip),
    }
    write_checkpoint(folder, tensors, record)


def restore(fitter: Fitter, folder: Path) -> State:
    """The state that :func:`save` wrote; ``fitter`` gets step, seconds and history.

    Raises:
        UserError: the checkpoint is absent, damaged, or of another clip or configuration.
    """
    tensors, record = read_checkpoint(folder)
    options, clip = fitter.options, fitter.clip
    try:
        wanted = json.loads(json.dumps(motion_record(options.motion, clip.frames)))
        # Earlier records also say what they have no more of: {"trajectories": None}.
        if record["motion"] not in (wanted, {**wanted, "trajectories": None}):
            raise ValueError("the number of frames or the motion options changed")
        if record["pictures"] != fingerprint(clip):
            raise ValueError("the pictures or the cameras of the clip changed")
        generator = torch.Generator()
        generator.set_state(tensors["random"])
        state = State(options, clip.frames, unpack_gaussians(tensors), generator, fitter.device)
        state.field.load_state_dict(of_motion(tensors))
        for group in state.optimizer.param_groups:
            for slot, parameter in enumerate(group["params"]):
                head = f"optimizer.{group['name']}.{slot}."
                moments = {
                    k.removeprefix(head): t for k, t in tensors.items() if k.startswith(head)
                }
                if moments:
                    state.optimizer.state[parameter] = {
                        k: t.to(parameter.device) for k, t in moments.items()
                    }
        state.need.total, state.need.seen = tensors["need.total"], tensors["need.seen"]
        fitter.step, fitter.seconds = record["step"], record["seconds"]
        fitter.history = record["history"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"the checkpoint in {folder} does not fit this run ({error}); train without --resume"
        ) from error
    return state


def changed(folder: Path, options: FitOptions) -> list[str]:
    """The options of a checkpoint that differ now, as :func:`gs4d.options.changes` says it.

    Those on which results do not depend may differ.

    Raises:
        UserError: the checkpoint is absent or damaged, or has options that are not known.
    """
    where = f"checkpoint in {folder}"
    before = from_record(FitOptions, read_record(folder)["options"], where)
    rows = changes(to_record(before), to_record(options), "fit.")
    return [row for row in rows if row.split()[0] not in FREE]


def fingerprint(clip: Clip) -> int:
    """CRC-32 of all pictures and cameras, so that a run is not resumed on others."""
    value = zlib.crc32(repr([(track.orbits, track.confidence) for track in clip.tracks]).encode())
    for track in clip.tracks:
        images = track.images
        if isinstance(images, Pictures):
            value = images.digest(value)
        else:
            value = zlib.crc32(images.numpy().tobytes(), value)
        if track.confidence_map is not None:
            value = zlib.crc32(track.confidence_map.numpy().tobytes(), value)
    return value


def _moments(state: State) -> Iterator[tuple[str, int, dict[str, Tensor]]]:
    """Adam's state of every parameter that has one: group, place in it, tensors."""
    for group in state.optimizer.param_groups:
        for slot, parameter in enumerate(group["params"]):
            if parameter in state.optimizer.state:
                yield group["name"], slot, state.optimizer.state[parameter]
