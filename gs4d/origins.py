"""Makes a clip's input view of a sentence, a picture or a video.

Every step leaves a record of what it was made from and with which settings, in ``{clip}_origin``. A
step whose record says the same as would be done now is kept; anything else is made again, and with
it what comes after.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from .errors import UserError
from .intake.cutout import CLEAR
from .intake.frames import FramesOptions, make_frames
from .intake.sources import pictures_in
from .io.files import atomic_path
from .io.images import open_picture, to_rgba
from .io.steps import CheckedStep
from .io.video import is_still
from .prior import IMAGE_PRIORS, VIDEO_PRIORS, VideoPrior, open_prior
from .prior.networks import Place
from .prior.pipelines import Drawing
from .prior.video_models import Filming
from .ranges import Options, Range

FRAMES = 14  # of a drawn video: all that the smaller Stable Video Diffusion draws
SIDE = 1024  # pixels of the object's picture at most: the models draw no more
APART = "to fit what is there, leave out --video, --image and --text"


@dataclass(frozen=True)
class OriginOptions(Options):
    """Options of drawn pictures and videos."""

    prompt: str = ""
    """What happens in the video, for models that read (wan, ltx, cogvideox); empty: --text, if it
    is given."""
    setting: str = "the whole object in view, on a plain white background"
    """Put after --text for the picture, so that the object can be cut out."""
    image_seed: Annotated[int, Range(0, 2**62)] = 0
    """Of the picture."""
    video_seed: Annotated[int, Range(0, 2**62)] = 0
    """Of the video."""
    frames: Annotated[int | None, Range(2, 1024)] = None
    """How many frames the clip gets; None: 14 of a drawn video, and of a given one as `gs4d frames`
    takes them."""
    picture: Drawing = field(default_factory=Drawing)
    film: Filming = field(default_factory=Filming)
    place: Place = field(default_factory=Place)


@dataclass(frozen=True)
class Origin(Options):
    """The video, picture or sentence that a clip without an input view is made from."""

    video: Path | None = None
    """Make the clip from a video, a gif or a folder of pictures, as `gs4d frames` does."""
    image: Path | None = None
    """Make the clip from a picture, by a video that --video_prior draws."""
    text: str | None = None
    """Make the clip from a sentence, by a picture that --image_prior draws: "a horse walking, toy,
    3d asset"."""
    still: bool = False
    """With --image or --text: no video; the splat stands still."""
    image_prior: str | None = None
    """Model that draws a picture: sdxl:WHERE or text2image:WHERE, a folder or a hub id."""
    video_prior: str | None = None
    """Model that turns a picture into a video: svd:WHERE, wan:WHERE, ltx:WHERE or cogvideox:WHERE,
    a folder or a hub id."""
    matting: Path | None = None
    """Cuts the object out of what has no flat background and, if it is a picture, no alpha: an
    .onnx file, or the folder of a SAM 2 checkpoint."""
    origin: OriginOptions = field(default_factory=OriginOptions)

    def check_origin(self) -> str | None:
        """Returns which of video, image and text is given.

        Raises:
            UserError: more than one, or a model is missing that it needs.
        """
        given = [name for name in ("video", "image", "text") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UserError(
                f"--{given[0]} and --{given[1]} both say what the clip is made from; give one of "
                "them"
            )
        kind = given[0] if given else None
        if self.still and kind not in ("image", "text"):
            raise UserError("--still makes a clip of one picture; give it with --image or --text")
        if kind == "text" and not (self.text or "").strip():
            raise UserError(
                "--text is empty; say what there is to see, such as "
                '--text "a horse walking, toy, 3d asset"'
            )
        if kind == "text" and self.image_prior is None:
            raise UserError(
                "--text needs --image_prior, a model that draws a picture "
                f"({', '.join(IMAGE_PRIORS)}): sdxl:FOLDER, or "
                "fetched from the hub sdxl:stabilityai/stable-diffusion-xl-base-1.0"
            )
        if kind in ("image", "text") and not self.still and self.video_prior is None:
            raise UserError(
                f"--{kind} needs --video_prior, a model that turns a picture into a video "
                f"({', '.join(VIDEO_PRIORS)}): svd:FOLDER, "
                "or fetched from the hub svd:stabilityai/stable-video-diffusion-img2vid-xt; or "
                "give --still, and nothing moves"
            )
        return kind


def _step(result: Path, record: Path, made: dict[str, Any]) -> CheckedStep:
    return CheckedStep(result, record, made, digest, APART)


def digest(path: Path) -> str:
    """A checksum of a file's content, or of the pictures in a folder."""
    total = hashlib.sha256()
    for file in pictures_in(path) if path.is_dir() else [path]:
        total.update(f"{file.name if path.is_dir() else ''}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def make_input(origin: Origin, data_dir: Path, clip: str) -> list[dict[str, str]]:
    """Makes the input view ``{clip}_pose0`` of what ``origin`` gives, if it gives anything.

    What is done is kept.

    Args:
        origin: a video, a picture or a sentence, and by which models.
        data_dir: where clips are kept.
        clip: name of the clip.

    Returns:
        ``name`` and ``licence`` of the weights that took part.

    Raises:
        UserError: the input or a model is absent or wrong, or something is in the way that this did
            not make.
    """
    if (kind := origin.check_origin()) is None:
        return []
    if clip == "rose":
        raise UserError(
            f"rose is the built-in clip; give the one that is made from --{kind} a name of its own "
            "with -e NAME"
        )
    o, home = origin.origin, data_dir / f"{clip}_origin"
    source = _given(origin) or home / "image.png"
    _step(
        data_dir / f"{clip}_pose0", home / "frames.json", {}
    ).found()  # so that what is in the way is said at once
    weights: list[dict[str, str]] = []

    # 1. The picture.
    filmer = cache(lambda: open_prior(origin.video_prior or "", "video", o.place, o.film))
    if origin.text is not None:
        weights += _picture(origin, source, filmer)
        gc.collect()  # the picture's model goes before the video's comes

    # 2. The object alone, and a video of it before white, from which it can be cut out again.
    matting, frames = origin.matting, o.frames
    if kind != "video":
        matting, frames = None if _has_shape(source) else origin.matting, None
        if not origin.still:
            _frames(
                source,
                home / "object.json",
                FramesOptions(name="object", data_dir=home, matting=matting, size=SIDE),
            )
            source, matting, frames = home / "video", origin.matting, o.frames or FRAMES
            weights += _film(origin, home / "object_pose0" / "0.png", source, frames, filmer)

    # 3. The clip.
    _frames(
        source,
        home / "frames.json",
        FramesOptions(name=clip, data_dir=data_dir, matting=matting, frames=frames),
    )
    return weights


def _has_shape(picture: Path) -> bool:
    """Whether a picture's alpha says where its object is."""
    with open_picture(picture) as opened:
        return bool((to_rgba(opened)[..., 3] < 128).mean() > CLEAR)


def _given(origin: Origin) -> Path | None:
    """The video or picture that is given."""
    path = origin.video or origin.image
    if path is None:
        return None
    what = "video" if origin.video else "image"
    if not path.exists():
        raise UserError(f"--{what} {path} does not exist; check the path")
    if what == "image" and (path.is_dir() or not is_still(path)):
        raise UserError(
            f"--image {path} is not one picture; give a video or a folder of pictures with --video"
        )
    return path


def _picture(
    origin: Origin, target: Path, filmer: Callable[[], VideoPrior]
) -> list[dict[str, str]]:
    """Draws a picture of the sentence."""
    o = origin.origin
    prompt = ", ".join(part for part in (origin.text, o.setting) if part)
    made = {
        "prior": origin.image_prior,
        "prompt": prompt,
        "seed": o.image_seed,
        "drawing": asdict(o.picture),
    }

    def make() -> list[dict[str, str]]:
        if not origin.still:
            filmer()  # so that a wrong one is refused before a picture is drawn for it
        prior = open_prior(origin.image_prior or "", "image", o.place, o.picture)
        image = prior.image(prompt, torch.Generator().manual_seed(o.image_seed))
        with atomic_path(target) as part:
            Image.fromarray(image.numpy()).save(part)
        return prior.weights

    return _step(target, target.with_suffix(".json"), made).do(make)


def _film(
    origin: Origin, picture: Path, target: Path, count: int, filmer: Callable[[], VideoPrior]
) -> list[dict[str, str]]:
    """Draws a video of the object's picture, over white."""
    o = origin.origin
    prompt = o.prompt or origin.text or ""
    made = {
        "input": digest(picture),
        "prior": origin.video_prior,
        "prompt": prompt,
        "seed": o.video_seed,
        "frames": count,
    }

    def make() -> list[dict[str, str]]:
        prior = filmer()
        with open_picture(picture) as opened:
            shape = Image.fromarray(to_rgba(opened))
        flat = Image.new("RGBA", shape.size, "white")
        flat.alpha_composite(shape)
        image = torch.from_numpy(np.array(flat.convert("RGB")))
        film = prior.frames(image, prompt, count, torch.Generator().manual_seed(o.video_seed))
        with atomic_path(target) as part:
            part.mkdir()
            for t, frame in enumerate(
                tqdm(film.numpy(), desc="writing", unit="frame", leave=False)
            ):
                Image.fromarray(frame).save(part / f"{t}.png")
        return prior.weights

    return _step(target, target.with_suffix(".json"), {**made, "film": asdict(o.film)}).do(make)


def _frames(source: Path, record: Path, options: FramesOptions) -> None:
    """Cuts the object out of a video or picture, as `gs4d frames` does."""
    settings = {
        "frames": options.frames,
        "size": options.size,
        "matting": options.matting and str(options.matting),
    }
    folder = options.data_dir / f"{options.name}_pose0"

    def make() -> list[dict[str, str]]:
        make_frames(replace(options, path=source), still=source.is_file() and is_still(source))
        return []

    _step(folder, record, {"input": digest(source), **settings}).do(make)
