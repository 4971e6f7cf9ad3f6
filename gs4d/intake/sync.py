"""Makes the side views of a clip of other people's output.

``{name}_sync``, ``{name}_rig.json`` and a preview.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import UserError, require_folder_name
from ..io.clips import CONFIDENCE_FILE, View, frame_numbers, read_input, rig_record
from ..io.files import atomic_path, read_json, write_json
from ..io.images import read_image
from ..io.sheets import write_sheet
from ..ranges import Options, Range
from .agreement import compare, shrink, steadied
from .confidence import save_confidence, steadied_confidence
from .layouts import FoundViews, Picture, find_views
from .placing import Part, Seen, at, cameras_of_part, doubts, place, spread, view_weights

MAX_JUDGED = 32  # frames that are compared; the weights of those between are interpolated
SHEET_FRAMES = 8  # frames of the preview


@dataclass(frozen=True)
class SyncOptions(Options):
    """Options of side views that other tools made."""

    path: tuple[Path, ...] = ()
    """What holds the views: a folder, a picture or a video; several with different cameras are used
    together."""
    name: str = ""
    """Name of the clip: views go to {data_dir}/{name}_sync, cameras to
    {data_dir}/{name}_rig.json."""
    data_dir: Path = Path("data")
    """Where clips are kept."""
    out_dir: Path | None = None
    """Where the views, their cameras and the preview go; None: beside the clip."""
    format: Literal[
        "auto",
        "syncdreamer",
        "4dgen",
        "zero123plus",
        "zero123plus-1.2",
        "sv4d",
        "sv4d2",
        "sv4d2-8views",
        "diffusion4d",
        "imagedream",
        "l4gm",
        "rig",
    ] = "auto"
    """What made the views; auto looks at names and sizes, and says what it took them for."""
    rig: Path | None = None
    """Rig file that places the cameras of views that no known tool made."""
    frames: str = ""
    """Which frames of the source belong to the input's frames, if it has others: first, spread, or
    numbers as 0,2,4."""
    scale: Annotated[float | None, Range(0.05, 20)] = None
    """Size of the object beside what the format says; None: measured where the generator frames the
    object by itself."""
    reverse: bool = False
    """The cameras go around the other way."""
    overwrite: bool = False
    """Replace side views even if they were not made by this command."""

    def check(self) -> None:
        """Raises a :class:`UserError` for values that no source could have."""
        if not self.path:
            raise UserError(
                "--path is missing: give the folder, picture or video that holds the side views"
            )
        require_folder_name("--name", self.name)


def make_sync(options: SyncOptions, sources: Sequence[FoundViews] | None = None) -> Path:
    """Makes ``{name}_sync``, its rig and a preview; returns the folder.

    Args:
        options: what the views are and where they go.
        sources: the views, where it is known already what they are: drawn from the input view
            itself.

    Raises:
        UserError: the source is not recognised or does not fit the input view, or what is there is
            not ours to replace.
    """
    options.check()
    out = options.out_dir or options.data_dir
    folder, rig_path = out / f"{options.name}_sync", out / f"{options.name}_rig.json"
    in_place = _check_replaceable(folder, rig_path, options)

    # 1. The sources, and which of their frames belong to the input's.
    sources = sources or [
        find_views(path, name=options.name, wanted=options.format, rig=options.rig)
        for path in options.path
    ]
    parts, numbers, inputs = _assign(sources, options)
    first = parts[0]
    if in_place and (
        sources[0].formats != ("4dgen",) or [sources[0].numbers[i] for i in first.chosen] != numbers
    ):
        raise UserError(
            f"{folder} is where the result goes; rename what is there (as {options.name}_raw) and "
            "give that"
        )
    camera = read_input(options.data_dir / rig_path.name)
    steps = spread(len(numbers), MAX_JUDGED)
    seen = Seen(steps, [], [])
    if inputs:
        pictures = [shrink(read_image(inputs[step], need_alpha=True)) for step in steps]
        seen = Seen(steps, pictures, [at(camera, step) for step in steps])
    warnings = [] if inputs else [_no_input(options)]
    with ExitStack() as stack:
        # 2. The pictures, cut out; nothing appears before all of it is there.
        target = None if in_place else stack.enter_context(atomic_path(folder))
        small = _take(parts, numbers, steps, target)

        # 3. The cameras: which of the formats that the files may be, and how large their object is.
        for part, pictures in zip(parts, small, strict=True):
            warnings += place(part, pictures, seen, reverse=options.reverse, scale=options.scale)

        # 4. The confidence in every view, frame by frame.
        rows = [[p for pictures in small for p in pictures[i]] for i in range(len(steps))]
        views, more = _with_confidence(parts, rows, seen, len(numbers))
        warnings += more

        # 5. The rig and the preview.
        source = ", ".join(f"{part.source.formats[0]}: {part.source.why}" for part in parts)
        record = rig_record(views, input_view=camera, source=source)
        write_json(stack.enter_context(atomic_path(rig_path)), record)
        sheet = stack.enter_context(atomic_path(out / f"{options.name}_sync_preview.png"))
        _preview(sheet, seen.pictures, rows, [numbers[step] for step in steps], views, warnings)

        # 6. The views appear last, and those before them go first: no kill leaves views beside
        # cameras of others.
        if target is not None and os.path.lexists(folder):
            os.replace(folder, target.parent / "old")
    for warning in warnings:
        print(f"warning: {warning}")
    return folder


def _assign(
    sources: Sequence[FoundViews], options: SyncOptions
) -> tuple[list[Part], list[int], list[Path]]:
    """Returns the sources with their frames, the numbers of the frames, the input's pictures."""
    pose0 = options.data_dir / f"{options.name}_pose0"
    inputs = (
        [pose0 / name for name in frame_numbers(pose0).values()] if os.path.isdir(pose0) else []
    )
    numbers = (
        [int(path.stem) for path in inputs]
        or list(sources[0].numbers)
        or list(range(sources[0].count))
    )
    parts = [Part(source, _choose(source, numbers, bool(inputs), options)) for source in sources]
    return parts, numbers if inputs else numbers[: len(parts[0].chosen)], inputs


