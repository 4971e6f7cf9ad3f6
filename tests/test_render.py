"""Every fast renderer, on every instruction set, against the plain-torch float64 twin."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

import gs4d
from gs4d import _native
from gs4d.camera import Camera, orbit_cameras
from gs4d.gaussians import Gaussians
from gs4d.render import Render, constants, render

HAS_CUDA = torch.cuda.is_available() and importlib.util.find_spec("gsplat") is not None
VARIANTS = [("cpu", isa) for isa in _native.isas()] + ([("cuda", "")] if HAS_CUDA else [])
OURS = [variant for variant in VARIANTS if variant[0] == "cpu"]
ONLY_OURS = pytest.mark.parametrize("backend", OURS, ids=lambda v: "-".join(v), indirect=True)
FIELDS = ("means", "quats", "log_scales", "logit_opacities", "sh")


@pytest.fixture(params=VARIANTS, ids=lambda v: "-".join(v).rstrip("-"))
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a fast backend; the instruction set is chosen on the way."""
    name, isa = request.param
    if isa:
        _native.set_isa(isa)
    return name


def scene(
    n: int,
    degree: int = 0,
    *,
    views: int = 0,
    own: tuple[str, ...] = (),
    seed: int = 0,
    size: float = -2.8,
    logit: float = 0.5,
) -> Gaussians:
    """Random Gaussians, float64 but exact in float32; fields in ``own`` get a view axis."""
    generator = torch.Generator().manual_seed(seed)

    def normal(name: str, *shape: int) -> Tensor:
        lead = (views,) if name in own else ()
        return torch.randn(*lead, *shape, generator=generator, dtype=torch.float32).double()

    return Gaussians(
        means=(normal("means", n, 3) * 0.35).float().double(),
        quats=normal("quats", n, 4),
        log_scales=(normal("log_scales", n, 3) * 0.5 + size).float().double(),
        logit_opacities=(normal("logit_opacities", n) * 2.5 + logit).float().double(),
        sh=(normal("sh", n, (degree + 1) ** 2, 3) * 0.4).float().double(),
    )


def cameras_for(views: int, width: int, height: int) -> Camera:
    return orbit_cameras(
        [20.0 * i + 7 for i in range(views)],
        [13.0 * i - 5 for i in range(views)],
        width=width,
        height=height,
    )


