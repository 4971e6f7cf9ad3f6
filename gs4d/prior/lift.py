"""The prior that comes with gs4d.

A small network that says what lies behind the pixels of a clip's frames.

Every frame becomes a solid (``solid.py``) in one pass over the whole clip; views are renders of the
solids, and so agree with each other by construction. Where the weights come from, and how good they
are: docs/lift.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from ..clip import Orbit, cameras_of, premultiply, straighten
from ..errors import UserError
from ..gaussians import Gaussians
from ..geometry import SH_C0
from ..io.images import resize_rgba
from ..io.weights import fill, read_weights
from ..render import render
from . import Views
from .catalogue import LIFT_WEIGHTS
from .inflate import half_thickness
from .lift_net import FINE, LiftNet, LiftShape, camera_numbers
from .networks import Place
from .pictures import straight_colors
from .rigs import FREE_RIG, Rig
from .sampling import Context, Sampling, ViewSampling
from .skin import skin_gaussians
from .solid import LEVELS, REACH, SURFACE, Solid, finer, soft_skin, solid_gaussians, steps_at
from .surface_net import SurfaceNet, Surfaces, SurfaceShape

# Cells per cell of the network along every axis, so that outlines follow the frame's own.
FINER = 2
# Pixels of a view's side at most, and at least of what is drawn for it: Gaussians swell in pixels
# that are wider than a cell.
SIDE = 256
CONFIDENCE = 128  # in a view's pixels at most, of 255: plausible, not seen
# Logits added: outlines overlap the true ones best if they take in what is a little less likely
# than not.
BIAS = 0.35
# Slope over the logits. The network learns with SHARP, whose soft veils are the expected picture
# and look like smoke; a steeper slope decides.
COMMIT = 2.5
CORE = 100.0  # logits per unit of depth (REACH) at the borders of the least solid
LEAST = 0.15  # least thickness of the solid, as a share of the inflated silhouette's
THIN = 1.0  # and in half layers: a thinner one falls between the cells' centres
SHOWN = 1.5  # the network's cells behind the first surface that have the frame's own colour


def open_lift(where: str, place: Place, sampling: Sampling | None = None) -> Lift:
    """Opens the prior that comes with gs4d, or another that ``gs4d.prior.train`` trained.

    Args:
        where: a file of weights; empty for those that come with gs4d.
        place: not looked at: it runs on the CPU.
        sampling: only its ``veils``, if it has any, matter.

    Raises:
        UserError: the file is absent, damaged, or of another network.
    """
    veils = sampling.veils if isinstance(sampling, ViewSampling) else True
    return Lift(read_lift(Path(where) if where else LIFT_WEIGHTS), veils=veils)


@cache
def read_lift(path: Path) -> LiftNet | SurfaceNet:
    """The network of a file of weights, frozen, in float32.

    Raises:
        UserError: see ``open_lift``.
    """
    if path.is_dir():
        path = path / "weights.safetensors"
    weights = {name: value.float() for name, value in read_weights(path).items()}
    shape = _shape(path)
    network = SurfaceNet(shape) if isinstance(shape, SurfaceShape) else LiftNet(shape)
    return fill(network, weights, str(path))


def _shape(path: Path) -> LiftShape | SurfaceShape:
    """The sizes that stand in the file; those of a LiftNet where none do."""
    try:
        with safe_open(path, "pt") as file:
            said: dict[str, Any] = json.loads((file.metadata() or {}).get("shape", "{}"))
        said = {
            name: tuple(value) if isinstance(value, list) else value for name, value in said.items()
        }
        shape = (SurfaceShape if "blocks" in said else LiftShape)(**said)
        sizes = [(shape.side, 512), (shape.layers, 256), (shape.heads, 64), (shape.across, 64)]
        sizes += [(count, 4096) for count in shape.channels]
        if isinstance(shape, SurfaceShape):
            sizes += [(count, 64) for count in shape.blocks] + [(shape.mlp + 1, 17)]
            wrong = not 2 <= len(shape.channels) == len(shape.blocks) <= 6
        else:
            sizes += [(shape.width, 4096), (shape.depth, 64)]
            wrong = len(shape.channels) != 3
        if wrong or any(not isinstance(n, int) or not 0 < n <= most for n, most in sizes):
            raise ValueError("a size is out of range")
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} does not describe a lift network ({error}); take another file"
        ) from error
    return shape


class Lift:
    """A ``ViewPrior``: every frame's solid, drawn."""

    context: ClassVar[Context] = "clip"  # frames look at each other
    layout: ClassVar[str] = "rig"
    rig: ClassVar[Rig] = FREE_RIG
    weights: ClassVar[list[dict[str, str]]] = [{"name": "gs4d lift", "licence": "Apache-2.0"}]

    def __init__(self, network: LiftNet | SurfaceNet, *, veils: bool = True) -> None:
        """``veils`` as in ``detailed_gaussians``."""
        self.network, self.veils = network, veils

    def gaussians(
        self, frames: UInt8[Tensor, "t h w 4"], source: Orbit
    ) -> Iterator[tuple[Gaussians, Float[Tensor, "n"]]]:
        """Per frame, the Gaussians that views are drawn from, and how sure each is, in [0, 1]."""
        if isinstance(self.network, SurfaceNet):
            thickness = network_inputs(frames, source, self.network.shape.side)[1]
            said = surfaces(self.network, frames, source)
            for t in range(len(frames)):
                yield skin_gaussians(
                    said.depth[t], said.logits[t], said.colors[t], thickness[t], frames[t], source
                )
            return
        for t, solid in enumerate(lift(self.network, frames, source)):
            yield detailed_gaussians(solid, frames[t], source, veils=self.veils)

    def visible_depth(
        self, frames: UInt8[Tensor, "t h w 4"], source: Orbit
    ) -> Float[Tensor, "t p p"]:
        """Camera z of what each pixel shows minus that of the origin, in units of REACH.

        0 where nothing is.
        """
        if isinstance(self.network, SurfaceNet):
            return surfaces(self.network, frames, source).depth
        depths = []
        for solid in lift(self.network, frames, source):
            inside = solid.occupancy > SURFACE
            layers = len(inside)
            first = (inside.float().argmax(0) + 0.5) * 2 / layers - 1
            near = torch.where(inside.any(0), first, 0.0)
            depths.append(F.interpolate(near[None, None], scale_factor=float(FINE))[0, 0])
        return torch.stack(depths)

    def views(
        self,
        frames: UInt8[Tensor, "t s s 4"],
        source: Orbit,
        rig: list[Orbit],
        generator: torch.Generator,
    ) -> Views:
        """See ``ViewPrior``."""
        side = min(frames.shape[1], SIDE)
        shrink = math.ceil(SIDE / side)
        cameras = cameras_of(rig, width=shrink * side, height=shrink * side)
        drawn = torch.empty(len(rig), len(frames), side, side, 4, dtype=torch.uint8)
        confidence = torch.empty(len(rig), len(frames), side, side, dtype=torch.uint8)
        for t, (gaussians, sureness) in enumerate(self.gaussians(frames, source)):
            seen = render(gaussians, cameras, background=(0.0, 0.0, 0.0))
            sure = render(
                gaussians.replace(sh=((sureness[:, None, None] - 0.5) / SH_C0).expand(-1, 1, 3)),
                cameras,
            )
            layers = torch.cat([seen.rgb, seen.alpha[..., None], sure.rgb[..., :1]], -1)
            layers = F.avg_pool2d(layers.movedim(-1, 1), shrink).movedim(1, -1)
            drawn[:, t] = straighten(layers[..., :4])
            confidence[:, t] = (CONFIDENCE * layers[..., 4].clamp(0, 1)).round().to(torch.uint8)
        return Views(rig, drawn, confidence)


