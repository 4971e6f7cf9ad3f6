"""The recipe that makes the side views of a clip.

Other people's output -> ``{name}_sync``, ``{name}_rig.json``, a preview.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image
from tqdm import tqdm

from ..clip import Orbit
from ..errors import UserError, require_folder_name
from ..io.clips import View, frame_numbers, read_input, rig_record
from ..io.files import atomic_path, read_json, write_json
from ..io.images import read_image
from ..io.sheets import write_sheet
from ..ranges import Options, Range
from .agreement import Agreement, compare, object_scale, overlap, shrink, steadied
from .backdrop import Backdrop, find_backdrop, key
from .layouts import FORMATS, Picture, Source, find_views
from .masks import true_colors

MAX_JUDGED = 32  # frames that are compared; the weights of those between are interpolated
SHEET_FRAMES = 8
BETTER = 0.04  # of agreement, by which another reading of the cameras must win to be worth a word
# agreement of the input view with the side views above which its size need not be measured
GOOD = 0.95
POOR = 0.7  # overlap below which the cameras are in doubt
DOUBTED = 0.7  # weight below which a view is named


@dataclass(frozen=True)
class SyncOptions(Options):
    """How the side views of a clip are made."""

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


@dataclass
class _Part:
    """One source, with the frames of it that are used."""

    source: Source
    chosen: list[int]
    views: tuple[View, ...] = ()
    backdrops: dict[int, Backdrop] | None = None

    def frames(self, steps: Sequence[int]) -> Iterator[list[Picture]]:
        """The pictures of all views, cut out, at rising steps of the clip."""
        self.backdrops = self.backdrops or {}
        for step, pictures in zip(
            steps, self.source.frames([self.chosen[s] for s in steps]), strict=True
        ):
            if len(pictures) != len(self.views):
                raise UserError(
                    f"{self.source.where} has {len(pictures)} views per frame but its cameras are "
                    f"{len(self.views)}; "
                    "give a rig file that places every view"
                )
            yield [self._cut_out(picture, view, step) for view, picture in enumerate(pictures)]

    def _cut_out(self, picture: Picture, view: int, step: int) -> Picture:
        if picture[..., 3].min() < 250:
            return picture
        assert self.backdrops is not None
        found = find_backdrop(picture[..., :3]) or self.backdrops.get(view)
        if found is None:
            raise UserError(
                f"view {view} of frame {step} in {self.source.where} has no alpha and no "
                "background of one colour; cut the "
                "object out first and give pictures with alpha"
            )
        self.backdrops[view] = found
        alpha = (key(picture[..., :3], found) * 255).round().astype(np.uint8)
        return true_colors(picture, alpha, found)


def make_sync(
    options: SyncOptions,
    sources: Sequence[Source] | None = None,
    complete: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Makes ``{name}_sync``, its rig and a preview; returns the folder.

    Args:
        options: what the views are and where they go.
        sources: the views, where it is known already what they are: drawn from the input view
            itself.
        complete: is called with the folder before it appears, to add to it.

    Raises:
        UserError: the source is not recognised or does not fit the input view, or what is there is
            not ours to replace.
    """
    options.check()
    out = options.out_dir or options.data_dir
    folder = out / f"{options.name}_sync"
    rig_path = out / f"{options.name}_rig.json"
    in_place = _check_replaceable(folder, rig_path, options)

    # 1. The sources, and which of their frames belong to the input's.
    drawn = sources is not None
    if sources is None:
        sources = [
            find_views(path, name=options.name, wanted=options.format, rig=options.rig)
            for path in options.path
        ]
    pose0 = options.data_dir / f"{options.name}_pose0"
    inputs = (
        [pose0 / name for name in frame_numbers(pose0).values()] if os.path.isdir(pose0) else []
    )
    numbers = (
        [int(path.stem) for path in inputs]
        or list(sources[0].numbers)
        or list(range(sources[0].count))
    )
    parts = [_Part(source, _choose(source, numbers, bool(inputs), options)) for source in sources]
    if not inputs:
        numbers = numbers[: len(parts[0].chosen)]
    if in_place and (
        sources[0].formats != ("4dgen",)
        or [sources[0].numbers[i] for i in parts[0].chosen] != numbers
    ):
        raise UserError(
            f"{folder} is where the result goes; rename what is there (as {options.name}_raw) and "
            "give that"
        )

    camera = read_input(options.data_dir / rig_path.name)
    steps = _spread(len(numbers), MAX_JUDGED)
    seen = [shrink(read_image(inputs[step], need_alpha=True)) for step in steps] if inputs else []
    own = [[_at(camera, step)] if inputs else [] for step in steps]
    warnings = (
        []
        if inputs
        else [
            f"{pose0} is not there yet: make the input view with preprocess/frames.py before "
            "training"
        ]
    )
    with ExitStack() as stack:
        # 2. The pictures, cut out; nothing appears before all of it is there.
        target = None if in_place else stack.enter_context(atomic_path(folder))
        small = _take(parts, numbers, steps, target)

        # 3. The cameras: which of the formats that the files may be, and how large their object is.
        for part, pictures in zip(parts, small, strict=True):
            warnings += _place(
                part, pictures, seen, [orbit for orbits in own for orbit in orbits], steps, options
            )
        rows = [
            [picture for pictures in small for picture in pictures[i]] for i in range(len(steps))
        ]
        views = [view for part in parts for view in part.views]

        # 4. The confidence in every view, frame by frame.
        found = []
        for i, step in enumerate(tqdm(steps, desc="comparing", unit="frame", leave=False)):
            found.append(
                compare(
                    [*seen[i : i + 1], *rows[i]], [*own[i], *(_at(view, step) for view in views)]
                )
            )
        found = steadied(found)
        weights = _weights(found, steps, len(numbers), skip=bool(inputs))
        warnings += _judge(found, weights, views, with_input=bool(inputs) and not drawn)
        confidences = [
            (np.array(view.confidence) * w).round(2).tolist()
            for view, w in zip(views, weights, strict=True)
        ]
        views = [
            replace(view, confidence=tuple(w)) for view, w in zip(views, confidences, strict=True)
        ]

        # 5. The rig and the preview.
        source = ", ".join(f"{part.source.formats[0]}: {part.source.why}" for part in parts)
        write_json(
            stack.enter_context(atomic_path(rig_path)),
            rig_record(views, input_view=camera, source=source),
        )
        sheet = stack.enter_context(atomic_path(out / f"{options.name}_sync_preview.png"))
        _preview(sheet, seen, rows, [numbers[step] for step in steps], views, warnings)

        # 6. The views appear last, and those before them go first: no kill leaves views beside
        # cameras of others.
        if target is not None:
            complete(target)
            if os.path.lexists(folder):
                os.replace(folder, target.parent / "old")
    for warning in warnings:
        print(f"warning: {warning}")
    return folder


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


