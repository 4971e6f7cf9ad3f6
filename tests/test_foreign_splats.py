"""Splats and points as other programs write them.

Understood, refused in a sentence, or warned about in one.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from PIL import Image
from test_splats import grid_points, write_sog
from toys import blobs, cloud

from gs4d.errors import UserError
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0, covariances, sh_basis
from gs4d.io import foreign
from gs4d.io.gaussians import read_gaussians
from gs4d.io.ply import write_ply
from gs4d.motion import Moments
from gs4d.open_asset import is_run, read_asset
from gs4d.scene import TIMED_FRAMES, Stage, read_scene

Columns = Mapping[str, np.ndarray]
CODES = {"<f4": "float", "<f8": "double", "|u1": "uchar", "<i4": "int", "<u2": "ushort"}


@pytest.fixture(autouse=True)
def _nothing_said_yet() -> None:
    foreign._said.clear()


def ply(
    path: Path,
    columns: Columns,
    comments: tuple[str, ...] = (),
    end: str = "\n",
    bom: bytes = b"",
    more: str = "",
) -> Path:
    """A little-endian PLY of these columns."""
    count = len(next(iter(columns.values())))
    table = np.zeros(count, [(name, values.dtype.str) for name, values in columns.items()])
    for name, values in columns.items():
        table[name] = values
    head = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {c}" for c in comments),
        f"element vertex {count}",
    ]
    head += [f"property {CODES[values.dtype.str]} {name}" for name, values in columns.items()]
    head += [*more.splitlines(), "end_header", ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bom + end.join(head).encode() + table.tobytes())
    return path


def columns_of(g: Gaussians) -> dict[str, np.ndarray]:
    """The columns of a standard PLY."""
    out = {axis: g.means[:, i].numpy() for i, axis in enumerate("xyz")}
    out |= {f"f_dc_{i}": g.sh[:, 0, i].numpy() for i in range(3)} | {
        "opacity": g.logit_opacities.numpy()
    }
    out |= {f"scale_{i}": g.log_scales[:, i].numpy() for i in range(3)}
    return out | {f"rot_{i}": g.quats[:, i].numpy() for i in range(4)}


def points(n: int = 200, dtype: str = "f4") -> dict[str, np.ndarray]:
    places = np.random.default_rng(0).normal(size=(n, 3)) * 0.2
    return {axis: places[:, i].astype(dtype) for i, axis in enumerate("xyz")}


# --- rows that can be no splats -------------------------------------------------------------------


def test_rows_that_can_be_no_splats_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    g = blobs(0.0)
    columns = {name: values.copy() for name, values in columns_of(g).items()}
    columns["x"][0], columns["x"][1] = np.nan, 1e30
    columns["scale_1"][2], columns["scale_0"][3] = 50, 12
    columns["opacity"][4], columns["f_dc_1"][5] = 3e38, 3e38
    for i in range(4):
        columns[f"rot_{i}"][6] = columns[f"rot_{i}"][7] = 0
    columns["scale_2"][7] = -5  # not round: its zero rotation matters; that of row 6 does not
    asset = read_asset(ply(tmp_path / "a.ply", columns))
    assert asset.at(0.0).count == g.count - 7
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    for part in (
        "7 of 800 Gaussians",
        "1 with numbers that are not finite",
        "1 with positions beyond",
        "2 with sizes beyond",
    ):
        assert part in caplog.text
    for part in (
        "1 with opacities that are none",
        "1 with colours that are none",
        "1 with no rotation",
    ):
        assert part in caplog.text


def test_what_real_files_have_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns = {name: values.copy() for name, values in columns_of(blobs(0.0)).items()}
    columns["opacity"][:2] = np.inf, -np.inf  # opacities of 1 and 0
    columns["scale_2"][3] = -np.inf  # flat
    columns["scale_0"][4], columns["x"][4] = 2.0, 40.0  # a piece of sky
    assert read_asset(ply(tmp_path / "a.ply", columns)).at(0.0).count == 800
    assert not caplog.records


# --- motion and other kinds -----------------------------------------------------------------------


def timed_columns(colors: str) -> dict[str, np.ndarray]:
    """40 moments of a dot that walks along x.

    Within a moment it moves and turns as its row says.
    """
    n = 40
    t = np.linspace(0, 1, n, dtype=np.float32)
    g = cloud(n, degree=0)
    dark = torch.full((n, 1, 3), 0.2 if colors == "plain" else (0.2 - 0.5) / SH_C0)
    g = g.replace(
        means=torch.zeros(n, 3),
        log_scales=torch.full((n, 3), -3.0),
        sh=dark,
        quats=torch.eye(4)[:1].repeat(n, 1),
    )
    columns = columns_of(g.replace(logit_opacities=torch.full((n,), 3.0)))
    columns["x"] = t - 0.5
    columns |= {"trbf_center": t, "trbf_scale": np.full(n, np.log(0.1), np.float32)}
    columns |= {
        f"motion_{i}": np.full(n, v, np.float32) for i, v in enumerate([1, 0, 0, 0, 2, 0, 0, 0, 4])
    }
    return columns | {f"omega_{i}": np.full(n, v, np.float32) for i, v in enumerate([0, 0, 0, 0.5])}


@pytest.mark.parametrize("colors", ["plain", "coefficients"])
def test_spacetime_gaussians_are_played(
    tmp_path: Path, colors: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = ply(tmp_path / "point_cloud.ply", timed_columns(colors))
    asset = read_asset(path, "up")
    assert asset.frames == TIMED_FRAMES
    assert "trbf_center, motion_0" in caplog.text
    assert ("taken as colours" in caplog.text) == (colors == "plain")
    assert isinstance(asset.motion, Moments)
    raw = asset.motion.set_at(0.3)
    since = 0.3 - np.linspace(0, 1, 40)
    assert raw.means[:, 0].numpy() == pytest.approx(np.linspace(0, 1, 40) - 0.5 + since, abs=1e-5)
    assert raw.means[:, 1].numpy() == pytest.approx(2 * since**2, abs=1e-5)
    assert raw.means[:, 2].numpy() == pytest.approx(4 * since**3, abs=1e-5)
    assert raw.quats[:, 3].numpy() == pytest.approx(0.5 * since, abs=1e-5)
    alpha = 1 / (1 + np.exp(-3.0)) * np.exp(-((since / 0.1) ** 2))
    assert raw.logit_opacities.sigmoid().numpy() == pytest.approx(alpha, abs=1e-6)
    assert (0.5 + SH_C0 * raw.sh[:, 0]).numpy() == pytest.approx(np.full((40, 3), 0.2), abs=1e-6)
    seen = [
        asset.at(t).means[asset.at(t).logit_opacities > 0, 0].mean().item() for t in (0.1, 0.5, 0.9)
    ]
    assert seen[0] < seen[1] - 0.1 < seen[2] - 0.2
    both = asset.at_times(torch.tensor([0.1, 0.9]))
    assert torch.equal(both.at_view(1).means, asset.at(0.9).means)
    read_gaussians(path)
    assert "all moments at once" in caplog.text


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ("t", "splats that move .scale_t, t., in a layout that gs4d does not play"),
        ("rot_r_0", "splats that move"),
        ("velocity_0", "splats that move"),
        ("xyz_disp_3", "splats that move"),
        ("f_offset_0", "Scaffold-GS: f_offset_0"),
        ("beta", "Beta Splatting: beta"),
    ],
)
def test_splats_of_other_kinds_are_refused_by_name(
    tmp_path: Path, extra: str, sentence: str
) -> None:
    columns = columns_of(cloud(5, degree=0))
    columns |= {extra: columns["x"]} | ({"scale_t": columns["x"]} if extra == "t" else {})
    with pytest.raises(UserError, match=sentence):
        read_gaussians(ply(tmp_path / "a.ply", columns))


def test_delta_frames_and_meshes_are_refused(tmp_path: Path) -> None:
    columns = columns_of(cloud(5, degree=0))
    frames = "element delta_vertex_0 0\nproperty float x"
    with pytest.raises(UserError, match="delta_vertex_0.*export one PLY per frame"):
        read_gaussians(ply(tmp_path / "a.ply", columns, more=frames))
    faces = "element face 0\nproperty list uchar int vertex_indices"
    assert read_gaussians(ply(tmp_path / "b.ply", points(), more=faces)).count == 200
    path = ply(tmp_path / "c.ply", points(), more=faces.replace("face 0", "face 2"))
    path.write_bytes(path.read_bytes() + struct.pack("<B3i", 3, 0, 1, 2) * 2)
    with pytest.raises(UserError, match=r"a mesh of 2 faces.*gs4d mesh`, or sample points"):
        read_gaussians(path)


def test_flat_splats_filters_and_extras(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    g = cloud(30, degree=0)
    flat = columns_of(g)
    del flat["scale_2"]
    read = read_gaussians(ply(tmp_path / "flat.ply", flat))
    assert torch.equal(read.log_scales[:, :2], g.log_scales[:, :2])
    assert (read.log_scales[:, 2] == -14).all()
    assert "no scale_2, as 2DGS" in caplog.text
    smoothed = columns_of(g) | {"filter_3D": np.full(30, 0.05, np.float32)}
    read = read_gaussians(ply(tmp_path / "mip.ply", smoothed))
    assert torch.allclose(read.log_scales.exp() ** 2, g.log_scales.exp() ** 2 + 0.05**2, rtol=1e-4)
    shrunk = g.logit_opacities.sigmoid() * (g.log_scales - read.log_scales).sum(1).exp()
    assert torch.allclose(read.logit_opacities.sigmoid(), shrunk, atol=1e-5)
    extras = (
        columns_of(g)
        | {"label": np.ones(30, np.int32)}
        | {f"f_semantic_{i}": flat["x"] for i in range(9)}
    )
    assert read_gaussians(ply(tmp_path / "sem.ply", extras)).count == 30
    assert "also holds f_semantic_0, f_semantic_1" in caplog.text
    assert "(10 in all), which are not drawn" in caplog.text
    renamed = {
        name if name in "xyz" else f"scalar_{name}": values
        for name, values in columns_of(g).items()
    }
    assert torch.equal(read_gaussians(ply(tmp_path / "cc.ply", renamed)).quats, g.quats)


# --- axes -----------------------------------------------------------------------------------------


def figure() -> dict[str, np.ndarray]:
    """Points of a tall thing along z with a red head at its end."""
    places = np.random.default_rng(0).uniform(-1, 1, (500, 3)) * [0.1, 0.1, 0.5]
    out = {axis: places[:, i].astype("f4") for i, axis in enumerate("xyz")}
    return (
        out
        | {"red": ((places[:, 2] > 0.3) * 250).astype("u1")}
        | {c: np.full(500, 9, "u1") for c in ("green", "blue")}
    )


def stands(path: Path, y_axis: str = "auto") -> bool:
    g = read_asset(path, y_axis).at(0.0)  # pyright: ignore[reportArgumentType]
    red = g.sh[:, 0, 0] > 0
    return bool(
        np.ptp(g.means[:, 1].numpy()) > 3 * np.ptp(g.means[:, 0].numpy())
        and (g.means[red, 1] > 0).all()
    )


@pytest.mark.parametrize(
    ("comment", "up"),
    [
        ("Vertical Axis: z", True),
        ("vertical axis : Z", True),
        ("Vertical axis: 0 0 1", True),
        ("Created by CloudCompare v2.13.1 (Kharkiv)", True),
        ("Created in Blender version 4.2.0", True),
        ("Created by Blender 3.3 - www.blender.org", True),
        ("Vertical axis: y", False),  # Brush writes it, and means down
        ("VCGLIB generated", False),
    ],
)
def test_a_comment_says_where_up_is(
    tmp_path: Path, comment: str, up: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = ply(tmp_path / "a.ply", figure(), ("Generated by Nerfstudio", comment))
    assert stands(path) == up
    assert ("z up; --y_axis" in caplog.text) == up
    assert stands(path, "z")
    assert not stands(path, "down")


def test_turns_keep_what_is_seen() -> None:
    g = cloud(40)
    directions = torch.nn.functional.normalize(
        torch.randn(40, 3, generator=torch.Generator().manual_seed(1)), dim=1
    )
    seen = (sh_basis(directions, 3)[..., None] * g.sh).sum(1)
    mirror = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    for matrix in (torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), mirror):
        turned = g.turned(matrix)
        shapes = matrix @ covariances(g.quats, g.log_scales) @ matrix.T
        assert torch.allclose(covariances(turned.quats, turned.log_scales), shapes, atol=1e-6)
        assert torch.allclose(
            (sh_basis(directions @ matrix.T, 3)[..., None] * turned.sh).sum(1), seen, atol=1e-5
        )
    deltas = {"means": torch.randn(2, 40, 3), "quats": torch.randn(2, 40, 4)}
    for up in ("up", "down", "z", "x"):
        stage = Stage(up, (0.1, 0.2, 0.3), 2.0)
        moved = g.replace(means=g.means + deltas["means"][0], quats=g.quats + deltas["quats"][0])
        placed, changes = stage.place(g), stage.place_deltas(deltas)
        assert torch.allclose(
            stage.place(moved).means, placed.means + changes["means"][0], atol=1e-5
        )
        assert torch.allclose(
            stage.place(moved).quats, placed.quats + changes["quats"][0], atol=1e-5
        )


def spz(path: Path, records: bytes, version: int = 4, flags: int = 2) -> Path:
    """One Gaussian at (1, 2, 3) with extension records."""
    fixed = (np.array([1, 2, 3]) * 4096).astype("<i4").view("u1").reshape(3, 4)[:, :3].tobytes()
    streams = [fixed, b"\xf0", bytes([9, 99, 199]), bytes([100] * 3), struct.pack("<I", 3 << 30)]
    head = struct.pack(
        "<4sIIBBBB", b"NGSP", version, 1, 0, 12, flags, len(streams) if version == 4 else 0
    )
    if version < 4:
        path.write_bytes(head + b"".join(streams) + records)
        return path
    packed = [zstandard.compress(stream) for stream in streams]
    table = b"".join(
        struct.pack("<QQ", len(a), len(b)) for a, b in zip(packed, streams, strict=True)
    )
    path.write_bytes(
        head + struct.pack("<I12x", 32 + len(records)) + records + table + b"".join(packed)
    )
    return path


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    ("number", "place"),
    [
        (0, (1, -2, -3)),
        (1, (-1, 2, -3)),
        (4, (1, -2, -3)),
        (6, (1, 2, 3)),
        (12, (1, -3, 2)),
        (16, (1, -3, -2)),
    ],
)
def test_spz_says_its_axes(
    tmp_path: Path, version: int, number: int, place: tuple[float, float, float]
) -> None:
    record = struct.pack("<III", 0xADBE0003, 4, number)
    g = read_gaussians(spz(tmp_path / "a.spz", record, version))
    assert g.means[0].tolist() == pytest.approx(place)


def test_spz_extensions_that_are_not_known_and_antialiasing_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = spz(tmp_path / "a.spz", struct.pack("<IIIII", 0xBEEF0001, 4, 7, 0xADBE0002, 0), flags=3)
    assert read_gaussians(path).means[0].tolist() == [1, -2, -3]
    assert "extension of type 0xBEEF0001" in caplog.text
    assert "0xADBE0002" not in caplog.text
    assert "trained with antialiasing" in caplog.text
    with pytest.raises(UserError, match="coordinate system 99"):
        read_gaussians(spz(tmp_path / "b.spz", struct.pack("<III", 0xADBE0003, 4, 99)))
    with pytest.raises(UserError, match="cut short"):
        read_gaussians(spz(tmp_path / "c.spz", struct.pack("<III", 0xADBE0003, 400, 6)))


# --- places, colours, headers ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ply", "splat ply", "npz"])
def test_places_in_double_precision_are_shifted_before_they_are_rounded(
    tmp_path: Path, kind: str
) -> None:
    near = points(300, "f8")
    far = {"x": near["x"] + 691607.123, "y": near["y"] + 5334760.457, "z": near["z"] + 519.3}
    table = np.stack(list(near.values()), 1)
    path = tmp_path / ("a.npz" if kind == "npz" else "a.ply")
    if kind == "npz":
        np.savez(path, points=np.stack(list(far.values()), 1), rgb=np.zeros((300, 3), np.uint8))
    elif kind == "ply":
        ply(path, far | {c: np.zeros(300, "u1") for c in ("red", "green", "blue")})
    else:
        small = cloud(300, degree=0)
        ply(path, columns_of(small.replace(log_scales=small.log_scales - 2)) | far)
    stage_means = read_scene(path, "up").at(0.0).means.double().numpy()
    shift = stage_means.mean(0)
    scale = (
        np.linalg.norm(stage_means - shift, axis=1).sum()
        / np.linalg.norm(table - table.mean(0), axis=1).sum()
    )
    assert stage_means - shift == pytest.approx((table - table.mean(0)) * scale, abs=1e-5)
    assert read_scene(path).at(0.0).means.dtype == torch.float32


@pytest.mark.parametrize(
    ("dtype", "most", "said"),
    [
        ("u1", 255, False),
        ("u2", 65535, False),
        ("u2", 255, False),
        ("i4", 255, False),
        ("f4", 1, False),
        ("f4", 255, True),
    ],
)
def test_colours_are_read_by_their_range(
    tmp_path: Path, dtype: str, most: int, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    colors = {
        "red": np.full(200, most, dtype),
        "green": np.zeros(200, dtype),
        "blue": np.linspace(0, most, 200).astype(dtype),
    }
    g = read_gaussians(ply(tmp_path / "a.ply", points() | colors))
    assert (0.5 + SH_C0 * g.sh[0, 0]).tolist() == pytest.approx([1, 0, 0], abs=0.01)
    assert ("so they are taken as 0 to 255" in caplog.text) == said


def test_points_without_colours_are_grey_and_broken_ones_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = points()
    columns["y"][:3] = np.nan
    g = read_gaussians(ply(tmp_path / "a.ply", columns))
    assert g.count == 197
    assert "has no colours" in caplog.text
    assert "3 of 200 points are left out" in caplog.text
    np.savez(tmp_path / "a.npz", xyz=grid_points()[:9])
    assert read_gaussians(tmp_path / "a.npz").count == 9


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_headers_of_any_line_end_and_alphabet(tmp_path: Path, end: str, bom: bytes) -> None:
    g = cloud(20, degree=0)
    path = ply(tmp_path / "é.ply", columns_of(g), ("größe 5 µm", "Vertical Axis: z"), end, bom)
    assert torch.equal(read_gaussians(path).quats, g.quats)
    latin = ply(tmp_path / "b.ply", columns_of(g), ("plain",))
    latin.write_bytes(latin.read_bytes().replace(b"plain", b"gr\xf6\xdfe"))
    assert torch.equal(read_gaussians(latin).means, g.means)


# --- SOG, run folders -----------------------------------------------------------------------------


def test_a_sog_zipped_in_its_folder_and_of_version_1(tmp_path: Path) -> None:
    write_sog(tmp_path / "scene")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("__MACOSX/scene/._meta.json", b"\0")
        for path in (tmp_path / "scene").iterdir():
            archive.write(path, f"scene/{path.name}")
    new = read_gaussians(tmp_path / "scene")
    assert torch.equal(read_gaussians(tmp_path / "a.zip").means, new.means)
    meta = json.loads((tmp_path / "scene/meta.json").read_text())
    del meta["version"], meta["count"]
    meta["means"]["shape"] = [2, 3]
    meta["scales"] = {"mins": [-2, -2, -2], "maxs": [2, 2, 2], "files": ["scales.webp"]}
    meta["sh0"] = {"mins": [-2, -2, -2, -6], "maxs": [2, 2, 2, 6], "files": ["sh0.webp"]}
    meta["shN"] = {"shape": [2, 9], "mins": -2, "maxs": 2, "files": meta["shN"]["files"]}
    (tmp_path / "scene/meta.json").write_text(json.dumps(meta))
    old = read_gaussians(tmp_path / "scene")
    assert torch.allclose(old.means, new.means)
    assert old.log_scales[0].tolist() == pytest.approx([-2 + 4 * v / 255 for v in (10, 20, 30)])
    assert old.logit_opacities.tolist() == pytest.approx([-6 + 12 * 51 / 255, -6])
    assert old.sh[0, 1, 1].item() == pytest.approx(-2 + 4 * 6 / 255)


def test_a_small_sog_takes_no_gigabytes(tmp_path: Path) -> None:
    write_sog(tmp_path / "a")
    meta = json.loads((tmp_path / "a/meta.json").read_text())
    meta["count"] = 1_000_000
    (tmp_path / "a/meta.json").write_text(json.dumps(meta))
    for name in ("means_l", "means_u", "quats", "scales", "sh0", "shN_labels"):
        Image.new("RGBA", (1000, 1000)).save(tmp_path / f"a/{name}.webp", lossless=True)
    with pytest.raises(UserError, match="MB of memory for 1000000 Gaussians"):
        read_gaussians(tmp_path / "a")


def test_an_npz_of_many_columns_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "a.npz", means3d=np.zeros((4, 1 << 20), np.uint8), colors=np.zeros((4, 3))
    )
    with pytest.raises(UserError, match=r"shape \(4, 1048576\), not \(n, 3\)"):
        read_gaussians(tmp_path / "a.npz")


def test_run_folders_of_other_trainers_open_their_last_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "garden"
    for step, count in ((7000, 30), (30000, 40), (4000, 20)):
        ply(
            run / f"point_cloud/iteration_{step}/point_cloud.ply",
            columns_of(cloud(count, degree=0)),
        )
    ply(run / "input.ply", points())
    (run / "cfg_args").write_text("Namespace()")
    (run / "deform/iteration_30000").mkdir(parents=True)
    (run / "deform/iteration_30000/deform.pth").write_bytes(b"network")
    assert not is_run(run)
    assert read_asset(run).at(0.0).count == 40
    assert "its last step, point_cloud/iteration_30000/point_cloud.ply, is opened" in caplog.text
    assert "deform.pth moves these splats by a network" in caplog.text
    for step, count in ((5000, 30), (10000, 50)):
        write_ply(tmp_path / f"brush/export_{step}.ply", cloud(count, degree=0))
    assert read_asset(tmp_path / "brush").at(0.0).count == 50
    assert "export_10000.ply, is opened" in caplog.text


def test_checkpoints_of_gsplat_and_nerfstudio_are_read(tmp_path: Path) -> None:
    g = cloud(12, degree=1)
    splats = {
        "means": g.means,
        "quats": g.quats,
        "scales": g.log_scales,
        "opacities": g.logit_opacities,
    }
    (tmp_path / "gs/ckpts").mkdir(parents=True)
    for rank in (0, 1):
        own = {**splats, "sh0": g.sh[:, :1], "shN": g.sh[:, 1:]}
        torch.save({"step": 9, "splats": own}, tmp_path / f"gs/ckpts/ckpt_9_rank{rank}.pt")
    assert read_asset(tmp_path / "gs").at(0.0).count == 24
    (tmp_path / "ns/nerfstudio_models").mkdir(parents=True)
    model = {f"_model.gauss_params.{k}": v for k, v in splats.items() if k != "opacities"}
    model |= {
        "_model.gauss_params.features_dc": g.sh[:, 0],
        "_model.gauss_params.features_rest": g.sh[:, 1:],
    }
    model["_model.gauss_params.opacities"] = g.logit_opacities[:, None]
    torch.save({"step": 1, "pipeline": model}, tmp_path / "ns/nerfstudio_models/step-000001.ckpt")
    read = read_gaussians(tmp_path / "ns/nerfstudio_models/step-000001.ckpt")
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(read.items(), g.items(), strict=True))
    torch.save({"step": 1}, tmp_path / "none.pt")
    with pytest.raises(UserError, match="holds no Gaussians that gs4d knows"):
        read_gaussians(tmp_path / "none.pt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_among_files_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.ply")
    with pytest.raises(UserError, match="is a pipe or device, not a file"):
        read_gaussians(tmp_path / "a.ply")
    with pytest.raises(UserError):
        read_asset(tmp_path / "a.ply")
