"""The prior in the box: solids and their Gaussians, the network, its weights on disk, its views."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gs4d.clip import Orbit, cameras_of, over_white, premultiply
from gs4d.errors import UserError
from gs4d.metrics.image import mask_iou, psnr
from gs4d.prior import LIFT_WEIGHTS, ViewPrior, default_view_prior, draw_clip, open_prior
from gs4d.prior.inflate import Inflate, InflateOptions
from gs4d.prior.lift import Lift, lift, network_inputs, read_lift
from gs4d.prior.lift_net import LiftNet, LiftShape, prior_colors, prior_logits
from gs4d.prior.pictures import square_views
from gs4d.prior.solid import REACH, Solid, cell_centers, finer, solid_gaussians
from gs4d.prior.train.solid_samples import SIDE, halved, make_solid_sample, view_orbits
from gs4d.render import render

TINY = LiftShape(channels=(8, 8, 16), width=16, depth=2, heads=2)
BALL = 0.35


def ball(orbit: Orbit, side: int = 64, layers: int = 32) -> Solid:
    """A ball around the origin, red where x is positive and blue elsewhere.

    Occupancy falls off linearly over two cells.
    """
    centers = cell_centers(orbit, side, layers)
    occupancy = ((BALL - centers.norm(dim=-1)) / 0.04 + 0.5).clamp(0, 1)
    red = (centers[..., 0] > 0).float()
    return Solid(occupancy, torch.stack([red, torch.zeros_like(red), 1 - red]))


def disc(size: int) -> torch.Tensor:
    """What a camera at the default distance sees of the ball, as a mask."""
    line = (
        (torch.arange(size) + 0.5 - size / 2)
        / (size / 2)
        * torch.tan(torch.deg2rad(torch.tensor(49.13 / 2)))
    )
    tangent = BALL / (1.5**2 - BALL**2) ** 0.5
    return (line[:, None] ** 2 + line[None] ** 2 < tangent**2).float()


@pytest.mark.parametrize("source", [Orbit(), Orbit(70.0, 20.0, 2.2, 36.0)])
@pytest.mark.parametrize("times", [2, 3])
def test_a_solid_ball_looks_like_a_ball_from_everywhere(source: Orbit, times: int) -> None:
    solid = ball(source)
    gaussians = solid_gaussians(finer(solid, times), source)
    around = [Orbit(), Orbit(90.0), Orbit(200.0, 40.0), Orbit(30.0, -80.0)]
    seen = render(gaussians, cameras_of(around, width=256, height=256))
    for alpha in seen.alpha:
        assert mask_iou(alpha, disc(256)) > 0.9


@pytest.mark.parametrize("sure", [0.35, 0.65])
def test_what_may_be_there_is_a_veil(sure: float) -> None:
    solid = finer(replace(whole := ball(Orbit()), occupancy=whole.occupancy * sure), 2)
    seen = render(
        solid_gaussians(solid, Orbit()),
        cameras_of([Orbit(), Orbit(90.0), Orbit(45.0, 30.0)], width=256, height=256),
    )
    for alpha in seen.alpha:
        assert abs(float(alpha[disc(256) > 0].mean()) - sure) < 0.12


def test_colours_stay_on_their_side() -> None:
    gaussians = solid_gaussians(ball(Orbit()), Orbit())
    seen = render(gaussians, cameras_of([Orbit(90.0), Orbit(-90.0)], width=32, height=32)).rgb
    right, left = seen[:, 16, 16]
    assert right[0] > 0.8 > 0.2 > right[2]
    assert left[2] > 0.8 > 0.2 > left[0]


def test_cells_lie_on_the_rays_of_their_pixels() -> None:
    source = Orbit(40.0, -15.0, 1.9, 40.0)
    camera = cameras_of([source], width=16, height=16)
    cells = cell_centers(source, 16, 8)
    inside = cells @ camera.T_camera_world[0, :3, :3].T + camera.T_camera_world[0, :3, 3]
    pixels = inside @ camera.K[0].T
    x, y = (pixels[..., axis] / pixels[..., 2] for axis in (0, 1))
    assert torch.allclose(x, torch.arange(16).expand(8, 16, 16) + 0.5, atol=1e-3)
    assert torch.allclose(y, torch.arange(16)[:, None].expand(8, 16, 16) + 0.5, atol=1e-3)
    expected = 1.9 + REACH * ((torch.arange(8) + 0.5) / 4 - 1)
    assert torch.allclose(inside[..., 2], expected[:, None, None].expand(8, 16, 16), atol=1e-5)


def test_prior_logits_are_those_of_the_inflated_solid() -> None:
    thickness = torch.tensor([0.0, 0.25, 0.9]).view(1, 1, 1, 3)
    inside = prior_logits(thickness, 32)[0, 0, :, 0] > 0
    # of 32 layers over twice REACH: as many as are as thick
    assert inside.sum(0).tolist() == [0, 8, 28]
    assert torch.equal(inside, inside.flip(0))


def test_prior_colors_keep_faces_off_the_backs_of_heads() -> None:
    picture = torch.zeros(1, 1, 4, 64, 64)
    picture[..., 16:48, 16:48] = 1.0
    picture[:, :, :3, 24:28, 28:32] = 0.0  # an eye
    colors = prior_colors(picture, 32)[0, 0, 0]
    assert colors.shape == (16, 32, 32)
    assert torch.equal(colors[0, 8:24, 8:24], colors[1, 8:24, 8:24])
    assert colors[0, 12, 14] == 0.0
    assert colors[0, 8:24, 8:24].max() == 1.0
    assert colors[-1, 8:24, 8:24].min() > 0.9
    assert colors[-1, 8, 8] > 0.95, "what is beyond the outline has no colour"


def inputs(b: int, t: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(b, t, 4, 128, 128, generator=generator),
        torch.rand(b, t, 64, 64, generator=generator),
        torch.rand(b, 3, generator=generator),
    )


@pytest.fixture(scope="module")
def tiny() -> LiftNet:
    torch.manual_seed(3)
    network = LiftNet(TINY).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter += 0.1 * torch.randn(parameter.shape)
    return network


def test_network_shapes_and_that_clips_are_apart(tiny: LiftNet) -> None:
    pictures, thickness, camera = inputs(2, 3)
    logits, colors = tiny(pictures, thickness, camera)
    assert logits.shape == (2, 3, 32, 64, 64)
    assert colors.shape == (2, 3, 3, 16, 32, 32)
    alone, _ = tiny(pictures[1:], thickness[1:], camera[1:])
    assert torch.allclose(alone, logits[1:], atol=1e-4)


def test_detail_finer_than_a_cell_is_seen(tiny: LiftNet) -> None:
    pictures, thickness, camera = inputs(1, 1)
    blurred = pictures.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean((-1, -3), keepdim=True)
    blurred = blurred.expand(1, 1, 4, 64, 2, 64, 2).flatten(-2).flatten(-3, -2)
    sharp, soft = (tiny(x, thickness, camera)[0] for x in (pictures, blurred))
    assert (sharp - soft).abs().max() > 1e-3


def test_frames_see_each_other_without_an_order(tiny: LiftNet) -> None:
    pictures, thickness, camera = inputs(1, 3)
    logits, _ = tiny(pictures, thickness, camera)
    turned, _ = tiny(pictures.flip(1), thickness.flip(1), camera)
    assert torch.allclose(turned.flip(1), logits, atol=1e-4)
    alone, _ = tiny(pictures[:, :1], thickness[:, :1], camera)
    assert (alone - logits[:, :1]).abs().max() > 1e-3


def write(path: Path, network: LiftNet, shape: object) -> Path:
    save_file(
        {k: v.contiguous() for k, v in network.state_dict().items()},
        path,
        {"shape": json.dumps(shape)},
    )
    return path


def test_weights_come_back_bit_for_bit(tmp_path: Path, tiny: LiftNet) -> None:
    path = write(tmp_path / "w.safetensors", tiny, TINY.record())
    prior = open_prior(f"lift:{path}", "views")
    assert isinstance(prior, Lift)
    assert isinstance(prior, ViewPrior)
    for a, b in zip(tiny(*inputs(1, 2)), prior.network(*inputs(1, 2)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ({"width": 64}, "lacks|wanted"),
        ({"width": 10**9}, "out of range"),
        ({"channels": [8, 8]}, "does not describe a lift network"),
        ({"channels": "wide"}, "does not describe a lift network"),
        ({"heads": 3.5}, "does not describe a lift network"),
        ({"depths": 3}, "does not describe a lift network"),
        ("none", "does not describe a lift network"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, tiny: LiftNet, shape: object, why: str) -> None:
    said = {**TINY.record(), **shape} if isinstance(shape, dict) else shape
    path = write(tmp_path / "w.safetensors", tiny, said)
    with pytest.raises(UserError, match=why):
        open_prior(f"lift:{path}", "views")


def test_damaged_files_are_refused_and_code_is_not_run(tmp_path: Path, tiny: LiftNet) -> None:
    whole = write(tmp_path / "w.safetensors", tiny, TINY.record()).read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: len(whole) // 2])
    evil = tmp_path / "evil.safetensors"
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (ran,))

    evil.write_bytes(pickle.dumps(Bomb()))
    for path in (cut, evil, tmp_path / "absent.safetensors"):
        with pytest.raises(UserError, match=path.name):
            open_prior(f"lift:{path}", "views")
    assert not ran.exists()


def test_frames_that_are_not_square_are_padded(tiny: LiftNet) -> None:
    flat = torch.full((1, 10, 20, 4), 255, dtype=torch.uint8)
    rig, draw = [Orbit(90.0)], torch.Generator()
    views = draw_clip(Lift(tiny), flat, Orbit(fov=30.0), rig, draw)
    square, camera = square_views(flat, Orbit(fov=30.0))
    assert torch.equal(views.images, Lift(tiny).views(square, camera, rig, draw).images)


def test_shipped_weights_are_small_and_are_what_is_taken() -> None:
    assert LIFT_WEIGHTS.stat().st_size <= 16 << 20
    assert default_view_prior() == "lift"
    assert sum(p.numel() for p in read_lift(LIFT_WEIGHTS).parameters()) > 10**6


@pytest.fixture(scope="module")
def four_lessons() -> list[torch.Tensor]:
    """What the network is given of four objects that it never saw, four frames each."""
    samples = [make_solid_sample(2 * 10**9 + k) for k in range(4)]
    clips = [network_inputs(sample.frames, sample.source, SIDE) for sample in samples]
    return [torch.stack(column) for column in zip(*clips, strict=True)]


def test_shipped_tokens_tell_pictures_apart_and_are_heard(four_lessons: list[torch.Tensor]) -> None:
    """Scores do not show whether all tokens have grown alike, or nothing listens to them."""
    network = read_lift(LIFT_WEIGHTS)
    pictures, thickness, camera = four_lessons
    rows = pictures[:, :1], thickness[:, :1], camera
    tokens = []
    with network.norm.register_forward_hook(lambda _, __, out: tokens.append(out)):
        said, _ = network(*rows)
    with network.norm.register_forward_hook(lambda _, __, out: out.roll(1, 0)):
        confused, _ = network(*rows)
    assert tokens[0].std(0).mean() > 0.2 * tokens[0].square().mean().sqrt()
    assert (confused - said).abs().mean() > 0.05 * said.abs().mean()


def test_frames_of_a_clip_are_heard_by_the_shipped_weights(
    four_lessons: list[torch.Tensor],
) -> None:
    network = read_lift(LIFT_WEIGHTS)
    pictures, thickness, camera = four_lessons
    together, _ = network(pictures, thickness, camera)
    alone = torch.cat(
        [
            network(p, t, camera)[0]
            for p, t in zip(pictures.split(1, 1), thickness.split(1, 1), strict=True)
        ],
        1,
    )
    assert (together - alone).abs().mean() > 0.01 * alone.abs().mean()


def test_lift_draws_the_sides_of_objects_it_never_saw_better_than_inflate() -> None:
    lifted, inflated = [], []
    shipped = open_prior("lift", "views")
    for number in range(2 * 10**9, 2 * 10**9 + 6):
        sample = make_solid_sample(number)
        rig = view_orbits(sample.source)[4:13]
        colors, truth = over_white(sample.views[4:13])
        for prior, found in ((shipped, lifted), (Inflate(InflateOptions()), inflated)):
            drawn = prior.views(sample.frames, sample.source, rig, torch.Generator())
            seen, coverage = over_white(halved(premultiply(drawn.images)))
            pairs = zip(
                *(x.flatten(0, 1) for x in (coverage[..., 0], truth[..., 0], seen, colors)),
                strict=True,
            )
            found += [[float(mask_iou(a, b)), float(psnr(c, d))] for a, b, c, d in pairs]
    (overlap, quality), (inflated_overlap, inflated_quality) = (
        np.mean(rows, 0) for rows in (lifted, inflated)
    )
    assert overlap > 1.03 * inflated_overlap
    assert quality > inflated_quality + 0.7


def test_the_input_view_of_a_lifted_frame_is_the_frame() -> None:
    sample = make_solid_sample(2 * 10**9 + 1)
    views = open_prior("lift", "views").views(
        sample.frames, sample.source, [sample.source], torch.Generator()
    )
    for drawn, frame in zip(views.images[0], sample.frames, strict=True):
        assert mask_iou(drawn[..., 3].float() / 255, frame[..., 3].float() / 255) > 0.8
    assert 0 < views.confidence.float().mean() < 129


def test_without_veils_outlines_are_hard_and_overlap_those_with_them() -> None:
    sample = make_solid_sample(2 * 10**9)
    network = read_lift(LIFT_WEIGHTS)
    rig = view_orbits(sample.source)[4:8]
    soft, hard = (
        Lift(network, veils=veils)
        .views(sample.frames, sample.source, rig, torch.Generator())
        .images[..., 3]
        .float()
        / 255
        for veils in (True, False)
    )
    between = [((x > 0.1) & (x < 0.9)).float().mean() for x in (soft, hard)]
    assert between[1] < 0.5 * between[0]
    for a, b in zip(soft.flatten(0, 1), hard.flatten(0, 1), strict=True):
        assert mask_iou(a, b) > 0.7


def test_views_go_around_with_the_source() -> None:
    sample = make_solid_sample(2 * 10**9)
    network = read_lift(LIFT_WEIGHTS)
    turned = replace(sample.source, azimuth=120.0)
    for a, b in zip(
        lift(network, sample.frames, sample.source),
        lift(network, sample.frames, turned),
        strict=True,
    ):
        assert torch.equal(a.occupancy, b.occupancy)
    prior = Lift(network)
    first = draw_clip(prior, sample.frames, sample.source, None, torch.Generator())
    second = draw_clip(prior, sample.frames, turned, None, torch.Generator())
    assert [orbit.azimuth for orbit in second.orbits[:2]] == [120.0, 142.5]
    assert (first.images.float() - second.images.float()).abs().mean() < 0.5
