"""``gs4d train``: fits a clip."""

from __future__ import annotations

from contextlib import ExitStack

ABOUT = "Fits moving Gaussians to a clip; flags win over --configs."
COMMON = {  # options that --help shows, of more than a hundred
    "run": ("name", "output_dir", "data_dir", "seed", "resume", "view"),
    "input": ("video", "image", "text", "still", "image_prior", "video_prior", "matting"),
    "other sides": ("pseudo.prior", "prior"),
    "fit": ("fit.steps", "fit.resolution", "fit.gaussians", "fit.threads"),
    "export": ("export.to", "export.fps", "export.camera"),
}


def main(arguments: list[str], program: str = "gs4d train") -> None:
    """Parses, runs, and says where the results are."""
    from ..config import Config, load_config  # seconds, in which Ctrl-C is already heard
    from ..options import about_presets, parse, split_config_flag
    from ..pipeline import run

    path, rest = split_config_flag(arguments)
    default = load_config(path) if path else Config()
    config = parse(
        Config,
        rest,
        default=default,
        program=program,
        description=f"{ABOUT} {about_presets(Config)}",
        common=COMMON,
    )
    with ExitStack() as stack:
        window = None
        if config.view:
            from ..view.live import LiveWindow

            window = stack.enter_context(LiveWindow(config.view_port))
            print(f"Live window: {window.url}")
        folder = run(config, window)
    print(f"\nFinished. Look at:\n  {folder / 'turntable.mp4'}\n  {folder / 'input_view.mp4'}")
    print(f"  {folder / 'ply'}/0000.ply ... one splat per frame\n  {folder / 'report.html'}")
    for path in sorted((folder / "views").glob("*_preview.png")):
        print(f"  {path}: what a prior made up for the other sides")
    for path in sorted((folder / "export").glob("*")):
        print(f"  {path}")
