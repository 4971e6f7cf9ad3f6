"""``gs4d score``: renders against truth in the numbers of the field, the same for everybody.

Reads Consistent4D's layout ``{object}/eval_{k}/{t}.png``, any two folders of the same shape, or two
videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

from .. import __version__
from ..errors import UserError, nearest
from ..io.clips import CONSISTENT4D_AZIMUTHS
from ..io.files import atomic_path, write_json
from ..metrics.clip import load_clip
from ..metrics.i3d import load_i3d
from ..metrics.lpips import load_lpips
from ..options import parse
from ..ranges import Options, Range
from .catalogue import METRICS, columns
from .measure import GRID, Networks, Scorer
from .pairs import ViewPair, natural, pair_views, parse_background
from .tables import ScoreTable, Stat

__all__ = ["METRICS", "ScoreOptions", "ScoreTable", "Stat", "main", "run", "score"]


@dataclass(frozen=True)
class ScoreOptions(Options):
    """Score renders against truth; pictures are matched by name."""

    gt: Path = Path("gt")
    """Truth: a folder such as {object}/eval_{k}/{t}.png, or a video."""
    pred: Path = Path("pred")
    """Renders: the same shape as the truth."""
    metrics: tuple[str, ...] = ()
    """Which metrics; empty means all."""
    background: str = "white"
    """What pictures with alpha are laid over: white, black, or r,g,b with values from 0 to 1."""
    size: Annotated[int | None, Range(1, 8192)] = None
    """Resample both sides to a square of so many pixels first (Consistent4D's script: 512)."""
    azimuths: tuple[float, ...] = CONSISTENT4D_AZIMUTHS
    """Degrees of the views in the order of their names; the Janus score needs opposite ones."""
    lpips_alex: tuple[Path, ...] = ()
    """Local files with torchvision's alexnet and richzhang's calibration."""
    lpips_vgg: tuple[Path, ...] = ()
    """Local files with torchvision's vgg16 and richzhang's calibration."""
    clip: str | None = None
    """Folder or hub id of a CLIP model."""
    i3d: Path | None = None
    """Local file with the I3D weights i3d_pretrained_400.pt."""
    allow_download: bool = False
    """Let a CLIP hub id be fetched; nothing else ever is."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, ..."""
    json: Path | None = None
    """Write all numbers here."""
    csv: Path | None = None
    """Write all numbers here, one per line."""
    md: Path | None = None
    """Write the tables here."""


def score(options: ScoreOptions) -> ScoreTable:
    """Measures everything that was asked for and can be measured.

    Raises:
        UserError: a metric is unknown, a file is missing or damaged, sizes differ, or named weights
            do not fit.
    """
    metrics = options.metrics or tuple(METRICS)
    for name in metrics:
        if name not in METRICS:
            raise UserError(
                f"no metric named '{name}'{nearest(name, METRICS)}; there are: {', '.join(METRICS)}"
            )
    background = parse_background(options.background)
    views = pair_views(options.pred, options.gt)
    table = ScoreTable(_settings(options), columns(metrics))
    given = {
        "--lpips-alex": options.lpips_alex,
        "--lpips-vgg": options.lpips_vgg,
        "--clip": options.clip,
        "--i3d": options.i3d,
    }
    for name in metrics:
        if (wanted := METRICS[name].weights) and not given[wanted.split()[0]]:
            table.absent[name] = f"give {wanted}"
    possible = [name for name in metrics if name not in table.absent]
    scorer = Scorer(
        table, possible, _load(options, possible), _azimuths(options, views), options.device
    )
    for _, group in groupby(views, key=lambda view: view.object):
        scorer.add_object(list(group), background, options.size)
    scorer.finish()
    return table


def _settings(options: ScoreOptions) -> dict[str, object]:
    weights = {
        "lpips_alex": [str(path) for path in options.lpips_alex],
        "lpips_vgg": [str(path) for path in options.lpips_vgg],
        "clip": options.clip,
        "i3d": str(options.i3d) if options.i3d else None,
    }
    return {
        "gt": str(options.gt),
        "pred": str(options.pred),
        "background": options.background,
        "size": options.size,
        "gs4d": __version__,
        "weights": {name: value for name, value in weights.items() if value},
    }


def _load(options: ScoreOptions, metrics: Sequence[str]) -> Networks:
    """The networks that ``metrics`` need, on the device."""
    device = options.device
    networks = Networks()
    if "lpips_alex" in metrics:
        networks.lpips["alex"] = load_lpips("alex", options.lpips_alex).to(device)
    if "lpips_vgg" in metrics:
        networks.lpips["vgg"] = load_lpips("vgg", options.lpips_vgg).to(device)
    if options.clip and any(name.startswith("clip_") for name in metrics):
        networks.clip = load_clip(options.clip, allow_download=options.allow_download).to(device)
    if options.i3d and any(name in ("c4d_fvd", *GRID) for name in metrics):
        networks.i3d = load_i3d(options.i3d).to(device)
    return networks


def _azimuths(options: ScoreOptions, views: Sequence[ViewPair]) -> dict[str, float]:
    names = sorted({view.view for view in views}, key=natural)
    return dict(zip(names, options.azimuths, strict=False))


def run(options: ScoreOptions) -> None:
    """Scores, writes the files that were asked for, and prints the tables."""
    table = score(options)
    if options.json:
        write_json(options.json, table.to_json())
    for path, text in ((options.csv, table.to_csv()), (options.md, table.to_markdown())):
        if path:
            with atomic_path(path) as part:
                part.write_text(text, encoding="utf-8")
    print(table.to_markdown())


def main(arguments: list[str]) -> None:
    """The command ``gs4d score``.

    Raises:
        UserError: a flag is wrong, or see :func:`score`.
    """
    run(
        parse(
            ScoreOptions,
            arguments,
            default=ScoreOptions(),
            program="gs4d score",
            description=str(ScoreOptions.__doc__),
        )
    )
