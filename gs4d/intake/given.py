"""Masks made elsewhere: pictures, one folder or file per object, arrays, a video.

What they mean is decided over the clip.

Trackers write label maps (0, 1, 2, ... in grey, or as a palette whose object 1 is dark red), black
and white, or soft mattes. A level that covers areas is a label; levels that are seen at edges alone
belong to a matte.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer, UInt8, UInt16
from PIL import Image
from tqdm import tqdm

from ..errors import UserError
from ..io.foreign import foreign, require_memory, require_plain_file
from ..io.images import has_alpha, open_picture, read_image
from ..io.video import is_still, read_frames, video_info
from .sources import PICTURES, Shots

MASK_NAME = re.compile(r"[-_.]?(masks?|alpha|matte|pha|seg|segmentation)$", re.IGNORECASE)
OBJECT_NAME = re.compile(r"(obj(ect)?|mask|id|label|instance)?[-_ ]?\d+", re.IGNORECASE)
VOID = 255  # "do not care" in the label maps of DAVIS and Pascal VOC
MAX_LABELS = 64
ARRAY_ADVICE = "save it with numpy.save or numpy.savez, as numbers"
SOLID = (
    0.3  # of a label's pixels that lie among their like; of a level in a soft edge almost none do
)
MIN_AREA = 2e-4  # of the largest level: what covers less is no label

Plane = UInt16[np.ndarray, "h w"]
Reader = Callable[[Sequence[int]], Iterator[Plane]]
Meaning = Callable[[Plane], Float[np.ndarray, "h w"]]


@dataclass(frozen=True)
class _Series:
    """Masks, one per frame, not yet understood.

    Attributes:
        where: what sentences call them.
        count: how many there are.
        read: yields those of rising numbers.
        kind: "palette" holds labels, "alpha" a matte, "video" no labels, as compression mixes them;
            "grey" may hold either.
        top: the level that means covered in a matte.
        note: which of several objects this is; empty: there is one.
    """

    where: str
    count: int
    read: Reader
    kind: str = "grey"
    top: float = 255.0
    note: str = ""


@dataclass
class _Levels:
    """The levels of a clip of masks.

    Pixels of each, those among their like, and the share of the border that is not 0.
    """

    area: Counter[int]
    inside: Counter[int]
    border: list[float]
    covered: list[float]

    @cached_property
    def solid(self) -> list[int]:
        """Levels above 0 that cover areas, rising."""
        most = max((n for v, n in self.area.items() if v), default=1)
        return sorted(
            v
            for v, n in self.area.items()
            if v and n >= MIN_AREA * most and self.inside[v] > SOLID * n
        )


def given_masks(
    path: Path, label: str, shots: Shots
) -> tuple[Iterator[Float[np.ndarray, "h w"]], str]:
    """Reads masks of the frames that were taken, in [0, 1], and says what they were taken for.

    Args:
        path: a folder, a video, an animation, a picture, or a .npy or .npz file.
        label: which object, by its number, colour or folder; "matte" or "inverted": brightness as
            it is, or turned round.
        shots: the frames.

    Raises:
        UserError: they do not fit the frames, or may mean several things.
    """
    series = _open(path, label, len(shots.files))
    if series.count == len(shots.files):
        numbers: Sequence[int] = range(series.count)
    elif series.count > max(shots.numbers):
        numbers = shots.numbers
    else:
        raise UserError(
            f"{series.where} holds {series.count} masks, but {len(shots.files)} frames were taken, "
            f"the last being number {max(shots.numbers)} of the source; give one mask per frame of "
            "the source, or per frame taken"
        )
    unique = sorted(set(numbers))
    levels = _measure(series.read(unique), len(unique))
    understand, said = _decide(series, levels, "" if series.note else label)
    return _fitted(series, numbers, understand, shots), f"{said}{series.note}"


def _fitted(
    series: _Series, numbers: Sequence[int], understand: Meaning, shots: Shots
) -> Iterator[Float[np.ndarray, "h w"]]:
    unique = sorted(set(numbers))
    stream = zip(unique, series.read(unique), strict=True)
    at, plane = next(stream)
    for i, number in enumerate(numbers):
        while at < number:
            at, plane = next(stream)
        mask, shape = understand(plane), shots.image(i).shape
        if abs(math.log(mask.shape[1] / mask.shape[0] * shape[0] / shape[1])) > 0.02:
            raise UserError(
                f"mask {number} of {series.where} is {mask.shape[1]}x{mask.shape[0]} pixels but "
                f"its frame {shape[1]}x{shape[0]}: a mask has the shape of its frame"
            )
        yield np.asarray(
            Image.fromarray(mask).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
        )


def _measure(planes: Iterator[Plane], count: int) -> _Levels:
    levels = _Levels(Counter(), Counter(), [], [])
    for plane in tqdm(planes, desc="masks", unit="frame", total=count, leave=False):
        alike = np.ones(plane.shape, bool)
        for axis in (0, 1):
            for step in (1, -1):
                alike &= np.roll(plane, step, axis) == plane
        for counter, pixels in ((levels.area, plane), (levels.inside, plane[alike])):
            values, counts = np.unique(pixels, return_counts=True)
            counter.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        ring = np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])
        half = min(int(plane.max(initial=0)) / 2, 128) if plane.max(initial=0) > MAX_LABELS else 0
        levels.border.append(float((ring > half).mean()))
        levels.covered.append(float((plane > half).mean()))
    return levels


def _decide(series: _Series, levels: _Levels, label: str) -> tuple[Meaning, str]:
    """Decides how a mask of this clip becomes alpha, with a sentence about it."""
    found = [v for v in levels.area if v]
    if not found:
        raise UserError(f"{series.where} is empty: no mask covers a pixel in any frame taken")
    if label in ("matte", "inverted") or series.kind == "alpha":
        how = "alpha" if series.kind == "alpha" else "brightness"
        return _matte(
            series, turn=label == "inverted"
        ), f"their {how}{', inverted' if label == 'inverted' else ''}"
    rest = [v for v in found if v != VOID]
    void = len(rest) < len(found) and bool(rest) and max(rest) <= MAX_LABELS
    levels_left = rest if void else found
    labels = [v for v in levels.solid if v in levels_left]
    if label:
        return _labelled(series, sorted(labels or levels_left), label)
    _require_border(series, levels)
    mixed = len(labels) < len(levels_left)  # levels that lie at edges alone
    if series.kind == "video" and max(found) < 0.25 * series.top:
        raise UserError(
            f"{series.where} is almost black (0 to {max(found)} of {series.top:g}): if that is all "
            "the same a matte, say "
            "--mask_label matte; if it numbers objects, save them as PNG, as a video mixes them"
        )
    # not noise at both ends
    apart = len(labels) > 1 and not all(
        v < 0.1 * series.top or v > 0.9 * series.top for v in labels
    )
    small = bool(labels) and max(levels_left) <= MAX_LABELS
    if series.kind == "palette" or small or (apart and not mixed):
        return _labelled(series, sorted(labels or levels_left), "")
    if apart:
        rows = ", ".join(str(v) for v in labels[:6])
        raise UserError(
            f"{series.where} may be a soft matte or number objects ({rows}), with soft edges "
            f"between: say which with --mask_label matte, or --mask_label {labels[0]}"
        )
    two = len(found) == 1
    said = f"black and white (0 and {found[0]})" if two else "soft mattes, by brightness"
    return _matte(series, turn=False, top=float(found[0]) if two else None), said


def _require_border(series: _Series, levels: _Levels) -> None:
    if np.mean(levels.border) > 0.8 and np.mean(levels.covered) > 0.5:
        raise UserError(
            f"{series.where} covers {np.mean(levels.border):.0%} of the border, as if the "
            "background were marked: say --mask_label inverted if the object is what is black, "
            "--mask_label matte if it is what is white, or --mask_label N for label N"
        )


def _matte(series: _Series, *, turn: bool, top: float | None = None) -> Meaning:
    white = top or series.top

    def understand(plane: Plane) -> Float[np.ndarray, "h w"]:
        alpha = (plane.astype(np.float32) / white).clip(0, 1)
        return 1 - alpha if turn else alpha

    return understand


def _labelled(series: _Series, labels: list[int], label: str) -> tuple[Meaning, str]:
    wanted = (
        {int(name) if name.strip().isdecimal() else -1 for name in label.split(",")}
        if label
        else {labels[0]}
    )
    if not wanted <= set(labels):
        raise UserError(
            f"--mask_label {label} is not in {series.where}; its labels are "
            f"{', '.join(map(str, labels[:16]))}; or give matte, or inverted"
        )
    kind = "palette labels" if series.kind == "palette" else "labels"
    said = f"{kind}, object {', '.join(map(str, sorted(wanted)))}"
    if rest := [str(v) for v in labels if v not in wanted]:
        said += f" of {len(labels)} ({', '.join(rest[:8])} left out; --mask_label chooses)"
    chosen = sorted(wanted)
    return (lambda plane: np.isin(plane, chosen).astype(np.float32)), said


def _open(path: Path, label: str, frames: int) -> _Series:
    if path.is_dir():
        return _open_folder(path, label, frames)
    if not path.exists():
        raise UserError(
            f"--mask {path} does not exist; give a folder of masks, a video, or a .npy or .npz file"
        )
    if path.suffix.lower() in (".npy", ".npz"):
        return _open_arrays(path, label, frames)
    if is_still(path):
        return _open_pictures(str(path), [path])
    return _open_video(path)


def _open_video(path: Path) -> _Series:
    alpha, spread = False, 0
    for frame in tqdm(read_frames(path), desc="masks", unit="frame", leave=False):
        alpha |= bool((frame[..., 3] < 255).any())
        spread = max(spread, int(np.ptp(frame[..., :3].astype(np.int16), -1).max()))
    if spread > 48 and not alpha:
        raise UserError(
            f"{path} shows colours, and a video mixes the colours of labels: save the masks as "
            "PNG, or white on the object"
        )

    def read(numbers: Sequence[int]) -> Iterator[Plane]:
        for frame in read_frames(path, numbers):
            yield frame[..., 3 if alpha else 0].astype(np.uint16)

    return _Series(str(path), len(video_info(path).times), read, "alpha" if alpha else "video")


def _open_folder(folder: Path, label: str, frames: int) -> _Series:
    with foreign(folder, "a folder of masks", "check its permissions"):
        inside = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=_natural)
        files = [p for p in inside if p.is_file() and p.suffix.lower() in (*PICTURES, ".npy")]
        folders = [p for p in inside if p.is_dir()]
    if not files and folders:
        chosen = [p for p in folders if label in (p.name, p.name.lstrip("0"))]
        if not chosen and (
            label or (len(folders) > 1 and not all(OBJECT_NAME.fullmatch(p.name) for p in folders))
        ):
            rows = ", ".join(p.name for p in folders[:8])
            raise UserError(
                f"{folder} holds folders ({rows}); give one of them, or say which with "
                "--mask_label NAME"
            )
        chosen = chosen or folders[:1]
        series = _open_folder(chosen[0], "", frames)
        return _one_of(series, chosen[0].name, [p.name for p in folders])
    if not files:
        raise UserError(f"{folder} holds no masks; give one picture or .npy per frame")
    marked = [p for p in files if MASK_NAME.search(p.stem)]
    files = marked if marked and len(marked) < len(files) else files
    kinds = {re.sub(r"\d+", "#", p.stem) for p in files}
    fields = (
        np.array([[int(n) for n in re.findall(r"\d+", p.stem)] for p in files])
        if len(kinds) == 1
        else np.zeros((0, 0))
    )
    varying = [c for c in range(fields.shape[1]) if len(set(fields[:, c].tolist())) > 1]
    if len(kinds) > 1 and len(kinds) < len(files):
        rows = ", ".join(sorted(kinds))
        raise UserError(
            f"{folder} holds several series of masks: {rows}; put those of one object into a "
            "folder of their own"
        )
    if len(varying) == 2 and len(files) > frames:
        return _one_file_per_object(folder, files, fields[:, varying], label, frames)
    if all(p.suffix.lower() == ".npy" for p in files):
        return _array_series(str(folder), [_load(p) for p in files])
    return _open_pictures(str(folder), files)


def _one_file_per_object(
    folder: Path, files: list[Path], fields: np.ndarray, label: str, frames: int
) -> _Series:
    """Opens files whose names number both frame and object, in either order."""
    counts = [len(set(fields[:, c].tolist())) for c in (0, 1)]
    if counts[0] == counts[1]:
        raise UserError(
            f"{folder} holds files for frames and objects, {counts[0]} of each, so that their "
            "names do not say which number is "
            "which; put the masks of one object into a folder of their own"
        )
    time = int(counts[1] > counts[0])
    objects = sorted(set(fields[:, 1 - time].tolist()))
    chosen = int(label) if label.isdecimal() else objects[0]
    if chosen not in objects:
        raise UserError(
            f"--mask_label {label} is not in {folder}; its objects are "
            f"{', '.join(map(str, objects))}"
        )
    own = [
        (t, p)
        for t, o, p in zip(fields[:, time], fields[:, 1 - time], files, strict=True)
        if o == chosen
    ]
    series = _open_pictures(str(folder), [p for _, p in sorted(own)])
    return _one_of(series, str(chosen), [str(o) for o in objects])


def _one_of(series: _Series, name: str, names: list[str]) -> _Series:
    rest = ", ".join(n for n in names if n != name)
    more = f" of {len(names)}; {rest} left out, --mask_label chooses" if rest else ""
    note = f" (object {name}{more})" if name else series.note
    return _Series(series.where, series.count, series.read, series.kind, series.top, note)


def _open_pictures(where: str, files: list[Path]) -> _Series:
    """Decides, over all files, where the mask is.

    In the alpha, in the numbers of a palette, in colours, or in brightness.
    """
    facts = [_look(path) for path in tqdm(files, desc="masks", unit="file", leave=False)]
    few = max(len(fact.palette) for fact in facts) <= MAX_LABELS
    if few and all(fact.palette for fact in facts) and any(not fact.grey for fact in facts):
        colors: dict[int, tuple[int, ...]] = {}
        for path, fact in zip(files, facts, strict=True):
            for index, color in fact.palette.items():
                if colors.setdefault(index, color) != color:
                    raise UserError(
                        f"{path} gives number {index} of its palette another colour than the masks "
                        "before it, so numbers mean "
                        "nothing; save all masks with one palette, or as label numbers in grey"
                    )
        return _Series(where, len(files), _each(files, _indices), "palette")
    if any(fact.alpha for fact in facts):
        return _Series(
            where,
            len(files),
            _each(files, lambda p: read_image(p)[..., 3].astype(np.uint16)),
            "alpha",
        )
    if all(fact.grey for fact in facts):
        deep = any(fact.deep for fact in facts)
        return _Series(where, len(files), _each(files, _grey), "grey", 65535.0 if deep else 255.0)
    colors_seen: set[int] = set().union(*(fact.colors for fact in facts))
    if len(colors_seen) > MAX_LABELS:
        raise UserError(
            f"{where} holds pictures of many colours, not masks; give masks that are white on the "
            "object, labels, or have alpha"
        )
    order = _numbers_of(colors_seen)
    keys = np.array(sorted(order), np.int64)
    values = np.array([order[int(k)] for k in keys], np.uint16)

    def read(path: Path) -> Plane:
        return values[np.searchsorted(keys, _packed(read_image(path)))]

    return _Series(where, len(files), _each(files, read), "palette")


@dataclass(frozen=True)
class _Look:
    alpha: bool
    grey: bool
    deep: bool
    palette: dict[int, tuple[int, ...]]
    colors: set[int]


def _look(path: Path) -> _Look:
    with open_picture(path) as picture:
        palette: dict[int, tuple[int, ...]] = {}
        if picture.mode == "P":
            table = np.array(picture.getpalette() or [], np.uint8).reshape(-1, 3)
            used = [i for i in np.unique(np.asarray(picture)).tolist() if i < len(table)]
            palette = {i: tuple(table[i].tolist()) for i in used}
            if len(palette) <= MAX_LABELS + 1 or not has_alpha(picture):
                return _Look(
                    False, all(max(c) == min(c) for c in palette.values()), False, palette, set()
                )
        if picture.mode[:2] == "I;" or picture.mode == "I":
            return _Look(False, True, int(np.asarray(picture).max(initial=0)) > 255, {}, set())
        transparent = has_alpha(picture)
        bilevel = picture.mode in ("1", "L", "LA")
    image = read_image(path)
    if transparent and (image[..., 3] < 255).any():
        return _Look(True, False, False, {}, set())
    grey = bilevel or int(np.ptp(image[..., :3].astype(np.int16), -1).max(initial=0)) <= 24
    return _Look(False, grey, False, {}, set(np.unique(_packed(image))[: MAX_LABELS + 2].tolist()))


def _each(files: list[Path], read: Callable[[Path], Plane]) -> Reader:
    return lambda numbers: (read(files[n]) for n in numbers)


def _indices(path: Path) -> Plane:
    with open_picture(path) as picture:
        return np.asarray(picture).astype(np.uint16)


def _grey(path: Path) -> Plane:
    with open_picture(path) as picture:
        if picture.mode[:2] == "I;" or picture.mode == "I":
            return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    return read_image(path)[..., :3].max(-1).astype(np.uint16)


def _packed(image: UInt8[np.ndarray, "h w 4"]) -> Integer[np.ndarray, "h w"]:
    return image[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _numbers_of(colors: set[int]) -> dict[int, int]:
    """Numbers colours by Pascal VOC's palette where it has them all, else in rising order."""
    palette = []
    for number in range(256):
        color = 0
        for bit in range(8):
            for channel in range(3):
                color |= (number >> (3 * bit + channel) & 1) << (7 - bit) << (16 - 8 * channel)
        palette.append(color)
    known = [*palette[: MAX_LABELS + 1], palette[VOID]]
    if colors <= set(known):
        return {color: palette.index(color) for color in colors}
    return {color: number for number, color in enumerate([0, *sorted(colors - {0})])}


