"""Images of a generator's own shape, as the 8-bit levels that were recorded."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data import find_images
from ..data.labelled import read_labelled
from .editing import as_model
from .generator import Generator

__all__ = ["grey_levels"]


def grey_levels(generator: Generator, inputs: Sequence[str], limit: int) -> tuple[list[str], Tensor]:
    """Names and images (N, C, H, W) in [0, 1] of files, folders and the test split of .npz files; at most `limit`."""
    names, images = list[str](), list[Tensor]()
    for given in inputs:
        if given.lower().endswith(".npz"):
            packed = read_labelled(given, "test").images[: limit - len(images)]
            if packed.shape[1:] != torch.Size(generator.shape):
                raise ValueError(f"{given}: images of {tuple(packed.shape[1:])}, but the model makes {generator.shape}")
            names += [f"{given}[{i}]" for i in range(len(packed))]
            images += list(packed.float() / 255)
            continue
        for path in find_images([given])[: limit - len(images)]:
            names.append(str(path))
            images.append((as_model(generator, str(path)) * 255).round() / 255)
    return names, torch.stack(images)
