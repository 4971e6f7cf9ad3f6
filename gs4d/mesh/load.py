"""From a glTF file to an :class:`AnimatedMesh`: which nodes are shown, what they carry, and the clip that moves them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pygltflib import TextureInfo

from ..errors import UserError, nearest
from ..geometry import rotations_to_quats
from ..io.gltf import GltfFile
from .animation import Channel, Node, NodeTree
from .model import AnimatedMesh
from .parts import Material, Part, Skin, Texture

MAX_NODES = 100_000
MAX_VERTICES = 20_000_000  # counted again for every morph target
FIT_POSES = 16  # one loop, as the clips of this field have it
PATHS = {"translation": 3, "rotation": 4, "scale": 3}
WRAPS = {33071: "clamp", 33648: "mirror"}
NEAREST = 9728
TRIANGLES, STRIP, FAN = 4, 5, 6


def load_animated_mesh(path: Path, clip: str | None = None, *, up: str = "y") -> AnimatedMesh:
    """Reads an animated model, placed so that it stays inside a sphere of radius 0.6 around the origin, y up.

    Args:
        path: a .glb or .gltf file.
        clip: name of the animation; None takes the first that moves anything, if there is one.
        up: as for :meth:`AnimatedMesh.fitted`.

    Raises:
        UserError: the file is damaged, compressed, or shows no triangles, or there is no such clip.
    """
    loader = _Loader(GltfFile(path))
    tree = loader.tree()
    parts = tuple(loader.parts(tree))
    if not any(len(part.faces) for part in parts):
        raise loader.file.error("shows no triangles; export a model that has a mesh in its scene")
    names = loader.clip_names()
    if clip is not None and clip not in names:
        there = f"there are: {', '.join(names)}" if names else "it has no animation at all, leave out --clip"
        raise UserError(f"no clip named '{clip}' in {path}{nearest(clip, names)}; {there}")
    mesh = AnimatedMesh(parts, tree, tuple(names), None, 0.0, tuple(loader.warnings))
    for index in range(len(names)) if clip is None else [names.index(clip)]:
        played = loader.played(tree, index)
        duration = max((float(channel.times[-1]) for channel in played.channels), default=0.0)
        candidate = replace(mesh, tree=played, clip=names[index], duration=duration, warnings=tuple(loader.warnings))
        if clip is not None or candidate.moves():
            return candidate.fitted([k / FIT_POSES for k in range(FIT_POSES)], up=up)
    return mesh.fitted([0.0], up=up)


@dataclass
class _Loader:
    file: GltfFile
    warnings: list[str] = field(default_factory=list)
    textures: dict[int, Texture | None] = field(default_factory=dict)
    vertices: int = 0

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def tree(self) -> NodeTree:
        count = len(self.file.items("nodes"))
        if count > MAX_NODES:
            raise self.file.error(f"has {count} nodes, more than {MAX_NODES}; simplify the model")
        parents = [-1] * count
        for i in range(count):
            for child in self._indices(self.file.item("nodes", i, "node").children, "nodes", f"children of node {i}"):
                if parents[child] >= 0:
                    raise self.file.error(
                        f"is damaged: node {child} has two parents, {parents[child]} and {i}; export it again"
                    )
                parents[child] = i
        order = [i for i in range(count) if parents[i] < 0]
        for i in order:  # grows as children are found
            order += self._indices(self.file.item("nodes", i, "node").children, "nodes", f"children of node {i}")
        if len(order) < count:
            lost = min(set(range(count)) - set(order))
            raise self.file.error(f"is damaged: node {lost} is its own ancestor; export it again")
        return NodeTree(tuple(self._node(i, parents[i]) for i in range(count)), tuple(order), ())

    def _indices(self, values: Any, kind: str, where: str) -> list[int]:
        last = len(self.file.items(kind)) - 1
        return [self.file.integer(value, where, 0, last) for value in self.file.list_of(values, where)]

    def _node(self, index: int, parent: int) -> Node:
        node, where = self.file.item("nodes", index, "node"), f"node {index}"

        def numbers(name: str, default: list[float]) -> np.ndarray:
            value = getattr(node, name)
            return np.array(default if value is None else self.file.numbers(value, f"{name} of {where}", len(default)))

        quat = numbers("rotation", [0.0, 0.0, 0.0, 1.0])
        norm = float(np.linalg.norm(quat))
        matrix = None if node.matrix is None else numbers("matrix", [0.0] * 16).reshape(4, 4).T
        return Node(
            parent=parent,
            translation=numbers("translation", [0.0] * 3),
            rotation=quat / norm if norm > 1e-12 else np.array([0.0, 0.0, 0.0, 1.0]),
            scale=numbers("scale", [1.0] * 3),
            matrix=matrix,
            weights=self._rest_weights(index, node),
        )

    def _rest_weights(self, index: int, node: Any) -> Float[np.ndarray, "m"]:
        """Of the node, or where it has none of its mesh. (pygltflib's Node has no weights.)"""
        raw = self.file.items("nodes")[index].get("weights")
        if raw is None and node.mesh is not None:
            raw = self.file.item("meshes", node.mesh, f"node {index}").weights
        values = self.file.list_of(raw, f"weights of node {index}")
        return np.array(self.file.numbers(values, f"weights of node {index}", len(values)))

    # --- animation ---------------------------------------------------------------------------------------------------

    def clip_names(self) -> list[str]:
        """One name per animation; those without a name are called clip_0, clip_1, ... by their place."""
        entries = self.file.items("animations")
        names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
        return [name if isinstance(name, str) and name else f"clip_{i}" for i, name in enumerate(names)]

    def played(self, tree: NodeTree, index: int) -> NodeTree:
        """The tree, moved by an animation."""
        animation = self.file.item("animations", index, "animation")
        channels = []
        for k, channel in enumerate(self.file.objects(animation.channels, f"channels of animation {index}")):
            where = f"channel {k} of animation {index}"
            target = channel.target
            if target is None or target.path not in (*PATHS, "weights") or target.node is None:
                self.warn(f"{where} moves something that is not drawn")
                continue
            node = self.file.integer(target.node, f"node of {where}", 0, len(tree.nodes) - 1)
            samplers = self.file.objects(animation.samplers, f"samplers of animation {index}")
            sampler = samplers[self.file.integer(channel.sampler, f"sampler of {where}", 0, len(samplers) - 1)]
            channels.append(self._channel(node, target.path, sampler, len(tree.nodes[node].weights), where))
        moved = {channel.node for channel in channels}
        nodes = tuple(_apart(node) if i in moved and node.matrix is not None else node for i, node in enumerate(tree.nodes))
        return NodeTree(nodes, tree.order, tuple(channels))

    def _channel(self, node: int, path: str, sampler: Any, weights: int, where: str) -> Channel:
        times = self.file.floats(sampler.input, f"times of {where}", "SCALAR")
        values = self.file.floats(
            sampler.output, f"values of {where}", {3: "VEC3", 4: "VEC4"}.get(PATHS.get(path, 0), "SCALAR")
        )
        interpolation = sampler.interpolation or "LINEAR"
        if interpolation not in ("LINEAR", "STEP", "CUBICSPLINE"):
            raise self.file.error(f"is damaged: {where} interpolates by {interpolation!s:.20}; export it again")
        if (np.diff(times) < 0).any() or not (abs(times) < 1e6).all():
            raise self.file.error(f"is damaged: the times of {where} do not rise; export it again")
        triple = (3,) if interpolation == "CUBICSPLINE" else ()
        width = PATHS.get(path) or values.size // max(1, len(times) * (3 if triple else 1))
        if values.size != len(times) * width * (3 if triple else 1) or (path == "weights" and width < weights):
            raise self.file.error(f"is damaged: {where} has {values.size} numbers for {len(times)} times; export it again")
        return Channel(node, path, times, values.reshape(len(times), *triple, width), interpolation)

    # --- parts -------------------------------------------------------------------------------------------------------

    def parts(self, tree: NodeTree) -> Iterator[Part]:
        """What the nodes of the scene carry."""
        for i in self._shown(tree):
            node = self.file.item("nodes", i, "node")
            if node.mesh is None:
                continue
            if self.file.extension(node, "EXT_mesh_gpu_instancing"):
                self.warn(f"node {i} repeats its mesh by EXT_mesh_gpu_instancing, which is not supported: it is drawn once")
            skin = None if node.skin is None else self._skin(node.skin, f"node {i}")
            mesh = self.file.item("meshes", node.mesh, f"node {i}")
            for k, primitive in enumerate(self.file.objects(mesh.primitives, f"mesh {node.mesh}")):
                where = f"primitive {k} of mesh {node.mesh}"
                if primitive.mode not in (None, TRIANGLES, STRIP, FAN):
                    self.warn(f"{where} holds points or lines, which are not drawn")
                elif (part := self._part(i, primitive, skin, where)) is not None:
                    yield part

    def _shown(self, tree: NodeTree) -> list[int]:
        """Nodes of the scene that is shown first, parents first."""
        if not self.file.items("scenes"):
            return list(tree.order)
        scene = self.file.item("scenes", self.file.document.get("scene", 0), "scene")
        shown = set(self._indices(scene.nodes, "nodes", "nodes of the scene"))
        for i in tree.order:
            if tree.nodes[i].parent in shown:
                shown.add(i)
        return [i for i in tree.order if i in shown]

    def _skin(self, index: Any, where: str) -> Skin:
        skin = self.file.item("skins", index, where)
        joints = np.array(self._indices(skin.joints, "nodes", f"joints of skin {index}"), np.int64)
        if not len(joints):
            raise self.file.error(f"is damaged: skin {index} has no joints; export it again")
        if skin.inverseBindMatrices is None:
            return Skin(joints, np.tile(np.eye(4), (len(joints), 1, 1)))
        matrices = self.file.floats(skin.inverseBindMatrices, f"skin {index}", "MAT4")
        if len(matrices) < len(joints):
            raise self.file.error(
                f"is damaged: skin {index} has {len(joints)} joints but {len(matrices)} matrices; export it again"
            )
        return Skin(joints, matrices[: len(joints)].astype(np.float64))

    def _part(self, node: int, primitive: Any, skin: Skin | None, where: str) -> Part | None:
        attributes = primitive.attributes
        if not isinstance(attributes, dict) or "POSITION" not in attributes:
            self.warn(f"{where} has no positions and is not drawn")
            return None
        positions = self.file.floats(attributes["POSITION"], f"positions of {where}", "VEC3")
        count = len(positions)
        faces = self._faces(primitive, count, where)
        self.vertices += max(count, 3 * len(faces)) * (1 + len(self.file.list_of(primitive.targets, where)))
        if self.vertices > MAX_VERTICES:
            raise self.file.error(f"has more than {MAX_VERTICES // 10**6} million vertices; simplify the model")

        def attribute(name: str, *kinds: str, finite: bool = True) -> np.ndarray | None:
            if name not in attributes:
                return None
            values = self.file.floats(attributes[name], f"{name} of {where}", *kinds, finite=finite)
            if len(values) != count:
                raise self.file.error(f"is damaged: {where} has {count} positions but {len(values)} {name}; export it again")
            return values

        def uv(info: Any) -> np.ndarray | None:
            number, turn = self._uv_set(info, where)
            values = attribute(f"TEXCOORD_{number}", "VEC2")
            return None if values is None else values @ turn[:2, :2].T + turn[:2, 2]

        material, base, shine = self._material(primitive.material, where)
        normals = attribute("NORMAL", "VEC3", finite=False)  # exporters write NaN for triangles without area
        morphs, normal_morphs = self._morphs(primitive, count, where)
        joints, weights = self._weights(attribute, attributes, skin, where)
        colors = attribute("COLOR_0", "VEC3", "VEC4")
        if colors is not None and colors.shape[1] == 3:
            colors = np.concatenate([colors, np.ones((count, 1), np.float32)], 1)
        part = Part(
            node=node,
            faces=faces,
            positions=positions,
            normals=None if normals is None else np.nan_to_num(normals, posinf=0, neginf=0),
            morphs=morphs,
            normal_morphs=normal_morphs,
            skin=skin if weights.shape[1] else None,
            joints=joints,
            weights=weights,
            uv=uv(base) if material.texture else None,
            emissive_uv=uv(shine) if material.emissive_texture else None,
            colors=colors,
            material=material,
        )
        return part if normals is not None else part.faceted()

    def _faces(self, primitive: Any, count: int, where: str) -> Int[np.ndarray, "f 3"]:
        if primitive.indices is None:
            indices = np.arange(count)
        else:
            indices = self.file.integers(primitive.indices, f"indices of {where}", "SCALAR")
            if int(indices.max()) >= count:
                raise self.file.error(f"is damaged: {where} refers to vertex {int(indices.max())} of {count}; export it again")
        if primitive.mode == STRIP:
            turns = np.arange(max(len(indices) - 2, 0))[:, None]
            return indices[turns + np.where(turns % 2, [1, 0, 2], [0, 1, 2])]
        if primitive.mode == FAN:
            turns = np.arange(max(len(indices) - 2, 0))[:, None]
            return indices[np.concatenate([0 * turns, turns + 1, turns + 2], 1)]
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)

    def _morphs(self, primitive: Any, count: int, where: str) -> tuple[Float[np.ndarray, "m v 3"], Float[np.ndarray, "k v 3"]]:
        targets = self.file.list_of(primitive.targets, f"morph targets of {where}")
        moves = []
        for name in ("POSITION", "NORMAL"):
            arrays = [
                self.file.floats(target[name], f"morph target {m} of {where}", "VEC3", finite=name == "POSITION")
                if isinstance(target, dict) and name in target
                else np.zeros((count, 3), np.float32)
                for m, target in enumerate(targets)
            ]
            if any(len(array) != count for array in arrays):
                raise self.file.error(f"is damaged: a morph target of {where} has another number of vertices; export it again")
            moves.append(np.nan_to_num(np.stack(arrays)) if arrays else np.zeros((0, count, 3), np.float32))
        return moves[0], moves[1]

    def _weights(
        self, attribute: Any, attributes: dict[str, Any], skin: Skin | None, where: str
    ) -> tuple[Int[np.ndarray, "v i"], Float[np.ndarray, "v i"]]:
        """Joints and weights that sum to one; exporters are careless about the sum. Without a skin there are none."""
        sets = [k for k in range(4) if f"WEIGHTS_{k}" in attributes] if skin is not None else []
        if skin is None or not sets:
            count = len(attribute("POSITION", "VEC3"))
            return np.zeros((count, 0), np.int64), np.zeros((count, 0), np.float32)
        weights = np.concatenate([attribute(f"WEIGHTS_{k}", "VEC4") for k in sets], 1)
        columns = [self.file.integers(attributes.get(f"JOINTS_{k}"), f"JOINTS_{k} of {where}", "VEC4") for k in sets]
        if any(len(column) != len(weights) for column in columns):
            raise self.file.error(f"is damaged: {where} has joints for another number of vertices; export it again")
        joints = np.where(weights > 0, np.concatenate(columns, 1), 0)  # unused places hold anything
        if int(joints.max()) >= len(skin.joints):
            raise self.file.error(
                f"is damaged: {where} hangs on joint {int(joints.max())} of {len(skin.joints)}; export it again"
            )
        total = weights.sum(1, keepdims=True)
        first = np.eye(1, weights.shape[1], dtype=np.float32)
        return joints, np.where(total > 1e-8, weights / np.maximum(total, 1e-8), first)

    # --- materials ---------------------------------------------------------------------------------------------------

    def _material(self, index: Any, where: str) -> tuple[Material, Any, Any]:
        """A material, and the texture references of its base colour and its emission."""
        if index is None:
            return Material(), None, None
        raw = self.file.item("materials", index, where)
        where = f"material {index}"
        surface, shine = raw.pbrMetallicRoughness, raw.emissiveTexture
        factor, base = [1.0] * 4, None
        if surface is not None:
            factor, base = surface.baseColorFactor or factor, surface.baseColorTexture
        elif glossy := self.file.extension(raw, "KHR_materials_pbrSpecularGlossiness"):
            factor, named = glossy.get("diffuseFactor", factor), glossy.get("diffuseTexture")
            if isinstance(named, dict):
                base = TextureInfo.from_dict(named)  # pyright: ignore[reportAttributeAccessIssue] (a decorator adds it)
        red, green, blue, alpha = self.file.numbers(factor, f"colour of {where}", 4)
        emissive = self.file.numbers(raw.emissiveFactor or [0.0] * 3, f"emissive colour of {where}", 3)
        cutoff = None
        if raw.alphaMode == "MASK":
            cutoff = 0.5 if raw.alphaCutoff is None else self.file.numbers(raw.alphaCutoff, f"alphaCutoff of {where}", 1)[0]
        extensions = raw.extensions if isinstance(raw.extensions, dict) else {}
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

    def _uv_set(self, info: Any, where: str) -> tuple[int, Float[np.ndarray, "3 3"]]:
        """Which texture coordinates a reference uses, and the transform of KHR_texture_transform."""
        turn = self.file.extension(info, "KHR_texture_transform")
        number = self.file.integer(turn.get("texCoord", info.texCoord or 0), f"texCoord in {where}", 0, 15)
        shift = self.file.numbers(turn.get("offset", [0.0, 0.0]), f"texture offset in {where}", 2)
        scale = self.file.numbers(turn.get("scale", [1.0, 1.0]), f"texture scale in {where}", 2)
        (angle,) = self.file.numbers(turn.get("rotation", 0.0), f"texture rotation in {where}", 1)
        cosine, sine = np.cos(angle), np.sin(angle)
        matrix = np.array([[cosine, sine, shift[0]], [-sine, cosine, shift[1]], [0, 0, 1]])
        return number, matrix @ np.diag([scale[0], scale[1], 1.0])

    def _texture(self, info: Any, where: str) -> Texture | None:
        """The texture of a reference; where its picture is missing or broken the surface is drawn without, with a warning."""
        if info is None or info.index is None:
            return None
        raw = self.file.item("textures", info.index, f"texture of {where}")
        if (key := int(info.index)) not in self.textures:
            webp = self.file.extension(raw, "EXT_texture_webp").get("source")
            try:
                pixels = self.file.image(raw.source if webp is None else webp, f"texture {key}")
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


def _apart(node: Node) -> Node:
    """A node whose matrix is taken apart into translation, rotation and scale, as its animation replaces one of them."""
    matrix = node.matrix if node.matrix is not None else np.eye(4)
    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    if np.linalg.det(matrix[:3, :3]) < 0:
        scale[0] = -scale[0]
    turn = torch.from_numpy(matrix[:3, :3] / np.where(scale == 0, 1, scale))
    w, x, y, z = rotations_to_quats(turn).tolist()
    return replace(node, translation=matrix[:3, 3], rotation=np.array([x, y, z, w]), scale=scale, matrix=None)
