"""Draws the side views of a clip with a prior, frame by frame.

A run that was cut goes on where it was: ``{name}_views/{frame}/`` keeps what the prior drew, with
the cameras, the seed and the settings. ``{name}_sync`` is made of it: pictures with alpha are
copied as they are, others are cut out.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from ..clip import Orbit
from ..errors import UserError, require_folder_name
from ..io.clips import CONFIDENCE_FILE, View, frame_numbers, read_input
from ..io.foreign import foreign
from ..io.images import read_image
from ..io.steps import Step
from ..io.weights import read_weights
from ..prior import VIEW_PRIORS, Views, check_prior, draw_clip, open_prior
from ..prior.framing import Framing, plan_framing, share_of
from ..prior.pictures import square_views
from ..prior.sampling import Sampling, ViewSampling
from ..ranges import Options, Range
from .confidence import reduced, save_confidence
from .layouts import FoundViews
from .sync import SyncOptions, make_sync, save_picture

POSE0 = "_pose0"
RECORD = "views.json"  # in the folder of a drawn frame
FILMS = ("sv4d", "sv4d2", "sv4d2-8views")  # of models that run elsewhere and leave videos


@dataclass(frozen=True)
class DrawOptions(Options):
    """Options of a prior that draws side views."""

    batch: Annotated[int, Range(1, 1000)] = 4
    """Frames that are drawn together: more take more memory, and less time where frames look at
    each other."""
    seed: Annotated[int, Range(0, 2**62)] = 0
    """Of all randomness; recorded beside the views."""
    sampling: Sampling = field(default_factory=Sampling)
    steady: bool = True
    """Believe less what differs from the frames before and after."""
    veils: bool = True
    """Have lift draw what may be there as a veil, which is nearest to the truth; without, outlines
    are hard guesses."""


@dataclass(frozen=True)
class ViewsOptions(DrawOptions):
    """Options of the side views that a prior draws for a clip."""

    path: Path | None = None
    """Folder of the input view, DATA/NAME_pose0, as `gs4d frames` makes it."""
    prior: str = ""
    """What draws: inflate, lift, zero123, zero123plus, zero123plus-1.2, imagedream, syncdreamer or
    mini; one with weights as NAME:WHERE, a folder, a file or a hub id. sv4d2:FOLDER takes the
    videos of SV4D 2.0's own sampler."""
    name: str = ""
    """Name of the clip; it may be left out, since --path says it."""
    overwrite: bool = False
    """Replace side views even if they were not made by this project's commands."""
    out_dir: Path | None = None
    """Where the views go; None: beside the input view."""


def make_views(options: ViewsOptions) -> Path:
    """Makes ``{name}_sync``, its rig and a preview; returns the folder.

    Frames that were drawn before are kept.

    Raises:
        UserError: the input view or the prior is absent or wrong, or what is there is not ours to
            replace.
    """
    pose0, name = _input(options)
    out = options.out_dir or pose0.parent
    sync = SyncOptions(
        (out / f"{name}_views",), name, pose0.parent, options.out_dir, overwrite=options.overwrite
    )
    return draw_views(sync, options.prior, options)


