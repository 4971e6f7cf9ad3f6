"""Makes the input view of a clip: ``python preprocess/frames.py --path clip.mp4 --name rose``."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout may not be installed

from gs4d.cli import guarded
from gs4d.commands.frames import main

if __name__ == "__main__":
    sys.exit(guarded(partial(main, program="preprocess/frames.py"), sys.argv[1:]))
