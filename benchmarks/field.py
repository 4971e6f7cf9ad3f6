"""Times the deformation field and the picture loss, torch against the compiled kernels.

Python benchmarks/field.py.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable

import torch
from torch import Tensor

from gs4d.gaussians import Gaussians
from gs4d.losses import photometric, photometric_torch
from gs4d.motion import HexPlane, HexPlaneOptions, apply_deltas
from gs4d.motion.fused import decode_fused
from gs4d.motion.hexplane import decode_torch, time_rows
from gs4d.native import kernels

# runs forward, returns a scalar and what to differentiate by
Case = Callable[[], tuple[Tensor, list[Tensor]]]


def milliseconds(case: Case, repeats: int) -> tuple[float, float]:
    """Best forward and backward time; the best, because other processes can only add."""
    forward, backward = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        loss, inputs = case()
        middle = time.perf_counter()
        torch.autograd.grad(loss, inputs)
        forward.append(1e3 * (middle - start))
        backward.append(1e3 * (time.perf_counter() - middle))
    return min(forward), min(backward)


def field_case(decoder: Callable[..., Tensor], points: int, times: int) -> Case:
    """Returns a forward and backward pass of a field and its decoder."""
    field = HexPlane(HexPlaneOptions(), 16)
    unit = torch.rand(points, 3).requires_grad_()
    rows = [
        time_rows(plane.detach(), torch.linspace(0, 1, times)).requires_grad_()
        for plane in field.time
    ]
    layers = [field.hidden.weight, field.hidden.bias, field.out.weight, field.out.bias]
    cotangent = torch.randn(times, points, 9)

    def run() -> tuple[Tensor, list[Tensor]]:
        deltas = decoder(unit, list(field.space), rows, *layers)
        return deltas.flatten().dot(cotangent.flatten()), [unit, *field.space, *rows, *layers]

    return run


def apply_case(points: int, times: int) -> Case:
    """Returns a forward and backward pass of deltas on Gaussians."""
    means, quats, log_scales = fields = [
        torch.randn(points, width).requires_grad_() for width in (3, 4, 3)
    ]
    gaussians = Gaussians(means, quats, log_scales, torch.zeros(points), torch.zeros(points, 1, 3))
    deltas = torch.randn(times, points, 9).requires_grad_()
    heads = HexPlane(HexPlaneOptions(), 2).heads

    def run() -> tuple[Tensor, list[Tensor]]:
        moved = apply_deltas(gaussians, heads.split(deltas))
        return moved.means.sum() + moved.quats.sum() + moved.log_scales.sum(), [deltas, *fields]

    return run


def loss_case(fused: bool, views: int, size: int) -> Case:
    """Returns a forward and backward pass of the picture loss."""
    prediction, target = (
        torch.rand(views, size, size, 3).requires_grad_(),
        torch.rand(views, size, size, 3),
    )

    def run() -> tuple[Tensor, list[Tensor]]:
        if fused:
            return photometric(prediction, target), [prediction]
        return photometric_torch(prediction, target, 0.2, None), [prediction]

    return run


def main() -> None:
    """Prints milliseconds of all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="picture height and width")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    if kernels is None:
        raise SystemExit(
            "the compiled kernels are missing: install the package with a C++ compiler, then run "
            "this again"
        )
    gc.disable()
    torch.set_num_threads(1)
    work = f"{args.points} points x {args.times} times, {args.times} pictures of {args.size}^2"
    work += f", {kernels.isa()}"
    print(f"{work}; ms, best of {args.repeats}; torch on 1 thread\n")
    print(
        "| what | threads | forward | backward | sum | torch / native |\n| --- | --- | --- | --- | "
        "--- | --- |"
    )
    n, t = args.points, args.times
    pairs = [
        ("field", field_case(decode_torch, n, t), field_case(decode_fused, n, t)),
        ("L1 + SSIM", loss_case(False, t, args.size), loss_case(True, t, args.size)),
    ]
    for name, plain, fused in pairs:
        torch_time = report(f"{name}, torch", 1, plain, args.repeats)
        for threads in (1, 2):
            kernels.set_num_threads(threads)
            report(f"{name}, native", threads, fused, args.repeats, torch_time)
    report("apply deltas, torch", 1, apply_case(n, t), args.repeats)


def report(
    name: str, threads: int, case: Case, repeats: int, torch_time: float | None = None
) -> float:
    """Prints a row of the table and returns forward + backward."""
    forward, backward = milliseconds(case, repeats)
    both = forward + backward
    ratio = "" if torch_time is None else f"{torch_time / both:.1f}"
    print(f"| {name} | {threads} | {forward:.1f} | {backward:.1f} | {both:.1f} | {ratio} |")
    return both


if __name__ == "__main__":
    main()
