"""``gs4d mesh``: draws a clip from an animated model."""

from __future__ import annotations

ABOUT = """Draws data/NAME_pose0, NAME_sync and NAME_eval from an animated glTF model, without a
screen and without a GPU."""


def main(arguments: list[str], program: str = "gs4d mesh") -> None:
    """Parses, draws, and says where to look."""
    from ..intake.mesh import MeshOptions, make_clip
    from ..options import parse  # seconds, in which Ctrl-C is already heard

    options = parse(
        MeshOptions, arguments, default=MeshOptions(), program=program, description=ABOUT
    )
    previews = make_clip(options)
    print("\nFinished. Look at:")
    for path in previews:
        print(f"  {path}")
