"""A new loss is one file and one line: it is fitted, shown while fitting, and reported."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys import toy_clip

from gs4d.config import Config
from gs4d.fit import FitOptions, fit, terms
from gs4d.machine import versions
from gs4d.motion import HexPlaneOptions
from gs4d.native import set_threads
from gs4d.options import to_record
from gs4d.report import write_report
from gs4d.score.asset import score_asset

OPTIONS = FitOptions(
    steps=40,
    gaussians=200,
    resolution=24,
    views_per_step=2,
    times_per_step=1,
    motion=HexPlaneOptions(resolution=8, multires=(1,), width=16),
    threads=1,
)
FILE = """
from gs4d.fit.terms.term import Term, moving

FAINTNESS = Term(
    "faintness",
    lambda o: 50.0,
    moving,
    lambda step, _: step.gaussians.logit_opacities.sigmoid().mean(),
    label="faint",
    title="Faintness",
    note="mean opacity",
)
"""


@pytest.fixture
def faint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file beside the others, and its line in the list."""
    (tmp_path / "faintness.py").write_text(FILE)
    monkeypatch.setattr(terms, "__path__", [*terms.__path__, str(tmp_path)])
    monkeypatch.setattr(terms, "TERMS", list(terms.TERMS))
    terms.TERMS.append(importlib.import_module("gs4d.fit.terms.faintness").FAINTNESS)


def test_a_new_loss_is_one_file_and_one_line(
    faint: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    set_threads(1)
    clip = toy_clip(views=3, size=24)
    fitter = fit(clip, replace(OPTIONS, static=0.1), tmp_path)
    opacity = fitter.gaussians().logit_opacities.sigmoid().mean().item()
    last = fitter.history[-1]
    assert opacity < 0.24, "it is fitted"
    assert last["faintness"] == pytest.approx(opacity, abs=0.05)
    assert "faintness" not in fitter.history[0], "the static stage has none of it"
    assert f"faint {last['faintness']:.4f}" in capsys.readouterr().err
    report: dict[str, Any] = {
        "name": "a",
        "clip": "toy",
        "config": to_record(Config(fit=OPTIONS)),
        "scores": score_asset(fitter.asset(), clip),
        "fit_seconds": 1.0,
        "steps": 40,
        "gaussians": 200,
        "peak_memory_mb": 1,
        "history": fitter.history,
        "motion": [],
        "versions": versions(),
        "weights": [],
    }
    page = write_report(tmp_path, report, fitter.asset(), clip).read_text()
    assert "Faintness" in page
    assert "mean opacity" in page


def test_without_it_the_objects_stay_opaque(tmp_path: Path):
    set_threads(1)
    fitter = fit(toy_clip(views=3, size=24), OPTIONS, tmp_path)
    assert fitter.gaussians().logit_opacities.sigmoid().mean() > 0.28
    assert "faintness" not in fitter.history[-1]


def test_names_and_labels_are_unique():
    assert len({term.name for term in terms.TERMS}) == len(terms.TERMS)
    labels = [term.label for term in terms.labelled()]
    assert len(set(labels)) == len(labels)
    assert all(term.title and term.note for term in terms.labelled())
