"""Distance of two sets of images without any network: do restored images look like clean ones, whichever they are?"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["swd"]


def swd(
    x: Iterable[Tensor], y: Iterable[Tensor], seed: int = 0, *, patches: int = 128, directions: int = 512
) -> Tensor:
    """Sliced Wasserstein distance x 1e3 of the 7 x 7 patches of two sets, per level of the Laplacian pyramid.

    "Progressive growing of GANs for improved quality, stability, and variation" (Karras et al., 2018,
    arXiv:1710.10196). Level 0 is the finest; the mean over levels is what one reports. Unlike there, patches come
    from the same places of x and y, and both are normalised by the channel statistics of the *reference* x:
    equal sets are at distance 0, and lost contrast or detail cannot hide in the normalisation.

    Arguments:
        x, y: equally many images (3, H, W) in [0, 1], e.g. one tensor (N, 3, H, W); x is the reference.
        seed: of the places and directions.
        patches: per image and level.
        directions: onto which patches are projected.

    Returns:
        (levels,) float32: levels halve the shortest side of all images while it is at least 16.
    """
    rng = torch.Generator().manual_seed(seed)
    a, b = _patch_sets(list(x), list(y), patches, rng)
    return torch.stack([_sliced(p, q, directions, rng) for p, q in zip(a, b, strict=True)])


def _patch_sets(x: list[Tensor], y: list[Tensor], patches: int, rng: torch.Generator) -> tuple[list[Tensor], ...]:
    """Per level the patches of all images, (N patches, 3, 7, 7), of x and of y."""
    if not x or [i.shape for i in x] != [i.shape for i in y]:
        raise ValueError(f"swd needs two sets of equal shapes, got {len(x)} and {len(y)} images")
    shortest = min(min(image.shape[-2:]) for image in x)
    if shortest < 16:
        raise ValueError(f"swd needs images of at least 16 x 16 pixels, the smallest side is {shortest}")
    levels = int(math.log2(shortest / 16)) + 1
    sets: tuple[list[list[Tensor]], ...] = ([[] for _ in range(levels)], [[] for _ in range(levels)])
    for pair in zip(x, y, strict=True):
        pyramids = [_laplacian(image[None].float().cpu(), levels) for image in pair]
        for level, images in enumerate(zip(*pyramids, strict=True)):
            height, width = images[0].shape[-2:]
            top = torch.randint(height - 6, (patches,), generator=rng)
            left = torch.randint(width - 6, (patches,), generator=rng)
            for side, image in zip(sets, images, strict=True):
                windows = image[0].unfold(1, 7, 1).unfold(2, 7, 1)  # (3, H - 6, W - 6, 7, 7)
                side[level].append(windows[:, top, left].transpose(0, 1))
    return tuple([torch.cat(level) for level in side] for side in sets)


def _laplacian(image: Tensor, levels: int) -> list[Tensor]:
    """What each halving loses, and at last what is left."""
    pyramid = []
    for _ in range(levels - 1):
        small = _smooth(image)[..., ::2, ::2]
        wide = torch.zeros_like(image)
        wide[..., ::2, ::2] = small
        pyramid.append(image - 4 * _smooth(wide))
        image = small
    return [*pyramid, image]


def _smooth(x: Tensor) -> Tensor:
    """Binomial 5 x 5 filter of (B, 3, H, W), mirrored at the border."""
    weight = (x.new_tensor([1, 4, 6, 4, 1]) / 16).expand(3, 1, 5)
    x = F.pad(x, (2, 2, 2, 2), "reflect")
    return F.conv2d(F.conv2d(x, weight[..., None], groups=3), weight[:, :, None], groups=3)


def _sliced(p: Tensor, q: Tensor, directions: int, rng: torch.Generator) -> Tensor:
    """1e3 times the mean over random directions of the 1-Wasserstein distance of the projections."""
    mean, std = p.mean((0, 2, 3), keepdim=True), p.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    axes = F.normalize(torch.randn(3 * 7 * 7, directions, generator=rng, dtype=p.dtype), dim=0)
    a, b = (((side - mean) / std).flatten(1) @ axes for side in (p, q))
    return 1e3 * (a.sort(0).values - b.sort(0).values).abs().mean()
