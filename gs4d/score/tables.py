"""Numbers per frame become numbers per view, per object and for all.

Written as JSON, CSV and Markdown.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ARROWS = {"higher": "↑", "lower": "↓", "near one": "→1", "neither": ""}


@dataclass(frozen=True)
class Stat:
    """Mean and spread of one metric.

    Attributes:
        mean: over the finite values; infinite only when every value is.
        spread: sample standard deviation of the finite values; None for fewer than two.
        count: how many values, infinite ones included.
        infinite: how many of them are infinite (the PSNR of equal pictures).
    """

    mean: float
    spread: float | None
    count: int
    infinite: int

    def __str__(self) -> str:
        text = f"{self.mean:.4g}" if abs(self.mean) < 10 else f"{self.mean:.2f}"
        if self.spread is not None:
            text += f" ± {self.spread:.2g}"
        return text + (
            f" (+{self.infinite} equal)" if self.infinite and math.isfinite(self.mean) else ""
        )


def summarise(values: Iterable[float]) -> Stat | None:
    """The mean and spread of ``values`` without NaN, which stands for undefined.

    None when nothing is left.
    """
    defined = [value for value in values if not math.isnan(value)]
    if not defined:
        return None
    finite = [value for value in defined if math.isfinite(value)]
    mean = statistics.fmean(finite) if finite else defined[0]
    spread = statistics.stdev(finite) if len(finite) > 1 else None
    return Stat(mean, spread, len(defined), len(defined) - len(finite))


Scores = dict[str, float]
Stats = dict[str, Stat]


def _over(rows: Iterable[Mapping[str, float]]) -> Stats:
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {
        name: stat for name, values in columns.items() if (stat := summarise(values)) is not None
    }


def _means(stats: Stats) -> Scores:
    return {name: stat.mean for name, stat in stats.items()}


@dataclass
class ScoreTable:
    """Everything that was measured.

    Attributes:
        settings: what the numbers depend on: folders, background, size, weights.
        better: per metric "higher", "lower", "near one" or "neither", in the order of the columns.
        frames: (object, view, frame) to scores; NaN where a metric is undefined.
        whole_views: (object, view) to scores that need the whole video of a view.
        whole_set: scores that need everything at once.
        absent: metrics that were asked for and have no value, with the sentence that says why.
        notes: what a reader of the numbers should know.
    """

    settings: dict[str, Any]
    better: dict[str, str]
    frames: dict[tuple[str, str, str], Scores] = field(default_factory=dict)
    whole_views: dict[tuple[str, str], Scores] = field(default_factory=dict)
    whole_set: Scores = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def views(self) -> dict[tuple[str, str], Stats]:
        """Per view: mean and spread over its frames."""
        rows: dict[tuple[str, str], list[Scores]] = {}
        for (name, view, _), scores in self.frames.items():
            rows.setdefault((name, view), []).append(scores)
        return {
            key: _over(group) | _over([self.whole_views.get(key, {})])
            for key, group in rows.items()
        }

    def objects(self) -> dict[str, Stats]:
        """Per object: mean and spread over the means of its views."""
        rows: dict[str, list[Scores]] = {}
        for (name, _), stats in self.views().items():
            rows.setdefault(name, []).append(_means(stats))
        return {name: _over(group) for name, group in rows.items()}

    def overall(self) -> Stats:
        """Mean and spread over the means of the objects."""
        return _over(_means(stats) for stats in self.objects().values()) | _over([self.whole_set])

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: infinity is the string "inf", undefined is null."""
        views = self.views()
        return {
            "settings": self.settings,
            "better": self.better,
            "absent": self.absent,
            "notes": self.notes,
            "overall": _stats_json(self.overall()),
            "objects": {
                name: _stats_json(stats)
                | {"views": {v: _stats_json(s) for (n, v), s in views.items() if n == name}}
                for name, stats in self.objects().items()
            },
            "frames": [
                {
                    "object": o,
                    "view": v,
                    "frame": f,
                    **{name: _number(value) for name, value in scores.items()},
                }
                for (o, v, f), scores in self.frames.items()
            ],
        }

    def to_csv(self) -> str:
        """One value per line: level (frame, view, object, all), object, view, frame, metric, value,
        spread, count.
        """
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["level", "object", "view", "frame", "metric", "value", "spread", "count"])
        for (o, v, f), scores in self.frames.items():
            writer.writerows(
                ["frame", o, v, f, name, _number(value), "", 1] for name, value in scores.items()
            )
        groups = [("view", o, v, stats) for (o, v), stats in self.views().items()]
        groups += [("object", o, "", stats) for o, stats in self.objects().items()]
        for level, o, v, stats in [*groups, ("all", "", "", self.overall())]:
            writer.writerows(
                [level, o, v, "", m, _number(s.mean), s.spread, s.count] for m, s in stats.items()
            )
        return out.getvalue()

    def to_markdown(self) -> str:
        """A table per object and one per view, then what is absent and what to know."""
        objects, overall = self.objects(), self.overall()
        names = [name for name in self.better if name in overall]
        rows = [(name or "all", stats) for name, stats in objects.items()]
        if len(objects) > 1 or self.whole_set:
            rows.append(("**all**", overall))
        parts = [_grid("object", names, self.better, rows)]
        views = [(f"{o} {v}".strip(), stats) for (o, v), stats in self.views().items()]
        if len(views) > len(objects):
            parts.append(
                _grid(
                    "view", [n for n in names if any(n in s for _, s in views)], self.better, views
                )
            )
        reasons: dict[str, list[str]] = {}
        for name, reason in self.absent.items():
            reasons.setdefault(reason, []).append(name)
        lines = [
            f"absent: {', '.join(names)} ({reason})" for reason, names in reasons.items()
        ] + self.notes
        if lines:
            parts.append("".join(f"- {line}\n" for line in lines))
        return "\n".join(parts)


def _grid(
    title: str, names: list[str], better: Mapping[str, str], rows: list[tuple[str, Stats]]
) -> str:
    head = [title, *(f"{name} {ARROWS[better[name]]}".strip() for name in names)]
    lines = [head, ["---"] * len(head)]
    lines += [
        [label.replace("|", "\\|"), *(str(stats.get(name, "-")) for name in names)]
        for label, stats in rows
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def _stats_json(stats: Stats) -> dict[str, Any]:
    return {
        name: {
            "mean": _number(s.mean),
            "spread": s.spread,
            "count": s.count,
            "infinite": s.infinite,
        }
        for name, s in stats.items()
    }
