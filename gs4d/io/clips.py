"""Clips on disk, in the layout that 4DGen's users have.

``{name}_pose0/{t}.png`` is the input video, ``{name}_sync/{t}_0_{v}_rgba.png`` side view v of frame t, ``{name}_rig.json`` says
where the side cameras stand when it is not SyncDreamer's rig, ``{name}_eval/eval_{k}/{t}.png`` are views to score on, whose
cameras ``{name}_cameras.json`` names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..clip import Clip, Orbit, Track, syncdreamer_rig
from ..errors import UserError, nearest
from .files import read_json
from .images import read_image, resize_rgba

CONSISTENT4D_AZIMUTHS = (-75.0, 15.0, 105.0, 195.0)
MAX_CLIP_BYTES = 8 << 30
ORBIT_KEYS = ("azimuth", "elevation", "radius", "fov")


def clip_names(data_dir: Path) -> list[str]:
    """Names with a ``{name}_pose0`` folder under ``data_dir``, sorted."""
    return sorted(p.name.removesuffix("_pose0") for p in data_dir.glob("*_pose0") if p.is_dir())


def read_clip(data_dir: Path, name: str, *, resolution: int) -> Clip:
    """Loads a clip; pictures whose longer side exceeds ``resolution`` pixels are scaled down to it.

    Raises:
        UserError: anything is missing, cut short, of unequal size or does not fit together; the sentence names the file.
    """
    folder = data_dir / f"{name}_pose0"
    if not folder.is_dir():
        names = clip_names(data_dir)
        there = f"; there are: {', '.join(names)}" if names else " (it holds no *_pose0 folder)"
        raise UserError(f"no clip named '{name}' in {data_dir}{nearest(name, names)}{there}")
    numbers = _frame_numbers(folder)
    tracks = [_read_track("input", _input_orbit(data_dir, name), [folder / numbers[t] for t in numbers], resolution)]
    sync = data_dir / f"{name}_sync"
    if os.path.lexists(sync):
        tracks += _read_sync(sync, list(numbers), data_dir / f"{name}_rig.json", resolution)
    truth = _read_truth(data_dir, name, list(numbers), resolution)
    return Clip(name, tuple(tracks), tuple(truth))


def _frame_numbers(folder: Path) -> dict[int, str]:
    """Frame number -> file name in order; the numbering may start anywhere and step evenly, but may have no hole."""
    found: dict[int, str] = {}
    for path in sorted(folder.glob("*.png")):
        if path.stem.isdecimal() and found.setdefault(int(path.stem), path.name) != path.name:
            raise UserError(f"{path} and {found[int(path.stem)]} are the same frame; remove one of them")
    if not found:
        raise UserError(f"{folder} holds no frames named 0.png, 1.png, ...; put the RGBA frames of the video there")
    numbers = sorted(found)
    gaps = np.diff(numbers)
    step = int(gaps.min()) if len(numbers) > 2 else 1
    for a, b in pairwise(numbers):
        if b - a != step:
            raise UserError(f"{folder / f'{a + step}.png'} is missing: the frames go on at {found[b]}; restore it or renumber")
    return {n: found[n] for n in numbers}


def _read_track(name: str, orbit: Orbit, paths: list[Path], resolution: int) -> Track:
    def load(path: Path) -> tuple[tuple[int, int], np.ndarray]:
        image = read_image(path, need_alpha=True)
        height, width = image.shape[:2]
        scale = min(1.0, resolution / max(height, width))
        target = max(1, round(width * scale)), max(1, round(height * scale))
        return (width, height), resize_rgba(image, *target)

    first_size, first = load(paths[0])
    if first.nbytes * len(paths) > MAX_CLIP_BYTES:
        raise UserError(f"{paths[0].parent} needs {first.nbytes * len(paths) >> 30} GB in memory; lower --fit.resolution")
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(load, paths))
    for path, (size, _) in zip(paths, loaded, strict=True):
        if size != first_size:
            raise UserError(
                f"{path} is {size[0]}x{size[1]} pixels but {paths[0].name} is {first_size[0]}x{first_size[1]}; "
                "all frames of a view must have one size"
            )
    images = torch.from_numpy(np.stack([image for _, image in loaded]))
    if not images[..., 3].any():
        raise UserError(
            f"{paths[0].parent} shows nothing in view '{name}': every pixel is transparent; check the alpha channel"
        )
    return Track(name, replace(orbit, aspect=images.shape[2] / images.shape[1]), images)


def _input_orbit(data_dir: Path, name: str) -> Orbit:
    path = data_dir / f"{name}_rig.json"
    rig = read_json(path, "rig file") if os.path.lexists(path) else {}
    if not isinstance(rig, dict):
        raise UserError(f"rig file {path} holds a {type(rig).__name__}, wanted an object with azimuth, elevation, radius, fov")
    return _orbit(rig.get("input", {}), path, Orbit())


def _check_keys(entry: dict[str, Any], path: Path) -> None:
    for word in sorted(set(entry) - set(ORBIT_KEYS)):
        raise UserError(f"rig file {path} has the unknown key '{word}'{nearest(word, ORBIT_KEYS)}")


def _orbit(entry: Any, path: Path, default: Orbit) -> Orbit:
    if not isinstance(entry, dict):
        raise UserError(
            f"rig file {path} describes a camera by {entry!r}, wanted an object with azimuth, elevation, radius, fov"
        )
    unknown = set(entry) - {"azimuth", "elevation", "radius", "fov"}
    if unknown:
        word = sorted(unknown)[0]
        raise UserError(
            f"rig file {path} has the unknown key '{word}'{nearest(word, ['azimuth', 'elevation', 'radius', 'fov'])}"
        )
    values = {k: entry.get(k, getattr(default, k)) for k in ("azimuth", "elevation", "radius", "fov")}
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e6:
            raise UserError(f"{path} gives {key} as {str(value)[:40]}, wanted a number")
    orbit = Orbit(**{k: float(v) for k, v in values.items()})
    if not 0.01 <= orbit.radius <= 100 or not 0.1 <= orbit.fov <= 179 or abs(orbit.elevation) > 90:
        raise UserError(
            f"{path} has a camera out of range: radius {orbit.radius} (0.01 to 100), fov {orbit.fov} (0.1 to 179), "
            f"elevation {orbit.elevation} (-90 to 90)"
        )
    return orbit


def read_rig(path: Path) -> list[Orbit]:
    """The side cameras of a rig file: ``{"azimuth": [...], "elevation": 30, "radius": 1.5, "fov": 49.13}``.

    Each value is one number for all views or a list with one number per view; ``{"views": [{"azimuth": ...}, ...]}`` says
    the same camera by camera, and ``"input": {...}`` places the input camera. Degrees; fov is vertical.

    Raises:
        UserError: the file is not such a rig.
    """
    rig = read_json(path, "rig file")
    if not isinstance(rig, dict):
        raise UserError(f"rig file {path} holds a {type(rig).__name__}, wanted an object with azimuth, elevation, radius, fov")
    rig = {key: value for key, value in rig.items() if key != "input"}
    if "views" in rig:
        if not isinstance(rig["views"], list) or len(rig) > 1:
            raise UserError(f"rig file {path}: 'views' must be a list of cameras and stand alone beside 'input'")
        return [_orbit(entry, path, Orbit()) for entry in rig["views"]]
    _check_keys(rig, path)
    lengths = {key: len(value) for key, value in rig.items() if isinstance(value, list)}
    if len(set(lengths.values())) > 1 or "azimuth" not in rig:
        raise UserError(f"rig file {path} lists {lengths or 'no azimuths'}; give one azimuth per view, and other lists as long")
    count = max(lengths.values(), default=1)
    return [_orbit({k: v[i] if isinstance(v, list) else v for k, v in rig.items()}, path, Orbit()) for i in range(count)]


def _read_sync(folder: Path, numbers: list[int], rig_path: Path, resolution: int) -> list[Track]:
    found: dict[tuple[int, int], Path] = {}
    for path in sorted(folder.glob("*_rgba.png")):
        if match := re.fullmatch(r".*?(\d+)_0_(\d+)_rgba\.png", path.name):
            found[int(match[1]), int(match[2])] = path
    if surplus := sorted({t for t, _ in found} - set(numbers)):
        raise UserError(
            f"{folder} has side views of frame {surplus[0]}, which the input video lacks; add that frame or remove them"
        )
    if not found:
        raise UserError(f"{folder} holds no side views named {{frame}}_0_{{view}}_rgba.png; fill it or remove it")
    views = max(v for _, v in found) + 1
    orbits = read_rig(rig_path) if os.path.lexists(rig_path) else syncdreamer_rig()
    if len(orbits) != views:
        source = (
            f"rig file {rig_path} has"
            if os.path.lexists(rig_path)
            else f"there is no {rig_path.name}, so SyncDreamer's rig is assumed, which has"
        )
        raise UserError(
            f"{folder} has {views} views per frame but {source} {len(orbits)}; write a rig with one camera per view"
        )
    for t in numbers:
        for v in range(views):
            if (t, v) not in found:
                path = folder / f"{t}_0_{v}_rgba.png"
                raise UserError(f"{path} is missing: every frame needs all {views} views; make it or remove {folder.name}")
    return [_read_track(f"sync_{v}", orbits[v], [found[t, v] for t in numbers], resolution) for v in range(views)]


def _read_truth(data_dir: Path, name: str, numbers: list[int], resolution: int) -> list[Track]:
    folder, cameras_path = data_dir / f"{name}_eval", data_dir / f"{name}_cameras.json"
    views = sorted((p for p in folder.glob("eval_*") if p.is_dir()), key=lambda p: p.name)
    if not views:
        return []
    orbit_of = _truth_orbits(cameras_path, [p.name for p in views])
    return [_read_track(view.name, orbit_of(view.name), [_truth_frame(view, t) for t in numbers], resolution) for view in views]


def _truth_frame(view: Path, number: int) -> Path:
    path = view / f"{number}.png"
    if not path.exists():
        raise UserError(f"{path} is missing: every view to score on needs every frame; restore it or remove {view}")
    return path


def _truth_orbits(path: Path, views: list[str]) -> Callable[[str], Orbit]:
    if not path.exists():
        known = {f"eval_{k}": Orbit(azimuth=a) for k, a in enumerate(CONSISTENT4D_AZIMUTHS)}
        if unknown := [v for v in views if v not in known]:
            raise UserError(f"{path} is missing: it must say where the camera of '{unknown[0]}' stands")
        return known.__getitem__
    cameras = read_json(path, "camera file")
    return _placed(cameras, path, views).__getitem__


def _placed(cameras: Any, path: Path, views: list[str] | None = None) -> dict[str, Orbit]:
    """The orbits of ``views`` (None: all) in the contents of a camera file."""
    try:
        common = {"radius": cameras["radius"], "fov": cameras["fovy_deg"]}
        entries = cameras["eval"]
        places = {v: entries[v] for v in (entries if views is None else views)}
        rows = {v: {"azimuth": e["azimuth_deg"], "elevation": e["elevation_deg"], **common} for v, e in places.items()}
    except (KeyError, TypeError) as error:
        raise UserError(
            f"camera file {path} does not place every eval view ({error}); README.md shows what it holds"
        ) from error
    return {view: _orbit(row, path, Orbit()) for view, row in rows.items()}


def read_eval_rig(path: Path) -> dict[str, Orbit]:
    """Views to render for scoring, by name: those of a rig file as eval_0, eval_1, ..., or those of a ``{name}_cameras.json``.

    Raises:
        UserError: the file is neither.
    """
    record = read_json(path, "rig file")
    if isinstance(record, dict) and "eval" in record:
        return _placed(record, path)
    return {f"eval_{k}": orbit for k, orbit in enumerate(read_rig(path))}
