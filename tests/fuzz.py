"""Spoils small files of every kind, and holds each reader to a result or one sentence.

In CI a few hundred files per second of it run from tests/test_fuzz.py. By hand, for hours, in fresh
processes:

    python -m tests.fuzz --hours 2 [--seed 7] [--only ply,glb]

A failure prints the reader, the seed and the number of the case, and leaves the file in --keep.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import io
import json
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from gltf_builder import sliding_quad
from PIL import Image
from plyfile import PlyData, PlyElement
from safetensors.torch import save_file
from test_splats import ksplat, legacy_spz, write_sog
from toys import blobs, cloud

from gs4d import mesh, open_asset
from gs4d.asset import Asset
from gs4d.asset_record import pack_asset
from gs4d.clip import Orbit
from gs4d.errors import UserError
from gs4d.export.glb import write_glb
from gs4d.intake.cutout import MaskChoice, cut_out
from gs4d.intake.dataset import FORMAT, read_dataset
from gs4d.intake.sources import Shots
from gs4d.io.checkpoint import read_checkpoint, write_checkpoint
from gs4d.io.clips import read_confidence, read_eval_rig, read_rig
from gs4d.io.compressed_ply import write_compressed_ply
from gs4d.io.gaussians import read_gaussians
from gs4d.io.glb import read_glb
from gs4d.io.images import read_image, read_size
from gs4d.io.ply import write_ply
from gs4d.io.splat import write_splat
from gs4d.io.spz import write_spz
from gs4d.io.video import read_video
from gs4d.io.weights import read_training_checkpoint, read_weights
from gs4d.motion import FrameSequence
from gs4d.scene import read_scene

SECONDS = 20  # that a reader may take for a file of some kilobytes, on a busy machine
ADDRESS_SPACE = 1 << 30  # bytes of address space beyond what is in use when the readers begin
RESIDENT = 700 << 20  # bytes of memory beyond it
INTERESTING = (
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    32767,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    3,
    2**31,
    10**12,
    10**30,
    -1e308,
    1e308,
    1e-308,
    "",
    "x",
    "../x",
    "\0",
    "NaN",
    [],
    {},
    [[]],
    [0] * 50,
    {"a": 1},
    float("nan"),
    float("inf"),
)


@dataclass(frozen=True)
class Case:
    """One kind of file.

    Attributes:
        make: writes an intact input into a folder and returns the file in it that is spoiled.
        read: reads the input, given that file.
        mend: makes what the change broke on purpose right again (sums, digests), so that the change
            is seen.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    mend: Callable[[Path], None] = field(default=lambda path: None)


# --- small intact files ---------------------------------------------------------------------------


def _written(name: str, write: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder / name)
        return folder / name

    return make


def _text_ply(path: Path) -> None:
    rows = np.zeros(
        4, [("x", "f8"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    )
    rows["x"] = np.arange(4)
    PlyData([PlyElement.describe(rows, "vertex")], text=True).write(str(path))


def _timed_ply(path: Path) -> None:
    names = [
        "x",
        "y",
        "z",
        "trbf_center",
        "trbf_scale",
        *(f"motion_{i}" for i in range(9)),
        *(f"omega_{i}" for i in range(4)),
    ]
    names += [f"f_dc_{i}" for i in range(3)] + [
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]
    rows = np.zeros(5, [(name, "f4") for name in names])
    rows["rot_0"], rows["x"] = 1, np.arange(5)
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))


def _sog(path: Path) -> None:
    folder = path.with_suffix("")
    write_sog(folder)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    shutil.rmtree(folder)


def _picture(mode: str, **options: Any) -> Callable[[Path], None]:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 4), np.uint8)

    def write(path: Path) -> None:
        frames = [Image.fromarray(np.roll(pixels, i, 0), "RGBA").convert(mode) for i in range(3)]
        more = (
            {"save_all": True, "append_images": frames[1:], "duration": 80}
            if options.get("moving")
            else {}
        )
        frames[0].save(path, **more)

    return write


def _video(path: Path) -> None:
    from gs4d.io.encode import write_video

    write_video(path, iter([np.full((32, 32, 3), 40 * i, np.uint8) for i in range(4)]), fps=8.0)


def _checkpoint(folder: Path) -> Path:
    from gs4d.motion import HexPlane, HexPlaneOptions

    g, options = cloud(6, degree=1), HexPlaneOptions(resolution=4, multires=(1,))
    motion = HexPlane(options, 3)
    tensors, record = pack_asset(Asset(g, motion, 3, {"input": (Orbit(),)}))
    write_checkpoint(folder, tensors, {"step": 3, **record})
    return folder / "checkpoint.json"


