import pytest
import torch
from oracles import f64
from torch import nn

from undrift.classify import NoisyClassifier
from undrift.data.batch import Batch
from undrift.denoiser import GaussianMixture
from undrift.methods import UniformLambda
from undrift.methods.classification import Classification
from undrift.networks.classifier import Classifier
from undrift.process import VE, VP
from undrift.space import Pixels

SHAPE = (1, 4, 4)
PLANE = torch.linspace(-0.35, 0.35, 16, dtype=torch.float64).reshape(SHAPE)
WEIGHTS, MEANS, STD = f64([0.7, 0.3]), torch.stack([PLANE, -PLANE]), 0.5


def exact(process, z, t):
    """p_t(label = 1 | z) of the two components."""
    parts = [GaussianMixture(f64([1.0]), m[None], f64([STD**2]), process) for m in MEANS]
    logs = torch.stack([w.log() + p.log_prob(z, t) for w, p in zip(WEIGHTS, parts, strict=True)])
    return logs.softmax(0)[1]


@pytest.mark.parametrize("process", [VP(), VE(0.01, 10.0)], ids=["VP", "VE"])
def test_learns_the_exact_posterior_of_a_mixture(process):
    """At every noise level p_t(label | z), from the prior at pure noise on, to 0.04 on average; 300 small steps."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    network = Classifier(2, 1, (16, 32), embedding=16)
    classify = NoisyClassifier(network, process, scale=0.55)
    method = Classification(classify, process, Pixels(), UniformLambda(-4.0, 4.0))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    steps = 300
    for step in range(steps):
        label = torch.multinomial(WEIGHTS, 256, replacement=True, generator=generator)
        z0 = MEANS[label] + STD * torch.randn(256, *SHAPE, generator=generator)
        batch = Batch(Pixels().decode(z0).float(), None, {"label": label})
        loss, logs = method.loss("classifier", batch, generator)
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 0.65 < logs["accuracy"] <= 1
    z0 = MEANS[torch.arange(600) % 2] + STD * torch.randn(600, *SHAPE, generator=generator)
    for lam in (-4.0, -1.0, 1.0, 3.0):
        t = process.time(f64(lam))
        z = process.marginal(z0, t, torch.randn(z0.shape, generator=generator, dtype=torch.float64))
        with torch.no_grad():
            found = classify(z.float(), t).softmax(1)[:, 1]
        assert (found - exact(process, z, t)).abs().mean() < 0.04, lam


class Constant(nn.Module):
    def forward(self, z, t):
        return f64([0.0, 1.0, 2.0]).expand(len(z), 3)


def test_the_loss_is_the_cross_entropy_of_known_labels():
    method = Classification(Constant(), VP(), Pixels(), UniformLambda())
    x = torch.rand(4, *SHAPE)
    log_p = f64([0.0, 1.0, 2.0]).log_softmax(0)

    def loss(label):
        return method.loss("classifier", Batch(x, None, {"label": torch.tensor(label)}), torch.Generator())

    value, logs = loss([0, 2, 3, 3])  # 3: the class is not known
    assert value.item() == pytest.approx(-(log_p[0] + log_p[2]).item() / 2)
    assert logs == {"accuracy": 0.5}
    assert loss([3, 3, 3, 3])[0].item() == 0
    with pytest.raises(ValueError, match="needs 'label'"):
        method.loss("classifier", Batch(x), torch.Generator())


def test_time_and_scale_reach_the_network():
    told = {}

    class Spy(nn.Module):
        def forward(self, z, c):
            told.update(z=z, c=c)
            return z.flatten(1)

        def features(self, z, c):
            return 2 * z.flatten(1)

    classify = NoisyClassifier(Spy(), VP(), scale=0.5)
    z, t = torch.randn(3, 2), f64([0.1, 0.5, 0.9])
    alpha, sigma = VP().alpha_sigma(t)
    scaled = z / ((alpha / 2) ** 2 + sigma**2).sqrt()[:, None].float()
    torch.testing.assert_close(classify(z, t), scaled)
    torch.testing.assert_close(classify.features(z, t), 2 * scaled)
    torch.testing.assert_close(told["c"].double(), (sigma / alpha).log(), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"scale = 0\.0"):
        NoisyClassifier(Spy(), VP(), scale=0.0)
