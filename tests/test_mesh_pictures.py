"""Models look as their materials say, to the sample."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gltf_builder import QUAD, QUAD_FACES, QUAD_UV, Builder, png, sliding_quad, srgb

from gs4d.camera import orbit_cameras
from gs4d.clip import Orbit
from gs4d.mesh import UNLIT, AnimatedMesh, Lighting, load_animated_mesh
from gs4d.mesh.draw import SAMPLES
from gs4d.native import kernels


def load(b: Builder, tmp_path: Path, clip: str | None = None) -> AnimatedMesh:
    return load_animated_mesh(b.save(tmp_path / "model.glb"), clip)


def picture(
    mesh: AnimatedMesh, *, azimuth: float = 0.0, size: int = 24, lighting: Lighting = UNLIT
) -> np.ndarray:
    return mesh.views([0.0], [Orbit(azimuth=azimuth)], size, size, lighting=lighting)[0]


def reference(mesh: AnimatedMesh, orbit: Orbit, size: int) -> np.ndarray:
    """Opaque, unlit, single-sided triangles with vertex colours, ray by ray.

    Moeller and Trumbore 1997, in float64.
    """
    cameras = orbit_cameras([orbit.azimuth], [orbit.elevation], width=size, height=size)
    pose, K, origin = (
        cameras.T_camera_world[0].double(),
        cameras.K[0].double(),
        cameras.centers[0].double().numpy(),
    )
    place = (np.arange(size * SAMPLES) + 0.5) / SAMPLES
    x, y = np.meshgrid(
        (place - float(K[0, 2])) / float(K[0, 0]), (place - float(K[1, 2])) / float(K[1, 1])
    )
    rays = np.stack([x, y, np.ones_like(x)], -1) @ pose[:3, :3].numpy()
    nearest, light = np.full(x.shape, np.inf), np.zeros((*x.shape, 3))
    part = mesh.parts[0]
    vertices, colors = mesh.at(0.0).vertices, part.colors
    assert colors is not None
    for face in part.faces:
        a, first, second = (
            vertices[face[0]],
            vertices[face[1]] - vertices[face[0]],
            vertices[face[2]] - vertices[face[0]],
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            across = np.cross(rays, second)
            determinant = across @ first
            u = across @ (origin - a) / determinant
            turned = np.cross(origin - a, first)
            v, depth = rays @ turned / determinant, second @ turned / determinant
            hit = (
                (determinant > 0)
                & (u >= 0)
                & (v >= 0)
                & (u + v <= 1)
                & (depth > 0)
                & (depth < nearest)
            )
        mixed = (
            (1 - u - v)[..., None] * colors[face[0]]
            + u[..., None] * colors[face[1]]
            + v[..., None] * colors[face[2]]
        )
        nearest[hit], light[hit] = depth[hit], mixed[hit][:, :3]
    covered = np.isfinite(nearest)
    encoded = np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
    )

    def mean(values: np.ndarray) -> np.ndarray:
        return values.reshape(size, SAMPLES, size, SAMPLES, -1).mean((1, 3))

    alpha = mean(covered[..., None].astype(float))
    return (
        np.concatenate([mean(encoded * covered[..., None]) / np.maximum(alpha, 1e-9), alpha], -1)
        * 255
    )


@pytest.mark.parametrize("orbit", [Orbit(), Orbit(130.0, 40.0), Orbit(250.0, -60.0)])
def test_pictures_are_those_of_a_ray_tracer(tmp_path: Path, orbit: Orbit):
    rng = np.random.default_rng(5)
    b = Builder()
    colors = b.accessor(rng.random((36, 3)).astype(np.float32))
    normals = b.accessor(np.ones((36, 3), np.float32))
    b.node(
        mesh=b.mesh(
            rng.normal(size=(36, 3)).astype(np.float32),
            material=b.material(),
            COLOR_0=colors,
            NORMAL=normals,
        )
    )
    mesh = load(b, tmp_path)
    got = mesh.views([0.0], [orbit], 40, 40)[0].astype(float)
    want = reference(mesh, orbit, 40)
    assert (want[..., 3] > 0).mean() > 0.05
    difference = np.abs(got - want)
    # one sample on an edge may fall either way
    assert difference[..., 3].max() <= 255 / SAMPLES**2 + 1
    inside = (want[..., 3] > 250) & (got[..., 3] > 250)
    assert np.quantile(difference[inside], 0.99) <= 1.0


def test_no_number_of_threads_and_no_gap_shows(tmp_path: Path):
    rng = np.random.default_rng(1)
    b = Builder()
    grid = np.stack(
        np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 30), indexing="ij"), -1
    ).reshape(-1, 2)
    points = np.concatenate(
        [grid + 0.01 * rng.normal(size=grid.shape), 0.1 * rng.normal(size=(900, 1))], 1
    ).astype(np.float32)
    corner = (np.arange(29)[:, None] * 30 + np.arange(29)).reshape(-1)
    faces = np.concatenate(
        [corner, corner + 30, corner + 31, corner, corner + 31, corner + 1]
    ).reshape(2, 3, -1)
    faces = faces.transpose(0, 2, 1).reshape(-1).astype(np.uint16)
    b.node(mesh=b.mesh(points, faces, material=b.material(doubleSided=True)))
    mesh = load(b, tmp_path)
    pictures = []
    for threads in (1, 3):
        kernels.set_num_threads(threads)
        pictures.append(picture(mesh, size=90))
    assert np.array_equal(*pictures)
    assert (pictures[0][30:60, 30:60, 3] == 255).all()


def test_edges_are_soft_and_colour_under_nothing_is_nothing(tmp_path: Path):
    b = sliding_quad(color=(0.25, 0.5, 1.0, 1.0))
    got = load(b, tmp_path).views([0.0], [Orbit(radius=3.0)], 33, 33, lighting=UNLIT)[0]
    alpha = got[..., 3].astype(float) / 255
    # of the square, after fitting: 3 x 2 units reach sqrt(1.5^2 + 1) from their middle
    side = 2 * 0.6 / math.sqrt(1.5**2 + 1)
    pixels = side / 3.0 * 33 / 2 / math.tan(math.radians(49.13 / 2))
    assert alpha.sum() == pytest.approx(pixels**2, rel=0.03)
    assert ((alpha > 0.05) & (alpha < 0.95)).any()
    assert np.allclose(got[got[..., 3] > 0][:, :3], [srgb(0.25), srgb(0.5), 255], atol=1)
    assert not got[got[..., 3] == 0].any()


def test_light_comes_from_above_and_from_the_lamp(tmp_path: Path):
    b = Builder()
    normals = np.array([[0, 1, 0]] * 4 + [[0, -1, 0]] * 4, np.float32)
    both = np.concatenate([QUAD * 0.5 + [0, 1, 0], QUAD * 0.5 - [0, 1, 0]]).astype(np.float32)
    faces = np.concatenate([QUAD_FACES, QUAD_FACES + 4]).astype(np.uint16)
    b.node(mesh=b.mesh(both, faces, material=b.material(unlit=False), NORMAL=b.accessor(normals)))
    mesh = load(b, tmp_path)
    lighting = Lighting(
        sky=(0.5, 0.5, 0.5), ground=(0.1, 0.1, 0.2), lamp=(0.2, 0.0, 0.0), direction=(0.0, 3.0, 0.0)
    )
    got = picture(mesh, lighting=lighting)
    rows = np.flatnonzero((got[..., 3] == 255).any(1))
    middle = got.shape[1] // 2
    assert np.allclose(got[rows[0], middle, :3], [srgb(0.7), srgb(0.5), srgb(0.5)], atol=1)
    assert np.allclose(got[rows[-1], middle, :3], [srgb(0.1), srgb(0.1), srgb(0.2)], atol=1)
    default = picture(mesh, lighting=Lighting())
    assert default[rows[0], middle, 0] > 2 * default[rows[-1], middle, 0]


def test_backs_are_hidden_unless_double_sided_and_their_normals_turn(tmp_path: Path):
    b = Builder()
    b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=b.material()))
    mesh = load(b, tmp_path)
    assert picture(mesh)[12, 12, 3] == 255
    assert not picture(mesh, azimuth=180.0).any()
    b = Builder()
    b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=b.material(doubleSided=True, unlit=False)))
    mesh = load(b, tmp_path)
    lamp = Lighting(
        sky=(0.0, 0.0, 0.0), ground=(0.0, 0.0, 0.0), lamp=(1.0, 1.0, 1.0), direction=(0.0, 0.0, 1.0)
    )
    assert picture(mesh, lighting=lamp)[12, 12, :3].tolist() == [255, 255, 255]
    assert picture(mesh, azimuth=180.0, lighting=lamp)[12, 12].tolist() == [0, 0, 0, 255]


def test_mirrored_nodes_show_their_outside(tmp_path: Path):
    b = Builder()
    b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=b.material()), scale=[-1, 1, 1])
    mesh = load(b, tmp_path)
    assert picture(mesh)[12, 12, 3] == 255
    assert np.allclose(mesh.at(0.0).normals, [0, 0, 1])


FOUR = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]]
CORNERS = {(8, 8): 0, (8, 15): 1, (15, 8): 2, (15, 15): 3}  # of a quad in a picture of 24 pixels


@pytest.mark.parametrize(
    ("scale", "offset", "wrap", "expected"),
    [
        ([1, 1], [0, 0], 10497, [0, 1, 2, 3]),
        ([1, 1], [1.5, 0], 10497, [1, 0, 3, 2]),
        ([1, 1], [1, 0], 33648, [1, 0, 3, 2]),
        ([1, 1], [-7, 0], 33071, [0, 0, 2, 2]),
        ([-1, 1], [1, 0], 33071, [1, 0, 3, 2]),
    ],
)
def test_textures_lie_the_right_way_and_go_on_beyond_their_edges(
    tmp_path: Path, scale: list[float], offset: list[float], wrap: int, expected: list[int]
):
    b = Builder()
    texture = b.texture(png=png(FOUR), magFilter=9728, wrapS=wrap, wrapT=wrap)
    turn = {"KHR_texture_transform": {"scale": scale, "offset": offset}}
    material = b.material(texture=texture, uv_extensions=turn)
    b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=material, TEXCOORD_0=b.accessor(QUAD_UV)))
    got = picture(load(b, tmp_path))
    colors = np.array(FOUR).reshape(4, 3)
    assert [got[place][:3].tolist() for place in CORNERS] == [colors[k].tolist() for k in expected]


def test_the_texture_transform_turns_and_may_choose_other_coordinates(tmp_path: Path):
    b = Builder()
    texture = b.texture(png=png(FOUR), magFilter=9728)
    turn = {"KHR_texture_transform": {"rotation": math.pi / 2, "offset": [0, 1], "texCoord": 1}}
    material = b.material(texture=texture, uv_extensions=turn)
    zero, uv = b.accessor(np.zeros((4, 2), np.float32)), b.accessor(QUAD_UV)
    b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=material, TEXCOORD_0=zero, TEXCOORD_1=uv))
    # (u, v) becomes (v, 1 - u): what is upper left reads lower left
    got = picture(load(b, tmp_path))
    assert got[8, 8, :3].tolist() == FOUR[1][0]
    assert got[8, 15, :3].tolist() == FOUR[0][0]


def test_fine_textures_are_averaged_where_they_are_seen_small(tmp_path: Path):
    b = Builder()
    board = 255 * (np.indices((512, 512)).sum(0) % 2)[..., None].repeat(3, 2)
    material = b.material(texture=b.texture(png=png(board)))
    b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=material, TEXCOORD_0=b.accessor(QUAD_UV)))
    got = picture(load(b, tmp_path))[8:16, 8:16, :3]
    assert np.allclose(got, srgb(0.5), atol=2)


@pytest.mark.parametrize(
    ("fields", "alpha", "expected"),
    [
        ({"alphaMode": "OPAQUE"}, 0.3, [255, 0, 0, 255]),
        ({"alphaMode": "MASK"}, 0.3, [0, 255, 0, 255]),
        ({"alphaMode": "MASK", "alphaCutoff": 0.2}, 0.3, [255, 0, 0, 255]),
        ({"alphaMode": "BLEND"}, 0.4, [102, 153, 0, 255]),
    ],
)
def test_alpha_hides_cuts_or_blends(
    tmp_path: Path, fields: dict[str, Any], alpha: float, expected: list[int]
):
    b = Builder()
    b.node(
        mesh=b.mesh(QUAD, QUAD_FACES, material=b.material((0, 1, 0, 1))), translation=[0, 0, -0.5]
    )
    b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=b.material((1, 0, 0, alpha), **fields)))
    assert np.allclose(picture(load(b, tmp_path))[12, 12], expected, atol=1)


def test_what_blends_over_nothing_keeps_its_colour(tmp_path: Path):
    b = Builder()
    b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=b.material((1, 0, 0, 0.4), alphaMode="BLEND")))
    assert np.allclose(picture(load(b, tmp_path))[12, 12], [255, 0, 0, 102], atol=1)


def test_emission_adds_to_the_light(tmp_path: Path):
    b = Builder()
    b.node(
        mesh=b.mesh(
            QUAD,
            QUAD_FACES,
            material=b.material((0, 0, 0, 1), unlit=False, emissiveFactor=[0, 0.5, 1]),
        )
    )
    assert np.allclose(
        picture(load(b, tmp_path), lighting=Lighting())[12, 12, :3], [0, srgb(0.5), 255], atol=1
    )


def test_a_missing_texture_leaves_the_colour_with_a_warning(tmp_path: Path):
    b = Builder()
    material = b.material((0, 1, 0, 1), texture=b.texture(uri="Textures/lost.png"))
    b.node(mesh=b.mesh(QUAD, QUAD_FACES, material=material, TEXCOORD_0=b.accessor(QUAD_UV)))
    mesh = load(b, tmp_path)
    assert "lost.png" in mesh.warnings[0]
    assert picture(mesh)[12, 12].tolist() == [0, 255, 0, 255]
