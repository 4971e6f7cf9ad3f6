"""Renders a fitted run: python render.py --model_path output/rose"""

import sys

from gs4d.cli import guarded


def main(arguments: list[str]) -> None:
    """Parses, renders, and says where the results are."""
    from gs4d.options import parse, split_config_flag  # seconds, in which Ctrl-C is already heard
    from gs4d.pipeline import RenderOptions, rerender

    _, rest = split_config_flag(arguments)  # 4DGen's users pass one; a run remembers its own
    options = parse(RenderOptions, rest, default=RenderOptions(), program="render.py", description="Renders a fitted run.")
    for path in rerender(options):
        print(path)


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
