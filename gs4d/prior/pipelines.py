"""Whole pipelines of diffusers, opened from a folder in their layout.

Nothing of the folder is ever run. ``model_index.json`` names the pipeline and its parts, but only
the names in the tables here are taken, so that it cannot have anything imported; weights are read
from .safetensors alone, and none may be missing.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open

from ..errors import UserError
from ..io.files import read_json
from ..ranges import Options, Range
from .networks import MOST_LAYERS, Place

NETWORKS = {
    "diffusers": {
        "AutoencoderKL",
        "AutoencoderKLCogVideoX",
        "AutoencoderKLLTXVideo",
        "AutoencoderKLTemporalDecoder",
        "AutoencoderKLWan",
        "CogVideoXTransformer3DModel",
        "FluxTransformer2DModel",
        "LTXVideoTransformer3DModel",
        "PixArtTransformer2DModel",
        "SD3Transformer2DModel",
        "Transformer2DModel",
        "UNet2DConditionModel",
        "UNetSpatioTemporalConditionModel",
        "WanTransformer3DModel",
    },
    "transformers": {
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "CLIPVisionModel",
        "CLIPVisionModelWithProjection",
        "T5EncoderModel",
        "UMT5EncoderModel",
    },
}
# Of prompts and of pictures: name in an index -> class that is taken, without torchvision.
READERS = {
    "CLIPTokenizer": "CLIPTokenizer",
    "CLIPTokenizerFast": "CLIPTokenizer",
    "T5Tokenizer": "T5Tokenizer",
    "T5TokenizerFast": "T5Tokenizer",
    "CLIPFeatureExtractor": "CLIPImageProcessorPil",
    "CLIPImageProcessor": "CLIPImageProcessorPil",
    "CLIPImageProcessorPil": "CLIPImageProcessorPil",
}
LEFT_OUT = {"safety_checker"}  # it answers with a black picture, which is no object
# Files that are wanted of a hub model: no half-precision twins, no single-file checkpoints.
PATTERNS = (
    "*.json",
    "*/diffusion_pytorch_model.safetensors",
    "*/diffusion_pytorch_model-0*.safetensors",
    "*/model.safetensors",
    "*/model-0*.safetensors",
    "*/spiece.model",
    "*/merges.txt",
)
HALF = "fp16"  # the variant that is taken where a folder has no other


@dataclass(frozen=True)
class Drawing(Options):
    """How a model draws; 0 leaves a number as the model's authors have it."""

    steps: Annotated[int, Range(0, 1000)] = 0
    """Steps of denoising."""
    guidance: Annotated[float, Range(0, 100)] = 0.0
    """How strongly the prompt, or for SVD the picture, is followed."""
    width: Annotated[int, Range(0, 8192)] = 0
    """Pixels that the model draws."""
    height: Annotated[int, Range(0, 8192)] = 0
    """Likewise."""
    avoid: str = ""
    """What should not be seen, for models that read."""

    def asked(self, **names: str) -> dict[str, Any]:
        """What is not left to the authors, as arguments.

        ``names`` gives the argument for an option.
        """
        return {
            argument: getattr(self, option)
            for option, argument in names.items()
            if getattr(self, option)
        }


@dataclass(frozen=True)
class Index:
    """What ``model_index.json`` says.

    Attributes:
        folder: of the model.
        pipeline: the class it was published as.
        parts: name of a part -> its library and class.
        settings: what else the pipeline's constructor takes.
    """

    folder: Path
    pipeline: str
    parts: dict[str, tuple[str, str]]
    settings: dict[str, Any]


