"""Makes datasets of procedural objects or animated glTF files in many processes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from tqdm import tqdm

from ..clip import Orbit
from ..errors import UserError
from ..io.files import atomic_path, read_json, write_json
from ..io.images import read_image, resize_rgba
from ..io.sheets import write_sheet
from ..io.steps import Step
from ..mesh import AnimatedMesh, load_animated_mesh
from ..native import cores, set_threads
from ..ranges import OneOf, Options, Range
from ..synth import draw_views, make_object, options_for
from ..synth.objects import FAMILIES
from .curation import CurationOptions, measure, verdict
from .dataset import (
    COLUMNS,
    FORMAT,
    MAX_LINE,
    SEQUENCES,
    Layout,
    append_line,
    from_sheet,
    read_manifest,
    repair_manifest,
    save_sheet,
)

THUMB = 96
PREVIEW_ROWS = 12  # of the accepted and of the rejected


@dataclass(frozen=True)
class DatasetOptions(Options):
    """Options of a dataset."""

    source: str = "synth"
    """A folder of animated .glb and .gltf files, every animation of which becomes an asset, or
    "synth": procedural objects."""
    exclude: tuple[str, ...] = ()
    """Of a folder: files left out, as patterns for their path inside it, such as "test/*"
    "*Fox*"."""
    out: Path = Path("data/4d")
    """The dataset's folder; a dataset that is there goes on."""
    count: Annotated[int, Range(0, 10**9)] = 1000
    """Of "synth": how many objects to make, the rejected among them. May grow from run to run."""
    seed: Annotated[int, Range(0, 2**53)] = 0
    """Of "synth": the first object's seed."""
    family: Annotated[str | None, OneOf(FAMILIES)] = None
    """Of "synth": only this family of objects."""
    size: Annotated[int, Range(8, 1024)] = 256
    """Pixels along a side."""
    frames: Annotated[int, Range(2, 120)] = 24
    """Pictures per sequence."""
    elevation: Annotated[float, Range(-89, 89)] = 0.0
    """Of the orbits, degrees."""
    workers: Annotated[int, Range(0, 1024)] = 0
    """Processes; 0: one per core. The result does not depend on it."""
    curation: CurationOptions = field(default_factory=CurationOptions)


@dataclass(frozen=True)
class Entry:
    """One candidate.

    Attributes:
        name: unique, fit for a folder.
        origin: what it is made from, as JSON values.
        problem: why it cannot be drawn, where that is known already.
    """

    name: str
    origin: dict[str, Any]
    problem: str | None = None


@runtime_checkable
class Source(Protocol):
    """A source of assets, which travels to other processes."""

    def entries(self) -> Iterator[Entry]:
        """The candidates, always in the same order; called in one process."""
        ...

    def total(self) -> int | None:
        """Returns the number of candidates, where it is known."""
        ...

    def views(
        self, entry: Entry, times: Float[ndarray, " b"], orbits: Sequence[Orbit], size: int
    ) -> UInt8[ndarray, "b h w 4"]:
        """Pictures of a candidate, each at its own time in [0, 1] and from its own camera.

        Raises:
            UserError: it cannot be drawn.
        """
        ...


@dataclass(frozen=True)
class SynthSource:
    """Procedural objects of consecutive seeds."""

    seed: int
    count: int
    family: str | None

    def entries(self) -> Iterator[Entry]:
        """One per seed."""
        for seed in range(self.seed, self.seed + self.count):
            yield Entry(f"synth-{seed:09d}", {"seed": seed, "family": self.family})

    def total(self) -> int:
        """All of them."""
        return self.count

    def views(
        self, entry: Entry, times: Float[ndarray, " b"], orbits: Sequence[Orbit], size: int
    ) -> UInt8[ndarray, "b h w 4"]:
        """Drawn at the density that the size wants."""
        subject = make_object(
            entry.origin["seed"], options_for(size, family=entry.origin["family"])
        )
        return draw_views(subject, times, orbits, size)


