"""As good as it gets without a GPU: longer, with more Gaussians."""

from gs4d.config import Config, FitOptions
from gs4d.densify import DensifyOptions

config = Config(fit=FitOptions(steps=12000, gaussians=12000, densify=DensifyOptions(max_gaussians=40000)))
