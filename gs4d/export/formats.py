"""The table of what a run can leave as: who writes it, and under which name.

No writer is imported before it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One way out.

    Attributes:
        module: below ``gs4d.export``.
        function: in it, called with (path, asset, options).
        target: file or folder that appears, in which {name} is the run's name.
        about: for the help.
    """

    module: str
    function: str
    target: str
    about: str


FORMATS = {
    "ply": Format(".sequence", "write_ply_sequence", "ply", "3DGS PLY, one file per frame"),
    "compressed-ply": Format(
        ".sequence",
        "write_compressed_ply_sequence",
        "compressed-ply",
        "SuperSplat's PLY, one per frame",
    ),
    "splat": Format(
        ".sequence", "write_splat_sequence", "splat", "antimatter15's .splat, one per frame"
    ),
    "spz": Format(".sequence", "write_spz_sequence", "spz", "Niantic's .spz, one per frame"),
    "glb": Format(
        ".animated", "export_glb", "{name}.glb", "animated glTF with splats, in one file"
    ),
    "splatv": Format(
        ".animated",
        "export_splatv",
        "{name}.splatv",
        "splaTV's animated splat, polynomials fitted to the motion",
    ),
    "html": Format(
        ".animated", "export_html", "{name}.html", "a page that plays it, with everything inside"
    ),
    "mp4": Format(".films", "write_mp4", "{name}.mp4", "H.264 video over the background"),
    "gif": Format(
        ".films", "write_gif", "{name}.gif", "animated GIF, over the background or --transparent"
    ),
    "webm": Format(".films", "write_webm", "{name}.webm", "VP9 video with alpha"),
    "mesh": Format(
        ".mesh",
        "write_mesh",
        "mesh",
        "triangles that move: glTF with morph targets, and an OBJ per frame",
    ),
}
