"""Animated models stand where glTF says, and Gaussians cover them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gltf_builder import QUAD, QUAD_FACES, QUAD_UV, Builder, png, sliding_quad, srgb

from gs4d.errors import UserError
from gs4d.geometry import SH_C0, covariances
from gs4d.mesh import AnimatedMesh, load_animated_mesh, surface_gaussians

ROOT = Path(__file__).parent.parent
TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
HALF = math.sqrt(0.5)


def load(b: Builder, tmp_path: Path, clip: str | None = None) -> AnimatedMesh:
    return load_animated_mesh(b.save(tmp_path / "model.glb"), clip)


def stand(mesh: AnimatedMesh, time: float) -> np.ndarray:
    """Vertices in the file's own space."""
    placement = np.linalg.inv(mesh.placement)
    return mesh.at(time).vertices @ placement[:3, :3].T + placement[:3, 3]


# --- motion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interpolation", "values", "expected"),
    [
        ("LINEAR", [[0, 0, 0], [4, 0, 0]], 1.0),
        ("STEP", [[0, 0, 0], [4, 0, 0]], 0.0),
        # Hermite with tangents 0 and 2 per second over 2 s at s = 1/4: 4 (3 s^2 - 2 s^3) + 2 * 2
        # (s^3 - s^2) = 0.625 - 0.1875
        ("CUBICSPLINE", [[9, 0, 0], [0, 0, 0], [0, 0, 0], [2, 0, 0], [4, 0, 0], [9, 0, 0]], 0.4375),
    ],
)
def test_positions_between_keys(
    tmp_path: Path, interpolation: str, values: list[Any], expected: float
):
    b = Builder()
    node = b.node(mesh=b.mesh(TRIANGLE))
    b.animate(node, "translation", [0, 2], values, interpolation)
    mesh = load(b, tmp_path)
    assert mesh.duration == 2
    assert np.allclose(stand(mesh, 0.25), np.add(TRIANGLE, [expected, 0, 0]), atol=1e-6)
    assert np.allclose(stand(mesh, 1.0), np.add(TRIANGLE, [4, 0, 0]), atol=1e-6)


def test_rotations_take_the_short_way_at_even_speed(tmp_path: Path):
    b = Builder()
    node = b.node(mesh=b.mesh(TRIANGLE))
    # 90 degrees about z, written with -w
    b.animate(node, "rotation", [0, 1], [[0, 0, 0, 1], [0, 0, -HALF, -HALF]])
    mesh = load(b, tmp_path)
    turn = math.radians(30)
    expected = (
        TRIANGLE
        @ np.array(
            [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]]
        ).T
    )
    assert np.allclose(stand(mesh, 1 / 3), expected, atol=1e-6)


def test_cubic_rotations_are_brought_back_to_unit_length(tmp_path: Path):
    b = Builder()
    node, zero = b.node(mesh=b.mesh(TRIANGLE)), [0, 0, 0, 0]
    b.animate(
        node,
        "rotation",
        [0, 1],
        [zero, [0, 0, 0, 1], zero, zero, [0, 0, 1, 0], zero],
        "CUBICSPLINE",
    )
    # half way to 180 degrees
    assert np.allclose(
        stand(load(b, tmp_path), 0.5), TRIANGLE[:, [1, 0, 2]] * [-1, 1, 1], atol=1e-6
    )


def test_children_follow_their_parents_and_matrices_may_be_animated_over(tmp_path: Path):
    b = Builder()
    # scale 2, then along x by 5; column by column
    matrix = [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 5, 0, 0, 1]
    parent = b.node(matrix=matrix)
    b.node(parent=parent, mesh=b.mesh(TRIANGLE), translation=[0, 0, 3], scale=[1, 10, 1])
    b.animate(parent, "translation", [0, 1], [[5, 0, 0], [7, 0, 0]])
    expected = TRIANGLE * [2, 20, 2] + [6, 0, 6]
    assert np.allclose(stand(load(b, tmp_path), 0.5), expected, atol=1e-5)


def test_keys_hold_before_the_first_and_after_the_last(tmp_path: Path):
    b = Builder()
    first, second = b.node(mesh=b.mesh(TRIANGLE)), b.node(mesh=b.mesh(TRIANGLE))
    b.animate(first, "translation", [1, 2], [[1, 0, 0], [2, 0, 0]])
    b.animate(second, "translation", [0, 4], [[0, 0, 0], [4, 0, 0]])
    mesh = load(b, tmp_path)
    for time, x in ((0.0, 1.0), (0.25, 1.0), (0.375, 1.5), (0.9, 2.0)):
        assert np.allclose(stand(mesh, time)[:3], np.add(TRIANGLE, [x, 0, 0]), atol=1e-6)


