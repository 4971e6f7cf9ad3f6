"""The preset train_surface; to change it, copy gs4d/presets/train_surface.py."""

from gs4d.presets.train_surface import config

__all__ = ["config"]
