"""The preset quick; to change it, copy gs4d/presets/quick.py."""

from gs4d.presets.quick import config

__all__ = ["config"]
