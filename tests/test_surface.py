"""Training scenes as rays see them, the network that sees depth, its loss, and the skin that is
drawn of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from gs4d.clip import Orbit, cameras_of, straighten
from gs4d.errors import UserError
from gs4d.prior.lift import Lift, read_lift
from gs4d.prior.skin import skin_gaussians
from gs4d.prior.solid import REACH
from gs4d.prior.surface_net import SPAN, SurfaceNet, Surfaces, SurfaceShape, anchored, cell_depth
from gs4d.prior.train import samples as samples_module
from gs4d.prior.train import surface as task_module
from gs4d.prior.train.loop import TrainOptions, train
from gs4d.prior.train.samples import LAYERS, PIXELS, SIDE, SampleStore, make_sample, pixel_rays
from gs4d.prior.train.scenes import Light, Paint, Pose, Scene, Subject, read_models
from gs4d.prior.train.surface import (
    SurfaceTask,
    losses,
    on_picture,
    relief_correlation,
    sample_tensors,
)
from gs4d.render import render

HALF = 0.3  # of the box
TINY = SurfaceShape(channels=(8, 8, 16, 16), blocks=(1, 1, 1, 1), across=1, heads=2)
EVEN = Light(np.full(3, 0.9), np.full(3, 0.9), np.zeros((0, 2, 3)), False, 0.0, (0.0, 1.0))


def red(faces: np.ndarray, weights: np.ndarray, rest: np.ndarray) -> np.ndarray:
    return np.tile(np.array([[0.8, 0.1, 0.1, 1.0]], np.float32), (len(faces), 1))


def box(paint: Paint = red, light: Light = EVEN) -> Scene:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float) * HALF
    quads = np.array(
        [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    )
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return Scene(
        Subject(faces, corners, lambda time: Pose(corners, np.zeros_like(corners)), paint),
        paint,
        light,
        0.0,
    )


@pytest.fixture(scope="module")
def seen() -> dict[str, torch.Tensor]:
    """What a sample says of the box from the front, as the loss wants it."""
    source = Orbit(0.0, 0.0)
    row = samples_module._look(box(), source, np.random.default_rng(0))
    behind = torch.from_numpy(np.unpackbits(row["behind"].numpy(), axis=-1))
    pictures = row["frames"].float().movedim(-1, 0) / 255
    out = {
        "pictures": pictures,
        "depth": row["depth"].float(),
        "normals": row["normals"].float().movedim(-1, 0) / 127,
        "there": (pictures[3] > 0.5).float(),
        "thickness": row["thickness"].float(),
        "behind": behind,
        "rays": row["rays"].float(),
        "met": row["met"].float(),
        "colors": row["colors"].float() / 255,
        "lens": torch.tensor([1 / np.tan(np.radians(source.fov / 2)), source.radius]).float(),
    }
    return {name: value[None] for name, value in out.items()}


def true_surfaces(seen: dict[str, torch.Tensor]) -> Surfaces:
    red_layers = torch.tensor([0.8, 0.1, 0.1])[:, None, None, None].expand(
        3, LAYERS // 2, SIDE // 2, SIDE // 2
    )
    tone = seen["colors"][seen["met"] >= 0].mean(0)
    red_layers = tone[:, None, None, None].expand_as(red_layers)
    return Surfaces(
        seen["depth"], seen["normals"], (seen["behind"].float() * 2 - 1) * 6, red_layers[None]
    )


def test_a_box_is_seen_as_deep_as_it_is(seen: dict[str, torch.Tensor]) -> None:
    middle = PIXELS // 2
    assert seen["depth"][0, middle, middle].item() == pytest.approx(-HALF / REACH, abs=2e-3)
    assert seen["normals"][0, :, middle, middle].tolist() == pytest.approx([0, 0, -1], abs=0.01)
    column = seen["behind"][0, :, SIDE // 2, SIDE // 2]
    thick = 2 * HALF / SPAN * LAYERS
    assert column[: int(thick) - 1].all()
    assert not column[int(thick) + 2 :].any()
    assert not seen["depth"][0][seen["there"][0] == 0].any()


def test_rays_from_around_meet_the_box_where_it_is(seen: dict[str, torch.Tensor]) -> None:
    ends, met = seen["rays"][0], seen["met"][0]
    place = ends[:, 0] + met[:, None] * (ends[:, 1] - ends[:, 0])
    assert 0.2 < (met >= 0).float().mean() < 0.95
    assert (
        place[met >= 0].abs().amax(1) - HALF
    ).abs().max() < 5e-3  # the camera's axes are the box's, but for signs
    steps = torch.linspace(0, 1, 200)[:, None]
    missed = ends[met < 0]
    points = missed[:, None, 0] + steps * (missed[:, None, 1] - missed[:, None, 0])
    assert points.abs().amax(-1).min() > HALF - 5e-3


def test_alpha_below_a_half_is_looked_through() -> None:
    def front_is_open(faces: np.ndarray, weights: np.ndarray, rest: np.ndarray) -> np.ndarray:
        out = red(faces, weights, rest)
        out[:, 3] = rest[:, 2] < 0.999 * HALF
        return out

    ray = np.array([[0.02, 0.03, 1.5, 0, 0, -1]])
    assert box().cast(ray).distance[0] == pytest.approx(1.5 - HALF, abs=1e-5)
    through = box(front_is_open).cast(ray)
    assert through.distance[0] == pytest.approx(1.5 + HALF, abs=1e-3)
    assert through.normals[0].tolist() == pytest.approx([0, 0, 1], abs=1e-6)  # it faces the ray


def test_lamps_light_what_faces_them_and_shadows_need_something_in_the_way() -> None:
    lamp = np.stack([np.array([0.0, 0.0, 1.0]), np.full(3, 1.0)])[None]
    light = Light(np.zeros(3), np.zeros(3), lamp, True, 0.0, (0.0, 1.0))
    scene = box(light=light)
    rays = np.array(
        [[0.0, 0.05, 1.5, 0, 0, -1], [0.05, 1.5, 0.0, 0, -1, 0], [0.0, 0.05, -1.5, 0, 0, 1]]
    )
    colors = scene.shaded(scene.cast(rays), np.random.default_rng(0), detailed=True)
    # lit by 1, its own colour
    assert colors[0].tolist() == pytest.approx([0.8, 0.1, 0.1], abs=1e-3)
    assert not colors[1:].any()


def test_a_sample_is_its_number_and_is_kept_whole(tmp_path: Path) -> None:
    store = SampleStore(tmp_path)
    made, kept = make_sample(3, None), store.sample(3)
    for name, value in vars(made).items():
        assert torch.equal(value, getattr(kept, name)), name
    other = make_sample(4, None)
    assert not torch.equal(made.frames, other.frames)


def test_models_of_other_splits_are_never_drawn(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text(
        '[{"file": "a.glb", "body": "x", "split": "train"},'
        '{"file": "b.glb", "body": "y", "split": "validation"},'
        ' {"file": "c.glb", "body": "x", "split": "train", "clip": "Run"}]'
    )
    assert read_models(tmp_path).bodies == (
        ((tmp_path / "a.glb", None), (tmp_path / "c.glb", "Run")),
    )
    assert read_models(tmp_path, "validation").bodies == (((tmp_path / "b.glb", None),),)
    with pytest.raises(UserError, match="holds no .glb or .gltf file of the split test"):
        read_models(tmp_path, "test")


def test_layers_behind_a_surface_stand_where_it_is() -> None:
    logits = torch.full((1, LAYERS, 2, 2), -4.0)
    logits[:, :10] = 4.0
    depth = torch.tensor([[[-0.5, 0.0], [0.25, 0.9]]])
    count = 240
    field = anchored(logits, depth, count)[0]
    z = (torch.arange(count) + 0.5) * 2 / count - 1
    for y, x in np.ndindex(2, 2):
        inside = z[field[:, y, x] > 0]
        assert inside.min().item() == pytest.approx(depth[0, y, x].item(), abs=0.03)
        end = min(1.0, depth[0, y, x].item() + 10 / LAYERS * SPAN / REACH)
        assert inside.max().item() == pytest.approx(end, abs=0.03)


def test_the_true_surfaces_have_the_least_loss(seen: dict[str, torch.Tensor]) -> None:
    true = true_surfaces(seen)
    least = losses(true, seen)
    assert least["depth"].item() < 1e-6
    assert least["relief"].item() < 1e-6
    assert least["normals"].item() < 0.02
    assert least["behind"].item() < 0.01
    assert least["color"].item() < 0.02
    assert least["overlap"].item() < 0.15
    bumpy = true.depth + 0.1 * torch.randn_like(true.depth)
    far = Surfaces(true.depth + 0.2, true.normals.flip(1), true.logits.flip(1), 1 - true.colors)
    rough = Surfaces(bumpy, true.normals, true.logits, true.colors)
    assert losses(far, seen)["relief"].item() < 1e-6  # a shift of the whole is none
    for name in ("depth", "normals", "behind", "outline", "overlap", "color"):
        assert losses(far, seen)[name].item() > least[name].item() + 0.02, name
    assert losses(rough, seen)["relief"].item() > 0.05


def test_places_on_a_picture_are_those_of_its_rays() -> None:
    source = Orbit(20.0, 10.0, 1.8, 40.0)
    T = cameras_of([source], width=1, height=1).T_camera_world[0].double().numpy()
    rays = pixel_rays(source, 8).reshape(8, 8, 6)
    place = rays[2, 5, :3] + 1.7 * rays[2, 5, 3:].astype(float)
    local = torch.from_numpy(T[:3, :3] @ place).float()  # axes of the camera about the origin
    lens = torch.tensor([[1 / np.tan(np.radians(20.0)), 1.8]]).float()
    x, y, z = on_picture(local[None, None], lens)[0, 0].tolist()
    assert (x, y) == pytest.approx(((5.5 - 4) / 4, (2.5 - 4) / 4), abs=1e-4)
    assert z == pytest.approx((1.7 - 1.8) / REACH, abs=1e-4)


def test_relief_is_what_a_plane_leaves() -> None:
    torch.manual_seed(0)
    true = torch.randn(1, 32, 32)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    there = torch.ones(1, 32, 32)
    tilted = 3 * true + 0.5 * x - 0.2 * y + 7
    assert relief_correlation(tilted, true, there).item() == pytest.approx(1, abs=1e-5)
    assert relief_correlation(-true, true, there).item() == pytest.approx(-1, abs=1e-5)
    assert abs(relief_correlation(torch.randn(1, 32, 32), true, there).item()) < 0.15
    assert relief_correlation(true, 0 * true + x, there).isnan()


def test_a_skin_is_closed_opaque_and_keeps_the_frame(seen: dict[str, torch.Tensor]) -> None:
    true, source = true_surfaces(seen), Orbit(0.0, 0.0)
    frame = torch.from_numpy(np.asarray(straighten(seen["pictures"][0].movedim(0, -1))))
    gaussians, sure = skin_gaussians(
        true.depth[0], true.logits[0], true.colors[0], seen["thickness"][0], frame, source
    )
    assert sure.min() >= 0
    assert sure.max() <= 1
    orbits = [source, Orbit(60.0, 20.0), Orbit(135.0, -10.0), Orbit(180.0, 30.0)]
    drawn = render(gaussians, cameras_of(orbits, width=192, height=192), background=(0.0, 0.0, 0.0))
    for orbit, alpha in zip(orbits, drawn.alpha, strict=True):
        truth = torch.from_numpy(box().cast(pixel_rays(orbit, 192)).hit.reshape(192, 192))
        shown = alpha > 0.5
        assert (shown & truth).sum() / (shown | truth).sum() > 0.93, orbit
        core = -F.max_pool2d(-truth[None, None].float(), 17, 1, 8)[0, 0] > 0
        assert alpha[core].min() > 0.9, orbit  # no holes
    front = drawn.rgb[0][drawn.alpha[0] > 0.99].mean(0)
    shown = seen["pictures"][0][:3, seen["pictures"][0, 3] > 0.99].mean(1)
    assert front.tolist() == pytest.approx(shown.tolist(), abs=0.03)


def test_cell_depth_is_that_of_its_covered_pixels() -> None:
    depth = torch.tensor([[[0.2, 0.4], [9.0, 9.0]]])
    alpha = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    assert cell_depth(depth, alpha).tolist() == [[[pytest.approx(0.3)]]]
    assert cell_depth(depth, 0 * alpha).item() == 0


def test_networks_are_read_from_files_that_say_their_sizes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = SurfaceTask(SampleStore(tmp_path), SampleStore(tmp_path), TINY)
    network = SurfaceNet(TINY).eval()
    save_file(
        {k: v.half() for k, v in network.state_dict().items()},
        tmp_path / "net.safetensors",
        task.metadata(),
    )
    loaded = read_lift(tmp_path / "net.safetensors")
    assert isinstance(loaded, SurfaceNet)
    assert loaded.shape == TINY
    frames = torch.zeros(2, 64, 64, 4, dtype=torch.uint8)
    frames[:, 16:48, 20:44] = torch.tensor([200, 100, 50, 255], dtype=torch.uint8)
    views = Lift(loaded).views(frames, Orbit(0.0, 0.0), [Orbit(90.0, 0.0)], torch.Generator())
    assert views.images.shape == (1, 2, 64, 64, 4)
    assert views.images[0, 0, 32, 32, 3] > 200  # something solid is there from the side
    assert Lift(loaded).visible_depth(frames, Orbit(0.0, 0.0)).shape == (2, PIXELS, PIXELS)


def test_training_learns_and_leaves_weights_that_lift_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_module, "HELD_OUT", 0)
    monkeypatch.setattr(task_module, "HELD_OUT_COUNT", 3)
    store = SampleStore(tmp_path / "samples")
    options = TrainOptions(
        model="surface",
        surface=TINY,
        out=tmp_path / "out",
        samples=store.folder,
        batch=2,
        steps=3,
        warmup=1,
        first_samples=3,
        samples_per_step=0.0,
        workers=0,
        threads=1,
        precision="no",
        measure_every=3,
    )
    train(options, SurfaceTask(store, store, TINY))
    assert isinstance(read_lift(tmp_path / "out"), SurfaceNet)
    assert (tmp_path / "out" / "held_out_000003.png").is_file()
    network = SurfaceNet(TINY)
    row = {
        name: value[None]
        for name, value in sample_tensors(store, 0, torch.Generator().manual_seed(0)).items()
    }
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    task = SurfaceTask(store, store, TINY)
    curve = []
    for step in range(12):
        loss = task.loss(network, row, step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    assert min(curve[-2:]) < 0.9 * curve[0]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
