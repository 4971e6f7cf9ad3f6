"""Keying: cuts an object out of one flat colour, with soft edges and its own colours there.

What is background is first decided by colour and connection to the border, so that a white shirt
before white stays whole; enclosed patches of the background's colour are seen through only if they
look like holes: flat as the background is, and with a sharp edge. Alpha at the edge is the
projection of the pixel on the line from the background's colour to the object's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from . import shapes

MIN_SHARE = 0.55  # of the border that must show the background
BLOCK = 5.0  # pixels: the radius of a disc that does not fit into a block of compression noise
FAINT = 5.0  # levels of 255 by which compression changes a flat background near the object
MAX_NOISE = 26.0  # levels of 255 by which a flat background may differ from its fit


@dataclass(frozen=True)
class Backdrop:
    """A background of one colour, perhaps unevenly lit.

    Attributes:
        coefficients: of 1, x, y, xx, xy, yy for red, green and blue; x and y run over [-1, 1].
        noise: the distance (largest over the channels, of 255) up to which a pixel is background.
        share: how much of the border it covers, in [0, 1].
    """

    coefficients: Float[np.ndarray, "6 3"]
    noise: float
    share: float

    def colors(self, height: int, width: int) -> Float[np.ndarray, "h w 3"]:
        """Its colour at every pixel."""
        if not self.coefficients[1:].any():
            return np.broadcast_to(self.coefficients[0].astype(np.float32), (height, width, 3))
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
        return np.clip(_powers(x, y) @ self.coefficients, 0, 255).astype(np.float32)

    @property
    def spill(self) -> int | None:
        """The channel in which a coloured screen shines on the object.

        None for white, grey and black.
        """
        color = self.coefficients[0]
        channel = int(color.argmax())
        return channel if color[channel] - np.delete(color, channel).max() > 60 else None

    def describe(self) -> str:
        """Its colour in the middle, as a hexadecimal code."""
        return "#" + "".join(f"{round(float(c)):02x}" for c in self.coefficients[0].clip(0, 255))


def _powers(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.broadcast_arrays(x, y)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)


def find_backdrop(image: UInt8[np.ndarray, "h w 3"]) -> Backdrop | None:
    """The one colour along the border of a picture, or None if there is no such colour."""
    height, width = image.shape[:2]
    rim = max(1, round(min(height, width) * 0.01))
    ring = np.ones((height, width), bool)
    ring[rim:-rim, rim:-rim] = False
    rows, columns = np.nonzero(ring)
    pixels = image[rows, columns].astype(np.float32)
    bins = (pixels // 16).astype(np.int64) @ (256, 16, 1)
    most = np.bincount(bins).argmax()
    color = np.median(pixels[bins == most], 0)
    near = np.abs(pixels - color).max(1) < 48
    if near.mean() < MIN_SHARE:
        return None
    powers = _powers(columns / max(width - 1, 1) * 2 - 1, rows / max(height - 1, 1) * 2 - 1)
    coefficients = np.zeros((6, 3))
    coefficients[0] = np.median(pixels[near], 0)
    error = np.abs(pixels - coefficients[0]).max(1)
    if np.percentile(error[near], 90) <= 3:  # one colour; what else is near it is the object
        near = error < 8
    else:
        for _ in range(3):
            coefficients = np.linalg.lstsq(powers[near], pixels[near], rcond=None)[0]
            error = np.abs(pixels - powers @ coefficients).max(1)
            near = error < max(8.0, 4 * float(np.median(error[near])))
    noise = float(np.percentile(error[near], 99.5))
    return (
        Backdrop(coefficients, noise, float(near.mean()))
        if near.mean() >= MIN_SHARE and noise <= MAX_NOISE
        else None
    )


def key(image: UInt8[np.ndarray, "h w 3"], backdrop: Backdrop) -> Float[np.ndarray, "h w"]:
    """Alpha in [0, 1] of what stands before a backdrop."""
    height, width = image.shape[:2]
    offset = image.astype(np.float32) - backdrop.colors(height, width)
    distance = np.abs(offset).max(-1)
    threshold = FAINT + 1.25 * backdrop.noise
    background = _background(distance, threshold, cut_holes=backdrop.spill is not None)
    alpha = 1 - background.astype(np.float32)
    if background.any() and not background.all():
        part = shapes.window(~background, 8)
        alpha[part] = _soften(offset[part], distance[part], background[part], threshold)
    return alpha


def _soften(
    offset: Float[np.ndarray, "h w 3"],
    distance: Float[np.ndarray, "h w"],
    background: shapes.Mask,
    threshold: float,
) -> Float[np.ndarray, "h w"]:
    """Returns alpha by each pixel's offset from the background beside that of solid ones."""
    inward = shapes.depth(~background)
    edge = _edge_width(distance, inward)
    # A line thinner than two edges has no inside; its ridge, where it stands out most, is taken for
    # it.
    ridge = (inward == ndimage.maximum_filter(inward, 3)) & (
        distance > 0.7 * ndimage.maximum_filter(distance, 2 * edge + 3)
    )
    solid = (inward > edge) | (ridge & ~background)
    front = offset[tuple(shapes.nearest(solid))]
    length = (front * front).sum(-1)
    alpha = (offset * front).sum(-1) / np.maximum(length, 1)
    floor = np.minimum(threshold / np.sqrt(np.maximum(length, 1)), 0.3)
    alpha = ((alpha - floor) / (1 - floor)).clip(0, 1)
    alpha[solid | (length < (2 * threshold) ** 2)] = 1
    alpha[background] = 0
    return alpha.astype(np.float32)


