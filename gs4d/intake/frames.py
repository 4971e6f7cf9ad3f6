"""The recipe that makes the input view of a clip: source -> frames -> masks -> one crop -> ``{name}_pose0`` and a preview."""

from __future__ import annotations

import math
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from tqdm import tqdm

from ..errors import UserError, require_folder_name, require_ranges
from ..io.files import atomic_path, read_json, write_json
from ..io.images import read_image, resize_rgba
from ..io.sheets import write_preview_video, write_sheet
from ..prior.matting import load_matting
from .backdrop import MIN_SHARE, Backdrop, find_backdrop, key
from .crop import FILL, Crop, outermost, plan_crop
from .judge import judge_clip
from .masks import MaskFacts, fill_hidden, mask_facts, read_mask, steady, true_colors
from .sources import Pick, Shots, open_source, pictures_in

Behind = Backdrop | Literal["alpha", "picture"]
Mask = UInt8[np.ndarray, "h w"]
PREVIEW_FPS = 8.0  # of sources that have no time


@dataclass(frozen=True)
class FramesOptions:
    """How the input view of a clip is made."""

    path: Path | None = None
    """A video, an animated GIF, PNG or WebP, a folder of pictures, or one picture."""
    name: str = ""
    """Name of the clip: frames go to {data_dir}/{name}_pose0. Empty: the name of the source."""
    data_dir: Path = Path("data")
    """Where clips are kept."""
    frames: int | None = None
    """How many frames, evenly over the time; None: all up to 32, and of longer clips every n-th."""
    fps: float | None = None
    """Frames per second of the source's time to take, in place of a number of frames."""
    start: float = 0.0
    """Seconds into the video to start at (in a folder: position of the first picture)."""
    end: float | None = None
    """Seconds into the video to end at (in a folder: position of the last picture); None: its end."""
    mask: Path | None = None
    """Folder of masks made elsewhere, white on the object: one per picture of the source, or one per frame taken."""
    matting: Path | None = None
    """Local matting model: an .onnx file as rembg uses them, or the folder of a SAM 2 checkpoint."""
    point: tuple[float, float] | None = None
    """Where the object is in the first frame, as fractions of width and height, for SAM 2; None: guessed."""
    objects: Literal["all", "largest"] = "all"
    """Keep everything before the background but specks, or the largest part alone."""
    stabilise: bool = False
    """Let the crop follow an object that walks across the frame; its path is recorded."""
    size: int = 512
    """Side of the frames in pixels, at most; an object that is smaller in the source is not enlarged."""
    fill: float = FILL
    """How much of a frame the longer side of everything the object covers takes; SyncDreamer wants 200 of 256 pixels."""
    overwrite: bool = False
    """Replace a folder even if its frames were not made by this command, or were changed since."""

    def check(self) -> None:
        """Raises a :class:`UserError` for values out of range."""
        require_ranges("frames", self, size=(16, 4096), fill=(0.1, 1.0), start=(0.0, 1e6))
        for option in ("frames", "fps", "end"):
            if getattr(self, option) is not None:
                require_ranges(
                    "frames", self, **{option: {"frames": (1, 1024), "fps": (0.01, 1000.0), "end": (0.0, 1e6)}[option]}
                )
        if self.point is not None:
            require_ranges("frames", self, point=(0.0, 1.0))


