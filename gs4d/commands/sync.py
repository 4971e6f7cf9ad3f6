"""``gs4d sync``: takes side views that others made."""

from __future__ import annotations

ABOUT = """Makes data/NAME_sync and data/NAME_rig.json from the output of SyncDreamer, Zero123++,
SV4D and others."""


def main(arguments: list[str], program: str = "gs4d sync") -> None:
    """Parses, makes the side views, and says where they are."""
    from ..intake.sync import SyncOptions, make_sync
    from ..options import parse  # seconds, in which Ctrl-C is already heard

    options = parse(
        SyncOptions, arguments, default=SyncOptions(), program=program, description=ABOUT
    )
    folder = make_sync(options)
    rig = options.data_dir / f"{options.name}_rig.json"
    print(f"\nFinished. Look at:\n  {folder}_preview.png\n  {rig}\n  {folder}/0_0_0_rgba.png ...")
