"""Animated models as other exporters write them.

Late keys, one clip per object, mirrored skins, extensions, bad weights.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gltf_builder import QUAD, QUAD_FACES, Builder, sliding_cross, sliding_quad

from gs4d.clip import Orbit
from gs4d.errors import UserError
from gs4d.intake.mesh import MeshOptions, make_clip
from gs4d.io.glb import read_glb
from gs4d.io.gltf import GltfFile
from gs4d.mesh import AnimatedMesh, load_animated_mesh

EXTENSION = "KHR_materials_pbrSpecularGlossiness"


def load(b: Builder, tmp_path: Path, clip: str | None = None) -> AnimatedMesh:
    return load_animated_mesh(b.save(tmp_path / "model.glb"), clip)


def edited(b: Builder, tmp_path: Path, **changes: Any) -> Path:
    """Saved as .gltf, with top-level entries of its JSON replaced."""
    path = b.save(tmp_path / "model.gltf")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


# --- time -----------------------------------------------------------------------------------------


def test_frames_lie_between_the_first_key_and_the_last(tmp_path: Path):
    b = Builder()
    node = b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=b.material(doubleSided=True)))
    b.animate(node, "translation", [4, 4.9, 5], [[0, 0, 0], [0, 0, 0], [1, 0, 0]])
    b.animate(node, "scale", [0, 9], [[1, 1, 1], [1, 1, 1]])
    mesh = load(b, tmp_path)
    assert (mesh.begin, mesh.duration) == (4.0, 1.0)
    assert mesh.moves()
    make_clip(
        MeshOptions(
            path=tmp_path / "model.glb",
            data_dir=tmp_path,
            frames=4,
            size=16,
            sync=False,
            eval=False,
            loop=False,
        )
    )
    assert np.allclose(
        json.loads((tmp_path / "model_mesh.json").read_text())["times"],
        [4, 4 + 1 / 3, 4 + 2 / 3, 5],
    )
    with pytest.raises(UserError, match="lasts from 4 to 5 s"):
        make_clip(
            MeshOptions(path=tmp_path / "model.glb", data_dir=tmp_path / "b", start=5.5, size=16)
        )


def test_a_motion_between_the_looks_is_found(tmp_path: Path):
    b = Builder()
    node = b.node(mesh=b.mesh(QUAD, QUAD_FACES))
    b.animate(
        node,
        "translation",
        [0, 0.3, 0.32, 0.34, 1],
        [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]],
    )
    assert load(b, tmp_path).clip is not None


# --- clips ----------------------------------------------------------------------------------------


def objects(*clips: tuple[int, str]) -> Builder:
    """Two quads; each clip moves one of them, and bears a name."""
    b = Builder()
    nodes = [b.node(mesh=b.mesh(QUAD, QUAD_FACES), translation=[3 * k, 0, 0]) for k in range(2)]
    for which, name in clips:
        b.animate(nodes[which], "rotation", [0, 1], [[0, 0, 0, 1], [0, 0, 1, 0]], clip=name)
    return b


def moving(mesh: AnimatedMesh) -> list[bool]:
    change = np.abs(mesh.at(0.5).vertices - mesh.at(0.0).vertices).max(1)
    return [bool(part.max() > 0.01) for part in np.split(change, 2)]


def test_clips_that_share_no_node_are_one_motion(tmp_path: Path):
    b = objects((0, "left"), (1, "right"))
    mesh = load(b, tmp_path)
    assert (mesh.clip, mesh.clips, moving(mesh)) == (
        "left + right",
        ("left + right",),
        [True, True],
    )
    assert moving(load(b, tmp_path, "left")) == [True, False]


def test_clips_that_share_nodes_are_alternatives(tmp_path: Path):
    mesh = load(objects((0, "walk"), (0, "run"), (1, "spin")), tmp_path)
    assert mesh.clips == ("walk + spin", "run + spin")
    b = objects((0, "idle"), (1, "sit"))
    both = (
        b.gltf.animations[0].channels[0].target.node,
        b.gltf.animations[1].channels[0].target.node,
    )
    for node in both:
        b.animate(node, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]], clip="jump")
    # what a third clip ties together are poses of one body
    assert len(load(b, tmp_path).clips) == 3


# --- skins ----------------------------------------------------------------------------------------


def skinned(weights: list[list[float]], scale: list[float], *, normals: bool = True) -> Builder:
    """A quad that faces +z, on a skeleton below a node of some scale."""
    b = Builder()
    joints = np.array([[1, 0, 0, 0]] * 4, np.uint16)
    extra = {"NORMAL": b.accessor(np.tile(np.float32([0, 0, 1]), (4, 1)))} if normals else {}
    attributes = {
        "JOINTS_0": b.accessor(joints),
        "WEIGHTS_0": b.accessor(np.array(weights, np.float32)),
        **extra,
    }
    mesh = b.mesh(QUAD, QUAD_FACES, material=b.material(), **attributes)
    root = b.node(scale=scale)
    hips = [b.node(parent=root), b.node(parent=root)]
    b.node(mesh=mesh, skin=b.skin(hips, np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))))
    b.animate(hips[1], "translation", [0, 1], [[0, 0, 0], [0.5, 0, 0]])
    return b


@pytest.mark.parametrize("normals", [True, False])
@pytest.mark.parametrize("scale", [[1, 1, 1], [-1, 1, 1]])
def test_mirrored_skeletons_keep_the_outside_outside(
    tmp_path: Path, scale: list[float], normals: bool
):
    mesh = load(skinned([[1, 0, 0, 0]] * 4, scale, normals=normals), tmp_path)
    front, back = mesh.views([0.0, 0.0], [Orbit(0.0), Orbit(180.0)], 32, 32)
    assert (front[..., 3].max(), back[..., 3].max()) == (255, 0)
    assert np.allclose(mesh.at(0.0).normals, [0, 0, 1])


def test_weights_that_are_no_numbers_fall_back_to_the_first_joint(tmp_path: Path):
    nan = math.nan
    mesh = load(
        skinned([[nan, nan, nan, nan], [0, 0, 0, 0], [2, 0, 0, 0], [1, -1, 0, 0]], [1, 1, 1]),
        tmp_path,
    )
    assert (
        "2 of 4 vertices of primitive 0 of mesh 0 have skin weights that are zero or no numbers"
        in mesh.warnings[0]
    )
    # all four moved alike
    assert np.allclose(*(np.diff(mesh.at(t).vertices, axis=0) for t in (0.0, 1.0)), atol=1e-6)


# --- extensions and textures ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["KHR_materials_transmission", "KHR_texture_basisu", "VRMC_vrm", "KHR_draco_mesh_compression"],
)
def test_what_is_required_and_not_understood_is_refused_by_name(tmp_path: Path, name: str):
    with pytest.raises(UserError, match=name):
        load_animated_mesh(edited(sliding_quad(), tmp_path, extensionsRequired=[name]))


def test_extensions_that_are_no_names_get_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="requires the extension"):
        load_animated_mesh(edited(sliding_quad(), tmp_path, extensionsRequired=[["KHR_x"]]))


def test_specular_glossiness_replaces_the_other_model(tmp_path: Path):
    b = sliding_cross()
    b.gltf.materials[0].extensions = {EXTENSION: {"diffuseFactor": [1.0, 0.0, 0.0, 1.0]}}
    picture = load(b, tmp_path).views([0.0], [Orbit(20.0, 10.0)], 32, 32)[0]
    assert (picture[picture[..., 3] == 255][:, 1] == 0).all()


def test_a_texture_without_a_picture_is_said_in_plain_words(tmp_path: Path):
    b = sliding_quad()
    document = json.loads(edited(b, tmp_path).read_text())
    document["materials"][0]["pbrMetallicRoughness"] = {"baseColorTexture": {"index": 0}}
    for texture, said in (
        ({}, "it names no picture"),
        ({"extensions": {"KHR_texture_basisu": {"source": 0}}}, "only as KHR_"),
    ):
        path = edited(b, tmp_path, materials=document["materials"], textures=[texture])
        assert said in load_animated_mesh(path).warnings[0]


def test_hidden_nodes_repeated_meshes_and_pointers(tmp_path: Path):
    b = sliding_quad()
    shift = b.accessor(np.array([[0, 0, 0], [0, 5, 0], [0, 0, 5]], np.float32))
    b.gltf.nodes[0].extensions = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": shift}}}
    hidden = b.node(
        mesh=b.mesh(QUAD, QUAD_FACES), extensions={"KHR_node_visibility": {"visible": False}}
    )
    b.node(parent=hidden, mesh=b.mesh(QUAD, QUAD_FACES))
    mesh = load(b, tmp_path)
    assert len(mesh.at(0.0).vertices) == 18
    assert (
        np.ptp(mesh.at(0.0).vertices, axis=0)[1]
        > 3 * np.ptp(mesh.at(0.0).vertices, axis=0)[0] - 1e-6
    )
    document = json.loads(edited(sliding_quad(), tmp_path).read_text())
    target = {
        "path": "pointer",
        "extensions": {"KHR_animation_pointer": {"pointer": "/materials/0/alphaCutoff"}},
    }
    document["animations"][0]["channels"].append({"sampler": 0, "target": target})
    said = load_animated_mesh(
        edited(sliding_quad(), tmp_path, animations=document["animations"])
    ).warnings
    assert any("/materials/0/alphaCutoff" in sentence for sentence in said)


def test_draco_without_a_fallback_is_refused_even_if_it_is_not_required(tmp_path: Path):
    b = sliding_quad()
    document = json.loads(edited(b, tmp_path).read_text())
    del document["accessors"][0]["bufferView"]
    document["meshes"][0]["primitives"][0]["extensions"] = {
        "KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {}}
    }
    with pytest.raises(UserError, match="is compressed with KHR_draco_mesh_compression"):
        load_animated_mesh(
            edited(b, tmp_path, accessors=document["accessors"], meshes=document["meshes"])
        )


def test_the_scene_that_moves_is_drawn(tmp_path: Path):
    b = sliding_quad()
    still = b.node(mesh=b.mesh(QUAD, QUAD_FACES))
    path = edited(b, tmp_path, scenes=[{"nodes": [still]}, {"nodes": [0]}], scene=0)
    mesh = load_animated_mesh(path)
    assert mesh.clip is not None
    assert "scene 1 is drawn" in mesh.warnings[0]


def test_parts_may_appear_by_a_scale_of_zero(tmp_path: Path):
    b = Builder()
    node = b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=b.material(doubleSided=True)))
    b.animate(node, "scale", [0, 1, 2], [[0, 0, 0], [1, 1, 1], [1, 1, 1]], "STEP")
    mesh = load(b, tmp_path)
    before, after = mesh.views([0.25, 0.75], [Orbit(), Orbit()], 32, 32)
    assert (before[..., 3].max(), after[..., 3].max()) == (0, 255)


# --- memory and damage ----------------------------------------------------------------------------


def test_arrays_without_data_are_bounded_by_the_file(tmp_path: Path):
    document = json.loads(edited(sliding_quad(), tmp_path).read_text())
    del document["accessors"][0]["bufferView"]
    document["accessors"][0]["count"] = 2**26
    with pytest.raises(UserError, match="MB of memory for accessor 0"):
        load_animated_mesh(edited(sliding_quad(), tmp_path, accessors=document["accessors"]))


@pytest.mark.parametrize(
    "nodes",
    [
        [[["mesh", 0]]],
        [3],
        [{"mesh": "x"}],
        [{"extensions": 3, "mesh": 0}],
        [{"weights": {}, "mesh": 0}],
    ],
)
def test_nodes_of_any_kind_get_a_sentence_or_are_drawn(tmp_path: Path, nodes: list[Any]):
    path = edited(sliding_quad(), tmp_path, nodes=nodes)
    for read in (load_animated_mesh, read_glb, GltfFile):
        with suppress(UserError):
            read(path)
