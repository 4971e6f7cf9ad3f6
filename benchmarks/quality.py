"""Fits clips with one config and tabulates what comes out, beside an earlier table.

python benchmarks/quality.py --clips data/fox data/knight --save table.json
python benchmarks/quality.py --clips data/fox data/knight --compare table.json --fit.steps 1000
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from gs4d.io.files import read_json, write_json

ROOT = Path(__file__).parent.parent
Row = dict[str, float | None]

# Column -> (where in report.json, digits).
COLUMNS = {
    "held-out PSNR": (("scores", "eval", "psnr"), 2),
    "inside": (("scores", "eval", "psnr_inside"), 2),
    "IoU": (("scores", "eval", "iou"), 4),
    "SSIM": (("scores", "eval", "ssim"), 4),
    "input PSNR": (("scores", "input", "psnr"), 2),
    "fit s": (("fit_seconds",), 1),
    "peak MB": (("peak_memory_mb",), 0),
    "Gaussians": (("gaussians",), 0),
}


def row_of(report: dict[str, Any]) -> Row:
    """The columns of a run's report; None where it has no such number (a clip without truth)."""

    def look_up(value: Any, keys: tuple[str, ...]) -> float | None:
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    return {column: look_up(report, keys) for column, (keys, _) in COLUMNS.items()}


def mean_row(rows: list[Row]) -> Row:
    """Mean of every column over the rows that have it."""
    columns = {
        column: [value for row in rows if (value := row[column]) is not None] for column in COLUMNS
    }
    return {
        column: sum(values) / len(values) if values else None for column, values in columns.items()
    }


def markdown(rows: dict[str, Row], before: dict[str, Row] | None = None) -> str:
    """A table with a line per clip, and their mean where there are several.

    Differences to ``before`` in brackets.
    """
    lines = ["| clip | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    shown = [(clip, row, (before or {}).get(clip)) for clip, row in rows.items()]
    if len(rows) > 1:
        # A mean is compared with that of the same clips only.
        same = before is not None and set(rows) <= set(before)
        earlier = mean_row([before[clip] for clip in rows]) if before is not None and same else None
        shown.append(("mean", mean_row(list(rows.values())), earlier))
    for clip, row, earlier in shown:
        cells = [
            _cell(row[column], (earlier or {}).get(column), digits)
            for column, (_, digits) in COLUMNS.items()
        ]
        lines.append(f"| {clip} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, earlier: float | None, digits: int) -> str:
    if value is None:
        return "-"
    change = "" if earlier is None else f" ({value - earlier:+.{digits}f})"
    return f"{value:.{digits}f}{change}"


def fit_clip(clip: Path, config: Path, output_dir: Path, flags: list[str]) -> Row | None:
    """Runs train.py on ``DATA_DIR/NAME``; None, and what it said on stderr, when it fails."""
    where = ["--data_dir", str(clip.parent), "--output_dir", str(output_dir), "-e", clip.name]
    command = [sys.executable, str(ROOT / "train.py"), "--configs", str(config), *where, *flags]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        return None
    return row_of(read_json(output_dir / clip.name / "report.json", "report"))


def main() -> int:
    """Measures quality, prints it, and returns an exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", type=Path, default=ROOT / "arguments/i2v.py")
    parser.add_argument(
        "--clips", type=Path, nargs="+", required=True, help="DATA_DIR/NAME, one or more"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("output/quality"))
    parser.add_argument("--save", type=Path, help="write the table here, after every clip")
    parser.add_argument("--compare", type=Path, help="a saved table")
    args, flags = parser.parse_known_args()  # what is not known here is train.py's
    before = read_json(args.compare, "saved table") if args.compare else None
    rows: dict[str, Row] = {}
    failed = []
    for clip in args.clips:
        row = fit_clip(clip, args.configs, args.output_dir, flags)
        if row is None:
            failed.append(str(clip))
            continue
        rows[clip.name] = row
        if args.save:
            write_json(args.save, {"config": str(args.configs), "flags": flags, "rows": rows})
    if rows:
        print(markdown(rows, before["rows"] if before else None))
    if before:
        print(
            f"\nIn brackets: the change from {args.compare} "
            f"({' '.join([before['config'], *before['flags']])})."
        )
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
