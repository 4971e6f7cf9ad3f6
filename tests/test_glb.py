"""The animated glTF: its rules checked by a reader of its own, its way back, other people's files, and lies."""

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving import moving_asset, random_gaussians, shape_error, strayed

from gs4d.asset import Asset
from gs4d.checkpoint import read_asset
from gs4d.clip import Orbit, cameras_of
from gs4d.errors import UserError
from gs4d.export import ExportOptions, export
from gs4d.export.glb import write_glb
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0, covariances, quats_to_rotations, sh_basis
from gs4d.io.glb import read_glb
from gs4d.io.glb_writer import GlbWriter
from gs4d.motion import FrameSequence, LowRank
from gs4d.render import render

KHR = "KHR_gaussian_splatting"
DOCS = Path(__file__).parent.parent / "docs" / "format.md"
TYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


class Plain:
    """A reader of docs/format.md by its words alone."""

    def __init__(self, path: Path) -> None:
        self.bytes = path.read_bytes()
        magic, version, total, length, kind = struct.unpack_from("<4sIII4s", self.bytes)
        assert (magic, version, total, kind) == (b"glTF", 2, len(self.bytes), b"JSON")
        self.json: dict[str, Any] = json.loads(self.bytes[20 : 20 + length])
        self.bin, self.kind = struct.unpack_from("<I4s", self.bytes, 20 + length)
        self.start = 28 + length
        assert self.kind == b"BIN\0"
        assert self.start + self.bin == len(self.bytes)
        self.node = next(node for node in self.json["nodes"] if "mesh" in node)
        self.mesh = self.json["meshes"][self.node["mesh"]]
        (self.primitive,) = self.mesh["primitives"]

    def raw(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        kind, width = np.dtype(TYPES[accessor["componentType"]]), WIDTHS[accessor["type"]]
        if "bufferView" not in accessor:
            return np.zeros((accessor["count"], width), kind)
        view = self.json["bufferViews"][accessor["bufferView"]]
        stride = view.get("byteStride", kind.itemsize * width)
        start = self.start + view["byteOffset"]
        assert view["byteLength"] == accessor["count"] * stride
        return np.ndarray((accessor["count"], width), kind, self.bytes, start, (stride, kind.itemsize))

    def read(self, index: int) -> np.ndarray:
        values = self.raw(index)
        if not self.json["accessors"][index].get("normalized"):
            return values.astype(np.float64)
        return values / np.iinfo(values.dtype).max

    def at(self, t: float) -> dict[str, np.ndarray]:
        """The formulas of the page."""
        base = {name: self.read(index) for name, index in self.primitive["attributes"].items()}
        targets = [{name: self.read(i) for name, i in target.items()} for target in self.primitive.get("targets", [])]
        weights, units = [], self.mesh.get("extras", {}).get("gs4d", {}).get("units", {})
        if targets:
            sampler = self.json["animations"][0]["samplers"][0]
            seconds = self.read(sampler["input"])[:, 0]
            table = self.read(sampler["output"]).reshape(len(seconds), len(targets))
            weights = [np.interp(t * seconds[-1], seconds, table[:, k]) for k in range(len(targets))]

        def moved(name: str, start: np.ndarray) -> np.ndarray:
            unit = units.get(name, [1.0] * len(targets))
            return start + sum(
                w * unit[k] * tgt[name] for k, (w, tgt) in enumerate(zip(weights, targets, strict=True)) if name in tgt
            )

        scale = self.node["scale"][0]
        rotation = moved("_ROTATION", base[f"{KHR}:ROTATION"])
        opacity = base[f"{KHR}:OPACITY"].clip(1e-6, 1 - 1e-6)
        logit = moved("_LOGIT_OPACITY", np.log(opacity / (1 - opacity)))
        return {
            "position": np.array(self.node["translation"]) + scale * moved("POSITION", base["POSITION"]),
            "rotation": rotation / np.linalg.norm(rotation, axis=1, keepdims=True),
            "scales": scale * base[f"{KHR}:SCALE"] * np.exp(moved("_LOG_SCALE", np.zeros(3))),
            "opacity": 1 / (1 + np.exp(-logit[:, 0])),
            "color": 0.5 + SH_C0 * moved("_SH_DEGREE_0", base[f"{KHR}:SH_DEGREE_0_COEF_0"]),
        }


@pytest.fixture
def file(tmp_path: Path) -> Plain:
    write_glb(tmp_path / "ein Ding.glb", moving_asset(paints=True), tolerance=1e-3, fps=10.0, copyright="CC0")
    return Plain(tmp_path / "ein Ding.glb")


def test_the_document_keeps_the_rules_of_gltf(file: Plain):
    document, (primitive,) = file.json, file.mesh["primitives"]
    assert document["asset"] == {"version": "2.0", "generator": document["asset"]["generator"], "copyright": "CC0"}
    assert document["extensionsUsed"] == [KHR, "KHR_mesh_quantization"]
    assert document["extensionsRequired"] == ["KHR_mesh_quantization"]
    assert primitive["mode"] == 0
    assert primitive["extensions"][KHR] == {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }
    places = [(v["byteOffset"], v["byteLength"], v.get("byteStride", 4)) for v in document["bufferViews"]]
    ends = [0, *(offset + length for offset, length, _ in places)]
    assert all(
        offset % 4 == 0 and stride % 4 == 0 and offset >= end for (offset, _, stride), end in zip(places, ends, strict=False)
    )
    assert ends[-1] <= document["buffers"][0]["byteLength"] == file.bin
    for attributes in (primitive["attributes"], *primitive["targets"]):
        accessor = document["accessors"][attributes["POSITION"]]
        raw = file.raw(attributes["POSITION"])
        assert (accessor["min"], accessor["max"]) == (raw.min(0).tolist(), raw.max(0).tolist())
        assert set(attributes) <= set(primitive["attributes"])
        assert {document["accessors"][i]["count"] for i in attributes.values()} == {200}
    names = {i: name for i, name in enumerate(primitive["attributes"]) if ":" not in name and name[0] != "_"}
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
            assert np.abs(raw.astype(int)).max() == np.iinfo(raw.dtype).max, name
    assert file.read(file.primitive["attributes"][f"{KHR}:SCALE"]).min() > 0
    assert np.linalg.norm(file.read(file.primitive["attributes"][f"{KHR}:ROTATION"]), axis=1) == pytest.approx(1, abs=1e-4)


def test_the_fallback_color_is_linear(file: Plain):
    shown = file.read(file.primitive["attributes"]["COLOR_0"])
    now = file.at(0.0)
    encoded = np.where(shown[:, :3] <= 0.0031308, 12.92 * shown[:, :3], 1.055 * shown[:, :3] ** (1 / 2.4) - 0.055)
    assert encoded == pytest.approx(now["color"].clip(0, 1), abs=0.03)
    assert shown[:, 3] == pytest.approx(now["opacity"], abs=0.003)


@pytest.mark.parametrize("t", [0.0, 1 / 3, 0.5, 0.77, 1.0])
def test_the_page_in_words_gives_the_asset(file: Plain, t: float):
    now, truth = file.at(t), moving_asset(paints=True).at(t)
    size = float((truth.means.amax(0) - truth.means.amin(0)).max())
    assert np.linalg.norm(now["position"] - truth.means.numpy(), axis=1).max() < 5e-3 * size
    assert np.quantile(np.linalg.norm(now["position"] - truth.means.numpy(), axis=1), 0.9) < 1e-3 * size
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


def test_a_tighter_bound_is_closer_and_larger(tmp_path: Path):
    asset = moving_asset(1000)
    strays, sizes = [], []
    for tolerance in (0.02, 0.001):
        write_glb(tmp_path / "a.glb", asset, tolerance=tolerance)
        strays.append(np.quantile(strayed(read_asset(tmp_path / "a.glb").at(1.0), asset.at(1.0)), 0.99))
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
    write_glb(tmp_path / "b.glb", Asset(one, LowRank(torch.zeros(1), torch.zeros(1, 0), {}), 1, {"input": Orbit()}))
    assert strayed(read_asset(tmp_path / "b.glb").at(0.0), one).max() < 1e-6


def test_any_rate_and_loop_by_the_options(tmp_path: Path):
    (path,) = export(moving_asset(), tmp_path, "toy", ExportOptions(to=("glb",), fps=24.0, input_fps=8.0, loop=True))
    plain = Plain(path)
    assert plain.json["scenes"][0]["extras"]["gs4d"]["frames"] == 2 * (3 * 6 + 1) - 1
    assert plain.at(1.0)["position"] == pytest.approx(plain.at(0.0)["position"], abs=1e-3)
    assert plain.at(0.5)["position"] == pytest.approx(moving_asset().at(1.0).means.numpy(), abs=2e-2)


def test_frames_that_are_not_of_the_same_gaussians_are_refused(tmp_path: Path):
    frames = [random_gaussians(5), random_gaussians(6)]
    asset = Asset(frames[0], FrameSequence(frames.__getitem__, 2), 2, {"input": Orbit()})
    with pytest.raises(UserError, match="5 and 6 Gaussians"):
        write_glb(tmp_path / "a.glb", asset)
    assert list(tmp_path.iterdir()) == []


def test_the_worked_example_of_the_page(tmp_path: Path):
    """Two Gaussians, three frames, one mode: the bytes that docs/format.md shows are the bytes that are written."""
    still = Gaussians(
        means=torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]),
        log_scales=torch.tensor([[-4.0, -4.0, -4.0], [-3.0, -3.0, -3.0]]),
        logit_opacities=torch.tensor([0.0, 4.0]),
        sh=torch.tensor([[[1.0, 0.0, -1.0]], [[0.0, 0.0, 0.0]]]),
    )
    rise = {"means": torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.25, 0.0]]]), "log_scales": torch.tensor([[[0.0] * 3, [0.7] * 3]])}
    motion = LowRank(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[0.0], [0.5], [1.0]]), rise)
    write_glb(tmp_path / "a.glb", Asset(still, motion, 3, {"input": Orbit()}))
    plain = Plain(tmp_path / "a.glb")
    _, _, example = DOCS.read_text().partition("## Worked example")
    shown = json.loads(example.split("```json")[1].split("```")[0])
    shown["asset"]["generator"] = plain.json["asset"]["generator"]
    assert_alike(plain.json, shown)
    rows = [line.split("|") for line in example.splitlines() if line.startswith("| view ") and line[7].isdigit()]
    contents = [bytes.fromhex(row[3]) for row in rows]
    written = [plain.read(i) for i in range(len(plain.json["accessors"]))]
    assert sum(map(len, contents)) == plain.bin
    plain.bytes = plain.bytes[: plain.start] + b"".join(contents)
    for index, values in enumerate(written):
        assert plain.read(index) == pytest.approx(values, abs=1e-5), f"accessor {index}"
    assert plain.at(1.0)["position"] == pytest.approx(np.array([[0, 0, 0], [0.5, 0.25, 0]]), abs=1e-4)
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


