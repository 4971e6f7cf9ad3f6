"""Splat files: what is written is read back within the format's steps, foreign files mean what they
say, lies are errors.
"""

from __future__ import annotations

import gzip
import json
import struct
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from plyfile import PlyData, PlyElement
from toys import cloud

from gs4d.errors import UserError
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0, morton_order
from gs4d.io.compressed_ply import write_compressed_ply
from gs4d.io.gaussians import read_gaussians
from gs4d.io.ply import read_ply, write_ply
from gs4d.io.splat import write_splat
from gs4d.io.spz import write_spz

Writer = Callable[[Path, Gaussians], None]
PACKED: dict[str, Writer] = {".splat": write_splat, ".spz": write_spz, ".ply": write_compressed_ply}


def worst(wrote: Gaussians, read: Gaussians) -> dict[str, float]:
    """Largest error per quantity.

    Angle of the rotations in radians, opacities and degree-0 colours in [0, 1].
    """
    a, b = (torch.nn.functional.normalize(g.quats.double(), dim=1) for g in (wrote, read))
    k = min(wrote.sh.shape[1], read.sh.shape[1])
    angle = 2 * (1 - (a * b).sum(1).abs().clamp(max=1) ** 2).sqrt().asin()  # of the relative turn
    pairs = {
        "means": wrote.means - read.means,
        "angle": angle,
        "log_scales": wrote.log_scales - read.log_scales,
        "opacity": wrote.logit_opacities.sigmoid() - read.logit_opacities.sigmoid(),
        "color": SH_C0 * (wrote.sh[:, 0] - read.sh[:, 0]),
        "sh": wrote.sh[:, 1:k] - read.sh[:, 1:k] if k > 1 else torch.zeros(1),
    }
    return {name: float(difference.abs().max()) for name, difference in pairs.items()}


# Half a step of each quantity, as docs/formats.md says; a chunk of a compressed PLY is here as
# large as the whole cloud.
HALF_STEPS = {
    ".splat": {
        "means": 0,
        "angle": 0.018,
        "log_scales": 1e-5,
        "opacity": 0.5 / 255,
        "color": 0.5 / 255,
        "sh": 0,
    },
    ".spz": {
        "means": 2**-18,
        "angle": 0.005,
        "log_scales": 1 / 32,
        "opacity": 0.5 / 255,
        "color": 0.00369,
        "sh": 1 / 256,
    },
    ".ply": {
        "means": 0.5 / 1023,
        "angle": 0.005,
        "log_scales": 2 / 1023,
        "opacity": 0.5 / 255,
        "color": 0.5 / 255,
        "sh": 1 / 64,
    },
}


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", PACKED)
def test_packed_formats_read_back_within_half_a_step(
    tmp_path: Path, suffix: str, degree: int
) -> None:
    path, g = tmp_path / f"a{suffix}", cloud(degree=degree)
    PACKED[suffix](path, g)
    read = read_gaussians(path)
    wrote = g.select(morton_order(g.means)) if suffix == ".ply" else g
    assert read.sh_degree == (0 if suffix == ".splat" else degree)
    for name, error in worst(wrote, read).items():
        assert error <= HALF_STEPS[suffix][name] + 1e-6, name


@pytest.mark.parametrize("suffix", [".splat", ".spz"])
def test_values_beyond_a_formats_range_are_clamped_not_wrapped(tmp_path: Path, suffix: str) -> None:
    g = cloud(4, degree=1)
    g = g.replace(
        sh=g.sh * 100, logit_opacities=g.logit_opacities * 100, log_scales=g.log_scales * 0 + 30
    )
    PACKED[suffix](tmp_path / f"a{suffix}", g)
    read = read_gaussians(tmp_path / f"a{suffix}")
    big = g.sh[:, : read.sh.shape[1]].abs() > 5
    assert torch.equal(read.sh.sign()[big], g.sh[:, : read.sh.shape[1]].sign()[big])
    assert torch.equal(read.logit_opacities > 0, g.logit_opacities > 0)
    assert all(t.isfinite().all() for _, t in read.items())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0, 5e5])
