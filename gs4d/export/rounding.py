"""Modes of motion as whole numbers, and as few of them as a bound on the error allows.

What files of few bytes are made of.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..motion import LowRank

# of the bound: at the rarest, when all roundings go one way, six standard deviations of the error
# reach it
STEP = 0.5
NUMBERS = 8 << 20  # floats held at once
BYTE, SHORT = 127, 32767
# a mode of two bytes is cut into a coarse one, of which little is not zero, and a fine one
DIGIT = 2 * BYTE + 1


@dataclass(frozen=True)
class Part:
    """One morph target: ``values`` times ``unit`` is what it moves at the weight of its mode.

    Attributes:
        mode: whose weight it has.
        values: whole numbers, the largest near ``limit``.
        limit: of the values: 127 or 32767.
        unit: of 1, world units.
    """

    mode: int
    values: Int[Tensor, "n 3"]
    limit: int
    unit: float


def round_modes(motion: LowRank, keys: int, frames: float, between: float) -> list[Part]:
    """Rounds the modes of the centres, and leaves out of each the Gaussians that do not need it.

    Args:
        motion: with centres that move; its modes are orthonormal at the frames, or nothing there
            and orthonormal otherwise, as :func:`gs4d.motion.factor` makes them.
        keys: keyframes from each frame to the next.
        frames: how far every centre may then stray at the frames from where the motion has it,
            world units.
        between: likewise at the other keyframes; held as far as there are modes for it.
    """
    deltas = motion.deltas["means"]
    later = (motion.weights[::keys] == 0).all(0)
    later[0] = False
    first = int((~later).sum())
    values = _thinned(
        motion.weights[::keys, :first], deltas[:first], deltas[:first], STEP * frames, frames
    )
    parts = [part for k in range(first) for part in _parts(k, values[k], STEP * frames)]
    if first < len(deltas):
        lost = torch.cat([deltas[:first] - values * (STEP * frames), deltas[first:]])
        small = _thinned(motion.weights, lost, deltas[first:], STEP * between, between)
        parts += [
            part
            for k in range(first, len(deltas))
            for part in _parts(k, small[k - first], STEP * between)
        ]
    return parts


def _thinned(
    weights: Float[Tensor, "t k"],
    wanted: Float[Tensor, "k n 3"],
    deltas: Float[Tensor, "m n 3"],
    step: float,
    bound: float,
) -> Int[Tensor, "m n 3"]:
    """Returns the last modes, ``deltas``, in steps, the smallest of every Gaussian set to zero.

    As many are zero as its bound allows when all modes together should move it as ``wanted``.
    """
    values = (deltas / step).round().int()
    own = weights[:, len(wanted) - len(deltas) :]
    some = max(1, NUMBERS // (3 * max(weights.shape)))
    for begin in range(0, values.shape[1], some):
        chunk = values[:, begin : begin + some]
        moves = chunk * step
        error = torch.einsum("tk,knc->tnc", weights, wanted[:, begin : begin + some])
        error -= torch.einsum("tk,knc->tnc", own, moves)
        order = moves.square().sum(-1).argsort(dim=0, stable=True)
        moves = moves.gather(0, order[..., None].expand_as(moves))
        fits = torch.ones(chunk.shape[1], dtype=torch.bool)
        for k, which in enumerate(order):
            error += own[:, which, None] * moves[k]
            fits &= error.square().sum(-1).amax(0) <= bound**2
            chunk[which[fits], fits.nonzero()[:, 0]] = 0
    return values


def _parts(mode: int, values: Int[Tensor, "n 3"], step: float) -> list[Part]:
    """The fewest bytes that hold a mode: bytes, shorts, or coarse and fine bytes."""
    peak = int(values.abs().max())
    if peak == 0:
        return []
    if peak <= BYTE:
        return [_stretched(mode, values, BYTE, step)]
    coarse = (values / DIGIT).round().int()
    # Bytes of three take four where all are written, five with their place where few are; shorts
    # always eight.
    if int(coarse.abs().max()) <= BYTE and 5 * int(coarse.any(1).sum()) < 4 * len(values):
        fine = _stretched(mode, values - DIGIT * coarse, BYTE, step)
        return [fine, _stretched(mode, coarse, BYTE, DIGIT * step)]
    fit = max(1.0, peak / SHORT)
    return [_stretched(mode, (values / fit).round().int(), SHORT, step * fit)]


def _stretched(mode: int, values: Int[Tensor, "n 3"], limit: int, unit: float) -> Part:
    factor = limit // max(int(values.abs().max()), 1)
    return Part(mode, values * factor, limit, unit / factor)
