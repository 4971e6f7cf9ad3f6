"""Run folders and checkpoints of other trainers.

Which file holds the splats of their last step, and reading it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from ..gaussians import Gaussians
from .foreign import foreign, require_memory, require_plain_file, warn
from .weights import read_tensors

# Where trainers leave their splats, and which number of the path counts the steps.
RESULTS = (
    r"point_cloud/iteration_(\d+)/point_cloud\.ply",
    r"iteration_(\d+)/point_cloud\.ply",
    r"ply/point_cloud_(\d+)\.ply",
    r"ckpts/ckpt_(\d+)(?:_rank0)?\.pt",
    r"nerfstudio_models/step-(\d+)\.ckpt",
)
GLOBS = (
    "point_cloud/*/*.ply",
    "*/point_cloud.ply",
    "ply/*.ply",
    "ckpts/*.pt",
    "nerfstudio_models/*.ckpt",
)
# one file per some hundred steps of a training
SNAPSHOT = re.compile(r"(?:export|splat|point_cloud|ckpt)_(\d+)")
SNAPSHOT_STEPS = 100
DEFORMATION = ("deformation.pth", "deform/iteration_*/deform.pth", "deformation_table.pth")
SUFFIXES = (".pt", ".ckpt", ".pth")
FIELDS = {  # names in the checkpoints of gsplat and nerfstudio
    "means": ("means", "xyz", "_xyz"),
    "quats": ("quats", "rotation", "_rotation"),
    "log_scales": ("scales", "scaling", "_scaling"),
    "logit_opacities": ("opacities", "opacity", "_opacity"),
    "dc": ("sh0", "features_dc", "_features_dc"),
    "rest": ("shN", "features_rest", "_features_rest"),
}


def trained_splats(folder: Path) -> Path | None:
    """Returns the splats of the last step in another trainer's run folder; None if it is none.

    Known are the layouts of 3D Gaussian Splatting and what descends from it (2DGS, Mip-Splatting,
    ...), gsplat and nerfstudio. Nothing is said; :func:`say_trained` does.

    Raises:
        UserError: the folder cannot be read.
    """
    with foreign(folder, "folder", "check its permissions"):
        steps = sorted(_steps(folder))
    return steps[-1][1] if steps else None


def _steps(folder: Path) -> Iterator[tuple[int, Path]]:
    """Steps of the training, and the file of each; those of the first layout that is there."""
    for pattern, glob in zip(RESULTS, GLOBS, strict=True):
        found = False
        for path in folder.glob(glob):
            match = re.fullmatch(pattern, path.relative_to(folder).as_posix())
            if match and path.is_file():
                yield int(match[1]), path
                found = True
        if found:
            return


def snapshots(files: list[Path]) -> Path | None:
    """Returns the last of files that a trainer left every some hundred steps; no frames."""
    numbers = [int(match[1]) if (match := SNAPSHOT.fullmatch(path.stem)) else -1 for path in files]
    if len(files) < 2 or min(numbers) < 0:
        return None
    ordered = sorted(numbers)
    gaps = [b - a for a, b in pairwise(ordered)]
    return files[numbers.index(ordered[-1])] if min(gaps) >= SNAPSHOT_STEPS else None


def say_trained(folder: Path, chosen: Path) -> None:
    """Says which file of a run folder is opened, and what beside it is not played."""
    warn(
        f"{folder} is a training run of another program: its last step, "
        f"{chosen.relative_to(folder)}, is opened"
    )
    for pattern in DEFORMATION:
        for place in (folder, chosen.parent):
            if found := next(place.glob(pattern), None):
                warn(
                    f"{found} moves these splats by a network that gs4d does not read: they are "
                    "shown at rest; export one PLY per frame with its own program to see the motion"
                )
                return


def read_trained(path: Path) -> Gaussians:
    """The Gaussians of a checkpoint of gsplat or nerfstudio's splatfacto.

    Those of gsplat's further ranks are added.

    Raises:
        UserError: it is absent, damaged, or holds no Gaussians.
    """
    parts = [_read_one(path)]
    if "_rank0" in path.name:
        others = sorted(path.parent.glob(path.name.replace("_rank0", "_rank*")))
        parts += [_read_one(other) for other in others if other != path]
    with foreign(path, "checkpoint of Gaussians"):
        names = [name for name, _ in parts[0].items()]
        return Gaussians(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        )


def _read_one(path: Path) -> Gaussians:
    size = require_plain_file(path)
    tensors = read_tensors(path)
    with foreign(path, "checkpoint of Gaussians"):
        found: dict[str, Tensor] = {}
        for field, names in FIELDS.items():
            own = [key for key in tensors if key.rsplit(".", 1)[-1] in names]
            if len(own) > 1:
                raise UserError(
                    f"{path} holds several '{own[0].rsplit('.', 1)[-1]}'; export its splats as .ply"
                )
            if own:
                found[field] = tensors[own[0]].detach()
        missing = [field for field in FIELDS if field not in found and field != "rest"]
        if missing:
            raise UserError(
                f"{path} holds no Gaussians that gs4d knows ('{missing[0]}' is missing); export "
                "them as .ply"
            )
        n = len(found["means"])
        require_memory(path, 8 * sum(t.numel() for t in found.values()), size, f"{n} Gaussians")
        dc = found["dc"].reshape(n, 1, 3)
        rest = found.get("rest", dc[:, :0]).reshape(n, -1, 3)
        return Gaussians(
            means=found["means"],
            quats=found["quats"],
            log_scales=found["log_scales"],
            logit_opacities=found["logit_opacities"].reshape(n),
            sh=torch.cat([dc, rest], 1)[:, :16],
        ).to(torch.float32)
