"""Every metric against its definition, or against an independent implementation with the same
inputs or weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torch.nn import functional as F

from gs4d.errors import UserError
from gs4d.io.weights import read_weights
from gs4d.metrics import clip as clip_metrics
from gs4d.metrics.frechet import c4d_fvd, frechet_distance, grid_videos
from gs4d.metrics.i3d import I3D, MIXED, i3d_frame, load_i3d, video_logits
from gs4d.metrics.image import (
    check_pair,
    edge_cells,
    edges,
    gradient_share,
    inside,
    mask_iou,
    psnr,
    psnr_inside,
    ssim,
)
from gs4d.metrics.lpips import LPIPS, load_lpips
from gs4d.metrics.temporal import frame_pair, janus, optical_flow, warp


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth random colours with contrast at several scales."""
    coarse = F.interpolate(
        random(1, 3, height // 16 + 1, width // 16 + 1, seed=seed), (height, width), mode="bicubic"
    )
    fine = F.interpolate(
        random(1, 3, height // 5, width // 5, seed=seed + 1), (height, width), mode="bicubic"
    )
    return ((coarse + fine) / 2).clamp(0, 1)[0].movedim(0, -1)


# PSNR, SSIM, masks


@pytest.mark.parametrize("size", [(11, 11), (12, 31), (64, 48)])
@pytest.mark.parametrize("noise", [0.001, 0.1, 1.0])
def test_psnr_and_ssim_equal_scikit_image(size: tuple[int, int], noise: float) -> None:
    truth = texture(*size)
    pred = (truth + noise * (random(*size, 3, seed=5) - 0.5)).clamp(0, 1)
    a, b = pred.double().numpy(), truth.double().numpy()
    assert psnr(pred, truth).item() == pytest.approx(
        peak_signal_noise_ratio(b, a, data_range=1.0), abs=1e-4
    )
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 1.0,
    }
    assert ssim(pred, truth).item() == pytest.approx(
        structural_similarity(b, a, channel_axis=2, **options), abs=1e-4
    )


def test_ssim_keeps_its_digits_on_a_white_background() -> None:
    truth = torch.ones(40, 40, 3)
    truth[10:30, 10:30] = texture(20, 20)
    pred = (truth + 1e-3 * (random(40, 40, 3) - 0.5)).clamp(0, 1)
    assert ssim(pred, truth).item() == pytest.approx(
        ssim(pred.double(), truth.double()).item(), abs=1e-5
    )


def test_scores_of_known_pairs() -> None:
    truth = 0.5 * random(32, 32, 3)
    assert psnr(truth, truth).item() == math.inf
    assert ssim(truth, truth).item() == 1.0
    assert psnr(truth + 0.1, truth).item() == pytest.approx(20.0, abs=1e-4)
    black, white = torch.zeros(16, 16, 3), torch.ones(16, 16, 3)
    assert psnr(black, white).item() == pytest.approx(0.0, abs=1e-6)
    assert ssim(black, white).item() == pytest.approx(1e-4 / 1.0001, rel=1e-3)
    assert psnr(black[:1, :1], white[:1, :1]).item() == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="11x11"):
        ssim(black[:10, :10], white[:10, :10])


def test_a_shift_costs_what_it_costs_the_definition() -> None:
    truth = texture(24, 24)
    pred = truth.roll(1, 1)
    assert psnr(pred, truth).item() == pytest.approx(
        -10 * math.log10(float(((pred - truth) ** 2).mean())), abs=1e-5
    )