def _load(path: Path) -> np.ndarray:
    require_plain_file(path)
    with foreign(path, "a NumPy array", ARRAY_ADVICE):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _open_arrays(path: Path, label: str, frames: int) -> _Series:
    size = require_plain_file(path)
    if path.suffix.lower() == ".npy":
        arrays = {"": _load(path)}
    else:
        with foreign(path, "a NumPy archive", ARRAY_ADVICE):
            with zipfile.ZipFile(path) as archive:
                require_memory(
                    path, sum(i.file_size for i in archive.infolist()), size, "its arrays"
                )
            with np.load(path, allow_pickle=False) as archive:
                arrays = {
                    name: archive[name]
                    for name in sorted(archive.files, key=lambda n: _natural(Path(n)))
                }
    if not arrays:
        raise UserError(f"{path} holds no array")
    shaped = {name: _frames_of(path, array, frames) for name, array in arrays.items()}
    if len(shaped) > 1 and all(len(a) == 1 for a in shaped.values()):
        return _array_series(str(path), [a[0] for a in shaped.values()])
    if label and label not in shaped and len(shaped) > 1:
        raise UserError(f"--mask_label {label} is not in {path}; it holds {', '.join(shaped)}")
    name = label if label in shaped else next(iter(shaped))
    if (
        len(shaped) > 1
        and not label
        and not all(OBJECT_NAME.fullmatch(n.removeprefix("arr_")) for n in shaped)
    ):
        raise UserError(
            f"{path} holds several arrays ({', '.join(shaped)}); say which with --mask_label NAME"
        )
    series = _array_series(str(path), list(shaped[name]))
    return _one_of(series, name, list(shaped)) if len(shaped) > 1 else series


