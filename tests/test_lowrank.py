"""Motion as modes and weights.

As few as the error allows, whatever the motion and however it is sampled.
"""

import math

import pytest
import torch
from moving import moving_asset, random_gaussians, strayed
from torch import Tensor

from gs4d.errors import UserError
from gs4d.gaussians import Gaussians
from gs4d.motion import Bounds, LowRank, factor, lowrank


def spinning(times: Tensor) -> Gaussians:
    """A rigid body that turns once and a half about z, its quaternions with signs as a careless
    exporter leaves them.
    """
    base = random_gaussians(60)
    angle = 3 * math.pi * times
    c, s = angle.cos()[:, None], angle.sin()[:, None]
    x, y, z = base.means.T
    means = torch.stack([c * x - s * y, s * x + c * y, z.expand(len(times), -1)], -1)
    half_c, half_s = (angle / 2).cos()[:, None], (angle / 2).sin()[:, None]
    w, i, j, k = torch.nn.functional.normalize(base.quats, dim=1).T
    quats = torch.stack(
        [
            half_c * w - half_s * k,
            half_c * i - half_s * j,
            half_c * j + half_s * i,
            half_c * k + half_s * w,
        ],
        -1,
    )
    signs = torch.where((times * 1000).long() % 3 == 0, -1.0, 1.0)
    return base.replace(means=means, quats=quats * signs[:, None, None])


@pytest.mark.parametrize("tolerance", [1e-2, 3e-3, 1e-3])
def test_the_error_is_what_was_asked_for(tolerance: float):
    asset = moving_asset()
    base, motion = factor(asset.at_times, asset.times(), tolerance=tolerance)
    drawn, truth = motion.at_times(base, asset.times()), asset.at_times(asset.times())
    errors = (drawn.means - truth.means).square().sum(-1).mean(0).sqrt()
    assert errors.quantile(0.99) <= tolerance * 1.001


def test_fewer_modes_would_not_do():
    asset = moving_asset()

    def centers(times: Tensor) -> Gaussians:
        return asset.gaussians.replace(means=asset.at_times(times).means)

    base, motion = factor(centers, asset.times(), tolerance=1e-3)
    fewer = LowRank(motion.times, motion.weights[:, :-1], {"means": motion.deltas["means"][:-1]})
    errors = fewer.at_times(base, asset.times()).means - asset.at_times(asset.times()).means
    assert errors.square().sum(-1).mean(0).sqrt().quantile(0.99) > 1e-3


def test_a_rigid_turn_needs_four_modes_and_no_lucky_signs():
    # Positions follow 1 - cos and sin of the angle, quaternions those of half of it.
    frames = torch.linspace(0, 1, 25)
    base, motion = factor(spinning, frames, tolerance=1e-4)
    assert motion.weights.shape == (25, 4)
    drawn, truth = motion.at_times(base, frames), spinning(frames)
    cosine = (
        torch.nn.functional.normalize(drawn.quats, dim=-1)
        * torch.nn.functional.normalize(truth.quats, dim=-1)
    ).sum(-1)
    assert cosine.abs().min() > 1 - 1e-4
    assert (drawn.means - truth.means).abs().max() < 1e-3


def test_it_begins_at_the_first_frame_exactly():
    asset = moving_asset(paints=True)
    base, motion = factor(asset.at_times, asset.times(), tolerance=1e-3)
    assert (motion.weights[0] == 0).all()
    assert torch.equal(motion.at_times(base, torch.zeros(1)).at_view(0).means, asset.at(0.0).means)


def test_only_what_moves_is_kept():
    asset = moving_asset()
    _, motion = factor(asset.at_times, asset.times(), tolerance=1e-3)
    assert set(motion.deltas) == {"means", "quats", "log_scales"}
    _, painted = factor(moving_asset(paints=True).at_times, asset.times(), tolerance=1e-3)
    assert set(painted.deltas) == {"means", "quats", "log_scales", "logit_opacities", "sh"}
    still = moving_asset(frames=1)
    _, none = factor(still.at_times, still.times(), tolerance=1e-3)
    assert none.deltas == {}
    assert none.weights.shape == (1, 0)


def test_a_sample_of_the_gaussians_finds_the_same_modes(monkeypatch: pytest.MonkeyPatch):
    asset = moving_asset(2000)
    _, whole = factor(asset.at_times, asset.times(), tolerance=1e-3)
    monkeypatch.setattr(lowrank, "SAMPLE_NUMBERS", 10_000)
    base, sampled = factor(asset.at_times, asset.times(), tolerance=1e-3)
    assert abs(sampled.weights.shape[1] - whole.weights.shape[1]) <= 1
    assert strayed(sampled.at_times(base, torch.ones(1)).at_view(0), asset.at(1.0)).max() < 5e-3


def test_keyframes_between_frames_follow_a_bent_path():
    asset = moving_asset(frames=5)
    between = torch.tensor([0.125, 0.375, 0.625, 0.875])
    errors = []
    for keys in (1, 2):
        base, motion = factor(asset.at_times, asset.times(), tolerance=1e-4, keys=keys)
        assert len(motion.times) == 4 * keys + 1
        assert torch.allclose(motion.times[::keys], asset.times())
        errors.append(
            float(
                (motion.at_times(base, between).means - asset.at_times(between).means)
                .norm(dim=-1)
                .max()
            )
        )
    assert errors[1] < errors[0] / 5


def test_bounds_on_every_center_hold_at_the_frames_and_between():
    asset = moving_asset(frames=5)
    bounds = Bounds(1e-5, 1e-4)
    base, motion = factor(asset.at_times, asset.times(), tolerance=1e-2, keys=4, centers=bounds)
    errors = (
        (motion.at_times(base, motion.times).means - asset.at_times(motion.times).means)
        .norm(dim=-1)
        .amax(1)
    )
    assert errors[::4].max() <= bounds.frames * 1.001
    assert errors.max() <= bounds.between * 1.001
    later = (motion.weights[::4] == 0).all(0)
    assert 0 < int(later.sum()) <= int((~later).sum())
    assert not later.int().diff().lt(0).any()


def test_weights_are_interpolated_and_held_at_the_ends():
    motion = LowRank(torch.tensor([0.0, 0.25, 1.0]), torch.tensor([[0.0], [1.0], [4.0]]), {})
    assert motion.weights_at(torch.tensor([-1.0, 0.0, 0.125, 0.25, 0.5, 1.0, 2.0]))[
        :, 0
    ].tolist() == [0, 0, 0.5, 1, 2, 4, 4]


def test_what_cannot_be_one_motion_is_refused():
    few, many = random_gaussians(3), random_gaussians(4)

    def unequal(times: Tensor) -> Gaussians:
        some = few if len(times) == 1 else many
        return some.replace(means=some.means.expand(len(times), -1, -1))

    with pytest.raises(UserError, match="hold 3 and 4 Gaussians"):
        factor(unequal, torch.linspace(0, 1, 3), tolerance=1e-3)
    broken = few.replace(means=few.means * math.inf)
    with pytest.raises(UserError, match="not finite"):
        factor(lambda times: broken, torch.zeros(1), tolerance=1e-3)
    with pytest.raises(UserError, match="too long"):
        factor(lambda times: few, torch.linspace(0, 1, 5000), tolerance=1e-3)
