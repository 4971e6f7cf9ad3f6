"""A new prior is one file and one row of the catalogue: here is one, used as ``--pseudo.prior``."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gs4d.clip import Orbit
from gs4d.errors import UserError
from gs4d.intake.pseudo import PseudoOptions, make_pseudo_views
from gs4d.io.clips import read_clip
from gs4d.prior import ViewPrior, draw_clip, open_prior
from gs4d.prior.catalogue import FAMILIES, Family
from gs4d.synth.objects import draw_views, make_object


@pytest.fixture
def fog(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_from_file_location("gs4d.prior.fog", Path(__file__).parent / "fog_prior.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gs4d.prior.fog", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(FAMILIES, "fog", Family("Fog", "fog", "open_fog", ("views",), "CC0"))


def test_it_draws_the_side_views_of_a_clip(fog: None, tmp_path: Path) -> None:
    folder = tmp_path / "thing_pose0"
    folder.mkdir()
    frames = draw_views(make_object(4), np.linspace(0, 1, 2), [Orbit()] * 2, 48)
    for t, picture in enumerate(frames):
        Image.fromarray(picture).save(folder / f"{t}.png")
    out = make_pseudo_views(tmp_path, "thing", PseudoOptions(prior="fog:77"), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "thing_views" / "0" / "views.json").read_text())
    assert record["weights"] == [{"name": "fog", "licence": "CC0"}]
    clip = read_clip(tmp_path, "thing", resolution=48, side_dir=out)
    assert [round(track.orbit.azimuth) for track in clip.tracks] == [0, 90, 180]
    assert clip.tracks[1].confidence_at(0) == pytest.approx(128 / 255, abs=0.01)
    middle = clip.tracks[1].size[0] // 2
    seen = clip.tracks[1].premultiplied(0)[middle, middle, 0]
    assert seen == pytest.approx(77 / 255, abs=0.01)


def test_callers_handle_squares_rigs_and_tasks_for_it(fog: None) -> None:
    prior = open_prior("fog", "views")
    assert isinstance(prior, ViewPrior)
    wide = torch.zeros(1, 10, 30, 4, dtype=torch.uint8)
    views = draw_clip(prior, wide, Orbit(azimuth=300.0), None, torch.Generator())
    assert [orbit.azimuth for orbit in views.orbits] == [30, 120]
    with pytest.raises(UserError, match="draws its own 2 cameras and no others"):
        draw_clip(prior, wide, Orbit(), [Orbit(45.0)], torch.Generator())
    with pytest.raises(UserError, match="'fog' cannot judge pictures"):
        open_prior("fog", "score")


def test_a_row_whose_opener_makes_something_else_is_found_out(
    fog: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Family("Fog", "fog", "open_fog", ("views", "score"), "CC0")
    monkeypatch.setitem(FAMILIES, "fog", row)
    with pytest.raises(TypeError, match="open_fog made no ScorePrior"):
        open_prior("fog", "score")