def surfaces(network: SurfaceNet, frames: UInt8[Tensor, "t h w 4"], source: Orbit) -> Surfaces:
    """Returns what the network says of frames (straight alpha, square), without the clips' axis."""
    inputs = network_inputs(frames, source, network.shape.side)
    with torch.no_grad():
        said = network(*(x[None].to(network.place.device) for x in inputs)).flat()
    return Surfaces(said.depth.cpu(), said.normals.cpu(), said.logits.cpu(), said.colors.cpu())


def lift(network: LiftNet, frames: UInt8[Tensor, "t h w 4"], source: Orbit) -> list[Solid]:
    """The solids of a clip's frames.

    Args:
        network: trained.
        frames: RGBA with straight alpha, square.
        source: their camera.
    """
    pictures, thickness, camera = network_inputs(frames, source, network.shape.side)
    device = network.place.device
    with torch.no_grad():
        logits, colors = network(*(x[None].to(device) for x in (pictures, thickness, camera)))
        occupancy = decide(logits[0].cpu(), thickness) * (F.avg_pool2d(pictures[:, 3:], FINE) > 0)
        colors = F.interpolate(
            colors[0].cpu(), occupancy.shape[1:], mode="trilinear", align_corners=False
        ).clamp(0, 1)
    return [Solid(*pair) for pair in zip(occupancy, colors, strict=True)]