# --- files of others ---------------------------------------------------------------------------------------------------


def foreign(
    path: Path, gaussians: Gaussians, node: dict[str, Any], change: Callable[[dict[str, Any]], None] = lambda _: None
) -> None:
    """A static file as other exporters write it: floats, linear scales."""
    writer = GlbWriter({"asset": {"version": "2.0"}, "extensionsUsed": [KHR]})
    g = gaussians.replace(quats=torch.nn.functional.normalize(gaussians.quats, dim=1))
    names = [f"SH_DEGREE_{degree}_COEF_{n}" for degree in range(g.sh_degree + 1) for n in range(2 * degree + 1)]
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
        "meshes": [{"primitives": [{"mode": 0, "attributes": attributes, "extensions": extension}]}],
    }
    change(writer.document)
    writer.write(path)


MOVE = [
    [0.0, -2.0, 0.0, 1.0],
    [2.0, 0.0, 0.0, -3.0],
    [0.0, 0.0, 2.0, 0.5],
    [0.0, 0.0, 0.0, 1.0],
]  # a quarter turn, twice as large
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
    error = (covariances(placed.quats, placed.log_scales) - wanted).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))
    assert error.max() < 1e-4
    if matrix is not SHEAR:  # what a shear does to colours that depend on the direction is anyone's choice
        direction = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.7]), dim=0)
        turn = linear / torch.linalg.det(linear).abs() ** (1 / 3)
        before, after = (
            torch.einsum("k,nkc->nc", sh_basis(d, 3), s) for d, s in ((direction, g.sh), (turn @ direction, placed.sh))
        )
        assert (before - after).abs().max() < 1e-4


