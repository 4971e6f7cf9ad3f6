"""Coloured point clouds as Gaussians.

From the arrays of an .npz, or a PLY with colours and nothing else.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from ..errors import UserError
from ..gaussians import Gaussians
from .foreign import damaged, foreign, require_memory, require_plain_file, warn
from .packing import Floats, dc_of, require_count, to_gaussians, zip_entry

NEIGHBOURS = 3
MEANS = ("means3d", "means", "points", "xyz")
COLORS = ("colors", "rgb")
OPACITY = 3.0  # logit: 0.95
GREY = 0.6  # colour of points that have none
FARTHEST = 1e15  # coordinates beyond it are no places
# of the median distance: a point far from all others stays a point instead of covering the picture
MAX_SPREAD = 10.0


def gaussians_of_points(path: Path, points: Floats, dc: Floats) -> Gaussians:
    """Makes round Gaussians, half as wide as the mean distance to the three nearest points.

    Args:
        path: names the file in sentences; points that are not finite are left out, and counted in
            one.
        points: (n, 3).
        dc: (n, 3), their degree-0 coefficients.

    Raises:
        UserError: no point is finite.
    """
    good = np.asarray(
        np.isfinite(points).all(1) & np.isfinite(dc).all(1) & (np.abs(points) < FARTHEST).all(1)
    )
    if not good.any():
        raise damaged(path, "has no point whose numbers are all finite")
    if not good.all():
        warn(
            f"{path}: {(~good).sum()} of {len(good)} points are left out, whose numbers are not "
            "finite or beyond any scene"
        )
        points, dc = points[good], dc[good]
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


def unit_colors(path: Path, colors: np.ndarray) -> Floats:
    """Scales colours to [0, 1], told from 0 to 255 and 0 to 65535 by their type or size.

    Bytes are divided by 255. Wider integers and floats go by their 99.9th percentile: beyond 1.5
    (integers: 1) they are 0 to 255, beyond 260 they are 0 to 65535; a sentence says so of floats.
    """
    if colors.dtype == np.uint8:
        return colors / 255
    values = colors.astype(np.float64)
    known = np.abs(values[np.isfinite(values)])
    most = np.quantile(known, 0.999) if known.size else 0.0
    whole = colors.dtype.kind in "ui"
    if colors.dtype == np.uint16 and most > 260:
        return values / 65535
    if most <= (1 if whole else 1.5):
        return values
    divisor = 255 if most <= 260 else 65535 if most <= 66000 else np.inf
    if divisor == np.inf:
        raise UserError(
            f"{path} has colours up to {most:.3g}, neither 0 to 1, 0 to 255 nor 0 to 65535; scale "
            "them"
        )
    if not whole:
        warn(f"{path}: colours reach {most:.4g}, so they are taken as 0 to {divisor}")
    return values / divisor


def read_points_npz(path: Path) -> Gaussians:
    """Reads the point cloud of an .npz.

    (n, 3) arrays ``means3d`` (or means, points, xyz) and ``colors`` (or rgb).

    Nothing is unpickled. Other arrays, such as cameras, are left alone.

    Raises:
        UserError: it is damaged, has no such arrays, or they do not fit each other.
    """
    size = require_plain_file(path)
    with foreign(path, "npz"), zipfile.ZipFile(path) as archive:
        points = _array(path, archive, MEANS, size)
        if points is None:
            held = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:8])
            raise UserError(
                f"{path} has no array named {' or '.join(MEANS)} (it has: {held}); it is no point "
                "cloud"
            )
        colors = _array(path, archive, COLORS, size)
        if colors is None:
            warn(f"{path} has no array named {' or '.join(COLORS)}: its points are drawn grey")
            colors = np.full((len(points), 3), GREY)
        if len(points) != len(colors):
            raise UserError(
                f"{path} has points {points.shape} and colours {colors.shape}, not one colour "
                "each; correct it"
            )
        places = points[:, :3].astype(np.float64 if points.dtype == np.float64 else np.float32)
        return gaussians_of_points(path, places, dc_of(unit_colors(path, colors[:, :3])))


def _array(
    path: Path, archive: zipfile.ZipFile, names: tuple[str, ...], size: int
) -> np.ndarray | None:
    """The first array (n, 3) of these names, or None.

    Its header is checked before memory is taken.
    """
    entry = next((f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()), None)
    if entry is None:
        return None
    info = zip_entry(archive, entry)
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{entry} is npy of version {version}")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
        if dtype.hasobject or dtype.kind not in "fui":
            raise ValueError(f"{entry} holds {dtype}, not a table of numbers")
        if len(shape) != 2 or shape[1] not in (3, 4):
            raise UserError(f"{path} has '{names[0]}' of shape {shape}, not (n, 3); correct it")
        require_count(path, shape[0], size)
        need = shape[0] * shape[1] * dtype.itemsize
        if need > info.file_size:
            raise ValueError(f"{entry} claims {need} bytes, it holds {info.file_size}")
        require_memory(path, need + shape[0] * 200, size, f"array {entry} of shape {shape}")
        values = np.frombuffer(file.read(need), dtype)
        return values.reshape(shape, order="F" if fortran else "C")
