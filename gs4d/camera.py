"""The second noun: pinhole cameras, a batch at a time, and rigs of cameras around an object."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .geometry import orbit_position

# SyncDreamer's rig (its meta_info/camera-16): distance, and field of view of f = 280 px at 256 px
DEFAULT_RADIUS = 1.5
DEFAULT_FOVY_DEG = 49.13


@dataclass(frozen=True)
class Camera:
    """``b`` pinhole cameras that share one image size. Axes are OpenCV: x right, y down, z forward.

    Attributes:
        T_camera_world: maps homogeneous world points to camera space.
        K: intrinsics in pixels, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; pixel centres lie at +0.5.
        width: pixels.
        height: pixels.
    """

    T_camera_world: Float[Tensor, "b 4 4"]
    K: Float[Tensor, "b 3 3"]
    width: int
    height: int

    def __post_init__(self) -> None:
        b = len(self.T_camera_world)
        if self.T_camera_world.shape != (b, 4, 4) or self.K.shape != (b, 3, 3):
            raise ValueError(
                f"Camera has T_camera_world {tuple(self.T_camera_world.shape)} and K "
                f"{tuple(self.K.shape)}, "
                "wanted (b, 4, 4) and (b, 3, 3)"
            )
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"Camera has an image of {self.width}x{self.height} pixels, wanted at least 1x1"
            )

    def __len__(self) -> int:
        return len(self.T_camera_world)

    @property
    def centers(self) -> Float[Tensor, "b 3"]:
        """Camera positions in world space."""
        rotation, translation = self.T_camera_world[:, :3, :3], self.T_camera_world[:, :3, 3]
        return -(rotation.transpose(1, 2) @ translation.unsqueeze(-1)).squeeze(-1)

    def select(self, index: Tensor | list[int]) -> Camera:
        """The cameras at ``index``."""
        return Camera(self.T_camera_world[index], self.K[index], self.width, self.height)

    def to(self, target: torch.dtype | torch.device) -> Camera:
        """As ``Tensor.to`` on the matrices."""
        return Camera(self.T_camera_world.to(target), self.K.to(target), self.width, self.height)


def project(
    camera: Camera, points: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
    """Returns where the first camera sees world positions.

    Image coordinates in [-1, 1] (x right, y down; those of grid_sample without aligned corners),
    and camera z in world units.
    """
    T, K = camera.T_camera_world[0], camera.K[0]
    x, y, z = (points @ T[:3, :3].T + T[:3, 3]).unbind(1)
    u, v = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
    return torch.stack([2 * u / camera.width - 1, 2 * v / camera.height - 1], 1), z


def orbit_pose(azimuth_deg: float, elevation_deg: float, radius: float) -> Float[Tensor, "4 4"]:
    """Returns T_camera_world (float64) of an OpenCV camera on an orbit, looking at the origin.

    Its up is the direction in which elevation grows: the world's +y as seen from there, and defined
    straight above and below too.
    """
    az, el = math.radians(azimuth_deg), math.radians(elevation_deg)
    position = orbit_position(azimuth_deg, elevation_deg, radius)
    up = [-math.sin(el) * math.sin(az), math.cos(el), -math.sin(el) * math.cos(az)]
    right = [math.cos(az), 0.0, -math.sin(az)]
    rotation = torch.stack(
        [position.new_tensor(right), -position.new_tensor(up), -position / radius]
    )
    T_camera_world = torch.eye(4, dtype=position.dtype)
    T_camera_world[:3, :3] = rotation
    T_camera_world[:3, 3] = -rotation @ position
    return T_camera_world


def orbit_cameras(
    azimuths_deg: list[float],
    elevations_deg: list[float],
    *,
    radius: float | list[float] = DEFAULT_RADIUS,
    fovy_deg: float | list[float] = DEFAULT_FOVY_DEG,
    width: int,
    height: int,
) -> Camera:
    """Cameras on orbits around the origin, float32.

    Y up, azimuth 90 at +x, positive elevation above, square pixels.

    Args:
        azimuths_deg: one per camera, degrees.
        elevations_deg: one per camera, degrees, -90 to 90.
        radius: distance to the origin, one or one per camera.
        fovy_deg: vertical field of view in degrees, one or one per camera.
        width: pixels.
        height: pixels.

    Raises:
        ValueError: the lists differ in length, or a radius or field of view is out of range.
    """
    n = len(azimuths_deg)
    radii = radius if isinstance(radius, list) else [radius] * n
    fovs = fovy_deg if isinstance(fovy_deg, list) else [fovy_deg] * n
    if not n == len(elevations_deg) == len(radii) == len(fovs):
        raise ValueError(
            f"{n} azimuths, {len(elevations_deg)} elevations, {len(radii)} radii and {len(fovs)} "
            "fields of view"
        )
    for r, fov in zip(radii, fovs, strict=True):
        if not r > 0 or not 0 < fov < 180:
            raise ValueError(
                f"a camera needs a radius above 0 and a field of view in (0, 180) degrees, not {r} "
                f"and {fov}"
            )
    poses = [
        orbit_pose(a, e, r) for a, e, r in zip(azimuths_deg, elevations_deg, radii, strict=True)
    ]
    K = torch.zeros(n, 3, 3, dtype=torch.float64)
    K[:, 0, 0] = K[:, 1, 1] = torch.tensor(
        [height / 2 / math.tan(math.radians(fov) / 2) for fov in fovs]
    )
    K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = width / 2, height / 2, 1
    empty = torch.zeros(0, 4, 4, dtype=torch.float64)
    return Camera(torch.stack(poses).float() if n else empty.float(), K.float(), width, height)
