"""What lies between two frames.

By optical flow, and by RIFE's true network in the layout in which it is published.
"""

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gs4d.errors import UserError
from gs4d.prior import Interpolator, open_prior
from gs4d.prior.flow import FlowInterpolator, optical_flow, push, sample
from gs4d.prior.networks import Place
from gs4d.prior.rife import open_rife
from gs4d.prior.rife_net import IFNet, layout_of


def blob(x: float, y: float, size: tuple[int, int] = (48, 64), radius: float = 9.0) -> Tensor:
    """A textured disc over nothing, premultiplied RGBA (h, w, 4), that moves with its centre."""
    v, u = torch.meshgrid(
        torch.arange(float(size[0])) - y, torch.arange(float(size[1])) - x, indexing="ij"
    )
    alpha = torch.sigmoid(2 * (radius - (u * u + v * v).sqrt()))
    colors = [0.5 + 0.4 * torch.sin(0.5 * u + 0.8 * k) * torch.cos(0.6 * v - k) for k in range(3)]
    return torch.stack([*(alpha * color for color in colors), alpha], -1)


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * (a - b).square().mean().log10().item()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (7.5, 1.0), (-12.0, 5.0)])
def test_the_flow_of_a_moving_disc_is_its_shift(shift: tuple[float, float]):
    a, b = (blob(32 + k * shift[0], 24 + k * shift[1])[None].movedim(-1, 1) for k in (0, 1))
    flow = optical_flow(a, b)
    inside = a[0, 3] > 0.95
    error = (flow[0] - torch.tensor(shift)[:, None, None]).norm(dim=0)[inside]
    # from coarse to fine, long ways are less exact
    assert error.mean() < 0.15 + 0.08 * math.hypot(*shift)
    far = F.max_pool2d(a[:, 3:] + b[:, 3:], 31, 1, 15)[0, 0] < 1e-3
    assert flow[0][:, far].abs().max() < 0.01  # where nothing is, nothing moves


def test_the_middle_of_a_motion_beats_the_average_by_far():
    a, middle, b = (blob(24 + 8 * k, 20 + 3 * k) for k in range(3))
    found = FlowInterpolator().middle(a[None], b[None])[0]
    assert psnr(found, middle) > psnr(0.5 * (a + b), middle) + 8
    turned = FlowInterpolator().middle(b[None], a[None])[0]
    torch.testing.assert_close(found, turned, atol=1e-5, rtol=0)  # there is no first and last in it


def test_a_batch_is_its_pictures_one_by_one_of_any_size():
    pairs = [
        (blob(20, 20, (33, 51)), blob(26, 18, (33, 51))),
        (blob(30, 15, (33, 51)), blob(22, 16, (33, 51))),
    ]
    a, b = (torch.stack(some) for some in zip(*pairs, strict=True))
    together = FlowInterpolator().middle(a, b)
    for found, (x, y) in zip(together, pairs, strict=True):
        torch.testing.assert_close(
            found, FlowInterpolator().middle(x[None], y[None])[0], atol=1e-5, rtol=1e-4
        )
    assert FlowInterpolator().middle(a[:, :5, :7], b[:, :5, :7]).shape == (2, 5, 7, 4)


def test_what_stands_still_stays_to_the_bit_of_rounding():
    a = blob(31, 22)[None]
    torch.testing.assert_close(FlowInterpolator().middle(a, a), a, atol=1e-5, rtol=1e-5)


def test_gradients_go_to_the_colours_of_both():
    a, b = (blob(x, 24)[None].requires_grad_() for x in (28.0, 34.0))
    found = FlowInterpolator().middle(a, b)
    cotangent = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
    by_a, by_b = torch.autograd.grad((found * cotangent).sum(), (a, b))
    assert by_a.abs().max() > 0.1
    assert by_b.abs().max() > 0.1
    # The middle is linear in the colours while the motion is held: what went in comes out.
    torch.testing.assert_close(
        (by_a * a).sum() + (by_b * b).sum(), (found * cotangent).sum(), rtol=1e-4, atol=1e-4
    )


def test_pushing_spreads_over_four_pixels_and_sampling_undoes_it():
    image = torch.zeros(1, 1, 5, 6)
    image[0, 0, 2, 3] = 1
    flow = torch.tensor([0.25, -1.5]).view(1, 2, 1, 1).expand(1, 2, 5, 6)
    pushed = push(image, flow)
    assert pushed[0, 0].nonzero().tolist() == [[0, 3], [0, 4], [1, 3], [1, 4]]
    torch.testing.assert_close(
        pushed[0, 0, :2, 3:5], torch.tensor([[0.375, 0.125], [0.375, 0.125]])
    )
    assert push(image, flow + 100).abs().max() == 0
    ramp = torch.arange(30.0).view(1, 1, 5, 6)
    torch.testing.assert_close(
        sample(ramp, torch.ones(1, 2, 5, 6))[0, 0, :4, :5], ramp[0, 0, 1:, 1:]
    )


