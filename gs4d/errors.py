"""What concerns the person at the keyboard.

The one error that is meant for them, what the system refuses, and Ctrl-C.
"""

import difflib
import errno
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

# Windows
RESERVED = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))}
)


class UserError(ValueError):
    """Bad input or a bad setting: one sentence that says what, where, and what to do.

    Commands print it and exit with 2.
    """


class Interrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or another of :func:`stop_signals`, after its state was saved."""


ADVICE = {  # by the code of an OSError: why, and what to do
    errno.ENOSPC: "the disk is full; free some space, or write to another disk",
    errno.EDQUOT: "the quota of the disk is used up; free some space, or write to another disk",
    errno.EFBIG: "the file would be larger than is allowed here; write to another disk, or raise "
    "the limit (ulimit -f)",
    errno.EROFS: "the disk is read-only; write to another folder",
    errno.EACCES: "permission denied; change its permissions, or choose another folder",
    errno.EPERM: "operation not permitted; change its permissions, or choose another folder",
    errno.ENOENT: "it does not exist; check the path",
    errno.ENOTDIR: "a part of the path is a file and no folder; check the path",
    errno.EISDIR: "it is a folder and no file; check the path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine; close other programs",
    errno.ENOMEM: "there is not enough memory; close other programs, or ask for less",
    errno.EIO: "the disk or network drive failed; check it",
    errno.ESTALE: "the network drive was connected anew meanwhile; try again",
}


def os_sentence(error: OSError) -> str:
    """What the system refused, of which file, and what to do."""
    path = next((str(name) for name in (error.filename, error.filename2) if name is not None), None)
    if path is None and error.errno == errno.ENOENT and "temporary directory" in str(error):
        return (
            "no folder for temporary files can be written; have TMPDIR name one that exists and "
            "has space"
        )
    why = ADVICE.get(error.errno or 0)
    if why is None or (path is None and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)):
        said = str(error.strerror or error) or type(error).__name__
        why = f"{' '.join(said.split())[:200]}; check files, disks and network"
    return f"{path}: {why}" if path else why


def require_folder_name(option: str, name: str) -> None:
    """Checks that the name of a clip or a run can be part of a folder's name on every system.

    Raises:
        UserError: it cannot; ``option`` says where it was given.
    """
    ends = name.startswith(".") or name != name.strip(" ") or name.endswith(".")
    # 200 bytes: file systems take 255, with what is appended
    long = len(name) > 100 or len(name.encode(errors="replace")) > 200
    if (
        not name
        or long
        or ends
        or not name.isprintable()
        or set(name) & set('/\\:*?"<>|')
        or name.upper() in RESERVED
    ):
        raise UserError(
            f"{option} is '{name}', which is no name of a folder; give the part of NAME_pose0 "
            "before _pose0"
        )


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns ``" (did you mean 'x'?)"`` for the closest of ``known``, or "" if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


# Signal of a terminal that is closed; it is sent more than once: by the system and by the shell.
HANGUP = getattr(signal, "SIGHUP", None)


def stop_signals() -> list[int]:
    """Returns the signals that ask a command to stop.

    They come from Ctrl-C and Ctrl-backslash, a system that shuts down and a terminal that is
    closed. A closed terminal is left out where somebody asked to go on without one (nohup).
    """
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGQUIT", "SIGBREAK")]
    if HANGUP is not None and signal.getsignal(HANGUP) != signal.SIG_IGN:
        numbers.append(HANGUP)
    return [number for number in numbers if number is not None]


def stop(signum: int, _frame: object) -> None:
    """Handles a signal to stop as Python handles Ctrl-C.

    Of those about the terminal only the first counts.
    """
    if signum == HANGUP:
        signal.signal(signum, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turns the first signal to stop into a flag, so that a step is never cut in half.

    A second one stops at once.

    One about the terminal never stops at once, and what comes after the block is not disturbed by
    another.
    """
    pressed: list[int] = []

    def remember(signum: int, _frame: object) -> None:
        if pressed and signum != HANGUP:
            raise KeyboardInterrupt
        pressed.append(signum)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, remember) for number in stop_signals()}
    try:
        yield lambda: bool(pressed)
    finally:
        for number, handler in before.items():
            signal.signal(
                number, signal.SIG_IGN if number == HANGUP and number in pressed else handler
            )