def test_nodes_may_turn_by_quaternions_and_stack(tmp_path: Path):
    g = random_gaussians(20)
    half = math.sqrt(0.5)
    foreign(tmp_path / "a.glb", g, {"rotation": [0, 0, half, half], "scale": [2, 2, 2], "translation": [1, -3, 0.5]})
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
        tmp_path / "a.glb", lambda d: d["nodes"].append({"children": [0], "matrix": np.array(MOVE).T.flatten().tolist()})
    )
    edited = edit(edited, lambda d: d["scenes"][0].update(nodes=[len(d["nodes"]) - 1]))
    held = read_glb(edited)
    now = LowRank(held.times, held.weights, held.deltas).at_times(held.gaussians, torch.ones(1)).at_view(0)
    linear, shift = torch.tensor(MOVE)[:3, :3], torch.tensor(MOVE)[:3, 3]
    truth = asset.at(1.0)
    assert (now.means - (truth.means @ linear.T + shift)).norm(dim=1).quantile(0.9) < 5e-3
    wanted = linear @ covariances(truth.quats, truth.log_scales) @ linear.T
    assert ((covariances(now.quats, now.log_scales) - wanted).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))).max() < 0.1


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
    foreign(tmp_path / "a.glb", g.replace(log_scales=g.log_scales.exp()), {})  # exp(exp(s)) - as if it were linear
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
        document["meshes"][0]["primitives"][0]["extensions"][KHR]["colorSpace"] = "lin_rec709_display"

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


