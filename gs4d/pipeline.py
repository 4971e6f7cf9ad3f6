"""The recipe: text, picture or video -> clip -> fit -> asset -> files -> report."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from . import __version__
from .asset import Asset
from .checkpoint import read_asset
from .clip import Clip, Orbit, over_white
from .config import Config, load_config, save_config
from .deliver import place_of_results
from .demo import write_rose
from .errors import UserError
from .export import (
    ExportOptions,
    export,
    export_paths,
    write_input_view,
    write_ply_sequence,
    write_turntable,
    write_views,
)
from .fit import Observer, fit
from .guidance import open_score_prior
from .intake.pseudo import make_pseudo_views
from .io.checkpoint import INDEX, read_record
from .io.clips import CONSISTENT4D_AZIMUTHS, read_clip, read_eval_rig
from .io.files import write_json
from .io.locks import one_writer
from .io.owned import claim
from .machine import peak_memory_mb
from .metrics.image import SSIM_WINDOW, inside, mask_iou, psnr, psnr_inside, ssim
from .native import set_threads
from .options import changes, to_record
from .origins import make_input
from .prior import open_prior
from .render import Render, render
from .report import motion_amount, write_report
from .run_folder import CONFIG, RESULTS, VIEWS, clear_run, run_folder, writing_into
from .scene import YAxis


def run(config: Config, on_step: Observer | None = None) -> Path:
    """Does everything that a run does and returns its folder; ``on_step`` watches the fit.

    Raises:
        UserError: the input or the settings are wrong; the sentence says what to do.
        Interrupted: Ctrl-C; the state is saved.
    """
    # 1. The input: made of a video, a picture or a sentence if one is given; the built-in rose, if
    # it is asked for and absent.
    drawn_by = _make_input(config)
    if config.resume:
        _check_unchanged(config.folder, config)
    with run_folder(config.folder):
        return _run(config, config.folder, drawn_by, on_step)


def _run(
    config: Config, folder: Path, drawn_by: list[dict[str, str]], on_step: Observer | None
) -> Path:
    """The run in its folder, which is this process's alone."""
    # 2. The prior, so that a wrong one is refused before anything is changed.
    prior = open_score_prior(config.prior, config.fit.score) if config.prior is not None else None
    interpolator = (
        open_prior(config.fit.interpolator, "middle")
        if config.fit.interpolator is not None
        else None
    )

    # 3. Side views, where the clip has none.
    made = make_pseudo_views(config.data_dir, config.clip, config.pseudo, folder / VIEWS)
    clip = read_clip(config.data_dir, config.clip, resolution=config.fit.resolution, side_dir=made)
    if len(clip.tracks) == 1:
        print(
            f"{config.data_dir / (config.clip + '_sync')} does not exist, so only the input view "
            "is fitted: "
            "the other sides are not seen by any picture, and will look like nothing in particular."
        )
    config.fit.check(clip)

    # 4. The folder: the effective config beside the results.
    targets = [
        *(folder / name for name in RESULTS),
        *export_paths(folder / "export", config.name, config.export),
    ]
    claim(*targets) if config.resume else clear_run(folder, targets)
    save_config(folder / CONFIG, config)
    set_threads(config.fit.threads)

    # 5. The fit.
    fitter = fit(
        clip,
        config.fit,
        folder,
        prior=prior,
        interpolator=interpolator,
        resume=config.resume,
        on_step=on_step,
    )

    # 6. The asset leaves in the formats that others read.
    asset = read_asset(folder)
    write_ply_sequence(folder / "ply", asset, config.export)
    write_input_view(folder / "input_view.mp4", asset, config.export)
    write_turntable(folder / "turntable.mp4", asset, config.export)
    export(asset, folder / "export", config.name, config.export)

    # 7. The report.
    report = {
        "name": config.name,
        "clip": config.clip,
        "config": to_record(config),
        "scores": score_asset(asset, clip),
        "fit_seconds": round(fitter.seconds, 2),
        "steps": fitter.step,
        "gaussians": asset.gaussians.count,
        "peak_memory_mb": peak_memory_mb(),
        "history": fitter.history,
        "motion": motion_amount(asset),
        "versions": versions(),
        "weights": [
            *drawn_by,
            *(
                row
                for network in (prior, interpolator)
                if network is not None
                for row in network.weights
            ),
        ],
    }
    write_json(folder / "report.json", report)
    write_report(folder, report, asset, clip)
    return folder


