"""``mini``: a multi-view video diffusion transformer that refines a plainer prior's renders.

Views of a frame and frames of a view are denoised together; see ``mini_net``. Sampling starts from
the plainer prior's render with some noise (SDEdit, Meng et al. 2022), or from noise alone. Long
clips are denoised in windows of frames that overlap, blended at every step (MultiDiffusion, Bar-Tal
et al. 2023). All frames have the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from ..clip import Orbit, cameras_of, orbits_of, premultiply, straighten
from ..errors import UserError
from ..io.files import read_json, write_json
from ..io.owned import atomic_folder
from . import ScoreBatch, ViewPrior, Views, open_prior
from .catalogue import licence_of
from .models import find_model
from .networks import Place, load_part
from .pictures import resized
from .rigs import FREE_RIG, Rig
from .sampling import Context, Sampling, schedule
from .sds import Condition, Conditions, SdsOptions, distill

BASES = ("lift", "inflate")  # the priors that it can draw anew: free cameras, no weights of others
NETWORK = ("gs4d.prior.mini_net", "MiniTransformer")
# where none are asked for: little trained, it leaves more noise in more steps (docs/mini.md)
STEPS, STRENGTH = (1, 0.8)
# views and frames that are denoised together, and frames between two windows
GROUP, WINDOW, STRIDE = (4, 4, 2)
NOISES: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "prediction_type": "sample",
    "timestep_spacing": "trailing",
}
# values of a picture of 256 pixels as the latent models judge it: the score weighs as much as
# theirs
LATENTS = 4096
# Deviation between samples, of values in [-1, 1], at which confidence falls to 1 / e.
DOUBT = 0.1


@dataclass(frozen=True)
class Networks:
    """The frozen network, its noise schedule, and the prior whose renders it draws anew."""

    transformer: Any
    scheduler: Any
    base: ViewPrior


def noises() -> Any:
    """The noise schedule that it is trained with."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(**NOISES)


def save_folder(folder: Path, transformer: Any, base: str) -> None:
    """Writes diffusers' layout, weights as half floats.

    ``base`` is the name of the plainer prior.
    """
    with atomic_folder(folder) as part:
        half = type(transformer).from_config(transformer.config)
        half.load_state_dict(transformer.state_dict())
        half.half().save_pretrained(part / "transformer", variant="fp16")
        noises().save_pretrained(part / "scheduler")
        index = {
            "_class_name": "Mini",
            "transformer": list(NETWORK),
            "scheduler": ["diffusers", "DDIMScheduler"],
        }
        write_json(part / "model_index.json", {**index, "base": base})


def load_folder(folder: Path) -> Networks:
    """The parts of a folder that :func:`save_folder` wrote; no code in it is run.

    Raises:
        UserError: a part is missing, damaged or of another model.
    """
    index = read_json(folder / "model_index.json", "model index")
    if (
        not isinstance(index, dict)
        or index.get("_class_name") != "Mini"
        or index.get("base") not in BASES
    ):
        raise UserError(
            f"{folder / 'model_index.json'} is not of a mini; train one with python -m "
            "gs4d.prior.train --model mini"
        )
    transformer: Any = load_part(folder / "transformer", *NETWORK)
    config = read_json(folder / "scheduler" / "scheduler_config.json", "noise schedule")
    if not isinstance(config, dict) or config.get("prediction_type") != "sample":
        raise UserError(
            f"the noise schedule of {folder} is not of a model that predicts clean pictures, as "
            "mini does"
        )
    return Networks(
        transformer,
        schedule(type(noises()), config, str(folder)),
        open_prior(index["base"], "views"),
    )


def open_mini(where: str, place: Place, sampling: Sampling | None = None) -> Mini:
    """Opens a mini in a folder.

    Raises:
        UserError: it is not there, damaged, or something else.
    """
    path = find_model(where, family="mini", licence=licence_of("mini"))
    try:
        networks = load_folder(path)
    except ImportError as error:
        raise UserError(
            "mini needs the packages of the extra [diffusion]; run: pip install 'gs4d[diffusion]'"
        ) from error
    return Mini(networks, place, sampling or Sampling(), where)


