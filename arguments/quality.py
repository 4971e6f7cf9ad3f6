"""The preset quality; to change it, copy gs4d/presets/quality.py."""

from gs4d.presets.quality import config

__all__ = ["config"]
