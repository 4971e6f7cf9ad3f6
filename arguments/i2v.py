"""The preset i2v, under the name that a checkout has it by; a copy of gs4d/presets/i2v.py is a start for your own."""

from gs4d.presets.i2v import config

__all__ = ["config"]
