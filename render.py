"""Renders a fitted run: ``python render.py --model_path output/rose``."""

import sys
from functools import partial

from gs4d.cli import guarded
from gs4d.commands.render import main

if __name__ == "__main__":
    sys.exit(guarded(partial(main, program="render.py"), sys.argv[1:]))
