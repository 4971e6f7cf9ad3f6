"""Side views that a prior makes up.

Drawn once, believed pixel by pixel, and left out where they are not wanted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gs4d.clip import Clip, Orbit, Track, cameras_of
from gs4d.fit import FitOptions, Fitter, fingerprint
from gs4d.fit.batches import Batch
from gs4d.intake.confidence import steadiness
from gs4d.intake.pseudo import PseudoOptions, make_pseudo_views
from gs4d.io.clips import CONFIDENCE_FILE, read_clip, read_confidence
from gs4d.prior.pictures import square_views
from gs4d.synth.objects import draw_views, make_object

FRAMES, SIZE = 4, 48
INFLATE = PseudoOptions(prior="inflate")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    folder = data / "thing_pose0"
    folder.mkdir()
    times = np.linspace(0, 1, FRAMES)
    for t, picture in enumerate(draw_views(make_object(4), times, [Orbit()] * FRAMES, SIZE)):
        Image.fromarray(picture).save(folder / f"{t}.png")
    return data


def test_views_are_drawn_once_and_read_with_their_trust(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = make_pseudo_views(data, "thing", INFLATE, tmp_path)
    assert out == tmp_path
    said = capsys.readouterr().out
    assert "inflate draws what the other sides may look like" in said
    assert "the input view disagrees" not in said, "they were drawn from it"
    assert (tmp_path / "thing_sync_preview.png").is_file()
    assert not list(data.glob("thing_sync*")), "nothing is left beside the clip"
    clip = read_clip(data, "thing", resolution=64, side_dir=out)
    assert len(clip.tracks) == 17
    assert clip.tracks[0].confidence_map is None
    for track in clip.tracks[1:]:
        assert track.confidence_map is not None
        assert float(track.confidence_map_at(1).mean()) == pytest.approx(
            track.confidence_at(1), rel=0.02
        )
        assert track.confidence_at(1) < 0.5, "made up is not seen"
    drawn = next((tmp_path / "thing_views" / "2").glob("3.png"))
    before = drawn.stat().st_mtime_ns
    make_pseudo_views(data, "thing", INFLATE, tmp_path)
    assert "4 of 4 frames were drawn before" in capsys.readouterr().out
    assert drawn.stat().st_mtime_ns == before


def test_what_is_switched_off_or_there_already_is_not_drawn(data: Path, tmp_path: Path) -> None:
    assert make_pseudo_views(data, "thing", replace(INFLATE, prior="none"), tmp_path) is None
    assert make_pseudo_views(data, "nothing", INFLATE, tmp_path) is None, (
        "read_clip says what is missing"
    )
    (tmp_path / "seen_pose0").mkdir()
    (tmp_path / "seen_sync").mkdir()
    assert make_pseudo_views(tmp_path, "seen", INFLATE, tmp_path / "out") is None
    assert not (tmp_path / "out").exists()


def test_all_pixels_alike(data: Path, tmp_path: Path) -> None:
    make_pseudo_views(data, "thing", replace(INFLATE, pixels=False), tmp_path)
    clip = read_clip(data, "thing", resolution=64, side_dir=tmp_path)
    assert all(track.confidence_map is None for track in clip.tracks)
    assert float(clip.tracks[5].confidence_map_at(0).std()) == 0


def test_what_jumps_there_and_back_is_believed_less() -> None:
    film = torch.rand(1, 6, 6, 4).repeat(5, 1, 1, 1)
    assert torch.equal(steadiness(film), torch.ones(5, 6, 6))
    film[2, 3, 3] = 1 - film[2, 3, 3].round()
    film[[0, 1, 3, 4], 3, 3] = film[2, 3, 3].neg() + 1
    steady = steadiness(film)
    assert steady[2, 3, 3] < 0.1
    steady[:, 3, 3] = 1
    assert torch.equal(steady, torch.ones(5, 6, 6))
    moving = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 2, 2, 4)
    assert torch.allclose(steadiness(moving), torch.ones(5, 2, 2)), "even motion is no jump"


def test_padded_frames_see_what_they_saw() -> None:
    frames = torch.randint(0, 256, (2, 20, 30, 4), dtype=torch.uint8)
    source = Orbit(10.0, 5.0, 1.7, 40.0, 1.5)
    square, camera = square_views(frames, source)
    assert square.shape == (2, 30, 30, 4)
    assert torch.equal(square[:, 5:25], frames)
    assert not square[:, :5].any()
    before = cameras_of([source], width=30, height=20).K[0, 0, 0]
    after = cameras_of([camera], width=30, height=30).K[0, 0, 0]
    assert float(after) == pytest.approx(float(before), rel=1e-5)
    assert math.isclose(camera.azimuth, 10.0)
    assert square_views(frames[:, :, :20], source)[1] is source


def test_a_map_of_trust_weighs_pixels_in_the_fit(data: Path, tmp_path: Path) -> None:
    make_pseudo_views(data, "thing", INFLATE, tmp_path)
    clip = read_clip(data, "thing", resolution=32, side_dir=tmp_path)
    options = FitOptions(steps=6, resolution=32, gaussians=60)
    blind = torch.full((FRAMES, 8, 8), 100, dtype=torch.uint8)
    blind[:, :, :4] = 0
    side = replace(clip.tracks[3], confidence_map=blind, confidence=(1.0,))
    half = Clip("half", (clip.tracks[0], side))
    fitter = Fitter(half, options)
    weights = fitter.batches.weights_of(Batch([0, 1], [0, 1]))
    assert weights.shape == (2, 32, 32)
    assert (weights[0] == options.losses.anchor).all()
    assert (weights[1, :, :14] == 0).all()
    assert torch.allclose(weights[1, :, 18:], torch.tensor(2.0), atol=0.01), (
        "on average it counts as before"
    )
    changed = Clip("half", (clip.tracks[0], replace(side, confidence_map=blind.flip(2))))
    assert fingerprint(half) != fingerprint(changed)
    for step in range(6):
        assert any(0 in tracks for _, tracks in fitter.batches.of_step(step)), (
            "what was seen is in every step"
        )
    for _ in range(3):
        assert math.isfinite(fitter.advance()["loss"])


def test_trust_of_other_views_is_refused(data: Path, tmp_path: Path) -> None:
    folder = make_pseudo_views(data, "thing", INFLATE, tmp_path)
    assert folder is not None
    path = folder / "thing_sync" / CONFIDENCE_FILE
    assert read_confidence(path, 16, FRAMES).shape[:2] == (16, FRAMES)
    with pytest.raises(ValueError, match="does not belong to the 15 views"):
        read_confidence(path, 15, FRAMES)


def test_tracks_without_maps_weigh_as_numbers() -> None:
    images = torch.zeros(2, 8, 8, 4, dtype=torch.uint8)
    track = Track("side", (Orbit(),), images, confidence=(0.25, 0.75))
    assert torch.equal(track.confidence_map_at(1), torch.full((8, 8), 0.75))
