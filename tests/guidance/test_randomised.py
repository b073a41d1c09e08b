"""A student with a noise input gets standard normals, new at each evaluation, of the sample's own seed."""

import pytest
import torch
from torch import nn

from undrift import VP, Denoiser, Pixels, prediction
from undrift.generation import generate
from undrift.guidance import Randomised, randomised
from undrift.noise import PerSample

SHAPE = (1, 4, 4)


class Echo(nn.Module):
    """An estimate of z_0 that is the noise itself."""

    noise_channels = 1

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, z, c, noise):
        self.seen.append(noise)
        return noise


def echo():
    return Denoiser(Echo(), VP(), prediction.Data(), scale=None)


def images(denoiser, seeds, **options):
    return torch.cat(list(generate(denoiser, denoiser.process, Pixels(), shape=SHAPE, seeds=seeds, **options)))


def test_one_jump_is_the_second_draw_of_the_seed():
    """The first draw is the start. The last step leads to the estimate itself."""
    found = images(echo(), [5, 9], steps=1, solver="consistency")
    for image, seed in zip(found, (5, 9), strict=True):
        random = torch.Generator().manual_seed(seed)
        _, xi = (torch.randn(SHAPE, generator=random) for _ in range(2))
        torch.testing.assert_close(image, ((xi + 1) / 2).clamp(0, 1), atol=1e-3, rtol=0)


def test_fresh_at_each_evaluation_and_independent_of_the_batch():
    denoiser = echo()
    together = images(denoiser, range(40), steps=3, solver="consistency")
    first, second, third = denoiser.network.seen
    for a, b in ((first, second), (second, third)):
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].abs() < 4 / first.numel() ** 0.5
    assert first.std().item() == pytest.approx(1, abs=4 / (2 * first.numel()) ** 0.5)
    assert torch.equal(together[7], images(echo(), [7], steps=3, solver="consistency")[0])


def test_without_a_noise_input_nothing_changes():
    def denoise(z, t):
        return z

    assert randomised(denoise, PerSample([0]), 0) is denoise
    with pytest.raises(ValueError, match="channels = 0"):
        Randomised(denoise, PerSample([0]), 0)
