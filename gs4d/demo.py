"""The demo clip: the procedural rose filmed by the input camera, by SyncDreamer's 16 and by six
cameras to score on.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from .clip import Orbit, cameras_of, syncdreamer_rig
from .errors import UserError
from .io.clips import cameras_record
from .io.files import atomic_path, write_json
from .io.images import to_bytes
from .render import render
from .synth import rose

# Consistent4D's four test views, one from below and one from high behind.
EVAL_RIG = [
    Orbit(float(a), float(e))
    for a, e in ((-75, 0), (15, 0), (105, 0), (195, 0), (60, -15), (200, 45))
]


def write_rose(data_dir: Path, *, frames: int = 16, size: int = 256) -> None:
    """Writes the clip ``rose`` in the layout of :mod:`gs4d.io.clips`, with truth.

    Leaves a clip that is there untouched.

    The pictures are square, RGBA with straight alpha, the same bytes every time. All of it appears
    together, or nothing.

    Args:
        data_dir: gets ``rose_pose0``, ``rose_sync``, ``rose_eval`` and ``rose_cameras.json``.
        frames: number of frames, at least 1; the bud is the first and the open flower the last.
        size: pixels along a side.

    Raises:
        UserError: the folder cannot be written, or holds parts of a clip ``rose`` that has no input
            video.
    """
    # The input video is placed last, so that its presence means that the clip is complete.
    targets = [
        data_dir / name for name in ("rose_pose0", "rose_sync", "rose_eval", "rose_cameras.json")
    ]
    if targets[0].exists():
        return
    if orphan := next((path for path in targets if path.exists()), None):
        raise UserError(
            f"{orphan} is there without {targets[0].name}; move or delete it, so that the demo can "
            "be written"
        )
    side = syncdreamer_rig()
    cameras = cameras_of([Orbit(), *side, *EVAL_RIG], width=size, height=size)
    with ExitStack() as stack:
        pose0, sync, truth, rig = (stack.enter_context(atomic_path(path)) for path in targets)
        for folder in (pose0, sync, *(truth / f"eval_{k}" for k in range(len(EVAL_RIG)))):
            folder.mkdir(parents=True)
        pool = stack.enter_context(ThreadPoolExecutor(2))
        saved = []
        for t in range(frames):
            drawn = render(rose(t / max(frames - 1, 1)), cameras, background=(0.0, 0.0, 0.0))
            straight = drawn.rgb / drawn.alpha.clamp_min(1e-6)[..., None]
            pictures = to_bytes(torch.cat([straight, drawn.alpha[..., None]], -1))
            paths = [pose0 / f"{t}.png", *(sync / f"{t}_0_{v}_rgba.png" for v in range(len(side)))]
            paths += [truth / f"eval_{k}" / f"{t}.png" for k in range(len(EVAL_RIG))]
            saved += [
                pool.submit(_save, path, picture)
                for path, picture in zip(paths, pictures, strict=True)
            ]
        for future in saved:
            future.result()
        named = {f"eval_{k}": orbit for k, orbit in enumerate(EVAL_RIG)}
        write_json(rig, cameras_record(Orbit(), side, named, frames=frames, size=size))


def _save(path: Path, picture: UInt8[np.ndarray, "h w 4"]) -> None:
    Image.fromarray(np.where(picture[..., 3:] == 0, 0, picture)).save(path)
