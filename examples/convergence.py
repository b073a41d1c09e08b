"""Measured orders of convergence on an exact mixture, for every process: a table and a picture.

python examples/convergence.py [FILE.png]
"""

import os
import sys
from math import log2
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from undrift import (
    EDM,
    VE,
    VP,
    Exponential,
    Flow,
    GaussianMixture,
    Heun,
    MeanReverting,
    Process,
    Replay,
    Solver,
    SubVP,
    trajectory,
)  # fmt: skip

SOLVERS = {
    "order 1": Exponential(1),
    "order 2": Exponential(2),
    "order 3": Exponential(3),
    "order 3, published weight": Exponential(3, weights="published"),
    "order 1, corrector": Exponential(1, corrector=True),
    "order 2, corrector": Exponential(2, corrector=True),
    "order 3, corrector": Exponential(3, corrector=True),
    "Heun": Heun(),
}


def errors(process: Process, counts: list[int], reference: int) -> dict[str, list[float]]:
    """Root mean square distance to the exact flow, lambda from -4 (or the noise end) to 3, per solver and count."""
    mixture = GaussianMixture(
        torch.tensor([0.3, 0.5, 0.2]), torch.tensor([[-1.0], [0.4], [1.0]]), torch.tensor([0.05, 0.1, 0.02]), process
    )
    ends = process.half_log_snr(torch.tensor([process.t_max, process.t_min], dtype=torch.float64)).tolist()
    low, high = max(ends[0] + 0.01, -4.0), min(ends[1], 3.0)
    sigma = process.alpha_sigma(process.time(torch.tensor(low, dtype=torch.float64)))[1]
    z = sigma * torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]

    def end(solver: Solver, steps: int) -> Tensor:
        grid = process.time(torch.linspace(low, high, steps + 1, dtype=torch.float64))
        *_, state = trajectory(mixture, process, z, grid, solver, Replay([]))
        return state

    truth = end(SOLVERS["order 3, corrector"], reference)
    return {
        name: [(end(solver, n) - truth).square().mean().sqrt().item() for n in counts]
        for name, solver in SOLVERS.items()
    }


def draw(curves: dict[str, list[float]], counts: list[int], path: Path) -> None:
    """Error against number of steps, both on logarithmic axes."""
    width, height, left, top = 900, 560, 80, 30
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    exponents = range(-9, 1)

    def at(n: int, error: float) -> tuple[float, float]:
        across = log2(n / counts[0]) / log2(counts[-1] / counts[0])
        up = (torch.log10(torch.tensor(error)).item() + 9) / 9
        return left + across * (width - left - 290), top + (1 - up) * (height - top - 60)

    for e in exponents:
        x, y = at(counts[0], 10.0**e)
        pen.line([(x, y), (at(counts[-1], 1)[0], y)], fill="#e4e4e4")
        pen.text((20, y - 6), f"1e{e}", fill="#555555")
    for n in counts:
        pen.text((at(n, 1e-9)[0] - 8, height - 50), str(n), fill="#555555")
    pen.text((left + 180, height - 28), "network evaluations (Heun: steps)", fill="#555555")
    colours = ("#4477aa", "#228833", "#aa3377", "#dd99bb", "#66ccee", "#99cc66", "#ee6677", "#999999")
    for row, ((name, values), colour) in enumerate(zip(curves.items(), colours, strict=True)):
        points = [at(n, max(v, 1e-9)) for n, v in zip(counts, values, strict=True)]
        pen.line(points, fill=colour, width=3)
        slope = log2(values[-2] / values[-1])
        pen.rectangle([(width - 275, top + 26 * row + 4), (width - 255, top + 26 * row + 8)], fill=colour)
        pen.text((width - 245, top + 26 * row), f"{name}: slope {slope:.2f}", fill="#222222")
    picture.save(path)


def main() -> None:
    quick = bool(os.environ.get("UNDRIFT_QUICK"))
    counts = [20, 40, 80] if quick else [10, 20, 40, 80, 160, 320]
    processes = [MeanReverting()] if quick else [VE(), VP(), SubVP(), EDM(), Flow(), MeanReverting()]
    print(f"measured order between {counts[-2]} and {counts[-1]} steps")
    print(f"{'':28s}" + "".join(f"{type(p).__name__:>14s}" for p in processes))
    curves = [errors(process, counts, 400 if quick else 5000) for process in processes]
    for name in SOLVERS:
        print(f"{name:28s}" + "".join(f"{log2(c[name][-2] / c[name][-1]):14.2f}" for c in curves))
    if len(sys.argv) > 1:
        draw(curves[-1], counts, Path(sys.argv[1]))
        print(f"picture: {sys.argv[1]} ({type(processes[-1]).__name__})")


if __name__ == "__main__":
    main()