@dataclass(frozen=True)
class MeshSource:
    """Every animation of every .glb and .gltf under a folder."""

    folder: Path
    exclude: tuple[str, ...] = ()

    def entries(self) -> Iterator[Entry]:
        """Files by name, their animations in the file's order.

        An unreadable file is one candidate with a problem.
        """
        for path in self._files():
            place = path.relative_to(self.folder).as_posix()
            try:
                clips: Sequence[str | None] = list(load_animated_mesh(path).clips)
                problem = None if clips else "has no animation"
            except UserError as error:
                clips, problem = [], f"unreadable: {error}".replace(f"{self.folder}{os.sep}", "")
            for clip in clips or [None]:
                words = (
                    re.sub(r"[^A-Za-z0-9]+", "_", f"{path.stem}-{clip or ''}")[:80].strip("_")
                    or "asset"
                )
                # Two files of one name, or two clips whose letters are not kept, still have names
                # of their own.
                digest = hashlib.sha256(f"{place}\n{clip}".encode()).hexdigest()[:8]
                yield Entry(f"{words}-{digest}", {"file": place, "clip": clip}, problem)

    def total(self) -> None:
        """Known only when every file has been opened."""

    def views(
        self, entry: Entry, times: Float[ndarray, " b"], orbits: Sequence[Orbit], size: int
    ) -> UInt8[ndarray, "b h w 4"]:
        """Drawn by the mesh renderer."""
        mesh = _mesh(self.folder / entry.origin["file"], entry.origin["clip"])
        return np.asarray(mesh.views(times.tolist(), orbits, size, size))

    def _files(self) -> list[Path]:
        if not os.path.isdir(self.folder):
            raise UserError(
                f"--source is {self.folder}, which is no folder; give a folder of .glb and .gltf "
                "files, or synth"
            )
        found = [
            p
            for p in self.folder.rglob("*")
            if p.suffix.lower() in (".glb", ".gltf") and os.path.isfile(p)
        ]
        if not found:
            raise UserError(
                f"{self.folder} holds no .glb or .gltf file, at any depth; put animated models "
                "there"
            )
        places = {p.relative_to(self.folder).as_posix(): p for p in found}
        return [
            places[k]
            for k in sorted(places)
            if not any(fnmatchcase(k, pattern) for pattern in self.exclude)
        ]


@lru_cache(maxsize=1)
def _mesh(path: Path, clip: str | None) -> AnimatedMesh:
    return load_animated_mesh(path, clip)


def make_dataset(options: DatasetOptions) -> Path:
    """Makes a dataset, or goes on with one, and returns its contact sheet.

    Raises:
        UserError: the source is unusable, or the folder holds a dataset that was made otherwise or
            is being made now.
    """
    if options.source == "synth":
        return build(SynthSource(options.seed, options.count, options.family), options)
    return build(MeshSource(Path(options.source), options.exclude), options)


def build(source: Source, options: DatasetOptions) -> Path:
    """As :func:`make_dataset`, from any source."""
    try:
        return _build(source, options)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise UserError(
            f"cannot write the dataset {options.out}: {error.strerror or error}{where}; free the "
            "disk or choose another --out, and run the same command again to go on"
        ) from error


