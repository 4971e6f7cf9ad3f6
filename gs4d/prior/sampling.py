"""What the samplers of the multi-view models share.

Their options, noise that does not change over time, anchored attention.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from ..clip import premultiply
from ..errors import UserError
from ..io.weights import fill
from ..ranges import Options, Range
from . import ldm
from .networks import Place, build

Context = Literal["clip", "first", "neighbours", "none"]
"""Which other frames a model looks at while it draws one: all of the clip, its first, those before
and after, or none."""
SCHEDULE = re.compile(
    r"betas|((log|sqrt)_)?((one_minus|recip|recipm1)_)?alphas(_cumprod(_prev)?)?|posterior_\w+"
)
"""Names of the tensors of a checkpoint that follow from its noise schedule."""
NOISES: dict[
    str, Any
] = {  # of the published models: ldm's linear_start and linear_end, and its DDIM
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Sampling(Options):
    """How the views of a frame are drawn."""

    steps: Annotated[int, Range(0, 1000)] = 0
    """Steps of denoising; 0: as many as the model's authors take."""
    guidance: Annotated[float, Range(0, 100)] = 0.0
    """How strongly the input is followed (classifier-free guidance); 0: as strongly as the model's
    authors do."""
    strength: Annotated[float, Range(0, 1)] = 0.0
    """How noisy the renders of a plainer prior are made before they are drawn anew (mini); 1: drawn
    from noise alone; 0: as noisy as the family does by itself."""
    temporal: bool = True
    """Let frames look at each other, so that what is made up stays the same over time: at the first
    frame (Zero123++, ImageDream; as STAG4D), or at the frames before and after (SyncDreamer; as
    Efficient4D)."""
    prompt: str = ""
    """What the clip shows, for models that read (ImageDream): "a rose in a pot"."""
    crop_size: Annotated[int, Range(-1, 256)] = 0
    """Longer side of the object in the frames that a model sees, in pixels of a frame of 256 (as
    SyncDreamer's --crop_size); 0: what the model's authors take, -1: the frames as they are."""


@dataclass(frozen=True)
class ViewSampling(Sampling):
    """How the views of a frame are drawn, with what one family alone has."""

    veils: bool = True
    """Have lift draw what may be there as a veil; else its outlines are hard guesses."""


