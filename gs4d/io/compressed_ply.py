"""SuperSplat's compressed PLY.

16 bytes per Gaussian and 72 per chunk of 256, and one byte per further coefficient.

Element ``chunk`` holds the bounds of 256 Gaussians, element ``vertex`` four 32-bit words per
Gaussian that are read between them, element ``sh`` (optional) the coefficients of degree 1-3.
Highest bits first:

| word | bits | range |
|---|---|---|
| packed_position | x 11, y 10, z 11 | the chunk's min to max |
| packed_rotation | index of the largest of wxyz 2, the other three 10 each | +-1/sqrt(2) |
| packed_scale | logarithms, 11, 10, 11 | the chunk's min to max |
| packed_color | R, G, B, opacity, 8 each | the chunk's min to max; opacity 0 to 1 |
| f_rest_i | 8 | -4 to 4, steps of 1/32 |

Gaussians are sorted along a Morton curve, so that chunks are small. Positions are those of the PLY
file of the same Gaussians.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..gaussians import Gaussians
from ..geometry import morton_order
from .files import atomic_path
from .foreign import foreign
from .packing import (
    Floats,
    Words,
    arrays_to_write,
    colors_of,
    dc_of,
    join_largest,
    join_sh,
    logits,
    require_length,
    sh_degree_of,
    sigmoid,
    split_largest,
    to_gaussians,
)

CHUNK = 256
BOUNDS = [
    f"{end}_{name}"
    for group in ("x y z", "scale_x scale_y scale_z", "r g b")
    for end in ("min", "max")
    for name in group.split()
]
WORDS = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
SCALE_LIMIT = 20.0  # logarithms beyond it are clamped, as other encoders do
SQRT2 = 2**0.5


def write_compressed_ply(path: Path, gaussians: Gaussians, comment: str = "gs4d") -> None:
    """Writes one set, in Morton order: the order of the Gaussians changes.

    Raises:
        UserError: a number is not finite, or the file cannot be written.
    """
    given = arrays_to_write(path, gaussians)
    order = morton_order(gaussians.means.detach().cpu()).numpy()
    arrays = {name: values[order] for name, values in given.items()}
    n, rest = gaussians.count, arrays["sh"][:, 1:]
    position, position_bounds = _between(arrays["means"])
    scale, scale_bounds = _between(np.clip(arrays["log_scales"], -SCALE_LIMIT, SCALE_LIMIT))
    color, color_bounds = _between(colors_of(arrays["sh"][:, 0]))
    largest, three = split_largest(arrays["quats"])
    alpha = sigmoid(arrays["logit_opacities"])[:, None]
    words = [
        _pack(position, (11, 10, 11)),
        (largest << np.uint32(30)) | _pack(three / SQRT2 + 0.5, (10, 10, 10)),
        _pack(scale, (11, 10, 11)),
        _pack(np.concatenate([color, alpha], 1), (8, 8, 8, 8)),
    ]
    bounds = np.concatenate([position_bounds, scale_bounds, color_bounds], 1).astype("<f4")
    # Channel by channel, as f_rest in a standard PLY; the byte names the middle of its step when
    # read.
    higher = np.clip(rest.transpose(0, 2, 1).reshape(n, -1) * 32 + 128, 0, 255).astype(np.uint8)
    header = [
        "ply", "format binary_little_endian 1.0", f"comment {comment}",
        f"element chunk {len(bounds)}", *(f"property float {name}" for name in BOUNDS),
        f"element vertex {n}", *(f"property uint {name}" for name in WORDS),
        *([f"element sh {n}"] if higher.shape[1] else []),
        *(f"property uchar f_rest_{i}" for i in range(higher.shape[1])),
        "end_header\n",
    ]  # fmt: skip
    with atomic_path(path) as part, part.open("wb") as file:
        file.write("\n".join(header).encode())
        file.write(bounds.tobytes())
        file.write(np.stack(words, 1).astype("<u4").tobytes())
        file.write(higher.tobytes())


def unpack(path: Path, chunk: np.ndarray, vertex: np.ndarray, sh: np.ndarray | None) -> Gaussians:
    """The Gaussians of the structured arrays of a compressed PLY's elements.

    :func:`gs4d.io.ply.read_ply` reads those.

    Raises:
        UserError: elements or properties are missing or do not fit each other.
    """
    with foreign(path, "compressed PLY"):
        n = len(vertex)
        require_length(path, "chunks", len(chunk) * CHUNK, n)
        row = np.arange(n) // CHUNK
        words = [vertex[name].astype(np.uint32) for name in WORDS]

        def between(values: Floats, names: list[str]) -> Floats:
            low, high = (
                np.stack([chunk[f"{end}_{name}"] for name in names], 1).astype(np.float64)
                for end in ("min", "max")
            )
            return low[row] * (1 - values) + high[row] * values

        rgba = _unpack(words[3], (8, 8, 8, 8))
        # Early files have no bounds for the colours: they are 0 to 1.
        rgb = (
            between(rgba[:, :3], ["r", "g", "b"])
            if "min_r" in (chunk.dtype.names or ())
            else rgba[:, :3]
        )
        rest = None
        if sh is not None:
            names = [f"f_rest_{i}" for i in range(len(sh.dtype.names or ()))]
            k = (sh_degree_of(path, len(names) // 3) + 1) ** 2
            levels = np.stack([sh[name] for name in names], 1).astype(np.float64)
            middles = np.where(levels == 0, 0, np.where(levels == 255, 256, levels + 0.5)) / 32 - 4
            rest = middles.reshape(n, 3, k - 1).transpose(0, 2, 1)
        return to_gaussians(
            means=between(_unpack(words[0], (11, 10, 11)), ["x", "y", "z"]),
            quats=join_largest(
                words[1] >> np.uint32(30), (_unpack(words[1], (10, 10, 10)) - 0.5) * SQRT2
            ),
            log_scales=between(_unpack(words[2], (11, 10, 11)), ["scale_x", "scale_y", "scale_z"]),
            logit_opacities=logits(rgba[:, 3]),
            sh=join_sh(dc_of(rgb), rest),
        )


def _between(values: Floats) -> tuple[Floats, Floats]:
    """Returns (n, 3) values as fractions of their chunk's bounds, and the bounds, (chunks, 6).

    Minima, then maxima.
    """
    n = len(values)
    chunks = np.concatenate([values, np.repeat(values[-1:], -n % CHUNK, 0)]).reshape(-1, CHUNK, 3)
    low, high = chunks.min(1), chunks.max(1)
    span = high - low
    inside = (chunks - low[:, None]) / np.where(span > 0, span, 1)[:, None]
    return inside.reshape(-1, 3)[:n], np.concatenate([low, high], 1)


def _pack(values: Floats, bits: tuple[int, ...]) -> Words:
    """Columns of values in [0, 1] as one word each, first column in the highest bits."""
    word = np.zeros(len(values), np.uint32)
    for column, width in enumerate(bits):
        top = (1 << width) - 1
        level = np.clip(np.floor(values[:, column] * top + 0.5), 0, top).astype(np.uint32)
        word = (word << np.uint32(width)) | level
    return word


def _unpack(words: Words, bits: tuple[int, ...]) -> Floats:
    columns = []
    for width in reversed(bits):
        top = (1 << width) - 1
        columns.append((words & np.uint32(top)) / top)
        words = words >> np.uint32(width)
    return np.stack(columns[::-1], 1)
