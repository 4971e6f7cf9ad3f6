"""Trains a network that comes with gs4d: python -m gs4d.prior.train --model lift --config arguments/train_lift.py"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait starve those that make lessons

from ...errors import Interrupted, UserError

ABOUT = "Trains lift or mini. --config FILE takes defaults from a Python file with config = TrainOptions(...)."


def main(arguments: list[str]) -> int:
    """Parses, trains, and says where the results are; the exit code."""
    from ...options import parse, read_options, split_config_flag
    from .lift import LiftCourse
    from .loop import TrainOptions, train

    try:
        path, rest = split_config_flag(arguments)
        default = read_options(TrainOptions, path) if path else TrainOptions()
        options = parse(TrainOptions, rest, default=default, program="python -m gs4d.prior.train", description=ABOUT)
        folder = train(options, LiftCourse(options.school()))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted:
        print("\nStopped; everything so far is saved. To go on, give the same command with --resume", file=sys.stderr)
        return 130
    print(f"\nFinished. Look at:\n  {folder / 'curves.png'}\n  {folder / 'weights.safetensors'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
