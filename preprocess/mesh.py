"""Draws a clip from an animated model: python preprocess/mesh.py --path model.glb --clip Run --name fox"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it works from a checkout that is not installed

from gs4d.cli import guarded

ABOUT = "Draws data/NAME_pose0, NAME_sync and NAME_eval from an animated glTF model, without a screen and without a GPU."


def main(arguments: list[str]) -> None:
    """Parses, draws, and says where to look."""
    from gs4d.intake.mesh import MeshOptions, make_clip
    from gs4d.options import parse  # seconds, in which Ctrl-C is already heard

    options = parse(MeshOptions, arguments, default=MeshOptions(), program="preprocess/mesh.py", description=ABOUT)
    previews = make_clip(options)
    print("\nFinished. Look at:")
    for path in previews:
        print(f"  {path}")


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
