"""A student with a noise input as an estimate like any other: xi is drawn anew at every evaluation,

z_0 = denoise(z, t, noise=xi),    xi standard normal, (B, channels, ...).
"""

from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from ..denoiser import Denoise
from ..noise import Noise

__all__ = ["Randomised", "randomised"]


@final
@dataclass(frozen=True, eq=False)
class Randomised:
    """denoise(z, t, **cond), given the noise that it wants.

    Arguments:
        denoise: an estimate that wants the keyword `noise` (B, channels, ...), of the size of z.
        noise: where it comes from; the source that the solver draws from too, so that sample i depends on its seed
            alone. `Brownian` will not do, whose draws at one time are all the same.
        channels: at least 1.

    Raises ValueError for fewer.
    """

    denoise: Denoise
    noise: Noise
    channels: int

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"Randomised channels = {self.channels}: need at least 1, as the network was built for")

    def __call__(self, z: Tensor, t: Tensor, **cond: Any) -> Tensor:
        """z (B, ...), t () or (B,), conditions each (B, ...) -> z_0 (B, ...)."""
        xi = self.noise(z.new_empty(len(z), self.channels, *z.shape[2:]), t, t)
        return self.denoise(z, t, noise=xi, **cond)


def randomised(denoise: Denoise, noise: Noise, channels: int) -> Denoise:
    """`Randomised`, or `denoise` itself for 0 channels."""
    return Randomised(denoise, noise, channels) if channels else denoise
