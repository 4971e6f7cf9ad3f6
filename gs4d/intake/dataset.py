"""A 4D dataset on disk, as Diffusion4D describes it.

Per asset a still orbit, an orbit while time advances, and the front view.

``assets/{id}/static.png``, ``dynamic.png`` and ``front.png`` are sheets of ``frames`` square RGBA
pictures, six in a row: lossless, an eighth of the raw size at 64 pixels and a sixteenth at 256,
decoded as fast as a compressed array, and open to the eye. ``asset.json`` beside them is the
asset's line of ``manifest.jsonl``, which also tells what was rejected and why;
``rejected/{id}.png`` shows it. ``dataset.json`` holds the options that all assets share.

An asset's folder appears by one rename and its line is appended after it, in the order of the
source, by one process; a run that was killed goes on where it was, and what it leaves is what an
undisturbed run leaves, for any number of workers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from ..clip import Orbit
from ..errors import UserError
from ..io.files import read_json
from ..io.foreign import foreign
from ..io.images import read_image

FORMAT = 1
COLUMNS = 6
SEQUENCES = ("static", "dynamic", "front")
# of an asset: safe as the name of a folder
NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,150}", re.ASCII)
MAX_LINE = 1 << 16


@dataclass(frozen=True)
class Layout:
    """Size, frames and cameras that all assets of a dataset share.

    Attributes:
        size: pixels along a side of each square picture.
        frames: pictures per sequence, equal steps of time and of azimuth.
        elevation: of the orbits, degrees; the front view is at elevation 0.
    """

    size: int
    frames: int
    elevation: float

    @property
    def times(self) -> Float[ndarray, "f"]:
        """Times in [0, 1) of "dynamic" and "front"; a loop's first frame is not shown twice."""
        return np.arange(self.frames) / self.frames

    @property
    def orbits(self) -> list[Orbit]:
        """Cameras of "static" and "dynamic"."""
        return [Orbit(360.0 * k / self.frames, self.elevation) for k in range(self.frames)]

    def shots(self) -> tuple[Float[ndarray, "b"], list[Orbit]]:
        """Times and cameras of all pictures of an asset, sequence after sequence."""
        times = np.concatenate([np.zeros(self.frames), self.times, self.times])
        return times, [*self.orbits, *self.orbits, *[Orbit()] * self.frames]


