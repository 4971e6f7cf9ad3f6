"""The report of a run: one HTML file that holds its pictures and needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..asset import Asset
from ..clip import Clip, Track
from ..config import Config
from ..fit.terms import labelled
from ..io.files import atomic_path
from ..options import changes, to_record
from .pictures import Comparison, compare, data_uri, spread, strip

STRIP_FRAMES = 8
STRIP_SIDES, STRIP_TRUTHS = 2, 3  # views with a strip, beside the input
WORST_FRAMES = 32  # at most so many frames of the worst view are searched
SEEN_OPACITY = 0.05
MAX_VIDEO_BYTES = 1_500_000  # a larger turntable stays a file beside the page
GROUPS = {"input": "Input view", "train": "Training views", "eval": "Evaluation views"}
METRICS = {
    "psnr": ("PSNR, dB", 2),
    "psnr_inside": ("PSNR inside, dB", 2),
    "ssim": ("SSIM", 4),
    "iou": ("mask IoU", 4),
}


@dataclass(frozen=True)
class Row:
    """One line of a table of scores; ``cells`` are in the order of :data:`METRICS`."""

    name: str
    note: str
    cells: list[str]


def write_report(folder: Path, report: dict[str, Any], asset: Asset, clip: Clip) -> Path:
    """Writes ``report.html`` in ``folder`` and returns its path.

    Args:
        folder: of the run; its ``turntable.mp4`` is shown when it is there and small.
        report: what ``report.json`` holds.
        asset: the result, to draw it.
        clip: the pictures to draw beside it.

    Raises:
        UserError: the file cannot be written.
    """
    # matplotlib takes half a second, which --help need not
    from .charts import motion_chart, progress_chart

    history, views = report["history"], report["scores"]["views"]
    charts = []
    if history:
        charts += [
            (
                "Loss",
                "of single batches; lower is better",
                progress_chart(history, "loss", log=True),
            ),
            ("PSNR, dB", "of single batches; higher is better", progress_chart(history, "psnr")),
            ("Gaussians", "added and removed while fitting", progress_chart(history, "gaussians")),
        ]
    for term in labelled():
        if rows := [row for row in history if term.name in row]:
            charts.append((term.title, term.note, progress_chart(rows, term.name, log=True)))
    if report["motion"]:
        note = "displacement of what is visible from frame to frame, % of the object's size"
        charts.append(("Motion", note, motion_chart(report["motion"])))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        report=report,
        clip=clip,
        seconds=_duration(report["fit_seconds"]),
        tiles=_tiles(report),
        video=_video(folder / "turntable.mp4"),
        strips=[(_row(t.name, views[t.name], t), _strip(asset, t, clip)) for t in _shown(clip)],
        worst=_worst(asset, clip, views),
        charts=charts,
        heads=[label for label, _ in METRICS.values()],
        groups=[
            _row(label, report["scores"][key])
            for key, label in GROUPS.items()
            if key in report["scores"]
        ],
        views=[_row(t.name, views[t.name], t) for t in (*clip.tracks, *clip.truth)],
        settings=_settings(report["config"]),
        changed=changes(to_record(Config()), report["config"]),
    )
    path = folder / "report.html"
    with atomic_path(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


@torch.no_grad()
def motion_amount(asset: Asset) -> list[float]:
    """Returns the visible Gaussians' mean way from frame to frame, in sizes of the object.

    Those of an opacity above :data:`SEEN_OPACITY` in one of the two frames can be seen. The size is
    the longest side of the box that holds, in every frame and along every axis, the middle 98% of
    their centres. Empty for a single frame, and when at any time nothing can be seen.
    """
    ways, lows, highs = [], [], []
    for before, after in pairwise(map(asset.at, asset.times().tolist())):
        seen = torch.maximum(before.logit_opacities, after.logit_opacities).sigmoid() > SEEN_OPACITY
        if not seen.any():
            return []
        places = torch.stack([before.means[seen], after.means[seen]])
        ways.append((places[1] - places[0]).norm(dim=1).mean())
        low, high = torch.quantile(places, places.new_tensor([0.01, 0.99]), dim=1)
        lows.append(low.amin(0))
        highs.append(high.amax(0))
    if not ways:
        return []
    size = (torch.stack(highs).amax(0) - torch.stack(lows).amin(0)).max().clamp_min(1e-6)
    return (torch.stack(ways) / size).tolist()


def _shown(clip: Clip) -> list[Track]:
    """The views of the strips: the input, and some of the others, spread evenly around."""

    def some(tracks: Sequence[Track], at_most: int) -> list[Track]:
        shown = min(len(tracks), at_most)
        return [tracks[i * len(tracks) // shown] for i in range(shown)]

    if not clip.truth:
        return [clip.tracks[0], *some(clip.tracks[1:], STRIP_SIDES + STRIP_TRUTHS)]
    return [clip.tracks[0], *some(clip.tracks[1:], STRIP_SIDES), *some(clip.truth, STRIP_TRUTHS)]


def _strip(asset: Asset, track: Track, clip: Clip) -> str:
    return strip(asset, track, spread(clip.frames, STRIP_FRAMES))


def _worst(asset: Asset, clip: Clip, views: dict[str, Any]) -> tuple[Row, Comparison]:
    """The view of the lowest PSNR, and its worst frame.

    Views that the fit never saw are what counts, where there are any.
    """
    track = min(clip.truth or clip.tracks, key=lambda t: views[t.name]["psnr"])
    return _row(track.name, views[track.name], track), compare(
        asset, track, spread(clip.frames, WORST_FRAMES)
    )


def _row(name: str, scores: dict[str, float | None], track: Track | None = None) -> Row:
    return Row(
        name,
        _place(track) if track else "",
        [_number(scores.get(key), digits) for key, (_, digits) in METRICS.items()],
    )


def _place(track: Track) -> str:
    first, last = track.orbits[0], track.orbits[-1]
    moves = f" to {last.azimuth:g}°" if len(track.orbits) > 1 else ""
    doubt = sum(track.confidence) / len(track.confidence)
    return f"azimuth {first.azimuth:g}°{moves}, elevation {first.elevation:g}°" + (
        f", weight {doubt:.2g}" if doubt < 1 else ""
    )


def _tiles(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the main figures as (value, label)."""
    held_out = "eval" in report["scores"]
    scores = report["scores"]["eval" if held_out else "train"]
    motion = report["motion"]
    return [
        *((_number(scores.get(key), digits), label) for key, (label, digits) in METRICS.items()),
        (f"{report['gaussians']:,}", "Gaussians"),
        (_duration(report["fit_seconds"]), "to fit"),
        (f"{report['peak_memory_mb']:,} MB", "peak memory"),
        (f"{100 * sum(motion) / len(motion):.2f} %" if motion else "-", "motion per frame"),
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _video(path: Path) -> str | None:
    if not path.is_file() or path.stat().st_size > MAX_VIDEO_BYTES:
        return None
    return data_uri("video/mp4", path.read_bytes())


def _settings(record: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Every setting by the name of its flag."""
    rows = []
    for key, value in record.items():
        rows += (
            _settings(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else [(prefix + key, str(value))]
        )
    return rows
