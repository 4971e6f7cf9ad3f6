"""Score distillation: the gradient by which a frozen diffusion model improves a picture.

With a clean latent z, a_t = sqrt(abar_t), s_t = sqrt(1 - abar_t), z_t = a_t z + s_t eps, and e(z_t;
y) the model's guess of eps under a condition y, every variant finds a direction d, and w(t) d is
the gradient with respect to z:

- ``sds`` (Poole et al. 2022, "DreamFusion", eq. 3): d = e_g(z_t) - eps, where e_g = e(empty) + g
  (e(y) - e(empty)) is guided (Ho and Salimans 2022, eq. 6); models that read are guided away from a
  negative prompt instead of from nothing.
- ``nfsd`` (Katzir et al. 2023, "Noise-Free Score Distillation", section 4): d = d_D + g (e(y) -
  e(empty)); d_D is e(empty) below t = 0.2 T and e(empty) - e(negative) above. A model of pictures
  knows no negative prompt: then d_D is 0 above, which leaves the classifier's direction alone (Yu
      et al. 2023, "Classifier Score Distillation").
- ``ism`` (Liang et al. 2023, "LucidDreamer", eq. 17): d = e_g(z_t) - e(z_s; empty) with s = t -
  interval, where z_s and z_t are not drawn but reached from z by DDIM inversion without a
  condition.

A latent may have any axes after its first: a model of many views and frames at once (4Diffusion,
Zhang et al. 2024) takes (b, views, frames, c, h, w), with one t for all views and frames of a
sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import mse_loss

from ..errors import UserError
from ..ranges import Options, Range

NFSD_LOW_NOISE = 0.2  # of all time steps: t = 200 of 1000
Condition = Mapping[str, Tensor]  # tensors whose first axis is the latents'


@runtime_checkable
class Denoiser(Protocol):
    """A frozen model that was trained to find the noise in latents."""

    alphas_cumprod: Float[Tensor, "steps"]
    """abar of every time step, falling."""

    def predict(
        self, latents: Float[Tensor, "b *axes c h w"], t: Int[Tensor, "b"], condition: Condition
    ) -> Float[Tensor, "b *axes c h w"]:
        """The noise in ``latents``, float32, on their device."""
        ...


@dataclass(frozen=True)
class Conditions:
    """Conditions: what is ``wanted``, nothing (``empty``), and what is unwanted, if any."""

    wanted: Condition
    empty: Condition
    negative: Condition | None = None

    @property
    def unconditional(self) -> Condition:
        """What guidance leads away from.

        The negative prompt where there is one, as threestudio does, else nothing.
        """
        return self.empty if self.negative is None else self.negative


@dataclass(frozen=True)
class SdsOptions(Options):
    """How scores become gradients."""

    variant: Literal["sds", "nfsd", "ism"] = "sds"
    """Score distillation, noise-free score distillation, or interval score matching (up to 4 times
    the model's work)."""
    guidance: Annotated[float, Range(0, 1000)] = 3.0
    """Scale of classifier-free guidance; 1 is none. Peers: 2 (4DGen) to 5 (STAG4D,
    Consistent4D)."""
    schedule: Literal["uniform", "linear", "ramp"] = "uniform"
    """How noisy pictures are made: at random inside ``noise``; falling as 1 - progress inside
    ``noise`` (DreamGaussian); or at random inside a range that moves from ``noise`` to
    ``noise_end`` (Consistent4D: 0.8 0.98 to 0.2 0.25; MVDream: 0.98 0.98 to 0.02 0.5, ramp 0.8)."""
    noise: Annotated[tuple[float, float], Range(0, 1)] = (0.2, 0.6)
    """Least and most noise, in shares of the model's time steps (t_range; threestudio's
    min_step_percent and max_step_percent)."""
    noise_end: Annotated[tuple[float, float], Range(0, 1)] = (0.2, 0.25)
    """The range at the end of the ramp (the end values of those two)."""
    ramp: Annotated[float, Range(1e-6, 1)] = 1.0
    """Share of the stage after which the ramp has arrived."""
    weighting: Literal["sds", "uniform", "fantasia3d", "reconstruction"] = "sds"
    """w(t): 1 - abar; 1; sqrt(abar) (1 - abar) (Chen et al. 2023); sqrt((1 - abar) / abar), with
    which the gradient is the distance from the model's clean picture (MVDream, Shi et al. 2023,
    section 3.3)."""
    prompt: str = ""
    """What the clip shows, for models that read: "a rose in a pot"."""
    negative_prompt: str | None = None
    """What guidance leads away from, for models that read; None: what their authors write there,
    "": nothing."""
    latents: Literal["sample", "mean"] = "sample"
    """Latents of a render: a sample of the autoencoder's posterior, as the authors of Zero123,
    MVDream and threestudio take it, or its mean, which has no noise of its own."""
    rescale: Annotated[float, Range(0, 1)] = 0.0
    """Share of the guided clean picture's contrast that is pulled back to the unguided one's (Lin
    et al. 2023, section 3.4; MVDream: 0.5)."""
    clip: Annotated[float, Range(0, 1e6)] = 0.0
    """Largest length of the gradient of one latent pixel (Pan et al. 2023, pixel-wise gradient
    clipping); 0: any."""
    interval: Annotated[int, Range(1, 10**6)] = 50
    """Time steps from s to t of interval score matching."""
    stride: Annotated[int, Range(1, 10**6)] = 200
    """Time steps at most per step of its DDIM inversion."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_ascending("noise", "noise_end")


def distill(
    denoiser: Denoiser,
    latents: Float[Tensor, "b *axes c h w"],
    conditions: Conditions,
    options: SdsOptions,
    progress: float,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """A loss whose gradient with respect to ``latents`` is w(t) d over the number of pictures.

    Half the sum of (w d)^2 over it.

    That is what the papers multiply with their lambda (threestudio, DreamGaussian, Consistent4D,
    MVDream).

    Args:
        denoiser: the model.
        latents: clean, scaled as the model wants them, with gradient.
        conditions: of every latent.
        options: how.
        progress: 0 at the start of the stage, 1 at its end.
        generator: of all randomness, on the CPU, so that every device sees the same.

    Raises:
        UserError: the model's answer is not finite.
    """
    with torch.no_grad():
        clean = latents.detach()
        t = draw_times(options, len(denoiser.alphas_cumprod), len(clean), progress, generator).to(
            clean.device
        )
        directions = {"sds": _sds, "nfsd": _nfsd, "ism": _ism}
        direction = directions[options.variant](denoiser, clean, t, conditions, options, generator)
        gradient = _spread(weight(options.weighting, _abar(denoiser, t)), clean) * direction
        if options.clip:
            length = gradient.norm(dim=-3, keepdim=True)
            gradient = gradient * (options.clip / length.clamp_min(options.clip))
        if not gradient.isfinite().all():
            raise UserError(
                "the prior's score is not finite; compute it with --fit.score.place.dtype float32 "
                "or bfloat16"
            )
    return 0.5 * mse_loss(latents, clean - gradient, reduction="sum") / latents.shape[:-3].numel()


def time_range(options: SdsOptions, progress: float) -> tuple[float, float]:
    """Least and most noise at ``progress``, in shares of the time steps."""
    low, high = options.noise
    if options.schedule == "linear":
        low = high = min(max(1 - progress, low), high)
    elif options.schedule == "ramp":
        way = min(progress / options.ramp, 1.0)
        low, high = (
            a + way * (b - a) for a, b in zip(options.noise, options.noise_end, strict=True)
        )
    return low, high


def draw_times(
    options: SdsOptions, steps: int, count: int, progress: float, generator: torch.Generator
) -> Int[Tensor, "b"]:
    """Time steps of ``count`` samples, uniform in the range of ``progress``, both ends included."""
    first, last = (min(round(share * steps), steps - 1) for share in time_range(options, progress))
    return torch.randint(first, last + 1, (count,), generator=generator)


def weight(weighting: str, abar: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """w(t) of :class:`SdsOptions` from the cumulative alphas."""
    if weighting == "sds":
        return 1 - abar
    if weighting == "fantasia3d":
        return abar.sqrt() * (1 - abar)
    if weighting == "reconstruction":
        return ((1 - abar) / abar).sqrt()
    return torch.ones_like(abar)


def guided(
    denoiser: Denoiser,
    latents: Tensor,
    t: Int[Tensor, "b"],
    conditions: Conditions,
    options: SdsOptions,
) -> Float[Tensor, "..."]:
    """The guided guess of the noise, both guesses in one call.

    Without guidance only one is made.
    """
    if options.guidance == 1:
        return denoiser.predict(latents, t, conditions.wanted)
    empty, wanted = _both(denoiser, latents, t, conditions.unconditional, conditions.wanted)
    noise = empty + options.guidance * (wanted - empty)
    if options.rescale:
        abar = _abar(denoiser, t)
        a, s = _spread(abar.sqrt(), latents), _spread((1 - abar).sqrt(), latents)
        plain, strong = ((latents - s * e) / a for e in (wanted, noise))
        ratio = _spread(
            plain.flatten(1).std(1) / strong.flatten(1).std(1).clamp_min(1e-12), latents
        )
        noise = (
            latents - a * strong * torch.lerp(torch.ones_like(ratio), ratio, options.rescale)
        ) / s
    return noise


def _both(
    denoiser: Denoiser, latents: Tensor, t: Tensor, empty: Condition, wanted: Condition
) -> tuple[Tensor, Tensor]:
    condition = {name: torch.cat([empty[name], value]) for name, value in wanted.items()}
    without, told = denoiser.predict(
        torch.cat([latents, latents]), torch.cat([t, t]), condition
    ).chunk(2)
    return without, told


def _sds(
    denoiser: Denoiser,
    clean: Tensor,
    t: Tensor,
    conditions: Conditions,
    options: SdsOptions,
    generator: torch.Generator,
) -> Tensor:
    noise, noisy = _noisy(denoiser, clean, t, generator)
    return guided(denoiser, noisy, t, conditions, options) - noise


def _nfsd(
    denoiser: Denoiser,
    clean: Tensor,
    t: Tensor,
    conditions: Conditions,
    options: SdsOptions,
    generator: torch.Generator,
) -> Tensor:
    _, noisy = _noisy(denoiser, clean, t, generator)
    empty, wanted = _both(denoiser, noisy, t, conditions.empty, conditions.wanted)
    is_low = _spread(t < NFSD_LOW_NOISE * len(denoiser.alphas_cumprod), clean)
    domain = torch.zeros_like(empty)
    if conditions.negative is not None and not is_low.all():
        domain = empty - denoiser.predict(noisy, t, conditions.negative)
    return torch.where(is_low, empty, domain) + options.guidance * (wanted - empty)


def _ism(
    denoiser: Denoiser,
    clean: Tensor,
    t: Tensor,
    conditions: Conditions,
    options: SdsOptions,
    generator: torch.Generator,
) -> Tensor:
    s = (t - options.interval).clamp_min(0)
    legs = math.ceil(int(s.max()) / options.stride)
    here, at, a, sigma = clean, torch.zeros_like(t), torch.ones_like(clean), torch.zeros_like(clean)
    noise = clean
    for goal in [*(s.clamp_max(leg * options.stride) for leg in range(1, legs + 1)), t]:
        noise = denoiser.predict(here, at, conditions.empty)
        picture = (here - sigma * noise) / a
        abar = _abar(denoiser, goal)
        a, sigma = _spread(abar.sqrt(), clean), _spread((1 - abar).sqrt(), clean)
        here, at = a * picture + sigma * noise, goal
    return guided(denoiser, here, t, conditions, options) - noise


def _noisy(
    denoiser: Denoiser, clean: Tensor, t: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    abar = _abar(denoiser, t)
    return noise, _spread(abar.sqrt(), clean) * clean + _spread((1 - abar).sqrt(), clean) * noise


def _abar(denoiser: Denoiser, t: Tensor) -> Tensor:
    return denoiser.alphas_cumprod.to(t.device)[t]


def _spread(values: Tensor, over: Tensor) -> Tensor:
    """Values per sample, shaped to be multiplied with latents."""
    return values.view(-1, *[1] * (over.ndim - 1))
