"""``render.py``: draws a fitted run, or a splat of anyone's, as pictures and videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .asset import Asset
from .clip import Orbit
from .export import (
    ExportOptions,
    write_input_view,
    write_ply_sequence,
    write_turntable,
    write_views,
)
from .io.clips import CONSISTENT4D_AZIMUTHS, read_eval_rig
from .io.owned import claim
from .native import set_threads
from .open_asset import read_asset
from .run_folder import place_of_results, writing_into
from .scene import YAxis


@dataclass(frozen=True)
class RenderOptions(ExportOptions):
    """What to render of a fitted run, or of anyone's splat, and from where."""

    model_path: Path = Path("output/rose")
    """Folder of the run, a file of Gaussians, or a folder with one such file per frame."""
    y_axis: YAxis = "auto"
    """Where up is in files: y up, y down, or z. auto goes by what a file says, and else takes y to
    point down, as viewers do. A run knows it."""
    out: Path | None = None
    """Where pictures and videos go; None: {model_path}/video, or {model_path}/eval_renders with
    --eval. For files they go beside them: scene.spz gets scene_video."""
    eval: bool = False
    """Only render the evaluation views, with alpha, as {out}/{run}/eval_{k}/{t}.png: what `gs4d
    score` reads."""
    rig: Path | None = None
    """Where the evaluation views stand: a rig file or a {clip}_cameras.json; None: Consistent4D's
    azimuths."""
    skip_train: bool = False
    """Do not render the training views as pictures."""
    skip_test: bool = False
    """Do not render the evaluation views as pictures."""
    skip_video: bool = False
    """Do not make the input view's video and the turntable."""
    ply: bool = False
    """Also write the PLY sequence again, at --frames frames."""


def rerender(options: RenderOptions) -> list[Path]:
    """Renders a fitted run without its training data; returns what was written.

    Raises:
        UserError: the run's checkpoint or the rig is absent or damaged, or the output cannot be
            written.
    """
    asset = read_asset(options.model_path, options.y_axis)
    source = asset.orbits["input"][0]
    name, place = place_of_results(options.model_path)
    rig = {f"eval_{k}": replace(source, azimuth=a) for k, a in enumerate(CONSISTENT4D_AZIMUTHS)}
    if options.rig is not None:
        rig = read_eval_rig(options.rig)
    views = {name: (orbit,) for name, orbit in rig.items()}
    set_threads(0)
    with writing_into(options.model_path, options.out):
        return _rerender(options, asset, views, name, place)


def _rerender(
    options: RenderOptions,
    asset: Asset,
    views: dict[str, tuple[Orbit, ...]],
    name: str,
    place: Callable[[str], Path],
) -> list[Path]:
    if options.eval:
        folder = (options.out or place("eval_renders")) / name
        claim(folder)
        write_views(folder, asset, views, options, alpha=True)
        return [folder]
    out = options.out or place("video")
    films = [] if options.skip_video else [out / "input_view.mp4", out / "turntable.mp4"]
    train = [] if options.skip_train else [out / "train"]
    test = [] if options.skip_test else [out / "eval"]
    ply = [place("ply")] if options.ply else []
    claim(*films, *train, *test, *ply)
    if films:
        write_input_view(films[0], asset, options)
        write_turntable(films[1], asset, options)
    for folder in train:
        write_views(folder, asset, asset.orbits, options)
    for folder in test:
        write_views(folder, asset, views, options)
    for folder in ply:
        write_ply_sequence(folder, asset, options)
    return [*films, *train, *test, *ply]
