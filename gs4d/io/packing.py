"""Shared parts of the formats of packed splats.

Bounds against lying headers, and the usual quantisations.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt
from torch import Tensor

from ..errors import UserError
from ..gaussians import Gaussians
from ..geometry import SH_C0
from .foreign import damaged, require_memory

MAX_GAUSSIANS = 32 << 20
BYTES_BASE, BYTES_PER_COEFFICIENT = 250, 30  # taken per Gaussian while it is unpacked, estimated
FAR_AWAY = (
    256  # a scene this many times its own size from the origin needs more than float32's 24 bits
)
# opacities of 0 and 1 are read as this far inside, so that their logits (-13.8, 13.8) are finite
ALPHA_EPS = 1e-6

Floats = Float[np.ndarray, "..."]
Words = UInt[np.ndarray, "..."]


def zip_entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """One file of a zip, to be opened.

    Raises:
        KeyError: it is not there.
        ValueError: it is encrypted, or packed in a way that no splat writer uses.
    """
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise ValueError(f"{name} is encrypted or packed by method {info.compress_type}")
    return info


def require_count(path: Path, count: int, file_bytes: int, coefficients: int = 1) -> None:
    """Checks how many Gaussians a compressed file claims, before memory is taken for them.

    Args:
        path: names the file in errors.
        count: of Gaussians.
        file_bytes: size of the file.
        coefficients: of spherical harmonics per channel, degree 0 included.

    Raises:
        UserError: there are none, or more than 32 Mi, or more than any encoder packs into so few
            bytes, or they would take more memory than a file of its size may.
    """
    if count < 1:
        raise damaged(path, "holds no Gaussians")
    if count > min(MAX_GAUSSIANS, (1 << 20) + 4 * file_bytes):
        raise damaged(path, f"claims {count} Gaussians in {file_bytes} bytes, which cannot be")
    need = count * (BYTES_BASE + BYTES_PER_COEFFICIENT * coefficients)
    require_memory(
        path, need, file_bytes, f"{count} Gaussians with {coefficients} coefficients each"
    )


def require_length(path: Path, kind: str, have: int, need: int) -> None:
    """Raises a UserError when ``have`` bytes are fewer than the ``need`` that a header claims."""
    if have < need:
        raise damaged(
            path, f"is cut short: its header claims {need} bytes of {kind}, it holds {have}"
        )


def arrays_to_write(path: Path, gaussians: Gaussians) -> dict[str, Floats]:
    """Float32 arrays by field name, rotations made unit (the zero one the identity).

    Raises:
        UserError: there are none, or a number is not finite; no packed format can say NaN.
    """
    if gaussians.views is not None:
        raise ValueError(
            f"{gaussians.views} views cannot be written as one set of Gaussians: pass one"
        )
    if not gaussians.count:
        raise UserError(f"there are no Gaussians to write to {path}; fit or export again with some")
    arrays = {name: t.detach().cpu().to(torch.float32).numpy() for name, t in gaussians.items()}
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise UserError(
                f"Gaussian {row} has {name} that are not finite, so {path} was not written; fit "
                "again or drop it"
            )
    quats = arrays["quats"].astype(np.float64)
    length = np.linalg.norm(quats, axis=1, keepdims=True)
    arrays["quats"] = np.where(
        length > 0, quats / np.where(length > 0, length, 1), [1.0, 0.0, 0.0, 0.0]
    ).astype(np.float32)
    return arrays


def to_gaussians(
    means: Floats, quats: Floats, log_scales: Floats, logit_opacities: Floats, sh: Floats
) -> Gaussians:
    """Gaussians of numpy arrays of any float type: float32, but for centres that need float64.

    Centres in float64 stay so where they lie so far from the origin (a national grid) that float32
    would move them against each other; :meth:`gs4d.scene.Stage.place` shifts before it rounds.
    """

    def tensor(values: Floats, dtype: type = np.float32) -> Tensor:
        with np.errstate(over="ignore", invalid="ignore"):
            return torch.from_numpy(np.require(values, dtype, ["C", "W"]))

    precise = np.float64 if means.dtype == np.float64 and is_far_away(means) else np.float32
    return Gaussians(
        tensor(means, precise),
        tensor(quats),
        tensor(log_scales),
        tensor(logit_opacities),
        tensor(sh),
    )


def is_far_away(means: Floats) -> bool:
    """Whether most of (n, 3) centres lie further from the origin than 256 times their spread."""
    good = means[np.isfinite(means).all(1)][:: max(1, len(means) // 100_000)]
    if len(good) < 2:
        return False
    with np.errstate(over="ignore"):
        middle = np.median(good, 0)
        spread = np.quantile(np.abs(good - middle).max(1), 0.9)
    return bool(spread > 0 and np.abs(middle).max() > FAR_AWAY * spread)


def logits(alpha: Floats) -> Floats:
    """Logit of opacities in [0, 1]; the ends are moved inside by ``ALPHA_EPS``."""
    inside = np.clip(alpha.astype(np.float64), ALPHA_EPS, 1 - ALPHA_EPS)
    return np.log(inside / (1 - inside))


def sigmoid(logit: Floats) -> Floats:
    """Opacity of a logit, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logit))


