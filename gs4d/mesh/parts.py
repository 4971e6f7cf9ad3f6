"""The pieces of an animated triangle mesh.

Morphed, skinned and moved by a node tree, and what they are made of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


@dataclass(frozen=True)
class Texture:
    """A picture and how it goes on beyond its edges.

    Attributes:
        pixels: RGBA, sRGB.
        wrap: "repeat", "mirror" or "clamp", along u and along v.
        smooth: whether to interpolate between texels.
    """

    pixels: UInt8[np.ndarray, "h w 4"]
    wrap: tuple[str, str] = ("repeat", "repeat")
    smooth: bool = True


@dataclass(frozen=True)
class Material:
    """The look of a surface; colours are linear.

    Attributes:
        color: RGBA factor.
        texture: multiplies the colour.
        emissive: RGB that shines by itself.
        emissive_texture: multiplies it.
        alpha_cutoff: opaque from this alpha on and nothing below it; None: see ``blend``.
        blend: whether alpha mixes; otherwise it is ignored.
        double_sided: whether triangles are seen from behind.
        unlit: whether light leaves it alone.
    """

    color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    texture: Texture | None = None
    emissive: tuple[float, float, float] = (0.0, 0.0, 0.0)
    emissive_texture: Texture | None = None
    alpha_cutoff: float | None = None
    blend: bool = False
    double_sided: bool = False
    unlit: bool = False

    @property
    def opaque(self) -> bool:
        """Whether nothing behind it is seen through it."""
        return self.alpha_cutoff is None and not self.blend


@dataclass(frozen=True)
class Skin:
    """The nodes that a skin hangs on.

    Attributes:
        joints: node indices.
        inverse_bind: takes the mesh at rest to each joint.
    """

    joints: Int[np.ndarray, "j"]
    inverse_bind: Float[np.ndarray, "j 4 4"]


@dataclass(frozen=True)
class Part:
    """Triangles of one material that one node carries.

    Attributes:
        node: index of the node.
        faces: vertex indices, counter-clockwise seen from outside.
        positions: at rest, before morphing.
        normals: None where every face is flat; then no vertex is shared and the faces are (0, 1,
            2), (3, 4, 5), ...
        morphs: displacement per morph target.
        normal_morphs: the same for normals; may be empty.
        skin: None where the node itself moves the part.
        joints: indices into the skin's joints.
        weights: of the joints, sum 1.
        uv: texture coordinates of the base colour, v down.
        emissive_uv: of the emissive texture.
        colors: linear RGBA per vertex.
        material: of all faces.
    """

    node: int
    faces: Int[np.ndarray, "f 3"]
    positions: Float[np.ndarray, "v 3"]
    normals: Float[np.ndarray, "v 3"] | None
    morphs: Float[np.ndarray, "m v 3"]
    normal_morphs: Float[np.ndarray, "k v 3"]
    skin: Skin | None
    joints: Int[np.ndarray, "v i"]
    weights: Float[np.ndarray, "v i"]
    uv: Float[np.ndarray, "v 2"] | None
    emissive_uv: Float[np.ndarray, "v 2"] | None
    colors: Float[np.ndarray, "v 4"] | None
    material: Material

    def at(
        self, world: Float[np.ndarray, "n 4 4"], weights: Float[np.ndarray, "m"]
    ) -> tuple[Float[np.ndarray, "v 3"], Float[np.ndarray, "v 3"], Bool[np.ndarray, "f"]]:
        """Positions, unit normals, and per face whether the transform turns it inside out."""
        positions, normals = _morphed(self.positions, self.morphs, weights), self.normals
        if normals is not None:
            normals = _morphed(normals, self.normal_morphs, weights)
        if self.skin is None:
            matrix = world[self.node]
            positions = positions @ matrix[:3, :3].T + matrix[:3, 3]
            inside_out = bool(np.linalg.det(matrix[:3, :3]) < 0)
            mirrored = np.full(len(self.faces), inside_out)
            if normals is not None:
                normals = (
                    normals @ _cofactors(matrix[None, :3, :3])[0].T * (-1 if inside_out else 1)
                )
        else:
            joints = world[self.skin.joints] @ self.skin.inverse_bind
            blended = np.zeros((len(positions), 3, 4))
            for k in range(self.joints.shape[1]):
                blended += self.weights[:, k, None, None] * joints[self.joints[:, k], :3]
            positions = np.einsum("vij,vj->vi", blended[..., :3], positions) + blended[..., 3]
            mirrored = np.zeros(len(self.faces), bool)
            if (
                np.linalg.det(joints[:, :3, :3]) < 0
            ).any():  # of the blend: half the joints may be mirrored, and half not
                signs = np.sign(np.linalg.det(blended[..., :3]))
                mirrored = signs[self.faces].sum(1) < 0
            if normals is not None:
                normals = np.einsum("vij,vj->vi", blended[..., :3], normals)
        if normals is None:
            corners = positions[self.faces]
            flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            normals = np.repeat(np.where(mirrored[:, None], -flat, flat), 3, axis=0)
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        return positions, normals / np.maximum(length, 1e-30), mirrored

    def faceted(self) -> Part:
        """The same part with flat faces that share no vertex."""
        corners = self.faces.reshape(-1)

        def spread(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[corners]

        return replace(
            self,
            faces=np.arange(len(corners)).reshape(-1, 3),
            positions=self.positions[corners],
            normals=None,
            morphs=self.morphs[:, corners],
            normal_morphs=np.zeros((0, len(corners), 3), np.float32),
            joints=self.joints[corners],
            weights=self.weights[corners],
            uv=spread(self.uv),
            emissive_uv=spread(self.emissive_uv),
            colors=spread(self.colors),
        )


def _morphed(rest: np.ndarray, morphs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    result = rest.astype(np.float64)
    # a file may name fewer weights than targets, or none
    for weight, morph in zip(weights, morphs, strict=False):
        if weight:
            result = result + weight * morph
    return result


def _cofactors(m: Float[np.ndarray, "b 3 3"]) -> Float[np.ndarray, "b 3 3"]:
    """Inverse transpose times determinant: turns normals, and stands a scale of zero."""
    return np.stack([np.cross(m[:, (i + 1) % 3], m[:, (i + 2) % 3]) for i in range(3)], 1)
