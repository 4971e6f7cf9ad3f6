"""The recipe that makes the input view of a clip.

Source -> frames -> masks -> one crop -> ``{name}_pose0`` and a preview.
"""

from __future__ import annotations

import math
import os
import textwrap
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from tqdm import tqdm

from ..errors import UserError, require_folder_name
from ..io.files import atomic_path, read_json, write_json
from ..io.images import read_image, resize_rgba
from ..io.names import name_of
from ..io.sheets import write_preview_video, write_sheet
from ..ranges import Options, Range
from .crop import FILL, Crop, plan_crop
from .cutout import CutOut, MaskChoice, cut_out, steady_masks
from .judge import judge_clip
from .masks import fill_hidden, true_colors
from .sources import MAX_FRAMES, Pick, Shots, open_source

PREVIEW_FPS = 8.0  # of sources that have no time


@dataclass(frozen=True)
class FramesOptions(Options):
    """Options of the input view of a clip."""

    path: Path | None = None
    """A video, an animated GIF, PNG or WebP, a folder of pictures, or one picture."""
    name: str = ""
    """Name of the clip: frames go to {data_dir}/{name}_pose0. Empty: the name of the source."""
    data_dir: Path = Path("data")
    """Where clips are kept."""
    frames: Annotated[int | None, Range(1, MAX_FRAMES)] = None
    """How many frames, evenly over the time; None: all up to 32, and of longer clips every n-th."""
    fps: Annotated[float | None, Range(0.01, 1000)] = None
    """Frames per second of the source's time to take, in place of a number of frames."""
    start: Annotated[float, Range(0, 1e6)] = 0.0
    """Seconds into the video to start at (in a folder: position of the first picture)."""
    end: Annotated[float | None, Range(0, 1e6)] = None
    """Seconds into the video to end at (in a folder: position of the last picture); None: its
    end."""
    mask: Path | None = None
    """Masks made elsewhere, one per frame of the source or per frame taken: a folder, a video, or a
    .npy or .npz file; labels, black and white, or soft."""
    mask_label: str = ""
    """What of --mask is the object: the number of a label (or several, 1,3), the name of an
    object's folder, or matte or inverted, which take brightness as it is or turned round; empty:
    decided by content, and said."""
    matting: Path | None = None
    """Local matting model: an .onnx file as rembg uses them, or the folder of a SAM 2
    checkpoint."""
    point: Annotated[tuple[float, float] | None, Range(0, 1)] = None
    """Where the object is in the first frame, as fractions of width and height, for SAM 2; None:
    guessed."""
    objects: Literal["all", "largest"] = "all"
    """Keep everything before the background but specks, or the largest part alone."""
    stabilise: Annotated[bool, tyro.conf.arg(aliases=["--stabilize"])] = False
    """Let the crop follow an object that walks across the frame; its path is recorded."""
    size: Annotated[int, Range(16, 4096)] = 512
    """Side of the frames in pixels, at most; an object that is smaller in the source is not
    enlarged."""
    fill: Annotated[float, Range(0.1, 1)] = FILL
    """How much of a frame the longer side of everything the object covers takes; SyncDreamer wants
    200 of 256 pixels."""
    overwrite: bool = False
    """Replace a folder even if its frames were not made by this command, or were changed since."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_label and self.mask is None:
            raise self.error(
                f"{{mask_label}} {self.mask_label} says what of {{mask}} is the object, and there "
                "is no {mask}; give it"
            )


def make_frames(options: FramesOptions, *, still: bool = False) -> Path:
    """Makes ``{name}_pose0``, a contact sheet and a video of it, and a record; returns the folder.

    Args:
        options: the source and what is done with it.
        still: one picture is what is wanted, and nobody needs to be warned that it does not move.

    Raises:
        UserError: the source, the masks or the options are wrong, or what is there already is not
            ours to replace.
    """
    if options.path is None:
        raise UserError("--path is missing: give a video, a gif, a folder of pictures or a picture")
    if options.name:
        require_folder_name("--name", options.name)
    name = options.name or name_of(options.path).removesuffix("_pose0") or "clip"
    folder, record_path = (
        options.data_dir / f"{name}_pose0",
        options.data_dir / f"{name}_frames.json",
    )
    _check_replaceable(folder, record_path, options)
    new_home = not os.path.exists(options.data_dir)
    try:
        warnings = _make(options, name, folder, record_path, still=still)
    except BaseException:
        if new_home:  # nothing was made, so nothing is left: not even an empty folder
            with suppress(OSError):
                options.data_dir.rmdir()
        raise
    for warning in warnings:
        print(f"warning: {warning}")
    return folder


def _make(
    options: FramesOptions, name: str, folder: Path, record_path: Path, *, still: bool
) -> list[str]:
    """The steps of :func:`make_frames`; returns its warnings."""
    assert options.path is not None
    with ExitStack() as stack:
        # What is entered first is renamed last: the folder, so that frames are never there without
        # all that belongs to them.
        part = stack.enter_context(atomic_path(folder))
        part.mkdir()
        scratch = part.parent / "scratch"
        scratch.mkdir()

        # 1. The frames, as files.
        pick = Pick(options.frames, options.fps, options.start, options.end)
        shots = open_source(options.path, pick, scratch)
        print(shots.said[0].upper() + shots.said[1:] + ".")

        # 2. The masks, frame by frame and then over time.
        choice = MaskChoice(options.mask, options.mask_label, options.matting, options.point)
        cut = cut_out(shots, choice, scratch, str(options.path))
        facts, points = steady_masks(cut, largest_only=options.objects == "largest")
        print(f"Cut out by {cut.said}.")

        # 3. One crop for all.
        if not any(f.box for f in facts):
            raise UserError(
                f"{options.path} shows no object: cut out by {cut.said}, every frame is empty; "
                "give --mask or --matting"
            )
        crop = plan_crop(facts, points, follow=options.stabilise, fill=options.fill)
        size = min(options.size, max(64, 8 * math.ceil(crop.side / 8)))

        # 4. The frames of the clip, then everything appears at once.
        finished = _write(part, shots, cut, crop, size)
        warnings = [
            *([] if still else shots.warnings),
            *judge_clip(facts, finished, crop, size, followed=options.stabilise),
        ]
        if (options.data_dir / f"{name}_sync").exists():
            warnings.append(
                f"{name}_sync holds side views of the frames that were here before: make them "
                "again or remove it"
            )
        previews = (
            folder.with_name(f"{folder.name}_preview.mp4"),
            folder.with_name(f"{folder.name}_preview.png"),
        )
        record_part, video, sheet = (
            stack.enter_context(atomic_path(p)) for p in (record_path, *previews)
        )
        _preview(sheet, video, part, shots, crop, [shots.said, f"cut out by {cut.said}", *warnings])
        record = {
            "source": str(options.path),
            "options": {
                k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()
            },
            "source_frames": list(shots.numbers),
            "times": list(shots.times),
            "mask": cut.said,
            "crop": {
                "side": crop.side,
                "path": crop.centers.round(3).tolist(),
                "scale": size / crop.side,
                "size": size,
            },
            "warnings": warnings,
            "files": _sizes(part),
            # A kill between the last two renames leaves this record beside the folder that was here
            # before.
            "replaced": _sizes(folder) if folder.is_dir() else {},
        }
        write_json(record_part, record)
    return warnings


def _sizes(folder: Path) -> dict[str, int]:
    return {
        p.name: p.stat().st_size for p in sorted(folder.iterdir()) if not p.name.startswith(".")
    }


def _check_replaceable(folder: Path, record_path: Path, options: FramesOptions) -> None:
    """Running a command again replaces what it made, but nothing else."""
    if options.overwrite or not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; move it or choose another --name")
    record = read_json(record_path, "record") if os.path.exists(record_path) else None
    if not isinstance(record, dict) or not isinstance(record.get("files"), dict):
        raise UserError(
            f"{folder} exists and was not made by this command; choose another --name, or replace "
            "it with --overwrite"
        )
    if _sizes(folder) not in (record["files"], record.get("replaced")):
        raise UserError(
            f"{folder} was changed after it was made; choose another --name, or replace it with "
            "--overwrite"
        )
    source = Path(str(record.get("source")))
    if (
        not options.name
        and options.path is not None
        and source.absolute() != options.path.absolute()
    ):
        raise UserError(
            f"{folder} was made of {source}; give this one another name with --name, or replace it "
            "with --overwrite"
        )


def _write(folder: Path, shots: Shots, cut: CutOut, crop: Crop, size: int) -> list[Path]:
    files = []
    for i in tqdm(range(len(cut.masks)), desc="writing", unit="frame", leave=False):
        picture = true_colors(shots.image(i), cut.mask(i), cut.behind[i])
        files.append(folder / f"{i}.png")
        Image.fromarray(fill_hidden(resize_rgba(picture, size, size, crop.box(i)))).save(files[-1])
    return files


def _preview(
    sheet: Path, video: Path, folder: Path, shots: Shots, crop: Crop, notes: list[str]
) -> None:
    count = len(shots.files)
    shown = np.unique(np.linspace(0, count - 1, 32).round().astype(int)).tolist()
    sources = np.unique(np.linspace(0, count - 1, 8).round().astype(int)).tolist()
    rows = [[_with_crop(shots.image(i), crop, i) for i in sources]]
    labels = ["source"]
    for k in range(0, len(shown), 8):
        rows.append([read_image(folder / f"{i}.png") for i in shown[k : k + 8]])
        labels.append(f"{shown[k]} to {shown[k : k + 8][-1]}")
    lines = [line for note in notes for line in textwrap.wrap(note, 190)]
    write_sheet(sheet, rows, row_labels=labels, notes=lines, cell=160)
    fps = min(max(shots.fps or PREVIEW_FPS, 1.0), 60.0)
    write_preview_video(video, (read_image(folder / f"{i}.png") for i in range(count)), fps)


def _with_crop(
    image: UInt8[np.ndarray, "h w 4"], crop: Crop, frame: int
) -> UInt8[np.ndarray, "H W 4"]:
    """A source frame, small, with its crop drawn in."""
    scale = 320 / max(image.shape[:2])
    small = Image.fromarray(
        resize_rgba(
            image, max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        )
    )
    ImageDraw.Draw(small).rectangle(
        [value * scale for value in crop.box(frame)], outline=(255, 0, 0, 255), width=3
    )
    return np.asarray(small)
