"""What a run's checkpoint holds of its asset: the keys that drawing, export and scoring need."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from .asset import Asset
from .clip import Orbit
from .errors import UserError
from .gaussians import FIELD_NDIM, Gaussians
from .motion import HexPlane, HexPlaneOptions, Vanishing

MAX_FRAMES = 1_000_000


def pack_asset(asset: Asset) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and record of an asset that moves by a :class:`HexPlane`, vanishing or not.

    Raises:
        TypeError: it moves by anything else.
    """
    field = asset.motion.motion if isinstance(asset.motion, Vanishing) else asset.motion
    if not isinstance(field, HexPlane):
        raise TypeError(f"a checkpoint holds a HexPlane, not a {type(field).__name__}")
    tensors = {f"asset.{name}": t for name, t in asset.gaussians.items()}
    tensors |= {f"motion.{name}": t for name, t in field.state_dict().items()}
    hidden = asset.motion.hidden if isinstance(asset.motion, Vanishing) else ()
    return tensors, {
        "motion": motion_record(field.options, asset.frames),
        "orbits": {name: [asdict(o) for o in orbits] for name, orbits in asset.orbits.items()},
        "hidden": [frame for frame, gone in enumerate(hidden) if gone],
    }


def unpack_asset(tensors: dict[str, Tensor], record: dict[str, Any]) -> Asset:
    """The asset of :func:`pack_asset`.

    Raises:
        UserError: it moves in a way that is no longer there.
        ValueError, KeyError, TypeError: numbers are missing or do not fit together.
    """
    gaussians = unpack_gaussians(tensors)
    frames = record["motion"]["frames"]
    if not isinstance(frames, int) or not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"{frames!r:.40} frames")
    state = of_motion(tensors)
    with torch.device("meta"):  # sizes are compared before memory is taken for them
        wanted = _field(record["motion"]).state_dict()
    if sum(t.numel() for t in wanted.values()) != sum(t.numel() for t in state.values()):
        raise ValueError("its motion has another size than its record says")
    field = _field(record["motion"])
    field.load_state_dict(state)
    field.requires_grad_(False)
    gone = set(record.get("hidden", []))
    hidden = tuple(frame in gone for frame in range(frames))
    # Earlier records have one orbit per camera, and the orbits of those that move in "paths".
    rows = {**record["orbits"], **record.get("paths", {})}
    orbits = {
        name: tuple(Orbit(**orbit) for orbit in (row if isinstance(row, list) else [row]))
        for name, row in rows.items()
    }
    if any(len(row) not in (1, frames) for row in orbits.values()):
        raise ValueError("a camera has neither one orbit nor one per frame")
    return Asset(gaussians, Vanishing(field, hidden) if gone else field, frames, orbits)


def unpack_gaussians(tensors: dict[str, Tensor]) -> Gaussians:
    """The canonical set of a checkpoint."""
    return Gaussians(**{name: tensors[f"asset.{name}"] for name in FIELD_NDIM})


def of_motion(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The motion field's tensors of a checkpoint, by their names in its state dict."""
    return {k.removeprefix("motion."): t for k, t in tensors.items() if k.startswith("motion.")}


def motion_record(options: HexPlaneOptions, frames: int) -> dict[str, Any]:
    """What is needed to build a field again, beside its tensors."""
    return {"frames": frames, "hexplane": asdict(options)}


def _field(record: dict[str, Any]) -> HexPlane:
    """The field of a :func:`motion_record`, at rest."""
    if record.get("trajectories") is not None:
        raise UserError(
            "this run was fitted with fit.free_paths, which gs4d no longer has; train again"
        )
    options = record["hexplane"]
    options = HexPlaneOptions(**{**options, "multires": tuple(options["multires"])})
    return HexPlane(options, record["frames"])