def test_spz_spends_its_24_bits_where_the_scene_is(tmp_path: Path, scale: float) -> None:
    g = cloud(50, degree=0)
    g = g.replace(means=g.means * scale)
    write_spz(tmp_path / "a.spz", g)
    assert (read_gaussians(tmp_path / "a.spz").means - g.means).abs().max() <= scale * 2**-12
    with pytest.raises(UserError, match="more than SPZ can say"):
        write_spz(tmp_path / "a.spz", g.replace(means=g.means / scale * 1e8))


def test_a_splat_record_is_what_antimatter15_says(tmp_path: Path) -> None:
    dc = (torch.tensor([1.0, 0.5, 0.0]) - 0.5) / SH_C0
    g = Gaussians(
        torch.tensor([[1.0, -2.0, 3.0]]),
        torch.tensor([[2.0, 0, 0, -2]]),
        torch.tensor([[0.0, 1, 2]]),
        torch.zeros(1),
        dc.view(1, 1, 3),
    )
    write_splat(tmp_path / "a.splat", g)
    data = (tmp_path / "a.splat").read_bytes()
    assert struct.unpack("<3f", data[:12]) == (1, -2, 3)
    assert struct.unpack("<3f", data[12:24]) == pytest.approx((1, np.e, np.e**2))
    assert list(data[24:]) == [255, 128, 0, 128, 219, 128, 128, 37]


def test_an_spz_file_is_what_niantic_says(tmp_path: Path) -> None:
    """Header, table and streams of one Gaussian, decoded here by hand.

    Y and z change sign between PLY's axes and SPZ's.
    """
    sh = torch.zeros(1, 4, 3)
    sh[0, 1:, 0] = 0.5  # the coefficients of y, z and x in red
    sh[0, 0] = 1.0
    g = Gaussians(
        torch.tensor([[0.25, 0.5, -0.125]]),
        torch.tensor([[0.5, 0.5, 0.7, 0.1]]),
        torch.full((1, 3), -2.0),
        torch.zeros(1),
        sh,
    )
    write_spz(tmp_path / "a.spz", g)
    data = (tmp_path / "a.spz").read_bytes()
    assert struct.unpack_from("<4sIIBBBBI12s", data) == (b"NGSP", 4, 1, 1, 17, 0, 6, 32, b"\0" * 12)
    streams, offset = [], 32 + 6 * 16
    for i in range(6):
        packed, raw = struct.unpack_from("<QQ", data, 32 + 16 * i)
        streams.append(zstandard.ZstdDecompressor().decompress(data[offset : offset + packed]))
        assert len(streams[-1]) == raw
        offset += packed
    assert offset == len(data)
    fixed = [
        int.from_bytes(streams[0][i : i + 3], "little", signed=True) / 2**17 for i in (0, 3, 6)
    ]
    assert fixed == [0.25, -0.5, 0.125]
    assert list(streams[1]) == [128]
    assert list(streams[2]) == [round(255 * (0.15 + 0.5))] * 3
    assert list(streams[3]) == [128] * 3
    (word,) = struct.unpack("<I", streams[4])
    # xyzw = (0.5, -0.7, -0.1, 0.5): y is largest and negative, so all others change sign.
    x, z, w = (
        (-1 if f >> 9 & 1 else 1) * (f & 511) / 511 / 2**0.5 for f in (word >> 20, word >> 10, word)
    )
    assert word >> 30 == 1
    assert (x, z, w) == pytest.approx((-0.5, 0.1, -0.5), abs=0.001)
    assert list(streams[5]) == [64, 128, 128, 64, 128, 128, 192, 128, 128]


