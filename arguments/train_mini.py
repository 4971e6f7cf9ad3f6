"""The preset train_mini, under the name that a checkout has it by; a copy of gs4d/presets/train_mini.py is a start for your own."""

from gs4d.presets.train_mini import config

__all__ = ["config"]
