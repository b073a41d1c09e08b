"""Losses of critics against their optima: the best critic of two laws on a few points is known in closed form."""

import math

import pytest
import torch

from undrift.methods.adversarial import Hinge, LeastSquares, NonSaturating, r1

# Two laws on four points, in eighths: with each point repeated as often, a mean over samples is an expectation.
P, Q = torch.tensor([4, 2, 1, 1]), torch.tensor([1, 1, 2, 4])
p, q = P.double() / 8, Q.double() / 8
HALF = (p + q) / 2
JS = 0.5 * (p * (p / HALF).log()).sum() + 0.5 * (q * (q / HALF).log()).sum()
BEST = {  # D and the loss there
    Hinge(): ((p - q).sign(), 2 - (p - q).abs().sum()),
    LeastSquares(): (p / (p + q), 0.5 * (p * q / (p + q)).sum()),
    NonSaturating(): ((p / q).log(), 2 * math.log(2) - 2 * JS),
}
losses = pytest.mark.parametrize("loss", list(BEST), ids=lambda loss: type(loss).__name__)


def of_critic(loss, table):
    return loss.critic(table.repeat_interleave(P), table.repeat_interleave(Q))


@losses
def test_the_best_critic_is_the_known_one(loss):
    best, value = BEST[loss]
    assert torch.allclose(of_critic(loss, best), value, rtol=0, atol=1e-12)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 0.1, 1.0, 5.0):  # convex: no better anywhere means none near and none far
        for _ in range(20):
            other = best + size * torch.randn(4, generator=generator, dtype=torch.float64)
            assert of_critic(loss, other) >= value - 1e-12


@losses
def test_of_equal_laws_the_best_critic_does_not_know(loss):
    logits = torch.full((8, 3), loss.middle, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss.critic(logits, logits), logits)
    assert not slope.any()
    assert loss.critic(logits, logits).item() == pytest.approx({0.5: 0.25}.get(
        loss.middle, 2 if loss == Hinge() else 2 * math.log(2)))  # fmt: skip


@losses
def test_the_student_wants_to_look_real_and_is_told_fully_at_chance(loss):
    fake = torch.full((5, 2), loss.middle, requires_grad=True)
    (slope,) = torch.autograd.grad(loss.student(fake), fake)
    assert torch.allclose(slope, torch.full_like(fake, -(1.0 if loss == Hinge() else 0.5) / 10))
    assert loss.student(fake + 0.1) < loss.student(fake)


@losses
def test_half_precision_is_widened_and_double_kept(loss):
    real, fake = 3 * torch.randn(2, 4, 100)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss.critic(real.bfloat16(), fake.bfloat16()), loss.student(fake.bfloat16())
    real, fake = real.bfloat16().double(), fake.bfloat16().double()
    for half, full in zip(found, (loss.critic(real, fake), loss.student(fake)), strict=True):
        assert half.dtype == torch.float32
        assert full.dtype == torch.float64
        assert torch.allclose(half.double(), full, rtol=1e-5, atol=1e-6)
    assert math.isfinite(loss.critic(torch.full((4,), 6e4).half(), torch.full((4,), -6e4).half()))


@losses
def test_accuracy_counts_verdicts(loss):
    real = torch.tensor([1.0, 1.0, 1.0, -1.0]) + loss.middle
    assert loss.accuracy(real, -torch.ones(2) + loss.middle) == pytest.approx((0.75 + 1) / 2)
    assert loss.accuracy(torch.zeros(3) + 9, torch.zeros(3) + 9) == 0.5


@pytest.mark.parametrize("positions", [1, 6])
def test_r1_of_a_linear_critic_is_the_square_of_its_weights(positions):
    w = torch.randn(positions, 12, dtype=torch.float64, requires_grad=True)
    z = torch.randn(7, 3, 2, 2, dtype=torch.float64)
    mean = w.mean(0)
    penalty = r1(lambda z, c, gain: gain * z.flatten(1) @ w.T, z, torch.zeros(7), gain=2.0)
    assert torch.allclose(penalty, 4 * mean.square().sum(), rtol=1e-12)
    (slope,) = torch.autograd.grad(penalty, w)
    assert torch.allclose(slope, (8 * mean / positions).expand_as(w), rtol=1e-12)


def test_r1_of_a_quadratic_critic_is_the_mean_over_samples():
    a = torch.randn(5, 5, dtype=torch.float64)
    z = torch.randn(9, 5, dtype=torch.float64)
    penalty = r1(lambda z, c: 0.5 * (z @ (a + a.T) * z).sum(1, keepdim=True), z, torch.zeros(9))
    assert torch.allclose(penalty, (z @ (a + a.T)).square().sum(1).mean(), rtol=1e-12)
    assert not z.requires_grad