@dataclass(frozen=True)
class Example:
    """One asset of a dataset. Its pictures are decoded whenever they are asked for, and not kept.

    Attributes:
        name: its id.
        folder: where its sheets are.
        layout: times and cameras.
    """

    name: str
    folder: Path
    layout: Layout

    @property
    def static(self) -> UInt8[Tensor, "f h w 4"]:
        """The orbit at time 0; RGBA with straight alpha."""
        return self.pictures("static")

    @property
    def dynamic(self) -> UInt8[Tensor, "f h w 4"]:
        """The orbit while time advances."""
        return self.pictures("dynamic")

    @property
    def front(self) -> UInt8[Tensor, "f h w 4"]:
        """The view from azimuth and elevation 0 while time advances."""
        return self.pictures("front")

    @property
    def record(self) -> dict[str, Any]:
        """Its line of the manifest."""
        return read_json(self.folder / "asset.json", "asset record", MAX_LINE)

    def pictures(self, sequence: str) -> UInt8[Tensor, "f h w 4"]:
        """The pictures of one of SEQUENCES.

        Raises:
            UserError: the sheet is absent, damaged or of another size.
        """
        path = self.folder / f"{sequence}.png"
        sheet = read_image(path, need_alpha=True)
        rows, size = -(-self.layout.frames // COLUMNS), self.layout.size
        if sheet.shape != (rows * size, COLUMNS * size, 4):
            raise UserError(
                f"{path} is {sheet.shape[1]}x{sheet.shape[0]} pixels, wanted "
                f"{COLUMNS * size}x{rows * size}; delete "
                "this asset's folder and its line in manifest.jsonl, and make the dataset again"
            )
        return torch.from_numpy(from_sheet(sheet, size)[: self.layout.frames])


class Dataset(Sequence[Example]):
    """The accepted assets of a dataset, in order; holds their names and nothing else.

    Safe to hand to loader processes.
    """

    def __init__(self, folder: Path, layout: Layout, names: list[str]) -> None:
        self.folder, self.layout, self.names = folder, layout, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        name = self.names[index]
        return Example(name, self.folder / "assets" / name, self.layout)


def read_dataset(folder: Path) -> Dataset:
    """Opens a dataset that `gs4d dataset` wrote, or is still writing.

    The assets that are accepted so far.

    Raises:
        UserError: the folder holds no dataset, or its manifest is damaged.
    """
    layout = read_layout(folder)
    names = [record["id"] for record in read_manifest(folder) if record["accepted"]]
    return Dataset(folder, layout, names)


def read_layout(folder: Path) -> Layout:
    """Reads the layout that all assets in ``folder`` share.

    Raises:
        UserError: the folder holds no dataset of this format.
    """
    path = folder / "dataset.json"
    if not os.path.isfile(path):
        raise UserError(
            f"{folder} holds no dataset.json; make a dataset there: gs4d dataset --out {folder}"
        )
    record = read_json(path, "dataset description", MAX_LINE)
    try:
        layout = Layout(int(record["size"]), int(record["frames"]), float(record["elevation"]))
        if record["format"] == FORMAT and 1 <= layout.size <= 2048 and 1 <= layout.frames <= 1000:
            return layout
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise UserError(
        f"{path} describes no dataset of format {FORMAT}; make the dataset again in another folder"
    )


def read_manifest(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a manifest; a last line that was cut short while it was written is left out.

    Raises:
        UserError: another line is damaged, or names no asset.
    """
    path = folder / "manifest.jsonl"
    if not os.path.exists(path):
        return
    with foreign(path, "manifest"), path.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_LINE):
            number += 1
            if not line.endswith(b"\n") and len(line) < MAX_LINE:
                return
            record = parse_line(line)
            if record is None:
                raise UserError(
                    f"line {number} of {path} is no asset; delete the line, and make the dataset "
                    "again to go on"
                )
            yield record


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The record of an asset as JSON; None where it is none."""
    try:
        record = json.loads(line)
        return (
            record
            if isinstance(record["accepted"], bool) and NAME.fullmatch(record["id"])
            else None
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def repair_manifest(folder: Path) -> None:
    """Cuts a torn last line off, which a power cut or a kill may leave."""
    path = folder / "manifest.jsonl"
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        whole = end
        while whole:
            start = max(0, whole - MAX_LINE)
            file.seek(start)
            newline = file.read(whole - start).rfind(b"\n")
            if newline >= 0:
                whole = start + newline + 1
                break
            whole = start
        if whole < end:
            file.truncate(whole)


def append_line(folder: Path, record: dict[str, Any]) -> None:
    """Adds a line to the manifest; it is on the disk when this returns."""
    with (folder / "manifest.jsonl").open("ab") as file:
        file.write(json.dumps(record, sort_keys=True, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def to_sheet(pictures: UInt8[ndarray, "f h w 4"]) -> UInt8[ndarray, "H W 4"]:
    """Pictures side by side, COLUMNS in a row; the last row is filled with nothing."""
    count, height, width, _ = pictures.shape
    rows = -(-count // COLUMNS)
    grid = np.zeros((rows * COLUMNS, height, width, 4), np.uint8)
    grid[:count] = np.where(pictures[..., 3:] == 0, 0, pictures)
    return (
        grid.reshape(rows, COLUMNS, height, width, 4)
        .swapaxes(1, 2)
        .reshape(rows * height, COLUMNS * width, 4)
    )


def from_sheet(sheet: UInt8[ndarray, "H W 4"], size: int) -> UInt8[ndarray, "f h w 4"]:
    """All cells of a sheet, those of the last row that were never filled too."""
    rows, columns = sheet.shape[0] // size, sheet.shape[1] // size
    return np.ascontiguousarray(sheet.reshape(rows, size, columns, size, 4).swapaxes(1, 2)).reshape(
        -1, size, size, 4
    )


def save_sheet(path: Path, pictures: UInt8[ndarray, "f h w 4"]) -> None:
    """Writes a sheet; not atomic by itself.

    The fast level is a tenth larger than the default and takes half the time.
    """
    Image.fromarray(to_sheet(pictures)).save(path, compress_level=1)
