"""Materials of glTF files: base colour, emission and what alpha does.

The rest of their models of light is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from ..errors import UserError
from ..io.gltf import GltfFile
from .parts import Material, Texture

WRAPS = {33071: "clamp", 33648: "mirror"}
NEAREST = 9728
GLASS = ("KHR_materials_transmission", "KHR_materials_diffuse_transmission", "KHR_materials_volume")
# extensions that name a picture of a kind that is read
TEXTURES = ("EXT_texture_webp", "EXT_texture_avif")


@dataclass
class Materials:
    """Reads the materials of a file; what is not drawn as it says goes to ``warn``."""

    file: GltfFile
    warn: Callable[[str], None]
    textures: dict[int, Texture | None] = field(default_factory=dict)

    def read(self, index: Any, where: str) -> tuple[Material, Any, Any]:
        """A material, and the texture references of its base colour and its emission."""
        if index is None:
            return Material(), None, None
        raw = self.file.item("materials", index, where)
        where = f"material {index}"
        surface, shine = raw.pbrMetallicRoughness, raw.emissiveTexture
        factor, base = [1.0] * 4, None
        extensions = raw.extensions if isinstance(raw.extensions, dict) else {}
        # replaces the other model, which is there for old readers
        if "KHR_materials_pbrSpecularGlossiness" in extensions:
            glossy = self.file.extension(raw, "KHR_materials_pbrSpecularGlossiness")
            factor, named = glossy.get("diffuseFactor", factor), glossy.get("diffuseTexture")
            base = named if isinstance(named, dict) else None
        elif surface is not None:
            factor, base = surface.baseColorFactor or factor, surface.baseColorTexture
        if glass := [name for name in GLASS if name in extensions]:
            self.warn(
                f"{where} lets light through ({glass[0]}), which is not drawn: it looks opaque"
            )
        red, green, blue, alpha = self.file.numbers(factor, f"colour of {where}", 4)
        strength = self.file.extension(raw, "KHR_materials_emissive_strength").get(
            "emissiveStrength", 1.0
        )
        (gain,) = self.file.numbers(strength, f"emissive strength of {where}", 1)
        emissive = [
            gain * v
            for v in self.file.numbers(
                raw.emissiveFactor or [0.0] * 3, f"emissive colour of {where}", 3
            )
        ]
        cutoff = None
        if raw.alphaMode == "MASK":
            cutoff = (
                0.5
                if raw.alphaCutoff is None
                else self.file.numbers(raw.alphaCutoff, f"alphaCutoff of {where}", 1)[0]
            )
        material = Material(
            color=(red, green, blue, alpha),
            texture=self._texture(base, where),
            emissive=(emissive[0], emissive[1], emissive[2]),
            emissive_texture=self._texture(shine, where) if any(emissive) else None,
            alpha_cutoff=cutoff,
            blend=raw.alphaMode == "BLEND",
            double_sided=bool(raw.doubleSided),
            unlit="KHR_materials_unlit" in extensions,
        )
        return material, base, shine

    def uv_set(self, info: Any, where: str) -> tuple[int, Float[np.ndarray, "3 3"]]:
        """Returns a reference's set of texture coordinates and its KHR_texture_transform."""
        turn = self.file.extension(info, "KHR_texture_transform")
        number = self.file.integer(
            turn.get("texCoord", info.texCoord or 0), f"texCoord in {where}", 0, 15
        )
        shift = self.file.numbers(turn.get("offset", [0.0, 0.0]), f"texture offset in {where}", 2)
        scale = self.file.numbers(turn.get("scale", [1.0, 1.0]), f"texture scale in {where}", 2)
        (angle,) = self.file.numbers(turn.get("rotation", 0.0), f"texture rotation in {where}", 1)
        cosine, sine = np.cos(angle), np.sin(angle)
        matrix = np.array([[cosine, sine, shift[0]], [-sine, cosine, shift[1]], [0, 0, 1]])
        return number, matrix @ np.diag([scale[0], scale[1], 1.0])

    def _texture(self, info: Any, where: str) -> Texture | None:
        """The texture of a reference.

        Where its picture is missing or broken the surface is drawn without, with a warning.
        """
        if info is None or info.index is None:
            return None
        raw = self.file.item("textures", info.index, f"texture of {where}")
        if (key := int(info.index)) not in self.textures:
            named = [self.file.extension(raw, extension).get("source") for extension in TEXTURES]
            source = next((value for value in named if value is not None), raw.source)
            try:
                if source is None:
                    packed = (
                        ", ".join(raw.extensions)
                        if isinstance(raw.extensions, dict) and raw.extensions
                        else ""
                    )
                    why = (
                        f"its picture is there only as {packed:.80}, which is not read"
                        if packed
                        else "it names no picture"
                    )
                    raise self.file.error(
                        f"has texture {key} without a picture that can be drawn ({why}); export it "
                        "with PNG"
                    )
                pixels = self.file.image(source, f"texture {key}")
            except UserError as error:
                self.warn(f"{where} is drawn without its texture: {error}")
                self.textures[key] = None
            else:
                self.textures[key] = self._sampled(pixels, raw.sampler, f"texture {key}")
        return self.textures[key]

    def _sampled(self, pixels: np.ndarray, sampler: Any, where: str) -> Texture:
        if sampler is None:
            return Texture(pixels)
        raw = self.file.item("samplers", sampler, where)
        wrap = (WRAPS.get(raw.wrapS, "repeat"), WRAPS.get(raw.wrapT, "repeat"))
        return Texture(pixels, wrap, smooth=raw.magFilter != NEAREST)
