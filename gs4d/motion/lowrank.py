"""Motion as a few modes and their weights over time.

What any motion is turned into to be sent somewhere else.

The trajectories of all Gaussians are a matrix, one row per time and one column per Gaussian and
coordinate; its truncated singular value decomposition is the smallest such form of a given error
(Eckart & Young 1936). The weights are shared by all fields, as those of glTF's morph targets are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UserError
from ..gaussians import FIELD_NDIM, Gaussians

TIMES_PER_CALL = 4
# floats of sampled trajectories: what is held while the modes are found, however long the clip
SAMPLE_NUMBERS = 8 << 20
MAX_KEYFRAMES = 2048  # their products with one another are held, too
WORST = 0.99  # of the Gaussians have at most the tolerated error
# that may move; "sh" is its degree 0
COLUMNS = {"means": 3, "quats": 4, "log_scales": 3, "logit_opacities": 1, "sh": 3}


@dataclass(frozen=True)
class LowRank:
    """At time t a field is its canonical value plus the modes' deltas times their weights,
    interpolated between keyframes.

    Attributes:
        times: of the keyframes, from 0 to 1, increasing.
        weights: of every mode at every keyframe.
        deltas: name of a field in ``COLUMNS`` -> (k or fewer, n, columns), added to it times the
            first weights: "means" in world units, "quats" on unit quaternions (wxyz; the sum need
                not be unit), "sh" on degree 0 only.
    """

    times: Float[Tensor, " t"]
    weights: Float[Tensor, "t k"]
    deltas: dict[str, Tensor]

    def weights_at(self, times: Float[Tensor, " b"]) -> Float[Tensor, "b k"]:
        """The weights at ``times`` in [0, 1]."""
        if len(self.times) < 2:
            return self.weights.expand(len(times), -1)
        after = torch.searchsorted(self.times, times.contiguous()).clamp(1, len(self.times) - 1)
        begin, end = self.times[after - 1], self.times[after]
        fraction = ((times - begin) / (end - begin)).clamp(0, 1)
        return torch.lerp(self.weights[after - 1], self.weights[after], fraction[:, None])

    def at_times(self, gaussians: Gaussians, times: Float[Tensor, " b"]) -> Gaussians:
        """The Gaussians of ``b`` views, each at its own time.

        A leading view axis on the fields that move.
        """
        weights = self.weights_at(times.to(self.times))
        moved = {}
        for name, deltas in self.deltas.items():
            change = (weights[:, : len(deltas)] @ deltas.flatten(1)).unflatten(1, deltas.shape[1:])
            field = getattr(gaussians, name)
            if name == "sh":
                rest = field[:, 1:].expand(len(times), -1, -1, -1)
                moved[name] = torch.cat([field[:, :1] + change.unsqueeze(-2), rest], -2)
            else:
                moved[name] = field + change.view(len(times), *field.shape)
        return gaussians.replace(**moved)


@dataclass(frozen=True)
class Bounds:
    """How far every centre may stray from its path, world units.

    Attributes:
        frames: at the frames.
        between: at the keyframes between them.
    """

    frames: float
    between: float


def factor(
    move: Callable[[Tensor], Gaussians],
    frames: Float[Tensor, " f"],
    *,
    tolerance: float,
    keys: int = 1,
    centers: Bounds | None = None,
) -> tuple[Gaussians, LowRank]:
    """Factors a motion into modes.

    The memory that it takes does not grow with the number of frames.

    Args:
        move: gives the Gaussians at some times, with a view axis on the fields that move. It is
            asked for the keyframes twice, in order, a few at once.
        frames: times from 0 to 1 that matter: the modes are the best for these.
        tolerance: of the error, world units. 99 % of the centres stray less from their path, as the
            root mean square over the frames; so do the outlines by what each of the other fields
            lacks, held to a quarter of it.
        keys: keyframes from each frame to the next; between frames the weights are those that fit
            best.
        centers: instead of the tolerance, what no centre may exceed (of those that the modes are
            found from). Then modes that are nothing at the frames may follow the others, at most as
            many as these.

    Returns:
        The Gaussians at ``frames[0]`` with unit quaternions, and the motion that begins there.

    Raises:
        UserError: there are no Gaussians, not the same in every frame, some that are not finite, or
            too many keyframes.
    """
    if (len(frames) - 1) * keys >= MAX_KEYFRAMES:
        raise UserError(
            f"a motion of {len(frames)} frames is too long for one file of {MAX_KEYFRAMES} "
            "keyframes; ask for fewer"
        )
    steps = torch.arange(keys) / keys
    times = torch.cat(
        [torch.lerp(frames[:-1, None], frames[1:, None], steps).flatten(), frames[-1:]]
    )
    base = _unit(move(frames[:1]).at_view(0))
    if base.count == 0 or not all(field.isfinite().all() for _, field in base.items()):
        what = "some with numbers that are not finite" if base.count else "none"
        raise UserError(
            f"of the Gaussians to be written there are {what}; train again, or leave them out of "
            "the file first"
        )
    reach = base.log_scales.exp()
    widest = reach.amax(-1, keepdim=True)
    # What a change of 1 means to the picture, as a displacement in world units: a turn by an angle
    # changes the quaternion by half of it and moves the ends of the longest axis; a Gaussian of
    # wholly other colour is like one that is not there. Four times that: such errors are no common
    # shift of a neighbourhood, they open gaps in it.
    worth = {
        "means": torch.ones(1, 1),
        "quats": 8 * widest,
        "log_scales": 4 * reach,
        "logit_opacities": widest,
        "sh": widest,
    }
    stride = -(-base.count * len(times) * sum(COLUMNS.values()) // SAMPLE_NUMBERS)
    seen: dict[
        str, Tensor
    ] = {}  # made whole at once: parts kept between large passing tensors would scatter the heap
    for begin, changes in zip(
        range(0, len(times), TIMES_PER_CALL), _changes(move, times, base), strict=True
    ):
        for name, change in changes.items():
            part = change[:, ::stride] * worth[name][::stride]
            if name not in seen:
                seen[name] = part.new_empty(len(times), *part.shape[1:])
            seen[name][begin : begin + len(part)] = part
    weights, ranks, dual = _modes(seen, keys, tolerance, centers)
    del seen
    deltas = {name: torch.zeros(rank, base.count * COLUMNS[name]) for name, rank in ranks.items()}
    used = dual.any(1).nonzero()[:, 0]
    for which, changes in zip(
        used.split(TIMES_PER_CALL), _changes(move, times[used], base), strict=len(used) > 0
    ):
        for name, total in deltas.items():
            total.addmm_(dual[which, : len(total)].T, changes[name].flatten(1))
    modes = {name: total.view(len(total), base.count, -1) for name, total in deltas.items()}
    return base, LowRank(times, weights, modes)


def _unit(gaussians: Gaussians) -> Gaussians:
    return gaussians.replace(quats=torch.nn.functional.normalize(gaussians.quats, dim=-1))


def _changes(
    move: Callable[[Tensor], Gaussians], times: Float[Tensor, " t"], base: Gaussians
) -> Iterator[dict[str, Float[Tensor, "b n c"]]]:
    """What differs from ``base``, a few times at once, for the fields that move."""
    last = base.quats
    for begin in range(0, len(times), TIMES_PER_CALL):
        moved = _unit(move(times[begin : begin + TIMES_PER_CALL]))
        if moved.count != base.count:
            raise UserError(
                f"the frames hold {base.count} and {moved.count} Gaussians, but a file that moves "
                "them needs the same in every "
                "frame; export one file per frame (ply, splat, spz)"
            )
        fields = {name: field for name, field in moved.items() if field.ndim > FIELD_NDIM[name]}
        if "quats" in fields:
            # q and -q are one rotation; along a path the nearer one is taken, so that it has no
            # jumps.
            turns = torch.cat([last[None], fields["quats"]])
            flips = ((turns[1:] * turns[:-1]).sum(-1, keepdim=True) < 0).int().cumsum(0) % 2
            fields["quats"] = torch.where(flips == 1, -fields["quats"], fields["quats"])
            last = fields["quats"][-1]
        if "sh" in fields:
            fields["sh"] = fields["sh"][..., 0, :]
        yield {
            name: (field - _column(base, name)).view(*field.shape[:2], -1)
            for name, field in fields.items()
        }


def _column(gaussians: Gaussians, name: str) -> Tensor:
    return gaussians.sh[:, 0] if name == "sh" else getattr(gaussians, name)


def _modes(
    paths: dict[str, Float[Tensor, "t m c"]], keys: int, tolerance: float, centers: Bounds | None
) -> tuple[Float[Tensor, "t k"], dict[str, int], Float[Tensor, "t k"]]:
    """Returns the modes' weights, how many each field needs, and the paths' shares in the modes.

    Weights are given at all times, orthonormal at the frames, the most important mode first. A
    field that needs no mode is left out. The shares make the modes out of the paths at all times.
    """
    times = len(next(iter(paths.values()), torch.zeros(1)))
    gram = torch.zeros(times, times, dtype=torch.float64)
    for path in paths.values():
        flat = path.flatten(1).double()
        gram.addmm_(flat, flat.T)
    powers, basis = torch.linalg.eigh(gram[::keys, ::keys])
    powers, basis = powers.flip(0), basis.flip(1)
    ranks = {}
    for name, path in paths.items():
        parts = (basis.T @ path[::keys].flatten(1).double()).view(len(basis), *path.shape[1:])
        if name == "means" and centers is not None:
            ranks[name] = _rank(basis, parts, centers.frames)
        else:
            # row k: with the first k modes
            lacking = parts.square().sum(-1).flip(0).cumsum(0).flip(0) / len(basis)
            ranks[name] = int((lacking.quantile(WORST, dim=1) > tolerance**2).sum())
    rank = max(ranks.values(), default=0)
    weights = gram[:, ::keys] @ basis[:, :rank] / powers[:rank]
    signs = weights.gather(
        0, weights.abs().argmax(0, keepdim=True)
    ).sign()  # either would do: the same on every machine
    weights *= signs
    dual = torch.zeros_like(weights)
    dual[::keys] = basis[:, :rank] * signs
    if centers is not None and "means" in paths and rank:
        more = _between(paths["means"].flatten(1).double(), weights, dual, keys, centers.between)
        weights, dual = (
            torch.cat([weights, more], 1),
            torch.cat([dual, more - dual @ (weights.T @ more)], 1),
        )
    # Every mode moves the centres: that is what all players know.
    ranks = {
        n: weights.shape[1] if n == "means" else own
        for n, own in ranks.items()
        if rank and (own or n == "means")
    }
    return weights.float(), ranks, dual.float()


def _rank(basis: Float[Tensor, "t k"], parts: Float[Tensor, "k m c"], bound: float) -> int:
    """How many of the first modes there must be for no path to be further than ``bound`` from where
    it should be.
    """
    lacking = torch.zeros(len(basis), *parts.shape[1:], dtype=parts.dtype)
    for k in reversed(range(len(parts))):
        lacking.addcmul_(basis[:, k, None, None], parts[k])
        if float(lacking.square().sum(-1).max()) > bound**2:
            return k + 1
    return 0


def _between(
    path: Float[Tensor, "t d"],
    weights: Float[Tensor, "t k"],
    dual: Float[Tensor, "t k"],
    keys: int,
    bound: float,
) -> Float[Tensor, "t e"]:
    """Weights of further modes for what the first ones lack between the frames.

    Orthonormal, nothing at the frames.
    """
    lacking = path - weights @ (dual.T @ path)
    lacking[::keys] = 0
    powers, basis = torch.linalg.eigh(lacking @ lacking.T)
    basis = basis.flip(1)[:, : min(weights.shape[1], int((powers > 0).sum()))]
    basis[::keys] = 0
    return basis[:, : _rank(basis, (basis.T @ lacking).unflatten(1, (-1, 3)), bound)]
