"""MVDream (Shi et al. 2023): a sentence to four views; ImageDream (Wang and Shi 2023).

A picture to four views.

Both also judge: four views that stand evenly around the object, of one frame or of several together
(score distillation).

A Stable Diffusion 2.1 whose views attend to each other and know their cameras. ImageDream adds the
picture twice: as sixteen tokens of its CLIP features (the "local" controller) and as a fifth view
without a camera, which is never noised (the "pixel" controller). Read from folders in the layout of
``ashawkey/mvdream-sd2.1-diffusers`` and ``ashawkey/imagedream-ipmv-diffusers``, or from the
authors' ``sd-v2.1-base-4view.pt`` and ``sd-v2.1-base-4view-ipmv.pt``. Written from the papers,
MVDream's code (MIT) and the published layouts; never run with the published weights, which could
not be had where this was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from ..camera import Camera
from ..clip import Orbit, cameras_of
from ..errors import UserError
from ..io.files import read_json
from ..io.weights import read_training_checkpoint, read_weights
from . import ScoreBatch, Views, sampled_views
from .catalogue import default_of, licence_of
from .clip_encoders import clip_pictures, clip_text, clip_vision, load_clip, read_prompt
from .ldm_unet import UNet, shape_of
from .models import find_model
from .networks import Place, load_part, weights_file
from .pictures import resized
from .rigs import QUARTERS, Rig
from .sampling import (
    NOISES,
    Context,
    Sampling,
    ddim,
    fill_exactly,
    latents_of,
    lockstep,
    over,
    posterior,
    resized_for_score,
    split,
    to_opaque,
    vae_of,
)
from .sds import Condition, Conditions, SdsOptions, distill

SIDE = 256  # pixels of a view
STEPS = 50
GUIDANCE_TEXT, GUIDANCE_PICTURE = 10.0, 5.0  # of the authors' samplers
SUFFIX = ", 3d asset"  # behind every prompt, as in training
AVOID = (  # ImageDream's negative prompt
    "uniform low no texture ugly, boring, bad anatomy, blurry, pixelated,  obscure, unnatural "
    "colors, poor lighting, dull, "
    "and unclear."
)
# MVDream's, for score distillation (MVDream-threestudio, configs/mvdream-sd21.yaml, Apache-2.0).
AVOID_TEXT = (
    "ugly, bad anatomy, blurry, pixelated obscure, unnatural colors, poor lighting, dull, and "
    "unclear, cropped, lowres, low "
    "quality, artifacts, duplicate, morbid, mutilated, poorly drawn face, deformed, dehydrated, "
    "bad proportions"
)
# of CLIP's text half: what only its training needs
LEFT_OUT = ("text_projection", "logit_scale", "attn_mask")


@dataclass
class Networks:
    """The parts, frozen; ``image_encoder`` is ImageDream's alone."""

    unet: UNet
    vae: Any
    text_encoder: Any
    image_encoder: Any
    tokenizer: Path | None
    scheduler: Any


def open_mvdream(where: str, place: Place, sampling: Sampling | None = None) -> MVDream:
    """Opens MVDream in a folder, a .pt file or a hub model.

    Raises:
        UserError: it is not there, damaged, or something else.
    """
    where = where or default_of("mvdream")
    return MVDream(_networks(where, "mvdream"), place, sampling or Sampling(), where)


def open_imagedream(where: str, place: Place, sampling: Sampling | None = None) -> ImageDream:
    """Opens ImageDream in a folder, a .pt file or a hub model.

    Raises:
        UserError: it is not there, damaged, or something else.
    """
    where = where or default_of("imagedream")
    return ImageDream(_networks(where, "imagedream"), place, sampling or Sampling(), where)


def _networks(where: str, family: str) -> Networks:
    licence = licence_of(family)
    path = find_model(
        where, family=family, licence=licence, patterns=["*.json", "*.safetensors", "*/merges.txt"]
    )
    files = sorted(path.glob("*.pt")) if path.is_dir() else [path]
    if path.is_dir() and ((path / "unet").is_dir() or len(files) != 1):
        networks = load_folder(path, family)
    else:
        networks = from_checkpoint(
            read_training_checkpoint(files[0]), str(files[0]), beside=files[0].parent / "tokenizer"
        )
    pictures = networks.unet.shape.picture_tokens > 0
    if pictures != (family == "imagedream"):
        raise UserError(
            f"{where} is {'ImageDream' if pictures else 'MVDream'}, not {family}; use the other "
            "prior, or other weights"
        )
    print(f"prior {family} from {where}; licence of the weights: {licence}")
    return networks


