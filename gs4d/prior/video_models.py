"""Models that turn a picture into a video.

Stable Video Diffusion, Wan 2.x, LTX-Video, CogVideoX, through diffusers' pipelines.

The picture is laid on a background of its border's colour in the model's aspect, and the frames are
cut back to it. Sizes, lengths and rates are those of the authors' examples. Sources: Blattmann et
al. 2023 (SVD), Wan Team 2025, HaCohen et al. 2024 (LTX-Video), Yang et al. 2024 (CogVideoX). None
was ever run here with its published weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from ..errors import UserError
from ..ranges import Range
from .catalogue import default_of, licence_of
from .models import find_model
from .networks import Place
from .pipelines import PATTERNS, Drawing, Index, draw, load_pipeline, read_index, to_pixels


@dataclass(frozen=True)
class Filming(Drawing):
    """How a model draws a video."""

    length: Annotated[int, Range(0, 1024)] = 0
    """Frames that the model draws; of these the clip's are taken evenly."""


@dataclass(frozen=True)
class Format:
    """What a loaded model draws by itself, and what else it can.

    Attributes:
        width: pixels.
        height: pixels.
        multiple: which both must be multiples of.
        length: frames.
        rhythm: the number of frames is one more than a multiple of this; 0: it is ``length`` at
            most.
        arguments: what else the pipeline wants to be told.
    """

    width: int
    height: int
    multiple: int
    length: int
    rhythm: int
    arguments: dict[str, Any] = field(default_factory=dict)


def _svd(pipeline: Any) -> Format:
    cells = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    told = {"fps": 7, "motion_bucket_id": 127, "noise_aug_strength": 0.02}
    return Format(1024, 576, math.lcm(cells, 8), pipeline.unet.config.num_frames, 0, told)


def _wan(pipeline: Any) -> Format:
    cells = pipeline.vae_scale_factor_spatial * pipeline.transformer.config.patch_size[1]
    size = (1280, 704, 121) if pipeline.config.expand_timesteps else (832, 480, 81)
    return Format(*size[:2], math.lcm(cells, 16), size[2], pipeline.vae_scale_factor_temporal)


def _ltx(pipeline: Any) -> Format:
    told: dict[str, Any] = {"frame_rate": 25}
    if pipeline.vae.config.timestep_conditioning:
        told |= {"decode_timestep": 0.05, "decode_noise_scale": 0.025}
    return Format(704, 512, 32, 161, pipeline.vae_temporal_compression_ratio, told)


