"""A process of one's own, in ten lines outside the package: every solver, training and sampling take it as it is.

Prints the error of each solver against the exact flow of a mixture, then trains a small network on that mixture and
prints how well its samples match.

    python examples/new_process.py
"""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from undrift import (
    Ancestral,
    Denoiser,
    EulerMaruyama,
    Exponential,
    Gaussian,
    GaussianMixture,
    Heun,
    Process,
    ReverseDiffusion,
    Solver,
    times,
    trajectory,
)  # fmt: skip
from undrift.data import Batch
from undrift.denoiser import Denoise
from undrift.methods import Plain, ScoreMatching, UniformTime
from undrift.prediction import data
from undrift.space import Pixels


@dataclass(frozen=True)
class Cosine(Process):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2)."""

    t_min: float = 0.01
    t_max: float = 0.99

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cos(torch.pi / 2 * t), torch.sin(torch.pi / 2 * t)


def run(denoise: Denoise, process: Process, solver: Solver, steps: int, z: Tensor) -> Tensor:
    noise = Gaussian(torch.Generator().manual_seed(0))
    *_, end = trajectory(denoise, process, z, times.uniform_lambda(process, steps), solver, noise)
    return end


class Net(nn.Module):
    """F(z, c) for scalars."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.layers(torch.cat([z, c[:, None]], 1))


def main() -> None:
    quick = bool(os.environ.get("UNDRIFT_QUICK"))
    process = Cosine()
    mixture = GaussianMixture(
        torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [0.6]]), torch.tensor([[0.04], [0.09]]), process
    )
    z = torch.linspace(-2, 2, 101, dtype=torch.float64)[:, None]
    truth = run(mixture, process, Exponential(3, corrector=True), 1000, z)
    print("deterministic solvers, 20 steps: root mean square distance to the exact flow")
    for solver in (Exponential(1), Exponential(2), Exponential(3), Exponential(2, corrector=True), Heun()):
        print(f"  {(run(mixture, process, solver, 20, z) - truth).square().mean().sqrt():.1e}  {solver}")

    start = torch.randn(4000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = mixture.draw(100_000, torch.Generator().manual_seed(2))
    print(f"stochastic solvers, 100 steps: mean and std (exact {wanted.mean():.3f} and {wanted.std():.3f})")
    for solver in (Exponential(2, tau=1.0), EulerMaruyama(), ReverseDiffusion(), Ancestral()):
        x = run(mixture, process, solver, 100, start)
        print(f"  {x.mean():.3f} {x.std():.3f}  {solver}")

    torch.manual_seed(0)
    denoiser = Denoiser(Net(), process, data, scale=0.8)
    method = ScoreMatching(denoiser, process, Pixels(), UniformTime(), Plain())
    optimizer = torch.optim.Adam(denoiser.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(3)
    for _ in range(100 if quick else 1500):
        x = (mixture.draw(512, generator).float() + 1) / 2  # Pixels expects images in [0, 1]: z = 2 x - 1
        loss, _ = method.loss("denoiser", Batch(x), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        x = run(denoiser, process, Exponential(2), 20, start.float())
    print(f"a network trained on it, 20 steps: mean {x.mean():.3f}, std {x.std():.3f}")


if __name__ == "__main__":
    main()
