"""Fits a clip: ``python train.py --configs arguments/i2v.py -e rose``."""

import sys
from functools import partial

from gs4d.cli import guarded
from gs4d.commands.train import main

if __name__ == "__main__":
    sys.exit(guarded(partial(main, program="train.py"), sys.argv[1:]))
