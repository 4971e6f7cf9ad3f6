"""Tells the kind of splats by a PLY's properties.

Splats that move, splats of other kernels, and extras that are not drawn.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import UserError
from .foreign import one_line, warn
from .ply_header import Header

KNOWN = re.compile(
    r"x|y|z|n[xyz]|normal_?[xyz]|f_dc_\d+|f_rest_\d+|f_t_\d+|opacity|scale_[012]|rot_[0-3]|"
    r"filter_3D|alpha|"
    r"red|green|blue|diffuse_(red|green|blue|alpha)|r|g|b|a|trbf_(center|scale)|"
    r"motion_\d+|omega_\d+"
)
MOVING = re.compile(
    r"t|time|timestamp|t_.*|.*_t|rot_[rlt]_?\d*|scale_[3-9]|rot_[4-7]|trbf_.*|motion_.*|omega_.*|"
    r".*(motion|deform|veloc|displac|disp_|tempor|fourier|lifespan|duration).*|v[xyz]|d[xyz]_\d+"
)
# Properties of splats that are not what a rasterizer of 3D Gaussians draws, whose they are, and
# what they are.
OTHERS = (
    (
        r"f_offset_\d+|f_anchor_feat_\d+",
        "Scaffold-GS",
        "anchors from which a network makes the splats",
    ),
    (r"beta|sb_params_\d+", "Beta Splatting", "kernels of another shape"),
    (r"shape", "GES", "kernels of another shape"),
)
SHOWN = 6  # names in a sentence


def require_splats(path: Path, names: set[str], is_cloud: bool) -> None:
    """Refuses properties that this layout cannot mean, and names those that are left alone.

    Raises:
        UserError: they move in a way that is not known, or are splats of another kind.
    """
    extras = sorted(name for name in names if not KNOWN.fullmatch(name))
    timed = {"trbf_center", "trbf_scale", "motion_0", "motion_8"} <= names
    if not is_cloud:
        for pattern, whose, what in OTHERS:
            if found := [name for name in extras if re.fullmatch(pattern, name)]:
                raise UserError(
                    f"{path} holds {what} ({whose}: {_listed(found)}), not 3D Gaussians; export "
                    "them as 3D Gaussian splats"
                )
        moving = [name for name in sorted(names) if MOVING.fullmatch(name)]
        if timed:
            moving = [
                name
                for name in moving
                if not re.fullmatch(r"trbf_.*|motion_\d|omega_\d|f_t_\d+", name)
            ]
        else:
            moving = [name for name in moving if not re.fullmatch(r"f_t_\d+", name)]
        if moving:
            raise UserError(
                f"{path} holds splats that move ({_listed(moving)}), in a layout that gs4d does "
                "not play; all moments would show at once: export one PLY per frame from the "
                "program that made it, and give their folder"
            )
    if extras:
        warn(
            f"{path} also holds {_listed(extras)}, which {'is' if len(extras) == 1 else 'are'} not "
            "drawn"
        )


def require_no_mesh(path: Path, header: Header) -> None:
    """Refuses models of triangles and the delta frames of Brush, before their rows are read.

    Raises:
        UserError: it is one of them.
    """
    vertex = header.element("vertex")
    names = set(vertex.properties) if vertex else set()
    faces = sum(e.count for e in header.elements if e.name in ("face", "faces", "tristrips"))
    if faces and not names & {"opacity", "scale_0", "scalar_opacity", "packed_position"}:
        raise UserError(
            f"{path} is a mesh of {faces} faces, not splats or points; save it as .glb for `gs4d "
            "mesh`, or sample points on it"
        )
    if any(e.name.startswith("delta_vertex_") for e in header.elements):
        raise UserError(
            f"{path} holds splats that move (elements delta_vertex_0, ...), which gs4d does not "
            "play; export one PLY per frame"
        )


def _listed(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return one_line(", ".join(names[:SHOWN]), 200) + more
