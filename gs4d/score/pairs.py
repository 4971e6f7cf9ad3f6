"""Which picture is compared with which.

By names, never by the order in which a folder lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..io.images import read_rgba
from ..io.video import read_video

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".npy"}
VIDEOS = {".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif"}
COLOURS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
Key = tuple[str, str]  # object, view
Source = Path | dict[str, Path]  # a video, or pictures by the name of their frame


@dataclass(frozen=True)
class Picture:
    """A frame over the background.

    Attributes:
        rgb: colours in [0, 1].
        alpha: coverage in [0, 1]; None when the file has no alpha channel.
        label: which file it is, for messages.
    """

    rgb: Float[Tensor, "h w 3"]
    alpha: Float[Tensor, "h w"] | None
    label: str


@dataclass(frozen=True)
class FramePair:
    """The same frame of the same view, rendered and true; both have one size."""

    frame: str
    pred: Picture
    truth: Picture


@dataclass(frozen=True)
class ViewPair:
    """One view over time, rendered and true."""

    object: str
    view: str
    pred: Source
    truth: Source

    def read(self, background: Float[Tensor, "3"], side: int | None) -> Iterator[FramePair]:
        """Reads the frames in the order of their names, holding one pair at a time.

        Args:
            background: what pictures with alpha are laid over.
            side: resample both to a square of so many pixels, as Consistent4D's script does with
                512.

        Raises:
            UserError: a file is damaged or holds NaN, sizes differ, or one video ends before the
                other.
        """
        preds, truths = (_frames(source, background, side) for source in (self.pred, self.truth))
        for frame, pred in preds:
            other, truth = next(truths, ("", None))
            if truth is None:
                raise UserError(
                    f"{self.truth} ends before {pred.label}; cut both to the same frames"
                )
            if frame != other:
                raise UserError(
                    f"{pred.label} meets {truth.label}; beside a video, number the pictures 0, 1, "
                    "2, ..."
                )
            if pred.rgb.shape != truth.rgb.shape:
                sizes = [f"{p.label} is {p.rgb.shape[1]}x{p.rgb.shape[0]}" for p in (pred, truth)]
                raise UserError(
                    f"{sizes[0]} pixels but {sizes[1]}; render at the size of the truth, or give "
                    "--size"
                )
            yield FramePair(frame, pred, truth)
        if (rest := next(truths, None)) is not None:
            raise UserError(f"{self.pred} ends before {rest[1].label}; cut both to the same frames")


def parse_background(text: str) -> Float[Tensor, "3"]:
    """``white``, ``black`` or ``r,g,b`` with values in [0, 1].

    Raises:
        UserError: it is neither.
    """
    try:
        colour = torch.tensor(COLOURS.get(text) or tuple(float(part) for part in text.split(",")))
    except ValueError:
        colour = torch.empty(0)
    if colour.shape != (3,) or not bool(((colour >= 0) & (colour <= 1)).all()):
        raise UserError(
            f"background '{text}' is no colour; give white, black, or r,g,b with values from 0 to 1"
        )
    return colour


def natural(text: str) -> list[tuple[int, str]]:
    """A sorting key by which eval_2 comes before eval_10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


def pair_views(pred: Path, truth: Path) -> list[ViewPair]:
    """Matches two videos, or two folders of pictures or videos of the same shape.

    The last folder of a picture's path names its view and what stands before names its object, so
    that Consistent4D's ``{object}/eval_{k}/{t}.png`` needs no further word; a video
    ``{object}/eval_{k}.mp4`` is a view by its own name. Frame names are compared as numbers where
    they are numbers, and extensions do not count.

    Raises:
        UserError: anything that one side has is missing on the other; the sentence names it.
    """
    preds, truths = _scan(pred), _scan(truth)
    for here, there, root in ((truths, preds, pred), (preds, truths, truth)):
        missing: list[str] = []
        for key, source in here.items():
            other = there.get(key)
            if other is None:
                missing.append(f"{root / key[0] / key[1]}")
            elif isinstance(source, dict) and isinstance(other, dict):
                missing += [
                    f"{next(iter(other.values())).parent / source[f].name}"
                    for f in source
                    if f not in other
                ]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            side = "the truth has" if here is truths else "the renders have"
            raise UserError(
                f"{missing[0]} is missing{more}: {side} it; make it, or score folders of the same "
                "shape"
            )
    keys = sorted(truths, key=lambda key: (natural(key[0]), natural(key[1])))
    return [ViewPair(*key, preds[key], truths[key]) for key in keys]


