"""The animated glTF that is written: its rules checked by a reader of its own, and its way back."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib
import pytest
import torch
from moving import moving_asset, random_gaussians, shape_error, strayed
from plain_glb import KHR, Plain
from torch import Tensor

from gs4d.asset import Asset
from gs4d.clip import Orbit, cameras_of
from gs4d.errors import UserError
from gs4d.export import ExportOptions, export
from gs4d.export.glb import TOLERANCE, size_of, write_glb
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0, quats_to_rotations
from gs4d.motion import DeltaMotion, FrameSequence, LowRank
from gs4d.open_asset import read_asset
from gs4d.render import render

DOCS = Path(__file__).parent.parent / "docs" / "format.md"


@pytest.fixture
def file(tmp_path: Path) -> Plain:
    write_glb(
        tmp_path / "ein Ding.glb",
        moving_asset(paints=True),
        tolerance=1e-3,
        fps=10.0,
        copyright="CC0",
    )
    return Plain(tmp_path / "ein Ding.glb")


def test_the_document_keeps_the_rules_of_gltf(file: Plain):
    document, (primitive,) = file.json, file.mesh["primitives"]
    assert document["asset"] == {
        "version": "2.0",
        "generator": document["asset"]["generator"],
        "copyright": "CC0",
    }
    assert document["extensionsUsed"] == [KHR, "KHR_mesh_quantization"]
    assert document["extensionsRequired"] == ["KHR_mesh_quantization"]
    assert primitive["mode"] == 0
    assert primitive["extensions"][KHR] == {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }
    places = [
        (v["byteOffset"], v["byteLength"], v.get("byteStride", 4)) for v in document["bufferViews"]
    ]
    ends = [0, *(offset + length for offset, length, _ in places)]
    assert all(
        offset % 4 == 0 and stride % 4 == 0 and offset >= end
        for (offset, _, stride), end in zip(places, ends, strict=False)
    )
    assert ends[-1] <= document["buffers"][0]["byteLength"] == file.bin
    for attributes in (primitive["attributes"], *primitive["targets"]):
        accessor = document["accessors"][attributes["POSITION"]]
        raw = file.raw(attributes["POSITION"])
        assert (accessor["min"], accessor["max"]) == (raw.min(0).tolist(), raw.max(0).tolist())
        assert set(attributes) <= set(primitive["attributes"])
        assert {document["accessors"][i]["count"] for i in attributes.values()} == {200}
    names = {
        i: name
        for i, name in enumerate(primitive["attributes"])
        if ":" not in name and name[0] != "_"
    }
    assert sorted(names.values()) == ["COLOR_0", "POSITION"]
    sampler = document["animations"][0]["samplers"][0]
    seconds = file.read(sampler["input"])[:, 0]
    assert seconds[0] == 0
    assert seconds[-1] == pytest.approx(0.6)
    assert (np.diff(seconds) > 0).all()
    weights = file.read(sampler["output"]).reshape(len(seconds), -1)
    assert len(primitive["targets"]) == weights.shape[1] == len(file.mesh["weights"])
    assert (weights[0] == 0).all()
    assert np.abs(weights).max() <= 1


def test_integers_are_used_to_the_full_and_never_beyond(file: Plain):
    for target in file.primitive["targets"]:
        for name, index in target.items():
            raw = file.raw(index)
            peak, most = np.abs(raw.astype(int)).max(), np.iinfo(raw.dtype).max
            assert (most / 2 < peak or not raw.any()) if name == "POSITION" else peak == most, name
            assert peak <= most
    assert file.read(file.primitive["attributes"][f"{KHR}:SCALE"]).min() > 0
    assert np.linalg.norm(
        file.read(file.primitive["attributes"][f"{KHR}:ROTATION"]), axis=1
    ) == pytest.approx(1, abs=1e-4)


def test_the_fallback_color_is_linear(file: Plain):
    shown = file.read(file.primitive["attributes"]["COLOR_0"])
    now = file.at(0.0)
    encoded = np.where(
        shown[:, :3] <= 0.0031308, 12.92 * shown[:, :3], 1.055 * shown[:, :3] ** (1 / 2.4) - 0.055
    )
    assert encoded == pytest.approx(now["color"].clip(0, 1), abs=0.03)
    assert shown[:, 3] == pytest.approx(now["opacity"], abs=0.003)


@pytest.mark.parametrize("t", [0.0, 1 / 3, 0.5, 0.77, 1.0])
def test_the_page_in_words_gives_the_asset(file: Plain, t: float):
    now, truth = file.at(t), moving_asset(paints=True).at(t)
    size = float((truth.means.amax(0) - truth.means.amin(0)).max())
    assert np.linalg.norm(now["position"] - truth.means.numpy(), axis=1).max() < 5e-3 * size
    assert (
        np.quantile(np.linalg.norm(now["position"] - truth.means.numpy(), axis=1), 0.9)
        < 1e-3 * size
    )
    drawn = random_gaussians().replace(
        quats=torch.from_numpy(now["rotation"][:, [3, 0, 1, 2]]).float(),
        log_scales=torch.from_numpy(np.log(now["scales"])).float(),
    )
    assert shape_error(truth, drawn) < 0.1
    assert now["opacity"] == pytest.approx(torch.sigmoid(truth.logit_opacities).numpy(), abs=0.02)
    assert now["color"] == pytest.approx(0.5 + SH_C0 * truth.sh[:, 0].numpy(), abs=0.02)


def test_pygltflib_reads_it(tmp_path: Path):
    write_glb(tmp_path / "a.glb", moving_asset())
    gltf = pygltflib.GLTF2().load(tmp_path / "a.glb")
    assert gltf is not None
    (primitive,) = gltf.meshes[0].primitives
    assert len(primitive.targets or []) == len(gltf.meshes[0].weights or [])
    assert len(gltf.binary_blob() or b"") == gltf.buffers[0].byteLength


def test_the_input_camera_stands_where_it_stood(file: Plain):
    node = next(node for node in file.json["nodes"] if "camera" in node)
    lens = file.json["cameras"][node["camera"]]["perspective"]
    x, y, z, w = node["rotation"]
    turn = quats_to_rotations(torch.tensor([w, x, y, z])).numpy()
    point = np.array([0.1, -0.2, 0.3])
    seen = turn.T @ (point - np.array(node["translation"]))
    focal = 50 / math.tan(lens["yfov"] / 2)
    pixel = np.array([75 + focal * seen[0] / -seen[2], 50 - focal * seen[1] / -seen[2]])
    camera = cameras_of([Orbit(20.0, 10.0, aspect=1.5)], width=150, height=100)
    ours = camera.K[0] @ (camera.T_camera_world[0] @ torch.tensor([0.1, -0.2, 0.3, 1.0]))[:3]
    assert pixel == pytest.approx((ours[:2] / ours[2]).numpy(), abs=1e-3)
    assert lens["aspectRatio"] == 1.5


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_there_and_back(tmp_path: Path, degree: int):
    asset = moving_asset(degree=degree, paints=True)
    write_glb(tmp_path / "a.glb", asset, tolerance=1e-3)
    back = read_asset(tmp_path / "a.glb")
    assert (back.frames, back.orbits) == (asset.frames, asset.orbits)
    cameras = cameras_of([Orbit(20.0, 10.0), Orbit(200.0, -30.0)], width=48, height=48)
    for t in (0.0, 0.4, 1.0):
        error = (render(back.at(t), cameras).rgb - render(asset.at(t), cameras).rgb).square().mean()
        assert -10 * error.log10() > 42
    assert torch.equal(back.at(0.0).sh[:, 1:], asset.gaussians.sh[:, 1:])


class Waves(DeltaMotion):
    """Far and near, fast and slow.

    As many modes as frames, most of them small, between the frames as well.
    """

    def moves(self, means: Tensor, times: Tensor) -> dict[str, Tensor]:
        x, y, z = means.unbind(1)
        t = times[:, None]
        small = 0.02 * torch.sin(9 * t + 20 * x) * torch.sin(5 * y)
        return {
            "position": torch.stack(
                [0.4 * t * t * y + small, 0.3 * torch.sin(4 * t + z) * (x > 0.3), small * z], -1
            )
        }


@pytest.mark.parametrize("frames", [5, 9, 40])
def test_no_center_is_further_off_than_was_asked(tmp_path: Path, frames: int):
    asset = Asset(random_gaussians(3000), Waves(), frames, {"input": (Orbit(),)})
    write_glb(tmp_path / "a.glb", asset)
    back, size = read_asset(tmp_path / "a.glb"), size_of(asset.at(0.0).means)

    def worst(times: Tensor) -> float:
        return (
            float((back.at_times(times).means - asset.at_times(times).means).norm(dim=-1).max())
            / size
        )

    assert worst(asset.times()) < TOLERANCE
    assert worst(asset.times(4 * frames - 3)) < 5 * TOLERANCE
    assert (tmp_path / "a.glb").stat().st_size < 150 * 3000


def test_later_modes_are_sparse_and_large_ones_are_cut_in_two(tmp_path: Path):
    asset = Asset(random_gaussians(3000), Waves(), 9, {"input": (Orbit(),)})
    write_glb(tmp_path / "a.glb", asset)
    plain = Plain(tmp_path / "a.glb")
    accessors = [
        plain.json["accessors"][target["POSITION"]] for target in plain.primitive["targets"]
    ]
    names = plain.mesh["extras"]["targetNames"]
    assert any("sparse" in accessor for accessor in accessors)
    assert [name for name in names if name.endswith(", coarse")]
    sampler = plain.json["animations"][0]["samplers"][0]
    weights = plain.read(sampler["output"]).reshape(-1, len(names))
    for i, name in enumerate(names):
        if name.endswith(", coarse"):
            assert names[i - 1] == name.removesuffix(", coarse")
            assert abs(np.corrcoef(weights[:, i - 1], weights[:, i])[0, 1]) == pytest.approx(1)
    for t in (0.0, 0.5, 1.0):
        assert plain.at(t)["position"] == pytest.approx(
            read_asset(tmp_path / "a.glb").at(t).means.numpy(), abs=1e-5
        )


def test_a_tighter_bound_is_closer_and_larger(tmp_path: Path):
    asset = moving_asset(1000)
    strays, sizes = [], []
    for tolerance in (0.02, 0.001):
        write_glb(tmp_path / "a.glb", asset, tolerance=tolerance)
        strays.append(
            np.quantile(strayed(read_asset(tmp_path / "a.glb").at(1.0), asset.at(1.0)), 0.99)
        )
        sizes.append((tmp_path / "a.glb").stat().st_size)
    assert strays[1] < strays[0] / 3
    assert sizes[0] < sizes[1] < 150 * 1000


def test_a_still_asset_has_no_targets(tmp_path: Path):
    write_glb(tmp_path / "a.glb", moving_asset(frames=1))
    plain = Plain(tmp_path / "a.glb")
    assert "animations" not in plain.json
    assert "targets" not in plain.primitive
    assert read_asset(tmp_path / "a.glb").frames == 1
    one = random_gaussians(1)
    write_glb(
        tmp_path / "b.glb",
        Asset(one, LowRank(torch.zeros(1), torch.zeros(1, 0), {}), 1, {"input": (Orbit(),)}),
    )
    assert strayed(read_asset(tmp_path / "b.glb").at(0.0), one).max() < 1e-6


def test_any_rate_and_loop_by_the_options(tmp_path: Path):
    (path,) = export(
        moving_asset(),
        tmp_path,
        "toy",
        ExportOptions(to=("glb",), fps=24.0, input_fps=8.0, loop=True),
    )
    plain = Plain(path)
    assert plain.json["scenes"][0]["extras"]["gs4d"]["frames"] == 2 * (3 * 6 + 1) - 1
    assert plain.at(1.0)["position"] == pytest.approx(plain.at(0.0)["position"], abs=1e-3)
    assert plain.at(0.5)["position"] == pytest.approx(
        moving_asset().at(1.0).means.numpy(), abs=2e-2
    )


def test_frames_that_are_not_of_the_same_gaussians_are_refused(tmp_path: Path):
    frames = [random_gaussians(5), random_gaussians(6)]
    asset = Asset(frames[0], FrameSequence(frames.__getitem__, 2), 2, {"input": (Orbit(),)})
    with pytest.raises(UserError, match="5 and 6 Gaussians"):
        write_glb(tmp_path / "a.glb", asset)
    assert list(tmp_path.iterdir()) == []


def test_the_worked_example_of_the_page(tmp_path: Path):
    """Two Gaussians, three frames, one mode.

    The bytes that docs/format.md shows are the bytes that are written.
    """
    still = Gaussians(
        means=torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]),
        log_scales=torch.tensor([[-4.0, -4.0, -4.0], [-3.0, -3.0, -3.0]]),
        logit_opacities=torch.tensor([0.0, 4.0]),
        sh=torch.tensor([[[1.0, 0.0, -1.0]], [[0.0, 0.0, 0.0]]]),
    )
    rise = {
        "means": torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.25, 0.0]]]),
        "log_scales": torch.tensor([[[0.0] * 3, [0.7] * 3]]),
    }
    motion = LowRank(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[0.0], [0.5], [1.0]]), rise)
    write_glb(tmp_path / "a.glb", Asset(still, motion, 3, {"input": (Orbit(),)}))
    plain = Plain(tmp_path / "a.glb")
    _, _, example = DOCS.read_text().partition("## Worked example")
    shown = json.loads(example.split("```json")[1].split("```")[0])
    shown["asset"]["generator"] = plain.json["asset"]["generator"]
    assert_alike(plain.json, shown)
    rows = [
        line.split("|")
        for line in example.splitlines()
        if line.startswith("| view ") and line[7].isdigit()
    ]
    contents = [bytes.fromhex(row[3]) for row in rows]
    written = [plain.read(i) for i in range(len(plain.json["accessors"]))]
    assert sum(map(len, contents)) == plain.bin
    plain.bytes = plain.bytes[: plain.start] + b"".join(contents)
    for index, values in enumerate(written):
        assert plain.read(index) == pytest.approx(values, abs=1e-5), f"accessor {index}"
    assert plain.at(1.0)["position"] == pytest.approx(
        np.array([[0, 0, 0], [0.5, 0.25, 0]]), abs=1e-4
    )
    assert plain.at(1.0)["scales"][1] == pytest.approx(math.exp(-2.3), abs=1e-3)


def assert_alike(a: Any, b: Any) -> None:
    """Equal JSON, up to the last digits of its numbers."""
    if isinstance(a, dict | list):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for key in a if isinstance(a, dict) else range(len(a)):
            assert_alike(a[key], b[key])
    else:
        assert a == (pytest.approx(b, abs=2e-5) if isinstance(a, float) else b)
