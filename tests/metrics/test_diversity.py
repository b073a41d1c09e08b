"""Inception score: its extremes, torchmetrics, and its error against repetition."""

import pytest
import torch
from torchmetrics.image.inception import InceptionScore as Theirs

from undrift.metrics import InceptionScore

RNG = torch.Generator().manual_seed(0)


def score(probabilities):
    found = InceptionScore()
    for part in probabilities.split(7):
        found.update(part)
    return found.compute()


def test_sure_and_various_is_the_number_of_classes_unsure_or_alike_is_one():
    assert score(torch.eye(6).repeat(10, 1)).value == pytest.approx(6)
    assert score(torch.eye(6)[[2]].repeat(10, 1)) == pytest.approx((1, 0), abs=1e-9)
    assert score(torch.full((20, 6), 1 / 6)) == pytest.approx((1, 0), abs=1e-6)


def test_it_is_torchmetrics_on_the_whole_set():
    logits = 2 * torch.randn(90, 5, generator=RNG)
    theirs = Theirs(feature=torch.nn.Flatten(), normalize=True, splits=1)
    theirs.inception.forward = lambda images: logits
    theirs.update(torch.zeros(90, 3, 8, 8))
    assert score(logits.softmax(1)).value == pytest.approx(float(theirs.compute()[0]), rel=1e-5)


def test_the_error_is_the_spread_of_repetitions():
    rng = torch.Generator().manual_seed(1)
    found = [score((2 * torch.randn(400, 5, generator=rng)).softmax(1)) for _ in range(150)]
    values, errors = (torch.tensor(column) for column in zip(*found, strict=True))
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.2)