def legacy_spz(version: int) -> bytes:
    """Two Gaussians in the layout of versions 1 to 3, unpacked.

    At (1, 2, 3) and (-0.5, 0, 0.25) in SPZ's axes.
    """
    means = np.array([[1, 2, 3], [-0.5, 0, 0.25]])
    fixed = (means * 4096).astype("<i4").view("u1").reshape(2, 3, 4)[..., :3]
    positions = means.astype("<f2").tobytes() if version == 1 else fixed.tobytes()
    rotation = bytes([255, 127, 128, 0, 0, 255]) if version < 3 else struct.pack("<II", 0, 3 << 30)
    header = struct.pack("<4sIIBBBB", b"NGSP", version, 2, 0, 12, 0, 0)
    return (
        header
        + positions
        + bytes([255, 0])
        + bytes([128] * 6)
        + bytes([160, 160, 160, 0, 0, 0])
        + rotation
    )


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("packed", [True, False])
def test_older_spz_versions_are_read(tmp_path: Path, version: int, packed: bool) -> None:
    data = legacy_spz(version)
    (tmp_path / "a.spz").write_bytes(gzip.compress(data) if packed else data)
    g = read_gaussians(tmp_path / "a.spz")
    assert g.means.tolist() == [[1, -2, -3], [-0.5, 0, -0.25]]
    assert g.log_scales.tolist() == [[0.0] * 3, [-10.0] * 3]
    assert g.logit_opacities.tolist() == pytest.approx([13.8155, -13.8155], abs=1e-3)
    assert g.quats[0].tolist() == pytest.approx([0, 1, 0, 0], abs=0.006)


def test_spz_of_degree_4_is_cut_and_extensions_are_skipped(tmp_path: Path) -> None:
    lengths = [9, 1, 3, 3, 4, 72]
    frames = [zstandard.compress(bytes([200] * length)) for length in lengths]
    extension = struct.pack("<II", 0xADBE0002, 12) + bytes(12)
    table = b"".join(
        struct.pack("<QQ", len(frame), length)
        for frame, length in zip(frames, lengths, strict=True)
    )
    header = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, 1, 4, 12, 2, 6, 32 + len(extension))
    (tmp_path / "a.spz").write_bytes(header + extension + table + b"".join(frames))
    g = read_gaussians(tmp_path / "a.spz")
    assert g.sh_degree == 3
    assert g.sh[0, 1:4, 0].tolist() == [-72 / 128, -72 / 128, 72 / 128]


def test_compressed_ply_packs_as_supersplat_does(tmp_path: Path) -> None:
    g = cloud(300, degree=1)
    write_compressed_ply(tmp_path / "a.ply", g)
    ply = PlyData.read(str(tmp_path / "a.ply"))
    chunk, vertex, sh = (ply[name].data for name in ("chunk", "vertex", "sh"))
    assert (len(chunk), len(vertex), len(sh), len(chunk.dtype.names)) == (2, 300, 300, 18)
    # The same Gaussian, read off by hand: the first one along the Morton curve.
    i = int(morton_order(g.means)[0])
    x = int(vertex["packed_position"][0]) >> 21
    assert chunk["min_x"][0] + x / 2047 * (chunk["max_x"][0] - chunk["min_x"][0]) == pytest.approx(
        float(g.means[i, 0]), abs=3e-4
    )
    blue, alpha = int(vertex["packed_color"][0]) >> 8 & 255, int(vertex["packed_color"][0]) & 255
    wanted = 0.5 + SH_C0 * float(g.sh[i, 0, 2])
    assert chunk["min_b"][0] + blue / 255 * (
        chunk["max_b"][0] - chunk["min_b"][0]
    ) == pytest.approx(wanted, abs=0.003)
    assert alpha / 255 == pytest.approx(float(g.logit_opacities[i].sigmoid()), abs=0.003)
    q = torch.nn.functional.normalize(g.quats[i], dim=0)
    assert int(vertex["packed_rotation"][0]) >> 30 == int(q.abs().argmax())
    # green's second coefficient
    assert sh["f_rest_4"][0] / 32 - 4 == pytest.approx(float(g.sh[i, 2, 1]), abs=0.04)


