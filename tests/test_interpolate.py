"""What lies between two frames: by optical flow, and by RIFE's true network in the layout in which it is published."""

import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gs4d.errors import UserError
from gs4d.prior import Interpolator, open_interpolator
from gs4d.prior.flow import FlowInterpolator, optical_flow, push, sample
from gs4d.prior.rife import IFNet, open_rife


def blob(x: float, y: float, size: tuple[int, int] = (48, 64), radius: float = 9.0) -> Tensor:
    """A textured disc over nothing, premultiplied RGBA (h, w, 4), that moves with its centre."""
    v, u = torch.meshgrid(torch.arange(float(size[0])) - y, torch.arange(float(size[1])) - x, indexing="ij")
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
    assert error.mean() < 0.15 + 0.08 * math.hypot(*shift)  # from coarse to fine, long ways are less exact
    far = F.max_pool2d(a[:, 3:] + b[:, 3:], 31, 1, 15)[0, 0] < 1e-3
    assert flow[0][:, far].abs().max() < 0.01  # where nothing is, nothing moves


def test_the_middle_of_a_motion_beats_the_average_by_far():
    a, middle, b = (blob(24 + 8 * k, 20 + 3 * k) for k in range(3))
    found = FlowInterpolator().middle(a[None], b[None])[0]
    assert psnr(found, middle) > psnr(0.5 * (a + b), middle) + 8
    turned = FlowInterpolator().middle(b[None], a[None])[0]
    torch.testing.assert_close(found, turned, atol=1e-5, rtol=0)  # there is no first and last in it


def test_a_batch_is_its_pictures_one_by_one_of_any_size():
    pairs = [(blob(20, 20, (33, 51)), blob(26, 18, (33, 51))), (blob(30, 15, (33, 51)), blob(22, 16, (33, 51)))]
    a, b = (torch.stack(some) for some in zip(*pairs, strict=True))
    together = FlowInterpolator().middle(a, b)
    for found, (x, y) in zip(together, pairs, strict=True):
        torch.testing.assert_close(found, FlowInterpolator().middle(x[None], y[None])[0], atol=1e-5, rtol=1e-4)
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
    torch.testing.assert_close((by_a * a).sum() + (by_b * b).sum(), (found * cotangent).sum(), rtol=1e-4, atol=1e-4)


def test_pushing_spreads_over_four_pixels_and_sampling_undoes_it():
    image = torch.zeros(1, 1, 5, 6)
    image[0, 0, 2, 3] = 1
    flow = torch.tensor([0.25, -1.5]).view(1, 2, 1, 1).expand(1, 2, 5, 6)
    pushed = push(image, flow)
    assert pushed[0, 0].nonzero().tolist() == [[0, 3], [0, 4], [1, 3], [1, 4]]
    torch.testing.assert_close(pushed[0, 0, :2, 3:5], torch.tensor([[0.375, 0.125], [0.375, 0.125]]))
    assert push(image, flow + 100).abs().max() == 0
    ramp = torch.arange(30.0).view(1, 1, 5, 6)
    torch.testing.assert_close(sample(ramp, torch.ones(1, 2, 5, 6))[0, 0, :4, :5], ramp[0, 0, 1:, 1:])


# ---------------------------------------------------------------------------------------------------------------------- RIFE


WIDTHS = (192, 128, 96, 64)