def _no_input(options: SyncOptions) -> str:
    return (
        f"{options.data_dir / f'{options.name}_pose0'} is not there yet: make the input view with "
        "`gs4d frames` before training"
    )


def _with_confidence(
    parts: list[Part], rows: list[list[Picture]], seen: Seen, count: int
) -> tuple[list[View], list[str]]:
    """Returns all cameras with the weights of their views, and warnings.

    Args:
        parts: the sources.
        rows: their pictures at the compared steps, shrunk.
        seen: the input view.
        count: frames of the clip.
    """
    views = [view for part in parts for view in part.views]
    found = []
    for i, step in enumerate(tqdm(seen.steps, desc="comparing", unit="frame", leave=False)):
        pictures = [*seen.pictures[i : i + 1], *rows[i]]
        orbits = [*seen.cameras[i : i + 1], *(at(view, step) for view in views)]
        found.append(compare(pictures, orbits))
    found = steadied(found)
    inputs = bool(seen.pictures)
    weights = view_weights(found, seen.steps, count, skip=inputs)
    warnings = doubts(found, weights, views, with_input=inputs and not parts[0].source.own)
    found_views = [
        replace(view, confidence=tuple((np.array(view.confidence) * w).round(2).tolist()))
        for view, w in zip(views, weights, strict=True)
    ]
    return found_views, warnings


def _check_replaceable(folder: Path, rig_path: Path, options: SyncOptions) -> bool:
    """Whether the views lie where they belong already, so that only their rig is made."""
    if [path.resolve() for path in options.path] == [folder.resolve()]:
        return True
    if any(folder.resolve() in (path.resolve(), *path.resolve().parents) for path in options.path):
        raise UserError(
            f"{folder} is where the result goes; rename what is there (as {options.name}_raw) and "
            "give that"
        )
    if os.path.lexists(folder) and not options.overwrite:
        record = read_json(rig_path, "rig file") if rig_path.is_file() else {}
        if not isinstance(record, dict) or "source" not in record:
            raise UserError(
                f"{folder} exists and was not made by this command; choose another --name, or "
                "replace it with --overwrite"
            )
    return False