def decide(
    logits: Float[Tensor, "t d h w"], thickness: Float[Tensor, "t h w"]
) -> Float[Tensor, "t d h w"]:
    """Returns occupancy, above a half in all cells that are to be inside.

    A thin part whose depth is unsure may be nowhere likelier than not, and would be lost: where the
    network thinks that the middle of what a pixel shows is, there is at least a share of the
    inflated silhouette.

    Args:
        logits: of the network.
        thickness: half of the inflated silhouette's, in units of REACH.
    """
    layers = logits.shape[1]
    depth = ((torch.arange(layers) + 0.5) * 2 / layers - 1)[:, None, None]
    middle = (torch.softmax(2 * logits, 1) * depth).sum(1, keepdim=True)
    half = (LEAST * thickness).clamp_min(THIN / layers) * (thickness > 0)
    least = CORE * (half[:, None] - (depth - middle).abs())
    return torch.maximum(COMMIT * (logits + BIAS), least).sigmoid()


def network_inputs(
    frames: UInt8[Tensor, "t h w 4"], source: Orbit, side: int
) -> tuple[Float[Tensor, "t 4 f f"], Float[Tensor, "t s s"], Float[Tensor, "3"]]:
    """What the network sees of a clip.

    Small premultiplied pictures, inflated silhouettes of ``side`` cells, the camera.
    """
    fine = FINE * side
    small = torch.stack(
        [torch.from_numpy(resize_rgba(frame.numpy(), fine, fine).copy()) for frame in frames]
    )
    pictures = premultiply(small).movedim(-1, 1)
    pixel = 2 * source.radius * math.tan(math.radians(source.fov / 2)) / side / REACH
    masks = (F.avg_pool2d(pictures[:, 3], FINE) > 0.5).numpy()
    thickness = np.stack([half_thickness(mask) for mask in masks]) * pixel
    return pictures, torch.from_numpy(thickness).float(), torch.tensor(camera_numbers(source))


def detailed_gaussians(
    solid: Solid,
    frame: UInt8[Tensor, "h w 4"],
    source: Orbit,
    times: int = FINER,
    *,
    veils: bool = True,
) -> tuple[Gaussians, Float[Tensor, "n"]]:
    """Returns the Gaussians of a solid and how sure each is, in [0, 1].

    They have the frame's own outline, and its colours where it shows the surface.

    Args:
        solid: of the frame.
        frame: RGBA with straight alpha, square.
        source: its camera.
        times: cells per cell of the solid, along every axis.
        veils: draw what may be there as a veil; else what is likelier than not is there, and
            nothing beside it.
    """
    fine = finer(solid, times)
    layers, side, _ = fine.occupancy.shape
    picture = premultiply(torch.from_numpy(resize_rgba(frame.numpy(), side, side).copy()))
    occupancy = fine.occupancy * (picture[..., 3] > 0.5)
    order = torch.arange(layers, dtype=torch.float32)[:, None, None]
    first = torch.where(occupancy > SURFACE, order, torch.inf).amin(0)
    shown = (order <= first + SHOWN * times)[None]
    own = straight_colors(picture).movedim(-1, 0)[:, None]
    fine = Solid(occupancy, torch.where(shown, own, fine.colors))
    opacities = soft_skin(occupancy, LEVELS if veils else (SURFACE,))
    return solid_gaussians(fine, source, opacities), steps_at(
        occupancy, opacities > 0, times
    ).clamp(0, 1)