def load_folder(folder: Path, family: str) -> Networks:
    """The parts of a folder in diffusers' layout; no code in it is run.

    Raises:
        UserError: a part is missing, damaged or of another model.
    """
    wanted = [
        "unet",
        "vae",
        "text_encoder",
        "tokenizer",
        "scheduler",
        *(["image_encoder"] if family == "imagedream" else []),
    ]
    if missing := [name for name in wanted if not (folder / name).is_dir()]:
        raise UserError(
            f"{folder} is no {family} model: it has no folder {missing[0]}; give one as of "
            f"{default_of(family)}, or a .pt file"
        )
    file = weights_file(folder / "unet")
    return Networks(
        unet=_unet(read_weights(file), str(file)),
        vae=load_part(folder / "vae", "diffusers", "AutoencoderKL"),
        text_encoder=load_clip(folder / "text_encoder", "CLIPTextModel"),
        image_encoder=load_clip(folder / "image_encoder", "CLIPVisionModel")
        if family == "imagedream"
        else None,
        tokenizer=folder / "tokenizer",
        scheduler=ddim(
            read_json(folder / "scheduler" / "scheduler_config.json", "noise schedule"), str(folder)
        ),
    )


def from_checkpoint(
    weights: Mapping[str, Tensor], source: str, beside: Path | None = None
) -> Networks:
    """The parts of the authors' checkpoint.

    It has no tokenizer: one lies beside it, or there are no prompts.

    Raises:
        UserError: tensors are missing, left over, or of other shapes; ``source`` names the file.
    """
    found = split(
        weights,
        {
            "unet": ("model.diffusion_model.",),
            "vae": ("first_stage_model.", "vae_model."),
            "text": ("cond_stage_model.model.", "clip_model.model."),
        },
        source,
    )
    visual = {
        k.removeprefix("visual."): v for k, v in found["text"].items() if k.startswith("visual.")
    }
    text = {
        k: v for k, v in found["text"].items() if not k.startswith("visual.") and k not in LEFT_OUT
    }
    unet = _unet(found["unet"], source)
    return Networks(
        unet=unet,
        vae=vae_of(found["vae"], source),
        text_encoder=clip_text(text, source, layers_left_out=1),
        image_encoder=clip_vision(visual, source, act="gelu")
        if unet.shape.picture_tokens
        else None,
        tokenizer=beside if beside is not None and beside.is_dir() else None,
        scheduler=ddim(NOISES, source),
    )


def _unet(weights: dict[str, Tensor], source: str) -> UNet:
    shape = shape_of(weights, 0, source)
    with torch.device("meta"):
        unet = UNet(shape)
    return fill_exactly(unet, weights, source, "UNet")


def camera_numbers(
    cameras: Camera, front: Float[Tensor, "v"] | None = None
) -> Float[Tensor, "v 16"]:
    """What MVDream knows of a camera.

    Its pose in Blender's axes (z up, the front at +x), at distance 1, row by row.

    Args:
        cameras: around the origin.
        front: azimuth of what counts as the front, radians; None: 0.
    """
    pose = cameras.T_camera_world.inverse()
    pose[:, :, 1:3] *= -1  # camera axes: x right, y up, z back
    pose[:, :3, 3] /= pose[:, :3, 3].norm(dim=1, keepdim=True)
    x, y, z, last = pose.unbind(1)
    turn = x.new_zeros(len(x), 1) if front is None else front[:, None]
    return torch.stack(
        [z * turn.cos() + x * turn.sin(), x * turn.cos() - z * turn.sin(), y, last], 1
    ).flatten(1)


def _looking(orbits: Sequence[Orbit]) -> Camera:
    return cameras_of(orbits, width=SIDE, height=SIDE)


