"""From a glTF file to an :class:`AnimatedMesh`.

Which nodes are shown, what they carry, and the clip that moves them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from ..errors import UserError, nearest
from ..geometry import rotations_to_quats
from ..io.foreign import foreign
from ..io.gltf import GltfFile
from .animation import Channel, Node, NodeTree
from .materials import Materials
from .model import AnimatedMesh
from .parts import Part, Skin

MAX_NODES = 100_000
MAX_VERTICES = 20_000_000  # counted again for every morph target
FIT_POSES = 16  # one loop, as the clips of this field have it
PATHS = {"translation": 3, "rotation": 4, "scale": 3}
TRIANGLES, STRIP, FAN = 4, 5, 6
DRACO = "KHR_draco_mesh_compression"


def load_animated_mesh(path: Path, clip: str | None = None, *, up: str = "y") -> AnimatedMesh:
    """Reads an animated model, placed inside a sphere of radius 0.6 around the origin, y up.

    Args:
        path: a .glb or .gltf file.
        clip: name of a motion (``AnimatedMesh.clips``) or of one animation; None takes the first
            that moves anything, if there is one. Animations that move no node in common are parts
            of one motion, as exporters write one per object.
        up: as for :meth:`AnimatedMesh.fitted`.

    Raises:
        UserError: the file is damaged, compressed, or shows no triangles, or there is no such clip.
    """
    with foreign(path, "glTF"):
        loader = _Loader(GltfFile(path))
        tree = loader.tree()
        motions = loader.motions(len(tree.nodes))
        chosen = motions if clip is None else {clip: loader.named(clip, motions)}
        best = None
        scenes = loader.scenes()
        for scene in scenes:
            parts = tuple(loader.parts(tree, scene))
            if not any(len(part.faces) for part in parts):
                continue
            still = AnimatedMesh(parts, tree, tuple(motions), None, 0.0)
            mesh = _moving(loader, still, chosen, any_will_do=clip is not None)
            moves = mesh.clip is not None and (clip is None or len(scenes) == 1 or mesh.moves())
            if best is None or moves:
                best = scene, mesh
            if moves:
                break
        if best is None:
            raise loader.file.error(
                "shows no triangles; export a model that has a mesh in its scene"
            )
        scene, mesh = best
        if scene != scenes[0]:
            why = "moves" if mesh.clip is not None else "shows anything"
            loader.warn(
                f"scene {scene} is drawn, because scene {scenes[0]}, which the file names as the "
                f"first, never {why}"
            )
        mesh = replace(mesh, warnings=tuple(loader.warnings))
        return mesh.fitted(
            [k / FIT_POSES for k in range(FIT_POSES)] if mesh.duration else [0.0], up=up
        )


def _moving(
    loader: _Loader, still: AnimatedMesh, motions: dict[str, list[int]], *, any_will_do: bool
) -> AnimatedMesh:
    """The mesh with the first of the motions that moves it (or the first, whether it does or not).

    Else at rest.
    """
    for name, indices in motions.items():
        played = loader.played(still.tree, indices)
        begin, end = played.span()
        candidate = replace(still, tree=played, clip=name, begin=begin, duration=end - begin)
        if any_will_do or candidate.moves():
            return candidate
    return still


@dataclass
class _Loader:
    file: GltfFile
    warnings: list[str] = field(default_factory=list)
    # node -> the nodes that repeat its mesh instead of it
    instances: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.materials = Materials(self.file, self.warn)

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    # --- nodes ------------------------------------------------------------------------------------

    def tree(self) -> NodeTree:
        count = len(self.file.items("nodes"))
        if count > MAX_NODES:
            raise self.file.error(f"has {count} nodes, more than {MAX_NODES}; simplify the model")
        parents = [-1] * count
        for i in range(count):
            for child in self._indices(
                self.file.item("nodes", i, "node").children, "nodes", f"children of node {i}"
            ):
                if parents[child] >= 0:
                    raise self.file.damaged(
                        f"node {child} has two parents, {parents[child]} and {i}"
                    )
                parents[child] = i
        order = [i for i in range(count) if parents[i] < 0]
        for i in order:  # grows as children are found
            order += self._indices(
                self.file.item("nodes", i, "node").children, "nodes", f"children of node {i}"
            )
        if len(order) < count:
            lost = min(set(range(count)) - set(order))
            raise self.file.damaged(f"node {lost} is its own ancestor")
        nodes = [self._node(i, parents[i]) for i in range(count)]
        for i in range(count):
            copies = self._copies(i, nodes[i])
            self.instances[i] = list(range(len(nodes), len(nodes) + len(copies)))
            nodes += copies
            order += self.instances[i]
            if len(nodes) > MAX_NODES:
                raise self.file.error(
                    f"repeats its meshes more than {MAX_NODES} times; simplify the model"
                )
        return NodeTree(tuple(nodes), tuple(order), ())

    def _copies(self, index: int, node: Node) -> list[Node]:
        """Returns the nodes that EXT_mesh_gpu_instancing puts under one; each shows its mesh."""
        where = f"EXT_mesh_gpu_instancing of node {index}"
        attributes = self.file.extension(
            self.file.item("nodes", index, "node"), "EXT_mesh_gpu_instancing"
        ).get("attributes")
        if not isinstance(attributes, dict):
            return []
        kinds = {"TRANSLATION": "VEC3", "ROTATION": "VEC4", "SCALE": "VEC3"}
        given = {
            name: self.file.floats(attributes[name], where, kind)
            for name, kind in kinds.items()
            if name in attributes
        }
        counts = {len(values) for values in given.values()}
        if len(counts) > 1:
            raise self.file.damaged(f"the attributes of {where} have different lengths")
        count = min(max(counts, default=0), MAX_NODES + 1)
        rest = {"TRANSLATION": [0.0] * 3, "ROTATION": [0.0, 0.0, 0.0, 1.0], "SCALE": [1.0] * 3}
        rows = {
            name: np.asarray(given.get(name, np.tile(value, (count, 1))), float)
            for name, value in rest.items()
        }
        turns = rows["ROTATION"] / np.maximum(
            np.linalg.norm(rows["ROTATION"], axis=1, keepdims=True), 1e-12
        )
        return [
            Node(index, rows["TRANSLATION"][k], turns[k], rows["SCALE"][k], None, node.weights)
            for k in range(count)
        ]

    def _indices(self, values: Any, kind: str, where: str) -> list[int]:
        last = len(self.file.items(kind)) - 1
        return [
            self.file.integer(value, where, 0, last) for value in self.file.list_of(values, where)
        ]

    def _node(self, index: int, parent: int) -> Node:
        node, where = self.file.item("nodes", index, "node"), f"node {index}"

        def numbers(name: str, default: list[float]) -> np.ndarray:
            value = getattr(node, name)
            return np.array(
                default
                if value is None
                else self.file.numbers(value, f"{name} of {where}", len(default))
            )

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
        """Returns the morph weights of the node, or where it has none of its mesh."""
        raw = node.weights
        if raw is None and node.mesh is not None:
            raw = self.file.item("meshes", node.mesh, f"node {index}").weights
        values = self.file.list_of(raw, f"weights of node {index}")
        return np.array(self.file.numbers(values, f"weights of node {index}", len(values)))

    # --- animation --------------------------------------------------------------------------------

    def motions(self, nodes: int) -> dict[str, list[int]]:
        """Name -> the animations that are played together, because they move no node in common.

        Animations that share nodes, directly or through others, are alternatives; of every such
        family the first ones are played together, then the second ones, and so on. A family of one
        takes part in all.
        """
        names, moved = self.names(), self._moved(nodes)
        families: list[tuple[list[int], set[int]]] = []
        for index in range(len(names)):
            near = [family for family in families if family[1] & moved[index]]
            families = [family for family in families if family not in near]
            members = sorted([index, *(i for family in near for i in family[0])])
            families.append((members, moved[index].union(*(family[1] for family in near))))
        families = sorted((members, reach) for members, reach in families if reach)
        found: dict[str, list[int]] = {}
        for turn in range(max((len(members) for members, _ in families), default=0)):
            each = [
                members[turn] if turn < len(members) else members[0] if len(members) == 1 else None
                for members, _ in families
            ]
            together = [index for index in each if index is not None]
            label = " + ".join(names[i] for i in together[:3]) + (
                f" + {len(together) - 3} more" if together[3:] else ""
            )
            found.setdefault(label, together)
        return found

    def names(self) -> list[str]:
        """Returns the names of the animations."""
        entries = self.file.items("animations")
        names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
        return [
            name if isinstance(name, str) and name else f"clip_{i}" for i, name in enumerate(names)
        ]

    def named(self, clip: str, motions: dict[str, list[int]]) -> list[int]:
        """The animations that a name stands for."""
        names = self.names()
        if clip in motions or clip in names:
            return motions.get(clip) or [names.index(clip)]
        known = [*dict.fromkeys([*motions, *names])]
        there = (
            f"there are: {', '.join(known)}"
            if known
            else "it has no animation at all, leave out --clip"
        )
        raise UserError(
            f"no clip named '{clip}' in {self.file.path}{nearest(clip, known)}; {there}"
        )

    def _moved(self, nodes: int) -> list[set[int]]:
        """The nodes that each animation names, by the JSON as it came.

        Pygltflib is slow where there are many clips.
        """
        found = []
        for index, animation in enumerate(self.file.items("animations")):
            channels = animation.get("channels") if isinstance(animation, dict) else None
            targets = [
                channel.get("target") for channel in channels or () if isinstance(channel, dict)
            ]
            named = [
                target.get("node")
                for target in targets
                if isinstance(target, dict) and target.get("node") is not None
            ]
            found.append(
                {
                    self.file.integer(node, f"a target of animation {index}", 0, nodes - 1)
                    for node in named
                }
            )
        return found

    def played(self, tree: NodeTree, indices: list[int]) -> NodeTree:
        """The tree, moved by some animations together."""
        channels = [channel for index in indices for channel in self._channels(tree, index)]
        moved = {channel.node for channel in channels}
        nodes = tuple(
            _apart(node) if i in moved and node.matrix is not None else node
            for i, node in enumerate(tree.nodes)
        )
        return NodeTree(nodes, tree.order, tuple(channels))

    def _channels(self, tree: NodeTree, index: int) -> Iterator[Channel]:
        animation = self.file.item("animations", index, "animation")
        samplers = self.file.objects(animation.samplers, f"samplers of animation {index}")
        for k, channel in enumerate(
            self.file.objects(animation.channels, f"channels of animation {index}")
        ):
            where = f"channel {k} of animation {index}"
            target = channel.target
            if pointer := self.file.extension(target, "KHR_animation_pointer").get("pointer"):
                self.warn(
                    f"{where} animates {pointer!s:.80} (KHR_animation_pointer), which is not played"
                )
                continue
            if target is None or target.path not in (*PATHS, "weights") or target.node is None:
                self.warn(f"{where} moves something that is not drawn")
                continue
            node = self.file.integer(target.node, f"node of {where}", 0, len(tree.nodes) - 1)
            sampler = samplers[
                self.file.integer(channel.sampler, f"sampler of {where}", 0, len(samplers) - 1)
            ]
            found = self._channel(node, target.path, sampler, len(tree.nodes[node].weights), where)
            copies = self.instances.get(node, []) if target.path == "weights" else []
            yield from (replace(found, node=i) for i in (node, *copies))

    def _channel(self, node: int, path: str, sampler: Any, weights: int, where: str) -> Channel:
        times = self.file.floats(sampler.input, f"times of {where}", "SCALAR")
        values = self.file.floats(
            sampler.output,
            f"values of {where}",
            {3: "VEC3", 4: "VEC4"}.get(PATHS.get(path, 0), "SCALAR"),
        )
        interpolation = sampler.interpolation or "LINEAR"
        if interpolation not in ("LINEAR", "STEP", "CUBICSPLINE"):
            raise self.file.damaged(f"{where} interpolates by {interpolation!s:.20}")
        if (np.diff(times) < 0).any() or not (abs(times) < 1e6).all():
            raise self.file.damaged(f"the times of {where} do not rise")
        triple = (3,) if interpolation == "CUBICSPLINE" else ()
        width = PATHS.get(path) or values.size // max(1, len(times) * (3 if triple else 1))
        if values.size != len(times) * width * (3 if triple else 1) or (
            path == "weights" and width < weights
        ):
            raise self.file.damaged(f"{where} has {values.size} numbers for {len(times)} times")
        return Channel(node, path, times, values.reshape(len(times), *triple, width), interpolation)

    # --- parts ------------------------------------------------------------------------------------

    def scenes(self) -> list[int]:
        """The scene that is shown first, then the others; [0] of a file without any."""
        count = len(self.file.items("scenes"))
        first = (
            self.file.integer(self.file.document.get("scene", 0), "scene", 0, count - 1)
            if count
            else 0
        )
        return [first, *(i for i in range(count) if i != first)]

    def parts(self, tree: NodeTree, scene: int) -> Iterator[Part]:
        """Yields what the nodes of a scene carry."""
        vertices = 0
        for i in self._shown(tree, scene):
            node = self.file.item("nodes", i, "node")
            if node.mesh is None:
                continue
            skin = None if node.skin is None else self._skin(node.skin, f"node {i}")
            mesh = self.file.item("meshes", node.mesh, f"node {i}")
            for k, primitive in enumerate(self.file.objects(mesh.primitives, f"mesh {node.mesh}")):
                where = f"primitive {k} of mesh {node.mesh}"
                if primitive.mode not in (None, TRIANGLES, STRIP, FAN):
                    self.warn(f"{where} holds points or lines, which are not drawn")
                elif (part := self._part(i, primitive, skin, where)) is not None:
                    carriers = self.instances[i] or [i]
                    vertices += (
                        len(carriers)
                        * max(len(part.positions), 3 * len(part.faces))
                        * (1 + len(part.morphs))
                    )
                    if vertices > MAX_VERTICES:
                        raise self.file.error(
                            f"has more than {MAX_VERTICES // 10**6} million vertices; simplify the "
                            "model"
                        )
                    yield from (replace(part, node=carrier) for carrier in carriers)

    def _shown(self, tree: NodeTree, scene: int) -> list[int]:
        """Returns the nodes that a scene shows, parents first (KHR_node_visibility hides some)."""
        count = len(self.file.items("nodes"))
        if self.file.items("scenes"):
            roots = self.file.item("scenes", scene, "scene").nodes
            shown = set(self._indices(roots, "nodes", "nodes of the scene"))
        else:
            shown = {i for i in tree.order if tree.nodes[i].parent < 0}
        hidden = set()
        for i in tree.order:
            if i >= count:
                continue
            if tree.nodes[i].parent in shown:
                shown.add(i)
            off = (
                self.file.extension(self.file.item("nodes", i, "node"), "KHR_node_visibility").get(
                    "visible"
                )
                is False
            )
            if off or tree.nodes[i].parent in hidden:
                hidden.add(i)
        return [i for i in tree.order if i in shown and i not in hidden]

    def _skin(self, index: Any, where: str) -> Skin:
        skin = self.file.item("skins", index, where)
        joints = np.array(self._indices(skin.joints, "nodes", f"joints of skin {index}"), np.int64)
        if not len(joints):
            raise self.file.damaged(f"skin {index} has no joints")
        if skin.inverseBindMatrices is None:
            return Skin(joints, np.tile(np.eye(4), (len(joints), 1, 1)))
        matrices = self.file.floats(skin.inverseBindMatrices, f"skin {index}", "MAT4")
        if len(matrices) < len(joints):
            raise self.file.damaged(
                f"skin {index} has {len(joints)} joints but {len(matrices)} matrices"
            )
        return Skin(joints, matrices[: len(joints)].astype(np.float64))

    def _part(self, node: int, primitive: Any, skin: Skin | None, where: str) -> Part | None:
        attributes = primitive.attributes
        if not isinstance(attributes, dict) or "POSITION" not in attributes:
            self.warn(f"{where} has no positions and is not drawn")
            return None
        draco = self.file.extension(primitive, DRACO)
        if draco and self.file.item("accessors", attributes["POSITION"], where).bufferView is None:
            raise self.file.compressed(DRACO)
        positions = self.file.floats(attributes["POSITION"], f"positions of {where}", "VEC3")
        count = len(positions)
        faces = self._faces(primitive, count, where)

        def attribute(name: str, *kinds: str, finite: bool = True) -> np.ndarray | None:
            if name not in attributes:
                return None
            values = self.file.floats(attributes[name], f"{name} of {where}", *kinds, finite=finite)
            if len(values) != count:
                raise self.file.damaged(f"{where} has {count} positions but {len(values)} {name}")
            return values

        def uv(info: Any) -> np.ndarray | None:
            number, turn = self.materials.uv_set(info, where)
            values = attribute(f"TEXCOORD_{number}", "VEC2")
            return None if values is None else values @ turn[:2, :2].T + turn[:2, 2]

        material, base, shine = self.materials.read(primitive.material, where)
        # exporters write NaN for triangles without area
        normals = attribute("NORMAL", "VEC3", finite=False)
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
                raise self.file.damaged(f"{where} refers to vertex {int(indices.max())} of {count}")
        if primitive.mode == STRIP:
            turns = np.arange(max(len(indices) - 2, 0))[:, None]
            return indices[turns + np.where(turns % 2, [1, 0, 2], [0, 1, 2])]
        if primitive.mode == FAN:
            turns = np.arange(max(len(indices) - 2, 0))[:, None]
            return indices[np.concatenate([0 * turns, turns + 1, turns + 2], 1)]
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)

    def _morphs(
        self, primitive: Any, count: int, where: str
    ) -> tuple[Float[np.ndarray, "m v 3"], Float[np.ndarray, "k v 3"]]:
        targets = self.file.list_of(primitive.targets, f"morph targets of {where}")
        self.file.require_memory(
            2 * 12 * count * len(targets), f"{len(targets)} morph targets of {where}"
        )
        moves = []
        for name in ("POSITION", "NORMAL"):
            arrays = [
                self.file.floats(
                    target[name], f"morph target {m} of {where}", "VEC3", finite=name == "POSITION"
                )
                if isinstance(target, dict) and name in target
                else np.zeros((count, 3), np.float32)
                for m, target in enumerate(targets)
            ]
            if any(len(array) != count for array in arrays):
                raise self.file.damaged(f"a morph target of {where} has another number of vertices")
            moves.append(
                np.nan_to_num(np.stack(arrays)) if arrays else np.zeros((0, count, 3), np.float32)
            )
        return moves[0], moves[1]

    def _weights(
        self, attribute: Any, attributes: dict[str, Any], skin: Skin | None, where: str
    ) -> tuple[Int[np.ndarray, "v i"], Float[np.ndarray, "v i"]]:
        """Joints and weights that sum to one; exporters are careless about the sum.

        Without a skin there are none.
        """
        sets = [k for k in range(4) if f"WEIGHTS_{k}" in attributes] if skin is not None else []
        if skin is None or not sets:
            count = len(attribute("POSITION", "VEC3"))
            return np.zeros((count, 0), np.int64), np.zeros((count, 0), np.float32)
        weights = np.concatenate([attribute(f"WEIGHTS_{k}", "VEC4", finite=False) for k in sets], 1)
        columns = [
            self.file.integers(attributes.get(f"JOINTS_{k}"), f"JOINTS_{k} of {where}", "VEC4")
            for k in sets
        ]
        if any(len(column) != len(weights) for column in columns):
            raise self.file.damaged(f"{where} has joints for another number of vertices")
        total = np.where(weights > 0, weights, 0).sum(1, keepdims=True)
        lost = ~np.isfinite(weights).all(1) | ~(total[:, 0] > 1e-8)
        if lost.any():
            self.warn(
                f"{np.count_nonzero(lost)} of {len(lost)} vertices of {where} have skin weights "
                "that are zero or no numbers, and hang on their first joint"
            )
        weights = np.where(
            lost[:, None], np.eye(1, weights.shape[1], dtype=np.float32), np.maximum(weights, 0)
        )
        joints = np.where(weights > 0, np.concatenate(columns, 1), 0)  # unused places hold anything
        if int(joints.max()) >= len(skin.joints):
            raise self.file.damaged(
                f"{where} hangs on joint {int(joints.max())} of {len(skin.joints)}"
            )
        return joints, weights / np.where(lost[:, None], 1, total)


def _apart(node: Node) -> Node:
    """Takes a node's matrix apart into translation, rotation and scale, which may be animated."""
    matrix = node.matrix if node.matrix is not None else np.eye(4)
    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    if np.linalg.det(matrix[:3, :3]) < 0:
        scale[0] = -scale[0]
    turn = torch.from_numpy(matrix[:3, :3] / np.where(scale == 0, 1, scale))
    w, x, y, z = rotations_to_quats(turn).tolist()
    return replace(
        node, translation=matrix[:3, 3], rotation=np.array([x, y, z, w]), scale=scale, matrix=None
    )
