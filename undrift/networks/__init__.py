"""Raw networks: plain modules F(z, c, **cond), of no particular process, prediction or space."""

from .classifier import Classifier
from .critic import Critic
from .ncsnpp import NCSNpp, ddpm, ddpmpp
from .student import widen
from .unet import UNet

__all__ = ["Classifier", "Critic", "NCSNpp", "UNet", "ddpm", "ddpmpp", "widen"]