def logs(scales: Floats) -> Floats:
    """Logarithm of standard deviations; what is no positive number becomes exp(-30), a point."""
    return np.log(np.where(scales > 1e-13, scales, 1e-13))


def colors_of(dc: Floats) -> Floats:
    """Colour of degree-0 coefficients, [0, 1] and beyond."""
    return dc * SH_C0 + 0.5


def dc_of(colors: Floats) -> Floats:
    """Degree-0 coefficients of colours."""
    return (colors.astype(np.float64) - 0.5) / SH_C0


def to_uint8(values: Floats) -> UInt[np.ndarray, "..."]:
    """Rounds to the nearest of 0-255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def join_sh(dc: Floats, rest: Floats | None) -> Floats:
    """(n, 3) and (n, k - 1, 3) coefficients as (n, k, 3), cut to degree 3."""
    return dc[:, None] if rest is None else np.concatenate([dc[:, None], rest], 1)[:, :16]


def split_largest(quats: Floats) -> tuple[Words, Floats]:
    """Returns the index of the largest component, and the others, signed so that it is positive."""
    largest = np.abs(quats).argmax(1)
    others = np.arange(3)[None] + (np.arange(3)[None] >= largest[:, None])
    sign = np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -1, 1)
    return largest.astype(np.uint32), np.take_along_axis(quats, others, 1) * sign


def join_largest(largest: Words, three: Floats) -> Floats:
    """Unit quaternions of what :func:`split_largest` gave, in the same component order."""
    quats = np.empty((len(three), 4), np.float64)
    others = np.arange(3)[None] + (np.arange(3)[None] >= largest[:, None].astype(np.int64))
    np.put_along_axis(quats, others, three.astype(np.float64), 1)
    rest = np.sqrt(np.maximum(0, 1 - np.square(three.astype(np.float64)).sum(1, keepdims=True)))
    np.put_along_axis(quats, largest[:, None].astype(np.int64), rest, 1)
    return quats / np.linalg.norm(quats, axis=1, keepdims=True)


def sh_degree_of(path: Path, rest: int) -> int:
    """Degree of ``rest`` coefficients per channel beyond degree 0 (0, 3, 8, 15 or 24).

    Raises:
        UserError: no degree has so many.
    """
    degree = math.isqrt(rest + 1) - 1
    if rest < 0 or (degree + 1) ** 2 != rest + 1 or degree > 4:
        raise UserError(
            f"{path} has {3 * rest} f_rest properties, not 0, 9, 24 or 45; it is no 3D Gaussian "
            "splat"
        )
    return degree
