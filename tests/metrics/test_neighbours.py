"""Precision, recall, density and coverage by their definitions, and their known expectations."""

import pytest
import torch

from undrift.metrics import expected_coverage, prdc

RNG = torch.Generator().manual_seed(0)


def normal(n, d, scale=1.0):
    return scale * torch.randn(n, d, generator=RNG, dtype=torch.float64)


def distance(a, b):
    return float((a - b).square().sum().sqrt())


def by_definition(x, y, k):
    """One pair at a time, as the papers write it."""

    def reach(points, i):
        return sorted(distance(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]

    balls_x, balls_y = ([(p, reach(side, i)) for i, p in enumerate(side)] for side in (x, y))
    precision = [any(distance(p, c) <= r for c, r in balls_x) for p in y]
    recall = [any(distance(p, c) <= r for c, r in balls_y) for p in x]
    density = [sum(distance(p, c) <= r for c, r in balls_x) / k for p in y]
    coverage = [any(distance(p, c) <= r for p in y) for c, r in balls_x]
    return [sum(values) / len(values) for values in (precision, recall, density, coverage)]


@pytest.mark.parametrize(("k", "scale", "entries"), [(1, 1.0, 2**23), (3, 0.5, 100), (5, 2.0, 1)])
def test_the_definitions(monkeypatch, k, scale, entries):
    monkeypatch.setattr("undrift.metrics.neighbours.ENTRIES", entries)
    x, y = normal(40, 3) + 100, normal(31, 3, scale) + 100
    found = prdc(x, y, k)
    assert [each.value for each in found] == pytest.approx(by_definition(x, y, k), abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_expectations_for_two_sets_of_one_law(k):
    n, m, repetitions = 120, 80, 120
    found = [prdc(normal(n, 4), normal(m, 4), k) for _ in range(repetitions)]
    for name, true in (("density", 1), ("coverage", expected_coverage(n, m, k))):
        values = torch.tensor([getattr(each, name).value for each in found])
        assert float(values.mean()) == pytest.approx(true, abs=4 * float(values.std()) / repetitions**0.5)


def test_coverage_of_a_thousand_by_a_thousand_is_the_paper_s():
    assert expected_coverage(10_000, 10_000, 5) == pytest.approx(1 - 2**-5, abs=1e-3)


def test_mode_collapse_costs_recall_and_coverage_but_not_precision():
    x = torch.cat([normal(200, 2, 0.3) - 5, normal(200, 2, 0.3) + 5])
    good, lost = (prdc(x, y, 5) for y in (torch.cat([normal(150, 2, 0.3) - 5, normal(150, 2, 0.3) + 5]),
                                                normal(300, 2, 0.3) + 5))  # fmt: skip
    assert lost.precision.value > 0.95
    assert lost.recall.value < 0.55 < 0.9 < good.recall.value
    assert lost.coverage.value < 0.55 < 0.9 < good.coverage.value


def test_the_number_of_neighbours_must_be_there():
    with pytest.raises(ValueError, match="k = 5 neighbours in sets of 5 and 9"):
        prdc(normal(5, 2), normal(9, 2), 5)
