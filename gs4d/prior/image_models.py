"""Models that draw a picture of a sentence.

SDXL, and others of diffusers' text-to-image pipelines that read by CLIP and T5.

None was ever run here with its published weights.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from .catalogue import default_of, licence_of
from .models import find_model
from .networks import Place
from .pipelines import PATTERNS, Drawing, Index, draw, load_pipeline, read_index, to_pixels

SDXL = ("StableDiffusionXLPipeline",)
READING = (
    *SDXL,
    "StableDiffusionPipeline",
    "StableDiffusion3Pipeline",
    "FluxPipeline",
    "PixArtAlphaPipeline",
    "PixArtSigmaPipeline",
)
HALVES = {"FluxPipeline": torch.bfloat16}  # precision on a GPU, where it is not float16


def open_sdxl(where: str, place: Place, sampling: Drawing | None = None) -> ImageModel:
    """Opens Stable Diffusion XL in a folder or a hub model.

    Raises:
        UserError: it is not there, damaged, or something else.
    """
    return _open("sdxl", where or default_of("sdxl"), SDXL, place, sampling)


def open_text2image(where: str, place: Place, sampling: Drawing | None = None) -> ImageModel:
    """Opens Stable Diffusion 1 to 3, SDXL, FLUX.1 or PixArt in a folder or a hub model.

    Raises:
        UserError: it is not there, damaged, or something else.
    """
    return _open("text2image", where, READING, place, sampling)


def _open(
    name: str, where: str, pipelines: tuple[str, ...], place: Place, drawing: Drawing | None
) -> ImageModel:
    folder = find_model(where, family=name, licence=licence_of(name), patterns=PATTERNS)
    index = read_index(folder, {kind: kind for kind in pipelines}, name)
    place.torch_device()
    print(f"prior {name} from {where}; licence of the weights: {licence_of(name)}")
    return ImageModel(name, index, place, drawing or Drawing(), where)


class ImageModel:
    """An ``ImagePrior``; its networks are loaded when the first picture is drawn."""

    def __init__(self, name: str, index: Index, place: Place, drawing: Drawing, where: str) -> None:
        self.name, self.index, self.place, self.drawing = name, index, place, drawing
        self.weights = [{"name": where, "licence": licence_of(name)}]

    @cached_property
    def pipeline(self) -> Any:
        """The pipeline of diffusers, loaded."""
        kind = self.index.pipeline
        return load_pipeline(self.index, kind, self.place, half=HALVES.get(kind, torch.float16))

    def image(self, prompt: str, generator: torch.Generator) -> UInt8[Tensor, "h w 3"]:
        """See ``ImagePrior``.

        Raises:
            UserError: the model cannot be loaded, or does not draw that size.
        """
        wish = self.drawing
        told = wish.asked(
            steps="num_inference_steps", guidance="guidance_scale", width="width", height="height"
        )
        told |= wish.asked(avoid="negative_prompt")
        what = f"a picture by {self.name}"
        drawn = draw(self.pipeline, what, generator, prompt=prompt, **told).images[0]
        return torch.from_numpy(to_pixels(drawn, what))
