"""Pure tensor functions: quaternions, covariances, spherical harmonics, orbit positions.

Any float dtype, any device.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# Y_00: a colour c in [0, 1] is stored as (c - 0.5) / SH_C0 in the degree-0 coefficient
SH_C0 = 0.28209479177387814

# a quaternion whose largest component is at most this is the identity, for every dtype and renderer
QUAT_MIN = 1e-19


def moderate_quats(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """The same rotations by quaternions whose squares neither over- nor underflow.

    Those of ordinary length are unchanged.

    What has no component beyond ``QUAT_MIN`` becomes zero.
    """
    largest = quats.detach().abs().amax(-1, keepdim=True)
    extreme = (largest < 1e-15) | (largest > 1e15)
    scaled = quats / torch.where(extreme & (largest > QUAT_MIN), largest, torch.ones_like(largest))
    return torch.where(largest <= QUAT_MIN, torch.zeros_like(quats), scaled)


def quats_to_rotations(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrices of wxyz quaternions, which need not be unit.

    The zero quaternion gives the identity.
    """
    quats = moderate_quats(quats)
    squared = (quats * quats).sum(-1, keepdim=True)
    is_zero = squared == 0
    identity = torch.zeros_like(quats)
    identity[..., 0] = 1
    unit = torch.where(
        is_zero,
        identity,
        quats * torch.rsqrt(torch.where(is_zero, torch.ones_like(squared), squared)),
    )
    w, x, y, z = unit.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*quats.shape[:-1], 3, 3)


def rotations_to_quats(rotations: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit wxyz quaternions of rotation matrices.

    The best conditioned of the four candidate formulas per matrix.
    """
    m = rotations
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = torch.stack(
        [1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1
    )
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], a, b, c], -1),
            torch.stack([a, squares[..., 1], xy, xz], -1),
            torch.stack([b, xy, squares[..., 2], yz], -1),
            torch.stack([c, xz, yz, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    return torch.nn.functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)


def quat_multiply(a: Float[Tensor, "... 4"], b: Float[Tensor, "... 4"]) -> Float[Tensor, "... 4"]:
    """Hamilton product of wxyz quaternions, which broadcast: the turn ``b``, and then ``a``."""
    (aw, ax, ay, az), (bw, bx, by, bz) = a.unbind(-1), b.unbind(-1)
    rows = [
        aw * bw - ax * bx - ay * by - az * bz, aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx, aw * bz + ax * by - ay * bx + az * bw,
    ]  # fmt: skip
    return torch.stack(rows, -1)


def covariances(
    quats: Float[Tensor, "*b 4"], log_scales: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 3 3"]:
    """World covariance R S S^T R^T (Kerbl et al. 2023, eq. 6) of wxyz quaternions and log standard
    deviations.
    """
    half = quats_to_rotations(quats) * log_scales.exp().unsqueeze(-2)
    return half @ half.transpose(-1, -2)


def sh_basis(directions: Float[Tensor, "*b 3"], degree: int) -> Float[Tensor, "*b k"]:
    """Real spherical harmonics of unit directions up to ``degree`` (0-3), k = (degree + 1)^2, in
    3DGS order and sign.

    Raises:
        ValueError: ``degree`` is outside 0-3.
    """
    if not 0 <= degree <= 3:
        raise ValueError(
            f"spherical harmonics of degree {degree}: only 0 to 3 are stored in splat files"
        )
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        c1 = math.sqrt(3 / (4 * math.pi))
        basis += [-c1 * y, c1 * z, -c1 * x]
    if degree >= 2:
        c2 = math.sqrt(15 / (4 * math.pi))
        basis += [
            c2 * x * y,
            -c2 * y * z,
            c2 / math.sqrt(12) * (2 * z * z - x * x - y * y),
            -c2 * x * z,
            c2 / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        a, b, c, d = (math.sqrt(v / math.pi) / 4 for v in (35 / 2, 105, 21 / 2, 7))
        basis += [
            -a * y * (3 * x * x - y * y),
            2 * b * x * y * z,
            -c * y * (4 * z * z - x * x - y * y),
            d * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -c * x * (4 * z * z - x * x - y * y),
            b * z * (x * x - y * y),
            -a * x * (x * x - 3 * y * y),
        ]
    return torch.stack(basis, -1)


def sh_rotation(rotation: Float[Tensor, "3 3"], degree: int) -> Float[Tensor, "k k"]:
    """Returns the matrix (float64) that turns the coefficients of a function on directions.

    ``rotation`` turns the function, or mirrors it where its determinant is -1.
    """
    # The turned function at d is the function at R^T d. Both are in the span of the basis, so
    # enough directions tell all.
    spread = torch.linspace(-1, 1, 64, dtype=torch.float64)
    angle = math.pi * (1 + math.sqrt(5)) * torch.arange(64)
    ring = (1 - spread.square()).sqrt()
    directions = torch.stack([ring * angle.cos(), ring * angle.sin(), spread], -1)
    return torch.linalg.lstsq(
        sh_basis(directions, degree), sh_basis(directions @ rotation.double(), degree)
    ).solution


def orbit_position(azimuth_deg: float, elevation_deg: float, radius: float) -> Float[Tensor, "3"]:
    """World position of a camera on the orbit.

    Y up, positive elevation above, azimuth 0 at +z and 90 at +x.
    """
    az, el = math.radians(azimuth_deg), math.radians(elevation_deg)
    direction = [math.cos(el) * math.sin(az), math.sin(el), math.cos(el) * math.cos(az)]
    return radius * torch.tensor(direction, dtype=torch.float64)


def morton_order(points: Float[Tensor, "n 3"]) -> Tensor:
    """Indices that sort points along a Morton (Z-order) curve of 1024^3 cells over their bounding
    box; stable.
    """
    low, high = points.amin(0), points.amax(0)
    cells = (
        ((points - low) / (high - low).clamp_min(1e-12) * 1023).nan_to_num().clamp(0, 1023).long()
    )
    code = torch.zeros(len(points), dtype=torch.long, device=points.device)
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return torch.argsort(code, stable=True)
