r"""A critic of states: what a frozen diffusion network sees in them, through small heads of its own,

    D(z, c, cond)  =  the logits of one head per decoder feature map of F(z, c, cond), one per position.

The trunk F knows the time and the condition, and what images look like at every noise level: a critic of few trained
weights is harder to fool and slower to overfit than one trained whole (SCott, Liu et al. 2024, arXiv 2403.01505, trains
low-rank changes of the decoder; Phased Consistency Models, Wang et al. 2024, arXiv 2405.18407, heads on a frozen one).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .lora import LowRank

__all__ = ["Critic"]


class Features(nn.Module):
    """The method `features` of a network as a module's call, which `functional_call` can reach."""

    network: Any

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, c: Tensor, **cond: Any) -> tuple[Tensor, ...]:
        maps: tuple[Tensor, ...] = self.network.features(z, c, **cond)
        return maps


class Head(nn.Module):
    """W1 silu(W3 norm(x)) with a 3 x 3 and a 1 x 1 convolution: (B, C, h, w) -> logits (B, h w)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        # One group keeps the means of channels, brightness among them. Without its affine part, which the convolution
        # has anyway: with it, torch 2.13 crashes on channels-last maps that need no gradient.
        self.norm = nn.GroupNorm(1, channels, affine=False)
        self.mix = nn.Conv2d(channels, width, 3, padding=1)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(F.silu(self.mix(self.norm(x.to(self.out.weight.dtype)))))
        return logits.flatten(1)


class Critic(nn.Module):
    """D(z, c, **cond) -> logits (B, P): high for what looks real, of P positions of the chosen feature maps together.

    `parameters()` and `state_dict()` are the heads and low-rank changes alone: the trunk is the caller's, shared by
    reference and never changed, except that it is frozen and put in evaluation mode here. A stored critic is
    Critic(trunk, **critic.arguments) and its state. Moving the critic to a device or dtype moves the trunk.

    Arguments:
        network: the trunk, a raw network such as a teacher's: `UNet`, `NCSNpp`, or one with the same
            `features(z, c, **cond)`, `feature_channels` and, for a rank, `decoder`. Not the one being trained.
        heads: which of its feature maps, 0 the coarsest; None for all.
        rank: of the trained changes of the decoder's convolutions and linear layers; 0 for none.
        width: of a head.

    Raises ValueError in one line for a network that lacks what is needed, and for numbers out of range.
    """

    def __init__(self, network: Any, heads: Sequence[int] | None = None, rank: int = 0, width: int = 32) -> None:
        super().__init__()
        needed = ("features", "feature_channels", "decoder")[: 3 if rank else 2]
        if missing := [name for name in needed if not hasattr(network, name)]:
            raise ValueError(
                f"Critic({type(network).__name__}): the network lacks {', '.join(missing)}; "
                "give it what UNet and NCSNpp have, or choose one of them as the trunk"
            )
        channels: tuple[int, ...] = tuple(network.feature_channels)
        chosen = tuple(range(len(channels)) if heads is None else heads)
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(len(channels))):
            raise ValueError(f"Critic heads = {chosen}: choose different ones of 0 to {len(channels) - 1}")
        if rank < 0 or width < 1:
            raise ValueError(f"Critic rank = {rank}, width = {width}: need at least 0 and 1")
        self.arguments: dict[str, Any] = {"heads": chosen, "rank": rank, "width": width}
        # In a tuple, so that it is no part of this module: not in parameters(), state_dict(), train().
        self._trunk = (Features(network.requires_grad_(False).eval()),)
        self.heads = nn.ModuleList(Head(channels[i], width) for i in chosen)
        self.change = LowRank(network, network.decoder, rank) if rank else None

    def forward(self, z: Tensor, c: Tensor, **cond: Any) -> Tensor:
        """z (B, C, H, W), c (B,) and conditions as the trunk takes them -> logits (B, P), float32 under autocast."""
        trunk = self._trunk[0]
        # Sums of small changes, and logits near a margin, are lost in half precision.
        with torch.autocast(z.device.type, enabled=False):
            changed = {} if self.change is None else self.change(trunk.network)
        maps = functional_call(trunk, {f"network.{name}": w for name, w in changed.items()}, (z, c), cond)
        with torch.autocast(z.device.type, enabled=False):
            chosen = zip(self.heads, self.arguments["heads"], strict=True)
            return torch.cat([head(maps[i]) for head, i in chosen], dim=1)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Critic":
        self._trunk[0]._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self
