"""Unique identifiability: two networks that learnt the same data encode it alike, whatever they look like inside.

The probability-flow ODE has no parameters of its own, so a code is a function of the data's law alone (Score-Based
Generative Modeling through SDEs, Song et al. 2021, arXiv 2011.13456, section 4.3). Two networks of different width,
depth and parameterisation learn a mixture; the correlation of their codes is printed, over the dimensions, with that to
the codes of the exact score, and to those of a network that learnt other data.

    python examples/identifiability.py
"""

import os
from itertools import pairwise

import torch
from torch import Tensor, nn

from undrift import VP, Denoiser, GaussianMixture, prediction
from undrift.data import Batch
from undrift.latent import encode
from undrift.methods import Plain, ScoreMatching, UniformTime
from undrift.solvers.adaptive import DormandPrince
from undrift.space import Pixels

DIMS = 4


class Net(nn.Module):
    """F(z, c) for vectors."""

    def __init__(self, width: int, depth: int, activation: type[nn.Module]) -> None:
        super().__init__()
        sizes = [DIMS + 1, *[width] * depth]
        pairs = pairwise(sizes)
        hidden = [layer for a, b in pairs for layer in (nn.Linear(a, b), activation())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, DIMS))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.layers(torch.cat([z, c[:, None]], 1))


def data(process: VP, seed: int) -> GaussianMixture:
    means = torch.randn(3, DIMS, generator=torch.Generator().manual_seed(seed))
    return GaussianMixture(torch.tensor([0.3, 0.4, 0.3]), means, torch.tensor([0.2, 0.1, 0.3]), process)


def trained(net: Net, meaning: prediction.Prediction, law: GaussianMixture, process: VP, steps: int) -> Denoiser:
    denoiser = Denoiser(net, process, meaning)
    method = ScoreMatching(denoiser, process, Pixels(), UniformTime(), Plain())
    optimizer = torch.optim.Adam(denoiser.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x = (law.draw(512, generator).float() + 1) / 2  # Pixels expects images in [0, 1]: z = 2 x - 1
        loss, _ = method.loss("denoiser", Batch(x), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return denoiser


def correlation(a: Tensor, b: Tensor) -> str:
    """Of two sets of codes (B, D), for each dimension."""
    found = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(a.T.double(), b.T.double(), strict=True)]
    return f"mean {sum(found) / len(found):.3f}, least {min(found):.3f}"


def main() -> None:
    steps = 150 if os.environ.get("UNDRIFT_QUICK") else 2000
    process = VP(t_min=1e-3)
    law, other = data(process, 0), data(process, 1)
    torch.manual_seed(0)
    wide = trained(Net(128, 2, nn.SiLU), prediction.velocity(1.0), law, process, steps)
    deep = trained(Net(64, 4, nn.GELU), prediction.data, law, process, steps)
    stranger = trained(Net(128, 2, nn.SiLU), prediction.velocity(1.0), other, process, steps)
    z0 = law.draw(500, torch.Generator().manual_seed(1)).float()
    solver = DormandPrince(1e-4, 1e-4)
    codes = {name: encode(model, process, z0, solver=solver)
             for name, model in (("wide", wide), ("deep", deep), ("stranger", stranger), ("exact", law))}  # fmt: skip
    print(f"correlation of the codes of 500 points, {steps} steps of training")
    print(f"  two networks, same data    {correlation(codes['wide'], codes['deep'])}")
    print(f"  first network, exact score {correlation(codes['wide'], codes['exact'])}")
    print(f"  two networks, other data   {correlation(codes['wide'], codes['stranger'])}")


if __name__ == "__main__":
    main()