def _cogvideox(pipeline: Any) -> Format:
    config, cells = pipeline.transformer.config, pipeline.vae_scale_factor_spatial
    width, height = config.sample_width * cells, config.sample_height * cells
    return Format(
        width,
        height,
        math.lcm(cells * config.patch_size, 8),
        config.sample_frames,
        pipeline.vae_scale_factor_temporal,
    )


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        pipelines: classes that folders of it are published as -> the class that makes videos of
            pictures with them.
        form: reads off a loaded pipeline what it draws.
        guidance: what the pipeline calls its guidance.
        needs_prompt: whether it takes a prompt.
        half: precision on a GPU.
        exact: parts that stay in float32.
    """

    pipelines: dict[str, str]
    form: Callable[[Any], Format]
    guidance: str = "guidance_scale"
    needs_prompt: bool = True
    half: torch.dtype = torch.bfloat16
    exact: tuple[str, ...] = ()


FAMILIES = {
    "svd": Family(
        {"StableVideoDiffusionPipeline": "StableVideoDiffusionPipeline"},
        _svd,
        "max_guidance_scale",
        needs_prompt=False,
        half=torch.float16,
    ),
    "wan": Family(
        # Wan 2.2's 5B model does both, and is published as the pipeline of text alone.
        {
            "WanImageToVideoPipeline": "WanImageToVideoPipeline",
            "WanPipeline": "WanImageToVideoPipeline",
        },
        _wan,
        exact=("vae", "image_encoder"),
    ),
    "ltx": Family(
        # The same networks for text and for pictures.
        dict.fromkeys(
            ("LTXImageToVideoPipeline", "LTXPipeline", "LTXConditionPipeline"),
            "LTXImageToVideoPipeline",
        ),
        _ltx,
    ),
    "cogvideox": Family(
        {"CogVideoXImageToVideoPipeline": "CogVideoXImageToVideoPipeline"},
        _cogvideox,
    ),
}


def open_svd(where: str, place: Place, sampling: Drawing | None = None) -> VideoModel:
    """Opens Stable Video Diffusion in a folder or a hub model, as :func:`open_video_model`."""
    return open_video_model("svd", where, place, sampling)


def open_wan(where: str, place: Place, sampling: Drawing | None = None) -> VideoModel:
    """Opens Wan 2.1 or 2.2 image-to-video in a folder or a hub model.

    Errors as :func:`open_video_model`.
    """
    return open_video_model("wan", where, place, sampling)


def open_ltx(where: str, place: Place, sampling: Drawing | None = None) -> VideoModel:
    """Opens LTX-Video in a folder or a hub model; errors as :func:`open_video_model`."""
    return open_video_model("ltx", where, place, sampling)


def open_cogvideox(where: str, place: Place, sampling: Drawing | None = None) -> VideoModel:
    """Opens CogVideoX image-to-video in a folder or a hub model, as :func:`open_video_model`."""
    return open_video_model("cogvideox", where, place, sampling)


def open_video_model(
    name: str, where: str, place: Place, sampling: Drawing | None = None
) -> VideoModel:
    """Opens a model of a family; its networks are loaded when the first video is drawn.

    Args:
        name: of the family.
        where: a folder in diffusers' layout or a hub id; empty: the family's own hub id.
        place: where it runs.
        sampling: how it draws; only a ``Filming`` has a length.

    Raises:
        UserError: it is not there, damaged, or something else.
    """
    family = FAMILIES[name]
    where = where or default_of(name)
    folder = find_model(where, family=name, licence=licence_of(name), patterns=PATTERNS)
    index = read_index(folder, family.pipelines, name)
    if index.pipeline == "WanPipeline" and not index.settings.get("expand_timesteps"):
        raise UserError(
            f"{where} makes videos of text alone; give one for pictures, such as {default_of(name)}"
        )
    place.torch_device()
    print(f"prior {name} from {where}; licence of the weights: {licence_of(name)}")
    filming = Filming(**vars(sampling)) if sampling is not None else Filming()
    return VideoModel(name, index, place, filming, where)


class VideoModel:
    """A ``VideoPrior``."""

    def __init__(self, name: str, index: Index, place: Place, filming: Filming, where: str) -> None:
        self.name, self.family, self.index, self.place = name, FAMILIES[name], index, place
        self.filming = filming
        self.weights = [{"name": where, "licence": licence_of(name)}]

    @cached_property
    def pipeline(self) -> Any:
        """The pipeline of diffusers, loaded."""
        # SVD's autoencoder knows no slices, but decodes any number of frames at a time: see
        # arguments.
        place = self.place if self.family.needs_prompt else replace(self.place, vae_slicing=False)
        kind = self.family.pipelines[self.index.pipeline]
        return load_pipeline(
            self.index, kind, place, half=self.family.half, exact=self.family.exact
        )

    def frames(
        self, image: UInt8[Tensor, "h w 3"], prompt: str, count: int, generator: torch.Generator
    ) -> UInt8[Tensor, "t h w 3"]:
        """See ``VideoPrior``: of the model's own number of frames, ``count`` are taken evenly.

        Raises:
            UserError: the model cannot be loaded, or does not draw that many frames or that size.
        """
        told = self.arguments(count)
        width, height = told["width"], told["height"]
        picture = Image.fromarray(image.numpy())
        sheet, box = onto_sheet(picture, width / height)
        seen = sheet.resize((width, height), Image.Resampling.LANCZOS)
        if self.family.needs_prompt:
            told["prompt"] = prompt
        what = f"a video of {told['num_frames']} frames of {width}x{height} by {self.name}"
        films = draw(self.pipeline, what, generator, image=seen, **told).frames[0]
        chosen = np.linspace(0, len(films) - 1, count).round().astype(int)
        scale = width / sheet.width, height / sheet.height
        back = (box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1])
        levels = to_pixels(np.asarray(films)[chosen], what)
        cut = [
            Image.fromarray(frame).resize(picture.size, Image.Resampling.LANCZOS, box=back)
            for frame in levels
        ]
        return torch.from_numpy(np.stack([np.asarray(frame) for frame in cut]))

    def arguments(self, count: int) -> dict[str, Any]:
        """What the pipeline is told besides the picture and the prompt.

        Raises:
            UserError: the model does not draw ``count`` frames, or not in that size.
        """
        form, wish = self.family.form(self.pipeline), self.filming
        told = {"width": wish.width or form.width, "height": wish.height or form.height}
        if odd := next((value for value in told.values() if value % form.multiple), None):
            raise UserError(
                f"{self.name} draws widths and heights that are multiples of {form.multiple}, not "
                f"{odd}"
            )
        told |= form.arguments | wish.asked(
            steps="num_inference_steps", guidance=self.family.guidance
        )
        if self.family.needs_prompt:
            told |= wish.asked(avoid="negative_prompt")
        elif self.place.vae_slicing:
            told["decode_chunk_size"] = 1
        return {**told, "num_frames": self._length(form, count)}

    def _length(self, form: Format, count: int) -> int:
        """Frames that the model is to draw, so that ``count`` can be taken."""
        length = most = self.filming.length or form.length
        if form.rhythm:
            if (length - 1) % form.rhythm:
                raise UserError(
                    f"{self.name} draws {form.rhythm}k + 1 frames, not {length}; give the length "
                    "one of these"
                )
            if not self.filming.length:  # some more are no trouble
                length = most = max(length, math.ceil((count - 1) / form.rhythm) * form.rhythm + 1)
        else:
            most = min(length, form.length)
        if max(length, count) > most:
            raise UserError(
                f"{self.name} draws {most} frames, not {max(length, count)}; ask for fewer"
            )
        return length


def onto_sheet(
    picture: Image.Image, aspect: float
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Returns a picture on a sheet of another aspect, and its box (left, top, right, bottom).

    The sheet has the commonest colour of the picture's border.

    Args:
        picture: RGB.
        aspect: width over height of the sheet.
    """
    w, h = picture.size
    width, height = max(w, round(h * aspect)), max(h, round(w / aspect))
    values = np.asarray(picture)
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    colors, counts = np.unique(border, axis=0, return_counts=True)
    r, g, b = (int(c) for c in colors[counts.argmax()])
    left, top = (width - w) // 2, (height - h) // 2
    sheet = Image.new("RGB", (width, height), (r, g, b))
    sheet.paste(picture, (left, top))
    return sheet, (left, top, left + w, top + h)
