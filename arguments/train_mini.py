"""The preset train_mini; to change it, copy gs4d/presets/train_mini.py."""

from gs4d.presets.train_mini import config

__all__ = ["config"]
