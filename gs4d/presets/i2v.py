"""The default: a good 4D asset from 16 frames and 16 side views in under three minutes on two CPU cores."""

from gs4d.config import Config

config = Config()
