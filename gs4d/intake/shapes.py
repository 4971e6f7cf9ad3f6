"""Binary pictures: scipy.ndimage's morphology with types."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

SQUARE = np.ones((3, 3), bool)
Mask = Bool[np.ndarray, "h w"]


def window(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Returns the rows and columns that hold a mask (not empty), and ``margin`` more."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return tuple(
        slice(max(0, int(i[0]) - margin), int(i[-1]) + 1 + margin) for i in (rows, columns)
    )  # type: ignore[return-value]


def grown(mask: Mask, pixels: int = 1, within: Mask | None = None) -> Mask:
    """The mask with a rim of ``pixels``, where ``within`` allows."""
    return np.asarray(ndimage.binary_dilation(mask, SQUARE, iterations=pixels, mask=within), bool)


def shrunk(mask: Mask, pixels: int = 1) -> Mask:
    """The mask without a rim of ``pixels``; beyond the picture it is taken to go on."""
    return np.asarray(ndimage.binary_erosion(mask, SQUARE, iterations=pixels, border_value=1), bool)


def opened(mask: Mask, radius: float | int) -> Mask:
    """The mask without whatever is thinner than a disc of that radius."""
    reach = int(radius)
    disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) < radius + 0.5
    return np.asarray(ndimage.binary_opening(mask, disc), bool)


def filled(mask: Mask) -> Mask:
    """The mask with its holes closed."""
    return np.asarray(ndimage.binary_fill_holes(mask), bool)


def depth(mask: Mask) -> Float[np.ndarray, "h w"]:
    """Distance in pixels from each pixel of the mask to the nearest outside it.

    The picture's border does not count.
    """
    return np.asarray(ndimage.distance_transform_edt(mask), np.float32)


def nearest(mask: Mask) -> Int[np.ndarray, "2 h w"]:
    """Row and column of the pixel of the mask that is nearest to each pixel.

    The mask may not be empty.
    """
    return np.asarray(
        ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    )


def distance_to(index: Int[np.ndarray, "2 h w"]) -> Float[np.ndarray, "h w"]:
    """Distance in pixels from each pixel to the one that :func:`nearest` gives for it."""
    return np.hypot(*(index - np.indices(index.shape[1:])))


def parts(
    mask: Mask, *, diagonal: bool = True
) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, "n"]]:
    """Numbers the connected parts from 1, and counts the pixels of each number.

    Entry 0 of the counts is 0.
    """
    structure = SQUARE if diagonal else None
    numbered: tuple[np.ndarray, int] = ndimage.label(mask, structure)  # type: ignore[assignment]
    counts = np.bincount(numbered[0].ravel(), minlength=numbered[1] + 1)
    counts[0] = 0
    return numbered[0], counts
