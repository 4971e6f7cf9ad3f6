"""Fits a clip: python train.py --configs arguments/i2v.py -e rose"""

import sys
from contextlib import ExitStack

from gs4d.cli import guarded

ABOUT = "Fits moving Gaussians to a clip. --configs FILE takes defaults from a Python config file, or from a run's config.json."


def main(arguments: list[str]) -> None:
    """Parses, runs, and says where the results are."""
    from gs4d.config import Config, load_config  # seconds, in which Ctrl-C is already heard
    from gs4d.options import parse, split_config_flag
    from gs4d.pipeline import run

    path, rest = split_config_flag(arguments)
    default = load_config(path) if path else Config()
    config = parse(Config, rest, default=default, program="train.py", description=ABOUT)
    with ExitStack() as stack:
        window = None
        if config.view:
            from gs4d.view.live import LiveWindow

            window = stack.enter_context(LiveWindow(config.view_port))
            print(f"Live window: {window.url}")
        folder = run(config, window)
    print(f"\nFinished. Look at:\n  {folder / 'turntable.mp4'}\n  {folder / 'input_view.mp4'}")
    print(f"  {folder / 'ply'}/0000.ply ... one splat per frame\n  {folder / 'report.html'}")
    for path in sorted((folder / "views").glob("*_preview.png")):
        print(f"  {path}: what a prior made up for the other sides")
    for path in sorted((folder / "export").glob("*")):
        print(f"  {path}")


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
