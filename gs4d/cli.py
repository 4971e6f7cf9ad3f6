"""What happens around a command: errors become one sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .errors import UserError
from .fit import Interrupted


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
