"""Frames cropped as a model's authors crop them, and the views drawn of them placed back.

Authors crop a picture to its object before their model sees it. Here a virtual camera takes that
crop: it stands where the input camera does and turns to the object, which is a homography of the
frames and so exact at any depth. All frames share one crop, since an object that is scaled frame by
frame would pulse. The model then draws around the object's middle in a world of its own size; the
views get the true places of its cameras, and are turned (a homography again) to look at the origin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from ..camera import DEFAULT_FOVY_DEG, DEFAULT_RADIUS
from ..clip import Orbit, cameras_of, premultiply, straighten
from ..errors import UserError
from . import Views
from .catalogue import family_of

COVERED = 25  # alpha, of 255, above which a pixel is the object's: fainter is a matting's noise
CROP_UNIT = 256  # crop sizes are given as for SyncDreamer, in pixels of a frame of 256
SLACK = 1 / 128  # of size and place, in frames, that is not worth a crop
MOST_GROWTH = 3.0  # times a view's frame may grow to hold the object when it looks at the origin


@dataclass(frozen=True)
class Framing:
    """A camera that stands where the input camera does and looks at an object.

    Attributes:
        source: the input camera, of square frames.
        center: what it looks at, in world space.
        tangent: of half its field of view.
    """

    source: Orbit
    center: tuple[float, float, float]
    tangent: float

    @property
    def seen(self) -> Orbit:
        """The camera in the model's own world, whose origin is ``center``."""
        towards = _position(self.source) - torch.tensor(self.center, dtype=torch.float64)
        return replace(_orbit(towards, DEFAULT_FOVY_DEG), radius=DEFAULT_RADIUS)

    @property
    def scale(self) -> float:
        """World units per unit of the model's world.

        With it, the object is as large in both views.
        """
        towards = _position(self.source) - torch.tensor(self.center, dtype=torch.float64)
        return float(towards.norm()) * self.tangent / (DEFAULT_RADIUS * _tangent(DEFAULT_FOVY_DEG))

    def crop(self, frames: UInt8[Tensor, "t h h 4"]) -> UInt8[Tensor, "t s s 4"]:
        """The frames as the camera sees them, in about the resolution that they have."""
        have = _tangent(self.source.fov)
        side = max(round(frames.shape[1] * self.tangent / have), 16)
        turn = _rotation(self.source) @ _rotation(self.seen).T
        grid = _grid(turn, side, self.tangent, have)
        x = premultiply(frames).movedim(-1, 1)
        cut = grid_sample(x, grid.expand(len(x), -1, -1, -1), align_corners=False)
        return straighten(cut.movedim(1, -1))

    def place(self, views: Views) -> Views:
        """Views that were drawn in the model's world, as cameras around the origin see them.

        Raises:
            UserError: the object is too far from the origin for such a camera to see it.
        """
        middle = torch.tensor(self.center, dtype=torch.float64)
        orbits, turns, growth = [], [], 1.0
        for own in views.orbits:
            orbit = _orbit(middle + self.scale * _position(own), own.fov)
            turn, have = _rotation(own) @ _rotation(orbit).T, _tangent(own.fov)
            corners = torch.tensor(
                [[x * have, y * have, 1] for x in (-1, 1) for y in (-1, 1)], dtype=torch.float64
            )
            x, y, z = (corners @ turn).unbind(1)
            reach = torch.maximum(x.abs(), y.abs()) / z / have
            growth = max(growth, float(torch.where(z > 0.1, reach, torch.inf).max()))
            orbits.append(orbit)
            turns.append(turn)
        if growth > MOST_GROWTH:
            raise UserError(
                "the object is too small and too far from the middle of the frames to draw its "
                "other sides; make the input view with preprocess/frames.py, or leave the frames "
                "as they are with --sampling.crop_size -1"
            )
        side = math.ceil(views.images.shape[2] * growth - 1e-6)
        images, confidence, placed = [], [], []
        for v, (own, orbit, turn) in enumerate(zip(views.orbits, orbits, turns, strict=True)):
            have = _tangent(own.fov)
            tangent = have * side / views.images.shape[2]
            grid = _grid(turn, side, tangent, have)
            images.append(_turned(views.images[v], grid))
            maps = views.confidence[v][:, None].float()
            drawn = grid_sample(maps, grid.expand(len(maps), -1, -1, -1), align_corners=False)
            confidence.append(drawn[:, 0].round().to(torch.uint8))
            placed.append(replace(orbit, fov=math.degrees(2 * math.atan(tangent))))
        return Views(placed, torch.stack(images), torch.stack(confidence))


