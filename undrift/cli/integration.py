"""A bar over images whose paths are integrated: it moves with every network evaluation, not with batches alone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..denoiser import Denoiser
from ..solvers.coordinates import Angle

__all__ = ["FORMAT", "watch"]

FORMAT = "{l_bar}{bar}| {n:.1f}/{total} {unit}s [{elapsed}]"


def watch(bar: tqdm, denoiser: Denoiser, draws: int = 1) -> None:
    """Move `bar`, in images, with the share of its path from t_min to t_max, in angle, that each one has behind it.

    `draws` is how often each image takes the path. Does nothing where the bar is not shown.
    """
    process, begun = denoiser.process, 0.0
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    low, high = Angle().variable(process, ends).tolist()

    def seen(module: object, inputs: object, given: Mapping[str, Any], estimate: Tensor) -> None:
        nonlocal begun
        ahead = (high - Angle().variable(process, given["t"]).expand(len(estimate))) / (high - low)
        if float(ahead.min()) > 1 - 1e-9:
            begun += len(ahead)
        covered = (begun - float(ahead.sum())) / draws
        if covered > bar.n:  # a step may be taken again
            bar.update(covered - bar.n)

    if not bar.disable:
        denoiser.register_forward_hook(seen, with_kwargs=True)
