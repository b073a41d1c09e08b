"""Class probabilities of noisy states: `classify(z, t) -> logits (B, K)` of p_t(label | z), what guidance asks for.

`NoisyClassifier` gives a network that meaning, as `Denoiser` does for estimates of z_0.
"""

from collections.abc import Callable
from typing import Any, cast, final

from torch import Tensor, nn

from .denoiser import Label, LogNoise, told
from .process import Process

__all__ = ["Classify", "NoisyClassifier"]

Classify = Callable[[Tensor, Tensor], Tensor]
"""classify(z (B, ...), t () or (B,)) -> logits (B, K), log p_t(label | z) up to a constant."""


@final
class NoisyClassifier(nn.Module):
    r"""A time-conditional network as a classifier of states: logits = F(c_in z_t, label(t), **cond).

    Arguments:
        network: module with `forward(z (B, ...), c (B,)) -> (B, K)`, and `features` likewise where those are wanted.
        process: the path that it was trained on.
        label: what the network is told of the time.
        scale: standard deviation of the data z_0; c_in = (alpha^2 scale^2 + sigma^2)^(-1/2); None is c_in = 1.
    """

    def __init__(
        self, network: nn.Module, process: Process, label: Label | None = None, scale: float | None = 1.0
    ) -> None:
        super().__init__()
        if scale is not None and not scale > 0:
            raise ValueError(
                f"NoisyClassifier scale = {scale}: need the positive standard deviation of the data, or None"
            )
        self.network = network
        self.process = process
        self.label = label or LogNoise()
        self.scale = scale

    def forward(self, z: Tensor, t: Tensor, **cond: Any) -> Tensor:
        """z (B, ...), t float64 () or (B,), what else the network wants -> logits (B, K), in the dtype of z."""
        return cast(Tensor, self.network(*self._told(z, t), **cond)).to(z.dtype)

    def features(self, z: Tensor, t: Tensor) -> Tensor:
        """The penultimate layer, (B, D), in the dtype of z."""
        return cast(Tensor, self.network.features(*self._told(z, t))).to(z.dtype)  # type: ignore[operator]

    def _told(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return told(self.network, self.process, self.label, self.scale, z, t, *self.process.alpha_sigma(t))
