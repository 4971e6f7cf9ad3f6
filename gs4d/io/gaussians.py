"""One door for files of Gaussians.

What a file is, is read from its first bytes, and its name only where it has no mark.

All formats are read into the numbers that a PLY file of the same Gaussians has, which viewers take
as x right, y down, z forward: half a turn about x from gs4d's world. docs/formats.md tables what
each format keeps.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..errors import UserError
from ..gaussians import Gaussians
from .files import read_json
from .foreign import foreign, require_plain_file
from .ksplat import read_ksplat
from .ply import Y_UP, is_timed, read_ply
from .ply_header import Up, read_header
from .points import read_points_npz
from .sog import META, read_sog, zipped_meta
from .splat import read_splat
from .spz import read_spz
from .trained import SUFFIXES as TRAINED
from .trained import read_trained

LEVELS = "lod-meta.json"
SEQUENCE = (
    "sequence.json"  # beside the frames that gs4d wrote: frames per second, and where y points
)
SUFFIXES = (".ply", ".splat", ".spz", ".ksplat", ".sog", ".npz")


def read_gaussians(path: Path) -> Gaussians:
    """Reads a file of Gaussians, the folder of a SOG, or another trainer's checkpoint.

    Raises:
        UserError: it is absent, of another kind, or damaged.
    """
    return _reader(path)(path)


def up_axis(path: Path) -> tuple[Up, str] | None:
    """Returns the up axis by a file's own words or gs4d's note beside it, and those words.

    None where nothing says so.

    Point clouds of CloudCompare and Blender are taken with z up, as these programs have it.

    Raises:
        UserError: there is such a note, but it cannot be read.
    """
    note = path.parent / SEQUENCE
    if note.is_file():
        said = read_json(note, "the note of a sequence")
        return ("up", SEQUENCE) if isinstance(said, dict) and said.get("y") == "up" else None
    if not path.is_file() or not _is_ply(path):
        return None
    header = read_header(path)
    if Y_UP in header.comments:
        return "up", Y_UP
    if (said := header.up()) is not None:
        return said
    vertex = header.element("vertex")
    is_cloud = vertex is not None and not any(
        "opacity" in name or "packed" in name for name in vertex.properties
    )
    maker = next(
        (
            c
            for c in header.comments
            if re.match(r"created (by cloudcompare|by blender|in blender)", c.lower())
        ),
        None,
    )
    return ("z", maker) if maker and is_cloud else None


def is_timed_file(path: Path) -> bool:
    """Whether it is a PLY of splats that move as SpacetimeGaussians has them."""
    return path.is_file() and _is_ply(path) and is_timed(read_header(path))


def _is_ply(path: Path) -> bool:
    return _start(path).removeprefix(b"\xef\xbb\xbf")[:3] == b"ply"


def frame_files(folder: Path) -> list[Path]:
    """The files of Gaussians in a folder, in natural order (2 before 10).

    Empty when there are none.

    Raises:
        UserError: the folder cannot be read, or holds files of several formats.
    """
    try:
        files = [
            p
            for p in folder.iterdir()
            if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
        ]
    except FileNotFoundError:
        raise UserError(f"{folder} does not exist") from None
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{folder} cannot be read ({why}); check its permissions") from error
    kinds = sorted({p.suffix.lower() for p in files})
    if len(kinds) > 1:
        raise UserError(
            f"{folder} holds {' and '.join(kinds)} files; give a folder with the frames of one "
            "sequence, or one file"
        )
    return sorted(
        files,
        key=lambda p: [
            (int(x), "") if x.isdecimal() else (-1, x) for x in re.split(r"(\d+)", p.name)
        ],
    )


def _start(path: Path) -> bytes:
    require_plain_file(path)
    with foreign(path, "file", "check its permissions"), path.open("rb") as file:
        return file.read(16)


def _reader(path: Path) -> Callable[[Path], Gaussians]:
    if path.is_dir():
        if (path / META).is_file():
            return read_sog
        raise UserError(f"{path} is a folder without {META}; give one file of Gaussians")
    start, suffix = _start(path), path.suffix.lower()
    if start.removeprefix(b"\xef\xbb\xbf")[:3] == b"ply":
        return read_ply
    if start[:4] == b"NGSP" or start[:2] == b"\x1f\x8b":
        return read_spz
    if start[:4] == b"PK\x03\x04":
        return _zip_reader(path)
    if path.name == META:
        return read_sog
    if suffix in TRAINED:
        return read_trained
    if suffix == ".splat":
        return read_splat
    if suffix == ".ksplat":
        return read_ksplat
    if path.name == LEVELS:
        levels_of(path)
    raise UserError(
        f"{path} is no file of Gaussians that gs4d knows; it reads .ply, .splat, .spz, .ksplat, "
        f".sog, {META} of a SOG, .npz, .glb and .gltf"
    )


def levels_of(path: Path) -> NoReturn:
    """Refuses the list of a SOG's levels of detail, and names them.

    Raises:
        UserError: always.
    """
    there = sorted(p.parent.name for p in path.parent.glob(f"*/{META}"))
    raise UserError(
        f"{path} lists levels of detail; give the folder of one (there are: "
        f"{', '.join(there) or 'none'})"
    )


def _zip_reader(path: Path) -> Callable[[Path], Gaussians]:
    with foreign(path, "zip"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if zipped_meta(names):
            return read_sog
        if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
            return read_trained
        if any(name.endswith(".npy") for name in names):
            return read_points_npz
        inside = ", ".join(names[:4])
        raise UserError(
            f"{path} is a zip of neither a SOG nor an .npz (it has: {inside}); unpack it and give "
            "what it holds"
        )
