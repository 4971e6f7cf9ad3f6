"""Reads splats from glTF 2.0 files, ours and others'.

KHR_gaussian_splatting, and what moves them, as docs/format.md says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..clip import Orbit
from ..gaussians import Gaussians
from ..geometry import SH_C0, quat_multiply, quats_to_rotations, rotations_to_quats, sh_rotation
from .foreign import foreign
from .gltf import GltfFile

SPLATS = "KHR_gaussian_splatting"
# Attributes of morph targets, the fields of Gaussians that they change, and their kind.
MOVES = {
    "POSITION": ("means", "VEC3"),
    "_ROTATION": ("quats", "VEC4"),
    "_LOG_SCALE": ("log_scales", "VEC3"),
    "_LOGIT_OPACITY": ("logit_opacities", "SCALAR"),
    "_SH_DEGREE_0": ("sh", "VEC3"),
}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
# columns of a quaternion as gs4d and as glTF order them, for the other
XYZW, WXYZ = ([1, 2, 3, 0], [3, 0, 1, 2])
# beyond, logarithm and logit are too large to go on with
SMALLEST_SCALE, MOST_OPAQUE = (1e-10, 1 - 1e-6)


@dataclass(frozen=True)
class GlbSplats:
    """Gaussians of a glTF file and their motion, in world space.

    The motion is that of ``gs4d.motion.LowRank``.

    Attributes:
        gaussians: where nothing has moved them.
        times: of the keyframes, from 0 to 1; one where nothing moves.
        weights: of every target at every keyframe.
        deltas: name of a field -> (k or fewer, n, columns), added to it times the first weights.
        frames: of the clip, from the first keyframe to the last.
        orbits: of the cameras that saw it, by name; empty in files of others.
    """

    gaussians: Gaussians
    times: Float[Tensor, " t"]
    weights: Float[Tensor, "t k"]
    deltas: dict[str, Tensor]
    frames: int
    orbits: dict[str, Orbit]


def read_glb(path: Path) -> GlbSplats:
    """Reads all splats of a .glb or .gltf file, as its nodes place them.

    Scales are linear, as the ratified extension has them; where one is negative, all are zero, or
    the type is signed, the file follows the drafts before, whose scales are logarithms. Linear
    colours become sRGB, in which gs4d blends; those that depend on the direction approximately so.
    Of other kernels, projections and sorting methods the default is drawn.

    Raises:
        UserError: the file is absent, damaged, compressed or without splats, or moves them in a way
            that is not supported.
    """
    with foreign(path, "glTF"):
        return _read(path)


def _read(path: Path) -> GlbSplats:
    file = GltfFile(path, extensions=frozenset({SPLATS}))
    found: list[GlbSplats] = []
    for index, world in _meshes(file):
        node = file.item("nodes", index, "scene")
        mesh = file.item("meshes", node.mesh, f"node {index}")
        for number, primitive in enumerate(
            file.objects(mesh.primitives, f"primitives of mesh {node.mesh}")
        ):
            if isinstance(_mapping(primitive.extensions).get(SPLATS), dict):
                where = f"primitive {number} of mesh {node.mesh}"
                found.append(
                    _placed(file, _primitive(file, index, mesh, primitive, where), world, where)
                )
    if not found:
        raise file.error(f"holds no splats ({SPLATS}); `gs4d mesh` reads models made of triangles")
    if len(found) == 1:
        return found[0]
    if any(splats.deltas for splats in found):
        raise file.error(
            "moves one of several sets of splats, which is not supported; join them into one "
            "before exporting"
        )
    k = max(splats.gaussians.sh.shape[1] for splats in found)
    joined = {
        name: torch.cat([_field(s.gaussians, name, k) for s in found])
        for name, _ in found[0].gaussians.items()
    }
    return replace(found[0], gaussians=Gaussians(**joined))


def _field(gaussians: Gaussians, name: str, k: int) -> Tensor:
    field = getattr(gaussians, name)
    return torch.nn.functional.pad(field, (0, 0, 0, k - field.shape[1])) if name == "sh" else field


def _meshes(file: GltfFile) -> Iterator[tuple[int, Float[np.ndarray, "4 4"]]]:
    """The nodes of the scene that show a mesh, and their transforms to world space."""
    nodes = file.items("nodes")
    if file.items("scenes"):
        scene = file.item("scenes", file.document.get("scene", 0), "scene")
        roots = file.list_of(scene.nodes, "nodes of the scene")
    else:
        # of a library without a scene: all, as far as no other shows them
        roots = list(range(len(nodes)))
    waiting = [(index, np.eye(4)) for index in reversed(roots)]
    seen: set[int] = set()
    while waiting:
        index, above = waiting.pop()
        node = file.item("nodes", index, "a node's children")
        if index in seen:
            if not file.items("scenes"):
                continue
            raise file.damaged(f"node {index} has two parents")
        seen.add(index)
        world = above @ _local(file, node, f"node {index}")
        if node.mesh is not None:
            yield index, world
        waiting += [
            (child, world)
            for child in reversed(file.list_of(node.children, f"children of node {index}"))
        ]


def _local(file: GltfFile, node: Any, where: str) -> Float[np.ndarray, "4 4"]:
    if node.matrix:
        return np.array(file.numbers(node.matrix, f"matrix of {where}", 16)).reshape(4, 4).T
    x, y, z, w = file.numbers(node.rotation or [0, 0, 0, 1], f"rotation of {where}", 4)
    scale = file.numbers(node.scale or [1, 1, 1], f"scale of {where}", 3)
    local = np.eye(4)
    local[:3, :3] = (
        quats_to_rotations(torch.tensor([w, x, y, z], dtype=torch.float64)).numpy() * scale
    )
    local[:3, 3] = file.numbers(node.translation or [0, 0, 0], f"translation of {where}", 3)
    return local


# --- one primitive, in the space of its node ------------------------------------------------------


def _primitive(file: GltfFile, index: int, mesh: Any, primitive: Any, where: str) -> GlbSplats:
    gaussians = _gaussians(file, primitive, where)
    scene = (
        file.item("scenes", file.document.get("scene", 0), "scene")
        if file.items("scenes")
        else None
    )
    extras = _ours(scene)
    orbits = {
        str(name): _orbit(file, orbit) for name, orbit in _mapping(extras.get("orbits")).items()
    }
    still = GlbSplats(gaussians, torch.zeros(1), torch.zeros(1, 0), {}, 1, orbits)
    targets = [
        _mapping(target) for target in file.list_of(primitive.targets, f"targets of {where}")
    ]
    if not targets:
        return still
    times, weights = _weights(file, index, mesh, len(targets))
    units = _mapping(_ours(mesh).get("units"))
    deltas = {}
    for name, (field, kind) in MOVES.items():
        used = [k for k, target in enumerate(targets) if name in target]
        if not used:
            continue
        count = used[-1] + 1
        unit = (
            file.numbers(units[name], f"units of {name}", count) if name in units else [1.0] * count
        )
        file.require_memory(
            4 * count * gaussians.count * WIDTHS[kind], f"{name} of {count} targets of {where}"
        )
        table = np.zeros((count, gaussians.count, WIDTHS[kind]), np.float32)
        for k in used:
            values = _attribute(
                file, targets[k][name], f"{name} of target {k} of {where}", kind, gaussians.count
            )
            table[k] = values.reshape(table.shape[1:]) * np.float32(unit[k])
        deltas[field] = torch.from_numpy(table[..., WXYZ] if field == "quats" else table)
    frames = file.integer(extras.get("frames", len(times)), "frames of the scene", 1, 10**6)
    return replace(
        still, times=times, weights=weights, deltas=deltas, frames=frames if len(times) > 1 else 1
    )


def _gaussians(file: GltfFile, primitive: Any, where: str) -> Gaussians:
    extension = file.extension(primitive, SPLATS)
    packed = [name for name in _mapping(extension.get("extensions")) if "compression" in name]
    if packed:
        raise file.error(
            f"has splats compressed with {packed[0]:.60}; export them without compression"
        )
    attributes = primitive.attributes
    means = file.floats(attributes.get("POSITION"), f"POSITION of {where}", "VEC3")

    def attribute(name: str, kind: str) -> np.ndarray:
        return _attribute(
            file, attributes.get(f"{SPLATS}:{name}"), f"{name} of {where}", kind, len(means)
        )

    scales = attribute("SCALE", "VEC3")
    signed = file.item("accessors", attributes[f"{SPLATS}:SCALE"], where).componentType in (
        5120,
        5122,
    )
    log_scales = (
        scales
        if signed or scales.min() < 0 or scales.max() == 0
        else np.log(np.maximum(scales, SMALLEST_SCALE))
    )
    opacities = np.clip(attribute("OPACITY", "SCALAR"), 1 - MOST_OPAQUE, MOST_OPAQUE)
    if f"{SPLATS}:SH_DEGREE_0_COEF_0" in attributes:
        degrees = [
            degree for degree in (1, 2, 3) if f"{SPLATS}:SH_DEGREE_{degree}_COEF_0" in attributes
        ]
        names = [
            f"SH_DEGREE_{degree}_COEF_{n}"
            for degree in (0, *degrees)
            for n in range(2 * degree + 1)
        ]
        if degrees != [1, 2, 3][: len(degrees)]:
            raise file.damaged(f"{where} lacks a degree of spherical harmonics below another")
        sh = np.stack([attribute(name, "VEC3") for name in names], 1)
        linear = extension.get("colorSpace") == "lin_rec709_display"
    else:  # kernels with another model of light have at least a colour to fall back to
        colors = _attribute(
            file, attributes.get("COLOR_0"), f"COLOR_0 of {where}", ("VEC3", "VEC4"), len(means)
        )
        sh, linear = (colors[:, None, :3] - 0.5) / SH_C0, True
    return Gaussians(
        means=torch.from_numpy(means.copy()),
        quats=torch.from_numpy(attribute("ROTATION", "VEC4")[:, WXYZ].copy()),
        log_scales=torch.from_numpy(log_scales.astype(np.float32)),
        logit_opacities=torch.from_numpy(np.log(opacities / (1 - opacities)).astype(np.float32)),
        sh=torch.from_numpy((_to_srgb(sh) if linear else sh).astype(np.float32)),
    )


def _attribute(
    file: GltfFile, index: Any, where: str, kind: str | tuple[str, ...], count: int
) -> np.ndarray:
    values = file.floats(index, where, *((kind,) if isinstance(kind, str) else kind))
    if len(values) != count:
        raise file.damaged(f"{where} has {len(values)} elements, wanted {count}")
    return values


def _to_srgb(sh: Float[np.ndarray, "n k 3"]) -> Float[np.ndarray, "n k 3"]:
    """Coefficients of linear colours as those of sRGB colours.

    Exact for degree 0, the others to first order.
    """
    color = np.maximum(0.5 + SH_C0 * sh[:, :1], 0)
    curved = color > 0.0031308
    power = np.where(curved, color, 1.0) ** (1 / 2.4)
    encoded = np.where(curved, 1.055 * power - 0.055, 12.92 * color)
    slope = np.where(curved, 1.055 / 2.4 * power / np.where(curved, color, 1.0), 12.92)
    return np.concatenate([(encoded - 0.5) / SH_C0, sh[:, 1:] * slope], 1)


def _weights(
    file: GltfFile, index: int, mesh: Any, count: int
) -> tuple[Float[Tensor, " t"], Float[Tensor, "t k"]]:
    """Returns times and weights of the targets of node ``index``.

    Of its animation where there is one, else what the file sets them to.
    """
    for number in range(len(file.items("animations"))):
        animation = file.item("animations", number, "file")
        for channel in file.objects(animation.channels, f"channels of animation {number}"):
            if (
                channel.target is None
                or channel.target.path != "weights"
                or channel.target.node != index
            ):
                continue
            where = f"animation {number}"
            samplers = file.objects(animation.samplers, f"samplers of {where}")
            sampler = samplers[
                file.integer(channel.sampler, f"sampler of {where}", 0, len(samplers) - 1)
            ]
            if sampler.interpolation not in (None, "LINEAR"):
                raise file.error(
                    f"interpolates its motion by {sampler.interpolation!s:.20}, wanted LINEAR; "
                    "bake it to that"
                )
            seconds = torch.from_numpy(
                file.floats(sampler.input, f"times of {where}", "SCALAR").astype(np.float64)
            )
            values = _attribute(
                file, sampler.output, f"weights of {where}", "SCALAR", len(seconds) * count
            )
            if (seconds.diff() <= 0).any():
                raise file.damaged(f"the times of {where} do not increase")
            times = (seconds - seconds[0]) / (seconds[-1] - seconds[0]).clamp_min(1e-30)
            return times.float(), torch.from_numpy(values.reshape(-1, count).copy())
    rest = file.item("nodes", index, "scene").weights or mesh.weights or [0.0] * count
    return torch.zeros(1), torch.tensor([file.numbers(rest, "weights", count)])


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _ours(holder: Any) -> dict[str, Any]:
    """Returns what gs4d wrote into the extras of a scene or mesh."""
    return _mapping(_mapping(getattr(holder, "extras", None)).get("gs4d"))


def _orbit(file: GltfFile, value: Any) -> Orbit:
    names = [field.name for field in fields(Orbit)]
    numbers = file.numbers([_mapping(value).get(name) for name in names], "an orbit", len(names))
    return Orbit(**dict(zip(names, numbers, strict=True)))


# --- from the space of the node to the world ------------------------------------------------------


def _placed(
    file: GltfFile, splats: GlbSplats, world: Float[np.ndarray, "4 4"], where: str
) -> GlbSplats:
    """In world space.

    A transform that is no more than turn, even scale and shift also carries a motion along.
    """
    linear, shift = torch.from_numpy(world[:3, :3].copy()), torch.from_numpy(world[:3, 3].copy())
    left, stretch, right = torch.linalg.svd(linear)
    if not float(stretch[-1]) > 1e-12 or not float(stretch[0]) < 1e12:
        raise file.error(
            f"squeezes {where} to nothing or beyond all measure; apply sensible transforms before "
            "exporting"
        )
    turn = left @ right
    g, deltas = splats.gaussians, dict(splats.deltas)
    if stretch[0] - stretch[-1] < 1e-5 * stretch[0] and torch.linalg.det(turn) > 0:
        quat = rotations_to_quats(turn).float()
        quats, log_scales = quat_multiply(quat, g.quats), g.log_scales + float(stretch[0].log())
        if "quats" in deltas:
            deltas["quats"] = quat_multiply(quat, deltas["quats"])
    elif set(deltas) <= {"means"}:
        half = linear.float() @ (quats_to_rotations(g.quats) * g.log_scales.exp()[:, None, :])
        axes, widths, _ = torch.linalg.svd(half)
        # an axis may point either way: make the three right-handed
        axes[:, :, 2] *= torch.linalg.det(axes)[:, None]
        quats, log_scales = rotations_to_quats(axes), widths.clamp_min(SMALLEST_SCALE).log()
    else:
        raise file.error(
            f"turns and shears {where} at once, which is not supported; apply its transform before "
            "exporting"
        )
    if "means" in deltas:
        deltas["means"] = deltas["means"] @ linear.float().T
    moved = Gaussians(
        means=(g.means.double() @ linear.T + shift).float(),
        quats=quats,
        log_scales=log_scales,
        logit_opacities=g.logit_opacities,
        sh=sh_rotation(turn, g.sh_degree).float() @ g.sh,
    )
    return replace(splats, gaussians=moved, deltas=deltas)