class Mini:
    """A ``ViewPrior``, a joint ``ScorePrior``, and a maker of orbit videos."""

    context: ClassVar[Context] = "clip"  # frames look at each other
    layout: ClassVar[str] = "rig"
    rig: ClassVar[Rig] = FREE_RIG
    joint: ClassVar[bool] = True
    views_per_ring: ClassVar[int] = 0
    needs_prompt: ClassVar[bool] = False

    def __init__(self, networks: Networks, place: Place, sampling: Sampling, where: str) -> None:
        """Puts the network in its place."""
        self.networks, self.place, self.sampling = networks, place, sampling
        self.weights = [{"name": f"mini:{where}", "licence": licence_of("mini")}]
        self.side = int(networks.transformer.side)
        self.alphas_cumprod = networks.scheduler.alphas_cumprod
        place.settle(networks.transformer)

    @torch.no_grad()
    def views(
        self,
        frames: UInt8[Tensor, "t s s 4"],
        source: Orbit,
        rig: list[Orbit],
        generator: torch.Generator,
    ) -> Views:
        """See ``ViewPrior``; confidence falls where two samples differ."""
        paths = [[orbit] * len(frames) for orbit in rig]
        rendered, confidence = self._rendered(frames, source, paths, generator)
        condition = self.told(frames, source, paths, rendered)
        first, second = (self.sample(condition, generator) for _ in range(2))
        doubt = (first - second).square().mean(2, keepdim=True).div(2).sqrt()
        sure = resized(
            torch.exp(-doubt / DOUBT).cpu().flatten(0, 1), confidence.shape[-1]
        ).unflatten(0, confidence.shape[:2])[:, :, 0]
        return Views(
            rig,
            self._detailed(first, condition, rendered),
            (confidence * sure).round().to(torch.uint8),
        )

    @torch.no_grad()
    def orbit(
        self,
        frames: UInt8[Tensor, "t h w 4"],
        source: Orbit,
        path: Sequence[Orbit],
        generator: torch.Generator,
    ) -> UInt8[Tensor, "t s s 4"]:
        """Returns the clip seen from ``path[i]`` in frame i (Diffusion4D, Liang et al. 2024)."""
        rendered, _ = self._rendered(frames, source, [path], generator)
        condition = self.told(frames, source, [path], rendered)
        return self._detailed(self.sample(condition, generator), condition, rendered)[0]

    def _rendered(
        self,
        frames: UInt8[Tensor, "t h w 4"],
        source: Orbit,
        paths: Sequence[Sequence[Orbit]],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "v t 4 s s"], UInt8[Tensor, "v t s s"]]:
        """Returns the plainer prior's renders at ``paths[view][frame]``, and its confidence."""
        orbits = list(dict.fromkeys(orbit for path in paths for orbit in path))
        drawn = self.networks.base.views(frames, source, orbits, generator)
        places = torch.tensor([[orbits.index(orbit) for orbit in path] for path in paths])
        times = torch.arange(len(frames))
        return signed(drawn.images[places, times]), drawn.confidence[places, times]

    def told(
        self,
        frames: UInt8[Tensor, "t h w 4"],
        source: Orbit,
        paths: Sequence[Sequence[Orbit]],
        rendered: Float[Tensor, "v t 4 s s"],
    ) -> dict[str, Tensor]:
        """What the network is told of views whose cameras stand at ``paths[view][frame]``."""
        small = resized(rendered.flatten(0, 1), self.side).unflatten(0, rendered.shape[:2])
        condition = told(resized(signed(frames), self.side), small, source, paths)
        return {
            name: value[None].to(self.place.torch_device()) for name, value in condition.items()
        }

    def _detailed(
        self,
        drawn: Float[Tensor, "v t 4 h w"],
        condition: Condition,
        rendered: Float[Tensor, "v t 4 s s"],
    ) -> UInt8[Tensor, "v t s s 4"]:
        """The plainer prior's pictures, changed as much as their small copies were.

        They keep detail that the network lacks.
        """
        change = (drawn - condition["rendered"][0]).flatten(0, 1).to(rendered.device)
        larger = resized(change, rendered.shape[-1]).unflatten(0, rendered.shape[:2])
        return _to_rgba(rendered + larger)

    def sample(
        self, condition: Condition, generator: torch.Generator
    ) -> Float[Tensor, "v t 4 h w"]:
        """Views, in [-1, 1] as far as they are colours.

        The same for the same state of ``generator``.
        """
        scheduler, o = self.networks.scheduler, self.sampling
        rendered = condition["rendered"][0]
        strength, steps = o.strength or STRENGTH, o.steps or STEPS
        scheduler.set_timesteps(max(round(steps / strength), steps))
        times = scheduler.timesteps[-steps:]
        noise = (
            torch.randn(rendered[:, :1].shape, generator=generator)
            .to(rendered)
            .expand(rendered.shape)
        )
        x = noise if strength == 1 else scheduler.add_noise(rendered, noise, times[:1])
        for t in tqdm(times, desc="denoising", unit="step", leave=False, dynamic_ncols=True):
            groups = torch.randperm(len(x), generator=generator).split(GROUP)
            x = scheduler.step(self._clean(x, t, condition, groups), t, x).prev_sample
        return x

    def _clean(
        self,
        x: Float[Tensor, "v t 4 h w"],
        t: Tensor,
        condition: Condition,
        groups: Sequence[Tensor],
    ) -> Tensor:
        """The network's clean views, of groups of views in windows of frames.

        Blended where windows overlap.
        """
        from .mini_net import motion_of

        total, count = torch.zeros_like(x), x.new_zeros(x.shape[1], 1, 1, 1)
        windows = [
            torch.tensor(some)
            for some in windows_of(x.shape[1], WINDOW if self.sampling.temporal else 1)
        ]
        for some in windows:
            count[some] += 1
        for group in groups:
            views = torch.cat([torch.zeros(1, dtype=torch.long), group + 1])
            cut = {
                "rendered": torch.stack(
                    [condition["rendered"][0][group][:, some] for some in windows]
                ),
                "source": torch.stack([condition["source"][0][some] for some in windows]),
                "rays": torch.stack([condition["rays"][0][views][:, some] for some in windows]),
            }
            cut["motion"] = motion_of(cut["source"])
            noisy = torch.stack([x[group][:, some] for some in windows])
            clean = self.clean(noisy, t.expand(len(windows)), cut)
            if (g := self.sampling.guidance or 1.0) != 1:
                plain = self.clean(noisy, t.expand(len(windows)), untold(cut))
                clean = plain + g * (clean - plain)
            for some, part in zip(windows, clean, strict=True):
                total[group[:, None], some] += part
        return total / count

    def clean(
        self, noisy: Float[Tensor, "b v t 4 h w"], t: Int[Tensor, "b"], condition: Condition
    ) -> Float[Tensor, "b v t 4 h w"]:
        """The network's clean views of noisy ones."""
        abar = self.alphas_cumprod.to(noisy.device)[t.to(noisy.device)]
        return self.networks.transformer(noisy, abar, **condition)

    def predict(
        self, latents: Float[Tensor, "b v t 4 h w"], t: Int[Tensor, "b"], condition: Condition
    ) -> Float[Tensor, "b v t 4 h w"]:
        """See ``Denoiser``: the noise that is left when the clean views are taken away."""
        abar = self.alphas_cumprod.to(latents.device)[t].view(-1, 1, 1, 1, 1, 1)
        return (latents - abar.sqrt() * self.clean(latents, t, condition)) / (1 - abar).sqrt()

    def score(
        self, batch: ScoreBatch, options: SdsOptions, progress: float, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """See ``ScorePrior``; views that are judged by different input views are judged apart."""
        views, device = batch.views, self.place.torch_device()
        pictures = (
            torch.cat([batch.images - 1 + batch.alpha[..., None], batch.alpha[..., None]], -1) * 2
            - 1
        )
        latents = resized(pictures.movedim(-1, 1), self.side).unflatten(0, (views, -1)).to(device)
        small = resized(batch.condition.movedim(-1, 1), self.side) * 2 - 1
        frames = _to_rgba(small).unflatten(0, (views, -1))
        paths, sources = (
            _rows(orbits_of(cameras), views) for cameras in (batch.cameras, batch.sources)
        )
        total = batch.images.new_zeros(())
        for source, group in _together(sources):
            some = [paths[v] for v in group]
            with torch.no_grad():
                rendered, _ = self._rendered(frames[group[0]], source, some, generator)
                wanted = self.told(frames[group[0]], source, some, rendered)
            conditions = Conditions(wanted, untold(wanted))
            loss = distill(self, latents[group][None], conditions, options, progress, generator)
            loss = loss * (LATENTS / latents[0, 0].numel())
            total = total + len(group) / views * loss.to(total.device)
        return total


def told(
    source: Float[Tensor, "t 4 h w"],
    rendered: Float[Tensor, "v t 4 h w"],
    orbit: Orbit,
    paths: Sequence[Sequence[Orbit]],
) -> dict[str, Tensor]:
    """What the network is told of one clip, by its arguments' names.

    Cameras are turned so that the input's azimuth is 0.
    """
    from .mini_net import motion_of, pluecker

    places = [orbit] * len(source) + [place for path in paths for place in path]
    places = [replace(place, azimuth=place.azimuth - orbit.azimuth) for place in places]
    side = source.shape[-1]
    rays = pluecker(cameras_of(places, width=side, height=side)).unflatten(0, (-1, len(source)))
    return {
        "rendered": rendered,
        "source": source,
        "rays": rays,
        "motion": motion_of(source[None])[0],
    }


def untold(condition: Condition) -> dict[str, Tensor]:
    """The condition of a network that is told of nothing but the cameras."""
    from .mini_net import NOTHING

    nothing = {
        name: torch.full_like(condition[name], NOTHING) for name in ("rendered", "source", "motion")
    }
    return {**condition, **nothing}


def windows_of(frames: int, size: int) -> list[list[int]]:
    """Frames that are denoised together."""
    last = max(frames - size, 0)
    starts = [*range(0, last, min(STRIDE, size)), last]
    return [list(range(start, min(start + size, frames))) for start in starts]


def signed(images: UInt8[Tensor, "*b h w 4"]) -> Float[Tensor, "*b 4 h w"]:
    """Pictures as the network sees them: premultiplied, in [-1, 1]."""
    return premultiply(images).movedim(-1, -3) * 2 - 1


def _to_rgba(pictures: Float[Tensor, "*b 4 h w"]) -> UInt8[Tensor, "*b h w 4"]:
    """The network's pictures with straight alpha."""
    return straighten(pictures.detach().movedim(-3, -1).float().cpu() / 2 + 0.5)


def _rows(orbits: list[Orbit], count: int) -> list[list[Orbit]]:
    width = len(orbits) // count
    return [orbits[i * width : (i + 1) * width] for i in range(count)]


def _together(sources: list[list[Orbit]]) -> Iterator[tuple[Orbit, list[int]]]:
    """Input cameras, each with the views that are judged by it.

    Raises:
        UserError: one of them moves.
    """
    groups: dict[Orbit, list[int]] = {}
    for view, path in enumerate(sources):
        if len(set(path)) > 1:
            raise UserError(
                "mini judges by an input camera that stands still, and this one moves; use another "
                "prior"
            )
        groups.setdefault(path[0], []).append(view)
    yield from groups.items()
