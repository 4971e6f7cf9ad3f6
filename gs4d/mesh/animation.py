"""Moving node trees (glTF 2.0, section 3.11 and appendix C)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Channel:
    """One animated property of one node.

    Attributes:
        node: index of the node.
        path: "translation", "rotation" (xyzw), "scale" or "weights".
        times: seconds, not falling.
        values: one row per time; for "CUBICSPLINE" of in-tangent, value and out-tangent.
        interpolation: "LINEAR", "STEP" or "CUBICSPLINE".
    """

    node: int
    path: str
    times: Float[np.ndarray, "k"]
    values: Float[np.ndarray, "k ..."]
    interpolation: str

    def varies(self) -> bool:
        """Whether the value ever changes."""
        return (
            bool((self.values != self.values[:1]).any())
            if self.interpolation != "CUBICSPLINE"
            else len(self.times) > 1
        )

    def at(self, time: float) -> Float[np.ndarray, "c"]:
        """The value at ``time`` in seconds.

        Before the first key and after the last it stands still.
        """
        cubic = self.interpolation == "CUBICSPLINE"
        last = len(self.times) - 1
        k = min(max(int(np.searchsorted(self.times, time, side="right")) - 1, 0), last)
        span = float(self.times[k + 1] - self.times[k]) if k < last else 0.0
        s = min(max((time - float(self.times[k])) / span, 0.0), 1.0) if span > 0 else 0.0
        if self.interpolation == "STEP" or s == 0:
            value = self.values[k, 1] if cubic else self.values[k]
            return _unit(value) if self.path == "rotation" else value.astype(np.float64)
        if cubic:
            (_, start, leave), (arrive, end, _) = (
                self.values[k].astype(np.float64),
                self.values[k + 1].astype(np.float64),
            )
            value = (
                (2 * s**3 - 3 * s**2 + 1) * start
                + span * (s**3 - 2 * s**2 + s) * leave
                + (3 * s**2 - 2 * s**3) * end
                + span * (s**3 - s**2) * arrive
            )
            return _unit(value) if self.path == "rotation" else value
        if self.path == "rotation":
            return slerp(self.values[k], self.values[k + 1], s)
        return (1 - s) * self.values[k].astype(np.float64) + s * self.values[k + 1]


def _unit(quat: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    wide = quat.astype(np.float64)
    norm = float(np.sqrt(wide @ wide))
    return wide / norm if norm > 1e-12 else np.array([0.0, 0.0, 0.0, 1.0])


def slerp(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"], s: float) -> Float[np.ndarray, "4"]:
    """The rotation a fraction ``s`` of the short way from ``a`` to ``b``, xyzw."""
    first, second = _unit(a), _unit(b)
    cosine = float(first @ second)
    if cosine < 0:
        second, cosine = -second, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-6:
        return _unit((1 - s) * first + s * second)
    return (np.sin((1 - s) * angle) * first + np.sin(s * angle) * second) / np.sin(angle)


def transform(
    translation: Float[np.ndarray, "3"],
    rotation: Float[np.ndarray, "4"],
    scale: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "4 4"]:
    """The matrix that scales, then turns (xyzw, unit), then moves."""
    x, y, z, w = rotation
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= scale
    matrix[:3, 3] = translation
    return matrix


@dataclass(frozen=True)
class Node:
    """A node at rest: its transform relative to its parent, in parts or as a matrix.

    Attributes:
        parent: index of the parent, -1 for a root.
        translation: parent's units.
        rotation: xyzw, unit.
        scale: factors along its axes.
        matrix: replaces the three where it is given.
        weights: of its mesh's morph targets.
    """

    parent: int
    translation: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "4"]
    scale: Float[np.ndarray, "3"]
    matrix: Float[np.ndarray, "4 4"] | None
    weights: Float[np.ndarray, "m"]


@dataclass(frozen=True)
class NodeTree:
    """All nodes of a file, and the channels that move them.

    Attributes:
        nodes: as in the file.
        order: indices of all nodes, parents first.
        channels: of one clip; none for a model at rest.
    """

    nodes: tuple[Node, ...]
    order: tuple[int, ...]
    channels: tuple[Channel, ...]

    def span(self) -> tuple[float, float]:
        """First and last key in seconds, of the channels that change anything.

        Nothing moves before or after.
        """
        moving = [channel for channel in self.channels if channel.varies()] or self.channels
        first = min((float(channel.times[0]) for channel in moving), default=0.0)
        return first, max((float(channel.times[-1]) for channel in moving), default=first)

    def at(
        self, time: float
    ) -> tuple[Float[np.ndarray, "n 4 4"], dict[int, Float[np.ndarray, "m"]]]:
        """Returns the nodes' world matrices at ``time`` in seconds, and morph weights by node."""
        moved: dict[tuple[int, str], np.ndarray] = {
            (c.node, c.path): c.at(time) for c in self.channels
        }
        world = np.empty((len(self.nodes), 4, 4))
        for i in self.order:
            node = self.nodes[i]
            local = node.matrix
            if local is None:
                local = transform(
                    moved.get((i, "translation"), node.translation),
                    moved.get((i, "rotation"), node.rotation),
                    moved.get((i, "scale"), node.scale),
                )
            world[i] = local if node.parent < 0 else world[node.parent] @ local
        weights = {i: node.weights for i, node in enumerate(self.nodes) if len(node.weights)}
        weights.update({i: value for (i, path), value in moved.items() if path == "weights"})
        return world, weights