def read_index(folder: Path, known: Mapping[str, str], family: str) -> Index:
    """Reads what a folder holds, and looks at the files without loading them.

    Args:
        folder: of the model.
        known: the pipelines that are allowed.
        family: what to call it in sentences.

    Raises:
        UserError: it is no such folder, names other classes, or a file of weights is missing, cut
            short or of a kind that has to be unpickled.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        raise UserError(
            f"{folder} is no {family} model: it has no model_index.json; give a folder in the "
            "layout of diffusers"
        )
    record = read_json(path, "model index")
    pipeline = record.get("_class_name") if isinstance(record, dict) else None
    if not isinstance(pipeline, str) or pipeline not in known:
        raise UserError(
            f"{path} is of a {pipeline}, which {family} does not open; it opens: {', '.join(known)}"
        )
    parts: dict[str, tuple[str, str]] = {}
    settings: dict[str, Any] = {}
    for name, value in record.items():
        if name.startswith("_") or name in LEFT_OUT:
            continue
        if isinstance(value, list) and len(value) == 2 and name.isidentifier():
            if value != [None, None]:
                parts[name] = _allowed(value, path)
                _look_at(folder / name, *parts[name])
        elif isinstance(value, (bool, int, float)):
            settings[name] = value
    if not {"unet", "transformer"} & parts.keys():
        raise UserError(
            f"{path} names no network that draws, neither a unet nor a transformer; download the "
            "model again"
        )
    return Index(folder, pipeline, parts, settings)


def _allowed(named: list[Any], path: Path) -> tuple[str, str]:
    """Library and class of a part, if they are in the tables."""
    library, kind = named
    if isinstance(library, str) and isinstance(kind, str):
        if library == "transformers" and kind in READERS:
            return library, READERS[kind]
        scheduler = library == "diffusers" and kind.isidentifier() and kind.endswith("Scheduler")
        if scheduler or kind in NETWORKS.get(library, ()):
            return library, kind
    raise UserError(
        f"{path} asks for a {kind} of {library}, which is no part of a model that is known here; "
        "it was not loaded"
    )


def _look_at(folder: Path, library: str, kind: str) -> None:
    """Checks one part's files."""
    if not folder.is_dir():
        raise UserError(
            f"{folder.parent} has no folder {folder.name}, which its model_index.json names; "
            "download it again"
        )
    if kind not in NETWORKS[library]:
        return
    config = read_json(folder / "config.json", "network description")
    if not isinstance(config, dict):
        raise UserError(
            f"network description {folder / 'config.json'} is no JSON object; download the model "
            "again"
        )
    for (
        name,
        value,
    ) in (
        config.items()
    ):  # a stranger's numbers: a network of a billion layers would be built for ever
        counts = value if isinstance(value, list) else [value]
        if "layers" in name and any(
            isinstance(n, (int, float)) and n > MOST_LAYERS for n in counts
        ):
            raise UserError(
                f"{folder / 'config.json'} has {name} {value}, at most {MOST_LAYERS} is sensible; "
                "download it again"
            )
    if not (files := sorted(folder.glob("*.safetensors"))):
        raise UserError(
            f"{folder} has no .safetensors file, and weights that need unpickling are not opened; "
            "download those"
        )
    for file in files:
        try:
            with safe_open(file, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"weights file {file} cannot be read ({str(error).splitlines()[0]}); download it "
                "again"
            ) from error


def load_pipeline(
    index: Index,
    kind: str,
    place: Place,
    *,
    half: torch.dtype = torch.float16,
    exact: tuple[str, ...] = (),
) -> Any:
    """Loads every part, frozen, and puts them together where they are to run.

    Args:
        index: of the folder.
        kind: name of the pipeline's class in diffusers.
        place: where and how precisely it runs.
        half: the precision on a GPU where the place leaves it open.
        exact: parts that stay in float32.

    Raises:
        UserError: a package is missing, a part is damaged, or the parts do not make a pipeline.
    """
    device = place.torch_device()
    open_precision = place.dtype == "auto" and device.type != "cpu"
    dtype = half if open_precision else place.torch_dtype()
    pipeline_class = _pipeline_class(kind)
    takes = inspect.signature(pipeline_class.__init__).parameters
    parts = {
        name: _load_part(
            index.folder / name, library, part, torch.float32 if name in exact else dtype
        )
        for name, (library, part) in index.parts.items()
        if name in takes
    }
    settings = {name: value for name, value in index.settings.items() if name in takes}
    optional = {
        name: None
        for name in pipeline_class._optional_components
        if name in takes and name not in parts
    }
    if "requires_safety_checker" in takes:
        settings["requires_safety_checker"] = False
    try:
        pipeline = pipeline_class(**parts, **settings, **optional)
    except Exception as error:  # diffusers has no common class for parts that do not fit together
        raise UserError(
            f"the parts of {index.folder} make no {kind} ({_short(error)}); download it again"
        ) from error
    pipeline.set_progress_bar_config(desc="denoising", unit="step", leave=False, dynamic_ncols=True)
    if place.offload and device.type != "cpu":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    for wanted, name in (
        (place.vae_slicing, "enable_slicing"),
        (place.vae_tiling, "enable_tiling"),
    ):
        if wanted:
            try:
                getattr(pipeline.vae, name)()
            except NotImplementedError as error:
                what = name.removeprefix("enable_")
                raise UserError(
                    f"the autoencoder of {kind} has no {what}; leave out vae_{what}"
                ) from error
    return pipeline