def make_frames(options: FramesOptions) -> Path:
    """Makes ``{name}_pose0``, a contact sheet and a video of it, and a record; returns the folder.

    Raises:
        UserError: the source, the masks or the options are wrong, or what is there already is not ours to replace.
    """
    options.check()
    if options.path is None:
        raise UserError("--path is missing: give a video, a gif, a folder of pictures or a picture")
    name = options.name or options.path.resolve().stem.removesuffix("_pose0")
    require_folder_name("--name", name)
    folder, record_path = options.data_dir / f"{name}_pose0", options.data_dir / f"{name}_frames.json"
    _check_replaceable(folder, record_path, options)
    with tempfile.TemporaryDirectory(prefix="gs4d-frames-") as holder:
        # 1. The frames, as files.
        pick = Pick(options.frames, options.fps, options.start, options.end)
        shots = open_source(options.path, pick, Path(holder))
        print(shots.said[0].upper() + shots.said[1:] + ".")

        # 2. The masks, frame by frame and then over time.
        masks, behind, method = _cut_out(shots, options, Path(holder))
        facts, points = _steady_masks(shots, masks, options.objects == "largest", method != "alpha of the source")
        print(f"Cut out by {method}.")

        # 3. One crop for all.
        if not any(f.box for f in facts):
            raise UserError(
                f"{options.path} shows no object: cut out by {method}, every frame is empty; give --mask or --matting"
            )
        crop = plan_crop(facts, points, follow=options.stabilise, fill=options.fill)
        size = min(options.size, max(64, 8 * math.ceil(crop.side / 8)))

        # 4. The frames of the clip, then everything appears at once.
        with ExitStack() as stack:
            part, sheet, video = (stack.enter_context(atomic_path(p)) for p in (folder, *_previews(folder)))
            part.mkdir()
            finished = _write(part, shots, masks, behind, crop, size)
            warnings = [*shots.warnings, *judge_clip(facts, finished, crop, size, followed=options.stabilise)]
            if (options.data_dir / f"{name}_sync").exists():
                warnings.append(
                    f"{name}_sync holds side views of the frames that were here before: make them again or remove it"
                )
            _preview(sheet, video, part, shots, crop, [shots.said, f"cut out by {method}", *warnings])
            record = {
                "source": str(options.path),
                "options": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()},
                "source_frames": list(shots.numbers),
                "times": list(shots.times),
                "mask": method,
                "crop": {"side": crop.side, "path": crop.centers.round(3).tolist(), "scale": size / crop.side, "size": size},
                "warnings": warnings,
                "files": _sizes(part),
            }
            write_json(stack.enter_context(atomic_path(record_path)), record)
    for warning in warnings:
        print(f"warning: {warning}")
    return folder


def _previews(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f"{folder.name}_preview.png"), folder.with_name(f"{folder.name}_preview.mp4")


def _sizes(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_size for p in sorted(folder.iterdir())}


def _check_replaceable(folder: Path, record_path: Path, options: FramesOptions) -> None:
    """Running a command again replaces what it made, but nothing else."""
    if options.overwrite or not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; move it or choose another --name")
    made = read_json(record_path, "record").get("files") if record_path.exists() else None
    if made is None:
        raise UserError(
            f"{folder} exists and was not made by this command; choose another --name, or replace it with --overwrite"
        )
    if made != _sizes(folder):
        raise UserError(f"{folder} was changed after it was made; choose another --name, or replace it with --overwrite")


def _cut_out(shots: Shots, options: FramesOptions, scratch: Path) -> tuple[list[Path], list[Behind], str]:
    """Masks as files, what every edge is mixed with, and what was done in words."""
    count = len(shots.files)
    files = [scratch / f"mask_{i}.png" for i in range(count)]

    def save(index: int, mask: np.ndarray) -> None:
        Image.fromarray((mask * 255).round().clip(0, 255).astype(np.uint8)).save(files[index], compress_level=1)

    if options.mask is not None:
        for i, mask in enumerate(_given_masks(options.mask, shots)):
            save(i, mask)
        return files, ["picture"] * count, f"the masks in {options.mask}"
    if options.matting is not None:
        matting = load_matting(options.matting, options.point)
        for i in tqdm(range(count), desc="matting", unit="frame", leave=False):
            save(i, matting(shots.image(i)[..., :3]))
        return files, ["picture"] * count, f"the matting model {options.matting}"
    clear = []
    for i in range(count):
        alpha = shots.image(i)[..., 3]
        clear.append(float((alpha < 128).mean()))
        Image.fromarray(alpha).save(files[i], compress_level=1)
    if np.median(clear) > 0.002:
        return files, ["alpha"] * count, "alpha of the source"
    backdrops: list[Backdrop | None] = [find_backdrop(shots.image(i)[..., :3]) for i in range(count)]
    found = [b for b in backdrops if b is not None]
    if len(found) < 0.7 * count:
        raise UserError(
            f"{options.path} has no alpha and no background of one colour (only {len(found)} of {count} frames show one along "
            f"{MIN_SHARE:.0%} of their border): give --matting MODEL.onnx (as rembg downloads them, such as u2net.onnx or "
            "isnet-general-use.onnx), --matting FOLDER of a SAM 2 checkpoint, or --mask FOLDER of masks made elsewhere"
        )
    filled = [b if b is not None else found[min(i, len(found) - 1)] for i, b in enumerate(backdrops)]
    for i in tqdm(range(count), desc="keying", unit="frame", leave=False):
        save(i, key(shots.image(i)[..., :3], filled[i]))
    noise = max(b.noise for b in found)
    return files, list(filled), f"keying the background {filled[0].describe()} (it varies by {noise:.0f} of 255)"


