"""Mean-reverting diffusion, IR-SDE (Image Restoration with Mean-Reverting SDEs, Luo et al. 2023, arXiv 2301.11699)."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

import torch
from torch import Tensor

from .base import Process
from .table import interpolate

__all__ = ["MeanReverting"]

Schedule = Literal["constant", "linear", "cosine"]


@final
@dataclass(frozen=True)
class MeanReverting(Process):
    r"""dx = theta_t (mu - x) dt + g_t dw with g_t^2 = 2 lam^2 theta_t, in the coordinate z = x - mu:

        alpha_t = exp(-Theta_t),   sigma_t = lam sqrt(1 - alpha_t^2),   Theta_t = int_0^t theta.

    The mean mu lives in the `Residual` space; here it is a variance-preserving path of scale lam. t is IR-SDE's
    index, 0 (data) to `steps` (noise), and Theta is the one quantity interpolated between indices.

    Arguments:
        lam: stationary standard deviation, images in [0, 1]; IR-SDE's max_sigma / 255. Positive.
        schedule: theta_i by index, `"cosine"`, `"linear"` or `"constant"`, in IR-SDE's exact discretisation.
        steps: number of indices T. A resolution of the path, not a number of network evaluations.
        eps: alpha at the noise end, in (0, 1).
        subtract_theta0: Theta_0 = 0, as the released networks were trained. False keeps theta_0, the
            variant of the official MR Sampler, whose data lie at t = -1.

    Raises ValueError for values outside these ranges.
    """

    lam: float = 50 / 255
    schedule: Schedule = "cosine"
    steps: int = 100
    eps: float = 0.005
    subtract_theta0: bool = True

    def __post_init__(self) -> None:
        if not self.lam > 0:
            raise ValueError(f"MeanReverting lam = {self.lam}: need a positive standard deviation, e.g. 50/255")
        if self.schedule not in ("constant", "linear", "cosine"):
            raise ValueError(f"MeanReverting schedule {self.schedule!r}: choose 'constant', 'linear' or 'cosine'")
        if not (isinstance(self.steps, int) and self.steps >= 2):
            raise ValueError(f"MeanReverting steps = {self.steps}: need a whole number >= 2")
        if not 0 < self.eps < 1:
            raise ValueError(f"MeanReverting eps = {self.eps}: alpha at the noise end lies in (0, 1)")

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return 1.0 if self.subtract_theta0 else 0.0

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return float(self.steps)

    @property
    def t_clean(self) -> float:
        return 0.0 if self.subtract_theta0 else -1.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        table = _integral(self.schedule, self.steps, self.eps, self.subtract_theta0)
        integral = interpolate(table, t - self.t_clean)
        return torch.exp(-integral), self.lam * torch.sqrt(-torch.expm1(-2 * integral))


def _theta(schedule: Schedule, steps: int) -> Tensor:
    """theta at the indices 0..T, (T + 1,): IR-SDE's discretisation, quirks and all."""
    if schedule == "constant":
        return torch.ones(steps + 1, dtype=torch.float64)
    if schedule == "linear":
        scale = 1000 / (steps + 1)
        return torch.linspace(scale * 1e-4, scale * 2e-2, steps + 1, dtype=torch.float64)
    # T + 2 intervals of which the first and the last point are dropped; 1 - (a cumulative product) as theta.
    position = torch.linspace(0, 1, steps + 3, dtype=torch.float64)
    curve = torch.cos((position + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - curve / curve[0])[1:-1]


@lru_cache(maxsize=32)
def _integral(schedule: Schedule, steps: int, eps: float, subtract_theta0: bool) -> Tensor:
    """Theta from the clean index on, first entry 0, last entry -log eps."""
    total = _theta(schedule, steps).cumsum(0)
    total = total - total[0] if subtract_theta0 else torch.cat([torch.zeros(1, dtype=torch.float64), total])
    return total * (-math.log(eps) / total[-1])