def _signed(path: Path) -> None:
    from gs4d.io import checkpoint as io_checkpoint

    index = json.loads(path.read_bytes())
    index["digest"] = io_checkpoint._digest(index["record"])
    path.write_text(json.dumps(index))


def _glb(path: Path) -> None:
    asset = Asset(blobs(0.0), FrameSequence(lambda i: blobs(i / 2), 3), 3, {"input": (Orbit(),)})
    few = torch.arange(0, 800, 40)
    asset = Asset(
        asset.gaussians.select(few),
        FrameSequence(lambda i: blobs(i / 2).select(few), 3),
        3,
        asset.orbits,
    )
    write_glb(path, asset, frames=3)


def _json(value: Any) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps(value))


def _dataset(folder: Path) -> Path:
    layout = {"format": FORMAT, "size": 64, "frames": 4, "elevation": 10.0}
    (folder / "dataset.json").write_text(json.dumps(layout))
    (folder / "manifest.jsonl").write_text(json.dumps({"id": "a", "accepted": True}) + "\n")
    return folder / "dataset.json"


def _weights(path: Path) -> None:
    torch.save({"a.weight": torch.arange(6.0), "b": torch.zeros(2, 2)}, path)


def _trained(path: Path) -> None:
    splats = {"means": torch.zeros(3, 3), "quats": torch.ones(3, 4), "scales": torch.zeros(3, 3)}
    splats |= {
        "opacities": torch.zeros(3),
        "sh0": torch.zeros(3, 1, 3),
        "shN": torch.zeros(3, 3, 3),
    }
    torch.save({"step": 9, "splats": splats}, path)


def _mask(path: Path) -> None:
    path.parent.mkdir()
    mask = np.zeros((24, 20), np.uint8)
    mask[6:18, 5:15] = 255
    Image.fromarray(mask).save(path)
    _picture("RGB")(path.parents[1] / "source.png")


def _cut(path: Path) -> object:
    shots = Shots((path.parents[1] / "source.png",), (0,), (0.0,), None, "one picture")
    scratch = path.parents[1] / "scratch"
    scratch.mkdir()
    return cut_out(shots, MaskChoice(path.parent), scratch, "a picture")


