"""Takes side views that others made: ``python preprocess/sync.py --path views --name rose``."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout may not be installed

from gs4d.cli import guarded
from gs4d.commands.sync import main

if __name__ == "__main__":
    sys.exit(guarded(partial(main, program="preprocess/sync.py"), sys.argv[1:]))
