"""Files appear whole or not at all: everything is written under a temporary name and renamed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside ``path``, which becomes ``path`` when the block ends well and is removed otherwise.

    The temporary name keeps the suffix, for writers that look at it. A folder in the way is replaced as a whole.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another folder or free it") from error
    part = holder / path.name
    try:
        yield part
        if path.is_dir() and part.is_dir():
            os.replace(path, holder / "old")
        os.replace(part, path)
    except OSError as error:
        why = " ".join(str(error.strerror or error).split())[:200]
        raise UserError(f"cannot write {path}: {why}; nothing was left half-written") from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON with sorted keys, atomically."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path, what: str, max_bytes: int = 16 << 20) -> Any:
    """Reads a small JSON file.

    Raises:
        UserError: it is absent, larger than ``max_bytes``, or not JSON; ``what`` names it in the sentence.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise UserError(f"{what} {path} is larger than {max_bytes >> 20} MB, which is not what it should be")
        return json.loads(path.read_bytes())  # UTF-8 or UTF-16, with a byte order mark or without
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{what} {path} is not valid JSON ({error}); restore or delete it") from error
