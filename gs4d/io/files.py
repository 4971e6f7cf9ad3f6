"""Files appear whole or not at all.

Everything is written under a temporary name, flushed to the disk, and renamed.

A temporary name lies in a holder, a folder ``.NAME.xxxxxxxx.part`` beside the target, with a lock
in it that ends with the process. A holder whose lock is free was left by a process that was killed;
the next that writes there clears it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from .locks import NO_LOCKS, release, take

HOLDER = re.compile(r"\..*\.[a-z0-9_]{8}\.part", re.DOTALL)
LOCK = "gs4d.lock"  # in a holder
ASIDE = "aside"  # folder in a holder for what is being replaced
# from file systems that cannot flush
NO_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES}
_cleared: set[str] = set()  # folders whose holders this process has looked through


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary name, which becomes ``path`` when the block ends well.

    The temporary name keeps the suffix, for writers that look at it. A folder in the way is
    replaced as a whole. The content is on the disk before the name is.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (parent := os.path.realpath(path.parent)) not in _cleared:
            clear_stale(path.parent)
            _cleared.add(parent)
        holder, lock = _hold(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose another folder or free it"
        ) from error
    part = holder / path.name
    try:
        yield part
        # in a holder, all is flushed together at its end
        if not any(HOLDER.fullmatch(name) for name in path.parts[:-1]):
            flush(part)
        _put(part, path, holder / ASIDE)
        _flush_one(path.parent)
    except OSError as error:
        why = " ".join(str(error.strerror or error).split())[:200]
        raise UserError(f"cannot write {path}: {why}; nothing was left half-written") from error
    finally:
        release(lock)
        shutil.rmtree(holder, ignore_errors=True)


def _hold(path: Path) -> tuple[Path, int | None]:
    while True:
        holder = Path(
            tempfile.mkdtemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
        )
        try:
            lock = take(holder / LOCK)
        except FileNotFoundError:  # another process cleared it, before it had a lock
            continue
        except OSError as error:
            if error.errno not in NO_LOCKS:
                shutil.rmtree(holder, ignore_errors=True)
                raise
            return holder, None  # nobody will ever take it for stale
        if lock is not None:
            return holder, lock


def _put(part: Path, path: Path, aside: Path) -> None:
    """Renames ``part`` to ``path``; what is there is either replaced or as it was."""
    if not (path.is_dir() and part.is_dir()):
        os.replace(part, path)
        return
    aside.mkdir()
    try:
        os.replace(path, aside / path.name)
        os.replace(part, path)
    except BaseException:
        if not os.path.lexists(path):
            os.replace(aside / path.name, path)
        raise


def clear_stale(folder: Path) -> None:
    """Removes what killed processes left in ``folder``, and puts back what was being replaced."""
    with os.scandir(folder) as entries:
        holders = [
            Path(e.path)
            for e in entries
            if HOLDER.fullmatch(e.name) and e.is_dir(follow_symlinks=False)
        ]
    for holder in holders:
        with suppress(OSError):
            try:
                lock = take(holder / LOCK, create=False)
            except FileNotFoundError:
                # killed before it had a lock; any other content is not ours, and stays
                holder.rmdir()
                continue
            if lock is None:
                continue  # its process lives
            try:
                for old in (holder / ASIDE).glob("*"):
                    if not os.path.lexists(folder / old.name):
                        os.replace(old, folder / old.name)
            finally:
                release(lock)
            shutil.rmtree(holder, ignore_errors=True)


def flush(path: Path) -> None:
    """Flushes a file, or a folder and all in it, to the disk.

    Raises:
        OSError: the disk is full or broken: some file systems say so only now.
    """
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            if not child.is_symlink():
                flush(child)
    _flush_one(path)


def _flush_one(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Writes JSON with sorted keys, atomically."""
    text = json.dumps(value, indent=indent, sort_keys=True, allow_nan=False) + "\n"
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: Path, what: str, max_bytes: int = 16 << 20) -> Any:
    """Reads a small JSON file; a byte order mark before it is skipped.

    Raises:
        UserError: it is absent, larger than ``max_bytes``, or not JSON; ``what`` names it in the
            sentence.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise UserError(
                f"{what} {path} is larger than {max_bytes >> 20} MB, which is not what it should be"
            )
        return json.loads(path.read_bytes())  # UTF-8 or UTF-16, with a byte order mark or without
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{what} {path} is not valid JSON ({error}); restore or delete it"
        ) from error
