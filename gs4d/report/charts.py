"""Curves as SVG, in light and in dark colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from .pictures import data_uri

SIZE = (5.0, 2.5)  # inches
NARROW = 0.1  # share of the width below which a stage has no room for its name
STYLE: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "font.sans-serif": ["Segoe UI", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "svg.hashsalt": "gs4d",  # the same numbers make the same bytes
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


@dataclass(frozen=True)
class Chart:
    """The same curve for both colour schemes, as data URIs."""

    light: str
    dark: str


@dataclass(frozen=True)
class Palette:
    """Colours of a chart."""

    ink: str
    faint: str
    grid: str
    band: str
    line: str


LIGHT = Palette(ink="#24292f", faint="#57606a", grid="#d8dee4", band="#f1f3f6", line="#b8265c")
DARK = Palette(ink="#e6edf3", faint="#9aa4af", grid="#30363d", band="#1f252d", line="#ff7aa2")


def progress_chart(history: list[dict[str, Any]], key: str, *, log: bool = False) -> Chart:
    """A value over the steps of the fit, with the stages as bands.

    ``history`` is the report's, and not empty.
    """
    steps, values = [row["step"] for row in history], [float(row[key]) for row in history]

    def plot(axes: Axes, palette: Palette) -> None:
        _stages(axes, palette, history)
        smooth = values if key == "gaussians" else _running_mean(values)
        if smooth is not values:
            axes.plot(steps, values, color=palette.line, linewidth=0.8, alpha=0.35)
        _curve(axes, palette, steps, smooth)
        axes.set_xlabel("step")
        if log and min(values) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))

    return _both(plot)


def motion_chart(amounts: list[float]) -> Chart:
    """The report's motion amount, from each frame to the next, in percent; not empty."""
    percent = [100 * amount for amount in amounts]

    def plot(axes: Axes, palette: Palette) -> None:
        frames = list(range(1, len(percent) + 1))
        axes.fill_between(frames, percent, color=palette.line, alpha=0.15, linewidth=0)
        _curve(axes, palette, frames, percent)
        axes.set_ylim(0, 1.15 * max(*percent, 1e-3))
        axes.set_xlabel("frame")

    return _both(plot)


def _both(plot: Callable[[Axes, Palette], None]) -> Chart:
    return Chart(_svg(plot, LIGHT), _svg(plot, DARK))


def _svg(plot: Callable[[Axes, Palette], None], palette: Palette) -> str:
    buffer = BytesIO()
    with rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        axes.tick_params(which="both", colors=palette.faint, length=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="y", color=palette.grid, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines["bottom"].set_color(palette.grid)
        axes.xaxis.label.set_color(palette.faint)
        plot(axes, palette)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return data_uri("image/svg+xml", buffer.getvalue())


def _curve(axes: Axes, palette: Palette, x: list[int], y: list[float]) -> None:
    """A line with a dot and its value at the end."""
    axes.plot(x, y, color=palette.line, linewidth=1.8, solid_capstyle="round")
    axes.plot(x[-1:], y[-1:], "o", color=palette.line, markersize=4.5)
    label = f"{y[-1]:,.4g}" if y[-1] < 1e4 else f"{y[-1]:,.0f}"
    axes.annotate(
        label,
        (x[-1], y[-1]),
        (7, 0),
        textcoords="offset points",
        color=palette.ink,
        va="center",
        fontweight="bold",
    )
    axes.margins(x=0.01, y=0.16)


def _stages(axes: Axes, palette: Palette, history: list[dict[str, Any]]) -> None:
    """A band with a name for every stage, each second one shaded."""
    end = history[-1]["step"]
    starts = [
        (stage, next(rows)["step"])
        for stage, rows in groupby(history, key=lambda row: row["stage"])
    ]
    for i, (stage, start) in enumerate(starts):
        stop = starts[i + 1][1] if i + 1 < len(starts) else end
        if i % 2 == 0:
            axes.axvspan(start, stop, color=palette.band, linewidth=0, zorder=0)
        if stop - start >= NARROW * end:
            middle = (start + stop) / 2
            axes.text(
                middle,
                0.98,
                stage,
                transform=axes.get_xaxis_transform(),
                color=palette.faint,
                ha="center",
                va="top",
                fontsize=9,
            )


def _running_mean(values: list[float]) -> list[float]:
    """Mean over a twentieth of the run around each value.

    The window shrinks at both ends, so that these are not bent.
    """
    reach = len(values) // 40
    return [
        float(np.mean(values[i - r : i + r + 1]))
        for i in range(len(values))
        for r in [min(reach, i, len(values) - 1 - i)]
    ]
