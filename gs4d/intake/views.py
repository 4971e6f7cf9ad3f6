"""The recipe that draws the side views of a clip with a prior.

Frame by frame, so that a run that is cut goes on where it was.

``{name}_views/{frame}/`` keeps what the prior drew, with the cameras, the seed and the settings;
``{name}_sync`` is made of it as of any tool's output: cut out, placed, judged and shown.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..clip import Orbit, premultiply
from ..errors import UserError, require_folder_name
from ..io.clips import CONFIDENCE_FILE, View, frame_numbers, read_input
from ..io.files import atomic_path, read_json, write_json
from ..io.foreign import foreign
from ..io.images import read_image, resize_rgba
from ..io.weights import read_weights
from ..prior import VIEW_PRIORS, Views, check_prior, draw_clip, open_prior
from ..prior.framing import Framing, plan_framing, share_of
from ..prior.pictures import square_views
from ..prior.sampling import Sampling, ViewSampling
from ..ranges import Options, Range
from .layouts import Source
from .sync import SyncOptions, make_sync

POSE0 = "_pose0"
CONFIDENCE_SIDE = 64  # pixels of the maps that say the confidence in the pixels of a view
STEADY, JUMP = (
    0.1,
    0.3,
)  # change of a value there and back that any motion may make, and that halves the confidence
FILMS = ("sv4d", "sv4d2", "sv4d2-8views")  # of models that run elsewhere and leave videos


@dataclass(frozen=True)
class ViewsOptions(Options):
    """How the side views of a clip are drawn."""

    path: Path | None = None
    """Folder of the input view, DATA/NAME_pose0, as preprocess/frames.py makes it."""
    prior: str = ""
    """What draws: inflate, lift, zero123, zero123plus, zero123plus-1.2, imagedream, syncdreamer or
    mini; one with weights as NAME:WHERE, a folder, a file or a hub id. sv4d2:FOLDER takes the
    videos of SV4D 2.0's own sampler."""
    name: str = ""
    """Name of the clip; it may be left out, since --path says it."""
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
    family, _, where = options.prior.partition(":")
    out = options.out_dir or pose0.parent
    sync = SyncOptions(
        (out / f"{name}_views",), name, pose0.parent, options.out_dir, overwrite=options.overwrite
    )
    if family in FILMS:
        return make_sync(SyncOptions(**{**vars(sync), "path": (Path(where),), "format": family}))
    if not options.prior:
        raise UserError(
            "--prior is missing: say what draws the views; there are: "
            f"{', '.join((*VIEW_PRIORS, *FILMS))}"
        )
    check_prior(family, "views")

    files = {number: pose0 / file for number, file in frame_numbers(pose0).items()}
    camera = read_input(pose0.parent / f"{name}_rig.json")
    if len(set(camera.orbits)) > 1:
        raise UserError(
            f"the input camera of {name} moves; views can only be drawn around one that stands "
            "still"
        )
    folder, source = sync.path[0], camera.orbits[0]
    framing = _framing(family, options.sampling.crop_size, list(files.values()), source)
    made = _settings(options, list(files.values()), source, framing)
    missing = [i for i, number in enumerate(files) if not _is_done(folder / str(number), made[i])]
    if len(missing) < len(files):
        print(
            f"{folder}: {len(files) - len(missing)} of {len(files)} frames were drawn before with "
            "these settings."
        )
    if missing:
        _draw(options, files, source, framing, missing, made, folder)
    return make_sync(
        sync,
        [_drawn(folder, list(files), options.prior)],
        lambda made: _write_confidence(made, folder, list(files), steady=options.steady),
    )


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
            f"--path is {path}, wanted a folder named {wanted}; make it with preprocess/frames.py"
        )
    require_folder_name("--name", name)
    if not os.path.isdir(path):
        raise UserError(f"{path} is no folder; make the input view with preprocess/frames.py")
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
            "cropped by "
            f"{framing.tangent / math.tan(math.radians(camera.fov) / 2):.2f}; its views are placed "
            "back."
        )
    return framing


def _settings(
    options: ViewsOptions, files: list[Path], source: Orbit, framing: Framing | None
) -> list[dict[str, Any]]:
    """What the views of every frame depend on.

    With the frames around it, since it may look at them.
    """
    sums = []
    for path in files:
        with foreign(path, "picture"):
            sums.append(hashlib.sha256(path.read_bytes()).hexdigest()[:16])
    asked = {
        "prior": options.prior,
        "seed": options.seed,
        "sampling": asdict(options.sampling),
        "input": asdict(source),
    }
    asked |= {} if options.veils else {"veils": False}
    asked |= {"framing": _rounded(asdict(framing))} if framing is not None else {}
    return [
        {
            **asked,
            "frames": [sums[0], sums[max(i - 1, 0)], sums[i], sums[min(i + 1, len(sums) - 1)]],
        }
        for i in range(len(sums))
    ]