def lockstep(generator: torch.Generator, count: int) -> list[torch.Generator]:
    """A generator per frame, all of which draw the same numbers.

    With the same noise in every frame, what differs between the views of two frames comes from the
    frames alone.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return [torch.Generator().manual_seed(seed) for _ in range(count)]


def attend_anchored(
    attend: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "b n c"],
    context: Float[Tensor, "b m c"],
    frames: int,
) -> Float[Tensor, "b n c"]:
    """Attends so that all frames but the first also see the first one's tokens of the same step.

    After STAG4D (Zeng et al. 2024, section 3.2): the first frame is drawn as if it were alone, and
    anchors the others.

    Args:
        attend: attention of its first argument to the second.
        x: tokens, ``frames`` rows of a clip beside each other.
        context: what they see anyway.
        frames: rows per clip; 1: no anchor.
    """
    if frames == 1:
        return attend(x, context)
    x, context = x.unflatten(0, (-1, frames)), context.unflatten(0, (-1, frames))
    anchor = x[:, :1].expand(-1, frames - 1, -1, -1)
    first = attend(x[:, 0], context[:, 0])
    rest = attend(x[:, 1:].flatten(0, 1), torch.cat([context[:, 1:], anchor], 2).flatten(0, 1))
    return torch.cat([first[:, None], rest.unflatten(0, (-1, frames - 1))], 1).flatten(0, 1)


def over(frames: UInt8[Tensor, "t h w 4"], background: float) -> Float[Tensor, "t 3 h w"]:
    """Returns frames over a background of one grey value, in [0, 1]."""
    values = premultiply(frames)
    return (values[..., :3] + background * (1 - values[..., 3:])).movedim(-1, 1)


def resized_for_score(renders: Float[Tensor, "b h w 3"], side: int) -> Float[Tensor, "b 3 s s"]:
    """Returns renders in the size of a score prior: bilinear without antialiasing, as peers do."""
    pictures = renders.movedim(-1, 1)
    if pictures.shape[2:] == (side, side):
        return pictures
    return F.interpolate(pictures, (side, side), mode="bilinear", align_corners=False)


def to_opaque(pictures: Float[Tensor, "*b 3 h w"]) -> UInt8[Tensor, "*b h w 4"]:
    """Drawn pictures, in [-1, 1] as far as they are colours, as opaque RGBA."""
    colors = (
        (pictures.movedim(-3, -1).float() * 127.5 + 127.5)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        .cpu()
    )
    return torch.cat([colors, torch.full_like(colors[..., :1], 255)], -1)


def fill_exactly(
    network: Network, weights: Mapping[str, Tensor], source: str, part: str
) -> Network:
    """As :func:`fill` with ``assign``, and no tensor may be left over.

    Raises:
        UserError: one is missing, has another shape, or belongs nowhere; ``part`` names the network
            in the sentence.
    """
    known = network.state_dict().keys()
    if left := [
        name for name in weights if name not in known and not name.endswith("position_ids")
    ]:
        raise UserError(
            f"{source} has '{left[0]}', for which the {part} has no place; it belongs to another "
            "network"
        )
    return fill(network, weights, source, assign=True)


def split(
    weights: Mapping[str, Tensor], parts: Mapping[str, tuple[str, ...]], source: str
) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by the network that they belong to.

    Those of training alone are left out.

    Args:
        weights: of the checkpoint.
        parts: the prefixes that each network may have; they are taken off the names.
        source: names the file in sentences.

    Raises:
        UserError: a network has no tensors, or a tensor belongs to none.
    """
    found: dict[str, dict[str, Tensor]] = {part: {} for part in parts}
    for name, value in weights.items():
        home = next(
            (
                (part, prefix)
                for part, names in parts.items()
                for prefix in names
                if name.startswith(prefix)
            ),
            None,
        )
        if home is not None:
            found[home[0]][name.removeprefix(home[1])] = value
        elif not SCHEDULE.fullmatch(name):
            raise UserError(
                f"{source} has '{name}', which this family has no place for; it belongs to another "
                "network"
            )
    if empty := next((part for part, tensors in found.items() if not tensors), None):
        raise UserError(
            f"{source} has no tensors named {parts[empty][0]}*; it is no checkpoint of this family"
        )
    return found


def posterior(vae: Any, x: Float[Tensor, "b 3 h w"], place: Place) -> Any:
    """The distribution of the unscaled latents of pictures in [-1, 1].

    Pictures that were stored with their channels last are laid out anew: on a CPU, the group norms
    of torch lose digits on them (1.9e-3 of the latents instead of 1e-5).
    """
    return vae.encode(x.contiguous().to(place.torch_device(), place.torch_dtype())).latent_dist


def latents_of(
    vae: Any,
    pictures: Float[Tensor, "b 3 h w"],
    place: Place,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b c y x"]:
    """Unscaled latents of pictures in [0, 1]: a sample, or without a generator the mean.

    Differentiable.
    """
    found = posterior(vae, 2 * pictures - 1, place)
    return (found.mean if generator is None else found.sample(generator)).float()


def vae_of(weights: Mapping[str, Tensor], source: str) -> Any:
    """The autoencoder of a checkpoint of latent diffusion.

    Raises:
        UserError: tensors are missing, left over, or of other shapes.
    """
    try:
        config, renamed = ldm.vae(weights)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(f"{source} has no autoencoder as this family's ({error!r})") from error
    return fill_exactly(
        build("diffusers", "AutoencoderKL", config, source), renamed, source, "autoencoder"
    )


def ddim(config: Any, source: str) -> Any:
    """The noise schedule of a model that predicts noise.

    Raises:
        UserError: the description is not one, or of a model that predicts something else.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    if not isinstance(config, dict) or config.get("prediction_type", "epsilon") != "epsilon":
        raise UserError(
            f"the noise schedule of {source} is not of a model that predicts noise, as this family "
            "does"
        )
    return schedule(DDIMScheduler, config, source)


def schedule(kind: Any, config: Any, source: str, **changes: Any) -> Any:
    """A scheduler of diffusers.

    Raises:
        UserError: it cannot be made of the description.
    """
    try:
        return kind.from_config(
            {k: v for k, v in config.items() if not k.startswith("_")}, **changes
        )
    except (
        Exception
    ) as error:  # diffusers has no common class for what can be wrong with a description
        raise UserError(
            f"the noise schedule of {source} cannot be used ({' '.join(str(error).split())[:200]})"
        ) from error
