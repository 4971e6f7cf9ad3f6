"""The command ``gs4d``, and what happens around a command.

Errors become one sentence and an exit code.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from . import __version__
from .errors import Interrupted, UserError, nearest, os_sentence, stop, stop_signals
from .outlets import keep_open

COMMANDS = {  # modules with a main(arguments)
    "train": (
        "gs4d.commands.train",
        "fits a clip, or makes one from a video, a picture or a sentence and fits it",
    ),
    "render": ("gs4d.commands.render", "draws a fitted run or a splat file again, from anywhere"),
    "frames": ("gs4d.commands.frames", "makes the input view of a clip from a video or pictures"),
    "sync": ("gs4d.commands.sync", "takes side views that other tools made"),
    "views": ("gs4d.commands.views", "draws the side views of a clip with a prior"),
    "mesh": ("gs4d.commands.mesh", "draws a clip from an animated glTF model"),
    "dataset": (
        "gs4d.commands.dataset",
        "makes a 4D dataset from procedural objects or animated models",
    ),
    "doctor": (
        "gs4d.doctor",
        "what is there of machine, libraries and priors, and how to get what is missing",
    ),
    "export": ("gs4d.deliver", "a fitted run as splats, one animated file, videos or a mesh"),
    "score": ("gs4d.score", "renders against truth, in the numbers of the field"),
    "view": (
        "gs4d.view.server",
        "shows a run, finished or still training, or a splat file in the browser",
    ),
}


def guarded(command: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Runs ``command`` and returns an exit code.

    It is 0, or 2 after bad input (one sentence on stderr), or 130 after a signal to stop.
    """
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
        return _refuse(
            "there is not enough memory; ask for fewer Gaussians, smaller pictures or a coarser "
            "motion field"
        )
    except Interrupted:
        again = shlex.join([*as_typed(sys.argv), *([] if "--resume" in sys.argv else ["--resume"])])
        print(f"\nStopped; everything so far is saved. To go on: {again}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\nStopped; what was finished is kept.", file=sys.stderr)
        return 130
    return 0


def as_typed(argv: list[str]) -> list[str]:
    """The words of a command line, from what Python makes of them.

    A script, ``gs4d`` or ``python -m gs4d``.
    """
    program = Path(argv[0])
    if program.name == "__main__.py":
        return ["python", "-m", program.parent.name, *argv[1:]]
    return ["python", *argv] if program.suffix == ".py" else [program.stem, *argv[1:]]


def _refuse(sentence: str) -> int:
    from tqdm import tqdm

    # tqdm clears a progress bar that is still on the line.
    tqdm.write(f"error: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def main() -> int:
    """``gs4d COMMAND ...``; see :func:`guarded` for the exit codes."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name == "--version":
        print(f"gs4d {__version__}")
        return 0
    if name in ("-h", "--help"):
        print("usage: gs4d COMMAND [--help | options], or gs4d --version\n")
        print("\n".join(f"  {command:8} {what}" for command, (_, what) in COMMANDS.items()))
        return 0
    return guarded(lambda rest: _command(name)(rest), arguments)


def _command(name: str) -> Callable[[list[str]], None]:
    if name not in COMMANDS:
        raise UserError(
            f"no command named '{name}'{nearest(name, COMMANDS)}; there are: {', '.join(COMMANDS)}"
        )
    return import_module(COMMANDS[name][0]).main
