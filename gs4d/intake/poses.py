"""Notes of other tools that place the camera of every picture.

Such pictures are no video from one camera.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..io.names import is_file, list_folder

MOST_BYTES = 64 << 20  # of a note
STILL = 1e-4  # by which the numbers of one camera may differ, as a share of the largest
COLMAP = ("sparse/0", "sparse", "colmap/sparse/0", "colmap", "0")


def require_one_camera(folder: Path, files: Sequence[Path]) -> None:
    """Checks that no note near the pictures says they were taken from different places.

    Known are the transforms*.json of NeRF, D-NeRF, instant-ngp and nerfstudio, the cameras.json of
    Gaussian splatting, COLMAP's models, LLFF's poses_bounds.npy, the cameras*.npz of IDR and NeuS,
    and a folder of one camera file per picture as Nerfies (camera/) and ScanNet (pose/) have it.

    Raises:
        UserError: there is such a note.
    """
    if len(files) < 2:
        return
    for place in dict.fromkeys((folder.resolve(), *list(folder.resolve().parents)[:2])):
        for note in (
            *_lists(place, files),
            *_models(place, folder, files),
            *_folders(place, files),
        ):
            raise UserError(
                f"{note} places the camera of every picture in {folder} elsewhere, so they are no "
                "video from one camera; give pictures that one camera took while the object moved, "
                "or, if it stood still after all, copy them to a folder without that file"
            )


def _lists(place: Path, files: Sequence[Path]) -> Iterator[Path]:
    """JSON files that list pictures and their cameras; those that name these very files first."""
    near = []
    stems = {path.stem for path in files}
    exact = {path.resolve().with_suffix("") for path in files}
    for note in _inside(place):
        if not re.fullmatch(r"(transforms.*|cameras)\.json", note.name, re.IGNORECASE):
            continue
        named, cameras = [], []
        for entry in _entries(_json(note)):
            name = str(entry.get("file_path", entry.get("img_name", ""))).replace("\\", "/")
            if Path(name).name in stems or Path(name).stem in stems:
                named.append(note.parent / name)
                cameras.append(
                    [entry.get("transform_matrix"), entry.get("rotation"), entry.get("position")]
                )
        if len(named) > 1 and _differ(cameras):
            if any(
                path.resolve() in exact or path.resolve().with_suffix("") in exact for path in named
            ):
                yield note
            near.append(note)
    yield from near


def _entries(document: Any) -> list[dict[str, Any]]:
    frames = document.get("frames") if isinstance(document, dict) else document
    return (
        [entry for entry in frames if isinstance(entry, dict)] if isinstance(frames, list) else []
    )


def _models(place: Path, folder: Path, files: Sequence[Path]) -> Iterator[Path]:
    """COLMAP's list of pictures, and tables with one row per picture."""
    for name in COLMAP:
        for note in (place / name / "images.bin", place / name / "images.txt"):
            if (
                is_file(note)
                and (data := _bytes(note))
                and sum(path.name.encode() in data for path in files) > 1
            ):
                yield note
    if place != folder.resolve() and not re.match(
        r"(images?|rgb)(_\d+)?(/|$)", folder.resolve().relative_to(place).as_posix()
    ):
        return
    for note in _inside(place):
        if note.name.lower() == "poses_bounds.npy" or re.fullmatch(
            r"cameras(_\w+)?\.npz", note.name.lower()
        ):
            yield note


def _folders(place: Path, files: Sequence[Path]) -> Iterator[Path]:
    """Folders that hold a camera file for every picture."""
    for name in ("camera", "cameras", "pose", "poses"):
        for suffix in (".json", ".txt"):
            notes = [
                place / name / f"{path.stem}{suffix}"
                for path in (files[0], files[len(files) // 2], files[-1])
            ]
            if all(is_file(note) for note in notes) and len({_bytes(note) for note in notes}) > 1:
                yield place / name


def _inside(place: Path) -> list[Path]:
    try:
        return [path for path in list_folder(place) if is_file(path)]
    except UserError:  # a folder above, which need not be ours to look into
        return []


def _bytes(note: Path) -> bytes:
    try:
        return note.read_bytes() if note.stat().st_size <= MOST_BYTES else b""
    except OSError:
        return b""


def _json(note: Path) -> Any:
    try:
        return json.loads(_bytes(note))
    except (ValueError, RecursionError):
        return None


def _differ(cameras: list[Any]) -> bool:
    """Whether not all entries are one camera; those that are no numbers count as different."""
    try:
        rows = np.array(
            [
                [n for part in camera if part is not None for n in np.ravel(np.array(part, float))]
                for camera in cameras
            ]
        )
        return bool((np.ptp(rows, axis=0) > STILL * np.abs(rows).max()).any())
    except (ValueError, TypeError, OverflowError):
        return True
