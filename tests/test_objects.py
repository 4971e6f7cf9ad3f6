"""Procedural animated objects.

Determined by their seed, inside their sphere, solid, varied and really moving.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from gs4d.clip import Orbit, cameras_of
from gs4d.gaussians import Gaussians
from gs4d.geometry import SH_C0, quats_to_rotations
from gs4d.native import set_threads
from gs4d.render import render
from gs4d.synth import AnimatedObject, ObjectOptions, draw_views, make_object, options_for
from gs4d.synth.objects import FAMILIES
from gs4d.synth.paint import Patch, palette, spots, texture
from gs4d.synth.rig import Bone, Deform, Wave, pose
from gs4d.synth.surface import curve, lathe, norm, ring, superquadric, tube

COARSE = ObjectOptions(spacing=0.06)
TIMES = [0.0, 0.21, 0.5, 0.83, 1.0]


def of_family(family: str, seed: int, options: ObjectOptions = COARSE) -> AnimatedObject:
    return make_object(
        seed, ObjectOptions(spacing=options.spacing, family=family, light=options.light)
    )


def fingerprint(seeds: list[int]) -> str:
    digest = hashlib.sha256()
    for seed in seeds:
        for _, tensor in make_object(seed, COARSE).at_times(TIMES).items():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def test_a_seed_gives_the_same_bits_in_any_order_process_and_number_of_threads() -> None:
    seeds = list(range(6))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    here = fingerprint(seeds)
    assert torch.equal(torch.get_rng_state(), state)
    set_threads(1)
    make_object(77, COARSE)
    assert fingerprint(seeds) == here
    code = (
        "import sys; sys.path.insert(0, 'tests'); from test_objects import fingerprint; "
        f"print(fingerprint({seeds}))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.strip() == here


def test_seeds_differ_and_reach_every_family() -> None:
    objects = [make_object(seed, COARSE) for seed in range(40)]
    assert {o.family for o in objects} == set(FAMILIES)
    assert len({o.at(0.0).means.numpy().tobytes() for o in objects}) == 40


@pytest.mark.parametrize("family", FAMILIES)
def test_objects_stay_inside_their_sphere_and_fill_it(family: str) -> None:
    times = np.linspace(0, 1, 47)  # not the times at which they were measured
    for seed in range(4):
        subject = of_family(family, seed)
        film = subject.at_times(times)
        reach = film.means.norm(dim=-1)
        assert all(tensor.isfinite().all() for _, tensor in film.items())
        assert film.means.shape == (47, subject.count, 3)
        assert 0.45 < reach.max() < 0.6
        colours = film.sh * SH_C0 + 0.5
        assert colours.min() > -1e-6
        assert colours.max() < 1 + 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_objects_really_move_and_smoothly(family: str) -> None:
    for seed in range(4):
        subject = of_family(family, seed)
        means = subject.at_times(np.linspace(0, 1, 97)).means
        steps = means.diff(dim=0).norm(dim=-1)
        per_sixteenth = float(steps.mean()) * 96 / 15
        assert per_sixteenth > 0.002
        assert subject.motion == pytest.approx(per_sixteenth, rel=0.25)
        assert steps.max() < 0.2  # nothing jumps
        # The shape changes too, or at least turns: it is not one picture that slides about.
        centred = means - means.mean(1, keepdim=True)
        assert (centred[1:] - centred[0]).norm(dim=-1).max() > 0.01


def test_more_motion_is_asked_for_by_one_factor() -> None:
    calm, wild = (
        np.median(
            [make_object(s, ObjectOptions(spacing=0.1, motion=factor)).motion for s in range(20)]
        )
        for factor in (0.2, 2.0)
    )
    assert wild > 3 * calm


@pytest.mark.parametrize("family", FAMILIES)
def test_surfaces_are_opaque_and_show_their_outside(family: str) -> None:
    """Paints what faces the camera green and what turns its back on it red.

    Red must not shine through.
    """
    orbits = [Orbit(20.0, 10.0), Orbit(140.0, -20.0), Orbit(250.0, 50.0)]
    cameras = cameras_of(orbits, width=64, height=64)
    inside, solid = [], []
    for seed in (50, 51, 52):
        subject = make_object(seed, ObjectOptions(family=family))
        for t in (0.2, 0.7):
            g = subject.at(t)
            facing = (
                (cameras.centers[:, None] - g.means) * quats_to_rotations(g.quats)[:, :, 2]
            ).sum(-1)
            colour = torch.stack(
                [(facing < 0).float(), (facing >= 0).float(), torch.zeros_like(facing)], -1
            )
            drawn = render(
                g.replace(sh=((colour - 0.5) / SH_C0)[:, :, None]),
                cameras,
                background=(0.0, 0.0, 0.0),
            )
            for rgb, alpha in zip(drawn.rgb.numpy(), drawn.alpha.numpy(), strict=True):
                core = binary_erosion(alpha > 0.5, iterations=2)
                inside += (rgb[..., 0] / alpha.clip(1e-6))[core].tolist()
                solid += alpha[core].tolist()
    assert np.mean(np.array(solid) > 0.95) > 0.97
    assert np.mean(inside) < 0.12  # wings and petals are thinner than a Gaussian is wide


def test_density_changes_neither_shape_nor_motion_nor_texture() -> None:
    for seed in range(6):
        thin, dense = (
            make_object(seed, ObjectOptions(spacing=s, max_gaussians=50_000)) for s in (0.04, 0.02)
        )
        assert dense.count > 2.5 * thin.count
        assert thin.motion == dense.motion
        for t in (0.0, 0.6):
            a, b = thin.at(t), dense.at(t)
            # Every point of the thin cover lies on the dense one's surface, and has the colour of
            # what is there.
            distance, nearest = torch.cdist(a.means, b.means).min(1)
            assert distance.quantile(0.98) < 0.03
            assert ((a.sh - b.sh[nearest]) * SH_C0).abs().median() < 0.05


def test_counts_are_limited_and_follow_the_pictures_size() -> None:
    for seed in range(8):
        assert make_object(seed, ObjectOptions(spacing=0.005, max_gaussians=3000)).count < 3600
    assert options_for(64).spacing == 0.02
    assert options_for(256).spacing < options_for(128).spacing < options_for(64).spacing
    assert options_for(256).max_gaussians > 4 * options_for(64).max_gaussians


def test_baked_light_stands_still_while_the_object_moves_and_unlit_is_albedo() -> None:
    lit, unlit = (
        of_family("quadruped", 3, ObjectOptions(spacing=0.06, light=light))
        for light in ("baked", "unlit")
    )
    a, b = lit.at_times([0.0, 0.3]), unlit.at_times([0.0, 0.3])
    torch.testing.assert_close(a.means, b.means, rtol=0, atol=0)
    assert torch.equal(b.sh[0], b.sh[1])
    assert (a.sh[0] - a.sh[1]).abs().max() > 0.01
    # Under light from above, the upper half of the same paint is brighter.
    up = quats_to_rotations(a.quats[0])[:, 1, 2]
    ratio = ((a.sh[0] * SH_C0 + 0.5) / (b.sh[0] * SH_C0 + 0.5).clamp_min(0.02)).mean((1, 2))
    assert ratio[up > 0.7].mean() > 1.2 * ratio[up < -0.7].mean()


@pytest.mark.parametrize("times", [[0.0, 0.0, 0.0, 0.5, 0.5, 0.5], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]])
def test_views_are_what_the_cameras_see_at_their_times(times: list[float]) -> None:
    subject = make_object(4, COARSE)
    orbits = [Orbit(60.0 * k, 10.0) for k in range(6)]
    pictures = draw_views(subject, times, orbits, 32)
    assert pictures.shape == (6, 32, 32, 4)
    assert pictures.dtype == np.uint8
    for picture, t, orbit in zip(pictures, times, orbits, strict=True):
        drawn = render(
            subject.at(t), cameras_of([orbit], width=32, height=32), background=(0.0, 0.0, 0.0)
        )
        values = torch.from_numpy(picture).float() / 255
        torch.testing.assert_close(values[..., 3], drawn.alpha[0], atol=0.003, rtol=0)
        torch.testing.assert_close(
            values[..., :3] * values[..., 3:], drawn.rgb[0], atol=0.01, rtol=0
        )
    assert all(picture[..., 3].max() > 250 for picture in pictures)


def test_one_time_is_a_film_of_one() -> None:
    subject = make_object(9, COARSE)
    film = subject.at_times([0.2, 0.8])
    for (_, a), (_, b) in zip(subject.at(0.8).items(), film.at_view(1).items(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert isinstance(film, Gaussians)
    assert film.views == 2


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="seed -1"):
        make_object(-1)
    with pytest.raises(ValueError, match="motion 0.0"):
        make_object(0, ObjectOptions(motion=0.0))
    with pytest.raises(ValueError, match="spacing 0.5"):
        make_object(0, ObjectOptions(spacing=0.5))
    with pytest.raises(
        ValueError, match="no family of objects is named 'fish'; there are: quadruped"
    ):
        make_object(0, ObjectOptions(family="fish"))
    subject = make_object(0, COARSE)
    with pytest.raises(ValueError, match="not at t ="):
        subject.at(1.01)
    with pytest.raises(ValueError, match="2 times for 1 cameras"):
        draw_views(subject, [0.0, 1.0], [Orbit()], 8)


# --- the parts that objects are made of -----------------------------------------------------------


@pytest.mark.parametrize(("bulge", "exponent"), [(1.0, 1.0), (0.3, 1.0), (0.2, 0.2), (1.8, 1.8)])
def test_superquadrics_lie_on_their_formula(bulge: float, exponent: float) -> None:
    half = np.array([0.5, 0.3, 0.4])
    shape = superquadric(half, bulge, exponent)
    cover = shape.cover(0.05)
    x, y, z = np.abs(shape.points(cover.s, cover.u) / half).T
    value = (x ** (2 / exponent) + z ** (2 / exponent)) ** (exponent / bulge) + y ** (2 / bulge)
    assert np.median(np.abs(value**bulge - 1)) < 0.03
    assert (np.abs([x.max(), y.max(), z.max()] - np.ones(3)) < 0.12).all()


def test_covers_are_even_closed_and_face_outwards() -> None:
    for shape in (
        superquadric((0.4, 0.3, 0.4)),
        tube([(0, 0, 0), (0.2, 0.5, 0), (0, 0.9, 0.2)], [0.1, 0.2, 0.05]),
        ring(0.4, 0.1),
    ):
        cover = shape.cover(0.04)
        points = shape.points(cover.s, cover.u)
        first = (shape.points(cover.s, cover.u + 0.3 * cover.du) - points) / 0.3
        second = (shape.points(cover.s + 0.3 * cover.ds, cover.u) - points) / 0.3
        sides = np.concatenate([norm(first), norm(second)])
        assert 0.02 < np.median(sides) < 0.05
        assert np.quantile(sides, 0.99) < 0.08
        # Gauss: the area vectors of a closed surface cancel, and the volume that they enclose is
        # positive.
        area = np.cross(second, first)
        assert np.abs(area.sum(0)).max() < 0.05 * norm(area).sum()
        assert (points * area).sum() / 3 > 0.01


def test_the_volume_of_a_ball_comes_out() -> None:
    shape = superquadric((0.5, 0.5, 0.5))
    cover = shape.cover(0.03)
    points = shape.points(cover.s, cover.u)
    first = (shape.points(cover.s, cover.u + 0.3 * cover.du) - points) / 0.3
    second = (shape.points(cover.s + 0.3 * cover.ds, cover.u) - points) / 0.3
    assert (points * np.cross(second, first)).sum() / 3 == pytest.approx(
        4 / 3 * np.pi * 0.5**3, rel=0.03
    )


def test_tubes_pass_their_points_and_lathes_their_profile() -> None:
    line = [(0.0, 0.0, 0.0), (0.3, 0.4, 0.0), (0.0, 0.8, 0.1)]
    assert norm(curve(line)[[0, 12, 24]] - np.array(line)).max() < 1e-9
    thin = tube(line, 0.01)
    s = np.linspace(0.1, 0.9, 40)
    middle = (thin.points(s, np.zeros(40)) + thin.points(s, np.full(40, 0.5))) / 2
    assert np.sqrt(((middle[:, None] - curve(line, 400)) ** 2).sum(-1)).min(1).max() < 0.01
    bowl = lathe([(0, -0.2), (0.5, 0.3), (0.4, 0.3), (0, -0.1)])
    rim = bowl.points(np.linspace(0, 1, 200), np.zeros(200))
    assert rim[:, 1].max() == pytest.approx(0.3, abs=0.01)
    assert np.abs(rim[:, 0]).max() == pytest.approx(0.5, abs=0.01)


def test_waves_have_their_shapes() -> None:
    t = np.linspace(0, 1, 101)
    assert Wave(2.0, 1.0)(t)[[0, 25, 75, 100]] == pytest.approx([0, 2, -2, 0], abs=1e-9)
    assert Wave(2.0, 2.0, shape="hop")(t).min() >= 0
    assert Wave(1.0, 1.0, shape="pulse")(t)[60] == 0
    ease = Wave(1.0, 2.0, 0.25, "ease", offset=0.5)(t)
    assert ease[[0, 25, 50, 75, 100]] == pytest.approx([0.5, 0.5, 1.0, 1.5, 1.5])
    drift = Wave(1.0, 1.0, shape="drift")(t)
    assert abs(drift[0] - drift[-1]) > 0.05
    assert Wave(rate=3.0)(t)[-1] == 3.0


def test_bones_turn_about_their_joints_and_carry_their_children() -> None:
    quarter = Wave(offset=np.pi / 2)
    bones = [
        Bone(-1, np.array([1.0, 0, 0]), ((np.array([0.0, 0, 1]), quarter),)),
        Bone(0, np.array([2.0, 0, 0]), ((np.array([0.0, 0, 1]), quarter),), grow=Wave(offset=1.0)),
        Bone(0, np.array([0.0, 0, 0]), slide=((0.0, 0.0, 1.0), Wave(rate=2.0))),
    ]
    at = pose(bones, np.array([0.0, 0.5]))
    tip = np.array([3.0, 0, 0, 1])
    np.testing.assert_allclose(at[0, 0] @ tip, [1, 2, 0], atol=1e-12)
    # turned twice, twice as long
    np.testing.assert_allclose(at[0, 1] @ tip, [1 - 2, 1, 0], atol=1e-12)
    np.testing.assert_allclose(at[1, 2] @ tip, [1, 2, 1], atol=1e-12)


def test_deformations_bend_twist_and_keep_the_volume() -> None:
    t = np.array([0.0])
    soft = np.ones(3)
    rod = np.array([[[0.0, -1, 0], [0, 0, 0], [0, 1, 0]]])
    bent = Deform("bend", Wave(offset=np.pi / 2))(rod, soft, t)
    np.testing.assert_allclose(bent[0, 1], 0, atol=1e-12)
    # a quarter of a circle of length 1
    np.testing.assert_allclose(bent[0, 2], [2 / np.pi, 2 / np.pi, 0], atol=1e-12)
    side = np.array([[[1.0, 0, 0], [1, 1, 0], [1, -1, 0]]])
    twisted = Deform("twist", Wave(offset=np.pi / 2))(side, soft, t)
    np.testing.assert_allclose(twisted[0, 0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(norm(twisted[0]), norm(side[0]), atol=1e-12)
    assert abs(twisted[0, 1, 0]) < 1e-12
    squashed = Deform("squash", Wave(offset=np.log(2)))(np.eye(3)[None], soft, t)
    assert np.linalg.det(squashed[0]) == pytest.approx(1)
    assert squashed[0, 1, 1] == pytest.approx(2)
    waved = Deform("ripple", Wave(offset=0.1), wavelength=4.0)(rod, np.array([1.0, 1.0, 0.5]), t)
    np.testing.assert_allclose(waved[0, :, 0], [-0.1, 0, 0.05], atol=1e-12)


def test_textures_are_colours_and_do_not_depend_on_where_else_they_are_looked_up() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(200, 3)) * 0.3
    patch = Patch(points, points / norm(points)[:, None], rng.random(200), rng.random(200))
    part = Patch(*(getattr(patch, name)[::7] for name in ("points", "normals", "along", "around")))
    spread = []
    for _ in range(40):
        paint = texture(rng, palette(rng), 0.5)
        colours = paint(patch)
        assert colours.shape == (200, 3)
        assert 0 <= colours.min() <= colours.max() <= 1
        np.testing.assert_array_equal(paint(part), colours[::7])
        spread.append(np.ptp(colours, axis=0).max())
    assert np.mean(np.array(spread) > 0.1) > 0.5
    mask = spots(rng, 1, 0.2, 1e-9)(patch)
    np.testing.assert_array_equal(mask[norm(points) > 0.27], 0)
    np.testing.assert_array_equal(mask[norm(points) < 0.08], 1)
