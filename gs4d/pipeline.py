"""The recipe: text, picture or video -> clip -> fit -> asset -> files -> report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .asset import Asset
from .clip import Clip
from .config import Config, load_config, save_config
from .demo import write_rose
from .errors import UserError
from .export import export, export_paths, write_previews
from .fit import Fitter, Observer, fit
from .fit.record import changed
from .guidance import open_score_prior
from .intake.pseudo import make_pseudo_views
from .io.checkpoint import INDEX
from .io.clips import read_clip
from .io.files import write_json
from .io.locks import one_writer
from .io.owned import claim
from .machine import peak_memory_mb, versions
from .native import set_threads
from .open_asset import read_asset
from .options import changes, to_record
from .origins import make_input
from .prior import open_prior
from .report import motion_amount, write_report
from .run_folder import CONFIG, RESULTS, VIEWS, clear_run, run_folder
from .score.asset import score_asset


def run(config: Config, on_step: Observer | None = None) -> Path:
    """Does everything that a run does and returns its folder; ``on_step`` watches the fit.

    Raises:
        UserError: the input or the settings are wrong; the sentence says what to do.
        Interrupted: Ctrl-C; the state is saved.
    """
    # 1. The input: made of a video, a picture or a sentence if one is given; the built-in rose, if
    # it is asked for and absent.
    drawn_by = _make_input(config.seeded())
    if config.resume:
        _check_unchanged(config.folder, config.seeded())
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
    seeded = config.seeded()
    made = make_pseudo_views(config.data_dir, config.clip, seeded.pseudo, folder / VIEWS)
    clip = read_clip(config.data_dir, config.clip, resolution=config.fit.resolution, side_dir=made)
    if len(clip.tracks) == 1:
        print(
            f"{config.data_dir / (config.clip + '_sync')} does not exist, so only the input view "
            "is fitted: the other sides are not seen by any picture, and will look like nothing "
            "in particular."
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
        seeded.fit,
        folder,
        prior=prior,
        interpolator=interpolator,
        resume=config.resume,
        on_step=on_step,
    )

    # 6. The asset leaves in the formats that others read.
    asset = read_asset(folder)
    write_previews(folder, asset, config.export)
    export(asset, folder / "export", config.name, config.export)

    # 7. The report.
    networks = [network for network in (prior, interpolator) if network is not None]
    weights = [*drawn_by, *(row for network in networks for row in network.weights)]
    report = _report(config, fitter, asset, clip, weights)
    write_json(folder / "report.json", report)
    write_report(folder, report, asset, clip)
    return folder


def _report(
    config: Config, fitter: Fitter, asset: Asset, clip: Clip, weights: list[dict[str, str]]
) -> dict[str, Any]:
    """What ``report.json`` holds and ``report.html`` shows."""
    return {
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
        "weights": weights,
    }


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
    """Checks that a resumed run has the settings that it began with.

    Otherwise its result would be that of no config at all.
    """
    if not (folder / INDEX).exists():
        raise UserError(
            f"there is nothing to resume in {folder}; run the same command without --resume"
        )
    rows = changed(folder, config.fit)
    rows += changes({"prior": load_config(folder / CONFIG).prior}, {"prior": config.prior})
    if rows:
        raise UserError(
            f"cannot resume {folder}: the config changed ({'; '.join(rows)}); undo that or run "
            "without --resume"
        )
