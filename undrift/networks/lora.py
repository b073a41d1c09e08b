r"""Low-rank changes of a network's weights: W + B A, of which only A and B are trained.

LoRA: Low-Rank Adaptation of Large Language Models (Hu et al. 2021, arXiv 2106.09685).
The sum is formed before the network runs, and handed to it for one call: W itself is never touched, a network may
be shared, and weights that a network uses in ways of its own (NCSN++ filters with some of them) need no case.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["LowRank"]


class LowRank(nn.Module):
    """A (rank, inputs), of unit gain, and B (outputs, rank) zero for each convolution and linear layer in some modules.

    Arguments:
        network: whose weights W are changed; it is not kept.
        modules: names of its modules to look in.
        rank: of the change, 1 or more.
    """

    def __init__(self, network: nn.Module, modules: Sequence[str], rank: int) -> None:
        super().__init__()
        self.names = tuple(
            f"{name}.weight"
            for name, layer in network.named_modules()
            if any(f"{name}.".startswith(f"{module}.") for module in modules)
            and isinstance(layer, nn.Conv2d | nn.Linear)
        )
        weights = [network.get_parameter(name).flatten(1) for name in self.names]
        self.a = nn.ParameterList(torch.randn(rank, w.shape[1]) * w.shape[1] ** -0.5 for w in weights)
        self.b = nn.ParameterList(torch.zeros(w.shape[0], rank) for w in weights)

    def forward(self, network: nn.Module) -> dict[str, Tensor]:
        """name -> W + B A; for `torch.func.functional_call`."""
        weights = (network.get_parameter(name) for name in self.names)
        changes = zip(self.names, weights, self.a, self.b, strict=True)
        return {name: w + (b @ a).view_as(w).to(w.dtype) for name, w, a, b in changes}
