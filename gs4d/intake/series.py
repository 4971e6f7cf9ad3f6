"""Finds the pictures of a folder that are frames of one clip, and their order."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from ..errors import UserError
from ..io.names import is_file, list_folder, natural_order

# Of one frame that is there in several formats the first is taken: those without loss and with
# alpha come first.
PICTURES = (
    ".png",
    ".tif",
    ".tiff",
    ".tga",
    ".bmp",
    ".ppm",
    ".pgm",
    ".webp",
    ".avif",
    ".jp2",
    ".gif",
    ".jpg",
    ".jpeg",
)
VIDEOS = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v")
COMPANIONS = re.compile(
    r"[-_](depth|normals?|masks?|alpha|matte|seg|thumb(nail)?s?)$", re.IGNORECASE
)
# 2026-05-01 10:22:33 in any spelling
MOMENT = re.compile(r"(19|20)\d\d\D?\d\d\D?\d\d\D{0,4}\d\d\D?\d\d\D?\d\d")
JUMP = 1.5  # usual steps between two numbers, above which pictures are missing between them
OWN_FOLDER = "put the frames of one clip into a folder of their own"


@dataclass(frozen=True)
class Series:
    """Pictures in the order in which they were taken.

    Attributes:
        files: the pictures.
        numbers: the number of each frame; empty where names have none that counts frames.
        warnings: sentences about what was assumed, and what was left out.
    """

    files: tuple[Path, ...]
    numbers: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()

    def jump(self, first: int, last: int) -> str | None:
        """Returns a warning where the numbers of files ``first`` to ``last`` do not rise evenly."""
        files, numbers = self.files[first : last + 1], self.numbers[first : last + 1]
        gaps = [b - a for a, b in pairwise(numbers)]
        step = median(gaps) if len(gaps) > 1 else 0
        if not (jumps := [i for i, gap in enumerate(gaps) if gap > JUMP * step > 0]):
            return None
        shown = ", ".join(f"{files[i].name} to {files[i + 1].name}" for i in jumps[:3])
        more = f" and in {len(jumps) - 3} more places" if len(jumps) > 3 else ""
        lost = sum(round(gaps[i] / step) - 1 for i in jumps)
        return (
            f"the numbers jump from {shown}{more}: about {lost} frames are missing, and the frames "
            "that are there are taken as "
            "evenly spaced in time; restore them, or take an unbroken part with --start and --end"
        )


def find_series(folder: Path) -> Series:
    """The frames of one clip, without depth maps, masks, thumbnails and the like.

    Raises:
        UserError: there are no pictures, several series of them, or two of one frame.
    """
    files = [p for p in list_folder(folder) if p.suffix.lower() in PICTURES and is_file(p)]
    if not files:
        videos = [p.name for p in list_folder(folder) if p.suffix.lower() in VIDEOS]
        there = (
            f"; it holds {videos[0]}: give that" if videos else "; give a folder of numbered frames"
        )
        raise UserError(f"{folder} holds no pictures{there}")
    kinds: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        kinds[re.sub(r"\d+", "#", path.stem)].append(path)
    main = {kind: paths for kind, paths in kinds.items() if not COMPANIONS.search(kind)} or kinds
    numbered = {kind: paths for kind, paths in main.items() if "#" in kind and len(paths) > 1}
    if len(numbered) > 1:
        rows = ", ".join(f"{kind} ({len(paths)})" for kind, paths in sorted(numbered.items()))
        raise UserError(f"{folder} holds several series of pictures: {rows}; {OWN_FOLDER}")
    everything = [path for paths in main.values() for path in paths]
    chosen, warnings = _once_each(next(iter(numbered.values())) if numbered else everything)
    if not numbered:
        if len(chosen) > 1:
            warnings.append(
                f"the names in {folder} have no numbers that count frames, so they are taken in "
                "alphabetical order"
            )
        return Series(tuple(chosen), (), tuple(warnings))
    if strays := [path for path in everything if re.sub(r"\d+", "#", path.stem) not in numbered]:
        more = f" and {len(strays) - 3} more" if len(strays) > 3 else ""
        names = ", ".join(path.name for path in strays[:3])
        warnings.append(
            f"{names}{more} in {folder} left out: not named like the {len(chosen)} frames"
        )
    return _ordered(folder, chosen, warnings)


def _digits(path: Path) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", path.stem))


def _once_each(files: list[Path]) -> tuple[list[Path], list[str]]:
    """Returns one picture per frame, in the best format that all frames have."""
    frames: defaultdict[object, dict[str, Path]] = defaultdict(dict)
    for path in files:
        twins = frames[re.sub(r"\d+", "#", path.stem), _digits(path)]
        if (other := twins.setdefault(path.suffix.lower(), path)) != path:
            raise UserError(f"{other} and {path.name} are the same frame; remove one of them")
    double = next((twins for twins in frames.values() if len(twins) > 1), None)
    if double is None:
        return files, []
    whole = [suffix for suffix in PICTURES if all(suffix in twins for twins in frames.values())]
    a, b = sorted(double.values(), key=lambda path: PICTURES.index(path.suffix.lower()))[:2]
    if not whole:
        raise UserError(f"{a} and {b.name} are the same frame; remove one of them")
    others = sorted({suffix for twins in frames.values() for suffix in twins} - {whole[0]})
    warning = (
        f"{a.name} and {b.name} are the same frame, and others are there twice: took {whole[0]}, "
        f"not {', '.join(others)}"
    )
    return [twins[whole[0]] for twins in frames.values()], [warning]


def _ordered(folder: Path, files: list[Path], warnings: list[str]) -> Series:
    """The pictures by the one number of their names that counts frames."""
    rows = {path: _digits(path) for path in files}
    columns = list(zip(*rows.values(), strict=True))
    varying = [i for i, column in enumerate(columns) if len(set(column)) > 1]
    counting = [
        i for i in varying if _counts([columns[i], *(columns[k] for k in varying if k != i)])
    ]
    if counting:
        files = sorted(files, key=lambda path: rows[path][counting[0]])
        return Series(
            tuple(files), tuple(rows[path][counting[0]] for path in files), tuple(warnings)
        )
    if len(varying) > 1 and not _is_time(files, varying):
        names = ", ".join(path.name for path in sorted(files, key=natural_order)[:3])
        raise UserError(
            f"{folder} holds pictures with several numbers that change ({names}, ...), as views or "
            f"takes of one thing have them; {OWN_FOLDER} (side views go through `gs4d sync`)"
        )
    return Series(tuple(sorted(files, key=lambda path: rows[path])), (), tuple(warnings))


def _counts(columns: Sequence[Sequence[int]]) -> bool:
    """Whether the first column counts frames.

    It has no number twice, and along it no other column ever falls.
    """
    rows = sorted(zip(*columns, strict=True))
    distinct = len({row[0] for row in rows}) == len(rows)
    return distinct and all(
        list(column) == sorted(column) for column in list(zip(*rows, strict=True))[1:]
    )


def _is_time(files: list[Path], varying: list[int]) -> bool:
    """Whether the changing numbers are a time, or one number with a fraction of fixed width."""
    if all(MOMENT.search(path.stem) for path in files):
        return True
    parts = [re.split(r"(\d+)", path.stem) for path in files]
    point = varying[1] == varying[0] + 1 and all(
        row[2 * varying[0] + 2] in (".", ",") for row in parts
    )
    return len(varying) == 2 and point and len({len(row[2 * varying[1] + 1]) for row in parts}) == 1
