"""Times the native rasterizer on a standard scene and prints a markdown table.

``python -m benchmarks.rasterizer --help``.

The scene is a bumpy shell of radius 0.8 seen from distance 2, with Gaussians of the same size for
any count, so that large counts are deep. Cells are run in turn, round after round, so that a busy
moment of the machine touches them all.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import time
from collections.abc import Callable
from itertools import product

import torch

from gs4d import _native
from gs4d.camera import orbit_cameras
from gs4d.gaussians import Gaussians
from gs4d.geometry import morton_order
from gs4d.render import Render, render

Cell = tuple[tuple[int, int, int], int, str]  # (count, size, views), threads, instruction set


def standard_scene(
    count: int, sh_degree: int, views: int | None = None, seed: int = 0
) -> Gaussians:
    """A bumpy shell of ``count`` Gaussians in Morton order.

    With ``views``, each has its own means, quats and scales.
    """
    generator = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    x, y, z = normals.unbind(-1)
    bumps = 1 + 0.08 * torch.sin(5 * x) * torch.sin(6 * y + 1) + 0.05 * torch.sin(9 * z)
    means = normals * (0.8 * bumps + 0.01 * torch.randn(count, generator=generator))[:, None]
    log_scales = math.log(0.018) + 0.45 * torch.randn(count, 3, generator=generator)
    log_scales[:, 2] += math.log(0.35)
    opacities = torch.rand(count, generator=generator) * 0.89 + 0.1
    shell = Gaussians(
        means=means,
        quats=torch.randn(count, 4, generator=generator),
        log_scales=log_scales,
        logit_opacities=torch.logit(opacities),
        sh=torch.randn(count, (sh_degree + 1) ** 2, 3, generator=generator) * 0.5,
    ).select(morton_order(means))
    if views is None:
        return shell
    own = {
        name: getattr(shell, name).expand(views, -1, -1).clone()
        for name in ("means", "quats", "log_scales")
    }
    own["means"] += 0.005 * torch.randn(views, 1, 3, generator=generator)
    return shell.replace(**own)


def prepare(
    count: int, size: int, views: int, sh_degree: int
) -> tuple[Callable[[], Render], Callable[[], object]]:
    """Two functions that run the forward pass alone, and forward and backward."""
    gaussians = standard_scene(count, sh_degree, views if views > 1 else None)
    leaves = [tensor.requires_grad_() for _, tensor in gaussians.items()]
    azimuths = [360.0 / views * i for i in range(views)]
    cameras = orbit_cameras(azimuths, [10.0] * views, radius=2.0, width=size, height=size)
    weights = torch.randn(views, size, size, 3, generator=torch.Generator().manual_seed(1))

    def forward() -> Render:
        with torch.no_grad():
            return render(gaussians, cameras, background=(0.0, 0.0, 0.0), backend="cpu")

    def both() -> object:
        picture = render(gaussians, cameras, background=(0.0, 0.0, 0.0), backend="cpu")
        return torch.autograd.grad([picture.rgb], leaves, [weights])

    return forward, both


def milliseconds(function: Callable[[], object]) -> float:
    """Times one call."""
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Prints milliseconds of the rasterizer, forward and backward."""
    parser = argparse.ArgumentParser(
        description="Times the native rasterizer; milliseconds per call, all views together."
    )
    parser.add_argument(
        "--counts",
        type=int,
        nargs="+",
        default=[5000, 20000, 50000, 100000],
        help="numbers of Gaussians",
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[128, 256, 512], help="image sizes in pixels"
    )
    parser.add_argument(
        "--views",
        type=int,
        nargs="+",
        default=[1],
        help="views per call; above 1 each moves its own Gaussians",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads")
    parser.add_argument(
        "--isas", nargs="+", default=[_native.isa()], help=f"of {' '.join(_native.isas())}"
    )
    parser.add_argument(
        "--sh-degree",
        type=int,
        default=0,
        choices=range(4),
        help="degree of the spherical harmonics",
    )
    parser.add_argument("--rounds", type=int, default=15, help="runs of every cell")
    args = parser.parse_args()

    scenes = {
        key: prepare(*key, args.sh_degree) for key in product(args.counts, args.sizes, args.views)
    }
    cells: list[Cell] = list(product(scenes, args.threads, args.isas))
    times: dict[Cell, tuple[list[float], list[float]]] = {cell: ([], []) for cell in cells}
    gc.disable()
    for round_index in range(args.rounds + 1):
        for cell in cells:
            key, threads, isa = cell
            _native.set_num_threads(threads)
            _native.set_isa(isa)
            for function, row in zip(scenes[key], times[cell], strict=True):
                function()  # brings this scene's memory back into the caches
                duration = milliseconds(function)
                if round_index:
                    row.append(duration)
    print(
        "| Gaussians | pixels | views | threads | ISA | forward ms | forward+backward ms | least "
        "of each |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for ((count, size, views), threads, isa), (forward, both) in times.items():
        medians = f"{statistics.median(forward):.2f} | {statistics.median(both):.2f}"
        print(
            f"| {count} | {size} | {views} | {threads} | {isa} | {medians} | {min(forward):.2f} / "
            f"{min(both):.2f} |"
        )


if __name__ == "__main__":
    main()
