"""How well the frame between two others is found, against their plain average.

python benchmarks/interpolation.py --clips data/fox data/knight --resolution 128 --interpolator flow
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from gs4d.clip import Track
from gs4d.io.clips import read_clip
from gs4d.metrics.image import psnr
from gs4d.prior import Interpolator, open_prior


def score(track: Track, interpolator: Interpolator) -> tuple[float, float]:
    """Mean PSNR over white, dB, of frames t + 1 from t and t + 2.

    Of the average, and of the interpolator.
    """
    frames = torch.stack([track.premultiplied(t) for t in range(len(track.images))])
    first, truth, last = frames[:-2:2], frames[1:-1:2], frames[2::2]
    answers = (0.5 * (first + last), interpolator.middle(first, last))
    pairs = (
        [(answer[..., :3] + 1 - answer[..., 3:]).clamp(0, 1) for answer in found]
        for found in answers
    )
    wanted = [frame[..., :3] + 1 - frame[..., 3:] for frame in truth]
    average, ours = (
        sum(psnr(a, b).item() for a, b in zip(found, wanted, strict=True)) / len(wanted)
        for found in pairs
    )
    return average, ours


def main() -> None:
    """Prints how well interpolators find the middle frame."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clips", nargs="+", type=Path, default=[Path("data/rose")], help="DATA_DIR/NAME each"
    )
    parser.add_argument(
        "--views",
        nargs="+",
        type=int,
        default=[0, 3, 8],
        help="tracks: 0 is the input, then the side views",
    )
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--interpolator", default="flow")
    options = parser.parse_args()
    interpolator, began, rows = open_prior(options.interpolator, "middle"), time.perf_counter(), []
    print(
        f"| clip | view | average | {options.interpolator} | gain, dB |\n|---|---|---:|---:|---:|"
    )
    for path in options.clips:
        clip = read_clip(path.parent, path.name, resolution=options.resolution)
        for track in (clip.tracks[view] for view in options.views if view < len(clip.tracks)):
            average, ours = score(track, interpolator)
            rows.append((average, ours))
            print(
                f"| {path.name} | {track.name} | {average:.2f} | {ours:.2f} | "
                f"{ours - average:+.2f} |",
                flush=True,
            )
    average, ours = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    print(f"| mean | | {average:.2f} | {ours:.2f} | {ours - average:+.2f} |")
    print(f"{time.perf_counter() - began:.1f} s in all, reading and averaging included")


if __name__ == "__main__":
    main()
