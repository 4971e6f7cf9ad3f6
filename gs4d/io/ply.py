"""3D Gaussian Splatting PLY, the layout that every viewer reads (Kerbl et al. 2023). plyfile (GPL) is imported only here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement, PlyParseError
from torch import Tensor

from ..errors import UserError
from ..gaussians import Gaussians
from .files import atomic_path


def _columns(coefficients: int) -> list[str]:
    rest = [f"f_rest_{i}" for i in range(3 * (coefficients - 1))]
    return [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest,
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Writes one set: raw parameters as float32, wxyz rotations, f_rest channel by channel; reads back bit for bit."""
    g = gaussians.detach().to(torch.device("cpu")).to(torch.float32)
    n, k = g.count, g.sh.shape[-2]
    parts: list[Tensor] = [
        g.means, torch.zeros(n, 3), g.sh[:, 0], g.sh[:, 1:].transpose(1, 2).reshape(n, -1),
        g.logit_opacities[:, None], g.log_scales, g.quats,
    ]  # fmt: skip
    table = np.ascontiguousarray(torch.cat(parts, 1).numpy())
    vertices = table.view([(name, "<f4") for name in _columns(k)]).reshape(n)
    with atomic_path(path) as part:
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(str(part))


def read_ply(path: Path) -> Gaussians:
    """Reads a 3DGS PLY of any spherical-harmonic degree.

    Raises:
        UserError: the file is absent, is not a PLY, lies about its length, or lacks a Gaussian property.
    """
    try:
        vertices = PlyData.read(str(path))["vertex"].data
        names = set(vertices.dtype.names or ())
        rest = sum(name.startswith("f_rest_") for name in names)
        missing = [name for name in _columns(1 + rest // 3) if name not in names and name not in ("nx", "ny", "nz")]
        if missing or rest not in (0, 9, 24, 45):
            lack = f"lacks the property '{missing[0]}'" if missing else f"has {rest} f_rest properties, not 0, 9, 24 or 45"
            raise UserError(f"{path} {lack}; it is no 3D Gaussian splat in the standard layout")
        read: dict[str, Tensor] = {name: torch.from_numpy(vertices[name].astype(np.float32)) for name in names}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (PlyParseError, KeyError, ValueError, MemoryError, UnicodeDecodeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not an intact PLY ({error}); export it again") from error

    def stack(*columns: str) -> Tensor:
        return torch.stack([read[c] for c in columns], -1)

    n, k = len(read["x"]), 1 + rest // 3
    dc = stack("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    if rest:
        higher = stack(*(f"f_rest_{i}" for i in range(rest))).reshape(n, 3, k - 1).transpose(1, 2)
        dc = torch.cat([dc, higher], 1)
    return Gaussians(
        means=stack("x", "y", "z"),
        quats=stack("rot_0", "rot_1", "rot_2", "rot_3"),
        log_scales=stack("scale_0", "scale_1", "scale_2"),
        logit_opacities=read["opacity"],
        sh=dc.contiguous(),
    )