def _choose(
    source: FoundViews, numbers: list[int], inputs: bool, options: SyncOptions
) -> list[int]:
    """Indices of the source's frames, one per frame of the input."""
    count, wanted = source.count, options.frames
    label = f"{source.where} ({source.formats[0]})"
    if wanted in ("first", "spread"):
        if len(numbers) > count:
            raise UserError(
                f"{label} has {count} frames but the input view {len(numbers)}; make the missing "
                "views"
            )
        return list(range(len(numbers))) if wanted == "first" else spread(count, len(numbers))
    if wanted:
        try:
            chosen = [int(word) for word in wanted.split(",")]
        except ValueError:
            raise UserError(
                f"--frames is '{wanted}', wanted first, spread, or numbers as 0,2,4"
            ) from None
        if chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= count:
            raise UserError(
                f"--frames {wanted} must rise and lie below {count}, the number of frames in "
                f"{label}"
            )
        if inputs and len(chosen) != len(numbers):
            raise UserError(
                f"--frames names {len(chosen)} frames but the input view has {len(numbers)}; name "
                "one for each"
            )
        return chosen
    if source.numbers and set(numbers) < set(source.numbers):
        print(
            f"{label}: took the {len(numbers)} of {count} frames whose numbers the input view has."
        )
        return [source.numbers.index(number) for number in numbers]
    if count != len(numbers):
        least = min(count, len(numbers))
        how = (
            f"say with --frames which of them belong together: first (the first {least}), spread "
            f"({least} evenly over all), or their numbers"
            if count > least
            else "make the missing views, or make the input view again with the frames that have "
            "views"
        )
        raise UserError(
            f"{label} has {count} frames and {options.name}_pose0 has {len(numbers)}; {how}"
        )
    return list(range(count))


def _take(
    parts: list[Part], numbers: list[int], steps: list[int], target: Path | None
) -> list[list[list[Picture]]]:
    """Writes all pictures to ``target`` (None: they stay where they are).

    Returns:
        Per source and judged step, its pictures shrunk.
    """
    every = range(len(numbers)) if target is not None else steps
    wanted = set(steps if not any(part.source.steady for part in parts) else every)
    small: list[dict[int, list[Picture]]] = [{} for _ in parts]
    for part in parts:
        part.views = cameras_of_part(part, part.source.formats[0])
    if target is not None:
        target.mkdir(exist_ok=True)
    with (
        ThreadPoolExecutor(4) as pool,
        tqdm(total=len(every), desc="side views", unit="frame") as bar,
    ):
        for step, *sets in zip(every, *(part.frames(every) for part in parts), strict=True):
            pictures = [picture for one in sets for picture in one]
            if target is not None:
                name = f"{target / str(numbers[step])}_0_{{}}_rgba.png"
                paths = [Path(name.format(view)) for view in range(len(pictures))]
                list(pool.map(_put, paths, pictures))
            elif any(picture[..., 3].min() == 255 for picture, _ in pictures) or any(
                part.backdrops for part in parts
            ):
                raise UserError(
                    f"{parts[0].source.where} holds pictures without alpha where the result goes; "
                    "rename it and give that"
                )
            for rows, one in zip(small, sets, strict=True):
                if step in wanted:
                    rows[step] = [shrink(picture) for picture, _ in one]
            bar.update()
    confidence = parts[0].source.confidence
    if target is not None and confidence is not None:
        film = list(small[0].values())
        save_confidence(
            steadied_confidence(confidence, film) if parts[0].source.steady else confidence,
            target / CONFIDENCE_FILE,
        )
    return [[rows[step] for step in steps] for rows in small]


def _put(path: Path, taken: tuple[Picture, Path | None]) -> None:
    """Puts a picture into the clip: a copy of its file, or else a file of its own."""
    picture, file = taken
    if file is None:
        save_picture(path, picture)
    else:
        shutil.copyfile(file, path)


def save_picture(path: Path, picture: Picture) -> None:
    """Writes a PNG; the level takes half the time of the default and a tenth more room."""
    Image.fromarray(picture).save(path, compress_level=4)


def _preview(
    path: Path,
    seen: list[Picture],
    small: list[list[Picture]],
    numbers: list[int],
    views: list[View],
    warnings: list[str],
) -> None:
    """Views in rows, some frames in columns.

    The labels say where a camera stands and the confidence in it.
    """
    shown = spread(len(numbers), SHEET_FRAMES)
    rows = [[seen[i] for i in shown]] if seen else []
    rows += [[small[i][view] for i in shown] for view in range(len(views))]
    labels = ["input"] if seen else []
    for number, view in enumerate(views):
        a, z, mean = view.orbits[0], view.orbits[-1], float(np.mean(view.confidence))
        moves = f"..{z.azimuth:.0f}" if len(view.orbits) > 1 else ""
        labels.append(
            f"{number}: az {a.azimuth:.0f}{moves} el {a.elevation:.0f}   weight {mean:.2f}"
        )
    heads = [f"frame {numbers[i]}" for i in shown]
    write_sheet(
        path,
        rows,
        row_labels=labels,
        column_labels=heads,
        notes=[f"warning: {w}" for w in warnings],
        cell=96,
    )
