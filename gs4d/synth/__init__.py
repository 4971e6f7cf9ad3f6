"""Objects made of formulas, as Gaussians over time: what the demo and the tests fit."""

from .rose import rose

__all__ = ["rose"]
