"""The motions: identity at rest, every texel reachable, exact gradients, poison stays outside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0, quats_to_rotations
from gs4d.motion import HexPlane, HexPlaneOptions, apply_deltas
from gs4d.motion.fused import MAX_LEVELS, OUTPUTS, decode_fused
from gs4d.motion.hexplane import decode_torch, mean_squared_difference
from gs4d.native import kernels

SMALL = HexPlaneOptions(resolution=5, multires=(1, 2), width=16)
EVERYTHING = HexPlaneOptions(resolution=5, multires=(1,), width=16, opacity=True, color=True)


def cloud(n: int = 40, seed: int = 0, dtype: torch.dtype = torch.float32) -> Gaussians:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)

    return Gaussians(0.4 * draw(n, 3), draw(n, 4), draw(n, 3), draw(n), draw(n, 4, 3))


def trained(options: HexPlaneOptions, frames: int = 6, seed: int = 0) -> HexPlane:
    """A field with every parameter away from its start."""
    torch.manual_seed(seed)
    field = HexPlane(options, frames)
    with torch.no_grad():
        for plane in field.time:
            plane += 0.3 * torch.randn_like(plane)
        for plane in field.space:
            plane += 0.5
        field.out.weight.normal_(0, 0.2)
        field.out.bias.normal_(0, 0.2)
    return field


def relative(value: Tensor, truth: Tensor) -> float:
    return float((value.double() - truth.double()).abs().max() / truth.abs().max())


@pytest.mark.parametrize("options", [SMALL, EVERYTHING])
def test_a_new_field_is_the_identity(options: HexPlaneOptions) -> None:
    gaussians = cloud()
    moved = HexPlane(options, 6)(gaussians, 0.3)
    for (name, before), (_, after) in zip(gaussians.items(), moved.items(), strict=True):
        assert torch.equal(before, after), name


def test_what_does_not_move_stays_shared() -> None:
    gaussians, times = cloud(), torch.tensor([0.0, 1.0])
    still = trained(SMALL).at_times(gaussians, times)
    assert still.views == 2
    assert still.sh is gaussians.sh
    assert still.logit_opacities is gaussians.logit_opacities
    moving = trained(EVERYTHING).at_times(gaussians, times)
    assert moving.sh.shape == (2, 40, 4, 3)
    assert torch.equal(moving.sh[0, :, 1:], gaussians.sh[:, 1:])


def test_views_that_repeat_a_time_get_the_same_set_and_all_gradients() -> None:
    gaussians, field = cloud(dtype=torch.float64), trained(SMALL).double()
    times = torch.tensor([0.7, 0.1, 0.7, 0.7], dtype=torch.float64)
    moved = field.at_times(gaussians, times)
    single = torch.stack([field(gaussians, float(t)).means for t in times])
    torch.testing.assert_close(moved.means, single)
    field.zero_grad()
    moved.means[3].square().sum().backward()
    repeated = field.hidden.weight.grad
    field.zero_grad()
    field(gaussians, 0.7).means.square().sum().backward()
    torch.testing.assert_close(repeated, field.hidden.weight.grad)


def test_a_set_that_already_has_views_is_refused() -> None:
    field = HexPlane(SMALL, 6)
    moved = field.at_times(cloud(), torch.tensor([0.0, 1.0]))
    with pytest.raises(
        ValueError, match=r"HexPlane\.at_times got Gaussians of 2 views: pass one set"
    ):
        field.at_times(moved, torch.tensor([0.0, 1.0]))


def test_deltas_mean_what_the_heads_say() -> None:
    gaussians = cloud(dtype=torch.float64)
    shift = torch.full((1, 40, 3), 0.25, dtype=torch.float64)
    # tan(90 degrees / 2) about z
    quarter = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(1, 40, 3)
    ones = torch.ones(1, 40, 1, dtype=torch.float64)
    deltas = {
        "position": shift,
        "rotation": quarter,
        "log_scale": shift,
        "opacity": ones,
        "color": shift,
    }
    moved = apply_deltas(gaussians, deltas).at_view(0)
    about_z = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(moved.means, gaussians.means + 0.25)
    torch.testing.assert_close(
        quats_to_rotations(moved.quats), about_z @ quats_to_rotations(gaussians.quats)
    )
    torch.testing.assert_close(moved.log_scales, gaussians.log_scales + 0.25)
    torch.testing.assert_close(moved.logit_opacities, gaussians.logit_opacities + 1)
    torch.testing.assert_close(moved.sh[:, 0] * SH_C0, gaussians.sh[:, 0] * SH_C0 + 0.25)


@pytest.mark.parametrize("frames", [2, 7])
def test_every_time_texel_of_a_clip_receives_gradient(frames: int) -> None:
    field = trained(SMALL, frames)
    times = torch.linspace(0, 1, frames)
    field.at_times(cloud(400), times).means.square().sum().backward()
    for plane in field.time:
        assert plane.shape[1] == frames
        assert plane.grad is not None
        assert (plane.grad.abs().amax((2, 3)) > 0).all()


def test_first_and_last_frame_see_only_the_first_and_last_texel() -> None:
    field = trained(SMALL)
    field.deltas(cloud().means, torch.tensor([0.0, 1.0])).square().sum().backward()
    used = field.time[0].grad.abs().amax((0, 2, 3)) > 0
    assert used.tolist() == [True, False, False, False, False, True]


def test_a_point_on_a_texel_reads_that_texel() -> None:
    field = trained(HexPlaneOptions(resolution=5, multires=(1,), width=16), frames=3).double()
    node = torch.tensor([[-0.5, 0.0, 1.0]], dtype=torch.float64)  # texels 1, 2, 4 of 5 in [-1, 1]
    (xy, xz, yz), (xt, yt, zt) = field.space[0], field.time[0]
    features = xy[1, 2] * xz[1, 4] * yz[2, 4] * xt[1, 1] * yt[1, 2] * zt[1, 4]
    wanted = field.out(torch.relu(field.hidden(features)))
    torch.testing.assert_close(field.deltas(node, torch.tensor([0.5]).double())[0, 0], wanted)


def test_points_outside_the_box_see_its_border() -> None:
    field, times = trained(SMALL), torch.tensor([0.0, 0.35])
    outside = torch.tensor([[3.0, 0.2, 0.1], [-1e30, 0.2, 5.0]], requires_grad=True)
    border = torch.tensor([[1.0, 0.2, 0.1], [-1.0, 0.2, 1.0]])
    deltas = field.deltas(outside, times)
    torch.testing.assert_close(deltas, field.deltas(border, times))
    deltas.sum().backward()
    assert outside.grad[0, 0] == 0
    assert outside.grad[0, 1] != 0


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e38, -1e38])
def test_poisoned_points_do_not_poison_the_field(poison: float) -> None:
    field, means = trained(SMALL), cloud().means.clone()
    means[3] = poison
    means[5, 1] = poison
    means.requires_grad_()
    deltas = field.deltas(means, torch.tensor([0.0, 0.5]))
    assert deltas.isfinite().all()
    deltas.square().sum().backward()
    for name, parameter in field.named_parameters():
        assert parameter.grad.isfinite().all(), name
    assert means.grad.isfinite().all()


def test_no_gaussians_are_fine() -> None:
    field = HexPlane(SMALL, 6)
    nowhere = field.deltas(torch.zeros(0, 3), torch.tensor([0.5]))
    assert nowhere.shape == (1, 0, 9)
    nowhere.sum().backward()
    assert all((parameter.grad == 0).all() for parameter in field.parameters())


def test_fit_box_leaves_room_on_every_side() -> None:
    field, means = HexPlane(SMALL, 6), cloud().means
    field.fit_box(means, margin=0.25)
    size = means.amax(0) - means.amin(0)
    torch.testing.assert_close(field.high - field.low, 1.5 * size, atol=1e-5, rtol=0)
    assert (field.low < means.amin(0)).all()
    field.fit_box(means[:1])
    assert field.deltas(means[:1], torch.tensor([0.5])).isfinite().all()


def test_field_gradients_by_finite_differences() -> None:
    options = HexPlaneOptions(resolution=3, multires=(1,), width=16)
    field = trained(options, frames=3).double()
    means = (
        0.9 * torch.rand(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ).requires_grad_()
    times = torch.tensor([0.3, 0.8], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda m, *_: field.deltas(m, times).sum(1), (means, *field.parameters())
    )


@pytest.mark.parametrize(("axis", "order"), [(0, 1), (1, 2), (2, 1)])
def test_smoothness_gradients_by_finite_differences(axis: int, order: int) -> None:
    values = torch.randn(
        4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    wanted = values.diff(order, dim=axis).square().mean()
    torch.testing.assert_close(mean_squared_difference(values, axis, order), wanted)
    assert torch.autograd.gradcheck(lambda v: mean_squared_difference(v, axis, order), (values,))


def test_regularisers_are_zero_exactly_where_they_should_be() -> None:
    field = HexPlane(SMALL, 6)
    assert field.time_smoothness() == 0
    assert field.plane_smoothness() > 0
    with torch.no_grad():
        for plane in field.time:
            plane *= torch.arange(6.0)[None, :, None, None]  # constant speed has no acceleration
        for plane in field.space:
            plane.fill_(0.3)
    assert field.time_smoothness().item() == pytest.approx(0, abs=1e-10)
    assert field.plane_smoothness() == 0
    assert HexPlane(SMALL, 2).time_smoothness() == 0


@pytest.mark.parametrize(
    "options",
    [{"channels": 8}, {"width": 0}, {"resolution": 1}, {"time_resolution": 1}, {"multires": ()}],
)
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=f"HexPlaneOptions.{next(iter(options))} is"):
        HexPlaneOptions(**options)


ISAS = kernels.isas()
TWINS = [  # options, points, times: ragged blocks, several column tiles, every head
    (SMALL, 1, 1),
    (HexPlaneOptions(resolution=7, multires=(1, 2), width=64), 333, 3),
    (
        HexPlaneOptions(
            resolution=4, multires=(1, 3, 2), channels=32, width=80, opacity=True, color=True
        ),
        97,
        2,
    ),
]


def field_inputs(options: HexPlaneOptions, n: int, t: int) -> list[Tensor]:
    """Flat inputs of both decoders: points (some outside), four layers, planes, rows."""
    field = trained(options)
    random = torch.Generator().manual_seed(n)
    unit = 1.2 * torch.rand(n, 3, generator=random) - 0.1
    rows = [
        torch.rand(3, t, p.shape[2], options.channels, generator=random) + 0.5 for p in field.time
    ]
    layers = (field.hidden.weight, field.hidden.bias, field.out.weight, field.out.bias)
    return [tensor.detach() for tensor in (unit, *layers, *field.space, *rows)]


def outputs_and_gradients(decoder, flat: list[Tensor], seed: int = 5) -> list[Tensor]:
    flat = [tensor.requires_grad_() for tensor in flat]
    levels = (len(flat) - 5) // 2
    deltas = decoder(flat[0], flat[5 : 5 + levels], flat[5 + levels :], *flat[1:5])
    cotangent = torch.randn(deltas.shape, generator=torch.Generator().manual_seed(seed)).to(
        deltas.dtype
    )
    return [deltas.detach(), *torch.autograd.grad(deltas, flat, cotangent)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("options", "n", "t"), TWINS)
def test_the_kernel_equals_its_float64_twin(options, n: int, t: int, isa: str) -> None:
    kernels.set_isa(isa)
    inputs = field_inputs(options, n, t)
    fused = outputs_and_gradients(decode_fused, [tensor.clone() for tensor in inputs])
    twin = outputs_and_gradients(decode_torch, [tensor.double() for tensor in inputs])
    for place, (value, truth) in enumerate(zip(fused, twin, strict=True)):
        assert value.shape == truth.shape
        assert relative(value, truth) < 1e-5, place


def test_the_kernel_gives_the_same_bits_for_any_number_of_threads() -> None:
    inputs = field_inputs(SMALL, 2500, 2)
    results = []
    for threads in (1, 2, 5, 2):
        kernels.set_num_threads(threads)
        results.append(outputs_and_gradients(decode_fused, [tensor.clone() for tensor in inputs]))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("isa", ISAS)
def test_the_kernel_survives_poisoned_points(isa: str) -> None:
    kernels.set_isa(isa)
    inputs = field_inputs(SMALL, 40, 2)
    for i, poison in enumerate([float("nan"), float("inf"), -float("inf"), 1e38, -1e38]):
        inputs[0][i, i % 3] = poison
    assert all(tensor.isfinite().all() for tensor in outputs_and_gradients(decode_fused, inputs))


def test_the_kernel_refuses_what_does_not_fit() -> None:
    unit, *layers, plane, rows = field_inputs(EVERYTHING, 8, 2)
    with pytest.raises(
        ValueError, match=r"deformation field: time rows must be \(3, times, r, channels\)"
    ):
        decode_fused(unit, [plane], [rows[:, :, 1:]], *layers)
    with pytest.raises(
        ValueError, match="deformation field: the hidden layer does not fit the planes"
    ):
        decode_fused(unit, [plane, plane], [rows, rows], *layers)
    with pytest.raises(ValueError, match="deformation field: wanted 1 to 8 levels"):
        decode_fused(unit, [plane] * (MAX_LEVELS + 1), [rows] * (MAX_LEVELS + 1), *layers)
    assert HexPlane(EVERYTHING, 2).heads.count() <= OUTPUTS


def test_a_field_in_float32_uses_the_kernel(monkeypatch) -> None:
    field, means, times = trained(SMALL), cloud().means, torch.tensor([0.5])
    mark = torch.full((1, len(means), 9), 7.0)
    monkeypatch.setattr("gs4d.motion.hexplane.decode_fused", lambda *_: mark)
    assert field.deltas(means, times) is mark
    assert isinstance(field.double().deltas(means.double(), times.double()), Tensor)
