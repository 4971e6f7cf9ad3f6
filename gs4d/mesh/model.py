"""A mesh that moves: its pose at any time of its clip, and its pictures from any side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8

from ..clip import Orbit
from ..errors import UserError
from .animation import NodeTree
from .draw import Lighting, Painter, Pose
from .parts import Part

RADIUS = 0.6  # of the sphere that holds the object in every rig of this field
MOVES_LOOKS = 64  # poses that are looked at to find out whether anything moves


@dataclass(frozen=True)
class AnimatedMesh:
    """A mesh and the clip that moves it.

    Attributes:
        parts: its pieces; their vertices follow each other in a pose.
        tree: moves them.
        clips: names of the motions of the file: of an animation, or of several that move no node in
            common.
        clip: the one that is played, None for a model at rest.
        duration: seconds from its first key to its last, 0 for a model at rest.
        warnings: sentences about what the file holds and is not drawn.
        placement: from the file's space to object space.
        begin: its first key, seconds on the time line of the file.
    """

    parts: tuple[Part, ...]
    tree: NodeTree
    clips: tuple[str, ...]
    clip: str | None
    duration: float
    warnings: tuple[str, ...] = ()
    placement: Float[np.ndarray, "4 4"] = field(default_factory=lambda: np.eye(4))
    begin: float = 0.0

    def at(self, time: float) -> Pose:
        """The pose at ``time``, a fraction of the clip: 0 is its first key and 1 its last."""
        world, weights = self.tree.at(self.begin + time * self.duration)
        world = self.placement @ world
        posed = [part.at(world, weights.get(part.node, np.zeros(0))) for part in self.parts]
        vertices, normals, mirrored = zip(*posed, strict=True)
        return Pose(np.concatenate(vertices), np.concatenate(normals), np.concatenate(mirrored))

    def moves(self) -> bool:
        """Whether the clip changes the mesh by more than a thousandth of its size."""
        if not self.duration:
            return False
        keys = np.unique(
            np.concatenate(
                [channel.times for channel in self.tree.channels if channel.varies()]
                or [[self.begin]]
            )
        )
        some = keys[np.unique(np.linspace(0, len(keys) - 1, MOVES_LOOKS).round().astype(int))]
        first = self.at(0.0).vertices
        enough = 1e-3 * float(np.ptp(first, axis=0).max())
        # at keys and, of a few that return, between them
        looks = [*((some - self.begin) / self.duration), 0.27, 0.5, 0.77]
        return any(
            float(np.abs(self.at(float(time)).vertices - first).max()) > enough for time in looks
        )

    @cached_property
    def painter(self) -> Painter:
        """Draws this mesh."""
        return Painter(self.parts)

    def views(
        self,
        times: Sequence[float],
        orbits: Sequence[Orbit],
        height: int,
        width: int,
        *,
        lighting: Lighting | None = None,
    ) -> UInt8[np.ndarray, "b h w 4"]:
        """Pictures with straight alpha.

        View ``i`` shows the pose at ``times[i]`` from ``orbits[i]``.

        Args:
            times: fractions of the clip, in [0, 1].
            orbits: as many cameras.
            height: pixels.
            width: pixels.
            lighting: what lights it; the default is a sky and a lamp.
        """
        poses: dict[float, Pose] = {}
        pictures = np.empty((len(times), height, width, 4), np.uint8)
        for i, (time, orbit) in enumerate(zip(times, orbits, strict=True)):
            pose = poses.get(time) or self.at(time)
            poses = {time: pose}  # the last one only: views usually come pose by pose
            pictures[i] = self.painter.draw(pose, orbit, height, width, lighting or Lighting())
        return pictures

    def fitted(
        self, times: Sequence[float], *, radius: float = RADIUS, up: str = "y"
    ) -> AnimatedMesh:
        """Returns this mesh moved and scaled, so that it stays inside a sphere around the origin.

        The middle of the box around all poses comes to the origin; the vertex that is farthest from
        it, to the sphere.

        Args:
            times: fractions of the clip at which it must fit.
            radius: of the sphere.
            up: "y", or "z" for files whose upward axis is z, against the standard.

        Raises:
            UserError: the mesh has no extent, or no finite one.
        """
        turn = np.eye(4)
        if up == "z":
            turn[1:3, 1:3] = [[0, 1], [-1, 0]]
        turned = replace(self, placement=turn)
        low, high, reach = np.full(3, np.inf), np.full(3, -np.inf), 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for time in times:
                vertices = turned.at(time).vertices
                low, high = np.minimum(low, vertices.min(0)), np.maximum(high, vertices.max(0))
            center = (low + high) / 2
            for time in times:
                reach = max(
                    reach, float(np.linalg.norm(turned.at(time).vertices - center, axis=1).max())
                )
        if not 1e-12 < reach < 1e12:
            raise UserError(
                f"the model reaches {reach:.3g} units from its middle, which cannot be drawn; "
                "scale it to about 1"
            )
        placement = turn.copy()
        placement[:3] *= radius / reach
        placement[:3, 3] -= center * (radius / reach)
        return replace(self, placement=placement)
