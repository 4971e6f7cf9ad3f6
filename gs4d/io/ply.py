"""PLY files: 3D Gaussian splats (Kerbl et al. 2023), SuperSplat's compressed ones, points.

plyfile (GPL) is imported only here. Positions are the file's numbers; viewers take a splat PLY as x
right, y down, z forward, which is half a turn about x from gs4d's world (``Gaussians.half_turn``).
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement
from torch import Tensor

from ..errors import UserError
from ..gaussians import Gaussians
from .compressed_ply import unpack
from .files import atomic_path
from .foreign import damaged, foreign, read_bytes, warn
from .packing import Floats, dc_of, join_sh, sh_degree_of, sigmoid, to_gaussians
from .ply_header import Header, read_header
from .ply_kinds import require_no_mesh, require_splats
from .points import GREY, gaussians_of_points, unit_colors

Y_UP = "gs4d: y up"  # the comment by which a file of ours is told from one that points y down
RGB = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
PLACE, DC = ("x", "y", "z"), ("f_dc_0", "f_dc_1", "f_dc_2")
SHAPE = ("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")
# logarithm of the third scale of flat splats: at most FLAT, and THINNER below the others
FLAT, THINNER = (-14.0, 7.0)
TIMED = ("trbf_center", "trbf_scale", *(f"motion_{i}" for i in range(9)))


@dataclass(frozen=True)
class TimedGaussians:
    """Gaussians that live around a moment and move along cubics (SpacetimeGaussians, 2024).

    Attributes:
        gaussians: at their own moments.
        centers: those moments, 0 to 1, (n,).
        widths: of the Gaussian that multiplies the opacity, exp(-((t - center) / width)^2), (n,).
        motion: coefficients of (t - center), its square and its cube, (n, 3, 3): power, then axis.
        omega: added to the quaternion times (t - center), (n, 4).
    """

    gaussians: Gaussians
    centers: Tensor
    widths: Tensor
    motion: Tensor
    omega: Tensor


def _columns(coefficients: int) -> list[str]:
    rest = [f"f_rest_{i}" for i in range(3 * (coefficients - 1))]
    return ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, *SHAPE]


def write_ply(path: Path, gaussians: Gaussians, comment: str = Y_UP) -> None:
    """Writes one set: raw parameters as float32, wxyz rotations, f_rest channel by channel.

    Reads back bit for bit.

    Args:
        path: where to.
        gaussians: one set.
        comment: what the header says of it; leave it as it is for a set with y up, the default of
            gs4d.
    """
    g = gaussians.detach().to(torch.device("cpu")).to(torch.float32)
    n, k = g.count, g.sh.shape[-2]
    parts: list[Tensor] = [
        g.means, torch.zeros(n, 3), g.sh[:, 0], g.sh[:, 1:].transpose(1, 2).reshape(n, -1),
        g.logit_opacities[:, None], g.log_scales, g.quats,
    ]  # fmt: skip
    table = np.ascontiguousarray(torch.cat(parts, 1).numpy())
    vertices = table.view([(name, "<f4") for name in _columns(k)]).reshape(n)
    with atomic_path(path) as part:
        PlyData(
            [PlyElement.describe(vertices, "vertex")], byte_order="<", comments=[comment]
        ).write(str(part))


def read_ply(path: Path) -> Gaussians:
    """Reads a splat PLY of any degree, property order, type and byte order; a compressed one.

    Or a coloured point cloud.

    A file without opacity, scales and rotations is a point cloud: see :func:`gaussians_of_points`.
    Degree 4 is cut to degree 3. 2DGS' flat splats get a third scale, Mip-Splatting's filter is
    applied, splats of SpacetimeGaussians are all shown at once (a sentence says so;
    :func:`read_timed_ply` reads their motion).

    Raises:
        UserError: the file is absent, is not a PLY, lies about its length, lacks a Gaussian
            property, or holds a mesh or splats of another kind.
    """
    header = read_header(path)
    with foreign(path, "PLY"):
        elements = _tables(path, header)
        vertices = elements["vertex"]
        names = set(vertices.dtype.names or ())
        if "chunk" in elements and "packed_position" in names:
            gaussians = unpack(path, elements["chunk"], vertices, elements.get("sh"))
        else:
            gaussians = _standard(path, Table(vertices))
            if is_timed(header):
                warn(
                    f"{path}: trbf_center, motion_0, ... say when and how its splats move; they "
                    "are read here at all "
                    "moments at once, and played by gs4d render, gs4d export and gs4d view"
                )
    if not gaussians.count:
        raise damaged(path, "holds no Gaussians")
    return gaussians


def is_timed(header: Header) -> bool:
    """Whether it has the properties of SpacetimeGaussians."""
    vertex = header.element("vertex")
    return vertex is not None and set(vertex.properties) >= set(TIMED)


def read_timed_ply(path: Path) -> TimedGaussians:
    """Reads the splats of SpacetimeGaussians and their motion.

    Its "lite" model stores colours as they are, not as coefficients: which of both, is told by
    their range. The full model's come from a network that is not in the file: its base colours are
    read, and a sentence says so.

    Raises:
        UserError: as :func:`read_ply`.
    """
    header = read_header(path)
    with foreign(path, "PLY"):
        table = Table(_tables(path, header)["vertex"])
        still = _standard(path, table)
        n = still.count
        dc = table.stack(*DC)
        if any(name in table.names for name in ("f_dc_3", "f_t_0")):
            warn(
                f"{path} is of SpacetimeGaussians' full model, whose colours come from a network "
                "that is not in the file: its base colours are drawn"
            )
            still = still.replace(
                sh=torch.from_numpy(dc_of(sigmoid(dc))[:, None].astype(np.float32))
            )
        elif (dc < -0.05).mean() < 0.005 and np.quantile(dc, 0.99) < 1.3:
            warn(
                f"{path}: f_dc lie within 0 to 1, so they are taken as colours, as "
                "SpacetimeGaussians' lite model has them"
            )
            still = still.replace(sh=torch.from_numpy(dc_of(dc)[:, None].astype(np.float32)))
        omega = [f"omega_{i}" for i in range(4)]
        return TimedGaussians(
            still,
            torch.from_numpy(table.column("trbf_center").astype(np.float32)),
            torch.from_numpy(
                np.exp(np.clip(table.column("trbf_scale"), -30, 30)).astype(np.float32)
            ),
            torch.from_numpy(table.stack(*(f"motion_{i}" for i in range(9))).reshape(n, 3, 3)),
            torch.from_numpy(table.stack(*omega))
            if table.names.issuperset(omega)
            else torch.zeros(n, 4),
        )


class Table:
    """The columns of a PLY's vertices by the names that splats have.

    CloudCompare writes scalar_ before those it added.
    """

    def __init__(self, rows: np.ndarray) -> None:
        own = rows.dtype.names or ()
        self._rows = rows
        self._names = {name.removeprefix("scalar_"): name for name in own} | {
            name: name for name in own
        }
        self.names = set(self._names)
        self.plain = {name.removeprefix("scalar_") for name in own}

    def __len__(self) -> int:
        return len(self._rows)

    def column(self, name: str) -> np.ndarray:
        """One column, as the file types it."""
        return self._rows[self._names[name]]

    def stack(self, *names: str) -> Floats:
        """Columns side by side, (n, c) float32."""
        with np.errstate(over="ignore"):
            return np.stack([self.column(name).astype(np.float32) for name in names], -1)

    def places(self) -> Floats:
        """(n, 3) positions, float64 where the file's are."""
        columns = [self.column(name) for name in PLACE]
        # doubles and integers of 32 bits
        wide = any(np.result_type(c, np.float32) == np.float64 for c in columns)
        return np.stack([c.astype(np.float64 if wide else np.float32) for c in columns], -1)


