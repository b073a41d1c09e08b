import pytest
import torch
from torch import nn

from undrift.data.batch import Batch
from undrift.denoiser import Denoiser, GaussianMixture
from undrift.methods import Balanced, Plain, Raw, ScoreMatching, UniformLambda
from undrift.metrics import haarpsi
from undrift.prediction import Data, Velocity
from undrift.process import VP, MeanReverting
from undrift.space import Residual


class Affine(nn.Module):
    """F = a(c) z + b(c): the family that holds the exact denoiser of a Gaussian."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 2))

    def forward(self, z, c, **cond):
        a, b = self.net(c[:, None] / 4).unbind(1)
        return a[:, None, None, None] * z + b[:, None, None, None]


@pytest.mark.parametrize(
    ("process", "prediction", "weighting"),
    [
        (MeanReverting(lam=0.5), Data(), Plain()),
        (MeanReverting(lam=0.5), Velocity(0.4), Raw(Velocity(0.4))),
        (VP(), Velocity(0.4), Balanced(1e-5)),
    ],
    ids=["data, plain", "velocity, raw", "velocity, balanced"],
)
def test_learns_the_exact_denoiser_of_a_gaussian(process, prediction, weighting):
    """x - y ~ N(0.3, 0.4^2): E[z_0 | z_t] is known, and is learnt to 8 % of the data's deviation.

    Under `Balanced` too: around a posterior that is symmetric, its optimum is the mean itself.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    denoiser = Denoiser(Affine(), process, prediction, scale=0.4)
    method = ScoreMatching(denoiser, process, Residual(), UniformLambda(), weighting)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    steps = 800
    for step in range(steps):
        # the pixels of a sample share one time, as in an image
        y = torch.rand(64, 1, 1, 16, generator=generator)
        x = y + 0.3 + 0.4 * torch.randn(y.shape, generator=generator)
        loss, logs = method.loss("denoiser", Batch(x, y, {"image": y}), generator)
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logs["mse"] < 0.4**2
    one = torch.ones(1)
    exact = GaussianMixture(one, 0.3 * torch.ones(1, 1, 1, 1), 0.16 * one, process)
    t = process.time(torch.linspace(-3, 4, 15, dtype=torch.float64))
    alpha, sigma = (c.reshape(-1, 1, 1, 1) for c in process.alpha_sigma(t))
    spread = ((0.4 * alpha) ** 2 + sigma**2).sqrt()
    z = (0.3 * alpha + spread * torch.tensor([-1.0, 0.0, 1.0])).float()
    with torch.no_grad():
        assert (denoiser(z, t) - exact(z, t)).square().mean().sqrt() < 0.08 * 0.4


def test_randomness_is_the_generators_alone():
    process = MeanReverting()
    method = ScoreMatching(Denoiser(Affine(), process, Data()), process, Residual(), UniformLambda(), Plain())
    batch = Batch(torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4))
    first, again, other = (
        method.loss("denoiser", batch, torch.Generator().manual_seed(s))[0].item() for s in (5, 5, 6)
    )
    assert first == again != other
    assert method.phases == ("denoiser",)


def test_the_perceptual_term_is_the_dissimilarity_of_the_estimated_image():
    """Exact where the estimate is: and for another, the loss without it plus weight times 1 - HaarPSI of the images."""
    generator = torch.Generator().manual_seed(2)
    y, x = torch.rand(2, 3, 3, 24, 24, generator=generator).unbind(0)
    batch = Batch(x, y, {})
    process, space = MeanReverting(lam=0.5), Residual()

    class Off(nn.Module):
        by = 0.0

        def forward(self, z, t, **cond):
            return space.encode(x, y) + self.by

    for by, unlike in ((0.0, 0.0), (0.2, (1 - haarpsi(x, x + 0.2)).mean().item())):
        denoiser = Off()
        denoiser.by = by
        losses = []
        for weight in (0.0, 3.0):
            method = ScoreMatching(denoiser, process, space, UniformLambda(), Plain(), weight)
            loss, logs = method.loss("denoiser", batch, torch.Generator().manual_seed(3))
            losses.append(loss.item())
        assert logs["unlike"] == pytest.approx(unlike, abs=1e-6)
        assert losses[1] - losses[0] == pytest.approx(3 * unlike, abs=1e-5)
    assert unlike > 0.01


def test_the_perceptual_term_is_borne_by_the_named_labels_alone():
    generator = torch.Generator().manual_seed(5)
    y, x = torch.rand(2, 3, 3, 24, 24, generator=generator).unbind(0)
    process, space = MeanReverting(lam=0.5), Residual()

    class Off(nn.Module):
        def forward(self, z, t, **cond):
            return space.encode(x, y) + 0.2

    def term(labels, label):
        losses = []
        for weight in (0.0, 3.0):
            method = ScoreMatching(Off(), process, space, UniformLambda(), Plain(), weight, labels)
            batch = Batch(x, y, {"label": torch.tensor(label)})
            losses.append(method.loss("denoiser", batch, torch.Generator().manual_seed(3))[0].item())
        return losses[1] - losses[0]

    unlike = (1 - haarpsi(x, x + 0.2)).tolist()
    assert term((4,), [4, 0, 10]) == pytest.approx(3 * unlike[0] / 3, abs=1e-5)
    assert term((4, 0), [4, 0, 10]) == pytest.approx(3 * (unlike[0] + unlike[1]) / 3, abs=1e-5)
    assert term((4,), [1, 0, 10]) == 0
    with pytest.raises(ValueError, match=r"perceptual_labels without labels"):
        ScoreMatching(Off(), process, space, UniformLambda(), Plain(), 1.0, (4,)).loss(
            "denoiser", Batch(x, y), torch.Generator()
        )


def test_the_perceptual_term_makes_estimates_sharper():
    """Its gradient leads where HaarPSI rises."""
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(2, 3, 32, 32, generator=generator)
    guess = (0.5 + 0.3 * (x - 0.5)).requires_grad_()
    before = haarpsi(x, guess).mean()
    (slope,) = torch.autograd.grad(before, guess)
    assert haarpsi(x, guess + 0.02 * slope / slope.abs().max()).mean() > before


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_perceptual_weight_is_not_negative(weight):
    with pytest.raises(ValueError, match=r"perceptual = .*: need a number >= 0"):
        ScoreMatching(nn.Identity(), VP(), Residual(), UniformLambda(), Plain(), weight)