def _trust(path: Path) -> None:
    save_file({"trust": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, path)


def _npz(path: Path) -> None:
    np.savez_compressed(
        path,
        means3d=np.random.default_rng(0).normal(size=(40, 3)),
        colors=np.zeros((40, 3), np.uint8),
    )


RIG = {"azimuth": [0, 90, 180], "elevation": [0, 10, 20], "radius": 1.5, "fov": 49.1, "weight": 1.0}
CAMERAS = {
    "radius": 1.5,
    "fovy_deg": 49.13,
    "eval": {"eval_0": {"azimuth_deg": -75, "elevation_deg": 0}},
}
CASES: dict[str, Case] = {
    "ply": Case(_written("a.ply", lambda p: write_ply(p, cloud(12, degree=1))), read_scene),
    "compressed ply": Case(
        _written("a.ply", lambda p: write_compressed_ply(p, cloud(12, degree=1))), read_scene
    ),
    "text ply": Case(_written("a.ply", _text_ply), read_scene),
    "timed ply": Case(_written("a.ply", _timed_ply), lambda p: read_scene(p).at(0.3)),
    "splat": Case(_written("a.splat", lambda p: write_splat(p, cloud(12, degree=0))), read_scene),
    "spz": Case(_written("a.spz", lambda p: write_spz(p, cloud(12, degree=3))), read_scene),
    "old spz": Case(
        _written("a.spz", lambda p: p.write_bytes(gzip.compress(legacy_spz(2)))), read_scene
    ),
    "raw spz": Case(_written("a.spz", lambda p: p.write_bytes(legacy_spz(3))), read_scene),
    "ksplat": Case(_written("a.ksplat", lambda p: p.write_bytes(ksplat(1))), read_scene),
    "sog": Case(_written("a.sog", _sog), read_scene),
    "npz": Case(_written("a.npz", _npz), read_scene),
    "trained pt": Case(_written("a.pt", _trained), read_gaussians),
    "glb": Case(_written("a.glb", _glb), read_glb),
    "mesh glb": Case(
        _written("a.glb", lambda p: sliding_quad().save(p)), lambda p: mesh.load_animated_mesh(p)
    ),
    "mesh gltf": Case(
        _written("a.gltf", lambda p: sliding_quad().save(p)), lambda p: mesh.load_animated_mesh(p)
    ),
    "png": Case(_written("a.png", _picture("RGBA")), lambda p: (read_size(p), read_image(p))),
    "palette png": Case(_written("a.png", _picture("P")), read_image),
    "jpeg": Case(_written("a.jpg", _picture("RGB")), read_image),
    "webp": Case(_written("a.webp", _picture("RGBA")), read_image),
    "gif": Case(
        _written("a.gif", _picture("P", moving=True)), lambda p: sum(f.size for f in read_video(p))
    ),
    "apng": Case(
        _written("a.png", _picture("RGBA", moving=True)),
        lambda p: sum(f.size for f in read_video(p)),
    ),
    "mp4": Case(_written("a.mp4", _video), lambda p: sum(f.size for f in read_video(p))),
    "mask": Case(_written("masks/0.png", _mask), _cut),
    "trust": Case(_written("a.safetensors", _trust), lambda p: read_confidence(p, 2, 3)),
    "safetensors": Case(
        _written("a.safetensors", lambda p: save_file({"a": torch.zeros(4, 4)}, p)), read_weights
    ),
    "pt": Case(_written("a.pt", _weights), read_weights),
    "ckpt": Case(_written("a.ckpt", _weights), read_training_checkpoint),
    "checkpoint": Case(_checkpoint, lambda p: read_checkpoint(p.parent)),
    "signed checkpoint": Case(_checkpoint, lambda p: open_asset.read_asset(p.parent), _signed),
    "rig": Case(_written("rig.json", _json(RIG)), read_rig),
    "cameras": Case(_written("a_cameras.json", _json(CAMERAS)), read_eval_rig),
    "dataset": Case(_dataset, lambda p: read_dataset(p.parent)),
}


# --- changes --------------------------------------------------------------------------------------


def spoil(data: bytes, rng: random.Random) -> bytes:
    """Some changes at random: inside what a zip or gzip packs, of values in JSON, or of bytes."""
    try:
        if data[:2] == b"PK" and rng.random() < 0.6:
            return _spoil_zip(data, rng)
        if data[:2] == b"\x1f\x8b" and rng.random() < 0.6:
            return gzip.compress(_spoil_bytes(gzip.decompress(data), rng))
        if data[:1] == b"{" and rng.random() < 0.7:
            return _spoil_json(data, rng)
        if data[:4] == b"glTF" and rng.random() < 0.5:
            return _spoil_glb(data, rng)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, struct.error, RecursionError):
        pass
    return _spoil_bytes(data, rng)


