"""Picture losses: against scikit-image, against finite differences, and the kernel against its
float64 twin.
"""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from gs4d.losses import l1, photometric, photometric_torch, ssim, ssim_map
from gs4d.native import kernels

ISAS = kernels.isas()
# smaller than the window, ragged vectors, several bands
SHAPES = [(1, 3, 2, 3), (2, 67, 33, 4), (1, 130, 21, 3)]


def pictures(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A smooth picture over white and a noisy copy, float64."""
    random = torch.Generator().manual_seed(seed)
    b, h, w, c = shape
    coarse = torch.rand(b, c, 5, 5, generator=random, dtype=torch.float64)
    target = (
        torch.nn.functional.interpolate(coarse, (h, w), mode="bilinear")
        .permute(0, 2, 3, 1)
        .contiguous()
    )
    target[:, : h // 3] = 1
    noise = torch.randn(shape, generator=random, dtype=torch.float64)
    return (target + 0.1 * noise).clamp(0, 1), target


def weights_of(kind: str, shape: tuple[int, ...]) -> Tensor | None:
    extent = {"none": None, "picture": shape[:1], "pixel": shape[:3]}[kind]
    if extent is None:
        return None
    return 2 * torch.rand(extent, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def value_and_gradient(
    loss, prediction: Tensor, target: Tensor, weights: Tensor | None, **options
) -> tuple[Tensor, Tensor]:
    prediction = prediction.clone().requires_grad_()
    value = loss(prediction, target, weights=weights, **options)
    return value.detach(), torch.autograd.grad(3 * value, prediction)[0]


def test_ssim_is_that_of_scikit_image_inside() -> None:
    prediction, target = pictures(1, 40, 32, 3)
    _, wanted = structural_similarity(
        prediction[0].numpy(),
        target[0].numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=-1,
        full=True,
    )
    inside = (slice(5, -5), slice(5, -5))
    torch.testing.assert_close(
        ssim_map(prediction, target)[0][inside], torch.tensor(wanted)[inside], atol=1e-4, rtol=0
    )


def test_equal_pictures_lose_nothing() -> None:
    _, target = pictures(2, 20, 20, 3)
    assert ssim(target, target).item() == pytest.approx(1)
    assert l1(target, target) == 0
    value, gradient = value_and_gradient(photometric, target.float(), target.float(), None)
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert gradient.abs().max() < 1e-6


def test_photometric_is_the_mix_it_says() -> None:
    prediction, target = pictures(2, 20, 24, 3)
    wanted = 0.7 * l1(prediction, target) + 0.3 * (1 - ssim(prediction, target))
    torch.testing.assert_close(photometric(prediction, target, ssim_weight=0.3), wanted)
    torch.testing.assert_close(
        photometric(prediction, target, ssim_weight=0.0), l1(prediction, target)
    )


def test_a_weight_of_ten_counts_tenfold() -> None:
    prediction, target = pictures(2, 20, 24, 3)
    one, ten = (
        photometric(prediction, target, weights=torch.tensor([w, 0.0])) for w in (1.0, 10.0)
    )
    torch.testing.assert_close(ten, 10 * one)
    torch.testing.assert_close(one, photometric(prediction[:1], target[:1]) / 2)
    per_pixel = torch.ones(2, 20, 24)
    per_pixel[1] = 0
    torch.testing.assert_close(photometric(prediction, target, weights=per_pixel), one)
    torch.testing.assert_close(
        l1(prediction, target, per_pixel), l1(prediction[:1], target[:1]) / 2
    )


def test_gradient_by_finite_differences() -> None:
    prediction, target = pictures(1, 7, 6, 3)
    weights = weights_of("pixel", prediction.shape)
    assert torch.autograd.gradcheck(
        lambda p: photometric(p, target, weights=weights), (prediction.requires_grad_(),)
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["none", "picture", "pixel"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_equals_its_float64_twin(shape, kind: str, isa: str) -> None:
    kernels.set_isa(isa)
    prediction, target = (picture.float() for picture in pictures(*shape))
    weights = weights_of(kind, shape)
    value, gradient = value_and_gradient(
        photometric, prediction, target, None if weights is None else weights.float()
    )
    truth, exact = value_and_gradient(
        photometric_torch,
        prediction.double(),
        target.double(),
        None if weights is None else weights.float().double(),
        ssim_weight=0.2,
    )
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(truth.item(), rel=1e-5)
    # The variance is a difference of means near 1, so a flat region holds 1e-7 / C2 of relative
    # error in any float32.
    assert (gradient.double() - exact).abs().max() < 1e-4 * exact.abs().max()


def test_without_gradient_the_value_is_the_same() -> None:
    prediction, target = (picture.float() for picture in pictures(2, 70, 30, 3))
    value, _ = value_and_gradient(photometric, prediction, target, None)
    assert photometric(prediction, target) == value


def test_the_kernel_gives_the_same_bits_for_any_number_of_threads() -> None:
    prediction, target = (picture.float() for picture in pictures(3, 140, 40, 3))
    results = []
    for threads in (1, 2, 5):
        kernels.set_num_threads(threads)
        results.append(value_and_gradient(photometric, prediction, target, None))
    assert all(
        torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True)
    )


def test_shapes_that_do_not_fit_are_refused() -> None:
    picture = torch.zeros(2, 8, 8, 3)
    with pytest.raises(
        ValueError, match=r"shapes \(2, 8, 8, 3\) and \(1, 8, 8, 3\): wanted twice the same"
    ):
        photometric(picture, picture[:1])
    with pytest.raises(ValueError, match=r"weights of shape \(3,\): wanted \(b,\) or \(b, h, w\)"):
        photometric(picture, picture, weights=torch.ones(3))
