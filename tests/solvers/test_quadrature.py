"""Moments and weights against 150-digit decimal arithmetic."""

from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import combinations

import pytest
import torch
from oracles import f64

from undrift.solvers.quadrature import lagrange_weights, moments

RATES = [
    *(sign * value for value in (1e-12, 1e-6, 1e-3, 0.1, 0.5, 1.0, 1.5, 1.9, 1.9999, 1.99999999) for sign in (1, -1)),
    *(sign * value for value in (2.0, 2.00000001, 2.0001, 2.1, 2.5, 3.0, 5.0, 8.0, 13.0, 50.0) for sign in (1, -1)),
]


def reference(r: float, count: int) -> list[float]:
    """The recursion M_k = 1 - k M_{k-1} / r, with so many digits that its cancellation does not matter."""
    with localcontext() as context:
        context.prec = 150
        x = Decimal(r)
        m = [1 - (-x).exp()]
        for k in range(1, count):
            m.append(1 - k * m[-1] / x)
        return [float(value) for value in m]


@pytest.mark.parametrize("r", RATES)
def test_moments(r):
    torch.testing.assert_close(moments(f64(r), 3), f64(reference(r, 3)), rtol=1e-13, atol=0)


def test_moments_at_the_limits():
    assert moments(f64(0.0), 3).tolist() == [0, 0, 0]
    assert moments(f64(torch.inf), 3).tolist() == [1, 1, 1]


def test_moments_are_vectorised():
    r = f64(RATES).reshape(2, -1)
    torch.testing.assert_close(moments(r, 3)[1, 4], moments(r[1, 4], 3), rtol=0, atol=0)


@pytest.mark.parametrize("r", [-8.0, -1.0, 1e-5, 0.3, 1.999, 2.001, 6.0])
@pytest.mark.parametrize("nodes", [(0.0,), (0.0, -1.0), (0.0, -0.3, -1.7), (0.0, -3.0, -3.1), (1.0, 0.0, -1.0)])
def test_weights_integrate_polynomials_exactly(r, nodes):
    """sum_j w_j u_j^k = M_k for every power that the nodes can tell apart."""
    w = lagrange_weights(f64(nodes), f64(r))
    found = [float((w * f64(nodes) ** k).sum()) for k in range(len(nodes))]
    assert found == pytest.approx(reference(r, len(nodes)), rel=1e-11)


@pytest.mark.parametrize("r", [-2.0, 0.7, 4.0])
def test_weights_are_integrals_of_lagrange_polynomials(r):
    """Each weight by itself, the polynomial multiplied out in fractions."""
    nodes = (Fraction(1), Fraction(0), Fraction(-3, 4), Fraction(-2))
    m = reference(r, 4)
    for j, u in enumerate(nodes):
        others = [v for i, v in enumerate(nodes) if i != j]
        expected = 0.0
        for power in range(4):
            roots = combinations(others, 3 - power)
            coefficient = sum(_product(-v for v in chosen) for chosen in roots) / _product(u - v for v in others)
            expected += float(coefficient) * m[power]
        found = float(lagrange_weights(f64([float(v) for v in nodes]), f64(r))[j])
        assert found == pytest.approx(expected, rel=1e-11, abs=1e-13)


def _product(values) -> Fraction:
    total = Fraction(1)
    for value in values:
        total *= value
    return total


def test_published_third_order_halves_the_curvature():
    """mr-sampler.md 2.2: the code uses S where the second difference D2 = 2 S is needed."""
    nodes, r = f64([0.0, -0.8, -2.1]), f64(1.3)
    exact, published = lagrange_weights(nodes, r), lagrange_weights(nodes, r, published=True)
    for line in (torch.ones(3, dtype=torch.float64), nodes):
        torch.testing.assert_close((published * line).sum(), (exact * line).sum(), rtol=1e-13, atol=0)
    torch.testing.assert_close((published * nodes**2).sum(), (exact * nodes**2).sum() / 2, rtol=1e-12, atol=0)
