"""The numbers that decide which Gaussian touches which pixel.

They are gsplat 1.5.3's, as in submodules/native/constants.h.
"""

from typing import Final

from ..geometry import QUAT_MIN as QUAT_MIN

ALPHA_MIN: Final = 1.0 / 255.0
ALPHA_MAX: Final = 0.999
T_MIN: Final = 1e-4
EPS2D: Final = 0.3
EXTENT_MAX: Final = 3.33
NEAR: Final = 0.01
FAR: Final = 1e10
FOV_MARGIN: Final = 0.3
COLOR_MAX: Final = 1e32  # ours: a Gaussian with a colour beyond it is not drawn
