"""``gs4d views``: draws the side views of a clip."""

from __future__ import annotations

ABOUT = """Makes data/NAME_sync and data/NAME_rig.json with a prior. A run that was cut goes on
where it was."""


def main(arguments: list[str], program: str = "gs4d views") -> None:
    """Parses, draws the side views, and says where they are."""
    from ..intake.views import ViewsOptions, make_views
    from ..options import parse  # seconds, in which Ctrl-C is already heard

    options = parse(
        ViewsOptions, arguments, default=ViewsOptions(), program=program, description=ABOUT
    )
    folder = make_views(options)
    print(f"\nFinished. Look at:\n  {folder}_preview.png\n  {folder}/0_0_0_rgba.png ...")