def layout(widths: tuple[int, ...] = WIDTHS) -> dict[str, tuple[int, ...]]:
    """Names and shapes of flownet.pkl, versions 4.2 to 4.6, as the published code defines and other loaders list them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, c in enumerate(widths):
        at = f"module.block{i}"
        shapes[f"{at}.conv0.0.0.weight"], shapes[f"{at}.conv0.0.0.bias"] = (c // 2, 12 if i else 7, 3, 3), (c // 2,)
        shapes[f"{at}.conv0.1.0.weight"], shapes[f"{at}.conv0.1.0.bias"] = (c, c // 2, 3, 3), (c,)
        for k in range(8):
            shapes[f"{at}.convblock.{k}.beta"] = (1, c, 1, 1)
            shapes[f"{at}.convblock.{k}.conv.weight"], shapes[f"{at}.convblock.{k}.conv.bias"] = (c, c, 3, 3), (c,)
        shapes[f"{at}.lastconv.0.weight"], shapes[f"{at}.lastconv.0.bias"] = (c, 24, 4, 4), (24,)
    return shapes


def random_weights(widths: tuple[int, ...], seed: int = 0) -> dict[str, Tensor]:
    """Weights with which the network's answers neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in layout(widths).items():
        fan = shape[0] * 4 if "lastconv.0.weight" in name else max(torch.Size(shape[1:]).numel(), 1)
        scale = 0.3 if name.endswith(("bias", "beta")) else fan**-0.5
        found[name] = scale * torch.randn(shape, generator=generator)
    return found


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    widths = (16, 12, 8, 4)
    monkeypatch.setattr("gs4d.prior.rife.WIDTHS", widths)
    return widths


def test_the_published_file_fills_the_network():
    with torch.device("meta"):
        network = IFNet()
    names = {f"module.{name}": tuple(value.shape) for name, value in network.state_dict().items()}
    assert names == layout()
    assert len(names) == 120


