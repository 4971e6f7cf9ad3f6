"""The smoke test: half a minute on two CPU cores.

Shows that everything works, and roughly what will come out.
"""

from gs4d.config import Config, FitOptions
from gs4d.densify import DensifyOptions

config = Config(
    fit=FitOptions(
        steps=400, resolution=128, gaussians=4000, densify=DensifyOptions(max_gaussians=6000)
    )
)
