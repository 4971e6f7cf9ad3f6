"""The folder of a run: one writer at a time, and nothing removed that a run did not make."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UserError
from .export import FORMATS
from .io.checkpoint import INDEX, TENSORS, remove_checkpoint
from .io.files import read_json, write_json
from .io.gaussians import SEQUENCE, SUFFIXES
from .io.locks import one_writer
from .io.names import list_folder, name_of
from .io.owned import LIST, adopt, claim, files_below, made_in, remove_made, require_ours
from .open_asset import GLTF_SUFFIXES, is_run

LOCK = ".lock"
CONFIG = "config.json"
VIEWS = "views"  # folder of side views that a prior drew; kept from run to run
RESULTS = (CONFIG, INDEX, "input_view.mp4", "turntable.mp4", "report.json", "report.html", "ply")
# What runs left before their folders had lists; {name} is the run's.
FRAMES = (
    r"(\d{4,}\.(compressed\.ply|ply|splat|spz|obj)|" + SEQUENCE.replace(".", r"\.") + r"|mesh\.glb)"
)
EARLIER = "|".join(
    (
        *(re.escape(name) for name in RESULTS),
        TENSORS,
        r"ply/\d{4,}\.ply",
        r"video/(input_view|turntable)\.mp4",
        r"(video/(train|eval)|eval_renders/{name})/[^/]+/\d+\.png",
        *(
            rf"export/{f.target.replace('.', chr(92) + '.')}"
            + ("" if "." in f.target else f"/{FRAMES}")
            for f in FORMATS.values()
        ),
    )
)


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """The block in which a run's folder is written.

    No other process writes there, and its list is there.

    Raises:
        UserError: another process does, the folder cannot be written, or it holds other things and
            no run.
    """
    new = not os.path.lexists(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the output folder {folder}: {error.strerror or error}; choose another "
            "with --output_dir"
        ) from error
    try:
        with one_writer(
            folder / LOCK,
            f"{folder} is being written by another process; wait for it, or choose another -e",
        ):
            _require_run(folder)
            yield
    finally:
        if new:
            with suppress(OSError):
                folder.rmdir()  # nothing came of it


@contextmanager
def writing_into(model_path: Path, out: Path | None) -> Iterator[None]:
    """The block in which results of ``model_path`` are written.

    Into its own folder if it is a run and ``out`` is None.
    """
    if out is not None or not is_run(model_path):
        yield
        return
    busy = (
        f"{model_path} is being written by another process; wait for it, or choose another folder "
        "with --out"
    )
    with one_writer(model_path / LOCK, busy):
        _require_run(model_path)
        yield


def _require_run(folder: Path) -> None:
    """Has a folder with a run of before there were lists get its lists.

    Refuses one that is somebody else's.
    """
    if (folder / LIST).exists():
        made_in(folder)
        return
    if _is_earlier_run(folder):
        adopt(folder, EARLIER.replace("{name}", re.escape(folder.resolve().name)))
        return
    others = sorted(name for name in files_below(folder) if not name.startswith(f"{VIEWS}/"))
    if others:
        raise UserError(
            f"{folder} holds "
            f"{others[0]}{f' and {len(others) - 1} more files' if others[1:] else ''} and no run "
            "of gs4d; "
            "choose another name with -e, or another --output_dir"
        )


def _is_earlier_run(folder: Path) -> bool:
    """Whether the record of a run is there, as gs4d writes it."""
    for name, keys in ((INDEX, {"record", "digest"}), (CONFIG, {"fit", "data_dir", "output_dir"})):
        record: Any = None
        with suppress(UserError):
            record = read_json(folder / name, "record", 256 << 20)
        if isinstance(record, dict) and keys <= record.keys():
            return True
    return False


def clear_run(folder: Path, targets: list[Path]) -> None:
    """Removes the results of an earlier run, which would stand beside a config that is not theirs,
    and lists those to come.

    Raises:
        UserError: something that no run made is where a result belongs; nothing is removed then.
    """
    for target in targets:
        require_ours(target)
    claim(folder / CONFIG)  # from now on the folder has a list, wherever this is killed
    try:
        remove_checkpoint(folder)
        remove_made(folder)
    except OSError as error:
        raise UserError(
            f"cannot clear {folder} of its last run: {error.strerror or error}; choose another -e"
        ) from error
    write_json(folder / LIST, {"files": [CONFIG]})
    claim(*targets)


def place_of_results(model_path: Path) -> tuple[str, Callable[[str], Path]]:
    """The name that results carry, and a function from their kind to where they go.

    They go into a run's folder, but beside files of Gaussians and folders of them. Beside a file
    they carry its name without the suffix, and with it where something else there has that name.
    """
    whole = model_path.resolve()
    if is_run(model_path):
        return whole.name, lambda kind: model_path / kind
    name = name_of(whole)
    twins = [
        path
        for path in list_folder(whole.parent)
        if path != whole and path.suffix.lower() in (*SUFFIXES, *GLTF_SUFFIXES)
    ]
    if whole.is_file() and (
        any(name_of(path) == name for path in twins) or (whole.parent / name).is_dir()
    ):
        name = f"{name}{whole.suffix}"
    return name, lambda kind: whole.parent / f"{name}_{kind}"
