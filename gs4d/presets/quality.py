"""For when time matters less: four times the steps and more Gaussians."""

from gs4d.config import Config, FitOptions
from gs4d.densify import DensifyOptions

config = Config(
    fit=FitOptions(steps=12000, gaussians=12000, densify=DensifyOptions(max_gaussians=40000))
)