def published(weights: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """The middle, computed from the file's tensors alone, by the formulas of the published network."""

    def warp(x: Tensor, flow: Tensor) -> Tensor:
        h, w = x.shape[2:]
        down, right = torch.linspace(-1, 1, h), torch.linspace(-1, 1, w)
        base = torch.stack([right.expand(h, w), down[:, None].expand(h, w)], -1)
        offset = torch.stack([flow[:, 0] * 2 / (w - 1), flow[:, 1] * 2 / (h - 1)], -1)
        return F.grid_sample(x, base + offset, padding_mode="border", align_corners=True)

    def block(i: int, x: Tensor, flow: Tensor | None, scale: int) -> tuple[Tensor, Tensor]:
        w = {k.removeprefix(f"module.block{i}."): v for k, v in weights.items() if f".block{i}." in k}
        size = [side // scale for side in x.shape[2:]]
        x = F.interpolate(x, size, mode="bilinear")
        if flow is not None:
            x = torch.cat([x, F.interpolate(flow, size, mode="bilinear") / scale], 1)
        for k in (0, 1):
            x = F.leaky_relu(F.conv2d(x, w[f"conv0.{k}.0.weight"], w[f"conv0.{k}.0.bias"], 2, 1), 0.2)
        for k in range(8):
            y = F.conv2d(x, w[f"convblock.{k}.conv.weight"], w[f"convblock.{k}.conv.bias"], 1, 1)
            x = F.leaky_relu(y * w[f"convblock.{k}.beta"] + x, 0.2)
        x = F.pixel_shuffle(F.conv_transpose2d(x, w["lastconv.0.weight"], w["lastconv.0.bias"], 2, 1), 2)
        x = F.interpolate(x, [side * scale for side in size], mode="bilinear")
        return x[:, :4] * scale, x[:, 4:5]

    half = torch.full_like(a[:, :1], 0.5)
    flow, mask = block(0, torch.cat([a[:, :3], b[:, :3], half], 1), None, 8)
    for i, scale in ((1, 4), (2, 2), (3, 1)):
        seen = [warp(a, flow[:, :2])[:, :3], warp(b, flow[:, 2:])[:, :3], half, mask]
        more, mixed = block(i, torch.cat(seen, 1), flow, scale)
        flow, mask = flow + more, mask + mixed
    share = torch.sigmoid(mask)
    return warp(a, flow[:, :2]) * share + warp(b, flow[:, 2:]) * (1 - share)


def test_rife_computes_what_the_published_network_does(narrow: tuple[int, ...], tmp_path: Path, capsys: Any):
    weights = random_weights(narrow)
    (tmp_path / "train_log größer").mkdir()
    torch.save(weights, tmp_path / "train_log größer" / "flownet.pkl")
    interpolator = open_interpolator(f"rife:{tmp_path}")
    assert isinstance(interpolator, Interpolator)
    assert interpolator.weights[0]["licence"] == "MIT"
    assert "interpolator rife from" in capsys.readouterr().out
    a, b = torch.rand(2, 2, 64, 96, 4, generator=torch.Generator().manual_seed(1))
    found = interpolator.middle(a, b)
    wanted = published(weights, a.movedim(-1, 1), b.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)
    assert (found - 0.5 * (a + b)).abs().mean() > 0.01  # the random network does move and mix
    again = open_rife(str(tmp_path / "train_log größer" / "flownet.pkl")).middle(a, b)
    assert torch.equal(found, again)


def test_rife_takes_any_size_and_passes_gradients_to_the_colours(narrow: tuple[int, ...], tmp_path: Path):
    torch.save(random_weights(narrow), tmp_path / "flownet.pkl")
    a, b = (picture[None].requires_grad_() for picture in (blob(20, 20, (40, 50)), blob(28, 22, (40, 50))))
    found = open_rife(str(tmp_path)).middle(a, b)
    assert found.shape == a.shape
    by_a, by_b = torch.autograd.grad(found.square().sum(), (a, b))
    assert min(by_a.abs().max(), by_b.abs().max()) > 0


def test_a_known_motion_and_mixing_come_out_of_the_last_block(narrow: tuple[int, ...], tmp_path: Path):
    """All weights zero but the last block's biases: it then says the same of every pixel."""
    weights = {name: torch.zeros_like(value) for name, value in random_weights(narrow).items()}
    bias = torch.zeros(6, 4)  # four sub-pixels each of: flow to a (x, y), flow to b (x, y), mixing, nothing
    bias[0], bias[3], bias[4] = 2.0, -1.0, 20.0
    weights["module.block3.lastconv.0.bias"] = bias.flatten()
    torch.save(weights, tmp_path / "flownet.pkl")
    a, b = torch.rand(2, 1, 32, 32, 3, generator=torch.Generator().manual_seed(3))
    found = open_rife(str(tmp_path)).middle(a, b)
    torch.testing.assert_close(found[:, :, :-2], a[:, :, 2:], atol=1e-4, rtol=0)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (
            "newer",
            "has 'encode.cnn0.weight', so it is another network than RIFE 4.2 to 4.6; give the flownet.pkl of version 4.6",
        ),
        ("missing", "lacks the tensor 'block2.lastconv.0.bias'"),
        ("shape", r"'block0.conv0.0.0.weight' of shape \(8, 6, 3, 3\), wanted \(8, 7, 3, 3\)"),
        ("surplus", "has 'block0.convblock.8.beta', for which the network of RIFE 4.2 to 4.6 has no place"),
        ("bomb", "cannot be read"),
        ("cut", "cannot be read"),
        ("none", "has no flownet.pkl; give the folder of a model of Practical-RIFE"),
        ("absent", "no folder or file of rife weights"),
    ],
)
def test_other_files_are_refused_in_a_sentence(narrow: tuple[int, ...], tmp_path: Path, how: str, sentence: str):
    weights: dict[str, Any] = random_weights(narrow)
    folder, path = tmp_path / "model", tmp_path / "model" / "flownet.pkl"
    folder.mkdir()
    if how == "newer":
        weights["module.encode.cnn0.weight"] = torch.zeros(32, 3, 3, 3)
    elif how == "missing":
        del weights["module.block2.lastconv.0.bias"]
    elif how == "shape":
        weights["module.block0.conv0.0.0.weight"] = torch.zeros(8, 6, 3, 3)
    elif how == "surplus":
        weights["module.block0.convblock.8.beta"] = torch.zeros(1)
    elif how == "bomb":
        weights["x"] = Bomb(tmp_path / "exploded")
    if how != "none":
        torch.save(weights, path)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=sentence) as caught:
        open_rife(str(tmp_path / "nowhere" if how == "absent" else folder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def test_what_only_training_uses_is_passed_over(narrow: tuple[int, ...], tmp_path: Path):
    torch.save({**random_weights(narrow), "module.caltime.0.bias": torch.zeros(8)}, tmp_path / "flownet.pkl")
    open_rife(str(tmp_path))


def test_only_interpolators_interpolate():
    with pytest.raises(
        UserError, match=re.escape("'inflate' cannot find what lies between frames; those that can: flow, rife")
    ):
        open_interpolator("inflate")
