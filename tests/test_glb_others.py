"""Splats in glTF files of other people, and of liars."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving import moving_asset, random_gaussians, shape_error, strayed
from plain_glb import KHR, Plain, edit

from gs4d.errors import UserError
from gs4d.export.glb import write_glb
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0, covariances, sh_basis
from gs4d.io.glb import read_glb
from gs4d.io.glb_writer import GlbWriter
from gs4d.motion import LowRank
from gs4d.open_asset import read_asset


def foreign(
    path: Path,
    gaussians: Gaussians,
    node: dict[str, Any],
    change: Callable[[dict[str, Any]], None] = lambda _: None,
) -> None:
    """A static file as other exporters write it: floats, linear scales."""
    writer = GlbWriter({"asset": {"version": "2.0"}, "extensionsUsed": [KHR]})
    g = gaussians.replace(quats=torch.nn.functional.normalize(gaussians.quats, dim=1))
    names = [
        f"SH_DEGREE_{degree}_COEF_{n}"
        for degree in range(g.sh_degree + 1)
        for n in range(2 * degree + 1)
    ]
    attributes = {
        "POSITION": writer.array(g.means.numpy(), "f4", bounds=True),
        f"{KHR}:ROTATION": writer.array(g.quats[:, [1, 2, 3, 0]].numpy(), "f4"),
        f"{KHR}:SCALE": writer.array(g.log_scales.exp().numpy(), "f4"),
        f"{KHR}:OPACITY": writer.array(torch.sigmoid(g.logit_opacities).numpy(), "f4"),
        **{f"{KHR}:{name}": writer.array(g.sh[:, i].numpy(), "f4") for i, name in enumerate(names)},
    }
    extension = {KHR: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}}
    writer.document |= {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"children": [1], **node}, {"mesh": 0}],
        "meshes": [
            {"primitives": [{"mode": 0, "attributes": attributes, "extensions": extension}]}
        ],
    }
    change(writer.document)
    writer.write(path)


# a quarter turn, twice as large
MOVE = [[0.0, -2.0, 0.0, 1.0], [2.0, 0.0, 0.0, -3.0], [0.0, 0.0, 2.0, 0.5], [0.0, 0.0, 0.0, 1.0]]
SHEAR = [[1.0, 0.5, 0.0, 0.0], [0.0, 1.0, 0.2, 0.0], [0.0, 0.0, 3.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
MIRROR = [[-1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("matrix", [MOVE, SHEAR, MIRROR], ids=["move", "shear", "mirror"])
def test_nodes_place_shapes_and_colors(tmp_path: Path, matrix: list[list[float]]):
    g = random_gaussians(50, degree=3)
    foreign(tmp_path / "a.glb", g, {"matrix": np.array(matrix).T.flatten().tolist()})
    placed = read_glb(tmp_path / "a.glb").gaussians
    linear, shift = torch.tensor(matrix)[:3, :3], torch.tensor(matrix)[:3, 3]
    assert (placed.means - (g.means @ linear.T + shift)).abs().max() < 1e-5
    wanted = linear @ covariances(g.quats, g.log_scales) @ linear.T
    error = (covariances(placed.quats, placed.log_scales) - wanted).norm(dim=(1, 2)) / wanted.norm(
        dim=(1, 2)
    )
    assert error.max() < 1e-4
    # what a shear does to colours that depend on the direction is anyone's choice
    if matrix is not SHEAR:
        direction = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.7]), dim=0)
        turn = linear / torch.linalg.det(linear).abs() ** (1 / 3)
        before, after = (
            torch.einsum("k,nkc->nc", sh_basis(d, 3), s)
            for d, s in ((direction, g.sh), (turn @ direction, placed.sh))
        )
        assert (before - after).abs().max() < 1e-4


def test_nodes_may_turn_by_quaternions_and_stack(tmp_path: Path):
    g = random_gaussians(20)
    half = math.sqrt(0.5)
    foreign(
        tmp_path / "a.glb",
        g,
        {"rotation": [0, 0, half, half], "scale": [2, 2, 2], "translation": [1, -3, 0.5]},
    )
    by_matrix = tmp_path / "b.glb"
    matrix = [*map(list, MOVE)]
    matrix[0][3] = 1.0
    foreign(by_matrix, g, {"matrix": np.array(matrix).T.flatten().tolist()})
    a, b = read_glb(tmp_path / "a.glb").gaussians, read_glb(by_matrix).gaussians
    assert strayed(a, b).max() < 1e-5
    assert shape_error(a, b) < 1e-5


def test_an_animated_file_of_ours_may_be_placed_by_others(tmp_path: Path):
    asset = moving_asset()
    write_glb(tmp_path / "a.glb", asset, tolerance=1e-3)
    edited = edit(
        tmp_path / "a.glb",
        lambda d: d["nodes"].append(
            {"children": [0], "matrix": np.array(MOVE).T.flatten().tolist()}
        ),
    )
    edited = edit(edited, lambda d: d["scenes"][0].update(nodes=[len(d["nodes"]) - 1]))
    held = read_glb(edited)
    now = (
        LowRank(held.times, held.weights, held.deltas)
        .at_times(held.gaussians, torch.ones(1))
        .at_view(0)
    )
    linear, shift = torch.tensor(MOVE)[:3, :3], torch.tensor(MOVE)[:3, 3]
    truth = asset.at(1.0)
    assert (now.means - (truth.means @ linear.T + shift)).norm(dim=1).quantile(0.9) < 5e-3
    wanted = linear @ covariances(truth.quats, truth.log_scales) @ linear.T
    assert (
        (covariances(now.quats, now.log_scales) - wanted).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))
    ).max() < 0.1


def test_several_sets_become_one(tmp_path: Path):
    def twice(document: dict[str, Any]) -> None:
        document["nodes"].append({"mesh": 0, "translation": [1, 0, 0]})
        document["scenes"][0]["nodes"] = [0, 2]

    foreign(tmp_path / "a.glb", random_gaussians(10), {}, twice)
    both = read_glb(tmp_path / "a.glb").gaussians
    assert both.count == 20
    assert (both.means[10:] - both.means[:10] - torch.tensor([1.0, 0.0, 0.0])).abs().max() < 1e-6


def test_drafts_with_logarithmic_scales_are_seen(tmp_path: Path):
    g = random_gaussians(10)
    # exp(exp(s)) - as if it were linear
    foreign(tmp_path / "a.glb", g.replace(log_scales=g.log_scales.exp()), {})
    writer_sees = read_glb(tmp_path / "a.glb").gaussians.log_scales
    assert (writer_sees - g.log_scales.exp()).abs().max() < 1e-5

    def logs(document: dict[str, Any]) -> None:
        document["accessors"][2] |= {"componentType": 5120}  # a signed type
        document["bufferViews"][2] |= {"byteStride": 4, "byteLength": 40}

    foreign(tmp_path / "b.glb", g, {}, logs)
    whole_numbers = read_glb(tmp_path / "b.glb").gaussians.log_scales
    assert torch.equal(whole_numbers, whole_numbers.round())


def test_linear_colors_become_srgb(tmp_path: Path):
    g = random_gaussians(10)
    g = g.replace(sh=torch.full_like(g.sh, (0.2140 - 0.5) / SH_C0))

    def linear(document: dict[str, Any]) -> None:
        document["meshes"][0]["primitives"][0]["extensions"][KHR]["colorSpace"] = (
            "lin_rec709_display"
        )

    foreign(tmp_path / "a.glb", g, {}, linear)
    assert (0.5 + SH_C0 * read_glb(tmp_path / "a.glb").gaussians.sh - 0.5).abs().max() < 1e-3


def test_scenes_of_others_come_on_stage(tmp_path: Path):
    g = random_gaussians(300)
    foreign(
        tmp_path / "far.glb",
        g.replace(logit_opacities=torch.full((300,), 3.0)),
        {"translation": [50, 0, 0], "scale": [9, 9, 9]},
    )
    asset = read_asset(tmp_path / "far.glb")
    assert asset.at(0.0).means.norm(dim=1).max() < 0.8
    assert list(asset.orbits) == ["input"]


# --- lies -----------------------------------------------------------------------------------------


def primitive_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["meshes"][0]["primitives"][0]


LIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no splats": (lambda d: primitive_of(d).pop("extensions"), "holds no splats"),
    "compressed": (
        lambda d: primitive_of(d)["extensions"][KHR].update(
            extensions={f"{KHR}_compression_spz_2": {}}
        ),
        "compressed with KHR_gaussian_splatting_compression_spz_2",
    ),
    "no scale": (
        lambda d: primitive_of(d)["attributes"].pop(f"{KHR}:SCALE"),
        "SCALE of primitive 0 of mesh 0",
    ),
    "no rotation": (
        lambda d: primitive_of(d)["attributes"].pop(f"{KHR}:ROTATION"),
        "ROTATION of primitive 0 of mesh 0",
    ),
    "no color": (
        lambda d: [
            primitive_of(d)["attributes"].pop(n) for n in (f"{KHR}:SH_DEGREE_0_COEF_0", "COLOR_0")
        ],
        "COLOR_0 of primitive 0",
    ),
    "a degree is lacking": (
        lambda d: primitive_of(d)["attributes"].update({f"{KHR}:SH_DEGREE_2_COEF_0": 5}),
        "lacks a degree",
    ),
    "fewer opacities": (lambda d: d["accessors"][4].update(count=9), "has 9 elements, wanted 50"),
    "more positions than bytes": (
        lambda d: d["accessors"][0].update(count=10**8),
        "POSITION of primitive 0",
    ),
    "stretched to nothing": (lambda d: d["nodes"][0].update(scale=[0, 0, 0]), "squeezes"),
    "turned and sheared": (lambda d: d["nodes"][0].update(scale=[1, 2, 3]), "turns and shears"),
    "a circle of nodes": (lambda d: d["nodes"][0].update(children=[0]), "two parents"),
    "a node that is not": (lambda d: d["scenes"][0].update(nodes=[7]), "index into nodes"),
    "bent between keyframes": (
        lambda d: d["animations"][0]["samplers"][0].update(interpolation="CUBICSPLINE"),
        "CUBICSPLINE",
    ),
    "weights of another count": (
        lambda d: primitive_of(d)["targets"].pop(),
        "weights of animation 0",
    ),
    "too few units": (
        lambda d: d["meshes"][0]["extras"]["gs4d"]["units"].update(_ROTATION=[1.0]),
        "units of _ROTATION",
    ),
    "an orbit of words": (
        lambda d: d["scenes"][0]["extras"]["gs4d"]["orbits"].update(input="here"),
        "an orbit",
    ),
    "endless frames": (
        lambda d: d["scenes"][0]["extras"]["gs4d"].update(frames=1e300),
        "frames of the scene",
    ),
    "two animated sets": (
        lambda d: d["scenes"][0].update(nodes=[0, d["nodes"].append(dict(d["nodes"][0])) or 2]),
        "join them",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_one_sentence(tmp_path: Path, lie: str):
    change, message = LIES[lie]
    write_glb(tmp_path / "a.glb", moving_asset(50), tolerance=1e-3)
    with pytest.raises(UserError, match=message) as caught:
        read_asset(edit(tmp_path / "a.glb", change))
    assert "\n" not in str(caught.value)


def test_repeating_times_are_refused(tmp_path: Path):
    write_glb(tmp_path / "a.glb", moving_asset(50))
    plain = Plain(tmp_path / "a.glb")
    view = plain.json["bufferViews"][
        plain.json["accessors"][plain.json["animations"][0]["samplers"][0]["input"]]["bufferView"]
    ]
    data = bytearray(plain.bytes)
    start = plain.start + view["byteOffset"]
    data[start + 8 : start + 12] = data[start + 4 : start + 8]
    (tmp_path / "b.glb").write_bytes(data)
    with pytest.raises(UserError, match="do not increase"):
        read_glb(tmp_path / "b.glb")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    spoils=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.floats(0.3, 1.5),
)
def test_spoiled_bytes_are_an_error_or_gaussians(
    tmp_path: Path, spoils: list[tuple[float, int]], keep: float
):
    path = tmp_path / "a.glb"
    if not path.exists():
        write_glb(path, moving_asset(8, frames=3))
    data = bytearray(path.read_bytes())
    for place, value in spoils:
        data[int(place * (len(data) - 1))] = value
    (tmp_path / "b.glb").write_bytes(data[: int(min(keep, 1) * len(data))])
    try:
        asset = read_asset(tmp_path / "b.glb")
    except UserError:
        return
    assert asset.at(1.0).means.isfinite().all()