def ksplat(level: int) -> bytes:
    """Three Gaussians of degree 1 at x = 0, 1 and 10.

    A full bucket of two and a partial one of one.
    """
    header = bytearray(4096)
    struct.pack_into("<BB2xI8xIH14xff", header, 0, 0, 1, 1, 3, level, -2.0, 2.0)
    section = bytearray(1024)
    struct.pack_into("<IIIIfH2xI4xIIH", section, 0, 3, 4, 2, 2, 4.0, 12, 32767, 1, 1, 1)
    body = struct.pack("<I", 1) + struct.pack("<6f", 0.5, 0, 0, 9.0, 0, 0)
    small = {0: "<f", 1: "<e", 2: "<e"}[level]
    for x, center in ((0.0, 0.5), (1.0, 0.5), (10.0, 9.0)):
        if level:
            body += struct.pack("<3H", round((x - center) / 2 * 32767) + 32767, 32767, 32767)
        else:
            body += struct.pack("<3f", x, 0, 0)
        body += b"".join(struct.pack(small, v) for v in (0.1, 0.2, 0.3, 1, 0, 0, 0)) + bytes(
            [255, 0, 0, 51]
        )
        rest = [c / 10 for c in range(9)]
        body += (
            bytes(round((c + 2) / 4 * 255) for c in rest)
            if level == 2
            else b"".join(struct.pack(small, c) for c in rest)
        )
    return bytes(header + section) + body


@pytest.mark.parametrize("level", [0, 1, 2])
def test_ksplat_of_every_level_is_read(tmp_path: Path, level: int) -> None:
    (tmp_path / "a.ksplat").write_bytes(ksplat(level))
    g = read_gaussians(tmp_path / "a.ksplat")
    assert g.means[:, 0].tolist() == pytest.approx([0, 1, 10], abs=1e-4)
    assert g.log_scales[2].exp().tolist() == pytest.approx([0.1, 0.2, 0.3], rel=1e-3)
    assert g.quats[1].tolist() == [1, 0, 0, 0]
    assert (0.5 + SH_C0 * g.sh[0, 0]).tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert g.logit_opacities.sigmoid().tolist() == pytest.approx([0.2] * 3)
    # One channel after the other: red has 0.0 to 0.2, green 0.3 to 0.5.
    assert g.sh[0, 1:, 1].tolist() == pytest.approx([0.3, 0.4, 0.5], abs=0.01)


