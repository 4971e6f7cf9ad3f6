"""Locks that end with their process, however it ends.

On local disks, and on network disks that keep locks.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError

# from file systems that keep none
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
OWNER_BYTES = 200
WINDOWS_OFFSET = 1 << 30  # of the locked byte: Windows keeps others from reading what is locked


@contextmanager
def one_writer(lock: Path, busy: str | None) -> Iterator[None]:
    """Keeps every other process out of what ``lock`` stands for until the block ends.

    Args:
        lock: a file that is made for this in a folder that exists, and removed.
        busy: the sentence when another process holds it, which then names that process; None waits.

    Raises:
        UserError: another process holds it, or the file cannot be written.
    """
    try:
        held = take(lock, wait=busy is None)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise UserError(
                f"cannot write {lock}: {error.strerror or error}; choose another folder"
            ) from error
        print(
            f"warning: {lock.parent} is on a disk without locks, so start nothing else that writes "
            "there",
            file=sys.stderr,
        )
        yield
        return
    if held is None:
        raise UserError(f"{busy}{_owner(lock)}")
    try:
        with suppress(OSError):
            os.truncate(held, 0)
            os.write(held, f"process {os.getpid()} on {platform.node()}".encode()[:OWNER_BYTES])
        yield
    finally:
        with suppress(OSError):  # Windows keeps the name of an open file
            lock.unlink()
        release(held)


def take(path: Path, *, create: bool = True, wait: bool = False) -> int | None:
    """Locks a file and returns its descriptor; None if another process holds it.

    Raises:
        FileNotFoundError: it is absent and not to be made.
        OSError: it cannot be opened, or its file system keeps no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
        try:
            if not _lock(descriptor, wait):
                os.close(descriptor)
                return None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it before it let go


def release(descriptor: int | None) -> None:
    """Gives up a lock that :func:`take` returned."""
    if descriptor is not None:
        os.close(descriptor)


def _owner(lock: Path) -> str:
    with suppress(OSError, ValueError), lock.open("rb") as file:
        if said := file.read(OWNER_BYTES).decode():
            return f" ({said})" if said.isprintable() else ""
    return ""


if sys.platform == "win32":
    import msvcrt
    import time

    def _lock(descriptor: int, wait: bool) -> bool:
        while True:
            try:
                os.lseek(descriptor, WINDOWS_OFFSET, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                os.lseek(descriptor, 0, os.SEEK_SET)
                return True
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise
                if not wait:
                    return False
                time.sleep(0.2)

else:

    def _lock(descriptor: int, wait: bool) -> bool:
        """Locks the open file, not the process: threads too are kept out.

        On NFS, Linux has the server keep the lock.
        """
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True
