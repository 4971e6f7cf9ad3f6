"""The skin of a solid, and how sure it is, against pooling over all cells."""

import pytest
import torch
from torch.nn import functional as F

from gs4d.prior.solid import skin, steps_at


def lumps(seed: int = 0) -> torch.Tensor:
    rough = torch.rand(1, 10, 12, 14, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool3d(rough, 3, 1, 1)[0] + 0.1


@pytest.mark.parametrize("surface", [0.45, 0.6, 0.05])
def test_skin_is_what_is_inside_and_beside_something_outside(surface: float):
    occupancy = lumps()
    found, size = skin(occupancy, surface), occupancy.shape
    inside = F.pad((occupancy > surface).float(), (1,) * 6)  # what lies outside the grid is outside
    least = -F.max_pool3d(-inside[None], 3, 1)[0]
    assert torch.equal(found, (occupancy > surface) & (least < 0.5))
    assert found.shape == size
    assert 0 < found.sum() < found.numel()


@pytest.mark.parametrize("reach", [1, 2])
def test_steps_are_the_change_within_reach(reach: int):
    occupancy = lumps(1)
    cells = lumps(2) > 0.62
    width = 2 * reach + 1
    change = F.max_pool3d(occupancy[None], width, 1, reach) + F.max_pool3d(
        -occupancy[None], width, 1, reach
    )
    torch.testing.assert_close(steps_at(occupancy, cells, reach), change[0][cells])