# --- R ---
# I F E


@dataclass(frozen=True)
class Version:
    """Sizes of a published network; ``encoder``: hidden and output channels."""

    widths: tuple[int, ...]
    kind: str = "shuffle"
    outputs: int = 6
    groups: int = 1
    encoder: tuple[int, int] = (0, 0)
    names: tuple[str, ...] = ()
    scales: tuple[int, ...] = (8, 4, 2, 1)


NUMBERED, NAMED = ("0", "2", "4", "6"), ("cnn0", "cnn1", "cnn2", "cnn3")
FIVE = Version((192, 128, 96, 64, 32), "shuffle", 13, 1, (16, 4), NAMED, (16, 8, 4, 2, 1))
VERSIONS = {  # as the models' own files and the loaders of VapourSynth and ComfyUI have them
    "4.2": Version((192, 128, 96, 64), "plain", 5),
    "4.5": Version((192, 128, 96, 64), outputs=5),
    "4.6": Version((192, 128, 96, 64)),
    "4.9": Version((192, 128, 96, 64), encoder=(16, 4), names=("0", "1")),
    "4.12": Version((192, 128, 96, 64), encoder=(32, 8), names=NUMBERED),
    "4.12.lite": Version((128, 96, 64, 48), encoder=(32, 4), names=NUMBERED),
    "4.14": Version((192, 128, 96, 64), encoder=(32, 8), names=NAMED),
    "4.14.lite": Version((192, 128, 96, 64), groups=2, encoder=(32, 8), names=NAMED),
    "4.17.lite": Version((128, 96, 64, 48), encoder=(16, 4), names=NAMED),
    "4.20": Version((384, 192, 96, 48), encoder=(32, 8), names=NAMED),
    "4.22": Version((256, 192, 96, 48), outputs=13, encoder=(32, 8), names=NAMED),
    "4.22.lite": Version((192, 128, 64, 32), outputs=13, encoder=(16, 4), names=NAMED),
    "4.25": FIVE,
    "4.25.lite": replace(FIVE, widths=(192, 128, 96, 64, 24), scales=(32, 16, 8, 4, 1)),
    "4.26.heavy": replace(FIVE, encoder=(16, 16)),
}


