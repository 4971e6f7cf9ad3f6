"""Numbers at the edge of their type, and a machine at the edge of its threads.

The same rule for every backend.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from toys import cloud

from gs4d.asset import Asset
from gs4d.camera import orbit_cameras
from gs4d.clip import Orbit
from gs4d.errors import UserError
from gs4d.geometry import QUAT_MIN, quats_to_rotations
from gs4d.motion import FrameSequence, HexPlane, HexPlaneOptions
from gs4d.render import render

FEW_THREADS = """
import resource
import torch
from gs4d import _native
from gs4d.camera import orbit_cameras
from gs4d.render import render
import toys
torch.set_num_threads(1)
_native.set_num_threads(1)
g, cameras = toys.cloud(3000), orbit_cameras([0.0], [0.0], width=64, height=64)
alone = render(g, cameras, backend="cpu").rgb
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 20), -1))  # less than the stack of a thread
_native.set_num_threads(8)
assert torch.equal(render(g, cameras, backend="cpu").rgb, alone)
print(_native.num_threads())
"""


@pytest.mark.parametrize("length", [1e-30, 1e-20, 0.9e-19, 1.5e-19, 1e-16, 1e16, 1e30, 1e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_quaternion_of_any_length_turns_alike_in_every_backend_and_dtype(
    length: float, dtype: torch.dtype
) -> None:
    g = cloud(60, degree=1)
    g = g.replace(log_scales=g.log_scales + torch.tensor([0.0, 1.0, 2.0]))
    unit = torch.nn.functional.normalize(g.quats, dim=1)
    unit = unit / unit.abs().amax(1, keepdim=True)  # largest component 1
    long = g.replace(quats=unit * length)
    cameras = orbit_cameras([20.0], [10.0], width=40, height=40)
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(60, 4)
    meant = g.replace(quats=identity if length <= QUAT_MIN else unit)
    want = render(meant.to(torch.float64), cameras, backend="reference").rgb
    for backend in ("reference", "cpu"):
        got = render(long.to(dtype), cameras, backend=backend).rgb.double()
        assert (got - want).abs().max() < 1e-3, backend
    assert torch.allclose(
        quats_to_rotations(long.quats), quats_to_rotations(meant.quats), atol=1e-5
    )


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_coefficients_near_the_largest_number_spoil_no_pixel(backend: str) -> None:
    g, cameras = cloud(50, degree=3), orbit_cameras([0.0, 120.0], [0.0, 30.0], width=40, height=40)
    sh = g.sh.clone()
    sh[7], sh[8] = 3.4e38, -3.4e38
    sh[9, 1::2], sh[9, ::2] = 3.4e38, -3.4e38
    with_them = render(g.replace(sh=sh), cameras, backend=backend)
    assert with_them.rgb.isfinite().all()
    rest = torch.ones(50, dtype=torch.bool)
    rest[[7, 9]] = False
    rest[8] = False
    drawn = (with_them.radii > 0).any(0)
    assert not drawn[~rest].any()
    assert torch.equal(with_them.rgb, render(g.select(rest), cameras, backend=backend).rgb)


def test_a_time_that_is_no_number_is_refused_in_a_sentence() -> None:
    g = cloud(5)
    field = HexPlane(HexPlaneOptions(), 4)
    with pytest.raises(UserError, match="a time of the motion is no number"):
        field.deltas(g.means, torch.tensor([0.5, torch.nan]))
    asset = Asset(g, FrameSequence(lambda _: g, 3), 3, {"input": (Orbit(),)})
    with pytest.raises(UserError, match="a time of the asset is no number"):
        asset.at(float("nan"))
    assert replace(asset, frames=1).at(0.5).count == 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc for the memory in use")
def test_without_another_thread_those_that_are_there_do_the_work() -> None:
    here = str(__import__("pathlib").Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r})\n{FEW_THREADS}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8
