"""Recognises the files of other multi-view tools, and knows where their cameras stand.

All angles are in this project's convention (azimuth 90 is +x, positive elevation above), relative
to the input view. Sources: SyncDreamer ``meta_info/camera-16.pkl``; Zero123++ README, camera
parameters (v1.1 shares Zero123's field of view of 49.13 degrees, v1.2 has 30); SV3D and SV4D
``scripts/sampling`` (field of view 33.8 degrees, radius 2: generative-models issue 342);
Diffusion4D ``rendering/blender.py``; ImageDream as 4DGen reads it; L4GM ``core/options.py``,
``infer_3d.py``, ``infer_4d.py``.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from ..clip import Orbit
from ..errors import UserError
from ..io.clips import View, read_views
from ..io.files import read_json
from ..io.foreign import require_plain_file
from ..io.images import read_image, read_size
from ..io.names import is_file, list_folder
from ..io.video import read_frames, video_info
from ..prior.rigs import QUARTERS, SYNCDREAMER, ZERO123PLUS_1_1, ZERO123PLUS_1_2

Picture = UInt8[np.ndarray, "_h _w 4"]  # views may differ in size
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
VIDEOS = {".mp4", ".gif", ".webm", ".mov", ".mkv", ".avi"}
COMPANION = re.compile(r"(^|[-_])(depth|normals?|masks?)\d*$", re.IGNORECASE)
# of 21 around the object, those that SV4D makes besides the input's
SV3D_VIEWS = (2, 5, 7, 9, 12, 14, 16, 19)
CUT = re.compile(r"(.*?)(\d+)_0(?:_0)?_(\d+)_rgba")


@dataclass(frozen=True)
class Format:
    """A known arrangement of cameras.

    Attributes:
        about: what it is, for the list of formats.
        views: its cameras; empty where the files say.
        framed: whether the generator scales the object to its own frame, so that its size must be
            measured.
    """

    about: str
    views: tuple[View, ...] = ()
    framed: bool = True


def _views(rig: Sequence[Orbit]) -> tuple[View, ...]:
    return tuple(View((orbit,)) for orbit in rig)


def _ring(azimuths: Sequence[float], radius: float = 1.5, fov: float = 49.13) -> tuple[View, ...]:
    return _views([Orbit(azimuth, 0.0, radius, fov) for azimuth in azimuths])


EIGHT = (30.0, 75.0, 120.0, 165.0, 210.0, 255.0, 300.0, 330.0)
FORMATS = {
    "syncdreamer": Format(
        "16 squares in a row per frame, or 16 pictures of one frame",
        _views(SYNCDREAMER),
        framed=False,
    ),
    "4dgen": Format(
        "SyncDreamer's views cut by 4DGen: {frame}_0_{view}_rgba.png",
        _views(SYNCDREAMER),
        framed=False,
    ),
    "zero123plus": Format(
        "Zero123++ v1.1: 3x2 grids, or a folder of six views per frame", _views(ZERO123PLUS_1_1)
    ),
    "zero123plus-1.2": Format(
        "Zero123++ v1.2, the same with other cameras", _views(ZERO123PLUS_1_2)
    ),
    "sv4d": Format(
        "SV4D: 000000_v001.mp4 ... _v008.mp4",
        _ring([k * 360 / 21 for k in SV3D_VIEWS], radius=2.0, fov=33.8),
    ),
    "sv4d2": Format(
        "SV4D 2.0 with 4 views: _v001.mp4 ... _v004.mp4",
        _ring((60.0, 120.0, 180.0, 240.0), radius=2.0, fov=33.8),
    ),
    "sv4d2-8views": Format(
        "SV4D 2.0 with 8 views: _v001.mp4 ... _v008.mp4", _ring(EIGHT, radius=2.0, fov=33.8)
    ),
    "diffusion4d": Format(
        "Diffusion4D: multi_frame0.png ..., or one video, whose camera goes around while time "
        "passes"
    ),
    "imagedream": Format(
        "ImageDream: 4 pictures, in a row or {frame}_{view}_rgba.png", _views(QUARTERS)
    ),
    "l4gm": Format(
        "L4GM: *_fixed.mp4, or name_000.png ... name_003.png",
        _ring((0.0, 90.0, 180.0, 270.0), fov=49.1),
    ),
    "rig": Format(
        "any pictures or videos with a rig file (--rig, or rig.json beside them)", framed=False
    ),
}


@dataclass(frozen=True)
class FoundViews:
    """Side views that were found.

    Attributes:
        formats: what they may be, the likeliest first; more than one where the files cannot tell.
        why: what they were recognised by.
        files: per frame its pictures, each of which holds one or more views; empty for videos.
        videos: one or more views each.
        tiles: rows and columns of views in one picture.
        numbers: of the frames, where the files carry any.
        views: their cameras, where the files say; empty: those of the format.
        own: whether a prior drew them from the input view itself, one PNG per picture as the clip
            keeps them.
        confidence: maps of confidence, 255 = fully; None: none but a weight per picture.
        steady: whether the maps fall where a view differs from the frames before and after.
    """

    formats: tuple[str, ...]
    why: str
    files: tuple[tuple[Path, ...], ...] = ()
    videos: tuple[Path, ...] = ()
    tiles: tuple[int, int] = (1, 1)
    numbers: tuple[int, ...] = ()
    views: tuple[View, ...] = ()
    own: bool = False
    confidence: UInt8[Tensor, "v t s s"] | None = None
    steady: bool = False

    @property
    def where(self) -> Path:
        """The path that sentences name."""
        paths = [path for row in self.files for path in row] or list(self.videos)
        folders = {path.parent for path in paths}
        return (
            paths[0]
            if len(paths) == 1
            else paths[0].parent
            if len(folders) == 1
            else paths[0].parent.parent
        )

    @cached_property
    def count(self) -> int:
        """Number of frames."""
        if self.files:
            return len(self.files)
        counts = {path: len(video_info(path).times) for path in self.videos}
        if len(set(counts.values())) > 1:
            rows = ", ".join(f"{path.name} {count}" for path, count in counts.items())
            raise UserError(
                f"the videos in {self.videos[0].parent} have different numbers of frames ({rows}); "
                "make them again"
            )
        return next(iter(counts.values()))

    def frames(self, wanted: Sequence[int]) -> Iterator[list[Picture]]:
        """The pictures of all views, for each of the rising frame indices ``wanted``."""
        if self.files:
            for index in wanted:
                yield [
                    tile for path in self.files[index] for tile in self._cut(path, read_image(path))
                ]
            return
        streams = [read_frames(path, wanted) for path in self.videos]
        for frames in zip(*streams, strict=True):
            yield [
                tile
                for path, image in zip(self.videos, frames, strict=True)
                for tile in self._cut(path, image)
            ]

    def _cut(self, path: Path, image: Picture) -> list[Picture]:
        rows, columns = self.tiles
        h, w = image.shape[0] // rows, image.shape[1] // columns
        if min(h, w) < 8:
            raise UserError(
                f"{path} is {image.shape[1]}x{image.shape[0]} pixels, too small to hold "
                f"{rows * columns} views"
            )
        return [
            image[r * h : (r + 1) * h, c * w : (c + 1) * w]
            for r in range(rows)
            for c in range(columns)
        ]


class Folder:
    """The contents of a folder, or the one file that was named."""

    def __init__(self, path: Path, name: str = "") -> None:
        """Looks at ``path``; ``name`` of the clip may begin the names of its files."""
        self.path, self.name = path, name
        visible = list_folder(path) if os.path.isdir(path) else [path]
        self.pictures = [
            p
            for p in visible
            if p.suffix.lower() in PICTURES and not COMPANION.search(p.stem) and is_file(p)
        ]
        self.videos = [p for p in visible if p.suffix.lower() in VIDEOS and is_file(p)]
        self.folders = [p for p in visible if os.path.isdir(p)]

    @cached_property
    def sizes(self) -> dict[Path, tuple[int, int]]:
        """(width, height) of the pictures."""
        return {path: read_size(path) for path in self.pictures}

    def shaped(self, width: int, height: int) -> list[Path]:
        """The pictures whose sides have the ratio ``width`` to ``height``."""
        return [path for path, (w, h) in self.sizes.items() if w * height == h * width]


def numbered(paths: Sequence[Path], what: str) -> dict[int, Path]:
    """Paths by the one number that differs between their names, in order.

    Raises:
        UserError: none or several numbers differ, or one is missing in between.
    """
    if len(paths) == 1:
        return {0: paths[0]}
    kinds = {re.sub(r"\d+", "#", path.stem) for path in paths}
    numbers = (
        [[int(digits) for digits in re.findall(r"\d+", path.stem)] for path in paths]
        if len(kinds) == 1
        else []
    )
    columns = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    if len(columns) != 1 or len(set(columns[0])) < len(paths):
        names = ", ".join(path.name for path in paths[:4])
        raise UserError(
            f"{what} in {paths[0].parent} are not one series of frames ({names}, ...): put those "
            "of one clip into a folder"
        )
    found = dict(sorted(zip(columns[0], paths, strict=True)))
    gaps = [b - a for a, b in pairwise(found)]
    if hole := next(
        ((a, b) for (a, b), gap in zip(pairwise(found), gaps, strict=True) if gap != min(gaps)),
        None,
    ):
        a, b = found[hole[0]], found[hole[1]]
        raise UserError(
            f"{what} in {paths[0].parent} have a gap between {a.name} and {b.name}; make the "
            "missing ones or renumber"
        )
    return found


def _of_frames(found: dict[int, Path]) -> dict[str, Any]:
    return {"files": tuple((path,) for path in found.values()), "numbers": tuple(found)}


def _cut_by_4dgen(folder: Folder) -> FoundViews | None:
    views: defaultdict[int, dict[int, Path]] = defaultdict(dict)
    for path in folder.pictures:
        if match := CUT.fullmatch(path.stem.removeprefix(folder.name)):
            views[int(match[2])][int(match[3])] = path
    if not views:
        return None
    count = 1 + max(v for frame in views.values() for v in frame)
    for t, frame in sorted(views.items()):
        if len(frame) < count:
            missing = next(v for v in range(count) if v not in frame)
            raise UserError(
                f"{folder.path / f'{t}_0_{missing}_rgba.png'} is missing: every frame needs all "
                f"{count} views"
            )
    numbers = sorted(views)
    files = tuple(tuple(views[t][v] for v in range(count)) for t in numbers)
    return FoundViews(
        ("4dgen",),
        f"{len(files)} frames named {{frame}}_0_{{view}}_rgba.png",
        files,
        numbers=tuple(numbers),
    )


def _strips(folder: Folder) -> FoundViews | None:
    found = folder.shaped(16, 1)
    if not found or len(found) < len(folder.shaped(1, 1)) // 2:
        return None
    return FoundViews(
        ("syncdreamer",),
        f"{len(found)} pictures of 16 squares in a row",
        tiles=(1, 16),
        **_of_frames(numbered(found, "the strips")),
    )


def _grids(folder: Folder) -> FoundViews | None:
    found = folder.shaped(2, 3)
    if not found or len(found) < len(folder.pictures) / 2:
        return None
    why = f"{len(found)} pictures of 3 rows of 2 squares"
    return FoundViews(
        ("zero123plus", "zero123plus-1.2"),
        why,
        tiles=(3, 2),
        **_of_frames(numbered(found, "the grids")),
    )


def _sv4d(folder: Folder) -> FoundViews | None:
    runs: defaultdict[str, dict[int, Path]] = defaultdict(dict)
    here = folder if os.path.isdir(folder.path) else Folder(folder.path.parent)
    for path in here.videos:
        if match := re.fullmatch(r"(\d+)_v(\d{3})", path.stem):
            runs[match[1]][int(match[2])] = path
    if here is not folder:  # one video was named: its run is meant
        runs = defaultdict(
            dict, {run: views for run, views in runs.items() if folder.path in views.values()}
        )
    if not runs:
        return None
    if len(runs) > 1:
        raise UserError(
            f"{folder.path} holds several runs of SV4D ({', '.join(runs)}); name one video of the "
            "run that is meant"
        )
    ((run, views),) = runs.items()
    first = 0 in views or any(p.stem in (f"{run}_t000", f"{run}_diag") for p in here.videos)
    videos = tuple(path for number, path in sorted(views.items()) if number)
    names = {4: ("sv4d2",), 8: ("sv4d", "sv4d2-8views") if first else ("sv4d2-8views", "sv4d")}.get(
        len(videos)
    )
    if names is None or sorted(views)[-1] != len(videos):
        raise UserError(
            f"{folder.path} holds {len(videos)} of the videos {run}_v001, ... of SV4D, which "
            "writes 4 or 8; restore them"
        )
    return FoundViews(
        names, f"the {len(videos)} videos {videos[0].name} to {videos[-1].name}", videos=videos
    )


def _diffusion4d(folder: Folder) -> FoundViews | None:
    orbit = [p for p in folder.pictures if re.fullmatch(r"multi_frame\d+", p.stem)]
    if not orbit:
        return None
    found = numbered(orbit, "the frames")
    path = [
        _blender_orbit(folder.path / f"multi{t}.json", i / max(len(found) - 1, 1))
        for i, t in enumerate(found)
    ]
    azimuths = np.unwrap([orbit.azimuth for orbit in path], period=360).tolist()
    views = [
        View(tuple(replace(orbit, azimuth=a) for orbit, a in zip(path, azimuths, strict=True)))
    ]
    columns = [list(found.values())]
    for side, azimuth in (("right", 90.0), ("back", 180.0), ("left", 270.0)):
        still = [folder.path / f"{side}_frame{t}.png" for t in found]
        if all(path.is_file() for path in still):
            columns.append(still)
            place = _blender_orbit(folder.path / f"{side}.json", azimuth / 360)
            views.append(View((replace(place, azimuth=azimuth),)))
    files = tuple(zip(*columns, strict=True))
    why = f"{len(found)} pictures multi_frame0.png, ... of a camera that goes around" + (
        " and still ones" if views[1:] else ""
    )
    return FoundViews(("diffusion4d",), why, files, numbers=tuple(found), views=tuple(views))


def _blender_orbit(path: Path, turn: float) -> Orbit:
    """The camera that Diffusion4D's renderer recorded (z up, the front at -y).

    Without a record, the one it uses.
    """
    if not path.is_file():
        return Orbit(360 * turn, 0.0, 2.0, 39.6)
    record = read_json(path, "camera file")
    try:
        x, y, z = (float(value) for value in record["origin"])
        fov, radius = math.degrees(float(record["y_fov"])), math.hypot(x, y, z)
        return Orbit(
            math.degrees(math.atan2(x, -y)), math.degrees(math.asin(z / radius)), radius, fov
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"camera file {path} is not one of Diffusion4D's ({error}); restore it or remove all "
            "of them"
        ) from error


def _l4gm(folder: Folder) -> FoundViews | None:
    found = [p for p in folder.videos if p.stem.endswith("_fixed")]
    chosen = next((p for p in found if p.stem.startswith("wo_interp")), found[0] if found else None)
    if chosen is not None:
        return FoundViews(
            ("l4gm",),
            f"{chosen.name}, which shows four views in a row",
            videos=(chosen,),
            tiles=(1, 4),
        )
    match = [p for p in folder.pictures if re.search(r"(?<!_mv)_00[0-3]$", p.stem)]
    if len(match) == 4 and len({p.stem[:-4] for p in match}) == 1:
        return FoundViews(
            ("l4gm",), f"the four pictures {match[0].name} to {match[3].name}", (tuple(match),)
        )
    return None


def _imagedream(folder: Folder) -> FoundViews | None:
    rows = folder.shaped(4, 1)
    if rows:
        return FoundViews(
            ("imagedream",),
            f"{len(rows)} pictures of 4 squares in a row",
            tiles=(1, 4),
            **_of_frames(numbered(rows, "the rows")),
        )
    frames: defaultdict[int, dict[int, Path]] = defaultdict(dict)
    for path in folder.pictures:
        if match := re.fullmatch(r"(\d+)_(\d)_rgba", path.stem):
            frames[int(match[1])][int(match[2])] = path
    if frames and all(sorted(views) == [0, 1, 2, 3] for views in frames.values()):
        numbers = sorted(frames)
        files = tuple(tuple(frames[t][v] for v in range(4)) for t in numbers)
        return FoundViews(
            ("imagedream",),
            f"{len(files)} frames named {{frame}}_{{view}}_rgba.png with 4 views",
            files,
            numbers=tuple(numbers),
        )
    named = [p for p in folder.pictures if re.search(r"_mv_00[0-3]$", p.stem)]
    if len(named) == 4:
        return FoundViews(
            ("imagedream",),
            f"the four pictures {named[0].name} to {named[3].name}",
            (tuple(named),),
        )
    return None


BY_COUNT = {16: ("syncdreamer",), 6: ("zero123plus", "zero123plus-1.2"), 4: ("imagedream", "l4gm")}


def _one_frame(folder: Folder) -> FoundViews | None:
    """As many numbered square pictures as a generator makes of one picture."""
    squares, names = folder.shaped(1, 1), BY_COUNT.get(len(folder.pictures))
    if names is None or len(squares) < len(folder.pictures):
        return None
    try:
        found = tuple(numbered(squares, "the views").values())
    except UserError:
        return None
    return FoundViews(
        names, f"{len(found)} views of one frame, {found[0].name} to {found[-1].name}", (found,)
    )


def _frame_folders(folder: Folder) -> FoundViews | None:
    # STAG4D keeps the input beside it
    inner = next((p for p in folder.folders if p.name == "zero123"), None)
    if inner is not None:
        return _frame_folders(Folder(inner))
    parts = [Folder(p) for p in folder.folders]
    parts = [part for part in parts if part.pictures]
    if not parts or any(not re.search(r"\d", part.path.name) for part in parts):
        return None
    count = max(len(part.pictures) for part in parts)
    names = BY_COUNT.get(count)
    if names is None or len(parts) == 1:
        return None
    if short := next((part for part in parts if len(part.pictures) != count), None):
        raise UserError(
            f"{short.path} holds {len(short.pictures)} views but other frames have {count}; make "
            "the missing ones"
        )
    found = numbered([part.path for part in parts], "the folders")
    rows = {part.path: tuple(numbered(part.pictures, "the views").values()) for part in parts}
    return FoundViews(
        names,
        f"{len(parts)} folders of {count} views",
        tuple(rows[p] for p in found.values()),
        numbers=tuple(found),
    )


RECOGNISE: dict[str, Callable[[Folder], FoundViews | None]] = {
    "4dgen": _cut_by_4dgen,
    "syncdreamer": _strips,
    "zero123plus": _grids,
    "sv4d": _sv4d,
    "diffusion4d": _diffusion4d,
    "l4gm": _l4gm,
    "imagedream": _imagedream,
    "frame folders": _frame_folders,
    "one frame": _one_frame,
}


def find_views(
    path: Path, *, name: str = "", wanted: str = "auto", rig: Path | None = None
) -> FoundViews:
    """Recognises side views.

    Args:
        path: a folder, a picture or a video.
        name: of the clip, which may begin the names of its files.
        wanted: one of :data:`FORMATS`, or "auto".
        rig: a rig file, which places the cameras of pictures that no known tool made.

    Raises:
        UserError: nothing is recognised, or not what is wanted; the sentence lists what is known.
    """
    if not os.path.isdir(path):
        require_plain_file(path, "the source")
    folder = Folder(path, name)
    beside = [
        p
        for p in (path / "rig.json", path / f"{name}_rig.json")
        if os.path.isdir(path) and is_file(p)
    ]
    if rig is not None or wanted == "rig" or (beside and wanted == "auto"):
        if rig is None and not beside:
            raise UserError(
                f"{path} has no rig.json that places its cameras; write one, or name it with --rig"
            )
        return _with_rig(folder, rig or beside[0])
    if wanted == "diffusion4d" and len(folder.videos) == 1 and not folder.pictures:
        count = len(video_info(folder.videos[0]).times)
        walk = View(
            tuple(_blender_orbit(path / "none.json", i / max(count - 1, 1)) for i in range(count))
        )
        return FoundViews(
            ("diffusion4d",),
            f"{folder.videos[0].name}, asked for by --format",
            videos=(folder.videos[0],),
            views=(walk,),
        )
    for recognise in RECOGNISE.values():
        source = recognise(folder)
        if source is not None and (wanted == "auto" or wanted in source.formats):
            return source if wanted == "auto" else replace(source, formats=(wanted,))
    sets = [
        p.name
        for p in folder.folders
        if wanted == "auto" and any(r(Folder(p)) for r in RECOGNISE.values())
    ]
    if sets:
        raise UserError(f"{path} holds several sets of views; give one of them: {', '.join(sets)}")
    if not (folder.pictures or folder.videos or folder.folders):
        raise UserError(
            f"{path} holds no pictures and no videos; give the folder or file that the other tool "
            "wrote"
        )
    counted = {"picture": folder.pictures, "video": folder.videos, "folder": folder.folders}
    what = ", ".join(
        f"{len(some)} {kind}{'s' * (len(some) != 1)}" for kind, some in counted.items() if some
    )
    sizes = sorted({f"{w}x{h}" for w, h in folder.sizes.values()})
    what += (
        f" (of {', '.join(sizes[:3])}{', ...' if len(sizes) > 3 else ''} pixels)" if sizes else ""
    )
    if wanted != "auto":
        raise UserError(
            f"{path} does not look like {wanted} ({FORMATS[wanted].about}): it holds {what}"
        )
    raise UserError(
        f"{path} holds {what}, and nothing says where their cameras stand; place them with a rig "
        f"file (--rig), or say with --format what made them: {', '.join(FORMATS)}"
    )


def _with_rig(folder: Folder, rig: Path) -> FoundViews:
    """Pictures or videos as a rig file counts them.

    Per view a video or a folder, or per frame a folder or a picture.
    """
    views = tuple(read_views(rig))
    count, why = len(views), f"the {len(views)} cameras of {rig.name}"
    if (cut := _cut_by_4dgen(folder)) and len(cut.files[0]) == count:
        return replace(cut, formats=("rig",), why=why, views=views)
    if len(folder.videos) == count:
        return FoundViews(("rig",), why, videos=tuple(folder.videos), views=views)
    if not folder.folders and len(folder.pictures) == count:
        return FoundViews(("rig",), why, (tuple(folder.pictures),), views=views)
    parts = [part for part in (Folder(p) for p in folder.folders) if part.pictures]
    sizes = {len(part.pictures) for part in parts}
    per_view = len(parts) == count and len(sizes) == 1
    per_frame = sizes == {count}
    if per_view and per_frame:
        hints = {bool(re.match(r"v|cam|pose|eval", part.path.name.lower())) for part in parts}
        per_view, per_frame = hints == {True}, hints == {False}
    rows = (
        [list(numbered(part.pictures, "the pictures").values()) for part in parts]
        if per_view or per_frame
        else []
    )
    if per_view:
        return FoundViews(("rig",), why, tuple(zip(*rows, strict=True)), views=views)
    if per_frame:
        return FoundViews(("rig",), why, tuple(tuple(row) for row in rows), views=views)
    raise UserError(
        f"rig file {rig} places {count} cameras, but {folder.path} holds {len(folder.pictures)} "
        f"pictures, {len(folder.videos)} videos and {len(parts)} folders of pictures; wanted "
        f"{count} pictures of one frame, {count} videos, {count} folders with a picture per frame, "
        f"or a folder of {count} pictures per frame"
    )
