"""Lists the files that gs4d made in a folder, so that it replaces and removes no others.

The list ``.gs4d.json`` stands in that folder and covers what lies directly in it and in its
folders. A name is in it before the file appears, so that nothing that a killed process made is ever
taken for somebody else's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from ..errors import UserError
from .files import HOLDER, atomic_path, read_json, write_json
from .locks import one_writer

LIST = ".gs4d.json"
LIST_LOCK = ".gs4d.lock"
LIST_BYTES = 256 << 20
# the last ones: what systems leave anywhere
CLUTTER = {LIST, LIST_LOCK, ".lock", ".DS_Store", "Thumbs.db", "desktop.ini"}
NAMED = 3  # strangers' files that a refusal names


def made_in(folder: Path) -> set[str]:
    """The files that the folder's list names, as paths below it; none where there is no list.

    Raises:
        UserError: the list is damaged.
    """
    path = folder / LIST
    if not path.is_file():
        return set()
    record = read_json(path, "list of files", LIST_BYTES)
    names = record.get("files") if isinstance(record, dict) else None
    if not isinstance(names, list) or not all(
        isinstance(name, str) and _is_below(name) for name in names
    ):
        raise UserError(
            f"{path} is no list of what gs4d made here; restore it, or move what you want to keep "
            "and delete it"
        )
    return set(names)


def _is_below(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and not name.startswith("/")
        and ".." not in parts
        and not {"\\", ":", "\0"} & set(name)
    )


def files_below(folder: Path) -> Iterator[str]:
    """Yields the paths of all files below a folder, without clutter and unfinished ones."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not HOLDER.fullmatch(name)]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in [*files, *links]:
            if name not in CLUTTER:
                yield Path(place, name).relative_to(folder).as_posix()


def _home(path: Path) -> Path:
    """The folder whose list covers ``path``.

    The one it lies in, or one above if only that has a list.
    """
    above = path.parent.parent
    return above if not (path.parent / LIST).exists() and (above / LIST).exists() else path.parent


def require_ours(path: Path) -> None:
    """Checks that nothing stands at ``path``, or only what gs4d made.

    Raises:
        UserError: something of somebody else does.
    """
    if not os.path.lexists(path):
        return
    home = _home(path)
    made, name = made_in(home), path.relative_to(home)
    files = (
        sorted((name / file).as_posix() for file in files_below(path))
        if path.is_dir()
        else [name.as_posix()]
    )
    if others := [file for file in files if file not in made]:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        raise UserError(
            f"{home} holds {', '.join(others[:NAMED])}{more}, which gs4d did not make and will not "
            "replace; move that away, or choose another folder for the results"
        )


def claim(*paths: Path) -> None:
    """Lists files and folders that are about to be made.

    Raises:
        UserError: one is there already and is somebody else's (nothing is changed then), or the
            list cannot be written.
    """
    for path in paths:
        require_ours(path)
    for home in dict.fromkeys(map(_home, paths)):
        names = {path.relative_to(home).as_posix() for path in paths if _home(path) == home}
        _relist(home, names.union)


def _relist(home: Path, change: Callable[[set[str]], set[str]]) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {home}: {error.strerror or error}; choose another folder"
        ) from error
    with one_writer(home / LIST_LOCK, None):
        before = made_in(home)
        if (names := change(before)) != before:
            write_json(home / LIST, {"files": sorted(names)})


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder, as :func:`gs4d.io.files.atomic_path`, and lists it in the end.

    Raises:
        UserError: a folder is there already with files that gs4d did not make, or see
            :func:`gs4d.io.files.atomic_path`.
    """
    require_ours(path)
    with atomic_path(path) as part:
        part.mkdir()
        yield part
        require_ours(path)
        home = _home(path)
        name = path.relative_to(home)
        names = {(name / file).as_posix() for file in files_below(part)}
        _relist(home, names.union)
    _relist(
        home, lambda all: {n for n in all if name not in PurePosixPath(n).parents or n in names}
    )


def adopt(folder: Path, shape: str) -> None:
    """Lists, in a folder without a list, the files whose paths look like those that gs4d makes.

    Args:
        folder: known to be gs4d's, from before there were lists.
        shape: a regular expression for whole paths.
    """
    if not (folder / LIST).exists() and folder.is_dir():
        write_json(
            folder / LIST,
            {"files": sorted(name for name in files_below(folder) if re.fullmatch(shape, name))},
        )


def remove_made(folder: Path) -> None:
    """Removes what the folder's list names, and folders that are empty then.

    Anything else stays, and so does the list.

    Raises:
        OSError: something cannot be removed.
        UserError: the list is damaged.
    """
    for name in sorted(made_in(folder), reverse=True):
        path = folder / name
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
        for place in [path, *path.parents][: len(PurePosixPath(name).parts)]:
            with suppress(OSError):
                place.rmdir()