def test_the_inside_ignores_the_background_but_not_what_sticks_out() -> None:
    truth, pred = torch.ones(20, 20, 3), torch.ones(20, 20, 3)
    truth_alpha, pred_alpha = torch.zeros(20, 20), torch.zeros(20, 20)
    truth_alpha[5:10, 5:10] = 1.0
    pred_alpha[5:10, 5:15] = 1.0
    pred[5:10, 5:15] = 0.9
    mask = inside(pred_alpha, truth_alpha)
    assert psnr_inside(pred, truth, mask).item() == pytest.approx(20.0, abs=1e-4)
    assert psnr(pred, truth).item() > 25
    assert mask_iou(pred_alpha, truth_alpha).item() == pytest.approx(0.5)
    nothing = torch.zeros(20, 20)
    assert math.isnan(psnr_inside(pred, truth, inside(nothing, nothing)).item())
    assert mask_iou(nothing, nothing).item() == 1.0
    assert mask_iou(nothing, truth_alpha).item() == 0.0


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_pictures_that_cannot_be_compared_are_refused(
    metric: Callable[[Tensor, Tensor], Tensor],
) -> None:
    picture = random(16, 16, 3)
    broken = picture.clone()
    broken[3, 4, 1] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        metric(picture, broken)
    with pytest.raises(ValueError, match=r"\(16, 16, 3\) and \(16, 15, 3\) cannot be compared"):
        check_pair(picture, picture[:, :15])


def test_edges_fall_with_blur_and_with_place_and_not_with_brightness() -> None:
    torch.manual_seed(0)
    truth = torch.ones(128, 128, 3)
    truth[30:90, 40:70], truth[50:60, 20:110] = 0.2, 0.6
    assert edges(truth, truth).item() == pytest.approx(1, abs=1e-5)
    assert gradient_share(truth, truth).item() == pytest.approx(1)
    assert edges(0.5 + 0.5 * truth, truth).item() == pytest.approx(1, abs=1e-5)
    assert gradient_share(0.5 + 0.5 * truth, truth).item() == pytest.approx(0.5, abs=1e-4)
    soft = torch.nn.functional.avg_pool2d(
        truth.movedim(-1, 0)[None], 17, 1, 8, count_include_pad=False
    )[0].movedim(0, -1)
    assert edges(soft, truth) < 0.9
    assert gradient_share(soft, truth) < 0.9
    assert edges(truth.roll(1, 0), truth) > edges(truth.roll(12, 0), truth) + 0.1
    large = truth.repeat_interleave(2, 0).repeat_interleave(2, 1)
    # pictures are brought to one size
    assert torch.allclose(edge_cells(large), edge_cells(truth), atol=1e-6)
    assert edges(torch.ones(128, 128, 3), truth).isnan()
    assert gradient_share(truth, torch.ones(128, 128, 3)).isnan()


def test_ssim_has_a_gradient() -> None:
    truth = texture(16, 16).double()
    pred = (truth + 0.1 * random(16, 16, 3).double()).requires_grad_()
    torch.autograd.gradcheck(lambda x: ssim(x, truth), (pred,), atol=1e-6)


# LPIPS


def published_layout(backbone: str) -> nn.Sequential:
    """`features` of the network as torchvision lays it out, module by module."""
    # (channels, kernel, stride, padding) of a convolution, or a pool's side
    plan: list[tuple[int, int, int, int] | int]
    if backbone == "alex":
        plan = [
            (64, 11, 4, 2),
            3,
            (192, 5, 1, 2),
            3,
            (384, 3, 1, 1),
            (256, 3, 1, 1),
            (256, 3, 1, 1),
            3,
        ]
    else:
        widths = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0]
        plan = [(w, 3, 1, 1) if w else 2 for w in widths]
    layers: list[nn.Module] = []
    channels = 3
    for entry in plan:
        if isinstance(entry, int):
            layers.append(nn.MaxPool2d(entry, 2))
        else:
            layers += [nn.Conv2d(channels, *entry), nn.ReLU()]
            channels = entry[0]
    return nn.Sequential(*layers)


TAPS = {"alex": [1, 4, 7, 9, 11], "vgg": [3, 8, 15, 22, 29]}