def _rounded(values: Any) -> Any:
    """Numbers as they are after a record was written and read again, on any machine."""
    if isinstance(values, dict):
        return {name: _rounded(value) for name, value in values.items()}
    if isinstance(values, (tuple, list)):
        return [_rounded(value) for value in values]
    return round(values, 6)


def _is_done(folder: Path, made: dict[str, Any]) -> bool:
    record = folder / "views.json"
    return record.is_file() and _read_record(folder).get("made") == made


def _read_record(folder: Path) -> dict[str, Any]:
    record = read_json(folder / "views.json", "record of drawn views")
    if not isinstance(record, dict) or not {"made", "layout", "cameras", "trust"} <= record.keys():
        raise UserError(
            f"{folder / 'views.json'} is no record of drawn views; delete {folder} to draw them "
            "again"
        )
    return record


def _draw(
    options: ViewsOptions,
    files: dict[int, Path],
    source: Orbit,
    framing: Framing | None,
    missing: list[int],
    made: list[dict[str, Any]],
    folder: Path,
) -> None:
    """Has the prior draw frames, a few at a time."""
    sampling = ViewSampling(**vars(options.sampling), veils=options.veils)
    prior = open_prior(options.prior, "views", sampling=sampling)
    numbers, paths = list(files), list(files.values())
    with tqdm(total=len(missing), desc="drawing", unit="frame", dynamic_ncols=True) as bar:
        for wanted, seen in calls(missing, len(paths), prior.context, options.batch):
            frames, camera = square_views(_read([paths[i] for i in seen]), source)
            if framing is not None:
                frames, camera = framing.crop(frames), framing.seen
            generator = torch.Generator().manual_seed(options.seed)
            views = draw_clip(prior, frames, camera, None, generator)
            views = framing.place(views) if framing is not None else views
            for i in wanted:
                record = {
                    "made": made[i],
                    "layout": prior.layout,
                    "cameras": [asdict(orbit) for orbit in views.orbits],
                    "weights": prior.weights,
                }
                _write(folder / str(numbers[i]), views, seen.index(i), record)
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
        some = [
            i for k, i in enumerate(missing[:batch]) if i == missing[0] + k
        ]  # neighbours of each other
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
            f"{odd} has another size than {paths[0]}; make the input view again with "
            "preprocess/frames.py"
        )
    return torch.from_numpy(np.stack(images))


def _write(folder: Path, views: Views, frame: int, record: dict[str, Any]) -> None:
    with atomic_path(folder) as part:
        part.mkdir()
        for v, image in enumerate(views.images[:, frame].numpy()):
            Image.fromarray(image).save(part / f"{v}.png", compress_level=4)
        confidence = views.confidence[:, frame].float()
        small = (
            F.adaptive_avg_pool2d(confidence[:, None], CONFIDENCE_SIDE)[:, 0]
            .round()
            .to(torch.uint8)
        )
        _save_confidence(small, part / CONFIDENCE_FILE)
        means = confidence.mean((1, 2)) / 255
        write_json(
            part / "views.json", {**record, "trust": [round(value, 3) for value in means.tolist()]}
        )


def _save_confidence(confidence: UInt8[Tensor, "..."], path: Path) -> None:
    try:
        save_file({"trust": confidence}, path)
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(str(error)) from error


def _write_confidence(sync: Path, drawn: Path, numbers: list[int], *, steady: bool) -> None:
    """Puts the confidence per pixel beside side views that a prior drew."""
    confidence = torch.stack(
        [read_weights(drawn / str(number) / CONFIDENCE_FILE)["trust"] for number in numbers], 1
    ).float()
    if steady and len(numbers) > 2:
        for v in range(len(confidence)):
            files = [sync / f"{number}_0_{v}_rgba.png" for number in numbers]
            small = [
                resize_rgba(
                    read_image(file, need_alpha=True), CONFIDENCE_SIDE, CONFIDENCE_SIDE
                ).copy()
                for file in files
            ]
            confidence[v] *= steadiness(premultiply(torch.from_numpy(np.stack(small))))
    _save_confidence(confidence.round().to(torch.uint8), sync / CONFIDENCE_FILE)


def steadiness(film: Float[Tensor, "t h w 4"]) -> Float[Tensor, "t h w"]:
    """1 where a pixel is half way between the frames before and after, less where it jumps there and back; t at least 3."""
    jump = (film[1:-1] - (film[:-2] + film[2:]) / 2).abs().amax(-1)
    jump = torch.cat([jump[:1], jump, jump[-1:]])
    return torch.exp(-(((jump - STEADY).clamp_min(0) / JUMP) ** 2))


def _drawn(folder: Path, numbers: list[int], prior: str) -> Source:
    """What was drawn, as other people's output is described."""
    records = [_read_record(folder / str(number)) for number in numbers]
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
    files = tuple(
        tuple(folder / str(number) / f"{v}.png" for v in range(len(cameras))) for number in numbers
    )
    return Source((layout,), f"the prior {prior}", files, numbers=tuple(numbers), views=views)
