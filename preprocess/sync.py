"""Takes side views that others made: python preprocess/sync.py --path views --name rose"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it works from a checkout that is not installed

from gs4d.cli import guarded

ABOUT = "Makes data/NAME_sync and data/NAME_rig.json from the output of SyncDreamer, Zero123++, SV4D and others."


def main(arguments: list[str]) -> None:
    """Parses, makes the side views, and says where they are."""
    from gs4d.intake.sync import SyncOptions, make_sync
    from gs4d.options import parse  # seconds, in which Ctrl-C is already heard

    options = parse(SyncOptions, arguments, default=SyncOptions(), program="preprocess/sync.py", description=ABOUT)
    folder = make_sync(options)
    rig = options.data_dir / f"{options.name}_rig.json"
    print(f"\nFinished. Look at:\n  {folder}_preview.png\n  {rig}\n  {folder}/0_0_0_rgba.png ...")


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