@dataclass
class Result:
    picture: Render
    gradients: dict[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        p = self.picture
        return {"rgb": p.rgb, "alpha": p.alpha, "depth": p.depth} | self.gradients


def differentiate(
    gaussians: Gaussians,
    cameras: Camera,
    backend: str,
    *,
    background: Tensor | None = None,
    offsets: Tensor | None = None,
    depth: bool = True,
) -> Result:
    """Draws and pulls a fixed random cotangent back to every input.

    Cuda results come back to the CPU.
    """
    device = "cuda" if backend == "cuda" else "cpu"
    dtype = torch.float32 if backend == "cuda" else gaussians.means.dtype
    leaves = {
        name: t.detach().clone().to(device, dtype).requires_grad_() for name, t in gaussians.items()
    }
    shifts = None if offsets is None else offsets.clone().to(device, dtype).requires_grad_()
    b, h, w = len(cameras), cameras.height, cameras.width
    colour = (
        torch.full((3,), 0.25, dtype=dtype) if background is None else background.to(device, dtype)
    )
    picture = render(
        Gaussians(**leaves), cameras, background=colour, backend=backend, screen_offsets=shifts
    )
    generator = torch.Generator().manual_seed(9)
    cotangents = [
        torch.randn(*shape, generator=generator).to(device, dtype)
        for shape in ((b, h, w, 3), (b, h, w), (b, h, w))
    ]
    outputs = [picture.rgb, picture.alpha, picture.depth][: 3 if depth else 2]
    inputs = leaves | ({} if shifts is None else {"screen_offsets": shifts})
    grads = torch.autograd.grad(outputs, list(inputs.values()), cotangents[: len(outputs)])
    picture = Render(
        *(t.detach().cpu() for t in (picture.rgb, picture.alpha, picture.depth, picture.radii))
    )
    return Result(picture, {name: g.cpu() for name, g in zip(inputs, grads, strict=True)})


def relative_error(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm().clamp_min(1e-30))


CASES = {
    "one view, odd size": lambda: (scene(60), cameras_for(1, 33, 21), False),
    "degree 3, offsets": lambda: (scene(90, 3, seed=1), cameras_for(2, 45, 26), True),
    "own sets per view": lambda: (
        scene(80, 1, views=3, own=("means", "quats", "log_scales"), seed=2),
        cameras_for(3, 40, 24),
        True,
    ),
    "all fields own": lambda: (
        scene(70, 2, views=2, own=FIELDS, seed=3),
        cameras_for(2, 37, 19),
        False,
    ),
    "tall": lambda: (scene(100, seed=4), cameras_for(2, 9, 130), True),
    "deep and opaque": lambda: (scene(5000, seed=5, logit=3.0), cameras_for(1, 24, 10), False),
    "deep and thin": lambda: (scene(5000, seed=6, logit=-5.0), cameras_for(1, 24, 10), False),
    "inside the cloud": lambda: (
        scene(200, seed=7, size=-1.5),
        orbit_cameras([0.0], [0.0], radius=0.3, width=30, height=20),
        True,
    ),
    "needles": lambda: (
        scene(60, seed=8).replace(log_scales=scene(60, seed=8).log_scales * 1.5 + 1.4),
        cameras_for(1, 31, 23),
        False,
    ),
}


@cache
def draw_case(case: str, backend: str, isa: str) -> Result:
    gaussians, cameras, with_offsets = CASES[case]()
    generator = torch.Generator().manual_seed(3)
    b = len(cameras)
    offsets = (
        torch.randn(b, gaussians.count, 2, generator=generator).double() if with_offsets else None
    )
    background = torch.rand(b, 3, generator=generator).double()
    return differentiate(gaussians, cameras, backend, background=background, offsets=offsets)


@pytest.mark.parametrize("case", CASES)
def test_matches_the_reference(case: str, backend: str) -> None:
    want, got = draw_case(case, "reference", ""), draw_case(case, backend, _native.isa())
    assert want.picture.alpha.max() > 0.3
    tolerance = 1e-5 if backend == "cpu" else 1e-3
    errors = {name: relative_error(t, want.tensors()[name]) for name, t in got.tensors().items()}
    assert max(errors.values()) <= tolerance, errors
    assert torch.equal(got.picture.radii, want.picture.radii)
    assert got.picture.radii.dtype == torch.int32


@pytest.mark.parametrize("outputs", ["rgb", "alpha", "depth"])
def test_gradient_of_one_output_alone(outputs: str, backend: str) -> None:
    gaussians, cameras = scene(60, seed=11), cameras_for(1, 30, 20)
    grads = []
    for name in ("reference", backend):
        device = "cuda" if name == "cuda" else "cpu"
        means = (
            gaussians.means.detach()
            .clone()
            .to(device, torch.float32 if name == "cuda" else torch.float64)
            .requires_grad_()
        )
        moved = gaussians.to(torch.device(device)).to(means.dtype).replace(means=means)
        loss = getattr(render(moved, cameras, backend=name), outputs).square().sum()
        grads.append(torch.autograd.grad(loss, means)[0].cpu())
    assert relative_error(grads[1], grads[0]) <= (1e-5 if backend == "cpu" else 1e-3)


def test_backward_agrees_with_finite_differences(backend: str) -> None:
    # Every Gaussian covers the whole picture and none ends a pixel, so that no step crosses a
    # discontinuity.
    gaussians = scene(6, 1, seed=21, size=0.0, logit=-1.0)
    gaussians = gaussians.replace(logit_opacities=gaussians.logit_opacities.clamp(-2, 1))
    cameras, width, height = cameras_for(2, 40, 32), 40, 32
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 3, width), indexing="ij")
    weights = torch.stack([torch.sin(x + y), torch.cos(x), torch.sin(y)], -1).double()

    def loss(g: Gaussians) -> Tensor:
        picture = render(
            g.to(torch.device("cuda")).to(torch.float32) if backend == "cuda" else g,
            cameras,
            backend=backend,
        )
        return (picture.rgb.cpu().double() * weights).sum() + (
            picture.alpha.cpu().double() * weights[..., 0]
        ).sum()

    step = 4e-3
    for name, value in gaussians.items():
        direction = torch.randn(
            value.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64
        )
        leaf = value.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(gaussians.replace(**{name: leaf})), leaf)
        ahead, behind = (
            loss(gaussians.replace(**{name: value + s * direction})) for s in (step, -step)
        )
        slope = float((ahead - behind) / (2 * step))
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=2e-3, abs=2e-2), name


def test_instruction_sets_agree() -> None:
    gaussians, cameras = (
        scene(3000, 1, seed=31, size=-3.5).to(torch.float32),
        cameras_for(2, 121, 83),
    )
    results = []
    for isa in _native.isas():
        _native.set_isa(isa)
        results.append(differentiate(gaussians, cameras, "cpu").tensors())
    for result in results[1:]:
        for name, tensor in result.items():
            assert relative_error(tensor, results[0][name]) <= 1e-4, name


