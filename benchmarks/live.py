"""What the live window costs a fit: python benchmarks/live.py.

Fits the rose with and without an open page, in turns.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (0.0, 0.0, 1.5),
    "fov": 0.8,
    "near": 0.01,
    "far": 100.0,
    "image_height": 600,
    "image_width": 800,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 1.0, 0.0),
}


def watch(url: str) -> None:
    """Takes everything that a page is sent, as a browser on another machine would.

    Drawing it costs this one nothing.
    """
    import msgspec
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    address = url.replace("http", "ws")
    with connect(
        address,
        subprotocols=[Subprotocol(f"viser-v{version('viser')}")],
        max_size=None,
        compression=None,
    ) as page:
        page.send(msgspec.msgpack.encode(CAMERA))
        for _ in page:
            pass


def main() -> None:
    """Prints what the live window costs a fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--play", action="store_true", help="let the page play the animation meanwhile"
    )
    args = parser.parse_args()

    from dataclasses import replace

    from gs4d.config import load_config
    from gs4d.demo import write_rose
    from gs4d.fit import fit
    from gs4d.io.clips import read_clip
    from gs4d.view.live import LiveWindow

    quick = load_config(Path(__file__).parent.parent / "arguments" / "quick.py").fit
    options = replace(quick, steps=args.steps, checkpoint_seconds=1e6)
    wall: dict[str, list[float]] = {"alone": [], "watched": []}
    cpu: dict[str, list[float]] = {"alone": [], "watched": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rose(folder)
        clip = read_clip(folder, "rose", resolution=options.resolution)
        for run in range(2 * args.repeats):
            kind = list(wall)[run % 2]
            with ExitStack() as stack:
                window = None
                if kind == "watched":
                    window = stack.enter_context(LiveWindow(8000))
                    page = multiprocessing.get_context("spawn").Process(
                        target=watch, args=(window.url,), daemon=True
                    )
                    page.start()
                    stack.callback(page.terminate)
                    while not window.server.get_clients():
                        time.sleep(0.1)
                    if args.play:
                        window.play.value = True
                start, work = time.monotonic(), time.process_time()
                fit(clip, options, folder, on_step=window)
                wall[kind].append(time.monotonic() - start)
                cpu[kind].append(time.process_time() - work)
    print(f"\n{args.steps} steps, {args.repeats} times; watched / alone, median of the pairs")
    for name, seconds in (("wall", wall), ("CPU of all threads", cpu)):
        ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
        alone, watched = (statistics.median(times) for times in seconds.values())
        print(f"{name}: {alone:.2f} s, {watched:.2f} s, ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
