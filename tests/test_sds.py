"""Score distillation on models whose answer is known.

Gaussian data, for which the best guess of the noise is linear.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor
from toys import toy_clip

from gs4d.clip import Clip, Orbit, cameras_of
from gs4d.errors import UserError
from gs4d.fit import FitOptions, Fitter, LossWeights, fit
from gs4d.guidance import GuidanceOptions, nearest_track, sample_views
from gs4d.motion import HexPlaneOptions
from gs4d.prior import ScoreBatch
from gs4d.prior.pictures import squared
from gs4d.prior.sds import (
    Condition,
    Conditions,
    Denoiser,
    SdsOptions,
    distill,
    draw_times,
    guided,
    time_range,
    weight,
)

STEPS = 1000
# Stable Diffusion's
ABAR = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS).square().neg().add(1).cumprod(0)
SHAPE = (1, 2, 2)  # channels, height, width
# Means and deviations of the data under three conditions: what is wanted is a small part of all
# there is.
WANTED, EMPTY, UNWANTED = (0.8, 0.3), (-0.3, 1.0), (-1.1, 0.6)


@dataclass
class Gaussian:
    """Knows data that is Normal(mean, deviation^2) under a condition.

    Eps = s (z_t - a mean) / (a^2 deviation^2 + s^2).
    """

    alphas_cumprod: Float[Tensor, "steps"]
    calls: int = 0

    def predict(self, latents: Tensor, t: Int[Tensor, "b"], condition: Condition) -> Tensor:
        self.calls += 1
        abar = self.alphas_cumprod[t].view(-1, *[1] * (latents.ndim - 1))
        mean, deviation = (
            condition[k].view(-1, *[1] * (latents.ndim - 1)) for k in ("mean", "deviation")
        )
        a, s = abar.sqrt(), (1 - abar).sqrt()
        return s * (latents - a * mean) / (a**2 * deviation**2 + s**2)


def told(count: int, negative: bool = False) -> Conditions:
    wanted, empty, unwanted = (
        {"mean": torch.full((count,), mean), "deviation": torch.full((count,), deviation)}
        for mean, deviation in (WANTED, EMPTY, UNWANTED)
    )
    return Conditions(wanted, empty, unwanted if negative else None)


def gradient(
    z: Tensor, options: SdsOptions, *, seed: int = 0, progress: float = 0.0, negative: bool = False
) -> Tensor:
    """By the latents, times the number of pictures: w(t) d."""
    z = z.clone().requires_grad_()
    loss = distill(
        Gaussian(ABAR),
        z,
        told(len(z), negative),
        options,
        progress,
        torch.Generator().manual_seed(seed),
    )
    loss.backward()
    assert z.grad is not None
    direction = z.grad * len(z)
    assert loss.item() == pytest.approx(0.5 * direction.square().sum().item() / len(z), rel=1e-4)
    return direction


def eps(z: Any, abar: float, data: tuple[float, float]) -> Any:
    a, s = math.sqrt(abar), math.sqrt(1 - abar)
    return s * (z - a * data[0]) / (a**2 * data[1] ** 2 + s**2)


def fixed_time(t: int) -> tuple[float, float]:
    return t / STEPS, t / STEPS


@pytest.mark.parametrize("weighting", ["sds", "uniform", "fantasia3d", "reconstruction"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_gradient_is_the_closed_form(weighting: Any, guidance: float):
    t = 430
    z = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(5))
    options = SdsOptions(weighting=weighting, guidance=guidance, noise=fixed_time(t))
    generator = torch.Generator().manual_seed(7)
    torch.randint(0, 1, (3,), generator=generator)  # the draw of the times
    noise = torch.randn(z.shape, generator=generator)
    abar = float(ABAR[t])
    a, s = math.sqrt(abar), math.sqrt(1 - abar)
    by_hand = {"sds": s**2, "uniform": 1.0, "fantasia3d": a * s**2, "reconstruction": s / a}[
        weighting
    ]
    noisy = a * z + s * noise
    expected = by_hand * (
        (1 - guidance) * eps(noisy, abar, EMPTY) + guidance * eps(noisy, abar, WANTED) - noise
    )
    torch.testing.assert_close(gradient(z, options, seed=7), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 4, 32, 32), (2, 4, 8, 8), (1, 2, 1, 4, 8, 8)])
def test_the_loss_is_the_papers_sum_over_latents_per_picture(shape: tuple[int, ...]):
    z = torch.randn(shape, generator=torch.Generator().manual_seed(5), requires_grad=True)
    options = SdsOptions(guidance=2.0, noise=fixed_time(430))
    loss = distill(
        Gaussian(ABAR), z, told(shape[0]), options, 0.0, torch.Generator().manual_seed(7)
    )
    (found,) = torch.autograd.grad(loss, z)
    generator = torch.Generator().manual_seed(7)
    torch.randint(0, 1, (shape[0],), generator=generator)
    noise = torch.randn(shape, generator=generator)
    with torch.no_grad():
        noisy = ABAR[430].sqrt() * z + (1 - ABAR[430]).sqrt() * noise
        t = torch.full((shape[0],), 430)
        grad = (1 - ABAR[430]) * (guided(Gaussian(ABAR), noisy, t, told(shape[0]), options) - noise)
    target = (z - grad).detach()
    papers = 0.5 * torch.nn.functional.mse_loss(z, target, reduction="sum") / 2  # two pictures
    torch.testing.assert_close(loss, papers, rtol=1e-5, atol=0)
    torch.testing.assert_close(found, torch.autograd.grad(papers, z)[0], rtol=1e-4, atol=1e-6)
    # A picture of 256 pixels has 4096 latents, over which the default was a mean of weight 0.1.
    assert LossWeights().distillation * 4 * 32 * 32 == pytest.approx(0.1)


def test_the_weights_are_their_formulas():
    abar = torch.tensor([0.9, 0.25])
    torch.testing.assert_close(weight("sds", abar), torch.tensor([0.1, 0.75]))
    torch.testing.assert_close(weight("uniform", abar), torch.ones(2))
    torch.testing.assert_close(weight("fantasia3d", abar), torch.tensor([0.9**0.5 * 0.1, 0.375]))
    torch.testing.assert_close(weight("reconstruction", abar), torch.tensor([1 / 3, 3**0.5]))


def test_with_the_reconstruction_weight_one_step_lands_on_the_models_clean_picture():
    z = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    options = SdsOptions(weighting="reconstruction", guidance=2.0, noise=fixed_time(700))
    generator = torch.Generator().manual_seed(3)
    torch.randint(0, 1, (2,), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    a, s = ABAR[700].sqrt(), (1 - ABAR[700]).sqrt()
    noisy = a * z + s * noise
    guess = guided(Gaussian(ABAR), noisy, torch.tensor([700, 700]), told(2), options)
    torch.testing.assert_close(
        z - gradient(z, options, seed=3), (noisy - s * guess) / a, atol=1e-5, rtol=1e-4
    )


def expected_optimum(options: SdsOptions, negative: bool) -> float:
    """Where the gradient's mean over noise and time is zero, by scalar arithmetic of the variants'
    definitions.

    The mean gradient is linear in z, so two values of it tell where it vanishes.
    """
    guidance = options.guidance

    def strong(x: float, abar: float) -> float:
        base = eps(x, abar, UNWANTED if negative else EMPTY)
        return base + guidance * (eps(x, abar, WANTED) - base)

    def mean_gradient(z: float) -> float:
        total = 0.0
        first, last = (round(share * STEPS) for share in options.noise)
        for t in range(first, last + 1):
            abar = float(ABAR[t])
            middle = math.sqrt(abar) * z  # the noise has mean 0 and everything is linear in it
            if options.variant == "sds":
                d = strong(middle, abar)
            elif options.variant == "nfsd":
                empty = eps(middle, abar, EMPTY)
                domain = (
                    empty if t < 200 else empty - eps(middle, abar, UNWANTED) if negative else 0.0
                )
                d = domain + guidance * (eps(middle, abar, WANTED) - empty)
            else:
                s = max(t - options.interval, 0)
                legs = math.ceil(s / options.stride)
                x, here, level = z, 0, 1.0
                for goal in [*(min(leg * options.stride, s) for leg in range(1, legs + 1)), t]:
                    noise = eps(x, float(ABAR[here]), EMPTY)
                    clean = (x - math.sqrt(1 - level) * noise) / math.sqrt(level)
                    level = float(ABAR[goal])
                    x, here = math.sqrt(level) * clean + math.sqrt(1 - level) * noise, goal
                d = strong(x, abar) - noise
            total += (1 - abar) * d
        return total

    at_0, at_1 = mean_gradient(0.0), mean_gradient(1.0)
    assert at_1 > at_0, "the optimum would repel"
    return -at_0 / (at_1 - at_0)


@pytest.mark.parametrize(
    ("variant", "guidance", "noise", "negative"),
    [
        ("sds", 1.0, (0.02, 0.98), False),
        ("sds", 3.0, (0.2, 0.6), False),
        ("sds", 1.5, (0.2, 0.6), True),
        ("nfsd", 2.0, (0.02, 0.19), False),
        ("nfsd", 2.0, (0.05, 0.23), True),
        ("ism", 1.0, (0.1, 0.6), False),
        ("ism", 1.5, (0.2, 0.6), False),
        ("ism", 1.5, (0.2, 0.6), True),
    ],
)
def test_optimisation_converges_to_the_optimum(
    variant: Any, guidance: float, noise: tuple[float, float], negative: bool
):
    options = SdsOptions(variant=variant, guidance=guidance, noise=noise, interval=60, stride=150)
    optimum = expected_optimum(options, negative)
    if (variant, guidance) == ("sds", 1.0):
        assert optimum == pytest.approx(WANTED[0], abs=1e-5)
    generator = torch.Generator().manual_seed(0)
    # every value is one more sample of the same optimisation
    z = torch.zeros(256, *SHAPE, requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.1)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.1 * 0.01 ** (step / 200)
        optimizer.zero_grad()
        distill(Gaussian(ABAR), z, told(256, negative), options, 0.0, generator).backward()
        assert z.grad is not None
        z.grad.copy_(z.grad.mean().expand_as(z))
        optimizer.step()
    assert z.detach().mean().item() == pytest.approx(optimum, abs=0.02 + 0.01 * abs(optimum))


def test_the_variants_differ_by_the_noise_in_their_gradient():
    z, t = torch.full((64, *SHAPE), 0.4), 180
    sds, nfsd, ism = (
        gradient(z, SdsOptions(variant=v, noise=fixed_time(t)), seed=9)
        for v in ("sds", "nfsd", "ism")
    )
    generator = torch.Generator().manual_seed(9)
    torch.randint(0, 1, (64,), generator=generator)
    torch.testing.assert_close(
        nfsd - sds, (1 - ABAR[t]) * torch.randn(z.shape, generator=generator), atol=1e-5, rtol=1e-4
    )
    assert ism.std() < 1e-5
    assert sds.std() > 0.01


def test_guidance_is_a_line_through_both_guesses_and_1_needs_one():
    z, t = torch.randn(2, *SHAPE), torch.tensor([100, 600])
    model = Gaussian(ABAR)
    empty, wanted = (model.predict(z, t, c) for c in (told(2).empty, told(2).wanted))
    for scale in (0.0, 1.0, 7.5):
        found = guided(model, z, t, told(2), SdsOptions(guidance=scale))
        torch.testing.assert_close(found, empty + scale * (wanted - empty))
    assert isinstance(model, Denoiser)
    assert model.calls == 2 + 3  # two guesses at once
    negative = told(2, negative=True)
    assert negative.negative is not None
    away = model.predict(z, t, negative.negative)
    torch.testing.assert_close(
        guided(model, z, t, negative, SdsOptions(guidance=7.5)), away + 7.5 * (wanted - away)
    )
    unconditional = Conditions(told(2).wanted, {})
    torch.testing.assert_close(guided(model, z, t, unconditional, SdsOptions(guidance=1.0)), wanted)


def test_rescaling_gives_the_clean_picture_the_unguided_ones_contrast():
    generator = torch.Generator().manual_seed(0)
    z, t = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([300, 500])
    abar = ABAR[t].view(-1, 1, 1, 1)

    def clean(scale: float, rescale: float) -> Tensor:
        noise = guided(
            Gaussian(ABAR), z, t, told(2), SdsOptions(guidance=float(scale), rescale=float(rescale))
        )
        return ((z - (1 - abar).sqrt() * noise) / abar.sqrt()).flatten(1)

    plain, strong, whole, half = clean(1, 0), clean(6, 0), clean(6, 1), clean(6, 0.5)
    torch.testing.assert_close(whole.std(1), plain.std(1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        half.std(1), (plain.std(1) + strong.std(1)) / 2, rtol=1e-3, atol=1e-3
    )


def test_the_schedules():
    uniform = SdsOptions(noise=(0.02, 0.98))
    assert {time_range(uniform, p) for p in (0.0, 0.5, 1.0)} == {(0.02, 0.98)}
    linear = replace(uniform, schedule="linear")
    assert [time_range(linear, p) for p in (0.0, 0.25, 1.0)] == [
        (0.98, 0.98),
        (0.75, 0.75),
        (0.02, 0.02),
    ]
    ramp = SdsOptions(schedule="ramp", noise=(0.8, 0.98), noise_end=(0.2, 0.25), ramp=0.5)
    assert time_range(ramp, 0.0) == (0.8, 0.98)
    assert time_range(ramp, 0.25) == pytest.approx((0.5, 0.615))
    assert time_range(ramp, 0.5) == time_range(ramp, 0.9) == pytest.approx((0.2, 0.25))
    # of 10 000 steps 8 000
    dream = SdsOptions(schedule="ramp", noise=(0.98, 0.98), noise_end=(0.02, 0.5), ramp=0.8)
    assert [time_range(dream, p) for p in (0.0, 0.4, 0.8, 1.0)] == [
        (0.98, 0.98),
        pytest.approx((0.5, 0.74)),
        pytest.approx((0.02, 0.5)),
        pytest.approx((0.02, 0.5)),
    ]
    drawn = draw_times(uniform, STEPS, 20000, 0.0, torch.Generator().manual_seed(0))
    assert (drawn.min(), drawn.max()) == (20, 980)
    assert drawn.float().mean() == pytest.approx(500, abs=8)
    assert draw_times(SdsOptions(noise=(1.0, 1.0)), STEPS, 2, 0.0, torch.Generator()).tolist() == [
        999,
        999,
    ]


def test_clipping_shortens_long_pixels_only():
    z = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(2)) * 3
    free, clipped = (gradient(z, SdsOptions(clip=clip)) for clip in (0.0, 2.0))
    before, after = free.norm(dim=1), clipped.norm(dim=1)
    assert (before > 2).any()
    assert (before < 2).any()
    torch.testing.assert_close(after, before.clamp_max(2.0))
    torch.testing.assert_close(clipped[:, 0][before < 2], free[:, 0][before < 2])


class Bound:
    """Data of views x frames that is one common Normal(0.8, 1) value for all, and a little of its
    own in each.
    """

    own = 0.05

    def __init__(self) -> None:
        self.alphas_cumprod = ABAR

    def predict(
        self, latents: Float[Tensor, "b v t c h w"], t: Int[Tensor, "b"], condition: Condition
    ) -> Float[Tensor, "b v t c h w"]:
        n = latents.shape[1] * latents.shape[2]
        abar = self.alphas_cumprod[t].double().view(-1, 1, 1)
        covariance = torch.ones(n, n, dtype=torch.double) + self.own**2 * torch.eye(
            n, dtype=torch.double
        )
        noisy = abar * covariance + (1 - abar) * torch.eye(n, dtype=torch.double)
        rest = latents.double().flatten(1, 2).flatten(2) - abar.sqrt() * 0.8
        return ((1 - abar).sqrt() * torch.linalg.solve(noisy, rest)).view_as(latents).float()


def test_views_and_frames_are_judged_together():
    torch.manual_seed(0)
    z = (0.8 + torch.randn(1, 3, 4, 1, 2, 2)).requires_grad_()
    spread = z.detach().flatten(1, 2).std(1).mean()
    optimizer = torch.optim.Adam([z], lr=0.05)
    options = SdsOptions(guidance=1.0, noise=(0.1, 0.5))
    generator = torch.Generator().manual_seed(1)
    for _ in range(150):
        optimizer.zero_grad()
        distill(Bound(), z, Conditions({}, {}), options, 0.0, generator).backward()
        optimizer.step()
    assert z.detach().flatten(1, 2).std(1).mean() < 0.25 * spread, "the views agree with each other"
    # One sample has one time: its gradient by one view depends on the others, that of another
    # sample does not.
    pair = torch.cat([z.detach(), z.detach()])
    moved = pair.clone()
    moved[0, 0, 0] += 1

    def by(latents: Tensor) -> Tensor:
        latents = latents.clone().requires_grad_()
        distill(
            Bound(), latents, Conditions({}, {}), options, 0.0, torch.Generator().manual_seed(4)
        ).backward()
        assert latents.grad is not None
        return latents.grad

    change = (by(moved) - by(pair)).abs()
    assert change[0, 1:].min() > 0
    assert change[1].max() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_answer_that_is_no_number_is_reported(bad: float):
    class Broken(Gaussian):
        def predict(self, latents: Tensor, t: Int[Tensor, "b"], condition: Condition) -> Tensor:
            return torch.full_like(latents, bad)

    with pytest.raises(UserError, match=r"not finite.*dtype float32"):
        distill(
            Broken(ABAR),
            torch.zeros(1, *SHAPE),
            told(1),
            SdsOptions(guidance=1.0),
            0.0,
            torch.Generator(),
        )


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("noise", (0.6, 0.2), "SdsOptions.noise is .0.6, 0.2.; the smaller number comes first"),
        ("guidance", -1.0, r"SdsOptions.guidance is -1.0; it must lie in 0 to 1000"),
        ("ramp", 0.0, "SdsOptions.ramp is 0.0; it must lie in 1e-06 to 1"),
    ],
)
def test_options_out_of_range_are_refused(field: str, value: Any, sentence: str):
    with pytest.raises(UserError, match=sentence):
        SdsOptions(**{field: value})


@pytest.mark.parametrize("field", ["azimuth", "elevation", "radius", "fov"])
def test_camera_ranges_begin_with_the_smaller_number(field: str):
    with pytest.raises(UserError, match=f"GuidanceOptions.{field}.*smaller number"):
        GuidanceOptions(**{field: (2.0, 1.0)})


def test_the_cameras_fill_their_range_and_no_more():
    clip = toy_clip()
    options = GuidanceOptions(
        views=300, azimuth=(-20.0, 70.0), elevation=(5.0, 25.0), radius=(0.8, 1.2), fov=(0.5, 1.0)
    )
    sample = sample_views(clip, options, 0.0, False, torch.Generator().manual_seed(0))
    x, y, z = sample.cameras.centers.unbind(1)
    radius = sample.cameras.centers.norm(dim=1)
    fov = 2 * torch.atan(sample.cameras.height / 2 / sample.cameras.K[:, 1, 1])
    for values, (low, high), slack in (
        (torch.atan2(x, z).rad2deg(), (-20, 70), 2.0),
        (torch.asin(y / radius).rad2deg(), (5, 25), 0.5),
        (radius, (1.2, 1.8), 0.02),
        (fov.rad2deg(), (49.13 / 2, 49.13), 0.5),
    ):
        assert low - 1e-3 <= values.min() < low + slack
        assert high - slack < values.max() <= high + 1e-3
    assert set(sample.frames) == {0, 1, 2}
    assert sample.cameras.width == 128


def test_each_render_is_judged_by_its_own_frame():
    clip = toy_clip()
    sample = sample_views(
        clip, GuidanceOptions(views=5, frames=2), 0.0, False, torch.Generator().manual_seed(1)
    )
    assert len(sample.frames) == len(sample.cameras) == len(sample.sources) == 10
    for picture, frame in zip(sample.condition, sample.frames, strict=True):
        torch.testing.assert_close(picture, clip.tracks[0].premultiplied(frame))
    assert all(len(set(sample.frames[i : i + 2])) == 2 for i in range(0, 10, 2))
    torch.testing.assert_close(
        sample.sources.centers, torch.tensor([[0.0, 0.0, 1.5]]).expand(10, 3), atol=1e-5, rtol=0
    )


def test_a_moving_input_camera_is_where_it_was_at_the_frame():
    clip = toy_clip()
    path = tuple(Orbit(10.0 * t, 5.0) for t in range(3))
    moving = Clip("moving", (replace(clip.tracks[0], orbits=path),))
    sample = sample_views(
        moving, GuidanceOptions(views=6), 0.0, False, torch.Generator().manual_seed(0)
    )
    expected = cameras_of([path[t] for t in sample.frames], width=32, height=32)
    torch.testing.assert_close(sample.sources.centers, expected.centers)


def test_joint_priors_see_one_window_of_frames_from_every_camera():
    sample = sample_views(
        toy_clip(frames=6),
        GuidanceOptions(views=3, frames=4),
        0.0,
        True,
        torch.Generator().manual_seed(3),
    )
    window = sample.frames[:4]
    assert window == list(range(window[0], window[0] + 4))
    assert sample.frames == window * 3
    centers = sample.cameras.centers.view(3, 4, 3)
    assert (centers == centers[:, :1]).all()
    assert (centers[0] != centers[1]).any()
    assert sample.views == 3


def test_the_nearest_anchor_is_asked_as_often_as_wanted():
    clip = toy_clip(views=6)
    assert nearest_track(clip, Orbit(50.0, 20.0)).name == "sync_1"
    assert nearest_track(clip, Orbit(-70.0, 20.0)).name == "sync_5"
    assert nearest_track(Clip("alone", clip.tracks[:1]), Orbit(90.0)).name == "input"
    sample = sample_views(
        clip, GuidanceOptions(views=400, anchors=0.4), 0.0, False, torch.Generator().manual_seed(0)
    )
    is_side = sample.sources.centers[:, 1] > 0.1  # side views stand at elevation 30
    assert is_side.float().mean() == pytest.approx(0.4, abs=0.06)
    orbits = cameras_of([track.orbit for track in clip.tracks[1:]], width=1, height=1).centers
    for camera, source, frame, picture in zip(
        sample.cameras.centers[is_side],
        sample.sources.centers[is_side],
        torch.tensor(sample.frames)[is_side],
        sample.condition[is_side],
        strict=True,
    ):
        best = int((torch.nn.functional.normalize(orbits, dim=1) @ camera).argmax())
        torch.testing.assert_close(source, orbits[best], atol=1e-4, rtol=0)
        torch.testing.assert_close(picture, clip.tracks[1 + best].premultiplied(int(frame)))


def test_the_resolution_grows_with_the_stage():
    options = GuidanceOptions(resolution=(128, 256, 512), resolution_at=(0.3, 0.6))
    assert [options.side(p) for p in (0.0, 0.29, 0.3, 0.59, 0.6, 1.0)] == [
        128,
        128,
        256,
        256,
        512,
        512,
    ]


def test_wide_and_tall_pictures_are_padded_to_squares_that_their_cameras_see():
    clip = toy_clip(views=2)
    wide = replace(clip.tracks[0], images=clip.tracks[0].images[:, 8:24])  # 16 high, 32 wide
    picture = squared(wide.premultiplied(0), 32)
    assert picture.shape == (32, 32, 4)
    torch.testing.assert_close(picture[8:24], wide.premultiplied(0))
    assert picture[:8].abs().max() == picture[24:].abs().max() == 0
    sample = sample_views(
        Clip("wide", (wide, *clip.tracks[1:])),
        GuidanceOptions(),
        0.0,
        False,
        torch.Generator().manual_seed(0),
    )
    # The focal length in pixels of a square as high as the picture is wide is that of the picture
    # itself.
    assert sample.sources.K[0, 1, 1].item() == pytest.approx(
        wide.camera().K[0, 1, 1].item(), rel=1e-5
    )
    assert squared(wide.premultiplied(0), 20).shape == (20, 20, 4)


class Pale:
    """A prior with noise of its own: it wants every picture lighter, through ``distill``."""

    def __init__(self, joint: bool = False) -> None:
        self.joint, self.views_per_ring, self.needs_prompt = joint, 0, False
        self.weights: list[dict[str, str]] = []
        self.shapes: set[tuple[int, ...]] = set()

    def score(
        self, batch: ScoreBatch, options: SdsOptions, progress: float, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        images = batch.images.movedim(-1, 1)
        latents = images.unflatten(0, (1, batch.views, -1)) if self.joint else images
        self.shapes.add(tuple(latents.shape))
        return distill(Gaussian(ABAR), latents, told(len(latents)), options, progress, generator)


FIT = FitOptions(
    steps=12,
    fine=0.5,
    gaussians=150,
    views_per_step=2,
    times_per_step=2,
    losses=LossWeights(distillation=5.0),
    motion=HexPlaneOptions(resolution=8, multires=(1,), width=16),
    score=GuidanceOptions(views=2, frames=2, resolution=(16, 16, 16), anchors=0.5),
)


@pytest.mark.parametrize("cut", [3, 9])
def test_a_run_with_a_prior_is_resumed_bit_for_bit(tmp_path: Any, cut: int):
    clip = toy_clip(views=3, size=24)
    whole = fit(clip, FIT, tmp_path, prior=Pale())
    first = Fitter(clip, FIT, Pale())
    for _ in range(cut):
        first.advance()
    first.save(tmp_path)
    torch.manual_seed(99)
    resumed = fit(clip, FIT, tmp_path, prior=Pale(), resume=True)
    for (name, a), (_, b) in zip(
        whole.gaussians().items(), resumed.gaussians().items(), strict=True
    ):
        assert torch.equal(a, b), name
    assert [row["stage"] for row in whole.history if "score" in row] == ["fine"]


def test_a_joint_prior_gets_its_grid_from_the_fit(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
):
    prior = Pale(joint=True)
    fitter = fit(toy_clip(views=3, size=24), FIT, tmp_path, prior=prior)
    assert prior.shapes == {(1, 2, 2, 3, 16, 16)}
    assert fitter.history[-1]["score"] > 0
    assert f"score {fitter.history[-1]['score']:.4f}" in capsys.readouterr().err


def test_the_fit_adds_exactly_the_weighted_score_and_its_gradient():
    clip = toy_clip(views=3, size=24)
    weights: tuple[Literal[0, 5], ...] = (0, 5)
    found = []
    for w in weights:
        fitter = Fitter(
            clip,
            replace(FIT, static=0.0, fine=1.0, losses=LossWeights(distillation=float(w))),
            Pale(),
        )
        found.append((fitter.advance(), fitter))
    (without, _), (with_score, _) = found
    assert with_score["score"] == pytest.approx(without["score"])
    assert with_score["loss"] == pytest.approx(without["loss"] + 5 * with_score["score"], rel=1e-4)
