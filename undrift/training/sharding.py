"""Weights cut over processes, each holding a part of every tensor (PyTorch's FSDP2), and back.

A block of the network is gathered when it is needed and let go after; gradients, averages and the optimiser's memory
stay cut. (Zhao et al. 2023, "PyTorch FSDP", arXiv 2304.11277.)
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["cut", "spread", "units", "whole"]


def units(module: nn.Module) -> list[nn.Module]:
    """The blocks of its network, which are gathered, or computed again, one at a time."""
    return [part for part in module.modules() if getattr(part, "unit", False)]


def cut(module: nn.Module, device: str) -> None:
    """Cut the parameters of a module over all processes, in place: they are others afterwards, see `DTensor`."""
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (get_world_size(),))
    for part in [*units(module), module]:
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def whole(value: Any, keep: bool = True) -> Any:
    """A state dict with its cut tensors put together, on the CPU; all processes call, those that `keep` none get {}."""
    if isinstance(value, Mapping):
        made = {key: whole(each, keep) for key, each in value.items()}
        return made if keep else {}
    if hasattr(value, "full_tensor"):
        tensor = value.full_tensor()
        return tensor.cpu() if keep else None
    return value


def spread(saved: Any, like: Any) -> Any:
    """A state dict of whole tensors with those cut that are cut in `like`, without a message."""
    if isinstance(saved, Mapping) and isinstance(like, Mapping):
        return {key: spread(each, like.get(key)) for key, each in saved.items()}
    if isinstance(saved, Tensor) and hasattr(like, "full_tensor") and saved.shape == like.shape:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(saved, like.device_mesh, like.placements, src_data_rank=None)
    return saved