def _frames_of(path: Path, array: np.ndarray, frames: int) -> np.ndarray:
    """Returns a view (t h w) of an array (h w), (t h w), (t 1 h w), (1 t h w) or (t h w 1)."""
    shape = array.shape
    if array.dtype.kind not in "buif" or array.ndim < 2 or array.ndim > 5 or not array.size:
        raise UserError(
            f"{path} is {array.dtype} of shape {shape}; wanted masks of shape (h w), (t h w) or (t "
            "1 h w)"
        )
    while array.ndim > 3 and 1 in array.shape:
        array = array[(slice(None),) * array.shape.index(1) + (0,)]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise UserError(
            f"{path} is of shape {shape}, where frames and objects look alike; save one object as "
            "(t h w)"
        )
    return array


def _array_series(where: str, arrays: list[np.ndarray]) -> _Series:
    arrays = [
        a[..., 0]
        if a.ndim == 3 and a.shape[-1] == 1
        else a[0]
        if a.ndim == 3 and a.shape[0] == 1
        else a
        for a in arrays
    ]
    low, high = min(float(a.min()) for a in arrays), max(float(a.max()) for a in arrays)
    real = any(a.dtype.kind == "f" for a in arrays)
    if any(a.ndim != 2 for a in arrays) or not (low >= 0 and high <= 65535):
        raise UserError(
            f"{where} holds numbers from {low:g} to {high:g}; a mask has 0 to 1, or labels; of "
            "logits save what is > 0"
        )
    soft = real and high <= 1
    if real and not soft and any((a != np.round(a)).any() for a in arrays):
        raise UserError(f"{where} holds fractions up to {high:g}; a soft mask goes from 0 to 1")

    def read(numbers: Sequence[int]) -> Iterator[Plane]:
        for n in numbers:
            yield (
                (arrays[n] * 65535.0).round().astype(np.uint16)
                if soft
                else arrays[n].astype(np.uint16)
            )

    top = 65535.0 if soft or high > 255 else 255.0
    return _Series(where, len(arrays), read, "grey", top)


def _natural(path: Path) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
    ]
