"""Fits moving Gaussians to a clip: one visible loop over a state, batches and loss terms."""

from .loop import Fitter, Observer, fit
from .options import FitOptions, LearningRates, LossWeights
from .record import fingerprint

__all__ = [
    "FitOptions",
    "Fitter",
    "LearningRates",
    "LossWeights",
    "Observer",
    "fingerprint",
    "fit",
]
