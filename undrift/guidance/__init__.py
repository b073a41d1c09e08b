"""denoise -> denoise: what changes an estimate without the solver's knowledge. `README.md` has the table."""

from .classifier import Classifier
from .classifier_free import ClassifierFree
from .linear import LUMA, Channels, Degraded, Downsample, Mask, Operator, colour_rotation
from .posterior import Isotropic, Point, Posterior, Replacement, Spread, Tweedie
from .randomised import Randomised, randomised
from .tiled import tiled

__all__ = [
    "LUMA",
    "Channels",
    "Classifier",
    "ClassifierFree",
    "Degraded",
    "Downsample",
    "Isotropic",
    "Mask",
    "Operator",
    "Point",
    "Posterior",
    "Randomised",
    "Replacement",
    "Spread",
    "Tweedie",
    "colour_rotation",
    "randomised",
    "tiled",
]
