"""The deformation field on the compiled kernels.

``hexplane.decode_torch`` is what it must equal.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..native import kernels

OUTPUTS = 16  # columns of deltas at most: the kernels pad the output layer to one vector of them
MAX_LEVELS = 8


def decode_fused(
    unit: Float[Tensor, "n 3"],
    space: list[Tensor],
    rows: list[Tensor],
    hidden_weight: Float[Tensor, "w f"],
    hidden_bias: Float[Tensor, " w"],
    out_weight: Float[Tensor, "d w"],
    out_bias: Float[Tensor, " d"],
) -> Float[Tensor, "t n d"]:
    """As ``hexplane.decode_torch``, for float32 on the CPU.

    The same bits for any number of threads.
    """
    return _Decode.apply(unit, hidden_weight, hidden_bias, out_weight, out_bias, *space, *rows)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        unit: Tensor,
        hidden_weight: Tensor,
        hidden_bias: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        *planes: Tensor,
    ) -> Tensor:
        inputs = [
            t.detach().contiguous()
            for t in (unit, hidden_weight, hidden_bias, out_weight, out_bias, *planes)
        ]
        ctx.save_for_backward(*inputs)
        unit, w1_transposed, b1, w2_transposed, b2, *planes_ = inputs
        levels = len(planes_) // 2
        d = len(b2)
        deltas = unit.new_empty(planes_[levels].shape[1], len(unit), d)
        w2 = F.pad(w2_transposed, (0, 0, 0, OUTPUTS - d)).T.contiguous()
        layers = (w1_transposed.T.contiguous(), b1, w2, F.pad(b2, (0, OUTPUTS - d)))
        kernels.field_forward(unit, planes_[:levels], planes_[levels:], *layers, deltas)
        return deltas

    @staticmethod
    @once_differentiable
    def backward(ctx, *upstream: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        unit, w1_transposed, b1, w2_transposed, b2, *planes = ctx.saved_tensors
        levels = len(planes) // 2
        space, rows = planes[:levels], planes[levels:]
        h, f = w1_transposed.shape
        d = len(b2)
        w2_padded, b2_padded = (
            F.pad(w2_transposed, (0, 0, 0, OUTPUTS - d)),
            F.pad(b2, (0, OUTPUTS - d)),
        )
        sizes = [*(r.numel() for r in rows), f * h, h, OUTPUTS * h, OUTPUTS]
        grad_unit, grad_space = torch.empty_like(unit), [torch.empty_like(s) for s in space]
        rest = unit.new_empty(sum(sizes))
        layers = (w1_transposed.T.contiguous(), w1_transposed, b1, w2_padded, b2_padded)
        grads = (upstream[0].contiguous(), grad_unit, grad_space, rest)
        kernels.field_backward(unit, space, rows, *layers, *grads)
        *grad_rows, w1, grad_b1, w2, grad_b2 = rest.split(sizes)
        grad_rows = [grad.view_as(r) for grad, r in zip(grad_rows, rows, strict=True)]
        return (
            grad_unit,
            w1.view(f, h).T,
            grad_b1,
            w2.view(OUTPUTS, h)[:d],
            grad_b2[:d],
            *grad_space,
            *grad_rows,
        )