def _build(source: Source, options: DatasetOptions) -> Path:
    entries = source.entries()
    first = next(entries, None)  # a source that is unusable says so before anything is written
    layout = Layout(options.size, options.frames, options.elevation)
    options.out.mkdir(parents=True, exist_ok=True)
    with _locked(options.out):
        _describe(options, layout)
        repair_manifest(options.out)
        for leftover in [
            *(options.out / "assets").glob(".*"),
            *(options.out / "rejected").glob(".*"),
        ]:
            shutil.rmtree(leftover, ignore_errors=True)
        done, twins, accepted = set(), {}, 0
        for record in read_manifest(options.out):
            done.add(record["id"])
            if record["accepted"]:
                accepted += 1
                twins[record.get("digest")] = record["id"]
        candidates = (e for e in _from_first(first, entries) if e.name not in done)
        total = source.total()
        with tqdm(
            desc="assets", total=total, initial=len(done), unit="asset", mininterval=0.5
        ) as bar:
            for record in _in_order(candidates, source, options, layout):
                if (
                    record["accepted"]
                    and (twin := twins.setdefault(record["digest"], record["id"])) != record["id"]
                ):
                    _turn_away(options.out / "assets" / record["id"], options.out / "rejected")
                    record = {**record, "accepted": False, "reason": f"duplicate of {twin}"}
                append_line(options.out, record)
                accepted += record["accepted"]
                bar.update()
                bar.set_postfix(accepted=accepted, refresh=False)
        return _preview(options.out, layout)


