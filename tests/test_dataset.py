"""4D datasets on disk: what is rejected and why, going on after a kill, the same result for any
number of workers.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gs4d.clip import Orbit, cameras_of
from gs4d.errors import UserError
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0
from gs4d.intake.assets import DatasetOptions, Entry, build, make_dataset
from gs4d.intake.curation import CurationOptions, Figures, measure, verdict
from gs4d.intake.dataset import (
    Layout,
    append_line,
    from_sheet,
    read_dataset,
    read_manifest,
    repair_manifest,
    to_sheet,
)
from gs4d.io.images import read_image
from gs4d.render import render
from gs4d.synth import draw_views, make_object, options_for

ROOT = Path(__file__).parent.parent
SMALL = {"size": 24, "frames": 6, "workers": 1}


def ball(radius: float, place: tuple[float, float, float], brightness: float) -> Gaussians:
    generator = torch.Generator().manual_seed(1)
    shell = torch.nn.functional.normalize(torch.randn(500, 3, generator=generator), dim=1) * radius
    stripes = (
        torch.where(
            shell[:, :1] > 0, torch.tensor([[0.9, 0.3, 0.1]]), torch.tensor([[0.2, 0.4, 0.9]])
        )
        * brightness
    )
    return Gaussians(
        means=shell + torch.tensor(place),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(500, 1),
        log_scales=torch.full((500, 3), float(np.log(radius * 0.12))),
        logit_opacities=torch.full((500,), 4.0),
        sh=((stripes - 0.5) / SH_C0)[:, None],
    )


@dataclass(frozen=True)
class Balls:
    """Balls that behave as their names say."""

    names: tuple[str, ...]

    def entries(self) -> Iterator[Entry]:
        for name in self.names:
            yield Entry(name, {"ball": name}, "has no animation" if name == "bare" else None)

    def total(self) -> int | None:
        return None

    def views(
        self, entry: Entry, times: Sequence[float], orbits: Sequence[Orbit], size: int
    ) -> np.ndarray:
        if entry.name == "broken":
            raise UserError("broken.glb is cut short; export it again")
        if entry.name == "empty":
            return np.zeros((len(times), size, size, 4), np.uint8)
        pictures = []
        for t, orbit in zip(times, orbits, strict=True):
            move = 0.0 if entry.name in ("static", "flash") else 0.15
            angle = 2 * np.pi * float(t)
            radius = {"tiny": 0.015, "huge": 0.9}.get(entry.name, 0.3)
            bright = 0.3 if entry.name == "flash" and round(float(t) * 6) % 2 else 1.0
            place = (move * float(np.sin(angle)), move * float(np.cos(angle)), 0.0)
            camera = cameras_of([orbit], width=size, height=size)
            drawn = render(ball(radius, place, bright), camera, background=(0.0, 0.0, 0.0))
            straight = torch.cat(
                [drawn.rgb / drawn.alpha[..., None].clamp_min(1e-3), drawn.alpha[..., None]], -1
            )
            pictures.append((straight[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        return np.stack(pictures)


def options(out: Path, **changes: object) -> DatasetOptions:
    return DatasetOptions(**{"out": out, **SMALL, **changes})  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def reasons(folder: Path) -> dict[str, str | None]:
    return {record["id"]: record["reason"] for record in read_manifest(folder)}


# --- curation -------------------------------------------------------------------------------------


def test_each_asset_is_rejected_for_its_own_reason(tmp_path: Path) -> None:
    names = ("good", "static", "huge", "tiny", "flash", "empty", "bare", "broken")
    sheet = build(Balls(names), options(tmp_path, size=64))
    found = reasons(tmp_path)
    assert list(found) == list(names)
    assert found["good"] is None
    assert found["static"] == "static"
    assert found["huge"] == "overflows the border"
    assert found["tiny"] == "too small"
    assert found["flash"] == "flickers"
    assert found["empty"] == "empty"
    assert found["bare"] == "has no animation"
    assert found["broken"] == "unreadable: broken.glb is cut short; export it again"
    assert [p.name for p in sorted((tmp_path / "assets").iterdir())] == ["good"]
    assert sorted(p.stem for p in (tmp_path / "rejected").iterdir()) == [
        "empty",
        "flash",
        "huge",
        "static",
        "tiny",
    ]
    figures = {record["id"]: record.get("figures") for record in read_manifest(tmp_path)}
    assert figures["static"]["motion"] == 0 < figures["good"]["motion"]
    assert figures["huge"]["border"] > 0.9
    assert 0 < figures["tiny"]["size"] < 0.01
    assert figures["flash"]["flicker"] > 0.4
    assert figures["bare"] is figures["broken"] is None
    assert read_image(sheet).shape[0] > 8 * 96


def test_the_limits_are_options(tmp_path: Path) -> None:
    loose = CurationOptions(min_motion=0.0, max_border=1.0, min_size=0.0, max_flicker=100.0)
    build(Balls(("static", "huge", "tiny", "flash")), options(tmp_path, curation=loose))
    assert set(reasons(tmp_path).values()) == {None}
    with pytest.raises(UserError, match="CurationOptions.min_motion is 2.0; it must lie in 0 to 1"):
        CurationOptions(min_motion=2.0)


def test_what_is_measured() -> None:
    blank = np.zeros((6, 10, 10, 4), np.uint8)
    square = blank.copy()
    square[:, 3:7, 3:7] = (200, 100, 50, 255)
    assert measure(square, square, square) == Figures(0.0, 0.0, 0.16, 0.0)
    recoloured = square.copy()
    recoloured[:, 3:7, 3:7, 0] = 149  # a fifth of the range in one channel of four
    assert measure(square, recoloured, square).motion == pytest.approx(0.05)
    gone = square.copy()
    gone[2] = 0
    assert measure(square, square, gone).flicker > 1
    touching = square.copy()
    touching[5, 0, :9] = 255
    assert measure(square, touching, square).border == pytest.approx(9 / 36)
    growing = blank.copy()
    for k in range(6):
        growing[k, 2 : 3 + k, 2:8] = 255
    assert measure(square, square, growing).flicker < 0.02
    assert verdict(measure(blank, blank, blank), CurationOptions()) == "empty"
    assert verdict(Figures(0.0, 0.5, 0.001, 9.0), CurationOptions()) == "overflows the border"


def test_an_asset_that_is_there_already_is_no_asset(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Twins(Balls):
        def views(
            self, entry: Entry, times: Sequence[float], orbits: Sequence[Orbit], size: int
        ) -> np.ndarray:
            name = "good" if entry.name.startswith("copy") else entry.name
            return super().views(replace(entry, name=name), times, orbits, size)

    build(Twins(("good", "copy1", "copy2")), options(tmp_path))
    assert reasons(tmp_path) == {
        "good": None,
        "copy1": "duplicate of good",
        "copy2": "duplicate of good",
    }
    assert os.listdir(tmp_path / "assets") == ["good"]
    assert len(read_dataset(tmp_path)) == 1


# --- going on -------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_with_two_workers_to_what_one_undisturbed_worker_makes(
    tmp_path: Path,
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut ü"
    make_dataset(options(whole, count=14))
    assert len(read_dataset(whole)) > 9
    command = [
        sys.executable,
        "preprocess/dataset.py",
        "--out",
        str(cut),
        "--count",
        "14",
        "--workers",
        "1",
    ]
    run = subprocess.Popen(
        [*command, "--size", "24", "--frames", "6"], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    manifest = cut / "manifest.jsonl"
    while not (manifest.exists() and manifest.read_bytes().count(b"\n") >= 3):
        assert run.poll() is None
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert len(list(read_manifest(cut))) < 14
    # What a kill in the middle of a line, of an asset and before the lines of whole assets leaves.
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    (cut / "assets" / ".synth-000000013.x").mkdir()
    assert len(read_dataset(cut)) <= len(lines) - 2
    make_dataset(options(cut, count=14, workers=2))
    assert tree(cut) == tree(whole)
    make_dataset(options(cut, count=14))  # all there: nothing is added
    assert tree(cut) == tree(whole)


def test_more_objects_may_be_asked_for_later(tmp_path: Path) -> None:
    make_dataset(options(tmp_path / "a", count=2))
    make_dataset(options(tmp_path / "a", count=4))
    make_dataset(options(tmp_path / "b", count=4))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_dataset_is_not_continued_in_another_way(tmp_path: Path) -> None:
    make_dataset(options(tmp_path, count=1))
    before = tree(tmp_path)
    with pytest.raises(
        UserError,
        match=r"holds a dataset made with size 24, not 32; give the same options, or another --out",
    ):
        make_dataset(options(tmp_path, count=2, size=32))
    with pytest.raises(UserError, match="made with curation"):
        make_dataset(options(tmp_path, count=2, curation=CurationOptions(min_motion=0.5)))
    assert tree(tmp_path) == before


def test_two_runs_do_not_write_one_dataset(tmp_path: Path) -> None:
    make_dataset(options(tmp_path, count=1))
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is making the dataset"):
            make_dataset(options(tmp_path, count=2))


def test_torn_lines_are_cut_off_and_others_are_errors(tmp_path: Path) -> None:
    for name in ("a", "b"):
        append_line(tmp_path, {"id": name, "accepted": True, "reason": None})
    path = tmp_path / "manifest.jsonl"
    good = path.read_bytes()
    for torn in (good + b'{"id": "c", "acc', good + b"\x00" * 70_000, good):
        path.write_bytes(torn)
        repair_manifest(tmp_path)
        assert path.read_bytes() == good
    assert [record["id"] for record in read_manifest(tmp_path)] == ["a", "b"]
    for bad in (
        b"no json\n",
        b'{"id": "../x", "accepted": true}\n',
        b'{"id": "x", "accepted": 1}\n',
        b"[]\n",
    ):
        path.write_bytes(good + bad + good)
        with pytest.raises(UserError, match=r"line 3 of .*manifest.jsonl is no asset"):
            list(read_manifest(tmp_path))


# --- reading --------------------------------------------------------------------------------------


def test_what_was_drawn_is_read_back(tmp_path: Path) -> None:
    make_dataset(options(tmp_path, count=3, seed=11, elevation=15.0))
    dataset = read_dataset(tmp_path)
    assert [e.name for e in dataset] == ["synth-000000011", "synth-000000012", "synth-000000013"]
    assert dataset[-1].name == "synth-000000013"
    example, subject = dataset[1], make_object(12, options_for(24))
    layout = Layout(24, 6, 15.0)
    assert example.layout == layout
    times, orbits = layout.shots()
    assert [o.azimuth for o in layout.orbits] == [0, 60, 120, 180, 240, 300]
    drawn = draw_views(subject, times, orbits, 24)
    drawn = np.where(drawn[..., 3:] == 0, 0, drawn)
    for k, pictures in enumerate((example.static, example.dynamic, example.front)):
        assert pictures.dtype == torch.uint8
        np.testing.assert_array_equal(pictures.numpy(), drawn[6 * k : 6 * k + 6])
    assert torch.equal(example.static[0], example.dynamic[0])
    assert example.record["origin"] == {"seed": 12, "family": None}
    assert example.record["figures"].keys() == asdict(Figures(0.0, 0.0, 0.0, 0.0)).keys()


@pytest.mark.parametrize("count", [1, 6, 7, 24])
def test_sheets_hold_any_number_of_pictures(count: int) -> None:
    pictures = np.random.default_rng(0).integers(1, 255, (count, 5, 5, 4), dtype=np.uint8)
    np.testing.assert_array_equal(from_sheet(to_sheet(pictures), 5)[:count], pictures)


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no dataset.json; make a dataset there"):
        read_dataset(tmp_path)
    make_dataset(options(tmp_path, count=1))
    example = read_dataset(tmp_path)[0]
    path = example.folder / "dynamic.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"dynamic.png cannot be read as a picture"):
        _ = example.dynamic
    path.write_bytes(
        read_dataset(tmp_path)[0].folder.parent.parent.joinpath("preview.png").read_bytes()
    )
    with pytest.raises(UserError, match=r"dynamic.png"):
        _ = example.dynamic
    (tmp_path / "dataset.json").write_text('{"format": 99, "size": 8, "frames": 4, "elevation": 0}')
    with pytest.raises(UserError, match="describes no dataset of format 1"):
        read_dataset(tmp_path)


# --- sources --------------------------------------------------------------------------------------


def write_model(path: Path, clips: dict[str, float]) -> None:
    """A glb of one tetrahedron; each clip lifts it by so much and back again."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    faces = np.array([0, 2, 1, 0, 1, 3, 0, 3, 2, 1, 2, 3], np.uint16)
    times = np.array([0, 0.5, 1], np.float32)
    lifts = [np.array([[0, 0, 0], [0, lift, 0], [0, 0, 0]], np.float32) for lift in clips.values()]
    blocks = [
        corners.tobytes(),
        faces.tobytes(),
        times.tobytes(),
        *(lift.tobytes() for lift in lifts),
    ]
    starts = np.cumsum([0, *(len(b) for b in blocks)])[:-1].tolist()
    accessors = [
        {
            "bufferView": 0,
            "componentType": 5126,
            "count": 4,
            "type": "VEC3",
            "min": [0, 0, 0],
            "max": [1, 1, 1],
        },
        {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"},
        {
            "bufferView": 2,
            "componentType": 5126,
            "count": 3,
            "type": "SCALAR",
            "min": [0],
            "max": [1],
        },
        *(
            {"bufferView": 3 + i, "componentType": 5126, "count": 3, "type": "VEC3"}
            for i in range(len(clips))
        ),
    ]
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": s, "byteLength": len(b)}
            for s, b in zip(starts, blocks, strict=True)
        ],
        "buffers": [{"byteLength": sum(len(b) for b in blocks)}],
    }
    if clips:
        document["animations"] = [
            {
                "name": name,
                "channels": [{"sampler": 0, "target": {"node": 0, "path": "translation"}}],
                "samplers": [{"input": 2, "output": 3 + i}],
            }
            for i, name in enumerate(clips)
        ]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(blocks)
    body += b"\x00" * (-len(body) % 4)
    chunks = (
        struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(body), b"BIN\x00")
        + body
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def test_every_animation_of_every_model_counts(tmp_path: Path) -> None:
    source = tmp_path / "models é"
    write_model(source / "b.glb", {"Hop": 0.4, "Stand": 0.0, "Fly/high!": 1.0})
    write_model(source / "a" / "b.glb", {})
    write_model(source / "test" / "secret.glb", {"Hop": 0.3})
    (source / "c.GLB").write_bytes(b"glTF and then nothing")
    make_dataset(options(tmp_path / "out", source=str(source), exclude=("test/*",)))
    records = list(read_manifest(tmp_path / "out"))
    assert [(r["origin"]["file"], r["origin"]["clip"], r["accepted"]) for r in records] == [
        ("a/b.glb", None, False),
        ("b.glb", "Hop", True),
        ("b.glb", "Stand", False),
        ("b.glb", "Fly/high!", True),
        ("c.GLB", None, False),
    ]
    assert [r["reason"] for r in records[:3]] == ["has no animation", None, "static"]
    assert records[-1]["reason"].startswith("unreadable: ")
    assert records[-1]["reason"].startswith("unreadable: c.GLB ")
    assert str(tmp_path) not in records[-1]["reason"]
    assert len({r["id"] for r in records}) == 5
    for example in read_dataset(tmp_path / "out"):
        assert (example.front[..., 3] > 200).any()


def test_unusable_sources_write_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(
        UserError, match="which is no folder; give a folder of .glb and .gltf files, or synth"
    ):
        make_dataset(options(out, source=str(tmp_path / "absent")))
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no .glb or .gltf file"):
        make_dataset(options(out, source=str(tmp_path / "none")))
    with pytest.raises(UserError, match="DatasetOptions.family is 'dragon'; there are: quadruped"):
        options(out, family="dragon")
    with pytest.raises(UserError, match="DatasetOptions.size is 7; it must lie in 8 to 1024"):
        options(out, size=7)
    assert not out.exists()


def test_the_command_says_what_is_wrong_in_one_sentence(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "preprocess/dataset.py",
        "--source",
        str(tmp_path / "absent"),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --source is ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
