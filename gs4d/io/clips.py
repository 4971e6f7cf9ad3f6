"""Clips on disk, in the layout that 4DGen's users have.

``{name}_pose0/{t}.png`` is the input video, ``{name}_sync/{t}_0_{v}_rgba.png`` side view v of frame
t, ``{name}_rig.json`` says where the side cameras stand when it is not SyncDreamer's rig,
``{name}_eval/eval_{k}/{t}.png`` are views to score on, whose cameras ``{name}_cameras.json`` names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..clip import Clip, Orbit, Track, syncdreamer_rig
from ..errors import UserError, nearest, require_folder_name
from .files import read_json
from .images import read_size
from .lazy import CACHE_BYTES, FilePictures, PictureCache
from .names import list_folder
from .weights import read_weights

CONSISTENT4D_AZIMUTHS = (-75.0, 15.0, 105.0, 195.0)
ORBIT_KEYS = ("azimuth", "elevation", "radius", "fov")
VIEW_KEYS = (*ORBIT_KEYS, "weight")
CONFIDENCE_FILE = "trust.safetensors"  # in a folder of side views: confidence per pixel


def clip_names(data_dir: Path) -> list[str]:
    """Names with a ``{name}_pose0`` folder under ``data_dir``, sorted."""
    return sorted(
        p.name.removesuffix("_pose0") for p in data_dir.glob("*_pose0") if os.path.isdir(p)
    )


def read_clip(
    data_dir: Path,
    name: str,
    *,
    resolution: int,
    cache_bytes: int = CACHE_BYTES,
    side_dir: Path | None = None,
) -> Clip:
    """Opens a clip; pictures whose longer side exceeds ``resolution`` pixels are scaled down to it.

    A clip whose decoded pictures fit in ``cache_bytes`` is decoded here, once; of a larger one only
    headers are read, and its pictures are decoded when they are asked for. Side views come from
    ``side_dir``, or else from beside the input view.

    Raises:
        UserError: anything is missing, cut short, of unequal size or does not fit together; the
            sentence names the file.
    """
    folder = data_dir / f"{name}_pose0"
    if not os.path.isdir(folder):
        names = clip_names(data_dir)
        there = f"; there are: {', '.join(names)}" if names else " (it holds no *_pose0 folder)"
        raise UserError(f"no clip named '{name}' in {data_dir}{nearest(name, names)}{there}")
    numbers = frame_numbers(folder)
    rig_path = data_dir / f"{name}_rig.json"
    loader = _Loader(resolution, PictureCache(cache_bytes))
    tracks = [loader.track("input", read_input(rig_path), [folder / numbers[t] for t in numbers])]
    sync = (side_dir or data_dir) / f"{name}_sync"
    if os.path.lexists(sync):
        tracks += _read_sync(sync, list(numbers), sync.parent / rig_path.name, loader)
    truth = _read_truth(data_dir, name, list(numbers), loader)
    loader.check()
    return Clip(name, tuple(tracks), tuple(truth))


def frame_numbers(folder: Path) -> dict[int, str]:
    """Frame number -> file name in order.

    The numbering may start anywhere and step evenly, but may have no hole.
    """
    found: dict[int, str] = {}
    for path in list_folder(folder):
        if (
            path.suffix.lower() == ".png"
            and path.stem.isdecimal()
            and found.setdefault(int(path.stem), path.name) != path.name
        ):
            raise UserError(
                f"{path} and {found[int(path.stem)]} are the same frame; remove one of them"
            )
    if not found:
        raise UserError(
            f"{folder} holds no frames named 0.png, 1.png, ...; put the RGBA frames of the video "
            "there"
        )
    numbers = sorted(found)
    gaps = np.diff(numbers)
    step = int(gaps.min()) if len(numbers) > 2 else 1
    for a, b in pairwise(numbers):
        if b - a != step:
            raise UserError(
                f"{folder / f'{a + step}.png'} is missing: the frames go on at {found[b]}; restore "
                "it or renumber"
            )
    return {n: found[n] for n in numbers}


@dataclass
class _Loader:
    """Makes tracks of files, which share one cache."""

    resolution: int
    cache: PictureCache
    opened: list[tuple[str, FilePictures]] = field(default_factory=list)

    def track(self, name: str, view: View, paths: list[Path]) -> Track:
        """A track of files that all have one size, by their headers."""
        width, height = first = read_size(paths[0], need_alpha=True)
        for path in paths[1:]:
            if (size := read_size(path, need_alpha=True)) != first:
                raise UserError(
                    f"{path} is {size[0]}x{size[1]} pixels but {paths[0].name} is "
                    f"{width}x{height}; all frames of a view must have one size"
                )
        scale = min(1.0, self.resolution / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pictures = FilePictures(paths, size, self.cache)
        self.opened.append((name, pictures))
        orbits = tuple(replace(orbit, aspect=size[0] / size[1]) for orbit in view.orbits)
        if len(orbits) not in (1, len(paths)):
            raise UserError(
                f"the rig moves the camera of view '{name}' through {len(orbits)} frames but "
                f"{paths[0].parent} has {len(paths)}; give one number per frame, or one for all"
            )
        if len(view.confidence) not in (1, len(paths)):
            raise UserError(
                f"the rig gives view '{name}' {len(view.confidence)} weights but {paths[0].parent} "
                f"has {len(paths)} frames; give one number per frame, or one for all"
            )
        return Track(name, orbits, pictures, view.confidence)

    def check(self) -> None:
        """Decodes what fits in the cache, at least enough to see that no view is empty."""
        wanted = [item for _, pictures in self.opened for item in pictures.wanted]
        if sum(4 * width * height for _, (width, height) in wanted) <= self.cache.budget:
            self.cache.fill(wanted)
        for name, pictures in self.opened:
            if not any(picture[..., 3].any() for picture in pictures):
                raise UserError(
                    f"{pictures.paths[0].parent} shows nothing in view '{name}': every pixel is "
                    "transparent; check the alpha channel"
                )


@dataclass(frozen=True)
class View:
    """One view of a rig file.

    Attributes:
        orbits: where its camera stands: once, or at every frame.
        confidence: in its pictures, 0 to 1: one number, or one per frame.
    """

    orbits: tuple[Orbit, ...] = (Orbit(),)
    confidence: tuple[float, ...] = (1.0,)


def _read_rig_file(path: Path) -> dict[str, Any]:
    rig = read_json(path, "rig file")
    first = next(iter(rig if isinstance(rig, list) else _list_of_frames(rig)), None)
    if isinstance(first, dict) and first.keys() & {"transform_matrix", "file_path", "img_name"}:
        raise UserError(
            f"rig file {path} is a list with one camera per picture, as NeRF and Gaussian "
            "splatting tools write it (transforms.json, cameras.json), not a rig of cameras that "
            "each see every frame; write azimuth, elevation, radius and fov of each view"
        )
    if not isinstance(rig, dict):
        raise UserError(
            f"rig file {path} holds a {type(rig).__name__}, wanted an object with azimuth, "
            "elevation, radius, fov"
        )
    return rig


def _list_of_frames(record: Any) -> list[Any]:
    frames = record.get("frames") if isinstance(record, dict) else None
    return frames if isinstance(frames, list) else []


def read_input(path: Path) -> View:
    """The input camera of a rig file, which need not exist.

    Azimuth 0, elevation 0 and the default perspective.

    Raises:
        UserError: the file is not a rig.
    """
    rig = _read_rig_file(path) if os.path.lexists(path) else {}
    return _view(rig.get("input", {}), path)


def _view(entry: Any, path: Path) -> View:
    if not isinstance(entry, dict):
        raise UserError(
            f"rig file {path} describes a camera by {entry!r}, wanted an object with azimuth, "
            "elevation, radius, fov"
        )
    for word in sorted(set(entry) - set(VIEW_KEYS)):
        raise UserError(f"rig file {path} has the unknown key '{word}'{nearest(word, VIEW_KEYS)}")
    columns = {key: _numbers(key, value, path) for key, value in entry.items()}
    weights = columns.pop("weight", (1.0,))
    if not all(0 <= weight <= 1 for weight in weights):
        raise UserError(
            f"rig file {path} gives a weight outside 0 to 1; 1 believes a view fully, 0 ignores it"
        )
    lengths = {key: len(column) for key, column in columns.items() if len(column) > 1}
    if len(set(lengths.values())) > 1:
        raise UserError(
            f"rig file {path} moves a camera through {lengths} frames; lists of one camera must be "
            "equally long"
        )
    # so that 350, 370 and not 350, 10: what lies between two frames is blended
    if "azimuth" in columns:
        columns["azimuth"] = tuple(np.unwrap(columns["azimuth"], period=360).tolist())
    frames = range(max(lengths.values(), default=1))
    return View(
        tuple(
            _orbit({k: c[t if len(c) > 1 else 0] for k, c in columns.items()}, path) for t in frames
        ),
        weights,
    )


def _numbers(key: str, value: Any, path: Path) -> tuple[float, ...]:
    values: list[Any] = value if isinstance(value, list) and value else [value]
    for number in values:
        if (
            isinstance(number, bool)
            or not isinstance(number, (int, float))
            or not abs(number) <= 1e6
        ):
            raise UserError(f"{path} gives {key} as {str(number)[:40]}, wanted a number")
    return tuple(float(number) for number in values)


def _orbit(values: dict[str, float], path: Path) -> Orbit:
    orbit = Orbit(**values)
    if not 0.01 <= orbit.radius <= 100 or not 0.1 <= orbit.fov <= 179 or abs(orbit.elevation) > 90:
        raise UserError(
            f"{path} has a camera out of range: radius {orbit.radius} (0.01 to 100), fov "
            f"{orbit.fov} (0.1 to 179), elevation {orbit.elevation} (-90 to 90)"
        )
    return orbit


def read_views(path: Path) -> list[View]:
    """The side views of a rig file.

    ``{"azimuth": [0, 90], "elevation": 30, "radius": 1.5, "fov": 49.13, "weight": 1}``.

    Each value is one number for all views, or a list with one entry per view; where an entry is
    itself a list, the camera moves (or the weight changes) and the list has one number per frame.
    ``{"views": [{"azimuth": 0, ...}, ...]}`` says the same camera by camera: there a list is per
    frame. ``"input": {...}`` describes the input camera like an entry of "views", and ``"source"``
    is a note. Angles are in degrees, fov is vertical, a weight says from 0 to 1 how far a view is
    believed. What is left out is 0 degrees, radius 1.5, fov 49.13, weight 1.

    Perspective belongs to a view: cameras of one rig may differ in radius and fov. The object has
    one size in the world for all of them, so that views of a generator that frames it larger stand
    nearer (or have a narrower fov).

    Raises:
        UserError: the file is not such a rig.
    """
    rig = {
        key: value for key, value in _read_rig_file(path).items() if key not in ("input", "source")
    }
    if "views" in rig:
        if not isinstance(rig["views"], list) or len(rig) > 1:
            raise UserError(
                f"rig file {path}: 'views' must be a list of cameras and stand alone beside "
                "'input' and 'source'"
            )
        return [_view(entry, path) for entry in rig["views"]]
    for word in sorted(set(rig) - set(VIEW_KEYS)):
        raise UserError(f"rig file {path} has the unknown key '{word}'{nearest(word, VIEW_KEYS)}")
    lengths = {key: len(value) for key, value in rig.items() if isinstance(value, list)}
    if len(set(lengths.values())) > 1 or "azimuth" not in rig:
        raise UserError(
            f"rig file {path} lists {lengths or 'no azimuths'}; give one azimuth per view, and "
            "other lists as long"
        )
    count = max(lengths.values(), default=1)
    return [
        _view({k: v[i] if isinstance(v, list) else v for k, v in rig.items()}, path)
        for i in range(count)
    ]


def read_rig(path: Path) -> list[Orbit]:
    """Reads the side cameras of a rig file, none of which may move.

    Raises:
        UserError: the file is not a rig, or one of its cameras moves.
    """
    still = []
    for number, view in enumerate(read_views(path)):
        orbit, *others = view.orbits
        if others:
            raise UserError(
                f"rig file {path} moves camera {number}; here cameras must stay, so give it one "
                "number each"
            )
        still.append(orbit)
    return still


def rig_record(
    views: Sequence[View], *, input_view: View = View(), source: str = ""
) -> dict[str, Any]:
    """Returns the contents of a rig file, which :func:`read_views` reads back."""

    def entry(view: View) -> dict[str, Any]:
        columns = {key: [getattr(orbit, key) for orbit in view.orbits] for key in ORBIT_KEYS}
        short = {
            key: column[0] if len(set(column)) == 1 else column for key, column in columns.items()
        }
        weights = view.confidence
        return short | {"weight": weights[0] if len(set(weights)) == 1 else list(weights)}

    record: dict[str, Any] = {"views": [entry(view) for view in views]}
    if input_view != View():
        record["input"] = entry(input_view)
    return record | ({"source": source} if source else {})


def _read_sync(folder: Path, numbers: list[int], rig_path: Path, loader: _Loader) -> list[Track]:
    found: dict[tuple[int, int], Path] = {}
    for path in list_folder(folder) if os.path.isdir(folder) else ():
        match = re.fullmatch(r".*?(\d+)_0_(\d+)_rgba\.png", path.name, re.IGNORECASE)
        if match and (other := found.setdefault((int(match[1]), int(match[2])), path)) != path:
            raise UserError(
                f"{other} and {path.name} are the same view of the same frame; remove one of them"
            )
    if surplus := sorted({t for t, _ in found} - set(numbers)):
        raise UserError(
            f"{folder} has side views of frame {surplus[0]}, which the input video lacks; add that "
            "frame or remove them"
        )
    if not found:
        raise UserError(
            f"{folder} holds no side views named {{frame}}_0_{{view}}_rgba.png; fill it or remove "
            "it"
        )
    views = max(v for _, v in found) + 1
    rig = (
        read_views(rig_path)
        if os.path.lexists(rig_path)
        else [View((orbit,)) for orbit in syncdreamer_rig()]
    )
    if len(rig) != views:
        source = (
            f"rig file {rig_path} has"
            if os.path.lexists(rig_path)
            else f"there is no {rig_path.name}, so SyncDreamer's rig is assumed, which has"
        )
        raise UserError(
            f"{folder} has {views} views per frame but {source} {len(rig)}; write a rig with one "
            "camera per view"
        )
    for t in numbers:
        for v in range(views):
            if (t, v) not in found:
                path = folder / f"{t}_0_{v}_rgba.png"
                raise UserError(
                    f"{path} is missing: every frame needs all {views} views; make it or remove "
                    f"{folder.name}"
                )
    tracks = [
        loader.track(f"sync_{v}", rig[v], [found[t, v] for t in numbers]) for v in range(views)
    ]
    if not (folder / CONFIDENCE_FILE).is_file():
        return tracks
    confidence = read_confidence(folder / CONFIDENCE_FILE, views, len(numbers))
    return [replace(track, confidence_map=confidence[v]) for v, track in enumerate(tracks)]


def read_confidence(path: Path, views: int, frames: int) -> UInt8[Tensor, "v t s s"]:
    """Reads the confidence in the pixels of side views, relative to each other.

    Raises:
        UserError: the file is damaged, or of other views.
    """
    confidence = read_weights(path).get("trust")
    if (
        confidence is None
        or confidence.dtype != torch.uint8
        or confidence.ndim != 4
        or confidence.shape[:2] != (views, frames)
    ):
        raise UserError(
            f"{path} does not belong to the {views} views of {frames} frames beside it; remove it"
        )
    return confidence


def _read_truth(data_dir: Path, name: str, numbers: list[int], loader: _Loader) -> list[Track]:
    folder, cameras_path = data_dir / f"{name}_eval", data_dir / f"{name}_cameras.json"
    views = sorted((p for p in folder.glob("eval_*") if os.path.isdir(p)), key=lambda p: p.name)
    if not views:
        return []
    orbit_of = _truth_orbits(cameras_path, [p.name for p in views])
    return [
        loader.track(v.name, View((orbit_of(v.name),)), [_truth_frame(v, t) for t in numbers])
        for v in views
    ]


def _truth_frame(view: Path, number: int) -> Path:
    path = view / f"{number}.png"
    if not os.path.exists(path):
        raise UserError(
            f"{path} is missing: every view to score on needs every frame; restore it or remove "
            f"{view}"
        )
    return path


def _truth_orbits(path: Path, views: list[str]) -> Callable[[str], Orbit]:
    if not os.path.exists(path):
        known = {f"eval_{k}": Orbit(azimuth=a) for k, a in enumerate(CONSISTENT4D_AZIMUTHS)}
        if unknown := [v for v in views if v not in known]:
            raise UserError(
                f"{path} is missing: it must say where the camera of '{unknown[0]}' stands"
            )
        return known.__getitem__
    cameras = read_json(path, "camera file")
    return _placed(cameras, path, views).__getitem__


def _placed(cameras: Any, path: Path, views: list[str] | None = None) -> dict[str, Orbit]:
    """The orbits of ``views`` (None: all) in the contents of a camera file."""
    try:
        common = {"radius": cameras["radius"], "fov": cameras["fovy_deg"]}
        entries = dict(cameras["eval"])
        places = {v: entries[v] for v in (entries if views is None else views)}
        rows = {
            v: {"azimuth": e["azimuth_deg"], "elevation": e["elevation_deg"], **common}
            for v, e in places.items()
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"camera file {path} does not place every eval view ({error}); docs/data.md shows what "
            "it holds"
        ) from error
    for view in rows:
        # pictures of it go into a folder of that name
        require_folder_name(f"a view in camera file {path}", view)
    return {view: _still(row, path) for view, row in rows.items()}


def _still(row: dict[str, Any], path: Path) -> Orbit:
    orbit, *others = _view(row, path).orbits
    if others:
        raise UserError(f"camera file {path} moves a camera; a view to score on has one place")
    return orbit


def cameras_record(
    input_orbit: Orbit, side: Sequence[Orbit], truth: Mapping[str, Orbit], *, frames: int, size: int
) -> dict[str, object]:
    """Returns the contents of a ``{name}_cameras.json``: the cameras of a drawn clip, in degrees.

    The contents of a ``{name}_cameras.json``.

    Radius and field of view are those of the input camera; the views to score on have the same.
    """

    def place(orbit: Orbit) -> dict[str, float]:
        return {"azimuth_deg": orbit.azimuth, "elevation_deg": orbit.elevation}

    return {
        "radius": input_orbit.radius,
        "fovy_deg": input_orbit.fov,
        "size": size,
        "frames": frames,
        "convention": "object inside a sphere of radius 0.6 at the origin; y up; camera at "
        "radius*(cos(el)sin(az), sin(el), cos(el)cos(az)) looking at the origin",
        "pose0": place(input_orbit),
        "sync": {str(v): place(orbit) for v, orbit in enumerate(side)},
        "eval": {name: place(orbit) for name, orbit in truth.items()},
    }


def read_eval_rig(path: Path) -> dict[str, Orbit]:
    """Views to render for scoring, by name.

    Those of a rig file as eval_0, eval_1, ..., or those of a ``{name}_cameras.json``.

    Raises:
        UserError: the file is neither.
    """
    record = read_json(path, "rig file")
    if isinstance(record, dict) and "eval" in record:
        return _placed(record, path)
    return {f"eval_{k}": orbit for k, orbit in enumerate(read_rig(path))}