def layout(version: Version) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a version's flownet.pkl."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, weight: tuple[int, ...], *, up: bool = False) -> None:
        shapes[f"module.{name}.weight"] = weight
        shapes[f"module.{name}.bias"] = (weight[1] if up else weight[0],)

    handed = version.outputs - 5 if version.outputs == 13 else 0
    for i, c in enumerate(version.widths):
        at, seen = f"block{i}", (12 + handed if i else 7) + 2 * version.encoder[1]
        layer(f"{at}.conv0.0.0", (c // 2, seen, 3, 3))
        layer(f"{at}.conv0.1.0", (c, c // 2, 3, 3))
        for k in range(8):
            if version.kind == "plain":
                layer(f"{at}.convblock.{k}.0", (c, c, 3, 3))
                continue
            shapes[f"module.{at}.convblock.{k}.beta"] = (1, c, 1, 1)
            layer(f"{at}.convblock.{k}.conv", (c, c // version.groups, 3, 3))
        if version.kind == "plain":
            layer(f"{at}.lastconv", (c, 5, 4, 4), up=True)
        else:
            layer(f"{at}.lastconv.0", (c, 4 * version.outputs, 4, 4), up=True)
    hidden, out = version.encoder
    for k, name in enumerate(version.names):
        last = k == len(version.names) - 1
        shape = (hidden, out, 4, 4) if last else (hidden, hidden if k else 3, 3, 3)
        layer(f"encode.{name}", shape, up=last)
    return shapes


def narrowed(name: str) -> Version:
    """A version with few channels."""
    version = VERSIONS[name]
    widths = [16, 12, 8, 8, 24 if name == "4.25.lite" else 4]
    encoder = (8, version.encoder[1]) if version.names else (0, 0)
    return replace(version, widths=tuple(widths[: len(version.widths)]), encoder=encoder)


def random_weights(version: Version, seed: int = 0) -> dict[str, Tensor]:
    """Weights with which the network's answers neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in layout(version).items():
        up = len(shape) == 4 and shape[-1] == 4
        fan = shape[0] * 4 if up else max(torch.Size(shape[1:]).numel(), 1)
        scale = 0.3 if name.endswith(("bias", "beta")) else fan**-0.5
        found[name] = scale * torch.randn(shape, generator=generator)
    return found


@pytest.mark.parametrize("name", VERSIONS)
def test_the_published_file_says_its_version_and_fills_the_network(name: str):
    wanted = layout(VERSIONS[name])
    found = layout_of({key.removeprefix("module."): torch.Size(v) for key, v in wanted.items()})
    with torch.device("meta"):
        network = IFNet(found)
    assert {f"module.{k}": tuple(v.shape) for k, v in network.state_dict().items()} == wanted
    assert found.scales == VERSIONS[name].scales


def published(version: Version, weights: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """The middle from the file's tensors alone, by the formulas of the published network."""

    def warp(x: Tensor, flow: Tensor) -> Tensor:
        h, w = x.shape[2:]
        down, right = torch.linspace(-1, 1, h), torch.linspace(-1, 1, w)
        base = torch.stack([right.expand(h, w), down[:, None].expand(h, w)], -1)
        offset = torch.stack([flow[:, 0] * 2 / (w - 1), flow[:, 1] * 2 / (h - 1)], -1)
        return F.grid_sample(x, base + offset, padding_mode="border", align_corners=True)

    def weight(name: str) -> tuple[Tensor, Tensor]:
        return weights[f"module.{name}.weight"], weights[f"module.{name}.bias"]

    def encode(x: Tensor) -> Tensor:
        for k, name in enumerate(version.names[:-1]):
            x = F.conv2d(x, *weight(f"encode.{name}"), stride=1 if k else 2, padding=1)
            x = F.leaky_relu(x, 0.2) if len(version.names) == 4 else x
        return F.conv_transpose2d(x, *weight(f"encode.{version.names[-1]}"), stride=2, padding=1)

    def block(i: int, x: Tensor, flow: Tensor | None, scale: int) -> Tensor:
        at = f"block{i}"
        size = [side // scale for side in x.shape[2:]]
        x = F.interpolate(x, size, mode="bilinear")
        if flow is not None:
            x = torch.cat([x, F.interpolate(flow, size, mode="bilinear") / scale], 1)
        for k in (0, 1):
            x = F.leaky_relu(F.conv2d(x, *weight(f"{at}.conv0.{k}.0"), stride=2, padding=1), 0.2)
        for k in range(8):
            if version.kind == "plain":
                x = F.leaky_relu(F.conv2d(x, *weight(f"{at}.convblock.{k}.0"), padding=1), 0.2)
                continue
            y = F.conv2d(x, *weight(f"{at}.convblock.{k}.conv"), padding=1, groups=version.groups)
            x = F.leaky_relu(y * weights[f"module.{at}.convblock.{k}.beta"] + x, 0.2)
        if version.kind == "plain":
            x = F.conv_transpose2d(x, *weight(f"{at}.lastconv"), stride=2, padding=1)
            flows = 2 * scale
        else:
            x = F.conv_transpose2d(x, *weight(f"{at}.lastconv.0"), stride=2, padding=1)
            x, flows = F.pixel_shuffle(x, 2), scale
        x = F.interpolate(x, [side * scale for side in size], mode="bilinear")
        return torch.cat([x[:, :4] * flows, x[:, 4:]], 1)

    half, none = torch.full_like(a[:, :1], 0.5), a[:, :0]
    f, g = (encode(x[:, :3]) if version.names else none for x in (a, b))
    found = block(0, torch.cat([a[:, :3], b[:, :3], f, g, half], 1), None, version.scales[0])
    flow, mask = found[:, :4], found[:, 4:5]
    for i, scale in list(enumerate(version.scales))[1:]:
        near, far = flow[:, :2], flow[:, 2:]
        seen = [warp(a, near)[:, :3], warp(b, far)[:, :3]]
        seen += [warp(f, near), warp(g, far)] if version.names else []
        seen += [half, mask] + ([found[:, 5:]] if version.outputs == 13 else [])
        found = block(i, torch.cat(seen, 1), flow, scale)
        flow = flow + found[:, :4]
        mask = found[:, 4:5] if version.names else mask + found[:, 4:5]
    share = torch.sigmoid(mask)
    return warp(a, flow[:, :2]) * share + warp(b, flow[:, 2:]) * (1 - share)


@pytest.mark.parametrize("name", VERSIONS)
def test_rife_computes_what_the_published_network_does(name: str, tmp_path: Path, capsys: Any):
    version = narrowed(name)
    weights = random_weights(version)
    (tmp_path / "train_log größer").mkdir()
    torch.save(weights, tmp_path / "train_log größer" / "flownet.pkl")
    interpolator = open_prior(f"rife:{tmp_path}", "middle")
    assert isinstance(interpolator, Interpolator)
    assert interpolator.weights[0]["licence"] == "MIT"
    assert "interpolator rife from" in capsys.readouterr().out
    a, b = torch.rand(2, 2, 128, 128, 4, generator=torch.Generator().manual_seed(1))
    found = interpolator.middle(a, b)
    wanted = published(version, weights, a.movedim(-1, 1), b.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=1e-3)
    assert (found - 0.5 * (a + b)).abs().mean() > 0.01  # the random network does move and mix
    again = open_rife(str(tmp_path / "train_log größer" / "flownet.pkl"), Place()).middle(a, b)
    assert torch.equal(found, again)


@pytest.mark.parametrize("name", ["4.6", "4.25"])
def test_rife_takes_any_size_and_passes_gradients_to_the_colours(name: str, tmp_path: Path):
    # as ComfyUI's users have it
    torch.save(random_weights(narrowed(name)), tmp_path / "rife47.pth")
    a, b = (
        picture[None].requires_grad_()
        for picture in (blob(20, 20, (40, 50)), blob(28, 22, (40, 50)))
    )
    found = open_rife(str(tmp_path), Place()).middle(a, b)
    assert found.shape == a.shape
    by_a, by_b = torch.autograd.grad(found.square().sum(), (a, b))
    assert min(by_a.abs().max(), by_b.abs().max()) > 0


def test_a_known_motion_and_mixing_come_out_of_the_last_block(tmp_path: Path):
    """All weights zero but the last block's biases: it then says the same of every pixel."""
    weights = {
        name: torch.zeros_like(value) for name, value in random_weights(narrowed("4.6")).items()
    }
    # four sub-pixels each of: flow to a (x, y), flow to b (x, y), mixing, nothing
    bias = torch.zeros(6, 4)
    bias[0], bias[3], bias[4] = 2.0, -1.0, 20.0
    weights["module.block3.lastconv.0.bias"] = bias.flatten()
    torch.save(weights, tmp_path / "flownet.pkl")
    a, b = torch.rand(2, 1, 32, 32, 3, generator=torch.Generator().manual_seed(3))
    found = open_rife(str(tmp_path), Place()).middle(a, b)
    torch.testing.assert_close(found[:, :, :-2], a[:, :, 2:], atol=1e-4, rtol=0)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("older", r"is RIFE 4\.1 or older, which is not supported; give a flownet\.pkl"),
        ("other", r"is another network than RIFE 4\.2 to 4\.26"),
        ("carried", r"is another network than RIFE 4\.2 to 4\.26"),
        ("missing", "lacks the tensor 'block2.lastconv.0.bias'"),
        ("shape", r"'block2.conv0.0.0.weight' of shape \(4, 6, 3, 3\), wanted \(4, 12, 3, 3\)"),
        ("surplus", "has 'block0.convblock.8.beta', for which the network of RIFE has no place"),
        ("bomb", "cannot be read"),
        ("cut", "cannot be read"),
        ("two", "holds 2 files of weights; name one"),
        ("none", "has no flownet.pkl; give a flownet.pkl of Practical-RIFE"),
        ("absent", "no folder or file of rife weights"),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, how: str, sentence: str):
    weights: dict[str, Any] = random_weights(narrowed("4.6"))
    folder, path = tmp_path / "model", tmp_path / "model" / "flownet.pkl"
    folder.mkdir()
    if how == "older":
        weights["module.block0.conv0.0.1.weight"] = torch.zeros(8)  # of a PReLU
    elif how == "other":
        weights = {name: value for name, value in weights.items() if "block3" not in name}
    elif how == "carried":
        weights["module.block1.conv0.0.0.weight"] = torch.zeros(6, 15, 3, 3)
    elif how == "missing":
        del weights["module.block2.lastconv.0.bias"]
    elif how == "shape":
        weights["module.block2.conv0.0.0.weight"] = torch.zeros(4, 6, 3, 3)
    elif how == "surplus":
        weights["module.block0.convblock.8.beta"] = torch.zeros(1)
    elif how == "bomb":
        weights["x"] = Bomb(tmp_path / "exploded")
    elif how == "two":
        torch.save(weights, folder / "flownet_v4.6.pkl")
    if how != "none":
        torch.save(weights, path)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=sentence) as caught:
        open_rife(str(tmp_path / "nowhere" if how == "absent" else folder), Place())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def test_what_this_use_does_not_need_is_passed_over(tmp_path: Path):
    unused = {
        f"module.{name}": torch.zeros(8) for name in ("caltime.0.bias", "contextnet.x", "unet.y")
    }
    torch.save({**random_weights(narrowed("4.2")), **unused}, tmp_path / "flownet.pkl")
    open_rife(str(tmp_path), Place())


def test_only_interpolators_interpolate():
    with pytest.raises(
        UserError,
        match=re.escape(
            "'inflate' cannot find what lies between frames; those that can: flow, rife"
        ),
    ):
        open_prior("inflate", "middle")