def _make_input(config: Config) -> list[dict[str, str]]:
    """Makes the clip where it is to be made.

    One process does, and another that wants the same waits and finds it.
    """
    demo = config.clip == "rose" and not (config.data_dir / "rose_pose0").exists()
    if config.check_origin() is None and not demo:
        return []
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {config.data_dir}: {error.strerror or error}; choose another --data_dir"
        ) from error
    with one_writer(config.data_dir / f".{config.clip}.lock", None):
        drawn_by = make_input(config, config.data_dir, config.clip)
        if demo:
            write_rose(config.data_dir)
    return drawn_by


def _check_unchanged(folder: Path, config: Config) -> None:
    """A resumed run must have the settings it began with, or its result would be that of no config at all."""
    if not (folder / INDEX).exists():
        raise UserError(
            f"there is nothing to resume in {folder}; run the same command without --resume"
        )
    rows = changes(read_record(folder)["options"], to_record(config.fit), "fit.")
    rows += changes({"prior": load_config(folder / CONFIG).prior}, {"prior": config.prior})
    free = ("fit.threads ", "fit.checkpoint_seconds ")  # results do not depend on these
    if rows := [row for row in rows if not row.startswith(free)]:
        raise UserError(
            f"cannot resume {folder}: the config changed ({'; '.join(rows)}); undo that or run "
            "without --resume"
        )


def score_asset(asset: Asset, clip: Clip) -> dict[str, Any]:
    """Scores of the renders against the training views, the input view alone, and the views kept for scoring if there are any.

    Every group has the means over its pictures of psnr and psnr_inside (dB), ssim, and iou of the
    masks; "views" lists them.
    """
    tracks = (*clip.tracks, *clip.truth)
    rows: dict[str, list[dict[str, float]]] = {track.name: [] for track in tracks}
    for frame, t in enumerate(clip.times().tolist()):
        gaussians = asset.at(t)
        for track in tracks:
            rows[track.name].append(
                _score_picture(
                    render(gaussians, track.camera(frame)), *over_white(track.images[frame])
                )
            )
    views = {name: _mean_row(pictures) for name, pictures in rows.items()}
    groups = {"input": clip.tracks[:1], "train": clip.tracks, "eval": clip.truth}
    scores = {
        group: _mean_row([views[track.name] for track in some])
        for group, some in groups.items()
        if some
    }
    return {**scores, "views": views}


def _score_picture(
    drawn: Render, seen: Float[Tensor, "h w 3"], coverage: Float[Tensor, "h w 1"]
) -> dict[str, float]:
    picture, alpha, truth = drawn.rgb[0].clamp(0, 1), drawn.alpha[0], coverage[..., 0]
    return {
        "psnr": psnr(picture, seen).item(),
        "psnr_inside": psnr_inside(picture, seen, inside(alpha, truth)).item(),
        "iou": mask_iou(alpha, truth).item(),
        "ssim": ssim(picture, seen).item() if min(alpha.shape) >= SSIM_WINDOW else math.nan,
    }


def _mean_row(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    return {key: mean_of_defined([row[key] for row in rows]) for key in rows[0]}


def mean_of_defined(values: Sequence[float | None]) -> float | None:
    """Mean without the undefined (NaN) ones, each at most 100 (dB); None when none is defined."""
    defined = [min(v, 100.0) for v in values if v is not None and not math.isnan(v)]
    return sum(defined) / len(defined) if defined else None


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
    source = asset.orbits["input"]
    name, place = place_of_results(options.model_path)
    if options.rig is not None:
        views = read_eval_rig(options.rig)
    else:
        views = {
            f"eval_{k}": replace(source, azimuth=a) for k, a in enumerate(CONSISTENT4D_AZIMUTHS)
        }
    set_threads(0)
    with writing_into(options.model_path, options.out):
        return _rerender(options, asset, views, name, place)


def _rerender(
    options: RenderOptions,
    asset: Asset,
    views: dict[str, Orbit],
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
        write_views(folder, asset, {**asset.orbits, **asset.paths}, options)
    for folder in test:
        write_views(folder, asset, views, options)
    for folder in ply:
        write_ply_sequence(folder, asset, options)
    return [*films, *train, *test, *ply]


def versions() -> dict[str, str]:
    """What a result depends on."""
    return {
        "gs4d": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in ("torch", "numpy", "scipy", "pillow", "safetensors")},
        **{name: version(name) for name in ("diffusers", "transformers") if name in sys.modules},
    }
