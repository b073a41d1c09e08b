import pytest
import torch
from torch import nn

from undrift.training.average import Average, Exponential, Power


def averaged(decay, values):
    """The average after the source took each of the values."""
    source = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    average = Average(source, decay)
    for value in values:
        source.weight.data.fill_(value)
        average.update()
    return average.module.weight.item()


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_power_weights_are_a_power_of_time(width):
    """w_n ~ n^gamma in the continuum: the standard deviation of n under the weights is `width` of the run."""
    steps, decay = 4000, Power(width)
    weights = torch.ones(steps, dtype=torch.float64)
    for n in range(1, steps + 1):
        beta = decay(n)
        weights[: n - 1] *= beta
        weights[n - 1] = 1 - beta
    n = torch.arange(1, steps + 1, dtype=torch.float64)
    mean = (weights * n).sum()
    assert weights.sum().item() == pytest.approx(1)
    assert ((weights * (n - mean) ** 2).sum().sqrt() / steps).item() == pytest.approx(width, rel=2e-3)
    tail = weights[steps // 2 :] / weights[-1]
    assert torch.allclose(tail, (n[steps // 2 :] / steps) ** decay.gamma, rtol=2e-2)


def test_power_is_karras_gamma():
    """arXiv 2312.02696: sigma_rel 0.05 and 0.10 are gamma 16.97 and 6.94."""
    assert Power(0.05).gamma == pytest.approx(16.97, abs=0.01)
    assert Power(0.10).gamma == pytest.approx(6.94, abs=0.01)


def test_exponential_is_the_geometric_sum():
    values = [1.0, -2.0, 0.5, 3.0, 7.0]
    decay = Exponential(0.9, warmup=0)  # beta_1 = 0, then (n - 1)/n: the plain mean, until 0.9
    assert averaged(decay, values) == pytest.approx(sum(values) / 5)
    long = [float(i % 7) for i in range(60)]
    expected = sum(long[:10]) / 10
    for value in long[10:]:
        expected = 0.9 * expected + 0.1 * value
    assert averaged(decay, long) == pytest.approx(expected)


def test_initial_weights_never_enter_and_integers_are_copied():
    source = nn.BatchNorm1d(2)
    average = Average(source, Power())
    source.weight.data.fill_(4.0)
    source.num_batches_tracked.fill_(9)
    average.update()
    assert torch.equal(average.module.weight, torch.tensor([4.0, 4.0]))
    assert average.module.num_batches_tracked == 9
    assert not average.module.training
    assert not average.module.weight.requires_grad


@pytest.mark.parametrize("make", [lambda: Power(0.3), lambda: Power(0.0), lambda: Exponential(1.0)])
def test_values_outside_the_range_are_refused(make):
    with pytest.raises(ValueError, match="need"):
        make()
