"""The recipe that makes a clip of an animated model.

Model -> poses -> input view, side views, views to score on, previews.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from ..clip import Orbit, syncdreamer_rig
from ..errors import UserError, require_folder_name
from ..io.clips import (
    CONSISTENT4D_AZIMUTHS,
    View,
    cameras_record,
    read_eval_rig,
    read_input,
    read_views,
    rig_record,
)
from ..io.files import atomic_path, read_json, write_json
from ..io.images import read_image
from ..io.names import name_of
from ..io.sheets import write_preview_video, write_sheet
from ..mesh import UNLIT, AnimatedMesh, Lighting, load_animated_mesh
from ..ranges import Options, Range

FRAMES = 16
SHOWN = 8  # frames in a row of the contact sheet
PREVIEW_FPS = 8.0  # of a model that does not move


@dataclass(frozen=True)
class MeshOptions(Options):
    """Options of a clip that is drawn from an animated model."""

    path: Path | None = None
    """An animated model, .glb or .gltf."""
    name: str = ""
    """Name of the clip, as in {data_dir}/{name}_pose0. Empty: the name of the file."""
    clip: str | None = None
    """Which of the model's animations; None: the first that moves anything, together with those
    that move other nodes."""
    data_dir: Path = Path("data")
    """Where clips are kept."""
    frames: Annotated[int | None, Range(1, 1024)] = None
    """Number of frames, evenly over the time; None: 16, or 1 of a model that does not move."""
    size: Annotated[int, Range(16, 2048)] = 256
    """Side of the pictures in pixels."""
    start: Annotated[float | None, Range(0, 1e6)] = None
    """Second of the file's time line to start at; None: the first key of the animation."""
    end: Annotated[float | None, Range(0, 1e6)] = None
    """Second of the file's time line to end at; None: the last key of the animation."""
    loop: bool = True
    """The last frame comes one step before the first again; otherwise it shows the end."""
    up: Literal["y", "z"] = "y"
    """The model's upward axis; the standard says y."""
    azimuth: Annotated[float, Range(-1e4, 1e4)] = 0.0
    """Of the input camera, degrees: 0 looks at the front, 90 at the model's left side, from +x."""
    elevation: Annotated[float, Range(-90, 90)] = 0.0
    """Of the input camera, degrees: above the object from 0 on."""
    rig: Path | None = None
    """Rig file with the side cameras, and the input camera if it names one; None: SyncDreamer's 16
    side views."""
    eval_rig: Path | None = None
    """Rig file with the cameras to score on; None: Consistent4D's four."""
    sync: bool = True
    """Draw the side views."""
    eval: bool = True
    """Draw the views to score on."""
    unlit: bool = False
    """Draw plain colours, without light."""
    double_sided: bool = False
    """Draw every triangle from behind too, against what the model says."""
    overwrite: bool = False
    """Replace what is there even if this command did not make it, or it was changed since."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end is not None and self.end <= (self.start or 0.0):
            raise self.error(
                f"{{end}} is {self.end}; it must come after {{start}}, which is {self.start or 0.0}"
            )


@dataclass(frozen=True)
class _Rig:
    """All cameras of a clip; a camera that moves has one orbit per frame."""

    input: View
    side: Sequence[View]
    truth: dict[str, Orbit]

    def at(self, frame: int) -> list[Orbit]:
        """Returns the cameras at a frame: input, side views, views to score on."""
        views = [self.input, *self.side]
        return [view.orbits[min(frame, len(view.orbits) - 1)] for view in views] + list(
            self.truth.values()
        )


def make_clip(options: MeshOptions) -> list[Path]:
    """Makes the folders of a clip, files that place its cameras, and previews; returns these.

    Raises:
        UserError: the model, the rig or the options are wrong, or what is there already is not ours
            to replace.
    """
    if options.path is None:
        raise UserError("--path is missing: give an animated model, .glb or .gltf")
    if options.name:
        require_folder_name("--name", options.name)
    name = options.name or name_of(options.path)
    outputs = _Outputs(options.data_dir, name)
    stale = outputs.check(options)

    # 1. The model, placed so that it fits over the frames that will be drawn.
    mesh = load_animated_mesh(options.path, options.clip, up=options.up)
    times = _times(mesh, options)
    mesh = mesh.fitted(times, up=options.up)
    if options.double_sided:
        parts = [
            replace(part, material=replace(part.material, double_sided=True)) for part in mesh.parts
        ]
        mesh = replace(mesh, parts=tuple(parts))
    said = _describe(mesh, options.path, times)
    print(said)

    # 2. The cameras.
    rig = _rig(options, len(times))

    # 3. The pictures, then everything appears at once; the input video last, so that its presence
    # means a whole clip.
    warnings = list(mesh.warnings)
    if not mesh.moves():
        why = (
            f"animation '{mesh.clip}' leaves it as it is"
            if mesh.clip
            else "it has no animation that moves it"
        )
        warnings.append(f"the model does not move: {why}")
    with ExitStack() as stack:
        part = {
            key: stack.enter_context(atomic_path(path))
            for key, path in outputs.wanted(options, rig).items()
        }
        empty = _draw(mesh, times, rig, part, options)
        warnings += [
            f"view {view} shows nothing in {count} of {len(times)} frames: the model is seen "
            "edge-on, or from behind "
            "through single-sided triangles (draw both sides with --double_sided)"
            for view, count in empty.items()
        ]
        if "rig" in part:
            write_json(
                part["rig"], rig_record(rig.side, input_view=rig.input, source=str(options.path))
            )
        if "cameras" in part:
            side = [view.orbits[0] for view in rig.side]
            record = cameras_record(
                rig.input.orbits[0], side, rig.truth, frames=len(times), size=options.size
            )
            write_json(part["cameras"], record)
        _preview(mesh, times, rig, part, [said, *warnings])
        made = {outputs.paths[k].name: _sizes(p) for k, p in part.items() if k in _Outputs.CLIP}
        record = {
            "source": str(options.path),
            "options": _plain(options),
            "clip": mesh.clip,
            "times": [mesh.begin + time * mesh.duration for time in times],
            "placement": mesh.placement.tolist(),
            "warnings": warnings,
            "files": made,
            "replaced": outputs.there(),  # of which a kill between the renames may leave some
        }
        write_json(part["record"], record)
        # The input video goes first and comes last: no kill leaves pictures of two runs that pass
        # for one clip.
        if os.path.lexists(outputs.paths["pose0"]):
            os.replace(outputs.paths["pose0"], part["pose0"].parent / "old")
        # made by an earlier run under this name: it shows other frames
        for key in stale - set(part):
            _remove(outputs.paths[key])
    for warning in warnings:
        print(f"warning: {warning}")
    return [outputs.paths["sheet"], outputs.paths["video"]]


def _plain(options: MeshOptions) -> dict[str, Any]:
    values = asdict(options).items()
    return {key: str(value) if isinstance(value, Path) else value for key, value in values}


class _Outputs:
    """The files and folders that carry the name of a clip.

    Running the command again replaces what it made, nothing else.
    """

    CLIP = ("pose0", "sync", "eval", "rig", "cameras")

    def __init__(self, data_dir: Path, name: str) -> None:
        endings = (
            "_pose0",
            "_sync",
            "_eval",
            "_rig.json",
            "_cameras.json",
            "_mesh.json",
            "_mesh_preview.png",
            "_mesh_preview.mp4",
        )
        keys = (*self.CLIP, "record", "sheet", "video")
        self.paths = {
            key: data_dir / f"{name}{ending}" for key, ending in zip(keys, endings, strict=True)
        }

    def check(self, options: MeshOptions) -> set[str]:
        """Returns the keys of what an earlier run made.

        Raises:
            UserError: one is there that this command did not make, or that was changed since, and
                is not to be replaced.
        """
        made, ours = [], set()
        record = (
            read_json(self.paths["record"], "record")
            if os.path.exists(self.paths["record"])
            else {}
        )
        if isinstance(record, dict):
            made = [
                names
                for names in (record.get("files"), record.get("replaced"))
                if isinstance(names, dict)
            ]
            source = Path(str(record.get("source", options.path)))
            if not (
                options.name
                or options.overwrite
                or source.absolute() == Path(str(options.path)).absolute()
            ):
                raise UserError(
                    f"{self.paths['pose0']} was made of {source}; give this one another name with "
                    "--name, or replace it with --overwrite"
                )
        for key in self.CLIP:
            path = self.paths[key]
            if not os.path.lexists(path):
                continue
            known = [names[path.name] for names in made if path.name in names]
            if _sizes(path) in known:
                ours.add(key)
            elif not options.overwrite and not (
                key == "rig" and options.rig and path.samefile(options.rig)
            ):
                what = (
                    "was changed after it was made"
                    if known
                    else "exists and was not made by this command"
                )
                raise UserError(
                    f"{path} {what}; choose another --name, or replace it with --overwrite"
                )
        return ours

    def there(self) -> dict[str, Any]:
        """Sizes of what carries the name of the clip now."""
        paths = [self.paths[key] for key in self.CLIP if os.path.lexists(self.paths[key])]
        return {path.name: _sizes(path) for path in paths}

    def wanted(self, options: MeshOptions, rig: _Rig) -> dict[str, Path]:
        """Returns the paths that are to be made, the input video first."""
        usual = [View((orbit,)) for orbit in syncdreamer_rig()]
        unwanted = {
            "sync": not rig.side,
            "eval": not rig.truth,
            "cameras": not rig.truth,
            "rig": rig.input == View() and (not rig.side or list(rig.side) == usual),
        }
        return {key: path for key, path in self.paths.items() if not unwanted.get(key, False)}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sizes(path: Path) -> dict[str, int] | int:
    """Returns the sizes of the files in a folder, or of one file."""
    if not path.is_dir():
        return path.stat().st_size
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    return {p.relative_to(path).as_posix(): p.stat().st_size for p in files}


def _times(mesh: AnimatedMesh, options: MeshOptions) -> list[float]:
    """Returns the times of the frames as fractions of the animation."""
    if not mesh.duration:
        return [0.0] * (options.frames or 1)
    first, last = mesh.begin, mesh.begin + mesh.duration
    start, end = (
        first if options.start is None else options.start,
        last if options.end is None else options.end,
    )
    slack = 1e-6 * max(abs(last), mesh.duration)
    if not start < end <= last + slack or (options.end is not None and end <= first):
        raise UserError(
            f"the animation '{mesh.clip}' lasts from {first:.4g} to {last:.4g} s, but {start:.4g} "
            f"to {end:.4g} s was asked for; change --start or --end"
        )
    frames = options.frames or FRAMES
    steps = frames if options.loop else max(frames - 1, 1)
    return [(start - first + (end - start) * k / steps) / mesh.duration for k in range(frames)]


def _describe(mesh: AnimatedMesh, path: Path, times: list[float]) -> str:
    faces = sum(len(part.faces) for part in mesh.parts)
    if not mesh.duration:
        return f"{path.name}: {faces} triangles at rest, {len(times)} frame{'s' * (len(times) > 1)}"
    others = [clip for clip in mesh.clips if clip != mesh.clip]
    listed = ", ".join(others[:12]) + (f" and {len(others) - 12} more" if len(others) > 12 else "")
    there = f"; other animations: {listed}" if others else ""
    span = (
        f"{mesh.duration:.2f} s"
        if not mesh.begin
        else f"{mesh.begin:.2f} to {mesh.begin + mesh.duration:.2f} s"
    )
    return (
        f"{path.name}: {faces} triangles, animation '{mesh.clip}' of {span} in {len(times)} "
        f"frames{there}"
    )


def _rig(options: MeshOptions, frames: int) -> _Rig:
    camera = Orbit(azimuth=options.azimuth, elevation=options.elevation)
    front, side = View((camera,)), [View((orbit,)) for orbit in syncdreamer_rig()]
    if options.rig is not None:
        side = [View(view.orbits) for view in read_views(options.rig)]
        named = read_input(options.rig)
        if named != View():
            if camera != Orbit():
                raise UserError(
                    f"{options.rig} places the input camera, so that --azimuth and --elevation "
                    "cannot; leave them out"
                )
            front = View(named.orbits)
    truth = {
        f"eval_{k}": replace(front.orbits[0], azimuth=a, elevation=0.0)
        for k, a in enumerate(CONSISTENT4D_AZIMUTHS)
    }
    if options.eval_rig is not None:
        truth = {
            key: replace(orbit, aspect=1.0)
            for key, orbit in read_eval_rig(options.eval_rig).items()
        }
    rig = _Rig(front, side if options.sync else [], truth if options.eval else {})
    for view in (rig.input, *rig.side):
        if len(view.orbits) not in (1, frames):
            raise UserError(
                f"{options.rig} moves a camera through {len(view.orbits)} frames, but {frames} are "
                "drawn; set --frames"
            )
    for orbit in [orbit for frame in range(frames) for orbit in rig.at(frame)]:
        if orbit.radius <= 0.65:
            raise UserError(
                f"a camera at radius {orbit.radius} stands inside the object, which reaches 0.6; "
                "move it away"
            )
    perspective = {(orbit.radius, orbit.fov) for orbit in (front.orbits[0], *rig.truth.values())}
    if len(perspective) > 1:
        raise UserError(
            "the views to score on have other radii or fields of view than the input camera "
            f"({sorted(perspective)}), which a _cameras.json cannot say; make them equal"
        )
    return rig


def _draw(
    mesh: AnimatedMesh, times: list[float], rig: _Rig, part: dict[str, Path], options: MeshOptions
) -> dict[str, int]:
    """Writes all pictures; returns in how many frames a view shows nothing, where it ever does."""
    for key in ("pose0", "sync"):
        if key in part:
            part[key].mkdir()
    for view in rig.truth:
        (part["eval"] / view).mkdir(parents=True)
    lighting = UNLIT if options.unlit else Lighting()
    names = ["input", *(f"sync_{v}" for v in range(len(rig.side))), *rig.truth]
    empty = dict.fromkeys(names, 0)
    with (
        ThreadPoolExecutor(2) as pool,
        tqdm(total=len(times) * len(names), desc="drawing", unit="picture") as bar,
    ):
        saved: list[Future[None]] = []
        for t, time in enumerate(times):
            orbits = rig.at(t)
            pictures = mesh.views(
                [time] * len(orbits), orbits, options.size, options.size, lighting=lighting
            )
            for name, path, picture in zip(names, _paths(part, rig, t), pictures, strict=True):
                empty[name] += not picture[..., 3].any()
                saved.append(pool.submit(_save, path, picture))
            for future in saved:
                future.result()
                bar.update()
            saved = []
    return {name: count for name, count in empty.items() if count}


def _paths(part: dict[str, Path], rig: _Rig, frame: int) -> Iterator[Path]:
    """Yields the files of a frame's pictures in the order of :meth:`_Rig.at`."""
    yield part["pose0"] / f"{frame}.png"
    yield from (part["sync"] / f"{frame}_0_{v}_rgba.png" for v in range(len(rig.side)))
    yield from (part["eval"] / view / f"{frame}.png" for view in rig.truth)


