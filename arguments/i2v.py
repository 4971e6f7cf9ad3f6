"""The preset i2v; to change it, copy gs4d/presets/i2v.py."""

from gs4d.presets.i2v import config

__all__ = ["config"]