def _spoil_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 12))):
        if not changed:
            break
        near = min(len(changed), rng.choice((64, 512, 4096 + 1024, 1 << 30)))
        at, width = rng.randrange(near), rng.choice((1, 2, 4, 8))
        kind = rng.randrange(7)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:  # an integer of a header
            value = rng.choice(INTERESTING) & ((1 << 8 * width) - 1)
            changed[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 2:
            del changed[rng.randrange(len(changed)) :]
        elif kind == 3:
            del changed[at : at + rng.randrange(1, 40)]
        elif kind == 4:  # a piece of it elsewhere
            start = rng.randrange(len(changed))
            piece = changed[start : start + rng.randrange(1, 200)]
            changed[at : at + rng.choice((0, len(piece)))] = piece
        elif kind == 5:  # a float
            value = rng.choice((float("nan"), float("inf"), -float("inf"), 3.4e38, -3.4e38, 1e-45))
            changed[at : at + 4] = struct.pack("<f", value)
        else:  # a number written in digits
            words = bytes(changed).split(b" ")
            spots = [i for i, word in enumerate(words[:200]) if word[:1].isdigit()]
            if spots:
                spot = rng.choice(spots)
                tail = words[spot].lstrip(b"0123456789")
                words[spot] = str(rng.choice(INTERESTING)).encode() + tail
                changed = bytearray(b" ".join(words))
    return bytes(changed)


def _spoil_json(data: bytes, rng: random.Random) -> bytes:
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        spots: list[tuple[Any, Any]] = []
        waiting = [value]
        while waiting:
            holder = waiting.pop()
            items = (
                holder.items()
                if isinstance(holder, dict)
                else enumerate(holder)
                if isinstance(holder, list)
                else ()
            )
            for key, inner in items:
                spots.append((holder, key))
                waiting.append(inner)
        if not spots:
            break
        holder, key = rng.choice(spots)
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(value).encode()


def _spoil_zip(data: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    chosen, out = rng.randrange(len(entries)), io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for i, (info, content) in enumerate(entries):
            changed = spoil(content, rng) if i == chosen else content
            archive.writestr(
                info.filename, changed, rng.choice((zipfile.ZIP_STORED, info.compress_type))
            )
    return out.getvalue()


def _spoil_glb(data: bytes, rng: random.Random) -> bytes:
    length = struct.unpack_from("<I", data, 12)[0]
    text = _spoil_json(data[20 : 20 + length], rng)
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    return (
        struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
        + text
        + rest
    )


# --- the run --------------------------------------------------------------------------------------


class TooSlow(BaseException):
    """The time is over; no reader may catch it."""


def _alarm(number: int, frame: object) -> None:
    raise TooSlow


def trial(case: Case, folder: Path, seed: str) -> str | None:
    """What is wrong with how a spoiled file was read; None where nothing is."""
    rng = random.Random(seed)
    path = case.make(folder)
    path.write_bytes(spoil(path.read_bytes(), rng))
    with suppress(ValueError, KeyError, TypeError):
        case.mend(path)
    before = time.process_time()
    signal.alarm(SECONDS)
    try:
        case.read(path)
    except UserError as error:
        if len(str(error).splitlines()) > 1:
            return f"more than a plain line: {str(error)!r}"
        if "more memory than there is" in str(error):
            return f"memory was taken before it was checked: {error}"
    except TooSlow:
        return f"took more than {time.process_time() - before:.0f} s"
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    return None


def resident() -> int:
    """The most memory that this process has held, bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def worker(names: list[str], seed: int, count: int, keep: Path | None) -> int:
    """Tries ``count`` spoiled files of each kind within bounds of time and memory.

    Returns how many were read wrongly.
    """
    import logging

    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        # intact files are read first: what libraries take once for all counts for nobody
        for name in names:
            (Path(place) / f"ok {name}").mkdir()
            CASES[name].read(CASES[name].make(Path(place) / f"ok {name}"))
        signal.signal(signal.SIGALRM, _alarm)
        if sys.platform.startswith("linux"):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + ADDRESS_SPACE
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for name in names:
            for number in range(count):
                folder = Path(place) / f"{name}-{number}"
                folder.mkdir()
                # the last one, where the process dies
                print(f"{name} {seed} {number}", file=sys.stderr, flush=True)
                start = resident()
                why = trial(CASES[name], folder, f"{name} {seed} {number}")
                if why is None and resident() - start > RESIDENT:
                    why = f"took {(resident() - start) >> 20} MB"
                if why:
                    wrong += 1
                    print(f"{name}, seed {seed}, case {number}: {why}", flush=True)
                    if keep:
                        shutil.copytree(
                            folder, keep / f"{name}-{seed}-{number}", dirs_exist_ok=True
                        )
                shutil.rmtree(folder)
    return wrong


def run_worker(names: list[str], seed: int, count: int, keep: Path | None = None) -> str:
    """Tries files in a process of their own; returns what went wrong, or an empty string."""
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--worker",
        "--seed",
        str(seed),
        "--count",
        str(count),
    ]
    command += ["--only", ",".join(names), *(["--keep", str(keep)] if keep else [])]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=3600
    )
    if done.returncode in (0, 1):
        return done.stdout + (done.stderr[-2000:] if done.returncode and not done.stdout else "")
    return f"{done.stdout}the process ended with {done.returncode}; last: {done.stderr[-2000:]}"


def main() -> int:
    """Parses the options and runs one worker, or workers for hours."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200, help="files of each kind per process")
    parser.add_argument("--only", default="", help="kinds, with commas between")
    parser.add_argument("--keep", type=Path, help="where files that are read wrongly are left")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [name for name in CASES if not options.only or name in options.only.split(",")]
    if options.worker:
        return int(worker(names, options.seed, options.count, options.keep) > 0)
    end, seed, wrong = time.monotonic() + 3600 * options.hours, options.seed, 0
    while time.monotonic() < end:
        said = run_worker(names, seed, options.count, options.keep)
        wrong += bool(said)
        print(
            f"seed {seed}: {len(names) * options.count} "
            f"files{': ' + said if said else ', all as they should be'}",
            flush=True,
        )
        seed += 1
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