def _choose(source: Source, numbers: list[int], inputs: bool, options: SyncOptions) -> list[int]:
    """Indices of the source's frames, one per frame of the input."""
    count, wanted = source.count, options.frames
    label = f"{source.where} ({source.formats[0]})"
    if wanted in ("first", "spread"):
        if len(numbers) > count:
            raise UserError(
                f"{label} has {count} frames but the input view {len(numbers)}; make the missing "
                "views"
            )
        return list(range(len(numbers))) if wanted == "first" else _spread(count, len(numbers))
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
            f"({least} evenly over all), "
            "or their numbers"
            if count > least
            else "make the missing views, or make the input view again with the frames that have views"
        )
        raise UserError(
            f"{label} has {count} frames and {options.name}_pose0 has {len(numbers)}; {how}"
        )
    return list(range(count))


def _spread(count: int, at_most: int) -> list[int]:
    shown = min(count, at_most)
    return [round(i * (count - 1) / max(shown - 1, 1)) for i in range(shown)]


def _take(
    parts: list[_Part], numbers: list[int], steps: list[int], target: Path | None
) -> list[list[list[Picture]]]:
    """Writes all pictures to ``target`` (None: they stay where they are).

    Per source and judged step, its pictures shrunk.
    """
    small: list[list[list[Picture]]] = [[] for _ in parts]
    wanted = steps if target is None else list(range(len(numbers)))
    for part in parts:
        part.views = _cameras(part, part.source.formats[0])
    with (
        ThreadPoolExecutor(4) as pool,
        tqdm(total=len(wanted), desc="side views", unit="frame") as bar,
    ):
        for step, *sets in zip(wanted, *(part.frames(wanted) for part in parts), strict=True):
            pictures = [picture for one in sets for picture in one]
            if target is not None:
                paths = [
                    target / f"{numbers[step]}_0_{view}_rgba.png" for view in range(len(pictures))
                ]
                target.mkdir(exist_ok=True)
                list(pool.map(_save, paths, pictures))
            elif any(picture[..., 3].min() == 255 for picture in pictures) or any(
                part.backdrops for part in parts
            ):
                where = parts[0].source.where
                raise UserError(
                    f"{where} holds pictures without alpha where the result goes; rename it and "
                    "give that"
                )
            for rows, one in zip(small, sets, strict=True):
                if step in steps:
                    rows.append([shrink(picture) for picture in one])
            bar.update()
    return small


