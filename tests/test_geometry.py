"""Conventions, and the mathematics under everything else."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from gs4d.camera import orbit_cameras, orbit_pose
from gs4d.clip import cameras_of, syncdreamer_rig
from gs4d.gaussians import Gaussians
from gs4d.geometry import (
    covariances,
    morton_order,
    orbit_position,
    quats_to_rotations,
    rotations_to_quats,
    sh_basis,
)


def test_quaternions_agree_with_scipy():
    quats = torch.randn(50, 4, dtype=torch.float64)
    ours = quats_to_rotations(quats)
    theirs = Rotation.from_quat(quats[:, [1, 2, 3, 0]].numpy()).as_matrix()
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)
    back = rotations_to_quats(ours)
    np.testing.assert_allclose(quats_to_rotations(back).numpy(), theirs, atol=1e-12)


def test_half_turns_survive_the_way_through_matrices():
    quats = torch.eye(4, dtype=torch.float64)
    assert (rotations_to_quats(quats_to_rotations(quats)) - quats).abs().max() < 1e-12


def test_zero_quaternion_is_the_identity_with_a_finite_gradient():
    quats = torch.zeros(2, 4, requires_grad=True)
    rotations = quats_to_rotations(quats)
    rotations.sum().backward()
    assert torch.equal(rotations.detach(), torch.eye(3).expand(2, 3, 3))
    assert quats.grad is not None
    assert torch.equal(quats.grad, torch.zeros(2, 4))


def test_covariance_has_the_scales_as_its_spectrum():
    log_scales = torch.tensor([[-1.0, -2.0, -3.0]], dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(
        covariances(torch.randn(1, 4, dtype=torch.float64), log_scales)
    )[0]
    np.testing.assert_allclose(eigenvalues.numpy(), np.exp([-6.0, -4.0, -2.0]), rtol=1e-12)


def test_sh_basis_is_orthonormal_and_equals_scipys_up_to_the_sign_convention():
    directions = torch.nn.functional.normalize(torch.randn(200, 3, dtype=torch.float64), dim=1)
    ours = sh_basis(directions, 3).numpy()
    x, y, z = directions.numpy().T
    theta, phi = np.arccos(z), np.arctan2(y, x)
    column = 0
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), theta, phi)
            real = (
                value.real
                if order == 0
                else math.sqrt(2) * (value.imag if order < 0 else value.real)
            )
            np.testing.assert_allclose(ours[:, column], real, atol=1e-12)
            column += 1
    with pytest.raises(ValueError, match="degree 4"):
        sh_basis(directions, 4)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "want"),
    [
        (0.0, 0.0, (0, 0, 1)),
        (90.0, 0.0, (1, 0, 0)),
        (180.0, 0.0, (0, 0, -1)),
        (0.0, 90.0, (0, 1, 0)),
        (0.0, 30.0, (0, 0.5, 3**0.5 / 2)),
    ],
)
def test_orbit_convention(azimuth: float, elevation: float, want: tuple[float, ...]):
    np.testing.assert_allclose(
        orbit_position(azimuth, elevation, 2.0).numpy(), 2 * np.array(want), atol=1e-12
    )


def test_cameras_are_opencv_and_look_at_the_origin():
    camera = orbit_cameras([0.0], [0.0], width=64, height=32)
    T = camera.T_camera_world[0]
    in_camera = T[:3, :3] @ torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]).T + T[:3, 3:]
    np.testing.assert_allclose(
        in_camera.T.numpy(), [[1, 0, 1.5], [0, -1, 1.5], [0, 0, 0.5]], atol=1e-6
    )
    assert camera.K[0, 0, 2] == 32
    assert camera.K[0, 1, 2] == 16
    np.testing.assert_allclose(
        2 * math.degrees(math.atan(16 / camera.K[0, 1, 1])), 49.13, atol=1e-4
    )
    np.testing.assert_allclose(camera.centers.numpy(), [[0, 0, 1.5]], atol=1e-6)


@pytest.mark.parametrize("azimuth", [0.0, 90.0, -30.0])
@pytest.mark.parametrize("elevation", [90.0, -90.0])
def test_cameras_straight_above_and_below_are_the_limit_of_their_neighbours(
    azimuth: float, elevation: float
):
    rotation = orbit_pose(azimuth, elevation, 1.0)[:3, :3]
    np.testing.assert_allclose((rotation @ rotation.T).numpy(), np.eye(3), atol=1e-12)
    near = orbit_pose(azimuth, elevation * (1 - 1e-4), 1.0)[:3, :3]
    np.testing.assert_allclose(rotation.numpy(), near.numpy(), atol=1e-3)


def test_the_default_rig_is_syncdreamers():
    camera = cameras_of(syncdreamer_rig(), width=256, height=256)
    assert len(camera) == 16
    # SyncDreamer's camera-16: f = 280 px at 256 px; its view 0 row for the world's up axis is (0,
    # -0.866, -0.5).
    np.testing.assert_allclose(camera.K[:, 0, 0].numpy(), 280, atol=0.2)
    np.testing.assert_allclose(
        camera.T_camera_world[0, :3, 1].numpy(), [0, -(3**0.5) / 2, -0.5], atol=1e-6
    )
    np.testing.assert_allclose(
        camera.T_camera_world[:, :3, 3].numpy(), np.tile([0, 0, 1.5], (16, 1)), atol=1e-6
    )


def test_bad_rigs_are_refused():
    with pytest.raises(ValueError, match="2 azimuths, 1 elevations"):
        orbit_cameras([0.0, 1.0], [0.0], width=8, height=8)
    with pytest.raises(ValueError, match="radius above 0"):
        orbit_cameras([0.0], [0.0], radius=0.0, width=8, height=8)


def test_morton_order_is_a_permutation_that_brings_neighbours_together():
    points = torch.rand(2000, 3)
    order = morton_order(points)
    assert torch.equal(order.sort().values, torch.arange(2000))
    sorted_steps = (points[order][1:] - points[order][:-1]).norm(dim=1).mean()
    assert sorted_steps < 0.3 * (points[1:] - points[:-1]).norm(dim=1).mean()


def test_gaussians_check_their_shapes():
    parts = {
        "means": torch.zeros(5, 3),
        "quats": torch.zeros(5, 4),
        "log_scales": torch.zeros(5, 3),
    }
    good = Gaussians(**parts, logit_opacities=torch.zeros(5), sh=torch.zeros(5, 4, 3))
    assert good.sh_degree == 1
    assert good.views is None
    with pytest.raises(Exception, match="sh"):
        good.replace(sh=torch.zeros(5, 2, 3))
    with pytest.raises(Exception, match="quats"):
        good.replace(quats=torch.zeros(4, 4))
    both = good.replace(means=torch.stack([good.means, good.means + 1]))
    assert both.views == 2
    assert torch.equal(both.at_view(1).means, torch.ones(5, 3))
    assert both.at_view(1).quats is good.quats
    assert both.select(torch.tensor([1, 3])).means.shape == (2, 2, 3)