@pytest.mark.parametrize("backbone", ["alex", "vgg"])
@pytest.mark.parametrize("layout", ["two files", "whole state dict"])
def test_lpips_equals_a_network_built_by_hand(tmp_path: Path, backbone: str, layout: str) -> None:
    torch.manual_seed(1)
    features = published_layout(backbone)
    channels = [64, 192, 384, 256, 256] if backbone == "alex" else [64, 128, 256, 512, 512]
    lins = [torch.rand(1, c, 1, 1) for c in channels]
    calibration = {f"lin{i}.model.1.weight": lin for i, lin in enumerate(lins)}
    if layout == "two files":
        files = [tmp_path / "backbone.pth", tmp_path / "lin.safetensors"]
        extra = {"classifier.1.weight": torch.zeros(2, 2)}
        torch.save({f"features.{k}": v for k, v in features.state_dict().items()} | extra, files[0])
        save_file(calibration, files[1])
    else:
        files = [tmp_path / "all.pth"]
        stage_of = {
            int(k.split(".")[0]): 1 + sum(int(k.split(".")[0]) > t for t in TAPS[backbone])
            for k in features.state_dict()
        }
        backbone_keys = {
            f"net.slice{stage_of[int(k.split('.')[0])]}.{k}": v
            for k, v in features.state_dict().items()
        }
        torch.save(
            backbone_keys | calibration | {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}, files[0]
        )
    pred, truth = random(40, 36, 3), random(40, 36, 3, seed=9)

    expected = 0.0
    # for inputs in [-1, 1]
    shift, scale = (torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450]))
    a, b = (((2 * x - 1 - shift) / scale).permute(2, 0, 1)[None] for x in (pred, truth))
    for i, layer in enumerate(list(features)[: TAPS[backbone][-1] + 1]):
        a, b = layer(a).detach(), layer(b).detach()
        if i in TAPS[backbone]:
            gap = (F.normalize(a, dim=1, eps=1e-10) - F.normalize(b, dim=1, eps=1e-10)) ** 2
            expected += float((gap * lins[TAPS[backbone].index(i)]).sum(1).mean())

    network = load_lpips(backbone, files)  # pyright: ignore[reportArgumentType]
    assert network(pred, truth).item() == pytest.approx(expected, rel=1e-4)
    assert network(truth, truth).item() == 0.0


def test_lpips_says_which_file_or_size_it_wants(tmp_path: Path) -> None:
    path = tmp_path / "backbone.pth"
    torch.save({f"features.{k}": v for k, v in published_layout("alex").state_dict().items()}, path)
    with pytest.raises(UserError, match="calibration"):
        load_lpips("alex", [path])
    with pytest.raises(UserError, match="does not exist"):
        load_lpips("alex", [tmp_path / "absent.pth"])
    lin = tmp_path / "lin.pth"
    torch.save(
        {
            f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1)
            for i, c in enumerate([64, 128, 256, 512, 512])
        },
        lin,
    )
    with pytest.raises(UserError, match="another network"):
        load_lpips("alex", [path, lin])
    with pytest.raises(ValueError, match="below 31"):
        LPIPS("alex")(random(30, 64, 3), random(30, 64, 3))


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut short"])
@pytest.mark.parametrize("name", ["file.pth", "file.safetensors"])
def test_damaged_weights_are_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_weights(path)


def test_weights_files_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"weight": Path("anything that is not a tensor")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth"):
        read_weights(tmp_path / "evil.pth")


# CLIP


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(2)
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    text = {**small, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(
        vision_config={**small, "image_size": 32, "patch_size": 8},
        text_config=text,
        projection_dim=8,
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_clip_embeds_as_the_whole_model_does(clip_folder: Path) -> None:
    from transformers import CLIPModel

    pictures = torch.stack([texture(48, 64), texture(48, 64, seed=7)])
    embedded = clip_metrics.load_clip(str(clip_folder))(pictures)
    prepared = []
    for picture in pictures:
        image = Image.fromarray((picture * 255).round().to(torch.uint8).numpy())
        image = image.resize((42, 32), Image.Resampling.BICUBIC).crop((5, 0, 37, 32))
        values = torch.from_numpy(np.asarray(image).astype(np.float32) / 255)
        prepared.append(
            ((values - torch.tensor(clip_metrics.MEAN)) / torch.tensor(clip_metrics.STD)).permute(
                2, 0, 1
            )
        )
    model = CLIPModel.from_pretrained(clip_folder).eval()
    with torch.inference_mode():
        features = model.get_image_features(pixel_values=torch.stack(prepared))
    # transformers 5 wraps what transformers 4 returned
    features = getattr(features, "pooler_output", features)
    expected = F.cosine_similarity(features[0], features[1], dim=0)
    assert clip_metrics.cosine(embedded[0], embedded[1]).item() == pytest.approx(
        expected.item(), abs=2e-3
    )
    assert clip_metrics.cosine(embedded, embedded).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)


def test_spherical_distance_is_half_the_squared_angle() -> None:
    angles = torch.tensor([0.0, 0.3, math.pi / 2, math.pi], dtype=torch.float64)
    a = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(4, 2)
    b = torch.stack([angles.cos(), angles.sin()], -1)
    assert clip_metrics.spherical_distance(a, b).tolist() == pytest.approx(
        (angles**2 / 2).tolist(), abs=1e-12
    )


def test_absent_clip_is_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="no/such-model"):
        clip_metrics.load_clip("no/such-model")


