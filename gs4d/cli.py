"""The console command, and what happens around every command: errors become one sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from .errors import UserError, nearest
from .fit import Interrupted

COMMANDS = {"score": ("gs4d.score", "compare renders with truth in the numbers of the field")}


def guarded(command: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Runs ``command``; returns 0, 2 after bad input (one sentence on stderr) or 130 after Ctrl-C."""
    try:
        command(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted:
        again = " ".join(["python", *sys.argv, *([] if "--resume" in sys.argv else ["--resume"])])
        print(f"\nStopped; everything so far is saved. To go on: {again}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    return 0


def dispatch(arguments: list[str]) -> None:
    """Runs the sub-command named first.

    Raises:
        UserError: there is no such sub-command.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        rows = [f"  {name:8} {what}" for name, (_, what) in COMMANDS.items()]
        print("\n".join(["usage: gs4d COMMAND [options]; gs4d COMMAND --help says more", *rows]))
        return
    name = arguments[0]
    if name not in COMMANDS:
        raise UserError(f"gs4d has no command '{name}'{nearest(name, COMMANDS)}; there are: {', '.join(COMMANDS)}")
    import_module(COMMANDS[name][0]).main(arguments[1:])


def main() -> None:
    """The console command ``gs4d``."""
    sys.exit(guarded(dispatch, sys.argv[1:]))
