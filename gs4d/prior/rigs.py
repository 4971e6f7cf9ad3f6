"""Where the cameras of the multi-view models stand, relative to the input view.

Angles are in this project's convention (azimuth 90 is +x, positive elevation above); radius and
field of view are such that an object that fits the model's frame lies inside a sphere of radius
0.6. Sources: Zero123++ README, camera parameters (v1.1 shares Zero123's field of view of 49.13
degrees, v1.2 has 30); SyncDreamer ``meta_info/camera-16.pkl``; ImageDream as 4DGen reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..clip import Orbit, syncdreamer_rig

ZERO123_AZIMUTHS = (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)
ZERO123PLUS_1_1 = tuple(Orbit(a, (30.0, -20.0)[i % 2]) for i, a in enumerate(ZERO123_AZIMUTHS))
# v1.2 fits the object into a sphere of radius 0.5 at distance 0.5 / tan(15 degrees); here that
# sphere has radius 0.6.
ZERO123PLUS_1_2 = tuple(
    Orbit(a, (20.0, -10.0)[i % 2], 0.6 / math.tan(math.pi / 12), 30.0)
    for i, a in enumerate(ZERO123_AZIMUTHS)
)
QUARTERS = tuple(Orbit(a, 0.0, 2.0, 40.0) for a in (0.0, 90.0, 180.0, 270.0))
SYNCDREAMER = tuple(syncdreamer_rig())


@dataclass(frozen=True)
class Rig:
    """The cameras that a prior draws where none are asked for.

    Attributes:
        orbits: relative to an input camera at azimuth 0; elevations are above the horizon.
        free: whether the prior can draw any other cameras as well.
        level: whether they stand as high as the input camera.
    """

    orbits: tuple[Orbit, ...]
    free: bool = False
    level: bool = False

    def around(self, source: Orbit) -> list[Orbit]:
        """Returns the cameras around a clip that the camera ``source`` took."""
        return [
            replace(
                orbit,
                azimuth=(orbit.azimuth + source.azimuth) % 360,
                elevation=source.elevation if self.level else orbit.elevation,
            )
            for orbit in self.orbits
        ]


FREE_RIG = Rig(SYNCDREAMER, free=True)
