"""The quality benchmark's table and its comparison, without a fit."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quality", ROOT / "benchmarks" / "quality.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(psnr: float, *, truth: bool = True) -> dict[str, Any]:
    scores = {"psnr": psnr, "psnr_inside": psnr - 5, "iou": 0.9, "ssim": None}
    groups = {"input": {**scores, "psnr": 30.0}, **({"eval": scores} if truth else {})}
    return {"scores": groups, "fit_seconds": 12.34, "peak_memory_mb": 700, "gaussians": 8000}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_is_what_the_report_says(quality: ModuleType) -> None:
    row = quality.row_of(report(25.0))
    assert list(row.values()) == [25.0, 20.0, 0.9, None, 30.0, 12.34, 700, 8000]
    assert list(quality.row_of(report(25.0, truth=False)).values()) == [
        None,
        None,
        None,
        None,
        30.0,
        12.34,
        700,
        8000,
    ]


def test_the_table_has_a_line_per_clip_and_their_mean(quality: ModuleType) -> None:
    rows = {
        "fox": quality.row_of(report(25.0)),
        "knight": quality.row_of(report(27.5, truth=False)),
    }
    head, rule, fox, knight, mean = map(cells, quality.markdown(rows).splitlines())
    assert head[:2] == ["clip", "held-out PSNR"]
    assert len(head) == len(rule) == len(fox) == len(knight) == len(mean) == 9
    assert fox == ["fox", "25.00", "20.00", "0.9000", "-", "30.00", "12.3", "700", "8000"]
    assert knight == ["knight", "-", "-", "-", "-", "30.00", "12.3", "700", "8000"]
    assert mean[:2] == ["mean", "25.00"]
    assert len(quality.markdown({"fox": rows["fox"]}).splitlines()) == 3


def test_changes_stand_beside_the_numbers(quality: ModuleType) -> None:
    before = {"fox": quality.row_of(report(24.5)), "knight": quality.row_of(report(28.0))}
    after = {"fox": quality.row_of(report(25.0)), "knight": quality.row_of(report(27.0))}
    lines = [cells(line)[1] for line in quality.markdown(after, before).splitlines()[2:]]
    assert lines == ["25.00 (+0.50)", "27.00 (-1.00)", "26.00 (-0.25)"]


def test_a_clip_without_an_earlier_row_has_no_change_and_neither_has_the_mean(
    quality: ModuleType,
) -> None:
    after = {"fox": quality.row_of(report(25.0)), "rose": quality.row_of(report(27.0))}
    lines = [
        cells(line)[1]
        for line in quality.markdown(after, {"fox": quality.row_of(report(24.5))}).splitlines()[2:]
    ]
    assert lines == ["25.00 (+0.50)", "27.00", "26.00"]


def test_a_failed_clip_is_named_and_exits_with_1(
    quality: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        sys,
        "argv",
        ["quality.py", "--clips", str(tmp_path / "nothing"), "--output_dir", str(tmp_path / "out")],
    )
    assert quality.main() == 1
    errors = capfd.readouterr().err
    assert f"no clip named 'nothing' in {tmp_path}" in errors
    assert f"Failed: {tmp_path / 'nothing'}" in errors
