"""Animated models become clips on disk, or one sentence."""

from __future__ import annotations

import json
import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gltf_builder import Builder, sliding_cross, sliding_quad

from gs4d.cli import guarded
from gs4d.clip import Orbit
from gs4d.errors import UserError
from gs4d.intake.mesh import MeshOptions, make_clip
from gs4d.io.clips import read_clip
from gs4d.io.files import write_json
from gs4d.mesh import load_animated_mesh

ROOT = Path(__file__).parent.parent


def options(path: Path, data: Path, **changes: Any) -> MeshOptions:
    return MeshOptions(
        path=path, data_dir=data, size=16, **({"name": "toy", "frames": 4} | changes)
    )


def everything(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_model_becomes_a_clip_that_training_reads(tmp_path: Path):
    path = sliding_cross().save(tmp_path / "mit Leerzeichen" / "Füchse.glb")
    data = tmp_path / "data ü"
    previews = make_clip(options(path, data, name=""))
    clip = read_clip(data, "Füchse", resolution=64)
    assert (clip.frames, len(clip.tracks), len(clip.truth)) == (4, 17, 4)
    assert clip.tracks[5].orbit == Orbit(azimuth=90.0, elevation=30.0)
    assert [track.orbit.azimuth for track in clip.truth] == [-75, 15, 105, 195]
    assert not (data / "Füchse_rig.json").exists()
    assert all(p.stat().st_size > 500 for p in previews)
    mesh = load_animated_mesh(path).fitted([0.0, 0.25, 0.5, 0.75])
    expected = mesh.views([0.75], [Orbit(elevation=30.0, azimuth=45.0)], 16, 16)[0]
    assert np.array_equal(clip.tracks[3].images[3].numpy(), expected)
    record = json.loads((data / "Füchse_mesh.json").read_text())
    assert record["times"] == [0.0, 0.5, 1.0, 1.5]


def test_rigs_may_be_chosen_and_are_recorded(tmp_path: Path):
    path = sliding_cross().save(tmp_path / "a.glb")
    write_json(tmp_path / "rig.json", {"azimuth": [10, 20, 30], "elevation": 5, "fov": 40})
    write_json(tmp_path / "eval.json", {"azimuth": [60], "elevation": -15})
    rigs = {"rig": tmp_path / "rig.json", "eval_rig": tmp_path / "eval.json"}
    make_clip(options(path, tmp_path, elevation=10.0, loop=False, start=0.5, end=1.5, **rigs))
    clip = read_clip(tmp_path, "toy", resolution=64)
    assert clip.tracks[0].orbit == Orbit(elevation=10.0)
    assert [track.orbit for track in clip.tracks[1:]] == [
        Orbit(float(a), 5.0, fov=40.0) for a in (10, 20, 30)
    ]
    assert [track.orbit for track in clip.truth] == [Orbit(60.0, -15.0)]
    assert np.allclose(
        json.loads((tmp_path / "toy_mesh.json").read_text())["times"],
        [0.5, 0.8333333, 1.1666667, 1.5],
    )


def test_running_again_replaces_its_own_and_nothing_else(tmp_path: Path):
    path = sliding_cross().save(tmp_path / "a.glb")
    data = tmp_path / "data"
    make_clip(options(path, data))
    make_clip(options(path, data, sync=False, eval=False, frames=2))
    assert everything(data) == [
        "toy_mesh.json",
        "toy_mesh_preview.mp4",
        "toy_mesh_preview.png",
        "toy_pose0",
        "toy_pose0/0.png",
        "toy_pose0/1.png",
    ]
    (data / "toy_pose0" / "0.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="was changed after it was made"):
        make_clip(options(path, data))
    (data / "toy_eval").mkdir()
    (data / "toy_mesh.json").unlink()
    before = everything(data)
    with pytest.raises(UserError, match="not made by this command"):
        make_clip(options(path, data))
    assert everything(data) == before
    make_clip(options(path, data, overwrite=True))
    assert len(read_clip(data, "toy", resolution=16).truth) == 4


def test_a_model_at_rest_is_one_frame_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    b = sliding_cross()
    b.gltf.animations = []
    make_clip(MeshOptions(b.save(tmp_path / "a.glb"), "toy", data_dir=tmp_path, size=16))
    assert "does not move" in capsys.readouterr().out
    assert read_clip(tmp_path, "toy", resolution=16).frames == 1


def test_views_that_show_nothing_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = sliding_quad().save(tmp_path / "a.glb")
    make_clip(options(path, tmp_path, sync=False))
    assert "view eval_3 shows nothing in 4 of 4 frames" in capsys.readouterr().out


def broken(change: Callable[[Builder], object]) -> Builder:
    b = sliding_quad()
    change(b)
    return b


def set_position(b: Builder, value: float) -> None:
    """Of the first vertex along x: positions are what is stored first."""
    b.blob[:4] = np.float32(value).tobytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: set_position(b, math.nan), "not finite"),
        (lambda b: set_position(b, 1e38), "reaches 1e\\+38|reaches 5e\\+37|cannot be drawn"),
        (lambda b: b.gltf.nodes[0].children.append(0), "its own ancestor|two parents"),
        (lambda b: b.node(children=[0, 0]), "two parents"),
        (lambda b: b.gltf.nodes[0].children.append(7), "whole number"),
        (lambda b: setattr(b.gltf.nodes[0], "mesh", None), "shows no triangles"),
        (lambda b: setattr(b.gltf.nodes[0], "mesh", 3), "index into meshes"),
        (lambda b: setattr(b.gltf.nodes[0], "skin", 0), "index into skins"),
        (lambda b: setattr(b.gltf.nodes[0], "translation", [0, 0]), "wanted 3 finite numbers"),
        (lambda b: setattr(b.gltf.nodes[0], "scale", [1e40, 1, 1]), "wanted 3 finite numbers"),
        (lambda b: setattr(b.gltf.meshes[0].primitives[0], "indices", 0), "VEC3"),
        (lambda b: setattr(b.gltf.meshes[0].primitives[0], "mode", 1), "shows no triangles"),
        (lambda b: setattr(b.gltf.meshes[0].primitives[0], "material", 5), "index into materials"),
        (lambda b: setattr(b.gltf.accessors[1], "count", 2), "shows no triangles"),
        (lambda b: b.gltf.meshes[0].primitives.clear(), "shows no triangles"),
        (
            lambda b: setattr(b.gltf.animations[0].samplers[0], "interpolation", "QUINTIC"),
            "QUINTIC",
        ),
        (
            lambda b: setattr(b.gltf.animations[0].samplers[0], "interpolation", "CUBICSPLINE"),
            "6 numbers for 2 times",
        ),
        (lambda b: b.animate(0, "scale", [1, 0], [[1, 1, 1]] * 2), "do not rise"),
    ],
)
def test_damaged_models_are_refused_and_nothing_is_written(
    tmp_path: Path, change: Callable[[Builder], object], said: str
):
    path = broken(change).save(tmp_path / "a.glb")
    with pytest.raises(UserError, match=said) as caught:
        make_clip(options(path, tmp_path / "data"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": None}, "--path is missing"),
        ({"clip": "Mvoe"}, "did you mean 'move'"),
        ({"end": 9.0}, "lasts from 0 to 2 s"),
        ({"start": 1.0, "end": 0.5}, "must come after"),
        ({"size": 9}, "16 to 2048"),
        ({"name": "a/b"}, "no name of a folder"),
        ({"rig": Path("missing.json")}, "missing.json"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, changes: dict[str, Any], said: str):
    path = sliding_quad().save(tmp_path / "a.glb")
    chosen = {
        "path": path,
        "data_dir": tmp_path / "data",
        "name": "toy",
        "size": 16,
        "frames": 2,
    } | changes
    with pytest.raises(UserError, match=said):
        make_clip(MeshOptions(**chosen))
    assert not (tmp_path / "data").exists()


def test_cameras_stay_outside(tmp_path: Path):
    path = sliding_quad().save(tmp_path / "a.glb")
    write_json(tmp_path / "rig.json", {"azimuth": [0], "radius": 0.5})
    with pytest.raises(UserError, match="inside the object"):
        make_clip(options(path, tmp_path / "data", rig=tmp_path / "rig.json"))


def test_the_command_works_as_typed(tmp_path: Path):
    path = sliding_cross().save(tmp_path / "ein Fuchs ü.gltf")
    command = [
        sys.executable,
        "preprocess/mesh.py",
        "--path",
        str(path),
        "--name",
        "fuchs",
        "--data_dir",
        str(tmp_path),
    ]
    done = subprocess.run(
        [*command, "--frames", "2", "--size", "16", "--no-sync"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "fuchs_mesh_preview.png" in done.stdout


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = sliding_cross().save(tmp_path / "a.gltf")
    (tmp_path / "data.bin").write_bytes(b"short")
    main = runpy.run_path(str(ROOT / "preprocess" / "mesh.py"))["main"]
    assert guarded(main, ["--path", str(path), "--data_dir", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "cut short" in said
    assert len(said.splitlines()) == 1
