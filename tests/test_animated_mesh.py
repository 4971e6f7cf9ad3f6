"""The animated mesh: a closed surface around the Gaussians that moves with them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib
import pytest
import torch
from test_export import Lift, toy_asset
from toys import blobs

from gs4d.asset import Asset
from gs4d.clip import Orbit
from gs4d.errors import UserError
from gs4d.export import ExportOptions
from gs4d.export.mesh import Skin, write_mesh
from gs4d.export.surface import Surface, surface_of, vertex_normals
from gs4d.motion import DeltaMotion

FACES = 1500


@pytest.fixture(scope="module")
def asset() -> Asset:
    return toy_asset(frames=4)


@pytest.fixture(scope="module")
def skin(asset: Asset) -> Skin:
    return Skin.of(asset, FACES)


@pytest.fixture(scope="module")
def folder(asset: Asset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mesh") / "mesh"
    write_mesh(path, asset, ExportOptions(faces=FACES, fps=4.0, frames=4))
    return path


@pytest.fixture(scope="module")
def surface() -> Surface:
    return surface_of(blobs(0.0), FACES)


def test_the_surface_is_closed_and_faces_outwards(surface: Surface):
    assert 0.5 * FACES < len(surface.faces) <= FACES
    edges = surface.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    kinds = torch.unique(edges, dim=0, return_counts=True)
    assert (
        kinds[1] == 1
    ).all()  # each edge once in each direction: closed, and all faces turned alike
    assert torch.equal(kinds[0], torch.unique(edges.flip(1), dim=0))
    center = torch.where(
        surface.vertices[:, :1] < 0, torch.tensor([-0.2, 0.0, 0.0]), torch.tensor([0.22, 0.0, 0.05])
    )
    away = surface.vertices - center
    # nothing inside the balls of radius 0.16 plus the width of the Gaussians
    assert away.norm(dim=1).min() > 0.15
    assert away.norm(dim=1).max() < 0.26
    outward = (vertex_normals(surface.vertices, surface.faces) * away).sum(1) / away.norm(dim=1)
    assert outward.mean() > 0.95


def test_its_colours_are_those_of_the_pictures(surface: Surface):
    red, blue = (
        surface.colors[side]
        for side in (surface.vertices[:, 0] < -0.1, surface.vertices[:, 0] > 0.15)
    )
    assert red.mean(0).tolist() == pytest.approx([0.9, 0.2, 0.1], abs=0.05)
    assert blue.mean(0).tolist() == pytest.approx([0.1, 0.3, 0.8], abs=0.05)


def test_vertices_follow_the_gaussians_around_them(asset: Asset, skin: Skin):
    first, last = skin.at_times(asset, torch.tensor([0.0, 1.0]))
    left, right = first[:, 0] < -0.1, first[:, 0] > 0.15
    assert (last - first)[left].mean(0).tolist() == pytest.approx([0.0, 0.15, 0.0], abs=0.01)
    assert (last - first)[right].abs().max() < 0.01


class Turn(DeltaMotion):
    """Everything turns by a right angle about y through the origin, as one rigid body."""

    def moves(self, means: torch.Tensor, times: torch.Tensor) -> dict[str, torch.Tensor]:
        angle = times * torch.pi / 2
        c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        rows = [
            torch.stack(row, -1) for row in ((c, zero, s), (zero, zero + 1, zero), (-s, zero, c))
        ]
        to = torch.einsum("tij,nj->tni", torch.stack(rows, 1), means)
        half = torch.zeros(len(times), len(means), 3)
        half[..., 1] = (angle / 2).tan()[:, None]
        return {"position": to - means, "rotation": half}


def test_a_rigid_turn_turns_the_mesh():
    asset = Asset(blobs(0.0), Turn(), 2, {"input": (Orbit(),)})
    skin = Skin.of(asset, FACES)
    first, last = skin.at_times(asset, torch.tensor([0.0, 1.0]))
    wanted = torch.stack([first[:, 2], first[:, 1], -first[:, 0]], 1)
    assert (last - wanted).abs().max() < 1e-4


def accessor(gltf: Any, index: int) -> np.ndarray:
    a = gltf.accessors[index]
    view = gltf.bufferViews[a.bufferView]
    kind = {5126: np.float32, 5125: np.uint32, 5123: np.uint16}[a.componentType]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[a.type]
    return np.frombuffer(gltf.binary_blob(), kind, a.count * width, view.byteOffset or 0).reshape(
        a.count, width
    )


def test_the_glb_plays_the_same_motion_elsewhere(folder: Path, asset: Asset, skin: Skin):
    gltf: Any = pygltflib.GLTF2.load_binary(folder / "mesh.glb")
    primitive = gltf.meshes[0].primitives[0]
    base = accessor(gltf, primitive.attributes.POSITION)
    faces = torch.from_numpy(accessor(gltf, primitive.indices).reshape(-1, 3).astype(np.int64))
    sampler = gltf.animations[0].samplers[0]
    times = accessor(gltf, sampler.input)[:, 0]
    weights = accessor(gltf, sampler.output).reshape(len(times), -1)
    assert (times[0], times[-1]) == (0.0, pytest.approx(0.75))  # four frames at four per second
    assert gltf.animations[0].channels[0].target.path == "weights"
    for t in (0.0, 0.5, 1.0):
        w = np.array(
            [np.interp(t * times[-1], times, weights[:, k]) for k in range(weights.shape[1])]
        )
        played = base + sum(
            a * accessor(gltf, target["POSITION"])
            for a, target in zip(w, primitive.targets, strict=True)
        )
        wanted = skin.at_times(asset, torch.tensor([t]))[0]
        assert np.abs(played - wanted.numpy()).max() < 2e-3
        normals = accessor(gltf, primitive.attributes.NORMAL)
        normals = normals + sum(
            a * accessor(gltf, target["NORMAL"])
            for a, target in zip(w, primitive.targets, strict=True)
        )
        assert (torch.from_numpy(normals) * vertex_normals(wanted, faces)).sum(1).median() > 0.99
    color = accessor(gltf, primitive.attributes.COLOR_0)[base[:, 0] < -0.1] / 65535
    # linear light
    assert color.mean(0).tolist() == pytest.approx([0.79, 0.033, 0.01, 1.0], abs=0.06)


def test_the_objs_are_the_frames(folder: Path, asset: Asset, skin: Skin):
    assert sorted(p.name for p in folder.iterdir()) == [
        *(f"{i:04d}.obj" for i in range(4)),
        "mesh.glb",
    ]
    rows = [line.split() for line in (folder / "0003.obj").read_text().splitlines()]
    points = np.array([row[1:] for row in rows if row[0] == "v"], float)
    assert np.abs(points[:, :3] - skin.at_times(asset, torch.tensor([1.0]))[0].numpy()).max() < 1e-4
    faces = np.array(
        [[int(corner.split("//")[0]) for corner in row[1:]] for row in rows if row[0] == "f"]
    )
    assert np.array_equal(faces - 1, skin.surface.faces.numpy())


def test_haze_has_no_surface():
    haze = blobs(0.0).replace(logit_opacities=torch.full((800,), -8.0))
    with pytest.raises(UserError, match="no Gaussian is opaque enough"):
        surface_of(haze, FACES)


def test_a_still_asset_gives_a_still_mesh(tmp_path: Path):
    write_mesh(
        tmp_path / "mesh",
        Asset(blobs(0.0), Lift(), 1, {"input": (Orbit(),)}),
        ExportOptions(faces=FACES),
    )
    gltf: Any = pygltflib.GLTF2.load_binary(tmp_path / "mesh" / "mesh.glb")
    assert gltf.animations == []
    assert [p.name for p in sorted(tmp_path.glob("mesh/*"))] == ["0000.obj", "mesh.glb"]


@pytest.mark.parametrize(
    ("package", "module", "sentence"),
    [("open3d", "gs4d.export.surface", "gs4d[mesh]"), ("viser", "gs4d.view.live", "gs4d[viewer]")],
)
def test_what_is_not_installed_is_named(package: str, module: str, sentence: str):
    code = f"import sys; sys.modules[{package!r}] = None\nfrom gs4d.cli import guarded\n"
    code += "from importlib import import_module\n"
    code += f"sys.exit(guarded(lambda _: import_module({module!r}), []))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr
