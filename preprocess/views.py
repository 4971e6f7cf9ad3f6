"""Draws the side views of a clip: python preprocess/views.py --prior inflate --path data/rose_pose0 --name rose"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it works from a checkout that is not installed

from gs4d.cli import guarded

ABOUT = "Makes data/NAME_sync and data/NAME_rig.json with a prior. A run that was cut goes on where it was."


def main(arguments: list[str]) -> None:
    """Parses, draws the side views, and says where they are."""
    from gs4d.intake.views import ViewsOptions, make_views
    from gs4d.options import parse  # seconds, in which Ctrl-C is already heard

    options = parse(ViewsOptions, arguments, default=ViewsOptions(), program="preprocess/views.py", description=ABOUT)
    folder = make_views(options)
    print(f"\nFinished. Look at:\n  {folder}_preview.png\n  {folder}/0_0_0_rgba.png ...")


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
