"""SyncDreamer (Liu et al. 2024): a picture to sixteen views that are drawn together.

A Zero123 for every view, whose UNets look along their rays into one volume that all sixteen noisy
views make. Read from the authors' ``syncdreamer-pretrain.ckpt``, which holds everything, its
cameras included. Written from the paper, the authors' code (MIT) and the layout of the checkpoint;
never run with its weights, which could not be had where this was made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..clip import Orbit
from ..errors import UserError
from ..io.weights import read_training_checkpoint
from . import Views, sampled_views
from .catalogue import licence_of
from .clip_encoders import MEAN, SPREAD, clip_vision, normalised
from .ldm_unet import shape_of, sinusoid
from .models import find_model
from .networks import Place
from .pictures import resized
from .rigs import SYNCDREAMER, Rig
from .sampling import (
    NOISES,
    Context,
    Sampling,
    ddim,
    fill_exactly,
    lockstep,
    over,
    posterior,
    split,
    to_opaque,
    vae_of,
)
from .volumes import SpatialVolume, VolumeUNet, frustum_points, frustum_widths, seen_from

STEPS, GUIDANCE, ETA = 50, 2.0, 1.0
ELEVATION = 30.0  # of its views, degrees
HEADS = 8  # of the UNet, as in Stable Diffusion 1
VIEWS_AT_ONCE = 4  # that pass through the UNet together
NEIGHBOUR = 0.2  # weight of the volume of the frame before, and of that after, beside a frame's own
CAMERAS = ("poses", "Ks", "azimuth")
TEXT_HALF = re.compile(r"(?!visual\.).*")  # of CLIP, which the checkpoint carries along


@dataclass
class Networks:
    """The frozen parts; ``poses`` (world to camera, z up), ``Ks`` (pixels), azimuths (radians)."""

    unet: VolumeUNet
    volume: SpatialVolume
    time_embed: nn.Sequential
    projection: nn.Linear
    vae: Any
    image_encoder: Any
    scheduler: Any
    poses: Float[Tensor, "v 3 4"]
    Ks: Float[Tensor, "v 3 3"]
    azimuth: Float[Tensor, "v"]


def open_syncdreamer(where: str, place: Place, sampling: Sampling | None = None) -> SyncDreamer:
    """Opens SyncDreamer in a .ckpt file, or the one such file in a folder or a hub model.

    Raises:
        UserError: it is not there, damaged, or something else.
    """
    if not where:
        raise UserError(
            "syncdreamer has no weights on the hub under the authors' name: get "
            "syncdreamer-pretrain.ckpt by the links in "
            "https://github.com/liuyuan-pal/SyncDreamer and give it as syncdreamer:FILE"
        )
    path = find_model(
        where, family="syncdreamer", licence=licence_of("syncdreamer"), patterns=["*.ckpt"]
    )
    files = sorted(path.glob("*.ckpt")) if path.is_dir() else [path]
    if len(files) != 1:
        raise UserError(
            f"{path} holds {len(files)} .ckpt files, wanted syncdreamer-pretrain.ckpt; name the "
            "file"
        )
    networks = from_checkpoint(read_training_checkpoint(files[0]), str(files[0]))
    print(f"prior syncdreamer from {where}; licence of the weights: {licence_of('syncdreamer')}")
    return SyncDreamer(networks, place, sampling or Sampling(), where)


def from_checkpoint(weights: Mapping[str, Tensor], source: str) -> Networks:
    """The parts of the authors' checkpoint.

    Raises:
        UserError: tensors are missing, left over, or of other shapes; ``source`` names the file.
    """
    parts = {
        "unet": "model.diffusion_model.",
        "vae": "first_stage_model.",
        "clip": "clip_image_encoder.model.",
        "volume": "spatial_volume.",
        "time": "time_embed.",
        "projection": "cc_projection.",
    }
    cameras = {name: weights[name].float() for name in CAMERAS if name in weights}
    rest = {name: value for name, value in weights.items() if name not in CAMERAS}
    found = split(rest, {part: (prefix,) for part, prefix in parts.items()}, source)
    views = len(SYNCDREAMER)
    if {name: tuple(value.shape) for name, value in cameras.items()} != {
        "poses": (views, 3, 4),
        "Ks": (views, 3, 3),
        "azimuth": (views,),
    }:
        raise UserError(
            f"{source} does not hold the {views} cameras of SyncDreamer ({', '.join(CAMERAS)})"
        )
    shape = shape_of(found["unet"], HEADS, source)
    try:
        with torch.device("meta"):
            sizes = {name: value.shape for name, value in found["volume"].items()}
            volume, unet = SpatialVolume(sizes, views), VolumeUNet(shape, frustum_widths(sizes))
            wide, time = (
                found[part]["0.weight" if part == "time" else "weight"].shape
                for part in ("projection", "time")
            )
            projection = nn.Linear(wide[1], wide[0])
            time_embed = nn.Sequential(
                nn.Linear(time[1], time[0]), nn.SiLU(), nn.Linear(time[0], time[0])
            )
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"{source} lacks a part of SyncDreamer ({error!r}); it belongs to another network"
        ) from error
    visual = {
        name.removeprefix("visual."): value
        for name, value in found["clip"].items()
        if not TEXT_HALF.fullmatch(name)
    }
    return Networks(
        unet=fill_exactly(unet, found["unet"], source, "UNet"),
        volume=fill_exactly(volume, found["volume"], source, "spatial volume"),
        time_embed=fill_exactly(time_embed, found["time"], source, "time embedding"),
        projection=fill_exactly(projection, found["projection"], source, "camera projection"),
        vae=vae_of(found["vae"], source),
        image_encoder=clip_vision(visual, source, act="quick_gelu", projection=True),
        scheduler=ddim(NOISES, source),
        **cameras,
    )


def smoothed(volumes: list[Tensor], neighbour: float) -> list[Tensor]:
    """Mixes the volumes of consecutive frames with those before and after.

    The first and the last have one neighbour.
    """
    mixed = []
    for i, own in enumerate(volumes):
        near = [volumes[j] for j in (i - 1, i + 1) if 0 <= j < len(volumes)]
        mixed.append(
            own + neighbour * torch.stack([other - own for other in near]).sum(0) if near else own
        )
    return mixed


class SyncDreamer:
    """A ``ViewPrior``: sixteen views around every frame."""

    layout: ClassVar[str] = "syncdreamer"
    rig: ClassVar[Rig] = Rig(SYNCDREAMER)

    def __init__(self, networks: Networks, place: Place, sampling: Sampling, where: str) -> None:
        """Puts the networks in their place."""
        self.networks, self.place, self.sampling = networks, place, sampling
        self.weights = [{"name": where, "licence": licence_of("syncdreamer")}]
        # the middle of the picture tells its size
        self.side = round(2 * float(networks.Ks[0, 0, 2]))
        for network in (networks.unet, networks.image_encoder):
            place.settle(network, waits=True)
        for network in (networks.vae, networks.volume, networks.time_embed, networks.projection):
            place.settle(network)

    @property
    def context(self) -> Context:
        """Which other frames it looks at."""
        return "neighbours" if self.sampling.temporal else "none"

    @torch.no_grad()
    def views(
        self,
        frames: UInt8[Tensor, "t s s 4"],
        source: Orbit,
        rig: list[Orbit],
        generator: torch.Generator,
    ) -> Views:
        """See ``ViewPrior``; opaque, over white.

        The frames are consecutive; the input may stand above the horizon.
        """
        pictures = resized(over(frames, 1.0), self.side).clamp(0, 1)
        generators = lockstep(generator, len(frames))
        networks, device, dtype = self.networks, self.place.torch_device(), self.place.torch_dtype()
        vae, encoder, scheduler = networks.vae, networks.image_encoder, networks.scheduler

        # 1. What the networks are told: the picture's unscaled latents and embedding, and the
        # cameras.
        latents = posterior(vae, 2 * pictures - 1, self.place).sample(generators)
        wide = F.interpolate(
            pictures, (encoder.config.image_size,) * 2, mode="bicubic", align_corners=True
        )
        with self.place.turn(encoder):
            embedding = encoder(normalised(wide, MEAN, SPREAD).to(device, dtype)).image_embeds
        turns = self._turns(source.elevation).to(embedding)
        numbers = torch.cat(
            [embedding[:, None].expand(-1, len(turns), -1), turns.expand(len(frames), -1, -1)], 2
        )
        tokens = networks.projection(numbers)[:, :, None]
        cells = latents.shape[-1]
        coords = seen_from(networks.poses, networks.Ks, cells, self.side).to(device)
        points = frustum_points(networks.poses, networks.Ks, cells, self.side).to(device)

        # 2. All views of all frames, step by step.
        size = (len(rig), *latents.shape[1:])
        x = torch.stack([torch.randn(size, generator=g) for g in generators]).to(device)
        scheduler.set_timesteps(self.sampling.steps or STEPS)
        with (
            self.place.turn(networks.unet),
            tqdm(
                total=len(scheduler.timesteps) * len(frames),
                desc="denoising",
                unit="frame",
                leave=False,
                dynamic_ncols=True,
            ) as bar,
        ):
            for t in scheduler.timesteps:
                first = networks.time_embed[0]
                assert isinstance(first, nn.Linear)
                time = networks.time_embed(
                    sinusoid(t[None].to(device), first.in_features).to(dtype)
                )
                volumes = [networks.volume.space(one.to(dtype), time, turns, coords) for one in x]
                volumes = smoothed(volumes, NEIGHBOUR if self.sampling.temporal else 0.0)
                noise = []
                for frame, volume in enumerate(volumes):
                    told = (tokens[frame], latents[frame], volume, time, turns, points)
                    noise.append(self._predict(x[frame].to(dtype), t.to(device), *told))
                    bar.update()
                fresh = torch.stack([torch.randn(size, generator=g) for g in generators]).to(device)
                fresh = fresh * float(t != scheduler.timesteps[-1])
                x = scheduler.step(
                    torch.stack(noise).float(), t, x, eta=ETA, variance_noise=fresh
                ).prev_sample
        drawn = [
            vae.decode(one.to(dtype) / vae.config.scaling_factor).sample
            for views in x
            for one in views.split(1)
        ]
        images = to_opaque(torch.cat(drawn).unflatten(0, (len(frames), -1)).movedim(1, 0))
        return sampled_views(rig, images)

    def _turns(self, elevation: float) -> Float[Tensor, "v 4"]:
        """How every view's camera stands to the input's, in Zero123's numbers.

        It counts elevation downwards.
        """
        turn = self.networks.azimuth - self.networks.azimuth[0]
        drop = torch.full_like(turn, elevation - ELEVATION).deg2rad()
        return torch.stack([drop, turn.sin(), turn.cos(), torch.zeros_like(turn)], 1)

    def _predict(
        self,
        x: Float[Tensor, "v c h w"],
        t: Tensor,
        tokens: Float[Tensor, "v 1 k"],
        latents: Float[Tensor, "c h w"],
        volume: Float[Tensor, "1 g n n n"],
        time: Float[Tensor, "1 k"],
        turns: Float[Tensor, "v 4"],
        points: Float[Tensor, "v d h w 3"],
    ) -> Float[Tensor, "v c h w"]:
        """Returns the noise in all views of a frame, with classifier-free guidance."""
        networks, found = self.networks, []
        for some in torch.arange(len(x)).split(VIEWS_AT_ONCE):
            seen = networks.volume.frustums(volume, time, turns[some], points[some])
            told = torch.cat([x[some], latents.expand(len(some), -1, -1, -1)], 1)
            untold = torch.cat([x[some], torch.zeros_like(x[some])], 1)
            volumes = {
                width: torch.cat([value, torch.zeros_like(value)]) for width, value in seen.items()
            }
            context = torch.cat([tokens[some], torch.zeros_like(tokens[some])])
            noise = networks.unet(
                torch.cat([told, untold]), t.expand(2 * len(some)), context, extra=volumes
            )
            wanted, avoided = noise.chunk(2)
            found.append(avoided + (self.sampling.guidance or GUIDANCE) * (wanted - avoided))
        return torch.cat(found)