def write_sog(folder: Path) -> None:
    """Two Gaussians of degree 1 with a palette of two sets.

    4x4 pictures, of which two pixels count.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def picture(name: str, width: int, *pixels: tuple[int, int, int, int]) -> None:
        values = np.zeros((4 if width == 4 else 1, width, 4), np.uint8)
        values.reshape(-1, 4)[: len(pixels)] = pixels
        Image.fromarray(values, "RGBA").save(folder / name, lossless=True, exact=True)

    picture("means_l.webp", 4, (0, 255, 0, 255), (255, 255, 0, 255))
    picture("means_u.webp", 4, (0, 255, 128, 255), (255, 255, 128, 255))
    picture("quats.webp", 4, (128, 128, 128, 252), (0, 128, 255, 255))
    picture("scales.webp", 4, (10, 20, 30, 255), (1, 2, 3, 255))
    picture("sh0.webp", 4, (0, 128, 255, 51), (5, 6, 7, 0))
    picture("shN_centroids.webp", 192, *[(i, 2 * i, 3 * i, 255) for i in range(6)])
    picture("shN_labels.webp", 4, (1, 0, 0, 255), (0, 9, 0, 255))
    book = [i / 64 - 2 for i in range(256)]
    meta = {
        "version": 2,
        "count": 2,
        "means": {
            "mins": [-1.0, 0.0, 0.0],
            "maxs": [1.0, 2.0, 1.0],
            "files": ["means_l.webp", "means_u.webp"],
        },
        "scales": {"codebook": book, "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": book, "files": ["sh0.webp"]},
        "shN": {
            "count": 2,
            "bands": 1,
            "codebook": book,
            "files": ["shN_centroids.webp", "shN_labels.webp"],
        },
    }
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("form", ["folder", "meta.json", "zip"])
def test_sog_is_read_in_every_form(tmp_path: Path, form: str) -> None:
    write_sog(tmp_path / "a")
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "a.sog", "w") as archive:
            for path in (tmp_path / "a").iterdir():
                archive.write(path, path.name)
    g = read_gaussians(
        {
            "folder": tmp_path / "a",
            "meta.json": tmp_path / "a/meta.json",
            "zip": tmp_path / "a.sog",
        }[form]
    )
    assert g.means[0].tolist() == pytest.approx(
        [-(np.e - 1), np.e**2 - 1, np.exp(32768 / 65535) - 1], rel=1e-5
    )
    assert g.means[1, 0].item() == pytest.approx(np.e - 1, rel=1e-5)
    assert g.quats[0].tolist() == pytest.approx([1, 0, 0, 0], abs=0.006)
    assert g.quats[1].tolist() == pytest.approx([-(0.5**0.5), 0, 0.5**0.5, 0], abs=0.006)
    assert g.log_scales[0].tolist() == [10 / 64 - 2, 20 / 64 - 2, 30 / 64 - 2]
    assert g.sh[0, 0].tolist() == [-2, 0, 255 / 64 - 2]
    assert g.logit_opacities.sigmoid().tolist() == pytest.approx([0.2, 0], abs=1e-5)
    assert g.sh[0, 1:, 1].tolist() == [6 / 64 - 2, 8 / 64 - 2, 10 / 64 - 2]  # the second set, green
    assert not g.sh[1, 1:].any()  # it names a set that is not there


def vertices(**columns: np.ndarray) -> np.ndarray:
    table = np.zeros(
        len(next(iter(columns.values()))),
        [(name, values.dtype) for name, values in columns.items()],
    )
    for name, values in columns.items():
        table[name] = values
    return table


@pytest.mark.parametrize(("text", "order"), [(True, "="), (False, "<"), (False, ">")])
def test_ply_of_any_order_type_and_byte_order_is_read(
    tmp_path: Path, text: bool, order: str
) -> None:
    g = cloud(5, degree=1)
    write_ply(tmp_path / "a.ply", g)
    table = PlyData.read(str(tmp_path / "a.ply"))["vertex"].data
    columns = {
        name: table[name].astype("f8" if i % 2 else "f4")
        for i, name in enumerate(reversed(table.dtype.names))
    }
    columns["class"] = np.arange(5, dtype=np.uint8)
    faces = np.empty(1, [("vertex_indices", "O")])
    faces["vertex_indices"][0] = np.array([0, 1, 2], np.int32)
    elements = [
        PlyElement.describe(vertices(**columns), "vertex"),
        PlyElement.describe(faces, "face"),
    ]
    PlyData(elements, text=text, byte_order=order).write(str(tmp_path / "b.ply"))
    for (name, a), (_, b) in zip(g.items(), read_ply(tmp_path / "b.ply").items(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name


def test_ply_of_degree_4_is_cut_and_of_half_a_degree_refused(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", cloud(2, degree=3))
    table = PlyData.read(str(tmp_path / "a.ply"))["vertex"].data
    columns = {name: table[name] for name in table.dtype.names}
    rest = {f"f_rest_{i}": np.full(2, float(i), np.float32) for i in range(72)}
    PlyData([PlyElement.describe(vertices(**{**columns, **rest}), "vertex")]).write(
        str(tmp_path / "b.ply")
    )
    # green begins at 24
    assert read_ply(tmp_path / "b.ply").sh[0, 1:, 1].tolist() == list(range(24, 39))
    del columns["f_rest_44"]
    PlyData([PlyElement.describe(vertices(**columns), "vertex")]).write(str(tmp_path / "c.ply"))
    with pytest.raises(UserError, match="has 44 f_rest properties, not 0, 9, 24 or 45"):
        read_ply(tmp_path / "c.ply")


def grid_points() -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(4.0, dtype=np.float32)] * 3), -1).reshape(-1, 3)


@pytest.mark.parametrize("kind", ["ply", "npz"])
def test_point_clouds_become_round_gaussians_half_as_wide_as_their_spacing(
    tmp_path: Path, kind: str
) -> None:
    points, colors = grid_points(), np.tile(np.array([[255, 0, 51]], np.uint8), (64, 1))
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez_compressed(path, means3d=points, colors=colors, viewmats=np.zeros((3, 4, 4)))
    else:
        columns = dict(zip("xyz", points.T, strict=True)) | dict(
            zip(("red", "green", "blue"), colors.T, strict=True)
        )
        PlyData([PlyElement.describe(vertices(**columns), "vertex")]).write(str(path))
    g = read_gaussians(path)
    assert torch.equal(g.means, torch.from_numpy(points))
    assert torch.allclose(g.log_scales, torch.tensor(0.5).log())
    assert (0.5 + SH_C0 * g.sh[7, 0]).tolist() == pytest.approx([1, 0, 0.2], abs=1e-6)


BAD: dict[str, tuple[str, bytes, str]] = {
    "text": ("a.txt", b"hello", "no file of Gaussians that gs4d knows; it reads .ply"),
    "nothing": ("a.splat", b"", "0 bytes, not a multiple of 32"),
    "splat cut": ("a.splat", bytes(33), "33 bytes, not a multiple of 32"),
    "ply without end": ("a.ply", b"ply\nformat ascii 1.0\n", "header has no beginning or no end"),
    "ply lies": (
        "a.ply",
        b"ply\nformat ascii 1.0\nelement vertex 900000000000\nproperty float x\nend_header\n1\n",
        "its header claims at least 1800000000000 bytes, it has",
    ),
    "ply lies in lists": (
        "a.ply",
        b"ply\nformat binary_little_endian 1.0\nelement face 9000000000\n"
        b"property list int int x\nend_header\n1\n",
        "its header claims at least 36000000000 bytes",
    ),
    "ply of no vertices": (
        "a.ply",
        b"ply\nformat ascii 1.0\nelement edge 0\nend_header\n",
        "not an intact PLY file .'vertex'",
    ),
    "spz version": (
        "a.spz",
        struct.pack("<4sIIBBBB", b"NGSP", 9, 1, 0, 12, 0, 0),
        "SPZ of version 9; versions 1 to 4 are read",
    ),
    "spz count": (
        "a.spz",
        struct.pack("<4sIIBBBB", b"NGSP", 3, 2**31, 0, 12, 0, 0),
        "claims 2147483648 Gaussians in 16 bytes",
    ),
    "spz degree": ("a.spz", struct.pack("<4sIIBBBB", b"NGSP", 3, 1, 7, 12, 0, 0), "SH degree 7"),
    "spz none": (
        "a.spz",
        struct.pack("<4sIIBBBB", b"NGSP", 3, 0, 0, 12, 0, 0),
        "holds no Gaussians",
    ),
    "spz cut": (
        "a.spz",
        legacy_spz(3)[:-1],
        "cut short: its header claims 56 bytes of Gaussians, it holds 55",
    ),
    "spz gzip cut": ("a.spz", gzip.compress(legacy_spz(3))[:40], "cut short"),
    "gzip of else": (
        "a.gz",
        gzip.compress(b"something else"),
        "cut short: its header claims 16 bytes of header, it holds 14",
    ),
    "spz bomb": (
        "a.spz",
        struct.pack("<4sIIBBBBI12x", b"NGSP", 4, 1, 0, 12, 0, 5, 32)
        + b"".join(struct.pack("<QQ", 12, n) for n in (9, 1, 3, 3, 4))
        + zstandard.compress(bytes(1 << 30))[:12] * 5,
        "bytes in stream 0 where its Gaussians need 9",
    ),
    "ksplat cut": ("a.ksplat", ksplat(1)[:-300], "cut short"),
    "ksplat level": ("a.ksplat", bytes(4) + bytes(5000), "no .ksplat of version 0.1 or later"),
    "zip of nothing": ("a.sog", b"PK\x03\x04 no zip", "not an intact zip file"),
    "lod": (
        "lod-meta.json",
        b"{}",
        "lists levels of detail; give the folder of one .there are: none.",
    ),
    "sog version": ("meta.json", b'{"version": 3}', "no SOG of version 1 or 2 .it says 3."),
    "sog list": ("meta.json", b"[]", "no SOG of version 1 or 2"),
    "sog count": ("meta.json", b'{"version": 2, "count": 1e9}', "its count is no number"),
    "sog path": (
        "meta.json",
        b'{"version": 2, "count": 1, "means": {"files": ["../secret", "b"]}}',
        "names the picture '../secret', which is no plain file name",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_get_one_sentence(tmp_path: Path, case: str) -> None:
    name, data, sentence = BAD[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=sentence) as caught:
        read_gaussians(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_picture_that_claims_to_be_huge_is_not_decoded(tmp_path: Path) -> None:
    write_sog(tmp_path / "a")
    path = tmp_path / "a" / "quats.webp"
    data = bytearray(path.read_bytes())
    # 16384 x 16384
    data[21:25] = struct.pack("<I", struct.unpack_from("<I", data, 21)[0] | 0xFFFFFFF)
    path.write_bytes(data)
    with pytest.raises(UserError, match="a picture has 16384x16384 pixels for 2 values"):
        read_gaussians(tmp_path / "a")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", means3d=np.array([print], object), colors=np.zeros((1, 3)))
    with pytest.raises(UserError, match="not a table of numbers"):
        read_gaussians(tmp_path / "a.npz")


def good_files() -> dict[str, bytes]:
    """A small intact file of each format, as bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        g = cloud(20, degree=1)
        writers = {**PACKED, ".full.ply": write_ply}
        for suffix, write in writers.items():
            write(folder / f"a{suffix}", g)
        write_sog(folder / "sog")
        with zipfile.ZipFile(folder / "a.sog", "w") as archive:
            for path in sorted((folder / "sog").iterdir()):
                archive.write(path, path.name)
        np.savez_compressed(
            folder / "a.npz", means3d=grid_points(), colors=np.zeros((64, 3), np.uint8)
        )
        (folder / "a.ksplat").write_bytes(ksplat(1))
        (folder / "old.spz").write_bytes(gzip.compress(legacy_spz(2)))
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