def draw_views(sync: SyncOptions, prior: str, how: DrawOptions, *, maps: bool = True) -> Path:
    """Draws the side views of a clip; returns ``{name}_sync``.

    Args:
        sync: names the clip; its one path is the folder that keeps what is drawn.
        prior: what draws.
        how: settings of the drawing.
        maps: whether to leave a map of confidence with the views.

    Raises:
        UserError: as :func:`make_views`.
    """
    family, _, where = prior.partition(":")
    if family in FILMS:
        return make_sync(replace(sync, path=(Path(where),), format=family))
    if not prior:
        raise UserError(
            "--prior is missing: say what draws the views; there are: "
            f"{', '.join((*VIEW_PRIORS, *FILMS))}"
        )
    check_prior(family, "views")
    pose0 = sync.data_dir / f"{sync.name}_pose0"
    files = {number: pose0 / file for number, file in frame_numbers(pose0).items()}
    camera = read_input(sync.data_dir / f"{sync.name}_rig.json")
    if len(set(camera.orbits)) > 1:
        raise UserError(
            f"the input camera of {sync.name} moves; views can only be drawn around one that "
            "stands still"
        )
    folder, source = sync.path[0], camera.orbits[0]
    framing = _framing(family, how.sampling.crop_size, list(files.values()), source)
    steps = _steps(folder, prior, how, files, source, framing)
    missing = [i for i, step in enumerate(steps) if step.kept() is None]
    if len(missing) < len(files):
        print(
            f"{folder}: {len(files) - len(missing)} of {len(files)} frames were drawn before with "
            "these settings."
        )
    if missing:
        _draw(prior, how, list(files.values()), source, framing, missing, steps)
    return make_sync(sync, [_drawn(folder, list(files), steps, prior, how, maps=maps)])


def _input(options: ViewsOptions) -> tuple[Path, str]:
    """Folder of the input view, and the name of the clip."""
    path = options.path
    if path is None:
        raise UserError(
            "--path is missing: give the folder of the input view, such as data/rose_pose0"
        )
    name = path.name.removesuffix(POSE0)
    if not path.name.endswith(POSE0) or (options.name and options.name != name):
        wanted = f"{options.name or 'NAME'}{POSE0}"
        raise UserError(
            f"--path is {path}, wanted a folder named {wanted}; make it with `gs4d frames`"
        )
    require_folder_name("--name", name)
    if not os.path.isdir(path):
        raise UserError(f"{path} is no folder; make the input view with `gs4d frames`")
    return path, name


def _framing(family: str, crop_size: int, files: list[Path], source: Orbit) -> Framing | None:
    """The crop of all frames that the prior sees; None where it sees them as they are."""
    share = share_of(family, crop_size)
    if share is None:
        return None
    first = _read(files[:1])
    camera = square_views(first, source)[1]

    def masks() -> Iterator[UInt8[Tensor, "s s"]]:
        for file in files:
            frame = _read([file])
            if frame.shape != first.shape:
                _read([files[0], file])  # says so
            yield square_views(frame, source)[0][0, ..., 3]

    framing = plan_framing(masks(), camera, share)
    if framing is not None:
        print(
            f"{family} sees the object at {share:.2f} of the frame, as its authors crop it: "
            f"cropped by {framing.tangent / math.tan(math.radians(camera.fov) / 2):.2f}; its views "
            "are placed back."
        )
    return framing


def _steps(
    folder: Path,
    prior: str,
    how: DrawOptions,
    files: dict[int, Path],
    source: Orbit,
    framing: Framing | None,
) -> list[Step]:
    """Returns a step per frame, made from it and its neighbours, since the prior may see them."""
    sums = []
    for path in files.values():
        with foreign(path, "picture"):
            sums.append(hashlib.sha256(path.read_bytes()).hexdigest()[:16])
    asked = {
        "prior": prior,
        "seed": how.seed,
        "sampling": asdict(how.sampling),
        "input": asdict(source),
    }
    asked |= {} if how.veils else {"veils": False}
    asked |= {"framing": _rounded(asdict(framing))} if framing is not None else {}
    steps, last = [], len(sums) - 1
    for i, number in enumerate(files):
        around = [sums[0], sums[max(i - 1, 0)], sums[i], sums[min(i + 1, last)]]
        made = {"made": {**asked, "frames": around}}
        whole = frozenset({"made", "layout", "cameras", "trust"})
        steps.append(Step(folder / str(number), RECORD, made, whole, "drawn views"))
    return steps


def _rounded(values: Any) -> Any:
    """Numbers as they are after a record was written and read again, on any machine."""
    if isinstance(values, dict):
        return {name: _rounded(value) for name, value in values.items()}
    if isinstance(values, (tuple, list)):
        return [_rounded(value) for value in values]
    return round(values, 6)


