"""Times the making and drawing of procedural objects and prints a markdown table.

``python -m benchmarks.synth --help``.

Each object is made from its seed and drawn from SyncDreamer's 16 side views at 8 times, as training
on the fly does. Every process works on seeds of its own with one thread. Wall time suffers from
whatever else the machine does; CPU time hardly.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from gs4d.clip import syncdreamer_rig
from gs4d.native import set_threads
from gs4d.synth import draw_views, make_object, options_for


def work(task: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    """Returns wall seconds, CPU seconds of making and of drawing, and the mean count."""
    first, objects, size, frames = task
    set_threads(1)
    rig = syncdreamer_rig()
    times, orbits = np.repeat(np.linspace(0, 1, frames), len(rig)), rig * frames
    making = drawing = counts = 0.0
    start = time.perf_counter()
    for seed in range(first, first + objects):
        begin = time.process_time()
        subject = make_object(seed, options_for(size))
        made = time.process_time()
        draw_views(subject, times, orbits, size)
        making, drawing, counts = (
            making + made - begin,
            drawing + time.process_time() - made,
            counts + subject.count,
        )
    return time.perf_counter() - start, making / objects, drawing / objects, counts / objects


def main() -> None:
    """Prints how many objects are made and drawn per second."""
    parser = argparse.ArgumentParser(
        description="Objects per second, made and drawn from 16 views at some times."
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[64, 128], help="pixels along a side"
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="processes")
    parser.add_argument("--frames", type=int, default=8, help="times")
    parser.add_argument("--objects", type=int, default=60, help="objects per process")
    args = parser.parse_args()
    print(
        "| pixels | processes | Gaussians | making, CPU ms | drawing, CPU ms | objects/s, wall | "
        "objects/s, CPU |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for processes in args.processes:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            list(pool.map(work, [(0, 2, 32, 2)] * processes))  # what is done once
            for size in args.sizes:
                tasks = [(1000 * i, args.objects, size, args.frames) for i in range(processes)]
                walls, making, drawing, counts = np.array(list(pool.map(work, tasks))).T
                rates = (
                    args.objects * processes / walls.max(),
                    processes / (making + drawing).mean(),
                )
                cells = (
                    f"{counts.mean():.0f} | {1e3 * making.mean():.1f} | {1e3 * drawing.mean():.1f}"
                )
                print(
                    f"| {size} | {processes} | {cells} | {rates[0]:.1f} | {rates[1]:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