GOOD = good_files()
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 6000), st.integers(0, 255)),
        st.tuples(
            st.just("word"),
            st.integers(0, 200),
            st.sampled_from([0, 1, 2**16, 2**31 - 1, 2**32 - 1]),
        ),
        st.tuples(st.just("cut"), st.integers(0, 6000), st.just(0)),
        st.tuples(st.just("drop"), st.integers(0, 300), st.integers(1, 40)),
        st.tuples(st.just("digits"), st.integers(0, 40), st.integers(0, 10**12)),
    ),
    min_size=1,
    max_size=4,
)


def spoil(data: bytes, edits: list[tuple[str, int, int]]) -> bytes:
    """The bytes with some changed, cut off, left out, or with a number of the header's text
    replaced.
    """
    spoiled = bytearray(data)
    for kind, where, what in edits:
        at = where % max(len(spoiled), 1)
        if kind == "set" and spoiled:
            spoiled[at] = what
        elif kind == "word":
            spoiled[at : at + 4] = struct.pack("<I", what)
        elif kind == "cut":
            del spoiled[at:]
        elif kind == "drop":
            del spoiled[at : at + what]
        else:
            words = bytes(spoiled).split(b" ", 41)
            spoiled = bytearray(
                b" ".join(
                    [
                        *words[: where % len(words)],
                        str(what).encode(),
                        *words[where % len(words) + 1 :],
                    ]
                )
            )
    return bytes(spoiled)


@pytest.mark.parametrize("name", GOOD)
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(edits=EDITS)
def test_spoiled_files_are_refused_or_read_and_never_take_much_memory(
    tmp_path: Path, name: str, edits: list
) -> None:
    path = tmp_path / name
    path.write_bytes(spoil(GOOD[name], edits))
    tracemalloc.start()
    try:
        with suppress(UserError):
            assert read_gaussians(path).count >= 1
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("field", ["means", "quats", "log_scales", "logit_opacities", "sh"])
def test_numbers_that_are_not_finite_are_refused_and_nothing_is_left(
    tmp_path: Path, suffix: str, field: str
) -> None:
    g = cloud(9, degree=0)
    spoiled = getattr(g, field).clone()
    spoiled[5] = float("nan")
    with pytest.raises(UserError, match=f"Gaussian 5 has {field} that are not finite"):
        PACKED[suffix](tmp_path / f"a{suffix}", g.replace(**{field: spoiled}))
    with pytest.raises(UserError, match="no Gaussians to write"):
        PACKED[suffix](tmp_path / f"a{suffix}", g.select(torch.zeros(9, dtype=torch.bool)))
    assert not list(tmp_path.iterdir())
