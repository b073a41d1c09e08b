"""Degrade a photograph, restore it with the bundled model, and draw several plausible originals.

python examples/restore_photograph.py PHOTOGRAPH [TASK]
"""

import sys
from pathlib import Path

import torch

from undrift import load
from undrift.data import read, write
from undrift.degradations import TASKS
from undrift.metrics import haarpsi, psnr
from undrift.restoration import restore


def main(path: str, task: str = "rainy") -> None:
    denoiser, space = load("universal")
    photo = read(path)
    degraded = TASKS[task](photo.pixels, torch.Generator().manual_seed(0))
    for name, result in {
        "8 evaluations": restore(denoiser, space, degraded, steps=8),
        "mean of 8 samples": restore(denoiser, space, degraded, steps=8, samples=8),
    }.items():
        pair = result.image[None], photo.pixels[None]
        print(f"{task}, {name}: PSNR {psnr(*pair).item():.2f} dB, HaarPSI {haarpsi(*pair).item():.3f}")
    out = Path(path).stem
    write(f"{out}.{task}.png", degraded)
    write(f"{out}.restored.png", restore(denoiser, space, degraded).image)


if __name__ == "__main__":
    main(*sys.argv[1:])
