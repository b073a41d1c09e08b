"""The middle of an image."""

from torch import Tensor

__all__ = ["central"]


def central(x: Tensor, size: int) -> Tensor:
    """The central square of side `size` of (..., H, W), a view; of a shorter side all there is."""
    top, left = (max(side - size, 0) // 2 for side in x.shape[-2:])
    return x[..., top : top + size, left : left + size]
