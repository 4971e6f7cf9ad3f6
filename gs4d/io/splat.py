"""The .splat format (antimatter15/splat, 2023).

32 bytes per Gaussian, no header, no spherical harmonics.

| bytes | what | quantisation |
|---|---|---|
| 0-11 | centre, 3 x float32 | exact |
| 12-23 | standard deviations (not their logarithms), 3 x float32 | float32 |
| 24-27 | R, G, B, opacity, 8 bit each | 1/255; colours outside [0, 1] are clamped |
| 28-31 | rotation wxyz, 8 bit each: q = (byte - 128) / 128 | 1/128 per component, then made unit |

Little-endian. Positions are those of the PLY file of the same Gaussians, which viewers take as y
down.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UserError
from ..gaussians import Gaussians
from .files import atomic_path
from .foreign import foreign, read_bytes
from .packing import (
    arrays_to_write,
    colors_of,
    dc_of,
    logits,
    logs,
    sigmoid,
    to_gaussians,
    to_uint8,
)

RECORD = np.dtype(
    [("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("quats", "u1", 4)]
)


def write_splat(path: Path, gaussians: Gaussians) -> None:
    """Writes one set in its order; spherical harmonics beyond degree 0 are left out.

    Raises:
        UserError: a number is not finite, or the file cannot be written.
    """
    arrays = arrays_to_write(path, gaussians)
    records = np.empty(gaussians.count, RECORD)
    records["means"] = arrays["means"]
    records["scales"] = np.exp(np.clip(arrays["log_scales"], -80, 80))  # what float32 holds
    records["rgba"][:, :3] = to_uint8(255 * colors_of(arrays["sh"][:, 0]))
    records["rgba"][:, 3] = to_uint8(255 * sigmoid(arrays["logit_opacities"]))
    records["quats"] = to_uint8(128 * arrays["quats"] + 128)
    with atomic_path(path) as part:
        part.write_bytes(records.tobytes())


def read_splat(path: Path) -> Gaussians:
    """Reads a .splat file.

    Raises:
        UserError: it is absent, or its size is not a multiple of 32 bytes.
    """
    data = read_bytes(path)
    if not data or len(data) % RECORD.itemsize:
        raise UserError(
            f"{path} has {len(data)} bytes, not a multiple of 32; it is no .splat file or was cut "
            "short"
        )
    with foreign(path, ".splat"):
        records = np.frombuffer(data, RECORD)
        rgba = records["rgba"] / 255.0
        quats = (records["quats"].astype(np.float32) - 128) / 128
        # all zero stays so: the identity
        quats /= np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-12)
        return to_gaussians(
            means=records["means"],
            quats=quats,
            log_scales=logs(records["scales"]),
            logit_opacities=logits(rgba[:, 3]),
            sh=dc_of(rgba[:, :3])[:, None],
        )
