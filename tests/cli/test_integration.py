from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

import undrift
from undrift.cli.integration import watch
from undrift.likelihood import image_likelihood
from undrift.networks import UNet
from undrift.noise import PerSample
from undrift.solvers import DormandPrince


def test_the_bar_moves_within_a_batch_and_ends_at_the_images():
    torch.manual_seed(0)
    network = UNet((8, 8), (1, 1), in_channels=1, cond_channels=0, embedding=8)
    denoiser = undrift.Denoiser(network, undrift.VP(), undrift.prediction.velocity(0.5), scale=0.5)
    bar, places = SimpleNamespace(n=0.0, disable=False), []

    def update(step):
        bar.n += step
        places.append(bar.n)

    bar.update = update
    watch(bar, denoiser, draws=2)
    images = torch.randint(256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(1)) / 255
    calls = 0
    for first in (0, 3):
        x = images[first : first + 3]
        found = image_likelihood(
            denoiser, denoiser.process, undrift.Pixels(), x, draws=2, probes=1,
            solver=DormandPrince(1e-2, 1e-2), noise=PerSample(range(len(x))),
        )  # fmt: skip
        assert bar.n == pytest.approx(first + len(x))
        calls += int(found.evaluations.max())
    assert places == sorted(places)
    assert len(places) > calls / 3  # it moves with most evaluations
    assert max(b - a for a, b in pairwise(places)) < 2