@ONLY_OURS  # gsplat sums with atomics, in any order
def test_results_do_not_depend_on_threads_or_on_the_run(backend: str) -> None:
    own = ("means", "quats", "log_scales")
    gaussians, cameras = (
        scene(2000, 1, views=3, own=own, seed=41, size=-3.0).to(torch.float32),
        cameras_for(3, 100, 140),
    )
    offsets = torch.zeros(3, 2000, 2)
    results = []
    for threads in (1, 2, 5, 2):
        _native.set_num_threads(threads)
        results.append(differentiate(gaussians, cameras, backend, offsets=offsets).tensors())
    for result in results[1:]:
        assert all(torch.equal(tensor, results[0][name]) for name, tensor in result.items())


def test_two_forwards_before_their_backwards() -> None:
    sets = [scene(300, seed=s).to(torch.float32) for s in (51, 52)]
    cameras = cameras_for(1, 50, 40)
    leaves = [g.means.requires_grad_() for g in sets]
    losses = [render(g, cameras, backend="cpu").rgb.square().sum() for g in sets]
    together = [
        torch.autograd.grad(loss, leaf, retain_graph=True)[0]
        for loss, leaf in zip(losses, leaves, strict=True)
    ]
    again = [torch.autograd.grad(loss, leaf)[0] for loss, leaf in zip(losses, leaves, strict=True)]
    alone = [
        torch.autograd.grad(render(g, cameras, backend="cpu").rgb.square().sum(), g.means)[0]
        for g in sets
    ]
    for a, b, c in zip(together, again, alone, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


# What is done to Gaussians 3 and 17 of a sound scene, and whether they are still drawn.
POISONS: dict[str, tuple[str, Callable[[Tensor], Tensor], bool]] = {
    "NaN mean": ("means", lambda t: t[..., 1].fill_(torch.nan), False),
    "Inf mean": ("means", lambda t: t.fill_(torch.inf), False),
    "1e38 mean": ("means", lambda t: t.fill_(1e38), False),
    "-1e38 mean": ("means", lambda t: t.fill_(-1e38), False),
    "behind the eye": ("means", lambda t: t.copy_(torch.tensor([0.0, 0.0, 5.0])), False),
    "in the eye": ("means", lambda t: t.copy_(cameras_for(1, 4, 4).centers[0]), False),
    "beside the eye": ("means", lambda t: t.copy_(torch.tensor([9.0, 0.0, 1.48])), False),
    "NaN quaternion": ("quats", lambda t: t[..., 0].fill_(torch.nan), False),
    "zero quaternion": ("quats", lambda t: t.zero_(), True),
    "1e38 quaternion": ("quats", lambda t: t.fill_(1e38), True),
    "1e-30 quaternion": ("quats", lambda t: t.fill_(1e-30), True),
    "NaN scale": ("log_scales", lambda t: t[..., 2].fill_(torch.nan), False),
    "Inf scale": ("log_scales", lambda t: t.fill_(torch.inf), False),
    "scale e^60": ("log_scales", lambda t: t.fill_(60.0), False),
    "scale 10": ("log_scales", lambda t: t.fill_(2.3), True),
    "scale 1e4": ("log_scales", lambda t: t.fill_(9.2), True),
    "scale 0": ("log_scales", lambda t: t.fill_(-torch.inf), True),
    "NaN opacity": ("logit_opacities", lambda t: t.fill_(torch.nan), False),
    "opacity 0": ("logit_opacities", lambda t: t.fill_(-torch.inf), False),
    "opacity 1": ("logit_opacities", lambda t: t.fill_(torch.inf), True),
    "logit -1e38": ("logit_opacities", lambda t: t.fill_(-1e38), False),
    "NaN colour": ("sh", lambda t: t[..., 0].fill_(torch.nan), False),
    "Inf colour": ("sh", lambda t: t[..., 0].fill_(torch.inf), False),
    "1e30 colour": ("sh", lambda t: t.fill_(1e30), True),
    "3.4e38 colour": ("sh", lambda t: t.fill_(3.4e38), False),
    "3.4e38 and -3.4e38": ("sh", lambda t: t.copy_(torch.tensor([3.4e38, -3.4e38, 3.4e38])), False),
}


@ONLY_OURS  # gsplat lets NaN through
@pytest.mark.parametrize("poison", POISONS)
def test_poison_stays_where_it_is(poison: str, backend: str) -> None:
    field, spoil, drawn = POISONS[poison]
    gaussians, cameras = scene(40, 1, seed=61).to(torch.float32), cameras_for(1, 41, 27)
    where = torch.tensor([3, 17])
    spoilt = getattr(gaussians, field).clone()
    patch = spoilt[where]
    spoil(patch)
    spoilt[where] = patch
    result = differentiate(gaussians.replace(**{field: spoilt}), cameras, backend)
    for name, tensor in result.tensors().items():
        assert tensor.isfinite().all(), name
    if drawn:
        assert (result.picture.radii[:, where] > 0).any()
        return
    assert (result.picture.radii[:, where] == 0).all()
    others = torch.tensor([i for i in range(40) if i not in (3, 17)])
    sound = differentiate(gaussians.select(others), cameras, backend)
    assert torch.equal(result.picture.rgb, sound.picture.rgb)
    for name, tensor in result.gradients.items():
        assert (tensor[where] == 0).all(), name
        assert torch.equal(tensor[others], sound.gradients[name]), name


def test_zero_quaternion_is_the_identity_without_gradient(backend: str) -> None:
    gaussians, cameras = scene(20, seed=62).to(torch.float32), cameras_for(1, 30, 20)
    zero = differentiate(gaussians.replace(quats=torch.zeros(20, 4)), cameras, backend)
    unit = differentiate(
        gaussians.replace(quats=torch.tensor([1.0, 0, 0, 0]).expand(20, 4)), cameras, backend
    )
    assert torch.equal(zero.picture.rgb, unit.picture.rgb)
    assert (zero.gradients["quats"] == 0).all()


@pytest.mark.parametrize(
    ("n", "views", "width", "height"), [(0, 2, 20, 10), (30, 1, 1, 1), (30, 2, 300, 1)]
)
def test_small_extremes(n: int, views: int, width: int, height: int, backend: str) -> None:
    gaussians, cameras = scene(n, seed=63), cameras_for(views, width, height)
    want, got = (
        differentiate(gaussians, cameras, name).tensors() for name in ("reference", backend)
    )
    for name, tensor in got.items():
        torch.testing.assert_close(tensor.double(), want[name], rtol=1e-4, atol=1e-4)


def test_zero_views(backend: str) -> None:
    device = "cuda" if backend == "cuda" else "cpu"
    gaussians = scene(5).to(torch.device(device)).to(torch.float32)
    means = gaussians.means.requires_grad_()
    picture = render(gaussians, cameras_for(0, 20, 10), backend=backend)
    assert picture.rgb.shape == (0, 10, 20, 3)
    assert picture.radii.shape == (0, 5)
    if picture.rgb.requires_grad:
        assert (torch.autograd.grad(picture.rgb.sum(), means)[0] == 0).all()


def test_many_that_cover_every_tile_stay_bounded(backend: str) -> None:
    gaussians = scene(3000, seed=64, size=2.0, logit=-2.0).to(torch.float32)
    result = differentiate(gaussians, cameras_for(1, 128, 128), backend)
    assert all(tensor.isfinite().all() for tensor in result.tensors().values())
    assert result.picture.alpha.min() > 0.99


def test_constants_are_the_headers() -> None:
    for name, value in _native.constants().items():
        assert torch.tensor(getattr(constants, name), dtype=torch.float32).item() == value, name
    assert len(_native.constants()) == 10


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(
        ValueError, match="set_isa names the instruction set 'sse9': this machine runs portable"
    ):
        _native.set_isa("sse9")
    with pytest.raises(ValueError, match="wanted at least 1"):
        _native.set_num_threads(0)
    with pytest.raises(ValueError, match="no render backend named 'fast'"):
        render(scene(1), cameras_for(1, 4, 4), backend="fast")
    g = scene(2).to(torch.float32)
    eye, ints, images = torch.eye(4)[None], torch.eye(3)[None], torch.zeros(1, 4, 4)
    with pytest.raises(ValueError, match="quats holds 4 numbers in 2 axes: wanted 8 in 2"):
        _native.raster_forward(
            [g.means, g.quats[:1], g.log_scales, g.logit_opacities, g.sh, None],
            eye,
            ints,
            torch.zeros(1, 3),
            torch.zeros(1, 4, 4, 3),
            images,
            images.clone(),
            torch.zeros(1, 2, dtype=torch.int32),
            False,
        )


def test_missing_backends_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(ImportError, match=r"pip install gsplat==1\.5\.3"):
        render(scene(1), cameras_for(1, 4, 4), backend="cuda")
    monkeypatch.delattr(gs4d, "_native")
    monkeypatch.setitem(sys.modules, "gs4d._native", None)
    monkeypatch.delitem(sys.modules, "gs4d.render.cpu", raising=False)
    with pytest.raises(ImportError, match=r"run: pip install -e \."):
        importlib.import_module("gs4d.render.cpu")
