"""Makes the input view of a clip: python preprocess/frames.py --path clip.mp4 --name rose"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it works from a checkout that is not installed

from gs4d.cli import guarded

ABOUT = "Makes data/NAME_pose0 from a video, an animated picture, a folder of pictures, or one picture: cut out, in one crop."


def main(arguments: list[str]) -> None:
    """Parses, makes the frames, and says where they are."""
    from gs4d.intake.frames import FramesOptions, make_frames
    from gs4d.options import parse  # seconds, in which Ctrl-C is already heard

    options = parse(FramesOptions, arguments, default=FramesOptions(), program="preprocess/frames.py", description=ABOUT)
    folder = make_frames(options)
    print(f"\nFinished. Look at:\n  {folder}_preview.png\n  {folder}_preview.mp4\n  {folder}/0.png ...")


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