def _given_masks(folder: Path, shots: Shots) -> Iterator[np.ndarray]:
    """Masks made elsewhere, matched by their order."""
    if not folder.is_dir():
        raise UserError(f"--mask {folder} is no folder; give the folder that holds one mask per frame")
    files = pictures_in(folder)
    if len(files) == len(shots.files):
        chosen = files
    elif len(files) > max(shots.numbers):
        chosen = [files[n] for n in shots.numbers]
    else:
        raise UserError(
            f"{folder} holds {len(files)} masks, but {len(shots.files)} frames were taken, the last being number "
            f"{max(shots.numbers)} of the source; give one mask per frame of the source, or per frame taken"
        )
    for i, path in enumerate(chosen):
        mask, shape = read_mask(read_image(path)), shots.image(i).shape
        if abs(math.log(mask.shape[1] / mask.shape[0] * shape[0] / shape[1])) > 0.02:
            raise UserError(
                f"{path} is {mask.shape[1]}x{mask.shape[0]} pixels but its frame {shape[1]}x{shape[0]}: "
                "a mask has the shape of its frame"
            )
        yield np.asarray(Image.fromarray(mask).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _read_mask_file(path: Path) -> Mask:
    with Image.open(path) as picture:
        return np.asarray(picture)


def _steady_masks(
    shots: Shots, files: list[Path], largest_only: bool, close_holes: bool
) -> tuple[list[MaskFacts], list[np.ndarray]]:
    """Replaces every mask by its steady version; returns the facts and the outermost points of each."""
    facts, points = [], []
    before: Mask | None = None
    current = _read_mask_file(files[0])
    for i in tqdm(range(len(files)), desc="steadying", unit="frame", leave=False):
        after = _read_mask_file(files[i + 1]) if i + 1 < len(files) else None
        beside = [n for n in (before, after) if n is not None]
        mask = steady(current, beside, largest_only=largest_only, close_holes=close_holes)
        Image.fromarray(mask).save(files[i], compress_level=1)
        facts.append(mask_facts(mask))
        points.append(outermost(mask))
        if after is not None:
            before, current = current, after
    return facts, points


def _write(folder: Path, shots: Shots, masks: list[Path], behind: list[Behind], crop: Crop, size: int) -> list[Path]:
    files = []
    for i in tqdm(range(len(masks)), desc="writing", unit="frame", leave=False):
        cut = true_colors(shots.image(i), _read_mask_file(masks[i]), behind[i])
        files.append(folder / f"{i}.png")
        Image.fromarray(fill_hidden(resize_rgba(cut, size, size, crop.box(i)))).save(files[-1])
    return files


def _preview(sheet: Path, video: Path, folder: Path, shots: Shots, crop: Crop, notes: list[str]) -> None:
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


def _with_crop(image: UInt8[np.ndarray, "h w 4"], crop: Crop, frame: int) -> UInt8[np.ndarray, "h w 4"]:
    """A source frame, small, with its crop drawn in."""
    scale = 320 / max(image.shape[:2])
    small = Image.fromarray(resize_rgba(image, max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))))
    ImageDraw.Draw(small).rectangle([value * scale for value in crop.box(frame)], outline=(255, 0, 0, 255), width=3)
    return np.asarray(small)