# --- lies --------------------------------------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The file with another document."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    document = json.loads(data[20 : 20 + length])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    other = path.with_name(f"edited-{path.name.removeprefix('edited-')}")
    other.write_bytes(struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON") + text + rest)
    return other


def primitive_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["meshes"][0]["primitives"][0]


LIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no splats": (lambda d: primitive_of(d).pop("extensions"), "holds no splats"),
    "compressed": (
        lambda d: primitive_of(d)["extensions"][KHR].update(extensions={f"{KHR}_compression_spz_2": {}}),
        "compressed with KHR_gaussian_splatting_compression_spz_2",
    ),
    "no scale": (lambda d: primitive_of(d)["attributes"].pop(f"{KHR}:SCALE"), "SCALE of primitive 0 of mesh 0"),
    "no rotation": (lambda d: primitive_of(d)["attributes"].pop(f"{KHR}:ROTATION"), "ROTATION of primitive 0 of mesh 0"),
    "no color": (
        lambda d: [primitive_of(d)["attributes"].pop(n) for n in (f"{KHR}:SH_DEGREE_0_COEF_0", "COLOR_0")],
        "COLOR_0 of primitive 0",
    ),
    "a degree is lacking": (
        lambda d: primitive_of(d)["attributes"].update({f"{KHR}:SH_DEGREE_2_COEF_0": 5}),
        "lacks a degree",
    ),
    "fewer opacities": (lambda d: d["accessors"][4].update(count=9), "has 9 elements, wanted 50"),
    "more positions than bytes": (lambda d: d["accessors"][0].update(count=10**8), "POSITION of primitive 0"),
    "stretched to nothing": (lambda d: d["nodes"][0].update(scale=[0, 0, 0]), "squeezes"),
    "turned and sheared": (lambda d: d["nodes"][0].update(scale=[1, 2, 3]), "turns and shears"),
    "a circle of nodes": (lambda d: d["nodes"][0].update(children=[0]), "two parents"),
    "a node that is not": (lambda d: d["scenes"][0].update(nodes=[7]), "index into nodes"),
    "bent between keyframes": (lambda d: d["animations"][0]["samplers"][0].update(interpolation="CUBICSPLINE"), "CUBICSPLINE"),
    "weights of another count": (lambda d: primitive_of(d)["targets"].pop(), "weights of animation 0"),
    "too few units": (lambda d: d["meshes"][0]["extras"]["gs4d"]["units"].update(_ROTATION=[1.0]), "units of _ROTATION"),
    "an orbit of words": (lambda d: d["scenes"][0]["extras"]["gs4d"]["orbits"].update(input="here"), "an orbit"),
    "endless frames": (lambda d: d["scenes"][0]["extras"]["gs4d"].update(frames=1e300), "frames of the scene"),
    "two animated sets": (lambda d: d["scenes"][0].update(nodes=[0, d["nodes"].append(dict(d["nodes"][0])) or 2]), "join them"),
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
    view = plain.json["bufferViews"][plain.json["accessors"][plain.json["animations"][0]["samplers"][0]["input"]]["bufferView"]]
    data = bytearray(plain.bytes)
    start = plain.start + view["byteOffset"]
    data[start + 8 : start + 12] = data[start + 4 : start + 8]
    (tmp_path / "b.glb").write_bytes(data)
    with pytest.raises(UserError, match="do not increase"):
        read_glb(tmp_path / "b.glb")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoils=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6), keep=st.floats(0.3, 1.5))
def test_spoiled_bytes_are_an_error_or_gaussians(tmp_path: Path, spoils: list[tuple[float, int]], keep: float):
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
