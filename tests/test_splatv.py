"""splaTV's file: decoded by the words of its shader, whatever pieces the motion was cut into."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moving import moving_asset, random_gaussians, shape_error
from torch import Tensor

from gs4d.asset import Asset
from gs4d.clip import Orbit, cameras_of
from gs4d.export import ExportOptions, export
from gs4d.export.splatv import write_splatv
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0
from gs4d.motion import DeltaMotion
from gs4d.render import render


class Jump(DeltaMotion):
    """Half of the Gaussians go up and down ``times`` times; the others stand still."""

    def __init__(self, jumps: float) -> None:
        super().__init__()
        self.jumps = jumps

    def moves(self, means: Tensor, times: Tensor) -> dict[str, Tensor]:
        up = torch.zeros(len(times), len(means), 3)
        up[:, ::2, 1] = 0.2 * torch.sin(2 * np.pi * self.jumps * times)[:, None]
        return {"position": up}


def decode(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The header of the only chunk, and its words, 16 per Gaussian."""
    data = path.read_bytes()
    magic, length = struct.unpack_from("<II", data)
    assert magic == 0x674B
    (chunk,) = json.loads(data[8 : 8 + length])
    assert chunk["size"] == len(data) - 8 - length == chunk["texwidth"] * chunk["texheight"] * 16
    assert (chunk["type"], chunk["texwidth"]) == ("splat", 4096)
    return chunk, np.frombuffer(data, "<u4", offset=8 + length).reshape(-1, 16)


def shown(words: np.ndarray, t: float) -> Gaussians:
    """What the viewers' shader makes of them at time ``t``, turned to y up.

    What it skips is left out.
    """

    def halves(word: int) -> np.ndarray:
        return np.ascontiguousarray(words[:, word]).view("<f2").reshape(-1, 2).astype(np.float64)

    center, width = halves(15).T
    dt = (t - center)[:, None]
    fade = np.exp(-(((t - center) / width) ** 2))
    # nine coefficients, and one of no meaning
    a = np.concatenate([halves(i) for i in range(8, 13)], 1)
    position = (
        words[:, :3].copy().view("<f4") + a[:, 0:3] * dt + a[:, 3:6] * dt**2 + a[:, 6:9] * dt**3
    )
    rotation = (
        np.concatenate([halves(3), halves(4)], 1) + np.concatenate([halves(13), halves(14)], 1) * dt
    )
    scales = np.concatenate([halves(5), halves(6)], 1)[:, :3]
    rgba = words[:, 7:8].copy().view(np.uint8) / 255
    seen = fade >= 0.02
    opacity = (rgba[:, 3] * fade).clip(1e-6, 1 - 1e-6)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values[seen].astype(np.float32))

    return Gaussians(
        means=tensor(position * [1, -1, -1]),
        quats=tensor(rotation * [1, 1, -1, -1]),
        log_scales=tensor(np.log(scales.clip(1e-8))),
        logit_opacities=tensor(np.log(opacity / (1 - opacity))),
        sh=tensor((rgba[:, :3] - 0.5) / SH_C0)[:, None],
    )


def test_a_cubic_motion_is_kept_by_one_piece(tmp_path: Path):
    asset = moving_asset(300, frames=9)  # its sines are nearly cubics
    error = write_splatv(tmp_path / "a.splatv", asset, tolerance=0.02)
    chunk, words = decode(tmp_path / "a.splatv")
    assert chunk["texheight"] == 1
    assert error < 0.02
    for t in (0.0, 0.4, 1.0):
        now, truth = shown(words, t), asset.at(t)
        assert now.count == 300  # the rest of the row is not seen
        assert (now.means - truth.means).norm(dim=1).quantile(0.9) < 0.02
        assert shape_error(truth, now) < 1.0
        assert (
            torch.sigmoid(now.logit_opacities) - torch.sigmoid(truth.logit_opacities)
        ).abs().max() < 0.003
        assert (now.sh - truth.sh)[(0.5 + SH_C0 * truth.sh).sub(0.5).abs() < 0.5].abs().max() < 0.01


def test_a_still_asset_is_exact_but_for_its_bits(tmp_path: Path):
    asset = moving_asset(50, frames=1)
    assert write_splatv(tmp_path / "a.splatv", asset) == 0
    _, words = decode(tmp_path / "a.splatv")
    assert torch.equal(shown(words, 0.3).means, asset.gaussians.means)
    assert shape_error(asset.gaussians, shown(words, 0.7)) < 2e-3


def test_only_what_no_cubic_follows_is_cut_and_the_error_is_true(tmp_path: Path):
    g = random_gaussians(400).replace(logit_opacities=torch.full((400,), 4.0))
    asset = Asset(g, Jump(2.0), 33, {"input": (Orbit(),)})
    error = write_splatv(tmp_path / "a.splatv", asset, tolerance=0.01)
    _, words = decode(tmp_path / "a.splatv")
    widths = words[:, 15].copy().view("<f2").reshape(-1, 2)[:, 1]
    assert (widths > 100).sum() == 200  # those that stand still
    pieces = int(((widths < 100) & (widths > 0.02)).sum())
    assert pieces % 200 == 0
    assert 2 * 200 < pieces <= 16 * 200
    size = 1.0
    assert error < 0.01
    for t in (0.0, 0.26, 0.5, 0.9, 1.0):
        now, truth = shown(words, t), asset.at(t)
        clear = now.select(torch.sigmoid(now.logit_opacities) > 0.6)
        distance = torch.cdist(clear.means, truth.means).amin(1)
        assert distance.quantile(0.9) < 0.05 * size


def test_it_looks_like_the_asset(tmp_path: Path):
    g = random_gaussians(600).replace(
        logit_opacities=torch.full((600,), 4.0), log_scales=torch.full((600, 3), -2.5)
    )
    asset = Asset(g.replace(sh=g.sh.clamp(-1.5, 1.5)), Jump(1.5), 17, {"input": (Orbit(),)})
    write_splatv(tmp_path / "a.splatv", asset, tolerance=0.005)
    _, words = decode(tmp_path / "a.splatv")
    camera = cameras_of([Orbit()], width=48, height=48)
    for t in (0.0, 0.3, 0.5, 0.8, 1.0):
        error = (
            (render(shown(words, t), camera).rgb - render(asset.at(t), camera).rgb).square().mean()
        )
        assert -10 * error.log10() > 28, t


def test_the_header_has_the_input_camera(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (path,) = export(moving_asset(), tmp_path, "toy", ExportOptions(to=("splatv",)))
    assert "99 % of the Gaussians stray by at most" in "".join(capfd.readouterr())
    camera = decode(path)[0]["cameras"][0]
    rotation, position = np.array(camera["rotation"]), np.array(camera["position"])
    point = np.array([0.1, -0.2, 0.3])
    # columns are the axes of the camera, in a world with y down
    seen = rotation.T @ (point * [1, -1, -1] - position)
    pixel = (
        np.array([camera["width"] / 2, camera["height"] / 2]) + camera["fx"] * seen[:2] / seen[2]
    )
    ours = cameras_of([Orbit(20.0, 10.0, aspect=1.5)], width=1500, height=1000)
    there = ours.K[0] @ (ours.T_camera_world[0] @ torch.tensor([0.1, -0.2, 0.3, 1.0]))[:3]
    assert pixel == pytest.approx((there[:2] / there[2]).numpy(), abs=1e-2)
