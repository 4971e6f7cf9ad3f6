"""The command ``gs4d``, and what happens around a command: errors become one sentence and an exit code."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from importlib import import_module

from .errors import Interrupted, UserError, nearest, os_sentence, stop, stop_signals
from .outlets import keep_open

COMMANDS = {  # modules with a main(arguments)
    "doctor": ("gs4d.doctor", "what is there of machine, libraries and priors, and how to get what is missing"),
    "export": ("gs4d.deliver", "a fitted run as splats, one animated file, videos or a mesh"),
    "score": ("gs4d.score", "renders against truth, in the numbers of the field"),
    "view": ("gs4d.view.server", "shows a run, finished or still training, or a splat file in the browser"),
}


def guarded(command: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Runs ``command``; returns 0, 2 after bad input (one sentence on stderr) or 130 after Ctrl-C or another signal to stop."""
    for number in stop_signals():
        signal.signal(number, stop)
    keep_open()
    try:
        command(arguments)
    except UserError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(os_sentence(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        return _refuse("there is not enough memory; ask for fewer Gaussians, smaller pictures or a coarser motion field")
    except Interrupted:
        again = shlex.join(["python", *sys.argv, *([] if "--resume" in sys.argv else ["--resume"])])
        print(f"\nStopped; everything so far is saved. To go on: {again}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\nStopped; what was finished is kept.", file=sys.stderr)
        return 130
    return 0


def _refuse(sentence: str) -> int:
    from tqdm import tqdm

    tqdm.write(f"error: {' '.join(sentence.split())}", file=sys.stderr)  # clears a progress bar that is still on the line
    return 2


def main() -> int:
    """``gs4d COMMAND ...``; see :func:`guarded` for the exit codes."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help"):
        print("usage: gs4d COMMAND [--help | options]\n")
        print("\n".join(f"  {command:8} {what}" for command, (_, what) in COMMANDS.items()))
        return 0
    return guarded(lambda rest: _command(name)(rest), arguments)


def _command(name: str) -> Callable[[list[str]], None]:
    if name not in COMMANDS:
        raise UserError(f"no command named '{name}'{nearest(name, COMMANDS)}; there are: {', '.join(COMMANDS)}")
    return import_module(COMMANDS[name][0]).main
