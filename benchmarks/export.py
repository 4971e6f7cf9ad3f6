"""Times every export format: python benchmarks/export.py.

Each runs in a process of its own, for its peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def measure(name: str, gaussians: int, frames: int, folder: Path) -> None:
    """Exports one format, and prints wall and CPU seconds, MB written and peak memory in MB."""
    import torch

    from gs4d.asset import Asset
    from gs4d.clip import Orbit
    from gs4d.export import ExportOptions, export
    from gs4d.gaussians import Gaussians
    from gs4d.motion import HexPlane, HexPlaneOptions

    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(gaussians, 3), dim=1)
    waves = 0.45 + 0.05 * torch.sin(8 * directions).sum(1, keepdim=True)
    ball = Gaussians(
        means=directions * waves,
        quats=torch.randn(gaussians, 4),
        log_scales=-5.2 + 0.3 * torch.randn(gaussians, 3),
        logit_opacities=1.0 + torch.randn(gaussians),
        sh=torch.sin(4 * directions)[:, None],
    )
    motion = HexPlane(HexPlaneOptions(), 16)
    motion.fit_box(ball.means, margin=0.1)
    with torch.no_grad():
        motion.out.weight.normal_(0, 0.02)
        for plane in motion.time:
            plane.normal_(1, 0.2)
    asset = Asset(ball, motion.requires_grad_(False), 16, {"input": (Orbit(),)})
    asset.at(0.5)
    start, work = time.monotonic(), time.process_time()
    (path,) = export(asset, folder, "ball", ExportOptions(to=(name,), frames=frames))
    seconds, cpu = time.monotonic() - start, time.process_time() - work
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = sum(p.stat().st_size for p in files) / 1e6
    print(json.dumps({"seconds": seconds, "cpu": cpu, "mb": size, "peak": peak / 1e3}))


def main() -> None:
    """Measures sizes and losses of every export format."""
    from gs4d.export import FORMATS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gaussians", type=int, default=100_000)
    parser.add_argument("--frames", type=int, nargs="+", default=[15, 60])
    parser.add_argument("--to", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if args.one:
            measure(args.to[0], args.gaussians, args.frames[0], Path(name))
            return
    print(f"{args.gaussians} Gaussians\n")
    print(
        "| format | frames | seconds | CPU seconds | MB | peak memory, MB |\n| --- | --- | --- | "
        "--- | --- | --- |"
    )
    for to in args.to:
        for frames in args.frames:
            command = [sys.executable, __file__, "--one", "--to", to, "--frames", str(frames)]
            done = subprocess.run(
                [*command, "--gaussians", str(args.gaussians)], stdout=subprocess.PIPE, check=True
            )
            row = json.loads(done.stdout.splitlines()[-1])
            numbers = (
                f"{row['seconds']:.1f} | {row['cpu']:.1f} | {row['mb']:.1f} | {row['peak']:.0f}"
            )
            print(f"| {to} | {frames} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
