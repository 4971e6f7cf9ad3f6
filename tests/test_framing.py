"""Frames cropped as the authors of a model crop them, and its views placed back, against exact
renders of a moved object.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gs4d.clip import Orbit, cameras_of
from gs4d.errors import UserError
from gs4d.gaussians import Gaussians
from gs4d.prior import Views
from gs4d.prior.catalogue import FAMILIES
from gs4d.prior.framing import Framing, plan_framing, share_of
from gs4d.render import render


def beads(center: tuple[float, float, float] = (0.0, 0.0, 0.0), scale: float = 1.0) -> Gaussians:
    """Coloured balls around a point, in a shape without symmetry."""
    places = torch.tensor(
        [[0.0, 0, 0], [0.2, 0.1, 0.1], [-0.2, 0.25, -0.1], [0.05, -0.3, 0.2], [-0.1, -0.1, -0.25]]
    )
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    return Gaussians(
        means=torch.tensor(center) + scale * places,
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(5, 1),
        log_scales=torch.full((5, 3), math.log(0.05 * scale)),
        logit_opacities=torch.full((5,), 6.0),
        sh=((colors - 0.5) / 0.28209479)[:, None],
    )


def picture(gaussians: Gaussians, orbit: Orbit, side: int = 128) -> Tensor:
    """RGBA, 8 bit, straight alpha."""
    drawn = render(
        gaussians, cameras_of([orbit], width=side, height=side), background=torch.zeros(3)
    )
    rgb = drawn.rgb[0] / drawn.alpha[0, ..., None].clamp_min(1e-3)
    return (
        (torch.cat([rgb, drawn.alpha[0, ..., None]], -1).clamp(0, 1) * 255).round().to(torch.uint8)
    )


def box(image: Tensor) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of what is covered, in shares of the frame."""
    y, x = (image[..., 3] > 25).nonzero(as_tuple=True)
    side = len(image)
    return (
        float(x.min()) / side,
        float(y.min()) / side,
        float(x.max() + 1) / side,
        float(y.max() + 1) / side,
    )


def masks(*images: Tensor) -> list[Tensor]:
    return [image[..., 3] for image in images]


SOURCES = [Orbit(), Orbit(40.0, 20.0), Orbit(0.0, 0.0, 2.0, 33.8)]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("share", [0.5, 200 / 256])
def test_the_object_of_all_frames_takes_its_share_of_the_middle(source: Orbit, share: float):
    frames = torch.stack([picture(beads((0.12, -0.1, 0.0), s), source) for s in (0.5, 0.7)])
    framing = plan_framing(masks(*frames), source, share)
    assert framing is not None
    cut = framing.crop(frames)
    boxes = torch.tensor([box(image) for image in cut])
    least, most = boxes[:, :2].amin(0), boxes[:, 2:].amax(0)
    torch.testing.assert_close((least + most) / 2, torch.full((2,), 0.5), atol=0.02, rtol=0)
    assert float((most - least).max()) == pytest.approx(share, abs=0.03)
    # One crop for all: the smaller object stays smaller.
    sizes = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    assert float(sizes[0]) < 0.85 * float(sizes[1])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("center", [(0.0, 0.0, 0.0), (0.15, -0.12, 0.0)])
def test_views_of_a_faithful_model_are_placed_where_the_object_is(
    source: Orbit, center: tuple[float, float, float]
):
    """A model that draws the object, as it would in a world of its own, agrees with exact renders
    of the clip's.
    """
    frames = picture(beads(center, 0.6), source)[None]
    framing = plan_framing(masks(*frames), source, 200 / 256)
    assert framing is not None
    seen, middle, scale = framing.seen, torch.tensor(framing.center), framing.scale
    exact = beads(center, 0.6)
    inside = replace(
        exact, means=(exact.means - middle) / scale, log_scales=exact.log_scales - math.log(scale)
    )
    rig = [Orbit(seen.azimuth + a, 30.0) for a in (0.0, 90.0, 200.0)]
    drawn = torch.stack([picture(inside, orbit) for orbit in rig])[:, None]
    views = framing.place(Views(rig, drawn, torch.full(drawn.shape[:-1], 128, dtype=torch.uint8)))
    side = views.images.shape[2]
    for orbit, image in zip(views.orbits, views.images[:, 0], strict=True):
        wanted = picture(exact, orbit, side).float() / 255
        found = image.float() / 255
        difference = (
            (found[..., :3] * found[..., 3:] - wanted[..., :3] * wanted[..., 3:]).abs().mean()
        )
        assert difference < 0.1 * (wanted[..., :3] * wanted[..., 3:]).mean()
        overlap = (
            torch.minimum(found[..., 3], wanted[..., 3]).sum()
            / torch.maximum(found[..., 3], wanted[..., 3]).sum()
        )
        assert overlap > 0.9
    assert views.confidence.max() == 128
    # What the model is shown is what its own camera would see of it, but for the perspective of its
    # wider lens.
    own = picture(inside, seen).float()
    shown = framing.crop(frames)[0]
    assert torch.tensor(box(shown)).sub(torch.tensor(box(own))).abs().max() < 0.08


def test_frames_that_are_framed_already_are_left_alone():
    mask = torch.zeros(256, 256, dtype=torch.uint8)
    mask[28:228, 60:196] = 255
    assert plan_framing([mask], Orbit(), 200 / 256) is None
    assert plan_framing([torch.zeros_like(mask)], Orbit(), 200 / 256) is None
    assert plan_framing([mask], Orbit(), 0.5) is not None
    # framed alike, but by another camera: a larger object
    further = plan_framing([mask], Orbit(radius=2.0), 200 / 256)
    assert further is not None
    assert further.scale == pytest.approx(2.0 / 1.5, rel=1e-3)


def test_opaque_views_stay_opaque_and_grow_by_their_background():
    framing = Framing(Orbit(), (0.2, 0.0, 0.0), math.tan(math.radians(49.13) / 2))
    grey = torch.full((2, 1, 32, 32, 4), 200, dtype=torch.uint8)
    grey[..., 3] = 255
    views = framing.place(
        Views([Orbit(), Orbit(90.0)], grey, torch.full((2, 1, 32, 32), 128, dtype=torch.uint8))
    )
    assert views.images.shape[2] > 32
    assert (views.images[..., 3] == 255).all()
    assert (views.images[..., :3] == 200).all()
    assert views.confidence.min() == 0  # beyond the drawn frame nothing is known


def test_an_object_in_a_corner_is_refused_in_a_sentence():
    mask = torch.zeros(256, 256, dtype=torch.uint8)
    mask[4:20, 4:20] = 255
    framing = plan_framing([mask], Orbit(), 200 / 256)
    assert framing is not None
    nothing = torch.zeros(1, 1, 16, 16, 4, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"too far from the middle.*preprocess/frames.py"):
        framing.place(Views([Orbit(90.0)], nothing, nothing[..., 0]))


def test_shares_are_the_authors_or_those_asked_for():
    assert share_of("syncdreamer", 0) == share_of("zero123", 0) == 200 / 256
    assert share_of("syncdreamer", 150) == 150 / 256
    assert share_of("zero123plus-1.2", 0) == 0.75
    assert share_of("lift", 0) is share_of("inflate", 200) is share_of("syncdreamer", -1) is None
    assert all(0.5 < row.share < 1 for row in FAMILIES.values() if row.share is not None)
