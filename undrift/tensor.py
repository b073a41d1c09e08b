"""Where a coefficient meets a batch, and nowhere else.

Times and coefficients are float64 on the CPU with shape `()` or `(B,)`; states are float32 (or float64)
with shape `(B, ...)` on any device. `expand` is the one crossing.
"""

from torch import Tensor

__all__ = ["expand"]


def expand(c: Tensor, like: Tensor) -> Tensor:
    """The coefficient `c`, shape `()` or `(B,)`, broadcastable to `like` `(B, ...)`, in its dtype and device.

    Raises ValueError when `c` has a batch that `like` has not.
    """
    if c.ndim > 1 or (c.ndim == 1 and c.shape[0] not in (1, like.shape[0])):
        raise ValueError(
            f"coefficient of shape {tuple(c.shape)} does not fit a state of shape {tuple(like.shape)}: "
            "give one time, shape (), or one per sample, shape (B,)"
        )
    c = c.to(device=like.device, dtype=like.dtype)
    return c.reshape(-1, *[1] * (like.ndim - 1)) if c.ndim else c