def test_skins_blend_joints_and_ignore_their_own_node(tmp_path: Path):
    b = Builder()
    # where the weight is zero, anything may stand
    joints = np.array([[0, 1, 99, 0], [1, 0, 0, 0], [0, 1, 0, 0]], np.uint16)
    # a sum of two counts as one
    weights = np.array([[1, 0, 0, 0], [2, 0, 0, 0], [0.25, 0.75, 0, 0]], np.float32)
    mesh = b.mesh(TRIANGLE, JOINTS_0=b.accessor(joints), WEIGHTS_0=b.accessor(weights))
    root = b.node(translation=[0, 0, 1])
    hip, knee = b.node(parent=root), b.node(parent=root, translation=[1, 0, 0])
    inverse = np.stack([np.eye(4), np.eye(4)]).astype(np.float32)
    inverse[1, 0, 3] = -1  # the knee is bound where it stands, but for the root's shift
    b.node(mesh=mesh, skin=b.skin([hip, knee], inverse), translation=[50, 60, 70])
    b.animate(knee, "rotation", [0, 1], [[0, 0, 0, 1], [0, 0, HALF, HALF]])
    got = stand(load(b, tmp_path), 1.0)
    # a quarter about (1, 0)
    turned = TRIANGLE @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + [1, -1, 1]
    expected = [
        TRIANGLE[0] + [0, 0, 1],
        turned[1],
        0.25 * (TRIANGLE[2] + [0, 0, 1]) + 0.75 * turned[2],
    ]
    assert np.allclose(got, expected, atol=1e-6)


def test_morph_targets_add_up_by_animated_weights(tmp_path: Path):
    b = Builder()
    up, normal_up = (
        np.tile(np.array([[0, 0, 2]], np.float32), (3, 1)),
        np.tile(np.array([[1, 0, -1]], np.float32), (3, 1)),
    )
    aside = np.tile(np.array([[3, 0, 0]], np.float32), (3, 1))
    targets = [
        {"POSITION": b.accessor(up), "NORMAL": b.accessor(normal_up)},
        {"POSITION": b.accessor(aside)},
    ]
    normals = b.accessor(np.tile(np.array([[0, 0, 1]], np.float32), (3, 1)))
    node = b.node(mesh=b.mesh(TRIANGLE, targets=targets, weights=[0.0, 0.5], NORMAL=normals))
    b.animate(node, "weights", [0, 1], [0, 0.5, 1, 0.5])
    mesh = load(b, tmp_path)
    assert np.allclose(stand(mesh, 0.5), np.add(TRIANGLE, [1.5, 0, 1]), atol=1e-6)
    assert np.allclose(mesh.at(1.0).normals, [1, 0, 0], atol=1e-6)


def test_quantized_positions_are_scaled_by_their_node(tmp_path: Path):
    b = Builder()
    b.gltf.extensionsUsed = b.gltf.extensionsRequired = ["KHR_mesh_quantization"]
    # rows padded to 8 bytes
    quantized = np.array([[0, 0, 0, 0], [32767, 0, 0, 0], [0, 32767, 0, 0]], np.int16)
    mesh = b.mesh(TRIANGLE)
    b.gltf.meshes[mesh].primitives[0].attributes.POSITION = b.accessor(
        quantized, type="VEC3", bufferView=b.view(quantized.tobytes(), stride=8), normalized=True
    )
    b.node(mesh=mesh, scale=[4, 4, 4], translation=[1, 0, 0])
    assert np.allclose(stand(load(b, tmp_path), 0.0), np.add(4 * TRIANGLE, [1, 0, 0]), atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(4, [[0, 1, 2]]), (5, [[0, 1, 2], [2, 1, 3]]), (6, [[0, 1, 2], [0, 2, 3]])],
)
def test_triangles_strips_and_fans(tmp_path: Path, mode: int, expected: list[list[int]]):
    b = Builder()
    # with normals, vertices are not split
    normals = b.accessor(np.tile(np.array([[0, 0, 1]], np.float32), (4, 1)))
    b.node(mesh=b.mesh(QUAD, np.arange(4, dtype=np.uint8), mode=mode, NORMAL=normals))
    assert load(b, tmp_path).parts[0].faces.tolist() == expected


def test_faces_without_normals_are_flat_and_follow_the_motion(tmp_path: Path):
    b = Builder()
    node = b.node(mesh=b.mesh(QUAD, QUAD_FACES))
    b.animate(node, "rotation", [0, 1], [[0, 0, 0, 1], [0, HALF, 0, HALF]])
    mesh = load(b, tmp_path)
    assert np.allclose(mesh.at(0.0).normals, [0, 0, 1], atol=1e-6)
    assert np.allclose(mesh.at(1.0).normals, [1, 0, 0], atol=1e-6)


