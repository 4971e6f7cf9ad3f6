"""One door for files of Gaussians: what a file is, is read from its first bytes, and its name only where it has no mark.

All formats are read into the numbers that a PLY file of the same Gaussians has, which viewers take as x right, y down,
z forward: half a turn about x from gs4d's world. docs/formats.md tables what each format keeps.
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
from .ksplat import read_ksplat
from .packing import intact
from .ply import Y_UP, read_header, read_ply
from .points import read_points_npz
from .sog import META, read_sog
from .splat import read_splat
from .spz import read_spz

LEVELS = "lod-meta.json"
SEQUENCE = "sequence.json"  # beside the frames that gs4d wrote: frames per second, and where y points
SUFFIXES = (".ply", ".splat", ".spz", ".ksplat", ".sog", ".npz")


def read_gaussians(path: Path) -> Gaussians:
    """Reads .ply (standard, compressed, point cloud), .splat, .spz, .ksplat, SOG (.sog, meta.json, its folder), or .npz.

    Raises:
        UserError: it is absent, of another kind, or damaged.
    """
    return _reader(path)(path)


def is_y_up(path: Path) -> bool:
    """Whether a file, or gs4d's note beside it, says that y points up; files of others say nothing.

    Raises:
        UserError: there is such a note, but it cannot be read.
    """
    note = path.parent / SEQUENCE
    if note.is_file():
        said = read_json(note, "the note of a sequence")
        return isinstance(said, dict) and said.get("y") == "up"
    return path.is_file() and _start(path)[:3] == b"ply" and f"\ncomment {Y_UP}\n" in read_header(path)


def frame_files(folder: Path) -> list[Path]:
    """The files of Gaussians in a folder, in natural order (2 before 10); empty when there are none.

    Raises:
        UserError: the folder cannot be read, or holds files of several formats.
    """
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")]
    except FileNotFoundError:
        raise UserError(f"{folder} does not exist") from None
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror or error}") from error
    kinds = sorted({p.suffix.lower() for p in files})
    if len(kinds) > 1:
        raise UserError(
            f"{folder} holds {' and '.join(kinds)} files; give a folder with the frames of one sequence, or one file"
        )
    return sorted(files, key=lambda p: [(int(x), "") if x.isdecimal() else (-1, x) for x in re.split(r"(\d+)", p.name)])


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _reader(path: Path) -> Callable[[Path], Gaussians]:
    if path.is_dir():
        if (path / META).is_file():
            return read_sog
        raise UserError(f"{path} is a folder without {META}; give one file of Gaussians")
    start, suffix = _start(path), path.suffix.lower()
    if start[:3] == b"ply":
        return read_ply
    if start[:4] == b"NGSP" or start[:2] == b"\x1f\x8b":
        return read_spz
    if start[:4] == b"PK\x03\x04":
        return _zip_reader(path)
    if path.name == META:
        return read_sog
    if suffix == ".splat":
        return read_splat
    if suffix == ".ksplat":
        return read_ksplat
    if path.name == LEVELS:
        levels_of(path)
    raise UserError(
        f"{path} is no file of Gaussians that gs4d knows; it reads .ply, .splat, .spz, .ksplat, .sog, {META} of a SOG, "
        ".npz, .glb and .gltf"
    )


def levels_of(path: Path) -> NoReturn:
    """Refuses the list of a SOG's levels of detail, and names them.

    Raises:
        UserError: always.
    """
    there = sorted(p.parent.name for p in path.parent.glob(f"*/{META}"))
    raise UserError(f"{path} lists levels of detail; give the folder of one (there are: {', '.join(there) or 'none'})")


def _zip_reader(path: Path) -> Callable[[Path], Gaussians]:
    with intact(path, "zip"), zipfile.ZipFile(path) as archive:
        return read_sog if META in archive.namelist() else read_points_npz