def _from_first(first: Entry | None, rest: Iterator[Entry]) -> Iterator[Entry]:
    if first is not None:
        yield first
        yield from rest


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps a second run out of the folder; the lock ends with the process, however it ends."""
    with (folder / ".lock").open("w") as file:
        try:
            import fcntl  # absent on Windows, where nothing keeps a second run out
        except ImportError:
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another run is making the dataset {folder}; wait for it, or choose another --out"
            ) from None
        yield


def _describe(options: DatasetOptions, layout: Layout) -> None:
    """Writes dataset.json, or checks that the one that is there was made in the same way."""
    source = (
        {"kind": "synth", "seed": options.seed, "family": options.family}
        if options.source == "synth"
        else {"kind": "files", "exclude": list(options.exclude)}
    )
    record = {
        "format": FORMAT,
        **asdict(layout),
        "curation": asdict(options.curation),
        "source": source,
    }
    path = options.out / "dataset.json"
    if not path.exists():
        write_json(path, record)
        return
    there = read_json(path, "dataset description", MAX_LINE)
    for key, value in record.items():
        if not isinstance(there, dict) or there.get(key) != value:
            was = there.get(key) if isinstance(there, dict) else there
            raise UserError(
                f"{options.out} holds a dataset made with {key} {json.dumps(was)}, not "
                f"{json.dumps(value)}; give the same options, or another --out"
            )


# --- one asset ------------------------------------------------------------------------------------


def make_asset(
    entry: Entry, source: Source, options: DatasetOptions, layout: Layout
) -> dict[str, Any]:
    """Draws a candidate, judges it, writes what it leaves, and returns its line of the manifest."""
    record: dict[str, Any] = {
        "id": entry.name,
        "origin": entry.origin,
        "accepted": False,
        "reason": entry.problem,
    }
    folder = options.out / "assets" / entry.name
    step = Step(
        folder, "asset.json", {"id": entry.name}, frozenset({"accepted"}), "this asset", None
    )
    if folder.is_dir():  # made by a run that was killed before it could add the line
        made = step.kept()
        if (
            made is None
            or not isinstance(made["accepted"], bool)
            or (made["accepted"] and not isinstance(made.get("digest"), str))
        ):
            raise UserError(
                f"{folder / step.record} is no record of this asset; delete {folder} to have it "
                "made again"
            )
        return made
    if entry.problem is not None:
        return record
    times, orbits = layout.shots()
    try:
        pictures = source.views(entry, times, orbits, layout.size)
    except UserError as error:
        return {**record, "reason": f"unreadable: {error}"}
    sequences: dict[str, ndarray] = dict(zip(SEQUENCES, np.split(pictures, 3), strict=True))
    figures = measure(**sequences)
    record["figures"] = asdict(figures)
    record["reason"] = verdict(figures, options.curation)
    if record["reason"] is not None:
        _save_strip(options.out / "rejected" / f"{entry.name}.png", sequences)
        return record
    record |= {"accepted": True, "digest": hashlib.sha256(pictures.tobytes()).hexdigest()[:32]}

    def fill(part: Path) -> dict[str, Any]:
        for name, sequence in sequences.items():
            save_sheet(part / f"{name}.png", sequence)
        return record

    return step.keep(fill)


def _strip(sequences: dict[str, ndarray]) -> list[ndarray]:
    """Some pictures of each sequence, small, to be looked at."""
    count = len(sequences["static"])
    moments = [("static", 0), ("static", count // 4), ("static", count // 2)]
    moments += [("dynamic", k * count // 6) for k in (1, 3, 5)] + [
        ("front", k * count // 3) for k in (1, 2)
    ]
    return [resize_rgba(sequences[name][k], THUMB, THUMB) for name, k in moments]


def _save_strip(path: Path, sequences: dict[str, ndarray]) -> None:
    with atomic_path(path) as part:
        Image.fromarray(np.concatenate(_strip(sequences), 1)).save(part)


def _turn_away(folder: Path, rejected: Path) -> None:
    """Moves an asset that was accepted by itself to the rejected."""
    layout_size = read_image(folder / "static.png").shape[1] // COLUMNS
    sequences = {
        name: from_sheet(read_image(folder / f"{name}.png"), layout_size) for name in SEQUENCES
    }
    _save_strip(rejected / f"{folder.name}.png", sequences)
    # Out of the way by one rename: what a kill leaves of it is a leftover, not an asset.
    gone = folder.with_name(f".{folder.name}")
    os.replace(folder, gone)
    shutil.rmtree(gone)


# --- many processes -------------------------------------------------------------------------------


def _in_order(
    entries: Iterator[Entry], source: Source, options: DatasetOptions, layout: Layout
) -> Iterator[dict[str, Any]]:
    """The lines of all candidates, in their order, made by as many processes as asked for."""
    workers = options.workers or cores()
    if workers == 1:
        for entry in entries:
            yield make_asset(entry, source, options, layout)
        return
    # a fork would copy the threads' locks in whatever state they are
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(workers, context, _start_worker))
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        ahead: deque[Future[dict[str, Any]]] = deque()
        try:
            for entry in entries:
                ahead.append(pool.submit(make_asset, entry, source, options, layout))
                if len(ahead) >= 4 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process died, as when memory runs out; run the same command again to go "
                "on, with fewer --workers"
            ) from None


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    set_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed, which would write beside the run that takes over."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


# --- the contact sheet ----------------------------------------------------------------------------


def _preview(folder: Path, layout: Layout) -> Path:
    """Draws preview.png: the first accepted and rejected assets, with figures and counts."""
    shown: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    reasons: dict[str, int] = {}
    for record in read_manifest(folder):
        key = (
            "accepted"
            if record["accepted"]
            else str(record["reason"]).split(":")[0].split(" of ")[0]
        )
        reasons[key] = reasons.get(key, 0) + 1
        if len(shown[record["accepted"]]) < PREVIEW_ROWS:
            shown[record["accepted"]].append(record)
    rows, labels = [], []
    for record in (*shown[True], *shown[False]):
        if record["accepted"]:
            sheets = {
                n: read_image(folder / "assets" / record["id"] / f"{n}.png") for n in SEQUENCES
            }
            rows.append(
                _strip({n: from_sheet(s, layout.size)[: layout.frames] for n, s in sheets.items()})
            )
        else:
            path = folder / "rejected" / f"{record['id']}.png"
            rows.append(list(from_sheet(read_image(path), THUMB)) if path.exists() else [])
        labels.append(f"{record['id'][:34]}: {(record['reason'] or 'accepted')[:40]}")
    columns = ["still", "90", "180", "moving", "", "", "front", ""]
    notes = [
        "; ".join(
            f"{count} {reason}"
            for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
        )
        or "no assets"
    ]
    path = folder / "preview.png"
    write_sheet(path, rows, row_labels=labels, column_labels=columns, notes=notes, cell=THUMB)
    return path
