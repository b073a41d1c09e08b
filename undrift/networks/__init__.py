"""Raw networks: plain modules F(z, c, **cond), of no particular process, prediction or space."""

from .classifier import Classifier
from .critic import Critic
from .irsde_unet import IRSDEUNet
from .latent_unet import LatentUNet
from .nafnet import NAFNet
from .ncsnpp import NCSNpp, ddpm, ddpmpp
from .student import widen
from .unet import UNet

__all__ = ["Classifier", "Critic", "IRSDEUNet", "LatentUNet", "NAFNet", "NCSNpp", "UNet", "ddpm", "ddpmpp", "widen"]
