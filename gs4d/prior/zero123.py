"""Zero123 (Liu et al. 2023), Zero123-XL and Stable Zero123.

A picture of an object, and how the camera turns, to another one.

A UNet of Stable Diffusion whose input has 8 channels (the noisy latents, and those of the input
picture) and whose one token is the input's CLIP embedding with the relative camera, projected back
from 772 to 768 numbers. Read from folders in diffusers' layout as people publish them, or from the
original checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..camera import Camera
from ..clip import Orbit, cameras_of, premultiply
from ..errors import UserError
from ..io.files import read_json
from ..io.weights import fill, read_training_checkpoint, read_weights
from . import ScoreBatch, Views, ldm, sampled_views
from .catalogue import default_of, licence_of
from .models import find_model
from .networks import Place, build, load_part, weights_file
from .pictures import resized
from .rigs import FREE_RIG, Rig
from .sampling import NOISES, Context, Sampling, ddim, latents_of, resized_for_score
from .sds import Condition, Conditions, SdsOptions, distill, guided
from .white import cut_from_white

WANTED = {  # files of hub models that are not all wanted, or not all called .safetensors
    "bennyguo/zero123-xl-diffusers": ["*.json", "*.fp16_ema.safetensors"],
    "bennyguo/zero123-diffusers": ["*.json", "*.fp16_ema.safetensors"],
    "cvlab/zero123-weights": ["105000.ckpt"],
    "stabilityai/stable-zero123": ["stable_zero123.ckpt"],
}
# no safety_checker
WANTED |= {f"kxic/zero123-{kind}": ["*.json", "[!s]*/*.bin"] for kind in ("xl", "105000", "165000")}
PROJECTIONS = ("clip_camera_projection", "cc_projection")
# pixels of the pictures that the published models were trained with; some folders state Stable
# Diffusion's 512
SIDE = 256
STEPS, ETA, GUIDANCE = 50, 1.0, 3.0  # of the authors' demo
BATCH = 4  # pictures that are sampled at once


@dataclass
class Networks:
    """The parts, frozen."""

    unet: Any
    vae: Any
    image_encoder: Any
    projection: nn.Linear
    scheduler: Any


def open_zero123(where: str, place: Place, sampling: Sampling | None = None) -> Zero123:
    """Opens Zero123 in a folder, a .ckpt file or a hub model.

    One with "stable" in its name is taken for Stable Zero123.

    Raises:
        UserError: it is not there, damaged, or something else.
    """
    where = where or default_of("zero123")
    return _open(where, "stable" in Path(where).name.lower(), place)


def open_stable_zero123(where: str, place: Place, sampling: Sampling | None = None) -> Zero123:
    """Opens Stable Zero123, whatever its folder is called; otherwise as :func:`open_zero123`."""
    return _open(where or default_of("stable-zero123"), True, place)


def _open(where: str, stable: bool, place: Place) -> Zero123:
    family = "stable-zero123" if stable else "zero123"
    licence = licence_of(family)
    patterns = WANTED.get(where, ["*.json", "*/*.safetensors"])
    path = find_model(where, family=family, licence=licence, patterns=patterns)
    checkpoints = sorted(path.glob("*.ckpt")) if path.is_dir() else [path]
    if path.is_dir() and ((path / "unet").is_dir() or len(checkpoints) != 1):
        networks = load_folder(path)
    else:
        networks = load_checkpoint(checkpoints[0])
    print(f"prior {family} from {where}; licence of the weights: {licence}")
    return Zero123(networks, place, f"{family}:{where}", stable=stable)


def load_folder(folder: Path) -> Networks:
    """The parts of a folder in diffusers' layout.

    Raises:
        UserError: a part is missing, damaged or of another model.
    """
    projections = [name for name in PROJECTIONS if (folder / name).is_dir()]
    missing = [
        name
        for name in ("unet", "vae", "image_encoder", "scheduler")
        if not (folder / name).is_dir()
    ]
    if missing or not projections:
        raise UserError(
            f"{folder} is no Zero123 model: it has no folder "
            f"{(missing or [' or '.join(PROJECTIONS)])[0]}; "
            "give a folder as of ashawkey/zero123-xl-diffusers, or a file such as zero123-xl.ckpt"
        )
    networks = Networks(
        unet=load_part(folder / "unet", "diffusers", "UNet2DConditionModel"),
        vae=load_part(folder / "vae", "diffusers", "AutoencoderKL"),
        image_encoder=load_part(
            folder / "image_encoder", "transformers", "CLIPVisionModelWithProjection"
        ),
        projection=_projection(weights_file(folder / projections[0]), None),
        scheduler=ddim(
            read_json(folder / "scheduler" / "scheduler_config.json", "noise schedule"), str(folder)
        ),
    )
    return _checked(networks, str(folder))


def load_checkpoint(path: Path) -> Networks:
    """The parts of an original checkpoint, such as zero123-xl.ckpt or stable_zero123.ckpt.

    Raises:
        UserError: it is damaged, of another model, or wants code to run.
    """
    if path.suffix not in (".ckpt", ".pt", ".pth", ".safetensors"):
        raise UserError(
            f"{path} is no checkpoint of Zero123; give a .ckpt file, or a folder in diffusers' "
            "layout"
        )
    weights = (
        read_weights(path) if path.suffix == ".safetensors" else read_training_checkpoint(path)
    )
    source = str(path)

    def converted(library: str, kind: str, prefix: str, convert: Any) -> Any:
        try:
            config, tensors = convert(ldm.part(weights, prefix, source))
        except (
            KeyError,
            IndexError,
            ValueError,
            StopIteration,
            ZeroDivisionError,
            AttributeError,
        ) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{source} has other tensors below {prefix} than a Zero123 has ({error!r})"
            ) from error
        return fill(build(library, kind, config, source), tensors, source, assign=True)

    networks = Networks(
        unet=converted("diffusers", "UNet2DConditionModel", "model.diffusion_model.", ldm.unet),
        vae=converted("diffusers", "AutoencoderKL", "first_stage_model.", ldm.vae),
        image_encoder=converted(
            "transformers",
            "CLIPVisionModelWithProjection",
            "cond_stage_model.model.visual.",
            ldm.clip_vision,
        ),
        projection=_projection(path, ldm.part(weights, "cc_projection.", source)),
        scheduler=ddim(NOISES, source),
    )
    return _checked(networks, source)


def _projection(path: Path, weights: dict[str, Tensor] | None) -> nn.Linear:
    """Reads the camera projection, one linear layer under any of its published names."""
    found = {
        name.rsplit(".", 1)[-1]: value for name, value in (weights or read_weights(path)).items()
    }
    if found.keys() != {"weight", "bias"} or found["weight"].ndim != 2:
        raise UserError(
            f"{path} holds no camera projection: its tensors are "
            f"{', '.join(sorted(found)) or 'none'}"
        )
    layer = nn.Linear(found["weight"].shape[1], found["weight"].shape[0], device="meta")
    return fill(layer, found, str(path), assign=True)


def _checked(networks: Networks, source: str) -> Networks:
    """Refuses parts that do not fit together.

    Most of all, a Stable Diffusion that is no Zero123.
    """
    unet, latents = networks.unet.config, networks.vae.config.latent_channels
    if (unet.in_channels, unet.out_channels) != (2 * latents, latents):
        raise UserError(
            f"the UNet of {source} has {unet.in_channels} input channels; Zero123's has "
            f"{2 * latents}, so this is another model"
        )
    token, embedding = unet.cross_attention_dim, networks.image_encoder.config.projection_dim
    if (networks.projection.in_features, networks.projection.out_features) != (
        embedding + 4,
        token,
    ):
        sizes = f"{networks.projection.in_features} to {networks.projection.out_features}"
        raise UserError(
            f"the camera projection of {source} goes from {sizes} numbers, wanted {embedding + 4} "
            f"to {token}"
        )
    return networks


class Zero123:
    """A ``ViewPrior`` and a ``ScorePrior``."""

    joint, views_per_ring, needs_prompt = False, 0, False
    context: ClassVar[Context] = "none"  # every frame is drawn by itself
    layout: ClassVar[str] = "rig"
    rig: ClassVar[Rig] = FREE_RIG

    def __init__(self, networks: Networks, place: Place, name: str, *, stable: bool) -> None:
        """Puts the networks in their place.

        Args:
            networks: the parts.
            place: where they run.
            name: of the prior, for the report.
            stable: whether the fourth number of a relative camera is the input's polar angle, as
                for Stable Zero123, instead of the difference in distance.
        """
        self.networks, self.place, self.stable = networks, place, stable
        family = "stable-zero123" if stable else "zero123"
        self.weights = [{"name": name, "licence": licence_of(family)}]
        place.settle(networks.unet, waits=True)
        place.settle(networks.image_encoder, waits=True)
        place.settle(networks.vae)
        place.settle(networks.projection)
        if place.vae_slicing:
            networks.vae.enable_slicing()
        if place.vae_tiling:
            networks.vae.enable_tiling()
        factor = 2 ** (len(networks.vae.config.block_out_channels) - 1)
        self.side = min(networks.unet.config.sample_size * factor, SIDE)
        self.alphas_cumprod: Float[Tensor, "steps"] = networks.scheduler.alphas_cumprod.float()
        self._seen: dict[bytes, tuple[Tensor, Tensor]] = {}

    def score(
        self, batch: ScoreBatch, options: SdsOptions, progress: float, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """See ``ScorePrior``."""
        pictures = batch.condition[..., :3] + 1 - batch.condition[..., 3:]
        conditions = self.conditions(pictures, self.turns(batch.sources, batch.cameras))
        noisy = generator if options.latents == "sample" else None
        pictures = resized_for_score(batch.images.to(self.place.torch_device()), self.side)
        latents = self.encode(pictures, noisy) * self.networks.vae.config.scaling_factor
        return distill(self, latents, conditions, options, progress, generator).to(
            batch.images.device
        )

    def predict(
        self, latents: Float[Tensor, "b c h w"], t: Int[Tensor, "b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """See ``Denoiser``."""
        unet = self.networks.unet
        seen = torch.cat([latents, condition["latents"]], 1).to(self.place.torch_dtype())
        with self.place.turn(unet):
            return unet(seen, t, encoder_hidden_states=condition["token"]).sample.float()

    def encode(
        self, pictures: Float[Tensor, "b 3 h w"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c y x"]:
        """See :func:`latents_of`."""
        return latents_of(self.networks.vae, pictures, self.place, generator)

    @torch.no_grad()
    def conditions(
        self, pictures: Float[Tensor, "b h w 3"], turns: Float[Tensor, "b 4"]
    ) -> Conditions:
        """What the UNet is told: input pictures over white, and the relative cameras.

        Nothing is told by zeros.
        """
        seen = [self._look(picture) for picture in pictures]
        embedding, latents = (torch.cat(some) for some in zip(*seen, strict=True))
        numbers = torch.cat([embedding, turns.to(embedding)], 1)
        wanted = {"latents": latents, "token": self.networks.projection(numbers)[:, None]}
        return Conditions(wanted, {name: torch.zeros_like(value) for name, value in wanted.items()})

    def _look(self, picture: Float[Tensor, "h w 3"]) -> tuple[Tensor, Tensor]:
        """CLIP's embedding and the unscaled latents of an input picture.

        A clip has few, so they are kept.
        """
        key = blake2b(picture.detach().float().cpu().numpy().tobytes(), digest_size=16).digest()
        if key not in self._seen:
            from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

            shown = picture[None].to(self.place.torch_device()).movedim(-1, 1).float()
            sized = resized(shown, self.side)
            encoder = self.networks.image_encoder
            side = encoder.config.image_size
            # as it was trained with
            small = F.interpolate(sized, (side, side), mode="bicubic", align_corners=True)
            mean, std = (
                small.new_tensor(values)[:, None, None]
                for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
            )
            with self.place.turn(encoder):
                embedding = encoder(
                    ((small - mean) / std).to(self.place.torch_dtype())
                ).image_embeds
            self._seen[key] = embedding, self.encode(sized)
        return self._seen[key]

    def turns(self, sources: Camera, targets: Camera) -> Float[Tensor, "b 4"]:
        """Returns polar difference, sine and cosine of the azimuth difference, and a fourth number.

        Radians. Polar angles are measured from above and azimuths counterclockwise seen from there
        (Zero123's data, rendered with Blender), which is how our azimuths run. The fourth number is
        the difference in distance, in world units; for Stable Zero123 the input's polar angle.
        """
        (polar_s, azimuth_s, radius_s), (polar_t, azimuth_t, radius_t) = (
            _spherical(sources),
            _spherical(targets),
        )
        turn = azimuth_t - azimuth_s
        last = polar_s if self.stable else radius_t - radius_s
        return torch.stack([polar_t - polar_s, turn.sin(), turn.cos(), last], 1)

    @torch.no_grad()
    def views(
        self,
        frames: UInt8[Tensor, "t s s 4"],
        source: Orbit,
        rig: list[Orbit],
        generator: torch.Generator,
    ) -> Views:
        """See ``ViewPrior``.

        A view has the same noise in all frames: what the model leaves to chance then changes less
        from frame to frame.
        """
        values = premultiply(frames)
        pictures = values[..., :3] + 1 - values[..., 3:]
        drawn = torch.empty(len(rig), len(frames), self.side, self.side, 3, dtype=torch.uint8)
        with tqdm(
            total=len(rig) * len(frames), desc="zero123", unit="view", dynamic_ncols=True
        ) as bar:
            for v, orbit in enumerate(rig):
                seed = int(torch.randint(2**62, (1,), generator=generator))
                cameras = cameras_of([source, orbit], width=self.side, height=self.side)
                turn = self.turns(cameras.select([0]), cameras.select([1]))
                for some in torch.arange(len(frames)).split(BATCH):
                    conditions = self.conditions(pictures[some], turn.expand(len(some), 4))
                    drawn[v, some] = self.sample(
                        conditions, len(some), torch.Generator().manual_seed(seed)
                    )
                    bar.update(len(some))
        images = cut_from_white(drawn.flatten(0, 1)).view(*drawn.shape[:-1], 4)
        return sampled_views(rig, images)

    @torch.no_grad()
    def sample(
        self, conditions: Conditions, count: int, generator: torch.Generator
    ) -> UInt8[Tensor, "b h w 3"]:
        """Pictures by DDIM (Song et al. 2021) with eta 1, 50 steps and guidance 3.

        All have the same noise.
        """
        scheduler, vae, device = (
            self.networks.scheduler,
            self.networks.vae,
            self.place.torch_device(),
        )
        options = SdsOptions(guidance=GUIDANCE)
        scheduler.set_timesteps(STEPS)
        cells = conditions.wanted["latents"].shape[2:]
        latents = (
            torch.randn(1, vae.config.latent_channels, *cells, generator=generator)
            .expand(count, -1, -1, -1)
            .to(device)
        )
        for t in scheduler.timesteps:
            noise = guided(self, latents, t.expand(count).to(device), conditions, options)
            fresh = (
                torch.randn(1, *latents.shape[1:], generator=generator)
                .expand(count, -1, -1, -1)
                .to(device)
            )
            latents = scheduler.step(noise, t, latents, eta=ETA, variance_noise=fresh).prev_sample
        pictures = vae.decode(
            (latents / vae.config.scaling_factor).to(self.place.torch_dtype())
        ).sample
        return (
            (pictures.float().movedim(1, -1).mul(127.5).add(127.5).round().clamp(0, 255))
            .to(torch.uint8)
            .cpu()
        )


def _spherical(cameras: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Polar angle from above, azimuth (radians) and distance of cameras around the origin."""
    x, y, z = cameras.centers.unbind(1)
    radius = cameras.centers.norm(dim=1)
    return (y / radius).clamp(-1, 1).acos(), torch.atan2(x, z), radius
