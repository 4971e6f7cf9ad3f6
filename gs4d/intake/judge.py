"""Warns of what is doubtful about a clip, in sentences with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..io.images import read_image, resize_rgba
from .crop import Crop
from .masks import MaskFacts

JUMP = 1.5  # ratio of areas from frame to frame that no motion makes
STILL = 1.0  # levels of 255 from frame to frame within the object, below which nothing moves
SEVERAL = 0.1  # of the largest part, from which another part may be another object
SMALL = 128  # pixels


def judge_clip(
    facts: Sequence[MaskFacts], finished: Sequence[Path], crop: Crop, size: int, *, followed: bool
) -> list[str]:
    """Warnings about masks, crop and motion.

    Args:
        facts: of the mask of every frame, in pixels of the source.
        finished: the frames as they were written.
        crop: how they were cut out.
        size: their side in pixels.
        followed: whether the crop follows the object.
    """
    said = [*_borders(facts), *_jumps(facts)]
    shares = [f.parts[1] / f.parts[0] for f in facts if len(f.parts) > 1]
    if len(shares) > len(facts) / 2 and np.median(shares) > SEVERAL:
        said.append(
            f"several objects: in {len(shares)} of {len(facts)} frames there are parts that are "
            f"apart, the second with {np.median(shares):.0%} of the pixels of the largest; all are "
            "kept (--objects largest keeps one)"
        )
    if size < SMALL:
        said.append(
            f"the object is small: the crop has {crop.side:.0f} pixels in the source, so the "
            f"frames have only {size}"
        )
    boxes = np.array([f.box for f in facts if f.box])
    own = float((boxes[:, 2:] - boxes[:, :2]).max())
    together = float((boxes[:, 2:].max(0) - boxes[:, :2].min(0)).max())
    if not followed and together > 1.6 * own:
        said.append(
            f"the object moves across the picture: it is {own:.0f} pixels large but covers "
            f"{together:.0f} over the clip, so it "
            "is small in the frames; --stabilise lets the crop follow it"
        )
    motion = _motion(finished)
    if motion and np.mean(motion) < STILL:
        said.append(
            f"too little motion: frames differ from the one before by {np.mean(motion):.2f} of 255 "
            "within the object"
        )
    return said


def _borders(facts: Sequence[MaskFacts]) -> list[str]:
    said = []
    cut = {i: max(f.cut.items(), key=lambda item: item[1]) for i, f in enumerate(facts) if f.cut}
    if cut:
        worst = max(cut, key=lambda i: cut[i][1])
        said.append(
            f"the object is cut by the border of the picture in {len(cut)} of {len(facts)} frames "
            f"({_listed(list(cut))}), most in frame {worst}: {cut[worst][1]} pixels at the "
            f"{cut[worst][0]}; what is beyond cannot be known"
        )
    # what stands on the ground is straight at the bottom
    for edge, side in enumerate(("left", "top", "right")):
        places = {i: f.box[edge] for i, f in enumerate(facts) if f.box and side in f.straight}
        if len(places) >= max(2, 0.3 * len(facts)):
            place = int(np.median(list(places.values())))
            same = [i for i, p in places.items() if abs(p - place) <= 1]
            if len(same) >= max(2, 0.3 * len(facts)):
                said.append(
                    f"the object ends in a straight line at the {side} (pixel {place}) in "
                    f"{len(same)} of {len(facts)} frames ({_listed(same)}), as if it had been cut "
                    "there before"
                )
    return said


def _jumps(facts: Sequence[MaskFacts]) -> list[str]:
    said = []
    empty = [i for i, f in enumerate(facts) if f.box is None]
    if empty:
        said.append(f"nothing is seen in {len(empty)} of {len(facts)} frames ({_listed(empty)})")
    jumps = [
        i
        for i in range(1, len(facts))
        if facts[i].area
        and facts[i - 1].area
        and abs(np.log(facts[i].area / facts[i - 1].area)) > np.log(JUMP)
    ]
    if jumps:
        worst = max(jumps, key=lambda i: abs(np.log(facts[i].area / facts[i - 1].area)))
        change = facts[worst].area / facts[worst - 1].area - 1
        said.append(
            f"the mask jumps before {len(jumps)} of {len(facts)} frames ({_listed(jumps)}), most "
            f"before frame {worst}, where its area changes by {change:+.0%}"
        )
    return said


def _motion(files: Sequence[Path]) -> list[float]:
    """Returns each frame's mean difference, of 255, from the one before where either covers."""
    amounts, before = [], None
    for path in files:
        small = resize_rgba(read_image(path), 128, 128).astype(np.float32)
        seen = np.concatenate([small[..., :3] * small[..., 3:] / 255, small[..., 3:]], -1)
        if before is not None and (either := (seen[..., 3] > 25) | (before[..., 3] > 25)).any():
            amounts.append(float(np.abs(seen - before)[either].mean()))
        before = seen
    return amounts


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")