class MVDream:
    """Four views of what a sentence says; a ``ScorePrior``."""

    joint, views_per_ring, needs_prompt = True, len(QUARTERS), True
    family, avoid = "mvdream", AVOID_TEXT

    def __init__(self, networks: Networks, place: Place, sampling: Sampling, where: str) -> None:
        """Puts the networks in their place."""
        self.networks, self.place, self.sampling = networks, place, sampling
        self.weights = [{"name": where, "licence": licence_of(self.family)}]
        self.alphas_cumprod: Float[Tensor, "steps"] = networks.scheduler.alphas_cumprod.float()
        if place.vae_slicing:
            networks.vae.enable_slicing()
        if place.vae_tiling:
            networks.vae.enable_tiling()
        for network in (networks.unet, networks.text_encoder, networks.image_encoder):
            if network is not None:
                place.settle(network, waits=True)
        place.settle(networks.vae)
        self.side = SIDE

    @torch.no_grad()
    def sample(self, prompt: str, generator: torch.Generator) -> UInt8[Tensor, "4 h w 4"]:
        """Four views of a sentence at azimuth 0, 90, 180 and 270, elevation 0; opaque."""
        text = self._text("", prompt + SUFFIX)
        return to_opaque(
            self._denoise(text, camera_numbers(_looking(QUARTERS)), GUIDANCE_TEXT, [generator])[0]
        )

    def score(
        self, batch: ScoreBatch, options: SdsOptions, progress: float, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """See ``ScorePrior``.

        Frames that are judged together all look at their first, as when views are drawn of them.
        """
        device, networks = self.place.torch_device(), self.networks
        count = len(batch.images) // batch.views
        rings = batch.views // self.views_per_ring

        def grid(values: Tensor) -> Tensor:
            """Of views x frames, as (rings, frames, views, ...)."""
            return values.unflatten(0, (rings, self.views_per_ring, count)).transpose(1, 2)

        pictures = resized_for_score(batch.images.to(device), self.side)
        noisy = generator if options.latents == "sample" else None
        latents = (
            grid(latents_of(networks.vae, pictures, self.place, noisy))
            * networks.vae.config.scaling_factor
        )
        x, _, z = batch.sources.centers.unbind(1)
        front = (
            torch.atan2(x, z)
            .unflatten(0, (rings, self.views_per_ring, count))[:, :1]
            .expand(-1, self.views_per_ring, -1)
            .flatten()
        )
        cameras = grid(camera_numbers(batch.cameras, front).to(device, self.place.torch_dtype()))
        with torch.no_grad():
            avoid = options.negative_prompt
            if avoid is None:
                avoid = self.avoid if networks.tokenizer else ""
            texts = self._text(avoid, "", options.prompt + SUFFIX if options.prompt else "").expand(
                rings, -1, -1, -1
            )
            avoided, empty, wanted = (
                {"text": text, "cameras": cameras} for text in texts.unbind(1)
            )
            seen = batch.condition[..., :3] + 1 - batch.condition[..., 3:]
            shown = grid(resized(seen.movedim(-1, 1), self.side).clamp(0, 1))[:, :, 0]
            self._show(shown, wanted, [avoided, empty])
        return distill(
            self, latents, Conditions(wanted, empty, avoided), options, progress, generator
        ).to(batch.images.device)

    def _show(
        self,
        pictures: Float[Tensor, "r t 3 h w"],
        wanted: dict[str, Tensor],
        others: list[dict[str, Tensor]],
    ) -> None:
        """Adds the pictures to what is ``wanted``, and none to the ``others``.

        MVDream sees none at all.
        """

    def predict(
        self, latents: Float[Tensor, "b t v c h w"], t: Int[Tensor, "b"], condition: Condition
    ) -> Float[Tensor, "b t v c h w"]:
        """See ``Denoiser``: rings of views of frames, all with one time step."""
        b, frames, views = latents.shape[:3]
        context, cameras = (
            condition["text"][:, None].expand(-1, frames, -1, -1),
            condition["cameras"],
        )
        if "tokens" in condition:
            context = torch.cat([context, condition["tokens"]], 2)
            latents = torch.cat([latents, condition["latents"][:, :, None]], 2)
            cameras = torch.cat([cameras, torch.zeros_like(cameras[:, :, :1])], 2)
        rows = latents.shape[2]
        with self.place.turn(self.networks.unet):
            noise = self.networks.unet(
                latents.flatten(0, 2).to(self.place.torch_dtype()),
                t.repeat_interleave(frames * rows),
                context[:, :, None].expand(-1, -1, rows, -1, -1).flatten(0, 2),
                cameras.flatten(0, 2),
                rows,
                frames,
            )
        return noise.float().unflatten(0, (b, frames, rows))[:, :, :views]

    def _text(self, *sentences: str) -> Float[Tensor, "s n c"]:
        """Tokens of sentences."""
        ids = torch.cat([read_prompt(text, self.networks.tokenizer) for text in sentences])
        with self.place.turn(self.networks.text_encoder):
            return self.networks.text_encoder(ids.to(self.place.torch_device())).last_hidden_state

    def _denoise(
        self,
        text: Float[Tensor, "2 n c"],
        cameras: Float[Tensor, "v 16"],
        guidance: float,
        generators: list[torch.Generator],
        picture: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "t 4 3 h w"]:
        """Draws views by DDIM (Song et al. 2021), a frame for every generator.

        ``picture`` is an input picture's tokens (2 t m c) and latents.
        """
        unet, vae, scheduler = self.networks.unet, self.networks.vae, self.networks.scheduler
        device, dtype = self.place.torch_device(), self.place.torch_dtype()
        frames, views = len(generators), len(cameras)
        cells = self.side // 2 ** (len(vae.config.block_out_channels) - 1)
        size = (views, unet.shape.outputs, cells, cells)
        x = torch.stack([torch.randn(size, generator=g) for g in generators]).to(device)
        context = text[:, None].expand(-1, frames, -1, -1)
        if picture is not None:
            context = torch.cat([context, picture[0]], 2)
        context = context[:, :, None].expand(-1, -1, views, -1, -1).flatten(0, 2).to(dtype)
        numbers = cameras.to(device, dtype).repeat(2 * frames, 1)
        scheduler.set_timesteps(self.sampling.steps or STEPS)
        with self.place.turn(unet):
            for t in tqdm(
                scheduler.timesteps, desc="denoising", unit="step", leave=False, dynamic_ncols=True
            ):
                seen = torch.stack([x, x])
                if picture is not None:
                    seen[0, :, -1], seen[1, :, -1] = 0, picture[1]
                noise = unet(
                    seen.flatten(0, 2).to(dtype),
                    t.expand(2 * frames * views).to(device),
                    context,
                    numbers,
                    views,
                    frames if self.sampling.temporal else 1,
                ).float()
                avoided, wanted = noise.unflatten(0, (2, frames, views))
                noise = avoided + (self.sampling.guidance or guidance) * (wanted - avoided)
                x = scheduler.step(noise, t, x).prev_sample
        x = x[:, : len(QUARTERS)].to(dtype) / vae.config.scaling_factor
        return torch.stack([vae.decode(frame).sample for frame in x])


class ImageDream(MVDream):
    """A ``ViewPrior``: four views around every frame; a ``ScorePrior``."""

    layout = family = "imagedream"
    rig: ClassVar[Rig] = Rig(QUARTERS, level=True)
    needs_prompt, avoid = False, AVOID

    @property
    def context(self) -> Context:
        """Which other frames it looks at."""
        return "first" if self.sampling.temporal else "none"

    @torch.no_grad()
    def views(
        self,
        frames: UInt8[Tensor, "t s s 4"],
        source: Orbit,
        rig: list[Orbit],
        generator: torch.Generator,
    ) -> Views:
        """See ``ViewPrior``; opaque. The cameras stand as high as the input's."""
        own = self.rig.around(replace(source, azimuth=0.0))
        pictures = resized(over(frames, 1.0), self.side).clamp(0, 1)
        generators = lockstep(generator, len(frames))
        networks, vae = self.networks, self.networks.vae
        latents = (
            posterior(vae, 2 * pictures - 1, self.place).sample(generators).float()
            * vae.config.scaling_factor
        )
        tokens = self._tokens(pictures)
        prompt = self.sampling.prompt
        text = self._text(AVOID, prompt + SUFFIX) if networks.tokenizer else self._text("", prompt)
        cameras = torch.cat([camera_numbers(_looking(own)), torch.zeros(1, 16)])
        drawn = self._denoise(text, cameras, GUIDANCE_PICTURE, generators, (tokens, latents))
        images = to_opaque(drawn.movedim(1, 0))
        return sampled_views(rig, images)

    def _tokens(self, pictures: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "2 b n c"]:
        """Tokens of no picture, and of pictures."""
        encoder, unet = self.networks.image_encoder, self.networks.unet
        seen = clip_pictures(pictures, encoder.config.image_size).to(
            self.place.torch_device(), self.place.torch_dtype()
        )
        with self.place.turn(encoder):
            features = encoder(seen, output_hidden_states=True).hidden_states[-2]
        with self.place.turn(unet):
            return torch.stack(
                [unet.image_embed(f) for f in (torch.zeros_like(features), features)]
            )

    def _show(
        self,
        pictures: Float[Tensor, "r t 3 h w"],
        wanted: dict[str, Tensor],
        others: list[dict[str, Tensor]],
    ) -> None:
        vae, flat = self.networks.vae, pictures.flatten(0, 1)
        none, seen = self._tokens(flat).unflatten(1, pictures.shape[:2])
        latents = latents_of(vae, flat.to(self.place.torch_device()), self.place).unflatten(
            0, pictures.shape[:2]
        )
        wanted |= {"tokens": seen, "latents": latents * vae.config.scaling_factor}
        for condition in others:
            condition |= {"tokens": none, "latents": torch.zeros_like(latents)}
