"""A run laid out on its devices: where weights live, what is computed twice to save memory, what is compiled."""

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.checkpoint import checkpoint

from .build import Run, optimizers
from .sharding import cut, units

__all__ = ["arrange"]


def arrange(run: Run, accelerator: Accelerator) -> None:
    """Bring a run to its devices, as [training] says; ValueError in one line for what does not go together."""
    training = run.training
    if training.compile and training.compile not in (known := torch._dynamo.list_backends(None)):
        raise ValueError(f'training.compile = {training.compile!r}: choose one of {", ".join(known)}, or ""')
    for module in run.modules():
        module.to(accelerator.device)
    networks: list[Any] = [module.network for phase, module in run.trained.items() if phase != "critic"]
    if training.checkpointing:
        for network in networks:
            _recompute(network)
    if training.compile:
        for network in networks:
            network.compile(backend=training.compile)
    if training.shard and accelerator.num_processes > 1:
        if run.preview.every and run.method.phases != ("denoiser",):
            raise ValueError("training.shard: no process holds a whole student to look at: set preview.every=0")
        run.shown = deepcopy(run.average.module).cpu() if accelerator.is_main_process else None
        for module in _trained_and_followers(run):
            cut(module, accelerator.device.type)
        run.optimizers = optimizers(run.recipe, run.trained)


def _recompute(network: Any) -> None:
    """Keep of each block only its input, and compute the rest again on the way back."""
    if hasattr(network, "recompute"):
        network.recompute()
        return
    blocks = units(network)
    if not blocks:
        raise ValueError(f"training.checkpointing: {type(network).__name__} has no blocks marked with unit = True")
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


def _trained_and_followers(run: Run) -> list[nn.Module]:
    """What is as large as the trained network and changes: itself, its average, a target. A critic is small."""
    trained = [module for phase, module in run.trained.items() if phase != "critic"]
    target = getattr(run.method, "target", None)
    return [*trained, run.average.module, *([target] if isinstance(target, nn.Module) else [])]
