import math

import pytest
import torch

from undrift.methods import LogNormal, UniformIndex, UniformLambda, UniformTime
from undrift.process import EDM, VE, VP, Flow, MeanReverting

PROCESSES = [VE(), VP(), EDM(), Flow(), MeanReverting()]
DENSITIES = [UniformTime(), UniformLambda(), LogNormal()]


def draws(density, process, count=7, rounds=400):
    generator = torch.Generator().manual_seed(0)
    return torch.cat([density(process, count, generator) for _ in range(rounds)])


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("density", DENSITIES, ids=lambda d: type(d).__name__)
def test_times_are_float64_within_the_process(density, process):
    t = draws(density, process)
    assert t.dtype == torch.float64
    assert process.t_min <= t.min()
    assert t.max() <= process.t_max


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_uniform_lambda_has_uniform_quantiles(process):
    ends = process.half_log_snr(torch.tensor([process.t_max, process.t_min], dtype=torch.float64)).clamp(-10, 10)
    lam = process.half_log_snr(draws(UniformLambda(), process).clamp(max=process.t_max - 1e-12))
    share = (lam.sort().values - ends[0]) / (ends[1] - ends[0])
    assert (share - torch.linspace(0, 1, len(share))).abs().max() < 0.01


def test_log_normal_is_edms():
    """Of EDM's own 0.002..80 only 1e-4 of the law is cut off: mean and deviation of log sigma remain."""
    log_sigma = draws(LogNormal(-1.2, 1.2), EDM()).log()
    assert log_sigma.mean().item() == pytest.approx(-1.2, abs=0.02)
    assert log_sigma.std().item() == pytest.approx(1.2, abs=0.02)


def test_one_batch_is_stratified():
    t = UniformTime()(Flow(), 10, torch.Generator().manual_seed(3)).sort().values
    assert torch.allclose(t.diff(), torch.full((9,), (1 - 1e-3) / 10, dtype=torch.float64))


def test_a_range_that_the_process_lacks_is_named():
    with pytest.raises(ValueError, match=r"no lambda in \[8.0, 9.0\]"):
        UniformLambda(8.0, 9.0)(MeanReverting(), 4, torch.Generator())
    assert math.isfinite(LogNormal().std)


def test_uniform_index_draws_each_level_alike():
    t = draws(UniformIndex(5), Flow(), count=5, rounds=50)
    levels, counts = t.unique(return_counts=True)
    assert torch.allclose(levels, torch.linspace(1e-3, 1.0, 5, dtype=torch.float64), atol=1e-15)
    assert (counts == 50).all()  # stratified: one of each in every batch of five


def test_one_level_is_refused():
    with pytest.raises(ValueError, match="count = 1"):
        UniformIndex(1)
