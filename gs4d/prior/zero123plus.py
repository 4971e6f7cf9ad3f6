"""Zero123++ (Shi et al. 2023), versions 1.1 and 1.2.

A picture to six views in one grid of 3 rows of 2.

A Stable Diffusion 2 that looks at its input in two ways: its self-attention also sees the tokens
that the input picture, noised as much, has at the same place of the network ("reference
attention"), and CLIP's embedding of the picture is added to the tokens of an empty prompt, more to
some than to others. Latents and pictures are scaled, grey is the background. Read from folders in
the layout of ``sudo-ai/zero123plus-v1.1`` and ``-v1.2``. Written from the report and the authors'
pipeline (Apache-2.0); never run with the published weights, which could not be had where this was
made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from ..clip import Orbit
from ..errors import UserError
from ..io.files import read_json
from . import Views, sampled_views
from .catalogue import default_of, licence_of
from .clip_encoders import Preparation, load_clip, read_preparation, read_prompt
from .ldm_unet import heads_attend
from .models import find_model
from .networks import Place, load_part
from .rigs import ZERO123PLUS_1_1, ZERO123PLUS_1_2, Rig
from .sampling import (
    Context,
    Sampling,
    attend_anchored,
    lockstep,
    over,
    posterior,
    schedule,
    to_opaque,
)

RIGS = {"zero123plus": ZERO123PLUS_1_1, "zero123plus-1.2": ZERO123PLUS_1_2}
ROWS, COLUMNS = 3, 2
TILE = 320  # pixels of a view
STEPS, GUIDANCE = 28, 4.0
GREY = 127 / 255
LATENT_SHIFT, LATENT_SCALE = 0.22, 0.75  # of the grid's latents
PICTURE_SCALE = 0.5 / 0.8  # of its pictures
MODELS = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "vision_encoder": ("transformers", "CLIPVisionModelWithProjection"),
}
OTHERS = ("tokenizer", "scheduler", "feature_extractor_clip", "feature_extractor_vae")


@dataclass
class Networks:
    """The parts, frozen."""

    unet: Any
    vae: Any
    text_encoder: Any
    vision_encoder: Any
    tokenizer: Path
    scheduler: Any
    for_clip: Preparation
    for_vae: Preparation
    ramp: Float[Tensor, "n"]


@dataclass
class Reference:
    """What self-attention keeps of the input picture, and whether frames see the first.

    Attributes:
        writing: the input picture is passing through: keep its tokens.
        tokens: by the name of the layer.
        frames: of the clip that passes through; 1: none sees another.
    """

    writing: bool = False
    tokens: dict[str, Tensor] = field(default_factory=dict)
    frames: int = 1


@dataclass
class ReferenceAttention:
    """Self-attention that also sees the tokens of the input picture.

    Takes the place of diffusers' own.
    """

    name: str
    reference: Reference

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """The tokens after attention."""

        def attend(x: Tensor, context: Tensor) -> Tensor:
            return attn.to_out[0](
                heads_attend(attn.to_q(x), attn.to_k(context), attn.to_v(context), attn.heads)
            )

        if self.reference.writing:
            self.reference.tokens[self.name] = hidden_states
            return attend(hidden_states, hidden_states)
        seen = torch.cat([hidden_states, self.reference.tokens.pop(self.name)], 1)
        return attend_anchored(attend, hidden_states, seen, self.reference.frames)


def open_zero123plus(where: str, place: Place, sampling: Sampling | None = None) -> Zero123Plus:
    """Opens Zero123++ v1.1 in a folder or a hub model.

    Raises:
        UserError: it is not there, damaged, or something else.
    """
    return _open(where, "zero123plus", place, sampling or Sampling())


def open_zero123plus_1_2(where: str, place: Place, sampling: Sampling | None = None) -> Zero123Plus:
    """Opens Zero123++ v1.2 in a folder or a hub model.

    Raises:
        UserError: it is not there, damaged, or something else.
    """
    return _open(where, "zero123plus-1.2", place, sampling or Sampling())


def _open(where: str, family: str, place: Place, sampling: Sampling) -> Zero123Plus:
    where = where or default_of(family)
    other = next(f for f in RIGS if f != family)
    if default_of(other).rpartition("-")[2] in Path(where).name:
        raise UserError(
            f"{where} is another version, whose cameras stand elsewhere; use the prior "
            f"{other}:{where}"
        )
    patterns = ["*.json", "*/*.json", "*/*.safetensors", "*/merges.txt"]
    networks = load_folder(
        find_model(where, family=family, licence=licence_of(family), patterns=patterns)
    )
    print(f"prior {family} from {where}; licence of the weights: {licence_of(family)}")
    return Zero123Plus(networks, place, sampling, family, where)


def load_folder(folder: Path) -> Networks:
    """The parts of a folder in diffusers' layout; no code in it is run.

    Raises:
        UserError: a part is missing, damaged or of another model.
    """
    if missing := [name for name in (*MODELS, *OTHERS) if not (folder / name).is_dir()]:
        raise UserError(
            f"{folder} is no Zero123++ model: it has no folder {missing[0]}; give one as of "
            f"{default_of('zero123plus')}"
        )
    index = read_json(folder / "model_index.json", "model index")
    ramp = index.get("ramping_coefficients") if isinstance(index, dict) else None
    if not isinstance(ramp, list) or not ramp or not all(isinstance(x, (int, float)) for x in ramp):
        raise UserError(
            f"{folder / 'model_index.json'} has no list ramping_coefficients, so this is no "
            "Zero123++ model"
        )
    from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
        EulerAncestralDiscreteScheduler,
    )

    config = read_json(folder / "scheduler" / "scheduler_config.json", "noise schedule")
    parts: dict[str, Any] = {
        name: load_clip(folder / name, kind)
        if library == "transformers"
        else load_part(folder / name, library, kind)
        for name, (library, kind) in MODELS.items()
    }
    words, tokens = (
        parts["text_encoder"].config.hidden_size,
        parts["unet"].config.cross_attention_dim,
    )
    embedding, length = (
        parts["vision_encoder"].config.projection_dim,
        parts["text_encoder"].config.max_position_embeddings,
    )
    if not words == tokens == embedding or len(ramp) != length:
        raise UserError(
            f"the parts of {folder} do not fit together: tokens have {words}, {tokens} and "
            f"{embedding} channels and there are "
            f"{length} of them for {len(ramp)} ramping coefficients; download the model again"
        )
    return Networks(
        **parts,
        tokenizer=folder / "tokenizer",
        scheduler=schedule(
            EulerAncestralDiscreteScheduler, config, str(folder), timestep_spacing="trailing"
        ),
        for_clip=read_preparation(folder / "feature_extractor_clip"),
        for_vae=read_preparation(folder / "feature_extractor_vae"),
        ramp=torch.tensor(ramp, dtype=torch.float32),
    )


class Zero123Plus:
    """A ``ViewPrior``: six views around every frame."""

    def __init__(
        self, networks: Networks, place: Place, sampling: Sampling, family: str, where: str
    ) -> None:
        """Puts the networks in their place."""
        self.networks, self.place, self.sampling = networks, place, sampling
        self.layout, self.rig = family, Rig(RIGS[family])
        self.weights = [{"name": where, "licence": licence_of(family)}]
        self.tile = TILE
        for network in (networks.unet, networks.text_encoder, networks.vision_encoder):
            place.settle(network, waits=True)
        place.settle(networks.vae)
        self._reference = Reference()
        own = networks.unet.attn_processors
        networks.unet.set_attn_processor(
            {
                name: ReferenceAttention(name, self._reference)
                if name.endswith("attn1.processor")
                else processor
                for name, processor in own.items()
            }
        )

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
        """See ``ViewPrior``; opaque, over grey.

        All frames are sampled together, and all but the first see the first.
        """
        pictures = over(frames, GREY)
        generators = lockstep(generator, len(frames))
        networks, device, dtype = self.networks, self.place.torch_device(), self.place.torch_dtype()
        vae, scheduler = networks.vae, networks.scheduler

        # 1. What the network is told: the picture's latents and tokens, and nothing of either.
        seen = networks.for_vae(pictures)
        latents = [
            posterior(vae, x, self.place).sample(generators).float()
            for x in (torch.zeros_like(seen), seen)
        ]
        reference = torch.cat(latents)
        with self.place.turn(networks.text_encoder):
            text = networks.text_encoder(
                read_prompt("", networks.tokenizer).to(device)
            ).last_hidden_state
        with self.place.turn(networks.vision_encoder):
            embedding = networks.vision_encoder(
                networks.for_clip(pictures).to(device, dtype)
            ).image_embeds
        ramped = embedding[:, None] * networks.ramp.to(embedding)[:, None]
        tokens = torch.cat([text.expand(len(frames), -1, -1), text + ramped])

        # 2. The grids.
        cells = self.tile // 2 ** (len(vae.config.block_out_channels) - 1)
        scheduler.set_timesteps(self.sampling.steps or STEPS)
        x = (
            _draw((vae.config.latent_channels, ROWS * cells, COLUMNS * cells), generators, device)
            * scheduler.init_noise_sigma
        )
        guidance = self.sampling.guidance or GUIDANCE
        with self.place.turn(networks.unet):
            for t in tqdm(
                scheduler.timesteps, desc="denoising", unit="step", leave=False, dynamic_ncols=True
            ):
                noise = _draw(tuple(reference.shape[1:]), generators, device)
                noised = scheduler.add_noise(
                    reference, noise.repeat(2, 1, 1, 1), t.expand(len(reference))
                )
                avoided, wanted = self._predict(torch.cat([x, x]), noised, t, tokens).chunk(2)
                x = scheduler.step(
                    avoided + guidance * (wanted - avoided), t, x, generator=generators
                ).prev_sample
        x = (x / LATENT_SCALE + LATENT_SHIFT).to(dtype) / vae.config.scaling_factor
        grids = torch.cat([vae.decode(one[None]).sample for one in x]) / PICTURE_SCALE

        # 3. Cut into views.
        tiles = grids.unflatten(3, (COLUMNS, -1)).unflatten(2, (ROWS, -1))  # t c rows h columns w
        images = to_opaque(tiles.permute(2, 4, 0, 1, 3, 5).flatten(0, 1))
        return sampled_views(rig, images)

    def _predict(
        self,
        x: Float[Tensor, "b c h w"],
        reference: Float[Tensor, "b c i j"],
        t: Tensor,
        tokens: Float[Tensor, "b n k"],
    ) -> Float[Tensor, "b c h w"]:
        """Returns the noise in grids, which attend to the input picture's equally noisy latents."""
        unet, scheduler, dtype = (
            self.networks.unet,
            self.networks.scheduler,
            self.place.torch_dtype(),
        )
        self._reference.frames = len(x) // 2 if self.sampling.temporal else 1
        try:
            self._reference.writing = True
            unet(
                scheduler.scale_model_input(reference, t).to(dtype), t, encoder_hidden_states=tokens
            )
            self._reference.writing = False
            return unet(
                scheduler.scale_model_input(x, t).to(dtype), t, encoder_hidden_states=tokens
            ).sample.float()
        finally:
            self._reference.tokens.clear()


def _draw(
    shape: tuple[int, ...], generators: list[torch.Generator], device: torch.device
) -> Float[Tensor, "t ..."]:
    return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
