"""A new metric and a new export format are one file and one line each."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys import blobs

from gs4d.asset import Asset
from gs4d.cli import main
from gs4d.clip import Orbit
from gs4d.export import FORMATS, ExportOptions, export
from gs4d.export.formats import Format
from gs4d.motion import FrameSequence
from gs4d.score import METRICS
from gs4d.score.catalogue import Metric

METRIC = """
from gs4d.score.catalogue import UndefinedScoreError


def mean_error(pred, truth):
    if not truth.rgb.any():
        raise UndefinedScoreError(f"{truth.label} is black")
    return float((pred.rgb - truth.rgb).abs().mean())
"""
FORMAT = """
from gs4d.io.files import atomic_path


def write_centers(path, asset, options):
    rows = [
        " ".join(map(str, asset.at(t).means.mean(0).tolist()))
        for t in asset.times(options.frames).tolist()
    ]
    with atomic_path(path) as part:
        part.write_text("\\n".join(rows))
"""


def beside(package: str, name: str, text: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """A file that is imported as if it lay in the package."""
    (folder / f"{name}.py").write_text(text)
    module = sys.modules[package]
    patch.setattr(module, "__path__", [*module.__path__, str(folder)])
    patch.delitem(sys.modules, f"{package}.{name}", raising=False)


@pytest.mark.parametrize("black", [False, True])
def test_a_new_metric(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    black: bool,
):
    beside("gs4d.score", "mean_error", METRIC, tmp_path, monkeypatch)
    function = importlib.import_module("gs4d.score.mean_error").mean_error
    monkeypatch.setitem(METRICS, "mean_error", Metric("lower", function))

    for folder, value in (("gt", 0 if black else 100), ("pred", 151)):
        (tmp_path / folder).mkdir()
        pixels = np.full((16, 16, 3), value, np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "0.png")
    arguments = ["score", "--gt", str(tmp_path / "gt"), "--pred", str(tmp_path / "pred")]
    monkeypatch.setattr(sys, "argv", ["gs4d", *arguments, "--metrics", "mean_error"])
    assert main() == 0
    said = capsys.readouterr().out
    assert "mean_error" in said
    assert ("0.png is black" in said) == black
    assert ("| all | 0.2 |" in said) != black


def test_a_new_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    beside("gs4d.export", "centers", FORMAT, tmp_path, monkeypatch)
    row = Format(".centers", "write_centers", "{name}.txt", "the middle of every frame")
    monkeypatch.setitem(FORMATS, "centers", row)

    asset = Asset(blobs(0.0), FrameSequence(lambda i: blobs(i / 2), 3), 3, {"input": (Orbit(),)})
    paths = export(asset, tmp_path / "out", "rose", ExportOptions(to=("centers",)))
    assert paths == [tmp_path / "out" / "rose.txt"]
    rows = np.loadtxt(paths[0])
    assert rows.shape == (3, 3)
    assert rows[2] == pytest.approx(blobs(1.0).means.mean(0).numpy(), abs=1e-5)
