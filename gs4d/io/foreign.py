"""The boundary for strangers' files.

Parser errors become one sentence, memory is bounded beforehand.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError

MAX_FILE_BYTES = 4 << 30
MEMORY_MOST = 4 << 30  # bytes that one file may unpack to
MEMORY_FLOOR = 256 << 20  # bytes that even the smallest file may unpack to
# bytes that a byte of a file may unpack to, beyond the floor: formats of this field pack 30 to 1 at
# most
MEMORY_RATIO = 200


_log = logging.getLogger(__name__)
_said: set[str] = set()


def warn(sentence: str) -> None:
    """Says on standard error, once, what was decided about a file.

    The same sentence is not repeated.
    """
    if sentence not in _said:
        _said.add(sentence)
        _log.warning("%s", one_line(sentence))


def one_line(text: object, most: int = 2000) -> str:
    """Text without line breaks and control characters, as names in foreign files may hold them."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))[:most]


def damaged(path: Path, what: str) -> UserError:
    """The error that a file ``what`` against its format, for example "ends too early"."""
    return UserError(f"{path} {what}; export it again")


def memory_budget(file_bytes: int) -> int:
    """The bytes of memory that a file of ``file_bytes`` may take when it is unpacked."""
    return min(MEMORY_MOST, MEMORY_FLOOR + MEMORY_RATIO * file_bytes)


def require_memory(name: Path | str, need: int, file_bytes: int, what: str) -> None:
    """Checks what a file would unpack to, before memory is taken for it.

    Args:
        name: of the file, as the sentence calls it.
        need: bytes that would be taken.
        file_bytes: size of the file on disk.
        what: the part that takes them ("accessor 3", "400 frames of 8000x8000 pixels").

    Raises:
        UserError: it is more than :func:`memory_budget` allows.
    """
    budget = memory_budget(file_bytes)
    if need > budget:
        raise UserError(
            f"{name} would take {need / 2**20:.0f} MB of memory for {what}, and a file of "
            f"{file_bytes} bytes may take {budget >> 20} MB; it is damaged or not meant to be "
            "opened: make it smaller"
        )


def require_plain_file(path: Path, what: str = "file") -> int:
    """The size in bytes of an ordinary file.

    Pipes and devices, which could wait for ever, are never opened.

    Raises:
        UserError: it is absent, unreadable, a folder, or no ordinary file.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UserError(f"{what} {path} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"{what} {path} cannot be read ({why}); check its name and permissions"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        raise UserError(f"{what} {path} is {kind}, not a file; give a file")
    return status.st_size


def read_bytes(path: Path) -> bytes:
    """The whole of an ordinary file.

    Raises:
        UserError: it is absent, unreadable, no file, or larger than 4 GB.
    """
    size = require_plain_file(path)
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"{path} has {size >> 20} MB; files of at most {MAX_FILE_BYTES >> 20} MB are read, "
            "split it"
        )
    with foreign(path, "file", "check the disk and its permissions"):
        return path.read_bytes()


@contextmanager
def foreign(path: Path | str, kind: str, advice: str = "export or copy it again") -> Iterator[None]:
    """The block in which a stranger's bytes are parsed.

    Whatever it raises, Ctrl-C apart, leaves as a ``UserError``.

    Args:
        path: the file, as the sentence calls it.
        kind: what it should be ("glTF", "PLY", "a picture").
        advice: what to do about it.

    Raises:
        UserError: the block raised one (unchanged), or anything else, which then is a sentence
            about the file.
    """
    try:
        yield
    except UserError as error:
        if (clean := one_line(error)) != str(error):
            raise UserError(clean) from error
        raise
    except MemoryError as error:
        raise UserError(f"{path} takes more memory than there is; {advice}") from error
    except OSError as error:
        why = one_line(error.strerror or error, 200)
        raise UserError(one_line(f"{path} cannot be read as {kind} ({why}); {advice}")) from error
    except Exception as error:
        why = one_line(error, 200) or type(error).__name__
        raise UserError(
            one_line(
                f"{path} cannot be read because it is not an intact {kind.removeprefix('a ')} file "
                f"({why}); {advice}"
            )
        ) from error
