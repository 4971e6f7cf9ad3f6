"""The preset train_lift, under the name that a checkout has it by; a copy of gs4d/presets/train_lift.py is a start for your own."""

from gs4d.presets.train_lift import config

__all__ = ["config"]
