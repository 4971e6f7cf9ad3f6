"""PLY: 3D Gaussian splats in the layout that every viewer reads (Kerbl et al. 2023), SuperSplat's compressed ones, points.

plyfile (GPL) is imported only here. Positions are the file's numbers; viewers take a splat PLY as x right, y down, z forward,
which is half a turn about x from gs4d's world (``Gaussians.half_turn``).
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement, PlyElementParseError, PlyParseError
from torch import Tensor

from ..errors import UserError
from ..gaussians import Gaussians
from .compressed_ply import unpack
from .files import atomic_path
from .packing import MAX_FILE_BYTES, Floats, dc_of, intact, join_sh, sh_degree_of, to_gaussians
from .points import gaussians_of_points, unit_colors

Y_UP = "gs4d: y up"  # the comment by which a file of ours is told from one that points y down
HEADER_BYTES = 1 << 17
SIZES = {
    "char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8,
    "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8,
}  # fmt: skip
RGB = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
SHAPE = ("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")


def _columns(coefficients: int) -> list[str]:
    rest = [f"f_rest_{i}" for i in range(3 * (coefficients - 1))]
    return ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, *SHAPE]


def write_ply(path: Path, gaussians: Gaussians, comment: str = Y_UP) -> None:
    """Writes one set: raw parameters as float32, wxyz rotations, f_rest channel by channel; reads back bit for bit.

    Args:
        path: where to.
        gaussians: one set.
        comment: what the header says of it; leave it as it is for a set with y up, the default of gs4d.
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
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<", comments=[comment]).write(str(part))


def read_header(path: Path) -> str:
    """The header's text, with unix line ends.

    Raises:
        UserError: the file cannot be read, or has no PLY header of at most 128 kB.
    """
    try:
        with path.open("rb") as file:
            start = file.read(HEADER_BYTES)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    header = re.match(rb"ply\r?\n.*?\nend_header\r?\n", start, re.DOTALL)
    if header is None:
        raise UserError(f"{path} is not an intact PLY (its header has no beginning or no end); export it again")
    return header[0].decode("ascii", "replace").replace("\r\n", "\n")


def read_ply(path: Path) -> Gaussians:
    """Reads a splat PLY of any degree, property order, type and byte order; a compressed one; or a coloured point cloud.

    A file without opacity, scales and rotations but with colours is a point cloud: see :func:`gaussians_of_points`.
    Degree 4 is cut to degree 3.

    Raises:
        UserError: the file is absent, is not a PLY, lies about its length, or lacks a Gaussian property.
    """
    _check_length(path, read_header(path))
    try:
        with intact(path, "PLY"):
            ply = PlyData.read(str(path))
            elements = {element.name: element.data for element in ply.elements}
            vertices = elements["vertex"]
            names: set[str] = set(vertices.dtype.names or ())
            if "chunk" in elements and "packed_position" in names:
                return unpack(path, elements["chunk"], vertices, elements.get("sh"))
            return _standard(path, vertices, names)
    except (PlyParseError, PlyElementParseError) as error:
        raise UserError(f"{path} is not an intact PLY ({error}); export it again") from error


def _standard(path: Path, vertices: np.ndarray, names: set[str]) -> Gaussians:
    def stack(*columns: str) -> Floats:
        return np.stack([vertices[c].astype(np.float32) for c in columns], -1)

    rgb = next((some for some in RGB if names.issuperset(some)), None)
    missing = [name for name in ("x", "y", "z") if name not in names]
    if rgb is None or "f_dc_0" in names:
        missing += [name for name in ("f_dc_0", "f_dc_1", "f_dc_2") if name not in names]
    is_cloud = rgb is not None and not names & set(SHAPE)
    missing += [name for name in SHAPE if name not in names and not is_cloud]
    rest = sum(re.fullmatch(r"f_rest_\d+", name) is not None for name in names)
    missing += [f"f_rest_{i}" for i in range(rest) if f"f_rest_{i}" not in names]
    if missing:
        raise UserError(f"{path} lacks the property '{missing[0]}'; it is no 3D Gaussian splat in the standard layout")
    if not len(vertices):
        raise UserError(f"{path} holds no Gaussians; export it again")
    if rest % 3:
        raise UserError(f"{path} has {rest} f_rest properties, not 0, 9, 24 or 45; it is no 3D Gaussian splat")
    degree = sh_degree_of(path, rest // 3)
    if "f_dc_0" in names:
        dc = stack("f_dc_0", "f_dc_1", "f_dc_2")
    else:
        assert rgb is not None
        dc = dc_of(unit_colors(np.stack([vertices[c] for c in rgb], -1)))
    if is_cloud:
        return gaussians_of_points(path, stack("x", "y", "z"), dc)
    higher = None
    if degree:
        higher = stack(*(f"f_rest_{i}" for i in range(rest))).reshape(len(vertices), 3, rest // 3).transpose(0, 2, 1)
    return to_gaussians(
        means=stack("x", "y", "z"),
        quats=stack("rot_0", "rot_1", "rot_2", "rot_3"),
        log_scales=stack("scale_0", "scale_1", "scale_2"),
        logit_opacities=vertices["opacity"],
        sh=join_sh(dc, higher),
    )


def _check_length(path: Path, header: str) -> None:
    """Holds the header's counts against the file's size, because plyfile takes the memory before it reads."""
    size, least, count = path.stat().st_size, 0, 0
    text = "\nformat ascii" in header
    for line in chain(header.splitlines(), ["end"]):
        words = line.split()
        if words[:1] == ["element"]:
            if len(words) != 3 or not words[2].isdecimal() or len(words[2]) > 12:
                raise UserError(f"{path} is not an intact PLY (it has the line '{line[:80]}'); export it again")
            count = int(words[2])
        elif words[:1] == ["property"] and len(words) >= 3:
            # Least bytes of a row: in text one digit and one separator, and a list may be empty.
            least += count * (2 if text else SIZES.get(words[2] if words[1] == "list" else words[1], 1))
    if size > MAX_FILE_BYTES or least > size + 1:
        raise UserError(
            f"{path} is not an intact PLY (its header claims at least {least} bytes, it has {size}); export it again"
        )
