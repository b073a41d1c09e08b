"""Raw networks: plain modules F(z, c, **cond), of no particular process, prediction or space."""

from .classifier import Classifier
from .ncsnpp import NCSNpp, ddpm, ddpmpp
from .unet import UNet

__all__ = ["Classifier", "NCSNpp", "UNet", "ddpm", "ddpmpp"]
