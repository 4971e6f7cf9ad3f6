"""Contact sheets and videos that show what a preprocessing step did.

Contact sheets and videos over a checkerboard, which shows every halo.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from .encode import write_video
from .files import atomic_path
from .images import resize_rgba

SQUARE = 8
LIGHT, DARK = 235, 200
GAP = 4
LINE = 16


def over_checkerboard(image: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Straight-alpha RGBA over grey squares of 8 pixels."""
    rows, columns = np.indices(image.shape[:2]) // SQUARE
    board = np.where((rows + columns) % 2 == 0, LIGHT, DARK)[..., None].astype(np.float32)
    alpha = image[..., 3:].astype(np.float32) / 255
    return (image[..., :3] * alpha + board * (1 - alpha)).round().astype(np.uint8)


def write_sheet(
    path: Path,
    rows: Sequence[Sequence[UInt8[np.ndarray, "_ _ 4"]]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    notes: Sequence[str] = (),
    cell: int = 128,
) -> None:
    """Writes a PNG of pictures in cells, labels at its edges and ``notes`` below; atomically."""
    font = ImageFont.load_default(size=12)
    left = max((round(font.getlength(label)) + 2 * GAP for label in row_labels), default=GAP)
    top = LINE + GAP if column_labels else GAP
    columns = max((len(row) for row in rows), default=0)
    text_width = max((round(font.getlength(note)) + 2 * GAP for note in notes), default=0)
    width = max(left + columns * (cell + GAP), text_width)
    sheet = Image.new(
        "RGB", (width, top + len(rows) * (cell + GAP) + LINE * len(notes) + GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for c, label in enumerate(column_labels[:columns]):
        draw.text((left + c * (cell + GAP), GAP // 2), label, "black", font)
    for r, row in enumerate(rows):
        y = top + r * (cell + GAP)
        if r < len(row_labels):
            draw.text((GAP, y + cell // 2 - LINE // 2), row_labels[r], "black", font)
        for c, image in enumerate(row):
            scale = cell / max(image.shape[:2])
            small = resize_rgba(
                image, max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
            )
            sheet.paste(Image.fromarray(over_checkerboard(small)), (left + c * (cell + GAP), y))
    for i, note in enumerate(notes):
        draw.text((GAP, top + len(rows) * (cell + GAP) + i * LINE), note, "black", font)
    with atomic_path(path) as part:
        sheet.save(part)


def write_preview_video(
    path: Path, frames: Iterable[UInt8[np.ndarray, "h w 4"]], fps: float
) -> None:
    """Writes the frames over a checkerboard as an mp4, atomically."""

    def pictures() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for frame in frames:
            yield over_checkerboard(frame)

    write_video(path, pictures(), fps)