def _pipeline_class(kind: str) -> Any:
    logger = logging.getLogger("transformers")
    level = logger.level
    # it advises torchvision for picture processors, which are not used here
    logger.setLevel(logging.ERROR)
    try:
        # which the pipelines of some families notice only when they are running
        for needed in ("ftfy", "sentencepiece"):
            import_module(needed)
        return getattr(import_module("diffusers"), kind)
    except ImportError as error:
        raise UserError(
            f"{kind} needs the packages of the extra [diffusion]; run: pip install "
            "'gs4d[diffusion]'"
        ) from error
    finally:
        logger.setLevel(level)


def _load_part(folder: Path, library: str, kind: str, dtype: torch.dtype) -> Any:
    part_class = getattr(import_module(library), kind, None)
    if part_class is None:
        raise UserError(
            f"{folder} wants the {kind} of {library}, which is not in the version installed; "
            f"upgrade {library}"
        )
    options: dict[str, Any] = {"local_files_only": True}
    network = kind in NETWORKS[library]
    if network:
        options |= {"torch_dtype" if library == "diffusers" else "dtype": dtype}
        options |= {"use_safetensors": True, "output_loading_info": True}
        if all(f".{HALF}" in file.name for file in folder.glob("*.safetensors")):
            options["variant"] = HALF
    try:
        loaded = part_class.from_pretrained(str(folder), **options)
    except (
        Exception
    ) as error:  # the libraries have no common class for what can be wrong with a folder
        raise UserError(
            f"{folder} cannot be loaded as a {kind} ({_short(error)}); download it again"
        ) from error
    if not network:
        return loaded
    part, facts = loaded
    if missing := sorted(facts["missing_keys"]):
        raise UserError(
            f"{folder} lacks the tensor '{missing[0]}'; its weights belong to another network"
        )
    return part.eval().requires_grad_(False)


def draw(pipeline: Any, what: str, generator: torch.Generator, **arguments: Any) -> Any:
    """Runs a pipeline; its output holds colours in [0, 1] as numpy arrays.

    Args:
        pipeline: loaded.
        what: is drawn, for sentences.
        generator: of all randomness. On a GPU its seed is used there: some pipelines draw noise on
            the device alone.
        arguments: of the pipeline.

    Raises:
        UserError: the networks cannot do that, or there is not enough memory.
    """
    device = pipeline._execution_device
    own = (
        generator
        if device.type == "cpu"
        else torch.Generator(device).manual_seed(generator.initial_seed())
    )
    try:
        return pipeline(**arguments, generator=own, output_type="np")
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{what} does not fit into the GPU's memory; try place.offload, place.vae_tiling, or a "
            "smaller width and height"
        ) from error
    except (
        Exception
    ) as error:  # of settings that only the networks can judge; diffusers has no common class
        raise UserError(
            f"{what} cannot be drawn ({_short(error)}); change the settings or leave them to the "
            "model"
        ) from error


def to_pixels(colors: Float[np.ndarray, "*b 3"], what: str) -> UInt8[np.ndarray, "*b 3"]:
    """Colours in [0, 1] as levels.

    Raises:
        UserError: some are no numbers, as half precision makes of some models.
    """
    if not np.isfinite(colors).all():
        raise UserError(
            f"{what} came out as no numbers (NaN); set place.dtype to bfloat16 or float32"
        )
    return (colors * 255).round().astype(np.uint8)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
