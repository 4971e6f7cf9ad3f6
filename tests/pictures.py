"""Pictures of a thing that moves, with true alpha, for the tests of what comes in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

WHITE = (255, 255, 255)
SIZE = (120, 90)


def thing(
    step: float = 0.0, size: tuple[int, int] = SIZE, color: tuple[int, int, int] = (200, 60, 40)
) -> np.ndarray:
    """RGBA of a disc that walks right by 20 pixels, with an arm that turns.

    Drawn large, so that its edge is soft.
    """
    scale = 4
    picture = Image.new("RGBA", (size[0] * scale, size[1] * scale))
    draw = ImageDraw.Draw(picture)
    x, y = 45 + 20 * step, 45
    draw.ellipse(
        [(x - 18) * scale, (y - 26) * scale, (x + 18) * scale, (y + 26) * scale], fill=(*color, 255)
    )
    tip = x + 32 * np.cos(6 * step), y + 32 * np.sin(6 * step)
    draw.line(
        [x * scale, y * scale, tip[0] * scale, tip[1] * scale],
        fill=(40, 60, 200, 255),
        width=6 * scale,
    )
    image = np.asarray(picture).astype(np.float32)
    image[..., :3] *= image[..., 3:] / 255
    small = image.reshape(size[1], scale, size[0], scale, 4).mean((1, 3))
    small[..., :3] *= 255 / np.maximum(small[..., 3:], 1e-3)
    return small.round().astype(np.uint8)


def over(image: np.ndarray, background: Sequence[int] | np.ndarray) -> np.ndarray:
    alpha = image[..., 3:].astype(np.float32) / 255
    return (
        (image[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha))
        .round()
        .clip(0, 255)
        .astype(np.uint8)
    )


def things(count: int = 6) -> list[np.ndarray]:
    return [thing(i / max(count - 1, 1)) for i in range(count)]


def screen() -> np.ndarray:
    """A green screen with uneven light and noise."""
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    noise = np.random.default_rng(0).normal(0, 2, (SIZE[1], SIZE[0], 3))
    return np.stack([30 + 0 * x, 160 + 0.3 * x - 0.2 * y, 60 + 0.1 * y], -1) + noise
