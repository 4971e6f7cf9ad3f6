"""Renders beside truth, as pictures that a page can hold."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ..asset import Asset
from ..clip import Track, over_white
from ..io.images import to_bytes
from ..metrics.image import psnr
from ..render import render

THUMBNAIL = 144  # longer side of a picture in a strip, pixels
LARGE = 384  # longer side of the worst view's pictures
GAP = 4  # pixels between the pictures of a strip
DIFFERENCE_WHITE = 0.5  # mean absolute difference of the channels that is drawn as the brightest


@dataclass(frozen=True)
class Comparison:
    """A frame of a view, three pictures as data URIs."""

    frame: int
    psnr: float
    render: str
    truth: str
    difference: str


def data_uri(kind: str, content: bytes) -> str:
    """``content`` of the MIME type ``kind`` as an address that needs no request."""
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"


def spread(count: int, at_most: int) -> list[int]:
    """Returns up to ``at_most`` (2 or more) indices below ``count``, evenly from first to last."""
    shown = min(count, at_most)
    return [round(i * (count - 1) / max(shown - 1, 1)) for i in range(shown)]


def strip(asset: Asset, track: Track, frames: list[int]) -> str:
    """One picture: the renders of ``frames`` in a row, and the truth below each of them."""
    cells = [
        [_thumbnail(picture, THUMBNAIL) for picture in _pair(asset, track, frame)]
        for frame in frames
    ]
    width, height = cells[0][0].size
    sheet = Image.new("RGB", (len(frames) * (width + GAP) - GAP, 2 * height + GAP), "white")
    for column, pair in enumerate(cells):
        for row, picture in enumerate(pair):
            sheet.paste(picture, (column * (width + GAP), row * (height + GAP)))
    return _jpeg(sheet)


def compare(asset: Asset, track: Track, frames: list[int]) -> Comparison:
    """The one of ``frames`` whose render is furthest from the truth, by PSNR."""
    scores = [psnr(*_pair(asset, track, frame)).item() for frame in frames]
    worst = int(np.argmin(scores))
    drawn, truth = _pair(asset, track, frames[worst])
    difference = _heat((drawn - truth).abs().mean(-1) / DIFFERENCE_WHITE)
    pictures = [_jpeg(_thumbnail(picture, LARGE)) for picture in (drawn, truth, difference)]
    return Comparison(frames[worst], scores[worst], *pictures)


@torch.no_grad()
def _pair(
    asset: Asset, track: Track, frame: int
) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"]]:
    """Render and truth over white."""
    t = float(asset.times()[frame])
    return render(asset.at(t), track.camera(frame)).rgb[0].clamp(0, 1), over_white(
        track.images[frame]
    )[0]


def _heat(values: Float[Tensor, "h w"]) -> Float[Tensor, "h w 3"]:
    """Black over red and yellow to white, with luminance rising all the way."""
    x = values.clamp(0, 1)[..., None]
    return (x * 3 - torch.tensor([0.0, 1.0, 2.0])).clamp(0, 1)


def _thumbnail(picture: Float[Tensor, "h w 3"], side: int) -> Image.Image:
    """The picture with its longer side brought down to ``side`` pixels.

    Smaller ones stay sharp as they are.
    """
    pixels: UInt8[np.ndarray, "h w 3"] = to_bytes(picture)
    image = Image.fromarray(pixels)
    scale = min(1.0, side / max(image.size))
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
        Image.Resampling.LANCZOS,
    )


def _jpeg(image: Image.Image) -> str:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=90, subsampling=0, optimize=True)
    return data_uri("image/jpeg", buffer.getvalue())