def share_of(family: str, crop_size: int) -> float | None:
    """Returns the share of the frame that the object is to take; None: frames stay as they are.

    Args:
        family: of priors.
        crop_size: what is asked for, of 256 pixels; 0: what the authors do; -1: nothing.
    """
    share = family_of(family).share
    if share is None or crop_size < 0:
        return None
    return crop_size / CROP_UNIT if crop_size else share


def plan_framing(
    masks: Iterable[UInt8[Tensor, "h h"]], source: Orbit, share: float
) -> Framing | None:
    """Plans the camera that has the object in its middle, its longer side taking ``share``.

    Returns:
        The framing; None where the frames are framed like that already, or show nothing.
    """
    low, high = torch.full((2,), torch.inf), torch.full((2,), -torch.inf)
    for mask in masks:
        shown = mask > COVERED
        for axis, covered in enumerate((shown.any(0), shown.any(1))):
            at = covered.nonzero()[:, 0]
            if len(at):
                low[axis] = min(low[axis], 2 * int(at[0]) / len(covered) - 1)
                high[axis] = max(high[axis], 2 * (int(at[-1]) + 1) / len(covered) - 1)
    if not bool((low < high).all()):
        return None
    have, position, rotation = _tangent(source.fov), _position(source), _rotation(source)
    edges = [[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])]
    rays = torch.tensor([[x * have, y * have, 1] for x, y in edges], dtype=torch.float64) @ rotation
    aim = (low + high).double() / 2 * have
    framing = Framing(source, (0.0, 0.0, 0.0), have)
    for _ in range(8):  # turning moves the edges a little: a few rounds centre them
        ray = torch.cat([aim, aim.new_ones(1)])
        x, y, z = (position + source.radius * (ray @ rotation)).tolist()
        framing = replace(framing, center=(x, y, z))
        turned = rays @ _rotation(framing.seen).T
        flat = turned[:, :2] / turned[:, 2:]
        least, most = flat.amin(0), flat.amax(0)
        aim = aim + (least + most) / 2
        framing = replace(framing, tangent=float((most - least).max()) / 2 / share)
    offset = float(aim.abs().max()) / have
    framed = offset < SLACK and abs(framing.tangent / have - 1) < SLACK
    return None if framed and abs(framing.scale - 1) < SLACK else framing


def _turned(frames: UInt8[Tensor, "t h h 4"], grid: Float[Tensor, "1 s s 2"]) -> Tensor:
    """Drawn pictures along a grid; what is opaque stays so, its flat background going on."""
    opaque = bool((frames[..., 3] == 255).all())
    x = premultiply(frames).movedim(-1, 1)
    mode = "border" if opaque else "zeros"
    grid = grid.expand(len(x), -1, -1, -1)
    return straighten(grid_sample(x, grid, padding_mode=mode, align_corners=False).movedim(1, -1))


def _grid(
    turn: Float[Tensor, "3 3"], side: int, tangent: float, have: float
) -> Float[Tensor, "1 s s 2"]:
    """Where the pixels of a camera lie in the picture of another that stands at the same place.

    Args:
        turn: from the first camera's axes to the other's.
        side: pixels of the first.
        tangent: of half the first's field of view.
        have: of half the other's.
    """
    at = ((torch.arange(side, dtype=torch.float64) + 0.5) * 2 / side - 1) * tangent
    y, x = torch.meshgrid(at, at, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1) @ turn.T
    flat = rays[..., :2] / rays[..., 2:].clamp_min(1e-6) / have
    return flat.where(rays[..., 2:] > 1e-6, torch.full_like(flat, 9.0)).float()[None]


def _tangent(fov: float) -> float:
    return math.tan(math.radians(fov) / 2)


def _position(orbit: Orbit) -> Float[Tensor, "3"]:
    azimuth, elevation = math.radians(orbit.azimuth), math.radians(orbit.elevation)
    flat = math.cos(elevation)
    direction = [flat * math.sin(azimuth), math.sin(elevation), flat * math.cos(azimuth)]
    return orbit.radius * torch.tensor(direction, dtype=torch.float64)


def _orbit(position: Float[Tensor, "3"], fov: float) -> Orbit:
    """The camera at ``position`` that looks at the origin."""
    x, y, z = position.tolist()
    radius = math.hypot(x, y, z)
    return Orbit(math.degrees(math.atan2(x, z)), math.degrees(math.asin(y / radius)), radius, fov)


def _rotation(orbit: Orbit) -> Float[Tensor, "3 3"]:
    """From the world's axes to the camera's."""
    return cameras_of([orbit], width=1, height=1).T_camera_world[0, :3, :3].double()
