"""``gs4d dataset``: makes a 4D dataset."""

from __future__ import annotations

ABOUT = """Draws animated assets - procedural objects, or every animation of a folder of glTF files
- as a still orbit, an orbit while time advances and the front view; rejects those that stand still,
overflow, are tiny or flicker; goes on where it was."""


def main(arguments: list[str], program: str = "gs4d dataset") -> None:
    """Parses, makes the dataset, and says where it is."""
    from ..intake.assets import DatasetOptions, make_dataset
    from ..intake.dataset import read_dataset
    from ..options import parse  # seconds, in which Ctrl-C is already heard

    options = parse(
        DatasetOptions, arguments, default=DatasetOptions(), program=program, description=ABOUT
    )
    preview = make_dataset(options)
    print(f"\n{len(read_dataset(options.out))} assets in {options.out}. Look at:\n  {preview}")
