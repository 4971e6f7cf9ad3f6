"""What concerns the person at the keyboard: the one error that is meant for them, and Ctrl-C."""

import difflib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

RESERVED = frozenset({"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))})  # Windows


class UserError(ValueError):
    """Bad input or a bad setting: one sentence that says what, where, and what to do. Commands print it and exit with 2."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or SIGTERM, after its state was saved."""


def require_ranges(where: str, options: Any, **ranges: tuple[float | int, float | int]) -> None:
    """Checks that numbers (or all numbers of a tuple) lie in their ranges, both ends included; NaN lies in none.

    Raises:
        UserError: the first that does not, with its range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        if any(not low <= number <= high for number in (value if isinstance(value, tuple) else (value,))):
            raise UserError(f"{where}.{name} is {value}; it must lie in {low:g} to {high:g}")


def require_folder_name(option: str, name: str) -> None:
    """Checks that the name of a clip or a run can be part of a folder's name on every system.

    Raises:
        UserError: it cannot; ``option`` says where it was given.
    """
    ends = name.startswith(".") or name != name.strip(" ") or name.endswith(".")
    long = len(name) > 100 or len(name.encode(errors="replace")) > 200  # bytes: 255 with what is appended
    if not name or long or ends or not name.isprintable() or set(name) & set('/\\:*?"<>|') or name.upper() in RESERVED:
        raise UserError(f"{option} is '{name}', which is no name of a folder; give the part of NAME_pose0 before _pose0")


def nearest(word: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the closest of ``known``, or an empty string when nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or SIGTERM) into a flag, so that a step is never cut in half; a second one stops at once."""
    pressed: list[int] = []

    def remember(signum: int, _frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(signum)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(pressed)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
