"""The preset quick, under the name that a checkout has it by; a copy of gs4d/presets/quick.py is a start for your own."""

from gs4d.presets.quick import config

__all__ = ["config"]
