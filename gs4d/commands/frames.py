"""``gs4d frames``: makes the input view of a clip."""

from __future__ import annotations

ABOUT = """Makes data/NAME_pose0 from a video, an animated picture, a folder of pictures, or one
picture: cut out, in one crop."""


def main(arguments: list[str], program: str = "gs4d frames") -> None:
    """Parses, makes the frames, and says where they are."""
    from ..intake.frames import FramesOptions, make_frames
    from ..options import parse  # seconds, in which Ctrl-C is already heard

    options = parse(
        FramesOptions, arguments, default=FramesOptions(), program=program, description=ABOUT
    )
    folder = make_frames(options)
    print(
        f"\nFinished. Look at:\n  {folder}_preview.png\n  {folder}_preview.mp4\n  {folder}/0.png "
        "..."
    )
