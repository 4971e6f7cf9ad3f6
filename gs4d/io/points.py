"""Coloured point clouds as Gaussians: from the arrays of an .npz, or a PLY with colours and nothing else."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from ..errors import UserError
from ..gaussians import Gaussians
from .packing import MAX_FILE_BYTES, Floats, dc_of, intact, require_count, to_gaussians, zip_entry

NEIGHBOURS = 3
MEANS = ("means3d", "means", "points", "xyz")
COLORS = ("colors", "rgb")
OPACITY = 3.0  # logit: 0.95
MAX_SPREAD = 10.0  # of the median distance: a point far from all others stays a point instead of covering the picture


def gaussians_of_points(path: Path, points: Floats, dc: Floats) -> Gaussians:
    """Round, nearly opaque Gaussians, as wide as half the mean distance to the three nearest points.

    Args:
        path: names the file in errors.
        points: (n, 3).
        dc: (n, 3), their degree-0 coefficients.

    Raises:
        UserError: a point is not finite.
    """
    if not np.isfinite(points).all() or not np.isfinite(dc).all():
        raise UserError(f"{path} has points that are not finite, and no nearest neighbours can be found; remove them")
    spread = np.full(len(points), 1.0)
    if len(points) > 1:
        distances, _ = KDTree(points).query(points, min(NEIGHBOURS, len(points) - 1) + 1)
        spread = distances[:, 1:].mean(1)
    typical = np.median(spread[spread > 0]) if (spread > 0).any() else 1.0
    log_scales = np.log(0.5 * np.clip(spread, typical / MAX_SPREAD, typical * MAX_SPREAD))
    n = len(points)
    return to_gaussians(
        means=points,
        quats=np.tile(np.array([1.0, 0.0, 0.0, 0.0]), (n, 1)),
        log_scales=np.repeat(log_scales[:, None], 3, 1),
        logit_opacities=np.full(n, OPACITY),
        sh=dc[:, None],
    )


def unit_colors(colors: np.ndarray) -> Floats:
    """Colours in [0, 1]: integers are divided by the largest of their type, floats taken as they are."""
    return colors / np.iinfo(colors.dtype).max if colors.dtype.kind in "ui" else colors.astype(np.float64)


def read_points_npz(path: Path) -> Gaussians:
    """Reads the point cloud of an .npz: (n, 3) arrays ``means3d`` (or means, points, xyz) and ``colors`` (or rgb).

    Nothing is unpickled. Other arrays, such as cameras, are left alone.

    Raises:
        UserError: it is damaged, has no such arrays, or they do not fit each other.
    """
    with intact(path, "npz"):
        with zipfile.ZipFile(path) as archive:
            points = _array(path, archive, MEANS)
            colors = _array(path, archive, COLORS)
        if points.shape != colors.shape or points.ndim != 2 or points.shape[1] != 3:
            raise UserError(f"{path} has points {points.shape} and colours {colors.shape}, not two arrays (n, 3); correct it")
        return gaussians_of_points(path, points.astype(np.float32), dc_of(unit_colors(colors)))


def _array(path: Path, archive: zipfile.ZipFile, names: tuple[str, ...]) -> np.ndarray:
    """The first array of these names; its header is held against the entry's size before memory is taken."""
    entry = next((f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()), None)
    if entry is None:
        held = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:8])
        raise UserError(f"{path} has no array named {' or '.join(names)} (it has: {held}); it is no point cloud")
    info = zip_entry(archive, entry)
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{entry} is npy of version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject or dtype.kind not in "fui" or not shape:
            raise ValueError(f"{entry} holds {dtype}, not a table of numbers")
        require_count(path, shape[0], path.stat().st_size)
        need = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if need > min(info.file_size, MAX_FILE_BYTES):
            raise ValueError(f"{entry} claims {need} bytes, it holds {info.file_size}")
        values = np.frombuffer(file.read(need), dtype)
        return values.reshape(shape, order="F" if fortran else "C")
