"""Trains a network that comes with gs4d.

``python -m gs4d.prior.train --model lift --config train_lift``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ...errors import Interrupted, UserError

if TYPE_CHECKING:
    from .loop import TrainOptions, TrainTask

ABOUT = "Trains lift or mini; flags win over --configs."


def open_task(options: TrainOptions) -> TrainTask:
    """What the model learns.

    Raises:
        UserError: packages are missing, or there is no such prior to draw anew.
    """
    if options.model == "lift":
        from .lift import LiftTask

        return LiftTask(options.solid_store(), options.lift)
    if options.model == "surface":
        from .surface import open_surface_task

        return open_surface_task(options.samples, options.meshes, options.surface)
    try:
        from .mini import MiniTask
    except ImportError:
        raise UserError(
            "training mini needs the packages of the extra [diffusion]; run: pip install "
            "'gs4d[diffusion]'"
        ) from None
    return MiniTask(options.solid_store(), options.base, options.samples / "albums")


def main(arguments: list[str]) -> int:
    """Parses, trains, and says where the results are; the exit code."""
    from ...options import about_presets, parse, read_options, split_config_flag
    from .loop import RENAMED, TrainOptions, new_name, train

    try:
        path, rest = split_config_flag(arguments)
        for i, word in enumerate(rest):
            flag, equals, value = word.partition("=")
            if word.startswith("--") and (old := flag[2:].replace("-", "_")) in RENAMED:
                rest[i] = f"--{new_name(old)}{equals}{value}"
        default = read_options(TrainOptions, path) if path else TrainOptions()
        about = f"{ABOUT} {about_presets(TrainOptions)}"
        options = parse(
            TrainOptions,
            rest,
            default=default,
            program="python -m gs4d.prior.train",
            description=about,
        )
        folder = train(options, open_task(options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted:
        print(
            "\nStopped; everything so far is saved. To go on, give the same command with --resume",
            file=sys.stderr,
        )
        return 130
    print(f"\nFinished. Look at:\n  {folder / 'curves.png'}\n  {folder / 'weights.safetensors'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
