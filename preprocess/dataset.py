"""Makes a 4D dataset: python preprocess/dataset.py --source synth|FOLDER --out DIR"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it works from a checkout that is not installed

from gs4d.cli import guarded

ABOUT = """Draws animated assets - procedural objects, or every animation of a folder of glTF files - as a still orbit, an
orbit while time advances and the front view; rejects those that stand still, overflow, are tiny or flicker; goes on
where it was."""


def main(arguments: list[str]) -> None:
    """Parses, makes the dataset, and says where it is."""
    from gs4d.intake.assets import DatasetOptions, make_dataset
    from gs4d.intake.dataset import read_dataset
    from gs4d.options import parse  # seconds, in which Ctrl-C is already heard

    options = parse(DatasetOptions, arguments, default=DatasetOptions(), program="preprocess/dataset.py", description=ABOUT)
    preview = make_dataset(options)
    print(f"\n{len(read_dataset(options.out))} assets in {options.out}. Look at:\n  {preview}")


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