def _save(path: Path, picture: Picture) -> None:
    Image.fromarray(picture).save(path, compress_level=4)


def _cameras(part: _Part, name: str) -> tuple[View, ...]:
    """The cameras of a format, at the frames that are used."""
    views = []
    for view in part.source.views or FORMATS[name].views:
        orbits, weights = view.orbits, view.confidence
        if len(orbits) not in (1, part.source.count) or len(weights) not in (1, part.source.count):
            raise UserError(
                f"the rig moves a camera through {max(len(orbits), len(weights))} frames but "
                f"{part.source.where} has "
                f"{part.source.count}; give one number per frame, or one for all"
            )
        views.append(
            View(
                tuple(orbits[i] for i in part.chosen) if len(orbits) > 1 else orbits,
                tuple(weights[i] for i in part.chosen) if len(weights) > 1 else weights,
            )
        )
    return tuple(views)


def _at(view: View, step: int) -> Orbit:
    return view.orbits[min(step, len(view.orbits) - 1)]


def _turned(views: Sequence[View], *, sign: int = 1, scale: float = 1.0) -> tuple[View, ...]:
    """The cameras the other way around, or further away.

    An object that is ``scale`` times as large looks the same then.
    """
    return tuple(
        replace(
            v,
            orbits=tuple(
                replace(o, azimuth=sign * o.azimuth, radius=o.radius * scale) for o in v.orbits
            ),
        )
        for v in views
    )


def _place(
    part: _Part,
    small: list[list[Picture]],
    seen: list[Picture],
    cameras: list[Orbit],
    steps: list[int],
    options: SyncOptions,
) -> list[str]:
    """Decides on the cameras of a source; says what was decided and returns warnings."""
    few = _spread(len(steps), 3)

    def fit(views: Sequence[View]) -> float:
        return float(np.mean([overlap(small[i], [_at(v, steps[i]) for v in views]) for i in few]))

    sign = -1 if options.reverse else 1
    readings = {name: _turned(_cameras(part, name), sign=sign) for name in part.source.formats}
    readings = {name: views for name, views in readings.items() if len(views) == len(small[0])}
    fits = {name: fit(views) for name, views in readings.items()}
    name = next((n for n in fits if fits[n] > max(fits.values()) - 0.002), part.source.formats[0])
    part.source = replace(part.source, formats=(name,))
    part.views = readings.get(name, ())
    among = "".join(f", {fits[n]:.3f} as {n}" for n in fits if n != name)
    agree = f" (overlap {fits[name]:.3f}{among})" if len(small[0]) >= 4 else ""
    frames = "1 frame" if part.source.count == 1 else f"{part.source.count} frames"
    print(
        f"{part.source.where}: {name}, by {part.source.why}; {len(part.views)} views, "
        f"{frames}{agree}."
    )
    warnings = []
    if len(small[0]) >= 4:
        other = fit(_turned(part.views, sign=-1))
        if other > fits[name] + BETTER:
            warnings.append(
                f"the views of {name} would agree better if its cameras went around the other way "
                f"({other:.2f} instead of "
                f"{fits[name]:.2f}): {'leave out' if options.reverse else 'add'} --reverse"
            )
        elif fits[name] < POOR:
            warnings.append(
                f"the views of {name} fit together badly (overlap {fits[name]:.2f} of 1): are "
                "these its cameras?"
            )
    scale = options.scale
    if (
        scale is None
        and seen
        and (
            FORMATS[name].framed or _input_fit(small, part.views, seen, cameras, steps, few) < GOOD
        )
    ):
        measured, gain = _measure_scale(
            [small[i] for i in few],
            [[_at(v, steps[i]) for v in part.views] for i in few],
            [seen[i] for i in few],
            [cameras[i] for i in few],
        )
        if FORMATS[name].framed:
            scale = measured
            print(
                f"{name} frames the object by itself: by the input view it is {measured:.2f} times "
                "as large."
            )
        elif gain > BETTER:
            warnings.append(
                f"the object is {measured:.2f} times as large in the input view as in the side "
                "views; if they were not made of "
                f"these very pictures, add --scale {measured:.2f}"
            )
    part.views = _turned(part.views, scale=scale or 1.0)
    return warnings


