"""Tiny glTF files, made with pygltflib, whose every number a test knows."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from pygltflib import (
    GLTF2,
    Accessor,
    Animation,
    AnimationChannel,
    AnimationChannelTarget,
    AnimationSampler,
    Attributes,
    Buffer,
    BufferView,
    Image,
    Material,
    Mesh,
    Node,
    PbrMetallicRoughness,
    Primitive,
    Sampler,
    Scene,
    Skin,
    Texture,
    TextureInfo,
)

CODES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
QUAD = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
QUAD_FACES = np.array([0, 1, 2, 0, 2, 3], np.uint16)
# the picture's upper edge at the quad's
QUAD_UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)


class Builder:
    """Grows a file; ``gltf`` is open to changes."""

    def __init__(self) -> None:
        self.gltf, self.blob = GLTF2(scene=0, scenes=[Scene(nodes=[])]), bytearray()

    def view(self, data: bytes, stride: int | None = None) -> int:
        self.blob += bytes(-len(self.blob) % 4)
        self.gltf.bufferViews.append(
            BufferView(buffer=0, byteOffset=len(self.blob), byteLength=len(data), byteStride=stride)
        )
        self.blob += data
        return len(self.gltf.bufferViews) - 1

    def accessor(self, array: np.ndarray, **changes: Any) -> int:
        """Of a vector per row, or of matrices (n, 4, 4)."""
        kind = (
            "MAT4" if array.ndim == 3 else "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}"
        )
        stored = array.swapaxes(1, 2) if array.ndim == 3 else array
        fields: dict[str, Any] = {
            "count": len(array),
            "type": kind,
            "componentType": CODES[array.dtype.str[1:]],
        } | changes
        if "bufferView" not in fields:
            fields["bufferView"] = self.view(np.ascontiguousarray(stored).tobytes())
        self.gltf.accessors.append(Accessor(**fields))
        return len(self.gltf.accessors) - 1

    def mesh(
        self,
        positions: np.ndarray,
        faces: np.ndarray | None = None,
        *,
        mode: int = 4,
        material: int | None = None,
        targets: list[Any] | None = None,
        weights: list[float] | None = None,
        **attributes: int,
    ) -> int:
        primitive = Primitive(
            attributes=Attributes(POSITION=self.accessor(positions), **attributes),
            mode=mode,
            material=material,
            targets=targets or [],
        )
        if faces is not None:
            primitive.indices = self.accessor(faces)
        self.gltf.meshes.append(Mesh(primitives=[primitive], weights=weights or []))
        return len(self.gltf.meshes) - 1

    def node(self, *, parent: int | None = None, **fields: Any) -> int:
        self.gltf.nodes.append(Node(**fields))
        index = len(self.gltf.nodes) - 1
        siblings = self.gltf.scenes[0].nodes if parent is None else self.gltf.nodes[parent].children
        assert siblings is not None
        siblings.append(index)
        return index

    def material(
        self,
        color: tuple[float, ...] = (1, 1, 1, 1),
        *,
        texture: int | None = None,
        uv_extensions: dict[str, Any] | None = None,
        unlit: bool = True,
        **fields: Any,
    ) -> int:
        surface = PbrMetallicRoughness(baseColorFactor=list(color))
        if texture is not None:
            surface.baseColorTexture = TextureInfo(index=texture, extensions=uv_extensions or {})
        extensions = {"KHR_materials_unlit": {}} if unlit else {}
        self.gltf.materials.append(
            Material(pbrMetallicRoughness=surface, extensions=extensions, **fields)
        )
        return len(self.gltf.materials) - 1

    def texture(self, *, uri: str | None = None, png: bytes | None = None, **sampler: Any) -> int:
        image = (
            Image(uri=uri or "")
            if png is None
            else Image(bufferView=self.view(png), mimeType="image/png")
        )
        self.gltf.images.append(image)
        self.gltf.samplers.append(Sampler(**sampler))
        self.gltf.textures.append(
            Texture(source=len(self.gltf.images) - 1, sampler=len(self.gltf.samplers) - 1)
        )
        return len(self.gltf.textures) - 1

    def skin(self, joints: list[int], inverse_bind: np.ndarray) -> int:
        self.gltf.skins.append(Skin(joints=joints, inverseBindMatrices=self.accessor(inverse_bind)))
        return len(self.gltf.skins) - 1

    def animate(
        self,
        node: int,
        path: str,
        times: list[float],
        values: list[Any],
        interpolation: str = "LINEAR",
        clip: str = "move",
    ) -> None:
        """Adds a channel to the animation ``clip``, which is made if it is not there."""
        found = [a for a in self.gltf.animations if a.name == clip]
        if not found:
            self.gltf.animations.append(Animation(name=clip))
        animation = self.gltf.animations[-1] if not found else found[0]
        inputs, outputs = (
            self.accessor(np.array(times, np.float32)),
            self.accessor(np.array(values, np.float32)),
        )
        animation.samplers.append(
            AnimationSampler(input=inputs, output=outputs, interpolation=interpolation)
        )
        target = AnimationChannelTarget(node=node, path=path)
        animation.channels.append(
            AnimationChannel(sampler=len(animation.samplers) - 1, target=target)
        )

    def save(self, path: Path) -> Path:
        """Writes the file: .glb in one piece, .gltf with a .bin beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = Buffer(byteLength=len(self.blob))
        self.gltf.buffers = [buffer]
        if path.suffix == ".glb":
            self.gltf.set_binary_blob(bytes(self.blob))
            self.gltf.save_binary(str(path))
        else:
            buffer.uri = "data.bin"
            (path.parent / "data.bin").write_bytes(self.blob)
            path.write_text(self.gltf.to_json())
        return path


def sliding_cross() -> Builder:
    """Three squares through the origin, one across each axis, seen from everywhere.

    They slide like the one square.
    """
    b = Builder()
    positions = np.concatenate([QUAD, QUAD[:, [2, 0, 1]], QUAD[:, [1, 2, 0]]])
    faces = np.concatenate([QUAD_FACES + 4 * k for k in range(3)]).astype(np.uint16)
    node = b.node(mesh=b.mesh(positions, faces, material=b.material(doubleSided=True)))
    b.animate(node, "translation", [0, 2], [[0, 0, 0], [1, 0, 0]])
    return b


def sliding_quad(**material: Any) -> Builder:
    """A unit square in the plane z = 0 that slides along x by 1 in 2 seconds."""
    b = Builder()
    node = b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=b.material(**material)))
    b.animate(node, "translation", [0, 2], [[0, 0, 0], [1, 0, 0]])
    return b


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Picture.fromarray(np.array(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def srgb(linear: float) -> float:
    return 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
