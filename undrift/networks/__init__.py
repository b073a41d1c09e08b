"""Raw networks: plain modules F(z, c, **cond), of no particular process, prediction or space."""

from .unet import UNet

__all__ = ["UNet"]
