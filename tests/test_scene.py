"""Files as assets: still scenes and sequences, placed where the default cameras see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import blobs, cloud

from gs4d.camera import orbit_cameras
from gs4d.errors import UserError
from gs4d.gaussians import Gaussians
from gs4d.geometry import covariances, sh_basis
from gs4d.io.gaussians import frame_files
from gs4d.io.ply import write_ply
from gs4d.io.splat import write_splat
from gs4d.io.spz import write_spz
from gs4d.motion import FrameSequence, Motion
from gs4d.open_asset import read_asset
from gs4d.render import render
from gs4d.rerender import RenderOptions, rerender
from gs4d.scene import fit_stage


def lift(t: float, count: int = 800) -> Gaussians:
    return blobs(t).select(torch.arange(count))


def test_a_folder_is_a_sequence_in_natural_order_of_any_counts(tmp_path: Path) -> None:
    for i in range(11):  # 10.ply comes after 9.ply
        write_ply(tmp_path / f"{i}.ply", lift(i / 10, 700 + 10 * i))
    (tmp_path / "notes.txt").write_text("not a frame")
    assert [p.stem for p in frame_files(tmp_path)] == [str(i) for i in range(11)]
    asset = read_asset(tmp_path)
    assert isinstance(asset.motion, Motion)
    assert asset.frames == 11
    assert asset.at(0.31).count == 730
    assert torch.equal(asset.at(1.0).means, lift(1.0).means)
    moved = asset.at_times(torch.tensor([0.0, 1.0, 0.0]))
    assert moved.means.shape == (3, 800, 3)
    assert torch.equal(moved.means[0, :700], lift(0.0, 700).means)
    # What fills the smaller frames up is not seen.
    cameras = orbit_cameras([0.0, 0.0, 30.0], [0.0, 0.0, 0.0], width=32, height=32)
    one = render(lift(0.0, 700), cameras.select([2])).rgb
    assert torch.allclose(render(moved, cameras).rgb[2:], one, atol=1e-5)


def test_frames_are_loaded_when_shown_and_few_are_kept() -> None:
    loaded: list[int] = []

    def load(index: int) -> Gaussians:
        loaded.append(index)
        return lift(index / 99, 5)

    motion = FrameSequence(load, 100)
    for i in range(100):
        motion.at_times(lift(0.0, 5), torch.tensor([i / 99, i / 99]))
    assert loaded == list(range(100))
    assert len(motion._kept) == 4
    motion.at_times(lift(0.0, 5), torch.tensor([1.0]))
    assert loaded[-1] == 99
    assert len(loaded) == 100


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_foreign_scenes_of_any_place_and_size_fill_the_picture_upright(
    tmp_path: Path, scale: float
) -> None:
    g = blobs(1.0)  # the red ball is on the left and higher
    foreign = g.replace(
        means=(g.means + 3) * scale, log_scales=g.log_scales + float(np.log(scale))
    ).half_turn()
    write_splat(tmp_path / "scene.splat", foreign)
    asset = read_asset(tmp_path / "scene.splat")
    assert asset.frames == 1
    picture = render(asset.at(0.0), orbit_cameras([0.0], [0.0], width=64, height=64))
    _, columns = (picture.alpha[0] > 0.5).nonzero().unbind(1)
    assert 36 < columns.max() - columns.min() < 62
    red = picture.rgb[0, ..., 0] - picture.rgb[0, ..., 2] > 0.4
    blue = picture.rgb[0, ..., 2] - picture.rgb[0, ..., 0] > 0.4
    assert red.nonzero()[:, 0].float().mean() < blue.nonzero()[:, 0].float().mean() - 4
    assert red.nonzero()[:, 1].float().mean() < 32 < blue.nonzero()[:, 1].float().mean()
    assert (
        read_asset(tmp_path / "scene.splat", "up").at(0.0).means[0, 1] == -asset.at(0.0).means[0, 1]
    )


def test_a_scene_on_the_stage_stays_and_floaters_do_not_shrink_one(tmp_path: Path) -> None:
    g = blobs(0.0)
    assert fit_stage([g], "up").scale == 1.0
    write_ply(tmp_path / "a.ply", g)
    assert torch.equal(read_asset(tmp_path / "a.ply").at(0.0).means, g.means)
    far = g.means.clone() * 50
    far[::100] = 1e6
    assert fit_stage([g.replace(means=far)], "up").scale == pytest.approx(0.6 / (50 * 0.4), rel=0.3)


def test_what_no_rasterizer_can_draw_is_left_out(tmp_path: Path) -> None:
    g = blobs(0.0)
    means, opacities = g.means.clone(), g.logit_opacities.clone()
    means[3], opacities[4] = float("nan"), float("inf")
    write_ply(tmp_path / "a.ply", g.replace(means=means, logit_opacities=opacities))
    assert read_asset(tmp_path / "a.ply").at(0.0).count == g.count - 1
    write_ply(tmp_path / "b.ply", g.replace(means=means * float("nan")))
    with pytest.raises(
        UserError, match="no Gaussian that can be drawn .all 800 have numbers that are not finite"
    ):
        read_asset(tmp_path / "b.ply")


def test_mixed_and_missing_files_get_one_sentence(tmp_path: Path) -> None:
    write_ply(tmp_path / "mixed" / "0.ply", blobs(0.0))
    write_splat(tmp_path / "mixed" / "1.splat", blobs(0.0))
    with pytest.raises(
        UserError, match=".ply and .splat files; give a folder with the frames of one sequence"
    ):
        read_asset(tmp_path / "mixed")
    with pytest.raises(UserError, match=r"nothing\.spz does not exist"):
        read_asset(tmp_path / "nothing.spz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no checkpoint.json; train it first"):
        read_asset(tmp_path / "empty")


def test_files_render_beside_themselves(tmp_path: Path) -> None:
    for i in range(3):
        write_spz(tmp_path / "frames" / f"{i:04d}.spz", blobs(i / 2))
    write_splat(tmp_path / "a scene é.splat", blobs(0.0))
    small = {"width": 32, "height": 32, "turntable_frames": 4, "skip_test": True}
    rerender(RenderOptions(model_path=tmp_path / "frames", **small))
    assert len(list((tmp_path / "frames_video" / "train" / "input").iterdir())) == 3
    assert (tmp_path / "frames_video" / "turntable.mp4").stat().st_size > 0
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == [
        "0000.spz",
        "0001.spz",
        "0002.spz",
    ]
    rerender(RenderOptions(model_path=tmp_path / "a scene é.splat", **small))
    assert (tmp_path / "a scene é_video" / "input_view.mp4").stat().st_size > 0


def test_half_a_turn_moves_everything_alike() -> None:
    g = cloud(40)
    turned, flip = g.half_turn(), torch.diag(torch.tensor([1.0, -1, -1]))
    assert torch.allclose(
        covariances(turned.quats, turned.log_scales),
        flip @ covariances(g.quats, g.log_scales) @ flip,
        atol=1e-6,
    )
    directions = torch.nn.functional.normalize(
        torch.randn(40, 3, generator=torch.Generator().manual_seed(1)), dim=1
    )
    seen = (sh_basis(directions, 3)[..., None] * g.sh).sum(1)
    assert torch.allclose(
        (sh_basis(directions @ flip, 3)[..., None] * turned.sh).sum(1), seen, atol=1e-5
    )
    assert all(
        torch.equal(a, b)
        for (_, a), (_, b) in zip(turned.half_turn().items(), g.items(), strict=True)
    )
