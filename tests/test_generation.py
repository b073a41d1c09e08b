import pytest
import torch

from undrift import VP, GaussianMixture, Pixels
from undrift.generation import PRESETS, generate

PROCESS = VP()
# Two grey levels, left and right of the middle: one colour per image.
ORACLE = GaussianMixture(
    torch.tensor([0.3, 0.7]), torch.tensor([-0.5, 0.5])[:, None, None, None], torch.full((2,), 0.01), PROCESS
)


def images(count=400, **options):
    batches = generate(ORACLE, PROCESS, Pixels(), shape=(1, 1, 1), seeds=range(count), **options)
    return torch.cat(list(batches)).flatten()


@pytest.mark.parametrize("solver", PRESETS)
def test_every_preset_draws_from_the_data(solver):
    """Means, weights and deviations of the mixture, within Monte-Carlo error, at 40 evaluations."""
    x = images(solver=solver, steps=100 if PRESETS[solver].grid.__name__ == "uniform" else 40)
    bright = x > 0.5
    assert bright.float().mean().item() == pytest.approx(0.7, abs=0.08)
    assert x[bright].mean().item() == pytest.approx(0.75, abs=0.01)
    assert x[bright].std().item() == pytest.approx(0.05, rel=0.2)


def test_an_image_depends_on_its_seed_alone():
    assert torch.equal(images(10, batch=3), images(10, batch=10))
    assert torch.equal(
        images(10)[7:], torch.cat(list(generate(ORACLE, PROCESS, Pixels(), shape=(1, 1, 1), seeds=[7, 8, 9]))).flatten()
    )


def test_a_cold_start_is_less_various():
    assert images(temperature=0.01).unique(return_counts=True)[1].max() >= 1
    assert images(temperature=0.01).std() < images().std()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "ode-9"}, "ode-9"),
        ({"batch": 0}, "batch = 0"),
        ({"temperature": 0.0}, "temperature = 0.0"),
        ({"label": torch.zeros(3)}, "3 labels"),
        ({"steps": 0}, "steps = 0"),
    ],
)
def test_bad_values_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        images(4, **options)
