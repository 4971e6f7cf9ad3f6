"""State of long work on disk: safetensors for numbers, JSON for the rest.

Nothing in it can run code.

``checkpoint.json`` names its tensor file and holds its SHA-256. The tensor file is written first
under a name of its own and the JSON is renamed into place last, so that at every moment one whole
checkpoint is there.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import UserError
from .files import atomic_path, read_json, write_json
from .foreign import foreign
from .gaussians import LEVELS, levels_of

FORMAT = 1
INDEX = "checkpoint.json"
# names of tensor files: only such are ever removed
TENSORS = r"checkpoint-\d{7,}-[0-9a-f]{8}\.safetensors"
READ_ATTEMPTS = 50


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Replaces the checkpoint in ``folder`` by this one, atomically.

    Raises:
        UserError: the folder cannot be written or the disk is full; the earlier checkpoint is then
            still whole.
    """
    # A name that was never used: until the index is replaced, the tensors that it names must stay
    # as they are.
    path = folder / f"checkpoint-{record['step']:07d}-{secrets.token_hex(4)}.safetensors"
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with atomic_path(path) as part:
        try:
            save_file(whole, part)
            part.chmod(0o644)
        except SafetensorError as error:
            raise OSError(str(error)) from error
    body = {**record, "format": FORMAT, "tensors": path.name, "sha256": _sha256(path)}
    try:
        write_json(folder / INDEX, {"record": body, "digest": _digest(body)})
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    _remove_tensors(folder, but=path)


def remove_checkpoint(folder: Path) -> None:
    """Removes the checkpoint, the index first.

    Raises:
        OSError: it cannot be removed.
    """
    (folder / INDEX).unlink(missing_ok=True)
    _remove_tensors(folder)


def _remove_tensors(folder: Path, but: Path | None = None) -> None:
    for old in folder.glob("checkpoint-*.safetensors"):
        if old != but and re.fullmatch(TENSORS, old.name):
            old.unlink(missing_ok=True)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the checkpoint in ``folder``, without its tensors.

    Raises:
        UserError: there is none, or it was cut short or changed since it was written.
    """
    if not (folder / INDEX).exists():
        train = f"train it first: gs4d train -e {folder.resolve().name}"
        if not folder.exists():
            raise UserError(f"{folder} does not exist; if it is a run, {train}")
        if (folder / LEVELS).is_file():
            levels_of(folder / LEVELS)
        raise UserError(f"{folder} holds no {INDEX}; {train}, or give files of Gaussians")
    index = read_json(folder / INDEX, "checkpoint", max_bytes=256 << 20)
    record = index.get("record") if isinstance(index, dict) else None
    if not isinstance(record, dict) or index.get("digest") != _digest(record):
        raise UserError(
            f"checkpoint {folder / INDEX} was changed or cut short; train again without --resume"
        )
    if record.get("format") != FORMAT:
        raise UserError(
            f"checkpoint {folder / INDEX} has format {record.get('format')}, this gs4d reads "
            f"{FORMAT}; train again"
        )
    return record


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns tensors and record of one checkpoint, even if it is replaced meanwhile.

    Raises:
        UserError: as :func:`read_record`, or the tensors were cut short or changed.
    """
    for _ in range(READ_ATTEMPTS):
        record = read_record(folder)
        try:
            return _read_tensors(folder, record), record
        except UserError:
            if read_record(folder) == record:
                raise
    raise UserError(
        f"the checkpoint in {folder} is replaced faster than it can be read; try again later"
    )


def _read_tensors(folder: Path, record: dict[str, Any]) -> dict[str, Tensor]:
    path = folder / Path(str(record.get("tensors"))).name
    with foreign(f"checkpoint tensors {path}", "safetensors", "train again without --resume"):
        if not path.is_file() or _sha256(path) != record.get("sha256"):
            raise UserError(
                f"checkpoint tensors {path} are missing, changed or cut short; train again without "
                "--resume"
            )
        return load_file(path)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
