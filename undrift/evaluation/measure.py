"""Numbers: one setting on the pairs of one task, which stream through in batches.

Of the set, no more is held than the outputs and their references, in 8 bits, which the set distances need.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .. import metrics
from ..data import Pair, generator
from ..denoiser import Denoiser
from ..metrics import Extractor
from ..restoration import moments
from ..space import Space
from .settings import Setting, drawn

__all__ = ["PROTOCOLS", "Found", "Measures", "assess"]

LUMA = metrics.Protocol("y")
PROTOCOLS: dict[str, str] = {
    "psnr": metrics.PROTOCOLS["psnr"],
    "ssim": metrics.PROTOCOLS["ssim"],
    "psnr_y": f"PSNR [dB] {LUMA}, BT.601 studio-range luma, higher is better",
    "ssim_y": f"SSIM {LUMA}, BT.601 studio-range luma, higher is better",
    "haarpsi": metrics.PROTOCOLS["haarpsi"],
    "swd": metrics.PROTOCOLS["swd"] + "; uint8, per task over all its photographs",
    "lpips": metrics.PROTOCOLS["lpips"],
    "fid": metrics.PROTOCOLS["fid"] + "; per task over all its photographs",
    "brightness": "brightness, mean of the output / mean of the clean photograph, 1 is right",
    "spread": "spread, standard deviation of the samples of a photograph, root mean square of its values, of 255",
    "seconds": "seconds, wall-clock per photograph of all its samples, without reading and measuring",
}


@final
class Measures:
    """What is measured, pair by pair and over the set.

    Arguments:
        lpips: the network, if wanted.
        extractor: the features of FID, if wanted.
        spread: that of samples, where a setting has several.
    """

    def __init__(
        self, lpips: metrics.Lpips | None = None, extractor: Extractor | None = None, spread: bool = False
    ) -> None:
        self.lpips, self.extractor, self.spread = lpips, extractor, spread

    @property
    def protocols(self) -> dict[str, str]:
        wanted = {"lpips": self.lpips is not None, "fid": self.extractor is not None, "spread": self.spread}
        left_out = {name for name, yes in wanted.items() if not yes}
        return {name: text for name, text in PROTOCOLS.items() if name not in left_out}

    def pairwise(self, x: Tensor, out: Tensor) -> dict[str, Tensor]:
        """Of clean x and output (B, 3, H, W) in [0, 1]: measure -> (B,)."""
        found = {
            "psnr": metrics.psnr(x, out),
            "ssim": metrics.ssim(x, out),
            "psnr_y": metrics.psnr(x, out, LUMA),
            "ssim_y": metrics.ssim(x, out, LUMA),
            "haarpsi": metrics.haarpsi(x, out),
            "brightness": out.double().mean((1, 2, 3)) / x.double().mean((1, 2, 3)).clamp_min(1e-6),
        }
        if self.lpips is not None:
            with torch.no_grad():
                found["lpips"] = self.lpips(x, out)
        return found

    def over_set(self, x: Sequence[Tensor], out: Sequence[Tensor]) -> dict[str, float]:
        """Of clean and output photographs, uint8 (3, H, W)."""
        found = {"swd": metrics.swd(_light(x), _light(out)).mean().item()}
        if self.extractor is not None:
            fid = metrics.Fid(self.extractor)
            for a, b in zip(_light(x), _light(out), strict=True):
                fid.update(a[None], b[None])
            found["fid"] = fid.compute().item()
        return found


def _light(images: Iterable[Tensor]) -> Iterator[Tensor]:
    return (image.float() / 255 for image in images)


def _bytes(images: Tensor) -> Iterator[Tensor]:
    return iter(images.clamp(0, 1).mul(255).round().byte())


@final
@dataclass(frozen=True)
class Found:
    """What came of one setting on one task.

    Arguments:
        values: measure -> mean over the photographs, and "images", "evaluations" per photograph, "seconds".
        first: the first output (3, H, W), to look at.
        pair: what it belongs to.
    """

    values: dict[str, float]
    first: Tensor
    pair: Pair


def assess(
    denoiser: Denoiser,
    space: Space,
    pairs: Iterable[Pair],
    setting: Setting,
    *,
    measures: Measures | None = None,
    batch: int = 8,
    seed: int = 0,
) -> Found:
    """Restore all pairs of a task under one setting, and measure.

    Arguments:
        batch: photographs of equal size restored together; moves no number but the seconds.
        seed: of the noise; sample k of photograph i draws from (seed, i, k), whatever the setting and task.

    Raises ValueError without pairs, and for photographs too small to be measured.
    """
    if batch < 1:
        raise ValueError(f"batch = {batch}: need at least 1")
    measures = measures or Measures()
    values: dict[str, list[float]] = defaultdict(list)
    sets: tuple[list[Tensor], list[Tensor]] = ([], [])
    seconds, first = 0.0, None
    for start, group in _groups(pairs, batch):
        x, y = torch.stack([pair.x for pair in group]), torch.stack([pair.y for pair in group])
        seeds = [[_seed(seed, start + i, k) for i in range(len(group))] for k in range(setting.samples)]
        began = time.perf_counter()
        out, variance = moments(drawn(denoiser, space, y, setting, seeds, group[0].task))
        seconds += time.perf_counter() - began
        first = first or (out[0].clone(), group[0])
        for name, found in measures.pairwise(x, out).items():
            values[name] += found.tolist()
        if variance is not None:
            values["spread"] += (255 * variance.mean((1, 2, 3)).sqrt()).tolist()
        for side, images in zip(sets, (x, out), strict=True):
            side.extend(_bytes(images))
    if first is None:
        raise ValueError("a task without photographs")
    count = len(sets[0])
    means = {name: sum(each) / count for name, each in values.items()} | measures.over_set(*sets)
    work = {"images": count, "evaluations": setting.evaluations * setting.samples, "seconds": seconds / count}
    return Found({name: means[name] for name in measures.protocols if name in means} | work, *first)


def _groups(pairs: Iterable[Pair], batch: int) -> Iterator[tuple[int, list[Pair]]]:
    """Neighbours of equal size, at most `batch`, with the index of the first."""
    start, group = 0, list[Pair]()
    for pair in pairs:
        if group and (len(group) == batch or pair.x.shape != group[0].x.shape):
            yield start, group
            start, group = start + len(group), []
        group.append(pair)
    if group:
        yield start, group


def _seed(seed: int, index: int, sample: int) -> int:
    return generator("noise", seed, index, sample).initial_seed()
