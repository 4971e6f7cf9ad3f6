"""Names of files and folders.

How a folder is listed, in which order, and what may be the name of a result.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path

from ..errors import RESERVED, UserError

NAME_BYTES = (
    100  # of a name that is derived from a file; what is appended to it must fit in 255 as well
)
UNSAFE = re.compile(r'[/\\:*?"<>|]+')
# of a kind of file: "26.05.01" has none
SUFFIX = re.compile(r"\.(?=[^.]*[A-Za-z])[A-Za-z0-9]{1,7}")
JUNK = frozenset({"thumbs.db", "desktop.ini", "@eadir", "__macosx", "lost+found", "#recycle"})


def list_folder(folder: Path) -> list[Path]:
    """Lists a folder in natural order, without hidden files and what file managers leave.

    Raises:
        UserError: it cannot be listed.
    """
    try:
        inside = list(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"folder {folder} cannot be read ({error.strerror or error}); check its permissions"
        ) from error
    return sorted(
        (p for p in inside if not p.name.startswith(".") and p.name.lower() not in JUNK),
        key=natural_order,
    )


def is_file(path: Path) -> bool:
    """Whether ``path`` is an ordinary file.

    False for pipes, devices, folders and what cannot be looked at.
    """
    return os.path.isfile(path)  # pathlib's own raises where a folder above may not be entered


def natural_order(path: Path) -> list[tuple[int, str]]:
    """A key that sorts frame_9 before frame_10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
    ]


def name_of(path: Path) -> str:
    """Derives the name of a clip or result from a file or folder, fit for any system.

    Only the suffix of a file is taken off, so that 2026.05.01_scan.ply and 2026.05.02_scan.ply have
    names of their own. Characters that no folder may have become "-"; a name that is too long is
    cut, and ends in a checksum of the whole.
    """
    path = path.resolve()
    whole = (
        path.name
        if path.is_dir() or not SUFFIX.fullmatch(path.suffix)
        else path.name.removesuffix(path.suffix)
    )
    plain = unicodedata.normalize("NFC", "".join(c if c.isprintable() else "-" for c in whole))
    name = UNSAFE.sub("-", plain).strip(" ").lstrip(".").rstrip(". ") or "clip"
    if name.split(".")[0].rstrip(" ").upper() in RESERVED:
        name = f"_{name}"
    if len(name.encode()) <= NAME_BYTES:
        return name
    mark = hashlib.sha256(os.fsencode(whole)).hexdigest()[:6]
    return name.encode()[: NAME_BYTES - 7].decode(errors="ignore").rstrip(". ") + f"_{mark}"
