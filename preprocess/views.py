"""Draws the side views of a clip.

Python preprocess/views.py --prior inflate --path data/rose_pose0 --name rose
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # so that it works from a checkout that is not installed

from gs4d.cli import guarded
from gs4d.commands.views import main

if __name__ == "__main__":
    sys.exit(guarded(partial(main, program="preprocess/views.py"), sys.argv[1:]))