def _edge_width(distance: Float[np.ndarray, "h w"], inward: Float[np.ndarray, "h w"]) -> int:
    """Pixels over which the object fades into the background.

    1 for a render, more for video and for motion blur.
    """
    deep = distance[(inward > 7) & (inward <= 9)]
    if deep.size < 20:
        return 1
    for width in range(1, 5):
        if distance[(inward > width - 0.5) & (inward <= width + 0.5)].mean() > 0.85 * deep.mean():
            return width
    return 5


def _background(
    distance: Float[np.ndarray, "h w"], threshold: float, *, cut_holes: bool
) -> shapes.Mask:
    """Returns where the background is seen.

    What has its colour and hangs together with the border, and holes.
    """
    # Compression leaves faint specks around the object: what differs little is the object's only
    # where it is not thin.
    alike = (distance <= 3 * threshold) & ~shapes.opened(distance > threshold, BLOCK)
    # The shrinking keeps the background from creeping into a white object through a crack of one
    # pixel in its outline.
    labels, _ = shapes.parts(np.pad(shapes.shrunk(alike), 1, constant_values=True), diagonal=False)
    outside = shapes.grown(labels[1:-1, 1:-1] == labels[0, 0], 3, within=alike)
    inside, area = shapes.parts(alike & ~outside, diagonal=False)
    smallest = max(9.0, (2e-5 if cut_holes else 6e-5) * distance.size)
    reach = max(7, round(0.014 * max(distance.shape)))
    for number, box in enumerate(ndimage.find_objects(inside), 1):
        if box is None:
            continue
        window = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in box)
        region, beyond = inside[window] == number, distance[window]
        if (
            (cut_holes and area[number] >= smallest)
            or _is_bay(region, outside[window])
            or (
                area[number] >= smallest
                and _is_hole(region, beyond, alike[window], threshold, reach)
            )
        ):
            outside[window] |= region
    return outside


def _is_bay(region: shapes.Mask, outside: shapes.Mask) -> bool:
    """Whether a patch of the background's colour is the narrow end of a bay, as between fingers."""
    return bool(
        shapes.depth(np.pad(region, 1)).max() <= 3 and (shapes.grown(region) & outside).any()
    )


def _is_hole(
    region: shapes.Mask,
    distance: Float[np.ndarray, "h w"],
    alike: shapes.Mask,
    threshold: float,
    reach: int,
) -> bool:
    """Whether a patch of the background's colour is seen through.

    It is flat, its edge is sharp, no island (a pupil) lies in it, and solid parts of the object
    surround it: a white shape that is drawn with an outline has no more than a line around it.
    """
    core = shapes.shrunk(region)
    if not core.any() or distance[core].mean() > 0.35 * threshold:
        return False
    if shapes.filled(region).sum() > 1.03 * region.sum():
        return False
    ring = shapes.grown(region, reach) & ~shapes.grown(region, 2)
    solid = ring & ~alike
    return bool(solid.sum() > 0.6 * ring.sum()) and float(np.mean(distance[solid] > 40)) > 0.8
