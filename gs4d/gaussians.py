"""The first noun: a set of 3D Gaussians in its unconstrained parameters, the ones that are
optimised and stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from .geometry import quat_multiply, rotations_to_quats, sh_rotation

# Signs of the spherical-harmonic coefficients under half a turn about x: those odd in y and z
# together change theirs.
HALF_TURN_SH = tuple(1.0 if sign == "+" else -1.0 for sign in "+--+-++-+-+--+-+")
FIELD_NDIM = {"means": 2, "quats": 2, "log_scales": 2, "logit_opacities": 1, "sh": 3}


@dataclass(frozen=True)
class Gaussians:
    """``n`` Gaussians.

    Any field may carry one more leading axis ``b``: a set of its own for each of ``b`` views.

    Attributes:
        means: centres, world space, object radius units.
        quats: rotations, wxyz, need not be unit.
        log_scales: natural logarithm of the standard deviations along the rotated axes, world
            units.
        logit_opacities: logit of the opacity in (0, 1).
        sh: spherical-harmonic coefficients, k = 1, 4, 9 or 16 (degree 0-3), RGB last; colour = 0.5
            + basis . sh, >= 0.
    """

    means: Float[Tensor, "... n 3"]
    quats: Float[Tensor, "... n 4"]
    log_scales: Float[Tensor, "... n 3"]
    logit_opacities: Float[Tensor, "... n"]
    sh: Float[Tensor, "... n k 3"]

    def __post_init__(self) -> None:
        n = self.count
        want = {"means": (n, 3), "quats": (n, 4), "log_scales": (n, 3), "logit_opacities": (n,)}
        batches = set()
        for name, tensor in self.items():
            tail = want.get(name) or (n, self.sh.shape[-2], 3)
            lead = tensor.shape[: tensor.ndim - len(tail)]
            if tensor.shape[len(lead) :] != tail or len(lead) > 1:
                raise ValueError(
                    f"Gaussians.{name} has shape {tuple(tensor.shape)}, wanted ([b,] "
                    f"{', '.join(map(str, tail))})"
                )
            batches.update(lead)
        if self.sh.shape[-2] not in (1, 4, 9, 16):
            raise ValueError(
                f"Gaussians.sh has {self.sh.shape[-2]} coefficients per channel, wanted 1, 4, 9 or "
                "16"
            )
        if len(batches) > 1:
            raise ValueError(f"Gaussians mixes view axes of lengths {sorted(batches)}, wanted one")

    @property
    def count(self) -> int:
        """Number of Gaussians ``n``."""
        return self.means.shape[-2]

    @property
    def views(self) -> int | None:
        """Length of the view axis, or None when every field is shared by all views."""
        return next((len(t) for name, t in self.items() if t.ndim > FIELD_NDIM[name]), None)

    @property
    def sh_degree(self) -> int:
        """Spherical-harmonic degree 0-3."""
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh.shape[-2]]

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Field names and tensors in declaration order."""
        return ((f.name, getattr(self, f.name)) for f in fields(self))

    def select(self, index: Tensor) -> Gaussians:
        """The Gaussians at ``index`` (a mask or indices along ``n``)."""
        axis = {"means": -2, "quats": -2, "log_scales": -2, "logit_opacities": -1, "sh": -3}
        where = index.nonzero().squeeze(-1) if index.dtype == torch.bool else index
        return Gaussians(
            **{name: tensor.index_select(axis[name], where) for name, tensor in self.items()}
        )

    def to(self, target: torch.dtype | torch.device) -> Gaussians:
        """As ``Tensor.to`` on every field."""
        return Gaussians(**{name: tensor.to(target) for name, tensor in self.items()})

    def detach(self) -> Gaussians:
        """The same values without history."""
        return Gaussians(**{name: tensor.detach() for name, tensor in self.items()})

    def replace(self, **changes: Tensor) -> Gaussians:
        """A copy with some fields changed; shapes are checked again."""
        return replace(self, **changes)

    def at_view(self, view: int) -> Gaussians:
        """The set that view ``view`` sees.

        Fields with a view axis are indexed, shared ones kept.
        """
        return Gaussians(
            **{name: t[view] if t.ndim > FIELD_NDIM[name] else t for name, t in self.items()}
        )

    def half_turn(self) -> Gaussians:
        """Half a turn about x: y up and z back become y down and z forward, or the other way.

        Exact, its own inverse.
        """
        return self.replace(
            means=self.means * self.means.new_tensor([1.0, -1.0, -1.0]),
            quats=self.quats * self.quats.new_tensor([1.0, 1.0, -1.0, -1.0]),
            sh=self.sh * self.sh.new_tensor(HALF_TURN_SH)[: self.sh.shape[-2], None],
        )

    def turned(self, matrix: Float[Tensor, "3 3"]) -> Gaussians:
        """Everything turned about the origin by an orthogonal matrix, or mirrored where its
        determinant is -1.
        """
        turn = matrix.double().cpu()
        # A Gaussian looks the same when all its axes point the other way: so a mirror is a rotation
        # of its shape.
        proper = turn * torch.linalg.det(turn).sign()
        quat = rotations_to_quats(proper).to(self.quats)
        mixed = sh_rotation(turn, self.sh_degree).to(self.sh)
        return self.replace(
            means=self.means @ turn.T.to(self.means),
            quats=quat_multiply(quat, self.quats),
            sh=mixed @ self.sh,
        )