def _draw(
    name: str,
    how: DrawOptions,
    paths: list[Path],
    source: Orbit,
    framing: Framing | None,
    missing: list[int],
    steps: list[Step],
) -> None:
    """Draws the missing frames, a few at a time."""
    prior = open_prior(name, "views", sampling=ViewSampling(**vars(how.sampling), veils=how.veils))
    with tqdm(total=len(missing), desc="drawing", unit="frame", dynamic_ncols=True) as bar:
        for wanted, seen in calls(missing, len(paths), prior.context, how.batch):
            frames, camera = square_views(_read([paths[i] for i in seen]), source)
            if framing is not None:
                frames, camera = framing.crop(frames), framing.seen
            generator = torch.Generator().manual_seed(how.seed)
            views = draw_clip(prior, frames, camera, None, generator)
            views = framing.place(views) if framing is not None else views
            record = {
                "layout": prior.layout,
                "cameras": [asdict(orbit) for orbit in views.orbits],
                "weights": prior.weights,
            }
            for i in wanted:
                _keep(steps[i], views, seen.index(i), record)
                bar.update()


def calls(
    missing: list[int], count: int, context: str, batch: int
) -> Iterator[tuple[list[int], list[int]]]:
    """The calls that draw some frames of a clip: (frames that are kept, frames that are seen).

    Args:
        missing: indices of the frames to draw, rising.
        count: of all frames.
        context: which other frames a frame needs: "first", "neighbours", "none", or "clip" for all.
        batch: frames per call.
    """
    if context == "clip":
        yield missing, list(range(count))
        return
    while missing:
        # neighbours of each other
        some = [i for k, i in enumerate(missing[:batch]) if i == missing[0] + k]
        missing = missing[len(some) :]
        around = {"first": [0], "neighbours": [some[0] - 1, some[-1] + 1], "none": []}[context]
        yield some, sorted({*some, *(i for i in around if 0 <= i < count)})


def _read(paths: list[Path]) -> torch.Tensor:
    images = [read_image(path, need_alpha=True) for path in paths]
    if odd := next(
        (path for path, image in zip(paths, images, strict=True) if image.shape != images[0].shape),
        None,
    ):
        raise UserError(
            f"{odd} has another size than {paths[0]}; make the input view again with `gs4d frames`"
        )
    return torch.from_numpy(np.stack(images))


def _keep(step: Step, views: Views, frame: int, record: dict[str, Any]) -> None:
    """Writes one frame of what was drawn; its PNGs are those of ``{name}_sync``."""

    def fill(part: Path) -> dict[str, Any]:
        for v, image in enumerate(views.images[:, frame].numpy()):
            save_picture(part / f"{v}.png", image)
        confidence = views.confidence[:, frame]
        save_confidence(reduced(confidence), part / CONFIDENCE_FILE)
        means = confidence.float().mean((1, 2)) / 255
        return {**record, "trust": [round(value, 3) for value in means.tolist()]}

    step.keep(fill)


def _drawn(
    folder: Path, numbers: list[int], steps: list[Step], prior: str, how: DrawOptions, *, maps: bool
) -> FoundViews:
    """Returns what was drawn, as other people's output is described."""
    records = [step.found() or {} for step in steps]
    cameras, layout = records[0]["cameras"], records[0]["layout"]
    if any(record["cameras"] != cameras for record in records):
        raise UserError(
            f"the frames in {folder} were drawn for different cameras; delete {folder} to draw "
            "them again"
        )
    views = tuple(
        View((Orbit(**orbit),), tuple(record["trust"][v] for record in records))
        for v, orbit in enumerate(cameras)
    )
    files = tuple(tuple(step.result / f"{v}.png" for v in range(len(cameras))) for step in steps)
    found = FoundViews(
        (layout,), f"the prior {prior}", files, numbers=tuple(numbers), views=views, own=True
    )
    if not maps:
        return found
    confidence = [read_weights(step.result / CONFIDENCE_FILE)["trust"] for step in steps]
    return replace(found, confidence=torch.stack(confidence, 1), steady=how.steady)