def _tables(path: Path, header: Header) -> dict[str, np.ndarray]:
    require_no_mesh(path, header)
    if header.is_plain:
        ply = PlyData.read(str(path))
    else:
        clean = "\n".join(header.lines).encode("ascii") + b"\n"
        ply = PlyData.read(io.BytesIO(clean + read_bytes(path)[header.size :]))
    return {element.name: element.data for element in ply.elements}


def _standard(path: Path, table: Table) -> Gaussians:
    names = table.names
    rgb = next((some for some in RGB if names.issuperset(some)), None)
    is_cloud = not names & set(SHAPE) and "f_dc_0" not in names
    require_splats(path, table.plain, is_cloud)
    missing = [name for name in PLACE if name not in names]
    missing += [name for name in DC if "f_dc_0" in names and name not in names]
    missing += [name for name in SHAPE if name not in names and not is_cloud and name != "scale_2"]
    rest = sum(re.fullmatch(r"f_rest_\d+", name) is not None for name in names)
    missing += [f"f_rest_{i}" for i in range(rest) if f"f_rest_{i}" not in names]
    if missing:
        raise UserError(
            f"{path} lacks the property '{missing[0]}'; it is no 3D Gaussian splat in the standard "
            "layout"
        )
    if not len(table):
        raise damaged(path, "holds no Gaussians")
    if rest % 3:
        raise UserError(
            f"{path} has {rest} f_rest properties, not 0, 9, 24 or 45; it is no 3D Gaussian splat"
        )
    degree = sh_degree_of(path, rest // 3)
    if "f_dc_0" in names:
        dc = table.stack(*DC)
    elif rgb is not None:
        dc = dc_of(unit_colors(path, np.stack([table.column(c) for c in rgb], -1)))
    else:
        warn(f"{path} has no colours (red, green, blue or f_dc_0, ...): it is drawn grey")
        dc = dc_of(np.full((len(table), 3), GREY))
    if is_cloud:
        return gaussians_of_points(path, table.places(), dc)
    higher = None
    if degree:
        higher = (
            table.stack(*(f"f_rest_{i}" for i in range(rest)))
            .reshape(len(table), 3, rest // 3)
            .transpose(0, 2, 1)
        )
    log_scales, opacities = _sizes(path, table)
    return to_gaussians(
        means=table.places(),
        quats=table.stack("rot_0", "rot_1", "rot_2", "rot_3"),
        log_scales=log_scales,
        logit_opacities=opacities,
        sh=join_sh(dc, higher),
    )


def _sizes(path: Path, table: Table) -> tuple[Floats, Floats]:
    """Logarithms of the scales (n, 3) and logits of the opacities (n,)."""
    opacities = table.column("opacity").astype(np.float32)
    if "scale_2" in table.names:
        log_scales = table.stack("scale_0", "scale_1", "scale_2")
    else:
        warn(
            f"{path} has no scale_2, as 2DGS saves its flat splats: they are drawn as discs, the "
            "third axis being their normal"
        )
        two = table.stack("scale_0", "scale_1")
        log_scales = np.concatenate([two, np.minimum(two.min(1, keepdims=True) - THINNER, FLAT)], 1)
    if "filter_3D" not in table.names:
        return log_scales, opacities
    # Mip-Splatting (Yu et al. 2024), eq. 7: scales grow by the filter, and opacity falls as the
    # volume grows.
    with np.errstate(over="ignore", divide="ignore"):
        square = np.exp(2 * log_scales.astype(np.float64))
        grown = square + table.column("filter_3D").astype(np.float64)[:, None] ** 2
        shrink = 0.5 * (np.log(square) - np.log(grown)).sum(1)
        alpha = sigmoid(opacities.astype(np.float64)) * np.exp(shrink)
        return 0.5 * np.log(grown), np.log(alpha) - np.log1p(-alpha)