def _save(path: Path, picture: UInt8[np.ndarray, "h w 4"]) -> None:
    Image.fromarray(picture).save(path)


def _preview(
    mesh: AnimatedMesh, times: list[float], rig: _Rig, part: dict[str, Path], notes: list[str]
) -> None:
    """A contact sheet of some frames from some sides, and a video of the same sides."""
    count = 1 + len(rig.side) + len(rig.truth)
    sides = (
        [1 + len(rig.side) * k // 4 for k in range(4)]
        if len(rig.side) > 4
        else [*range(1, 1 + len(rig.side))]
    )
    rows = [0, *sides, *range(1 + len(rig.side), count)]
    frames = np.unique(
        np.linspace(0, len(times) - 1, min(SHOWN, len(times))).round().astype(int)
    ).tolist()

    def picture(frame: int, view: int) -> UInt8[np.ndarray, "h w 4"]:
        return read_image(list(_paths(part, rig, frame))[view])

    labels = []
    for view in rows:
        orbit = rig.at(0)[view]
        kind = (
            "input"
            if view == 0
            else f"side {view - 1}"
            if view <= len(rig.side)
            else list(rig.truth)[view - 1 - len(rig.side)]
        )
        labels.append(f"{kind}: {orbit.azimuth:g}, {orbit.elevation:g}")
    write_sheet(
        part["sheet"],
        [[picture(frame, view) for frame in frames] for view in rows],
        row_labels=labels,
        column_labels=[f"frame {frame}" for frame in frames],
        notes=[line for note in notes for line in textwrap.wrap(note, 170)],
    )
    step = (times[1] - times[0]) * mesh.duration if len(times) > 1 else 0.0
    fps = min(max(1 / step, 1.0), 60.0) if step > 0 else PREVIEW_FPS
    shown = rows[: 1 + len(sides)]
    write_preview_video(
        part["video"],
        (
            np.concatenate([picture(frame, view) for view in shown], 1)
            for frame in range(len(times))
        ),
        fps,
    )
