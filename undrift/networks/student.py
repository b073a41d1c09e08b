r"""What a student is told and its teacher is not: a guidance scale, and random numbers to turn into variety.

    e + W [sin k (omega - 1), cos k (omega - 1) - 1],        h + V * xi

Both weights start at zero, so that a student starts as its teacher; `widen` makes the one of the other.
"""

import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Guidance", "check_inputs", "noise_layer", "widen"]

N = TypeVar("N", bound=nn.Module)


class Guidance(nn.Module):
    """The embedding above, (B,) or () -> (B, width) or (width,), of a guidance scale omega.

    omega = 1 is no guidance, as in `guidance.ClassifierFree`, and adds nothing, whatever has been learnt. (Latent
    Consistency Models, Luo et al. 2023, arXiv 2310.04378, call omega - 1 the scale, and embed it.)
    """

    frequencies: Tensor

    def __init__(self, width: int, terms: int = 16) -> None:
        super().__init__()
        # The slowest goes half round by omega = 32, the fastest tells 1 from 1.5.
        frequencies = torch.exp(torch.linspace(math.log(0.1), math.log(3.0), terms))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layer = nn.Linear(2 * terms, width, bias=False)
        nn.init.zeros_(self.layer.weight)

    def forward(self, omega: Tensor) -> Tensor:
        angles = (omega.to(self.frequencies.dtype) - 1)[..., None] * self.frequencies
        embedded: Tensor = self.layer(torch.cat([angles.sin(), angles.cos() - 1], dim=-1))
        return embedded


def noise_layer(channels: int, width: int) -> nn.Conv2d:
    """V: a 3 x 3 convolution without bias, zero at first."""
    layer = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def check_inputs(z: Tensor, guided: bool, noise_channels: int, guidance: Tensor | None, noise: Tensor | None) -> None:
    """ValueError in one line for an input that the network was not built for, or was built for and does not get."""
    if guidance is not None and not guided:
        raise ValueError("guidance given to a network without it: leave it out, or build it with guided=True")
    wanted = (len(z), noise_channels, *z.shape[2:]) if noise_channels else None
    given = None if noise is None else tuple(noise.shape)
    if given != wanted:
        hint = f"give noise=torch.randn{wanted}" if wanted else "leave it out, or build it with noise_channels"
        raise ValueError(f"noise of shape {given} for a network with noise_channels = {noise_channels}: {hint}")


def widen(network: N, **arguments: Any) -> N:
    """The same network, trainable, with inputs switched on that start at weight zero: its outputs are equal.

    widen(teacher, guided=True, noise_channels=1) is a new network beside the old one, of its device and dtype.

    Raises ValueError in one line for a network that has no such arguments, and for arguments that change more.
    """
    known: dict[str, Any] = getattr(network, "arguments", {})
    if unknown := sorted(set(arguments) - set(known)):
        raise ValueError(
            f"widen({type(network).__name__}, {unknown[0]}={arguments[unknown[0]]!r}): need a network that has "
            f"{unknown[0]!r} in its `arguments`, such as UNet or NCSNpp; there are {', '.join(known) or 'none'}"
        )
    # Initial values are about to be overwritten: the caller's random numbers should not move for them.
    with torch.random.fork_rng(devices=[]):
        wider = type(network)(**{**known, **arguments})
    old, new = network.state_dict(), wider.state_dict()
    kept = all(name in new and new[name].shape == value.shape for name, value in old.items())
    if not kept or any(value.any() for name, value in new.items() if name not in old):
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise ValueError(f"widen(..., {given}): changes more than inputs of weight zero; give guided, noise_channels")
    wider.load_state_dict({**new, **old})
    like = next(network.parameters())
    return wider.to(like.device, like.dtype).train(network.training)
