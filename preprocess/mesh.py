"""Draws a clip from an animated model: python preprocess/mesh.py --path model.glb --name fox."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout may not be installed

from gs4d.cli import guarded
from gs4d.commands.mesh import main

if __name__ == "__main__":
    sys.exit(guarded(partial(main, program="preprocess/mesh.py"), sys.argv[1:]))
