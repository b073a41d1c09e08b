"""Random generators named by a key: equal keys give equal numbers in any process and in any order."""

from hashlib import blake2b

import torch

__all__ = ["generator"]


def generator(*key: int | str) -> torch.Generator:
    """``generator(seed, step, index)``, say: there is no state to carry, so resuming is exact."""
    digest = blake2b("/".join(map(repr, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big", signed=True))