# Frechet distances and I3D


def scipy_frechet(x: np.ndarray, y: np.ndarray) -> float:
    cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.real(np.asarray(scipy.linalg.sqrtm(cx @ cy)))
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cx + cy - 2 * root))


@pytest.mark.parametrize("counts", [(40, 60), (300, 9)])
def test_frechet_equals_scipy(counts: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(3)
    mix = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    x = torch.randn(counts[0], 8, generator=generator, dtype=torch.float64) @ mix
    y = torch.randn(counts[1], 8, generator=generator, dtype=torch.float64) + 0.5
    assert frechet_distance(x, y).item() == pytest.approx(
        scipy_frechet(x.numpy(), y.numpy()), rel=1e-6
    )
    assert frechet_distance(x, x).item() == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(x, x + 2).item() == pytest.approx(4 * 8, rel=1e-9)


def test_frechet_survives_what_breaks_the_matrix_root() -> None:
    x, y = random(1, 400), random(1, 400, seed=4)
    assert frechet_distance(x, y).item() == pytest.approx(((x - y).double() ** 2).sum().item())
    # covariances of rank 2 and 4 in 400 dimensions
    few, more = (random(3, 400), random(5, 400, seed=4))
    assert math.isfinite(frechet_distance(few, more).item())
    assert frechet_distance(few, few[[2, 0, 1]]).item() == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance(x * math.nan, y)
    with pytest.raises(ValueError, match="no Frechet distance"):
        frechet_distance(x[:0], y)


def test_c4d_fvd_is_what_the_script_computes_with_an_old_numpy() -> None:
    a, b = 3 * random(400), random(400, seed=6)
    x, y = a.double().numpy()[None], b.double().numpy()[None]
    # Before numpy 2.2, np.cov(row, rowvar=False) of one row took the row for one variable: the
    # variance of its entries.
    vx, vy = np.atleast_2d(np.cov(x[0])), np.atleast_2d(np.cov(y[0]))
    expected = (
        ((x.mean(0) - y.mean(0)) ** 2).sum()
        + np.trace(vx)
        + np.trace(vy)
        - 2 * np.trace(scipy.linalg.sqrtm(vx @ vy))
    )
    assert c4d_fvd(a, b).item() == pytest.approx(float(expected), rel=1e-9)


def test_grid_videos_visit_what_they_say() -> None:
    grid = grid_videos(3, 6)
    cells = {(v, t) for v in range(3) for t in range(6)}
    assert [[t for _, t in video] for video in grid["fvd_f"]] == [list(range(6))] * 3
    assert [[v for v, _ in video] for video in grid["fvd_v"]] == [list(range(3))] * 6
    assert grid["fvd_diag"] == [[(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)]]
    assert set(grid["fv4d"][0]) == cells
    assert len(grid["fv4d"][0]) == len(cells)
    steps = [
        abs(a[0] - b[0]) + abs(a[1] - b[1])
        for a, b in zip(grid["fv4d"][0], grid["fv4d"][0][1:], strict=False)
    ]
    assert set(steps) == {1}


def i3d_by_name(weights: dict[str, Tensor], video: Tensor) -> Tensor:
    """Inception-I3D spelled out from its table with the names of the published file."""

    def same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        pads = []
        for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
            total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
            pads = [total // 2, total - total // 2, *pads]
        return F.pad(x, pads)

    def unit(x: Tensor, name: str, stride: int = 1) -> Tensor:
        w = weights[f"{name}.conv3d.weight"]
        x = F.conv3d(same(x, tuple(w.shape[2:]), (stride,) * 3), w, stride=stride)
        mean, var, gain, bias = (
            weights[f"{name}.bn.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu(F.batch_norm(x, mean, var, gain, bias, eps=1e-3))

    def pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        return F.max_pool3d(same(x, kernel, stride), kernel, stride)

    x = unit(video, "Conv3d_1a_7x7", 2)
    x = pool(x, (1, 3, 3), (1, 2, 2))
    x = unit(unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
    x = pool(x, (1, 3, 3), (1, 2, 2))
    for block in ("3b", "3c", "pool 3", "4b", "4c", "4d", "4e", "4f", "pool 2", "5b", "5c"):
        if block.startswith("pool"):
            x = pool(x, (int(block[-1]),) * 3, (2, 2, 2))
            continue
        n = f"Mixed_{block}"
        branches = [
            unit(x, f"{n}.b0"),
            unit(unit(x, f"{n}.b1a"), f"{n}.b1b"),
            unit(unit(x, f"{n}.b2a"), f"{n}.b2b"),
        ]
        x = torch.cat([*branches, unit(pool(x, (3, 3, 3), (1, 1, 1)), f"{n}.b3b")], 1)
    x = F.avg_pool3d(x, (2, 7, 7), 1)
    return F.conv3d(x, weights["logits.conv3d.weight"], weights["logits.conv3d.bias"]).mean(
        (2, 3, 4)
    )


@pytest.fixture(scope="module")
def i3d_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(4)
    weights = {k: v for k, v in I3D().state_dict().items() if not k.endswith("num_batches_tracked")}
    for name, value in weights.items():
        if ".bn." in name:
            weights[name] = torch.rand_like(value) + 0.5
    path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def i3d(i3d_file: Path) -> I3D:
    return load_i3d(i3d_file)


def test_i3d_equals_its_table(i3d_file: Path, i3d: I3D) -> None:
    assert sum(p.numel() for p in i3d.parameters()) == 12_697_264  # of the published RGB network
    assert set(MIXED) == {k.split(".")[0] for k in i3d.state_dict() if k.startswith("Mixed")}
    frames = torch.stack([i3d_frame(texture(40, 40, seed=s)) for s in range(9)])
    with torch.inference_mode():
        expected = i3d_by_name(read_weights(i3d_file), (frames.float()).permute(3, 0, 1, 2)[None])[
            0
        ]
    assert torch.allclose(
        video_logits(i3d, frames), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
    )


def test_short_videos_are_slowed_down(i3d: I3D) -> None:
    three = torch.stack([i3d_frame(texture(20, 20, seed=s)) for s in range(3)])
    assert torch.equal(video_logits(i3d, three), video_logits(i3d, three.repeat_interleave(3, 0)))
    with pytest.raises(ValueError, match="without frames"):
        video_logits(i3d, three[:0])


def test_i3d_frames_are_resized_as_pillow_does() -> None:
    picture = texture(300, 260)
    planes = [
        Image.fromarray(picture[..., c].numpy()).resize((224, 224), Image.Resampling.BICUBIC)
        for c in range(3)
    ]
    expected = np.stack([np.asarray(p) for p in planes], -1) * 2 - 1
    assert np.abs(i3d_frame(picture).float().numpy() - expected).max() < 2e-3


# Motion


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (14, 5)])
def test_flow_finds_a_shift(shift: tuple[int, int]) -> None:
    big = texture(160, 180).movedim(-1, 0)
    dx, dy = shift
    a, b = big[:, 30:130, 30:150], big[:, 30 - dy : 130 - dy, 30 - dx : 150 - dx]
    flow = optical_flow(a, b)[:, 20:-20, 20:-20]
    gap = (flow - torch.tensor([[[dx]], [[dy]]])).norm(dim=0)
    assert gap.median() < 0.05
    assert gap.mean() < 0.2


def test_flow_undoes_a_rotation() -> None:
    a = texture(96, 96).movedim(-1, 0)
    y, x = torch.meshgrid(torch.arange(96.0) - 47.5, torch.arange(96.0) - 47.5, indexing="ij")
    angle = math.radians(4)
    turn = torch.stack(
        [
            math.cos(angle) * x - math.sin(angle) * y - x,
            math.sin(angle) * x + math.cos(angle) * y - y,
        ]
    )
    b = warp(a, turn)
    left = (warp(b, optical_flow(a, b)) - a)[:, 16:-16, 16:-16].abs().mean()
    assert left < 0.1 * (b - a)[:, 16:-16, 16:-16].abs().mean()


def ball(offset: float, brightness: float = 1.0, radius: float = 20.0) -> tuple[Tensor, Tensor]:
    """A textured disc over white, moved sideways."""
    y, x = torch.meshgrid(
        torch.arange(80.0) - 39.5, torch.arange(80.0) - 39.5 - offset, indexing="ij"
    )
    alpha = ((radius - (x * x + y * y).sqrt()) + 0.5).clamp(0, 1)
    inner = warp(
        texture(80, 80).movedim(-1, 0),
        torch.stack([torch.full((80, 80), -offset), torch.zeros(80, 80)]),
    )
    return inner.movedim(0, -1) * brightness * alpha[..., None] + 1 - alpha[..., None], alpha


def test_a_frozen_video_is_steady_and_does_not_move() -> None:
    rgb, alpha = ball(0.0)
    scores = frame_pair(rgb, rgb, alpha, alpha)
    assert scores.flicker == pytest.approx(0.0, abs=1e-6)
    assert scores.motion == pytest.approx(0.0, abs=1e-6)
    assert scores.silhouette == 1.0


def test_motion_alone_is_not_flicker() -> None:
    (still, still_alpha), (moved, moved_alpha) = ball(0.0), ball(4.0)
    scores = frame_pair(still, moved, still_alpha, moved_alpha)
    assert scores.motion == pytest.approx(4 / 80, rel=0.1)
    assert scores.silhouette > 0.9
    dimmed, _ = ball(4.0, brightness=0.8)
    assert frame_pair(still, dimmed, still_alpha, moved_alpha).flicker > 4 * scores.flicker


def test_a_pumping_silhouette_is_unstable() -> None:
    (rgb, alpha), (small, small_alpha) = ball(0.0), ball(0.0, radius=12.0)
    hole = alpha.clone()
    hole[30:50, 30:50] = 0
    assert frame_pair(rgb, rgb, alpha, hole).silhouette < 0.75
    assert frame_pair(rgb, small, alpha, small_alpha).silhouette < 0.9


def test_an_absent_object_has_no_temporal_scores() -> None:
    rgb, alpha = ball(0.0)
    assert all(math.isnan(value) for value in frame_pair(rgb, rgb, torch.zeros_like(alpha), alpha))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 300)])
def test_tiny_and_long_pictures_have_temporal_scores(size: tuple[int, int]) -> None:
    one = torch.ones(size)
    scores = frame_pair(random(*size, 3), random(*size, 3, seed=1), one, one)
    assert all(math.isfinite(value) for value in scores)


def test_janus_sees_a_face_on_both_sides() -> None:
    face, back = texture(90, 70), texture(90, 70, seed=20)
    alpha = torch.zeros(90, 70)
    alpha[10:80, 15:60] = 1.0
    assert janus(face, face, alpha, alpha) == pytest.approx(1.0, abs=1e-4)
    assert janus(face, face.flip(1), alpha, alpha.flip(1)) == pytest.approx(1.0, abs=1e-4)
    shifted = face.roll((3, 2), (0, 1)), alpha.roll((3, 2), (0, 1))
    assert janus(face, shifted[0] * 0.5, alpha, shifted[1]) == pytest.approx(1.0, abs=1e-3)
    assert janus(face, back, alpha, alpha) < 0.4
    assert math.isnan(janus(face, back, alpha, torch.zeros_like(alpha)))
    assert math.isnan(janus(torch.full_like(face, 0.5), back, alpha, alpha))
