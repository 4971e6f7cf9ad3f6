"""glTF files are read to the numbers that are in them, and refused in one sentence where those
cannot be true.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gltf_builder import QUAD, Builder, sliding_quad

from gs4d.errors import UserError
from gs4d.io.gltf import GltfFile


def only_accessor(tmp_path: Path, array: np.ndarray, **changes: Any) -> GltfFile:
    b = Builder()
    b.accessor(array, **changes)
    return GltfFile(b.save(tmp_path / "a.glb"))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("u1", [0, 1.0]), ("i1", [-1.0, 1.0]), ("u2", [0, 1.0]), ("i2", [-1.0, 1.0])],
)
def test_normalized_integers_become_fractions(tmp_path: Path, dtype: str, expected: list[float]):
    info = np.iinfo(dtype)
    file = only_accessor(tmp_path, np.array([info.min, info.max], "<" + dtype), normalized=True)
    assert file.floats(0, "test").tolist() == expected
    assert file.integers(0, "test").tolist() == [info.min, info.max]


def test_plain_integers_stay_as_they_are(tmp_path: Path):
    file = only_accessor(tmp_path, np.array([[1, 2, 60000]], np.uint16))
    assert file.floats(0, "test", "VEC3").tolist() == [[1, 2, 60000]]


def test_interleaved_attributes_are_told_apart(tmp_path: Path):
    b = Builder()
    rows = np.arange(15, dtype=np.float32).reshape(3, 5)
    view = b.view(rows.tobytes(), stride=20)
    b.accessor(rows[:, :3], bufferView=view)
    b.accessor(rows[:, 3:], bufferView=view, byteOffset=12)
    file = GltfFile(b.save(tmp_path / "a.glb"))
    assert np.array_equal(file.floats(0, "test"), rows[:, :3])
    assert np.array_equal(file.floats(1, "test"), rows[:, 3:])


def test_sparse_values_replace_stored_ones_or_zeros(tmp_path: Path):
    b = Builder()
    values = b.view(np.array([[7, 8, 9]], np.float32).tobytes())
    indices = b.view(np.array([2], np.uint8).tobytes())
    sparse = {
        "count": 1,
        "indices": {"bufferView": indices, "componentType": 5121, "byteOffset": 0},
        "values": {"bufferView": values, "byteOffset": 0},
    }
    b.accessor(QUAD, sparse=sparse)
    b.accessor(QUAD, sparse=sparse, bufferView=None)
    file = GltfFile(b.save(tmp_path / "a.glb"))
    expected = QUAD.copy()
    expected[2] = [7, 8, 9]
    assert np.array_equal(file.floats(0, "test"), expected)
    assert file.floats(1, "test").tolist() == [[0, 0, 0], [0, 0, 0], [7, 8, 9], [0, 0, 0]]


def test_matrices_come_row_by_row_and_their_columns_may_be_padded(tmp_path: Path):
    b = Builder()
    matrix = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    b.accessor(matrix)
    # three columns of three bytes, each from a multiple of four on
    stored = np.zeros((3, 4), np.uint8)
    stored[:, :3] = np.arange(9).reshape(3, 3).T
    b.accessor(np.zeros((1, 3), np.uint8), type="MAT3", bufferView=b.view(stored.tobytes()))
    file = GltfFile(b.save(tmp_path / "a.glb"))
    assert np.array_equal(file.floats(0, "test", "MAT4"), matrix)
    assert np.array_equal(file.floats(1, "test", "MAT3")[0], np.arange(9).reshape(3, 3))


def test_a_file_beside_it_a_data_uri_and_a_name_with_spaces_are_found(tmp_path: Path):
    path = sliding_quad().save(tmp_path / "mit Leerzeichen ü" / "mödel.gltf")
    document = json.loads(path.read_text())
    data = path.with_name("data.bin").read_bytes()
    expected = GltfFile(path).floats(0, "test")
    path.with_name("data.bin").rename(path.with_name("größe 1%.bin"))
    for uri in (
        "gr%C3%B6%C3%9Fe%201%25.bin",
        "größe 1%.bin",
        "data:;base64," + base64.b64encode(data).decode(),
    ):
        document["buffers"][0]["uri"] = uri
        path.write_text(json.dumps(document), encoding="utf-8")
        assert np.array_equal(GltfFile(path).floats(0, "test"), expected)


def changed(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return apply


def accessor(**fields: Any) -> Callable[[Path], None]:
    return changed(lambda d: d["accessors"][0].update(fields))


def view(**fields: Any) -> Callable[[Path], None]:
    return changed(lambda d: d["bufferViews"][0].update(fields))


def buffer(**fields: Any) -> Callable[[Path], None]:
    return changed(lambda d: d["buffers"][0].update(fields))


def write(data: bytes) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        path.write_bytes(data)

    return apply


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (write(b""), "not a glTF file"),
        (write(b"v 0 0 0\nf 1 1 1\n"), "not a glTF file"),
        (write(b"{"), "cannot be parsed"),
        (write(b"{" + b'"a":{' * 100_000), "cannot be parsed"),
        (write(b'{"asset": {"version": "1.0"}}'), "version 1.0"),
        (write(b"glTF" + struct.pack("<II", 2, 900) + b"\0" * 20), "cut short"),
        (
            write(b"glTF" + struct.pack("<III", 2, 24, 4000) + b"JSON" + b"{}  "),
            "ends after the file",
        ),
        (write(b"glTF" + struct.pack("<II", 1, 20) + b"\0" * 8), "version 1"),
        (accessor(count=5), "its buffer view ends before"),
        (accessor(count=10**12), "whole number|more than"),
        (accessor(count=-1), "whole number"),
        (accessor(count="four"), "whole number|is not what glTF says"),
        (accessor(byteOffset=47), "its buffer view ends before"),
        (accessor(byteOffset=-4), "whole number"),
        (accessor(bufferView=99), "whole number"),
        (accessor(bufferView=None, count=10**9), "may take 256 MB"),
        (accessor(componentType=5124), "component type 5124"),
        (accessor(type="VEC9"), "of type VEC9"),
        (accessor(type=["VEC3"]), "of type|is not what glTF says"),
        (view(byteLength=10**9), "whole number"),
        (view(byteOffset=10**9), "whole number"),
        (view(byteStride=4), "byteStride"),
        (view(buffer=1), "whole number"),
        (buffer(byteLength=10**6), "cut short"),
        (buffer(uri="missing.bin"), "does not exist"),
        (buffer(uri="../data.bin"), "outside its folder"),
        (buffer(uri="/etc/passwd"), "outside its folder"),
        (buffer(uri="..%2Fdata.bin"), "outside its folder"),
        (buffer(uri="https://example.org/data.bin"), "outside its folder"),
        (buffer(uri="data:;base64,!!!"), "not base64"),
        (buffer(uri="."), "no regular file"),
        (changed(lambda d: d.update(accessors={})), "no list"),
        (changed(lambda d: d.update(accessors=[3])), "is not what glTF says"),
        (changed(lambda d: d.update(accessors=[None])), "is not what glTF says"),
        (
            changed(lambda d: d.update(extensionsRequired=["KHR_draco_mesh_compression"])),
            "KHR_draco_mesh_compression",
        ),
        (
            changed(lambda d: d.update(extensionsRequired=["EXT_meshopt_compression"])),
            "EXT_meshopt_compression",
        ),
        (changed(lambda d: d.update(extensionsRequired=["ACME_fog"])), "ACME_fog"),
    ],
)
def test_what_cannot_be_true_is_refused_in_one_sentence(
    tmp_path: Path, damage: Callable[[Path], None], said: str
):
    path = sliding_quad().save(tmp_path / "a.gltf")
    damage(path)
    with pytest.raises(UserError, match=said) as caught:
        GltfFile(path).floats(0, "positions", "VEC3")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_values_that_are_not_finite_are_refused_unless_they_may_be(tmp_path: Path):
    file = only_accessor(tmp_path, np.array([[1, np.nan, np.inf]], np.float32))
    with pytest.raises(UserError, match="not finite"):
        file.floats(0, "positions")
    assert np.isnan(file.floats(0, "normals", finite=False)[0, 1])


def test_required_extensions_that_the_caller_knows_pass(tmp_path: Path):
    b = sliding_quad()
    b.gltf.extensionsRequired = ["KHR_mesh_quantization", "ACME_fog"]
    GltfFile(b.save(tmp_path / "a.glb"), extensions=frozenset({"ACME_fog"}))
