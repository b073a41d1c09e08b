"""What guidances that differentiate share: the vector-Jacobian product, and where it has a meaning."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..process import Process

__all__ = ["inside", "linearised"]

_LOWEST = -8.0  # lambda; there alpha = 3e-4 sigma, and sigma^2/alpha is still harmless in float32


def inside(process: Process, t: Tensor) -> Tensor:
    """t, () or (B,); where alpha_t = 0, a time nearby at which sigma^2/alpha exists.

    At alpha = 0 the state says nothing of z_0 and its gradient is 0 times infinity; the limit is wanted.
    """
    void = process.alpha_sigma(t)[0] == 0
    if not bool(void.any()):
        return t
    return torch.where(void, process.time(torch.tensor(_LOWEST, dtype=torch.float64)), t)


def linearised(f: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """f(z), and v -> J^T v with J its Jacobian at z; also where the caller records no gradients.

    Raises ValueError if f cuts the gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        value = f(leaf)
    if not value.requires_grad:
        raise ValueError(
            f"{getattr(f, '__qualname__', f)} at a state of shape {tuple(z.shape)} gives no gradient: guidance "
            "differentiates it; call it without torch.no_grad"
        )

    def pull(v: Tensor) -> Tensor:
        return torch.autograd.grad(value, leaf, v, retain_graph=True)[0]

    return value.detach(), pull
