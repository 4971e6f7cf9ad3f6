"""The preset train_lift; to change it, copy gs4d/presets/train_lift.py."""

from gs4d.presets.train_lift import config

__all__ = ["config"]
