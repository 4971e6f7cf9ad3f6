"""The preset quality, under the name that a checkout has it by; a copy of gs4d/presets/quality.py is a start for your own."""

from gs4d.presets.quality import config

__all__ = ["config"]
