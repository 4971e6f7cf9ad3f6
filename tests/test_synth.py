"""The procedural rose: a fixed set of material points that moves smoothly inside its sphere, and
its clip on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import gs4d.demo
from gs4d.clip import Orbit, cameras_of, premultiply, syncdreamer_rig
from gs4d.demo import write_rose
from gs4d.errors import UserError
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0, quats_to_rotations
from gs4d.io.clips import read_clip
from gs4d.render import render
from gs4d.synth import rose

FRAMES, SIZE = 2, 32


@pytest.fixture(scope="module")
def film() -> list[Gaussians]:
    return [rose(t / 15) for t in range(16)]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_rose(folder, frames=FRAMES, size=SIZE)
    return folder


def contents(folder: Path) -> Iterator[tuple[str, bytes, int]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        yield str(path.relative_to(folder)), path.read_bytes(), path.stat().st_mtime_ns


def test_rose_is_one_set_of_points_inside_its_sphere(film: list[Gaussians]) -> None:
    assert 30_000 <= film[0].count <= 80_000
    for g in film:
        assert g.count == film[0].count
        assert all(tensor.isfinite().all() for _, tensor in g.items())
        assert g.means.norm(dim=-1).max() < 0.6
        torch.testing.assert_close(g.sh, film[0].sh, rtol=0, atol=0)
    colours = film[0].sh * SH_C0 + 0.5
    assert 0 <= colours.min() < 0.1
    assert 0.7 < colours.max() <= 1


def test_rose_fills_its_sphere(film: list[Gaussians]) -> None:
    for g in film:
        extent = g.means.amax(0) - g.means.amin(0)
        assert extent[1] > 1.0
        assert extent[[0, 2]].min() > 0.55


def test_no_view_cuts_the_rose(film: list[Gaussians]) -> None:
    cameras = cameras_of([Orbit(), *syncdreamer_rig(), *gs4d.demo.EVAL_RIG], width=256, height=256)
    for g in film[::5]:
        seen = (
            torch.einsum("bij,nj->bni", cameras.T_camera_world[:, :3, :3], g.means)
            + cameras.T_camera_world[:, None, :3, 3]
        )
        pixels = seen @ cameras.K.transpose(1, 2)
        pixels = pixels[..., :2] / pixels[..., 2:]
        assert pixels.min() > 4
        assert pixels.max() < 252


def test_rose_moves_visibly_and_smoothly(film: list[Gaussians]) -> None:
    means = torch.stack([g.means for g in film])
    steps = means.diff(dim=0).norm(dim=-1)
    assert steps.max() < 0.08
    assert (steps.mean(1) > 0.005).all()
    assert (means[-1] - means[0]).norm(dim=-1).max() > 0.25
    # A jump would show as an acceleration about as large as the step; a smooth path over 16 frames
    # has a quarter of it.
    assert means.diff(n=2, dim=0).norm(dim=-1).max() < 0.02
    assert (film[-1].log_scales - film[0].log_scales).abs().max() < 5


def test_rose_splats_are_flat_and_lie_in_the_surface(film: list[Gaussians]) -> None:
    g = film[8]
    scales = g.log_scales.exp()
    assert (scales[:, 2] <= scales[:, :2].amin(-1)).all()
    assert scales.max() < 0.025
    rotations = quats_to_rotations(g.quats)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(g.count), atol=1e-4, rtol=0)
    # Neighbours along a petal are apart along the first axis, not along the normal.
    step = torch.nn.functional.normalize(g.means.diff(dim=0), dim=-1)
    assert ((step * rotations[1:, :, 2]).sum(-1).abs() < 0.3).float().mean() > 0.9


def test_rose_is_deterministic_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = rose(0.4), rose(0.4)
    for (_, a), (_, b) in zip(first.items(), second.items(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    torch.testing.assert_close(torch.get_rng_state(), before)


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_rose_refuses_times_outside_its_bloom(t: float) -> None:
    with pytest.raises(ValueError, match="blooms from t = 0 to t = 1"):
        rose(t)


def test_written_clip_reads_back_as_what_its_cameras_see(data_dir: Path) -> None:
    clip = read_clip(data_dir, "rose", resolution=256)
    assert clip.frames == FRAMES
    assert [track.name for track in clip.tracks] == ["input", *(f"sync_{v}" for v in range(16))]
    assert [(t.orbit.azimuth, t.orbit.elevation) for t in clip.truth] == [
        (-75, 0), (15, 0), (105, 0), (195, 0), (60, -15), (200, 45)
    ]  # fmt: skip
    for track in (clip.tracks[0], clip.tracks[5], clip.truth[4]):
        drawn = render(rose(1.0), track.camera(), background=(0.0, 0.0, 0.0))
        seen = premultiply(track.images[-1])
        torch.testing.assert_close(seen[..., 3], drawn.alpha[0], atol=0.003, rtol=0)
        torch.testing.assert_close(seen[..., :3], drawn.rgb[0], atol=0.01, rtol=0)


def test_written_clip_is_opaque_red_and_green(data_dir: Path) -> None:
    clip = read_clip(data_dir, "rose", resolution=256)
    for track in (*clip.tracks, *clip.truth):
        for picture in track.images:
            assert picture[..., 3].max() > 250
            solid = picture[picture[..., 3] > 200].int()
            assert (solid[:, 0] > solid[:, 1] + 60).any()
            assert (solid[:, 1] > solid[:, 0]).any()


def test_a_clip_that_is_there_is_left_alone(data_dir: Path) -> None:
    before = list(contents(data_dir))
    assert len(before) == FRAMES * (1 + 16 + 6) + 1
    write_rose(data_dir, frames=FRAMES + 1, size=SIZE)
    assert list(contents(data_dir)) == before


def test_the_same_bytes_every_time(data_dir: Path, tmp_path: Path) -> None:
    write_rose(tmp_path, frames=FRAMES, size=SIZE)
    assert [c[:2] for c in contents(tmp_path)] == [c[:2] for c in contents(data_dir)]


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(t: float) -> Gaussians:
        if t > 0:
            raise KeyboardInterrupt
        return rose(t)

    monkeypatch.setattr(gs4d.demo, "rose", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_rose(tmp_path, frames=2, size=4)
    assert list(tmp_path.iterdir()) == []


def test_parts_of_somebody_elses_rose_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "rose_sync").mkdir()
    with pytest.raises(UserError, match="rose_sync is there without rose_pose0"):
        write_rose(tmp_path, frames=1, size=4)
