"""The plane of symmetry of a solid, and what a picture shows beyond it."""

from __future__ import annotations

import pytest
import torch

from gs4d.camera import project
from gs4d.clip import Orbit, cameras_of
from gs4d.prior.solid import REACH, cell_centers
from gs4d.prior.symmetry import Plane, shown_by_mirror, symmetry_plane

SIDE, LAYERS = 48, 48


def solid(source: Orbit, turn: float, *, twins: bool) -> torch.Tensor:
    """A long body with a head at one end, turned about the vertical; ``twins``: a head at each."""
    angle = torch.deg2rad(torch.tensor(turn))
    x, y, z = cell_centers(source, SIDE, LAYERS).unbind(-1)
    along, across = x * angle.cos() - z * angle.sin(), x * angle.sin() + z * angle.cos()
    body = (along.abs() < 0.4) & (y.abs() < 0.12) & (across.abs() < 0.1)
    head = ((along - 0.35) ** 2 + (y - 0.22) ** 2 + across**2) < 0.15**2
    if twins:
        head = head | (((along + 0.35) ** 2 + (y - 0.22) ** 2 + across**2) < 0.15**2)
    return (body | head).float()


@pytest.mark.parametrize("turn", [0.0, 30.0, 75.0])
def test_the_plane_is_found_from_any_side(turn: float) -> None:
    source = Orbit(0.0, 10.0)
    plane = symmetry_plane(solid(source, turn, twins=False), source)
    assert plane is not None
    angle = torch.deg2rad(torch.tensor(turn))
    true = torch.stack([angle.sin(), torch.zeros(()), angle.cos()])
    assert abs(float(plane.normal @ true)) > 0.98
    assert abs(plane.offset) < 0.03
    assert plane.share > 0.9


def test_no_plane_is_named_where_two_do() -> None:
    source = Orbit(0.0, 10.0)
    assert symmetry_plane(solid(source, 30.0, twins=True), source) is None
    assert symmetry_plane(torch.zeros(LAYERS, SIDE, SIDE), source) is None


def test_the_far_side_has_the_colours_of_the_near_one() -> None:
    source = Orbit(0.0, 0.0)
    plane = Plane(torch.tensor([0.0, 0.0, 1.0]), 0.0, 1.0)  # faces the camera
    line = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    colors = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)
    colors = torch.cat([0.5 + 0.4 * colors, torch.full((SIDE, SIDE, 1), 0.3)], -1)
    mask = torch.ones(SIDE, SIDE, dtype=torch.bool)
    near = torch.tensor([[0.1, 0.2, 0.15], [-0.2, 0.0, 0.15], [0.0, -0.1, 0.15]])
    at, z = project(cameras_of([source], width=1, height=1), near)
    depth = torch.full((SIDE, SIDE), (float(z[0]) - source.radius) / REACH)
    tint, belief = shown_by_mirror(plane.mirrored(near), plane, depth, colors, mask, source)
    wanted = torch.stack([0.5 + 0.4 * at[:, 1], 0.5 + 0.4 * at[:, 0], torch.full((3,), 0.3)], 1)
    assert torch.allclose(tint, wanted, atol=0.02)
    assert belief.tolist() == [1, 1, 1]
    beyond = near - torch.tensor([0.0, 0.0, 0.2])  # their mirror images are not on the surface
    assert shown_by_mirror(beyond, plane, depth, colors, mask, source)[1].tolist() == [0, 0, 0]
    no = torch.zeros_like(mask)
    assert shown_by_mirror(near, plane, depth, colors, no, source)[1].tolist() == [0, 0, 0]