def test_the_first_clip_that_moves_is_taken_and_others_by_name(tmp_path: Path):
    b = Builder()
    node = b.node(mesh=b.mesh(TRIANGLE))
    b.animate(node, "translation", [0, 1], [[0, 0, 0], [0, 0, 0]], clip="Rest")
    b.animate(node, "translation", [0, 3], [[0, 0, 0], [9, 0, 0]], clip="Run")
    mesh = load(b, tmp_path)
    assert (mesh.clips, mesh.clip, mesh.duration) == (("Rest", "Run"), "Run", 3.0)
    assert load(b, tmp_path, "Rest").clip == "Rest"
    with pytest.raises(
        UserError, match=r"no clip named 'run'.*did you mean 'Run'.*there are: Rest, Run"
    ):
        load(b, tmp_path, "run")


def test_only_the_shown_scene_counts(tmp_path: Path):
    b = Builder()
    b.node(mesh=b.mesh(TRIANGLE))
    b.gltf.nodes.append(b.gltf.nodes[0])  # a second node with the mesh, in no scene
    mesh = load(b, tmp_path)
    assert len(mesh.parts) == 1
    assert mesh.clip is None


def test_the_whole_clip_fits_into_the_sphere(tmp_path: Path):
    mesh = load(sliding_quad(), tmp_path).fitted([0.0, 0.5, 1.0])
    ends = np.concatenate([mesh.at(t).vertices for t in (0.0, 1.0)])
    assert np.linalg.norm(ends, axis=1).max() == pytest.approx(0.6)
    assert np.allclose(ends.min(0) + ends.max(0), 0, atol=1e-12)


def test_z_can_be_up(tmp_path: Path):
    b = Builder()
    b.node(mesh=b.mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 0, 4]], np.float32)))
    vertices = load_animated_mesh(b.save(tmp_path / "a.glb"), up="z").at(0.0).vertices
    assert np.argmax(np.ptp(vertices, axis=0)) == 1
    assert vertices[2, 1] > vertices[0, 1]


# --- Gaussians ------------------------------------------------------------------------------------


def test_surface_gaussians_lie_on_the_surface_and_follow_it(tmp_path: Path):
    b = Builder()
    node = b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=b.material((0.25, 0.5, 1.0, 1.0))))
    b.animate(node, "scale", [0, 1], [[1, 1, 1], [0.5, 1, 1]])
    mesh = load(b, tmp_path)
    cover = surface_gaussians(mesh, 500, seed=3)
    before, after = cover.at(0.0), cover.at(1.0)
    assert before.count == after.count == 500
    side = 0.6 * math.sqrt(2)
    assert before.means[:, 2].abs().max() < 1e-6
    assert before.means[:, :2].abs().max() <= side / 2 + 1e-6
    counts = np.histogram2d(
        *before.means[:, :2].numpy().T, bins=4, range=[[-side / 2, side / 2]] * 2
    )[0]
    assert counts.min() > 0.6 * 500 / 16  # evenly spread
    assert torch.allclose(after.means, before.means * torch.tensor([0.5, 1.0, 1.0]), atol=1e-6)
    sigma = cover.sigma
    wide, narrow = (covariances(g.quats, g.log_scales) for g in (before, after))
    thin = (0.1 * sigma) ** 2
    assert torch.allclose(
        wide, torch.diag(torch.tensor([sigma**2, sigma**2, thin])).expand_as(wide), atol=1e-7
    )
    assert torch.allclose(
        narrow,
        torch.diag(torch.tensor([sigma**2 / 4, sigma**2, thin])).expand_as(narrow),
        atol=1e-7,
    )
    colors = (0.5 + SH_C0 * before.sh[:, 0]) * 255
    assert torch.allclose(
        colors, torch.tensor([srgb(0.25), srgb(0.5), 255.0]).expand_as(colors), atol=1.0
    )


def test_cut_out_texels_carry_no_gaussians(tmp_path: Path):
    b = Builder()
    texture = b.texture(png=png([[[255, 0, 0, 255], [0, 0, 0, 0]]]), magFilter=9728)
    material = b.material(texture=texture, alphaMode="MASK")
    b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=material, TEXCOORD_0=b.accessor(QUAD_UV)))
    cover = surface_gaussians(load(b, tmp_path), 400).at(0.0)
    assert 150 < cover.count < 250
    assert cover.means[:, 0].max() <= 0
