"""denoise -> denoise: what changes an estimate without the solver's knowledge."""

from .tiled import tiled

__all__ = ["tiled"]