def _scan(root: Path) -> dict[Key, Source]:
    if root.is_file() and root.suffix.lower() in VIDEOS:
        return {("", ""): root}
    if not root.is_dir():
        raise UserError(f"{root} is neither a folder nor a video ({', '.join(sorted(VIDEOS))})")
    found: dict[Key, Source] = {}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        kind = path.suffix.lower()
        if (
            any(part.startswith(".") for part in parts)
            or not path.is_file()
            or kind not in PICTURES | VIDEOS
        ):
            continue
        view = path.stem if kind in VIDEOS else parts[-2] if len(parts) > 1 else ""
        key = ("/".join(parts[: -1 if kind in VIDEOS else -2]), view)
        frame = str(int(path.stem)) if path.stem.isdecimal() else path.stem
        there = found.setdefault(key, path if kind in VIDEOS else {})
        if there == path:
            continue
        if kind in VIDEOS or not isinstance(there, dict) or frame in there:
            other = (
                there.get(frame, next(iter(there.values()))) if isinstance(there, dict) else there
            )
            raise UserError(f"{path} and {other} claim the same name; remove one of them")
        there[frame] = path
    if not found:
        raise UserError(
            f"{root} holds neither pictures nor videos; give a folder such as "
            f"{{object}}/eval_0/0.png"
        )
    return found


def _frames(source: Source, background: Tensor, side: int | None) -> Iterator[tuple[str, Picture]]:
    if isinstance(source, Path):
        for number, frame in enumerate(read_video(source)):
            rgb = torch.from_numpy(frame.astype(np.float32) / 255)
            yield str(number), _finish(rgb, None, f"{source} frame {number}", side)
        return
    for name in sorted(source, key=natural):
        path = source[name]
        values = _read_array(path) if path.suffix.lower() == ".npy" else read_rgba(path)
        if not values.isfinite().all():
            raise UserError(
                f"{path} holds NaN or infinite values, which no score is defined for; render it "
                "again"
            )
        alpha = values[..., 3] if values.shape[-1] == 4 and _has_alpha(path) else None
        rgb = values[..., :3]
        if alpha is not None:
            # exact where alpha is 0 or 1
            rgb = rgb * alpha[..., None] + background * (1 - alpha[..., None])
        yield name, _finish(rgb, alpha, str(path), side)


def _read_array(path: Path) -> Float[Tensor, "h w c"]:
    """Unquantised pixels, straight alpha."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as an array ({error}); save it with numpy.save"
        ) from error
    if (
        values.ndim != 3
        or values.shape[2] not in (3, 4)
        or not values.size
        or values.dtype.kind != "f"
    ):
        raise UserError(
            f"{path} is {values.dtype} of shape {values.shape}; wanted floats in [0, 1] of shape "
            "(h, w, 3 or 4)"
        )
    return torch.from_numpy(values.astype(np.float32))


def _has_alpha(path: Path) -> bool:
    if path.suffix.lower() == ".npy":
        return True
    with Image.open(path) as picture:  # the header only: nothing is decoded
        return "A" in picture.getbands() or "transparency" in picture.info


def _finish(rgb: Tensor, alpha: Tensor | None, label: str, side: int | None) -> Picture:
    if side is None or rgb.shape[:2] == (side, side):
        return Picture(rgb, alpha, label)
    planes = rgb if alpha is None else torch.cat([rgb, alpha[..., None]], -1)
    resized = F.interpolate(
        planes.movedim(-1, 0)[None], (side, side), mode="bicubic", antialias=True
    )[0].clamp(0, 1)
    return Picture(resized[:3].movedim(0, -1), None if alpha is None else resized[3], label)