def _input_fit(
    small: list[list[Picture]],
    views: Sequence[View],
    seen: list[Picture],
    cameras: list[Orbit],
    steps: list[int],
    few: list[int],
) -> float:
    """How well the input view agrees with the side views, in the middle of a few frames."""
    found = [
        compare([seen[i], *small[i]], [cameras[i], *(_at(v, steps[i]) for v in views)]) for i in few
    ]
    return float(np.median([one.shape[0] for one in found]))


def _measure_scale(
    small: list[list[Picture]], orbits: list[list[Orbit]], seen: list[Picture], cameras: list[Orbit]
) -> tuple[float, float]:
    """Size of the input's object beside the side views', and by how much the views agree better with it."""
    results = [object_scale(*row) for row in zip(small, orbits, seen, cameras, strict=True)]
    scales, total = results[0][0], np.mean([scores for _, scores in results], 0)
    # Silhouettes leave some room, and the middle of it is the likeliest.
    best = total > total.max() - 0.002
    scale = float(np.exp(np.log(scales[best]).mean()))
    return scale, float(total.max() - total[np.abs(scales - 1).argmin()])


def _weights(
    found: list[Agreement], steps: list[int], count: int, *, skip: bool
) -> Float[np.ndarray, "v t"]:
    """A weight per view and frame.

    The input view, which is first where there is one, always has full confidence.
    """
    rows = np.stack([one.weights()[1 if skip else 0 :] for one in found], 1)
    # A view that is wrong in most frames is not right in those where it happens to fit.
    rows = np.minimum(rows, np.median(rows, 1, keepdims=True))
    rows = np.where(rows > 0.97, 1.0, rows.clip(0.02))
    return np.stack([np.interp(np.arange(count), steps, row) for row in rows])


def _judge(
    found: list[Agreement],
    weights: Float[np.ndarray, "v t"],
    views: list[View],
    *,
    with_input: bool,
) -> list[str]:
    said = []
    for number, (row, view) in enumerate(zip(weights, views, strict=True)):
        doubted = np.count_nonzero(row < DOUBTED)
        if doubted:
            said.append(
                f"view {number} (azimuth {view.orbits[0].azimuth:g}) disagrees with the others in "
                f"{doubted} of {len(row)} "
                f"frames; its mean weight is {row.mean():.2f}"
            )
    own = float(np.mean([one.weights()[0] for one in found])) if with_input else 1.0
    if own < DOUBTED:
        shape = np.mean([one.shape[0] for one in found])
        said.append(
            f"the input view disagrees with the side views (agreement {shape:.2f}): are they of "
            "the same frames and crop?"
        )
    return said


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
    shown = _spread(len(numbers), SHEET_FRAMES)
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
