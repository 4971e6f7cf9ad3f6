"""The .ksplat format (mkkellogg/GaussianSplats3D, 2023).

A header of 4096 bytes, 1024 per section, then the sections.

A section holds the centres of its buckets (cubes of up to some hundreds of Gaussians) and one
record per Gaussian: centre, standard deviations, rotation wxyz, RGB and opacity (8 bit each), and
coefficients of degree 1-3 band by band, R, G and B one after the other in each. Level 0 has float32
throughout; level 1 16-bit centres within the bucket and float16; level 2 also 8-bit coefficients.
Positions are those of the PLY file of the same Gaussians. It is only read: newer formats are
smaller.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..gaussians import Gaussians
from .foreign import damaged, foreign, read_bytes
from .packing import (
    Floats,
    dc_of,
    join_sh,
    logits,
    logs,
    require_count,
    require_length,
    to_gaussians,
)

HEADER_BYTES = 4096
SECTION_BYTES = 1024
# major, minor, sections, Gaussians, level, least and largest coefficient
HEADER = struct.Struct("<BB2xI8xIH14xff")
# Gaussians, room for, per bucket, buckets, side of a bucket, bytes per bucket, range of a centre,
# full buckets, partial, degree
SECTION = struct.Struct("<IIIIfH2xI4xIIH")
MAX_SECTIONS = 1 << 16


def read_ksplat(path: Path) -> Gaussians:
    """Reads a .ksplat file of version 0.x; sections of different degree are filled up with zeros.

    Raises:
        UserError: it is absent, no .ksplat, or its headers do not fit what it holds.
    """
    data = read_bytes(path)
    with foreign(path, ".ksplat"):
        require_length(path, "header", len(data), HEADER_BYTES)
        major, minor, sections, n, level, low, high = HEADER.unpack_from(data)
        if major != 0 or minor < 1 or level > 2:
            raise UserError(
                f"{path} is no .ksplat of version 0.1 or later, level 0 to 2; save it as .ply"
            )
        require_count(path, n, len(data))
        offset = HEADER_BYTES + sections * SECTION_BYTES
        if sections > MAX_SECTIONS:
            raise damaged(path, f"claims {sections} sections")
        require_length(path, "section headers", len(data), offset)
        bounds = (low or -1.5, high or 1.5)
        parts = []
        for index in range(sections):
            part, used = _read_section(
                path, data, HEADER_BYTES + index * SECTION_BYTES, offset, level, bounds
            )
            offset += used
            parts += [part] if part is not None else []
        found = sum(len(part["means"]) for part in parts)
        if found != n:
            raise damaged(path, f"claims {n} Gaussians, its sections hold {found}")
        most = max(part["rest"].shape[1] for part in parts)
        for part in parts:
            part["rest"] = np.pad(part["rest"], ((0, 0), (0, most - part["rest"].shape[1]), (0, 0)))
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return to_gaussians(
            means=whole["means"],
            quats=whole["quats"],
            log_scales=logs(whole["scales"]),
            logit_opacities=logits(whole["rgba"][:, 3]),
            sh=join_sh(dc_of(whole["rgba"][:, :3]), whole["rest"] if most else None),
        )


def _read_section(
    path: Path, data: bytes, header: int, offset: int, level: int, bounds: tuple[float, float]
) -> tuple[dict[str, Floats] | None, int]:
    """Returns the arrays of one section (None: it is empty), and the bytes that it fills."""
    count, room, per_bucket, buckets, side, bucket_bytes, span, full, partial, degree = (
        SECTION.unpack_from(data, header)
    )
    if degree > 3 or count > room:
        raise damaged(path, f"has a section of degree {degree} with {count} of {room} Gaussians")
    coefficients = (degree + 1) ** 2 - 1
    number, small = ("<f4", "<f4") if level == 0 else ("<u2", "<f2")
    record = np.dtype(
        [("means", number, 3), ("scales", small, 3), ("quats", small, 4), ("rgba", "u1", 4),
         ("rest", ("<f4", "<f2", "u1")[level], 3 * coefficients)]
    )  # fmt: skip
    centers_at = offset + 4 * partial
    begin = centers_at + bucket_bytes * buckets
    used = begin - offset + room * record.itemsize
    require_length(path, "sections", len(data), begin + count * record.itemsize)
    if not count:
        return None, used
    records = np.frombuffer(data, record, count, begin)
    means = records["means"].astype(np.float64)
    if level:
        span = span or 32767
        if full and not per_bucket:
            raise ValueError("its buckets have no room")
        sizes = np.frombuffer(data, "<u4", partial, offset).astype(np.int64)
        # Full buckets come first; the partly filled ones say how many they hold.
        ends = np.cumsum(np.concatenate([[full * per_bucket], sizes]))
        row = np.arange(count)
        bucket = np.where(
            row < ends[0], row // max(per_bucket, 1), full + np.searchsorted(ends, row, "right") - 1
        )
        centers = (
            np.frombuffer(data, "<f4", 3 * buckets, centers_at)
            .reshape(buckets, 3)
            .astype(np.float64)
        )
        means = (means - span) * (side / 2 / span) + centers[bucket]
    rest = records["rest"].astype(np.float64)
    if level == 2:
        rest = bounds[0] + rest / 255 * (bounds[1] - bounds[0])
    bands = np.split(rest, [9, 24], 1)
    channels = [band.reshape(count, 3, -1).transpose(0, 2, 1) for band in bands if band.shape[1]]
    return {
        "means": means,
        "scales": records["scales"].astype(np.float64),
        "quats": records["quats"].astype(np.float64),
        "rgba": records["rgba"] / 255.0,
        "rest": np.concatenate(channels, 1) if channels else np.zeros((count, 0, 3)),
    }, used
