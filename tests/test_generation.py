import pytest
import torch

from undrift import VP, GaussianMixture, Pixels
from undrift.generation import PRESETS, generate

PROCESS = VP()
SHAPE = (1, 5, 5)
# Two greys with a little noise on every pixel.
MEANS = torch.tensor([-0.5, 0.5])[:, None, None, None].expand(2, *SHAPE)
ORACLE = GaussianMixture(torch.tensor([0.3, 0.7]), MEANS, torch.full((2,), 0.01), PROCESS)


def images(seeds=range(300), **options):
    return torch.cat(list(generate(ORACLE, PROCESS, Pixels(), shape=SHAPE, seeds=seeds, **options)))


@pytest.mark.parametrize("solver", sorted(PRESETS.keys() - {"consistency"}))
def test_every_preset_draws_from_the_data(solver):
    """Means, weights and deviations of the mixture, within Monte-Carlo error, at 40 evaluations."""
    x = images(solver=solver, steps=100 if PRESETS[solver].grid.__name__ in ("uniform", "_paired") else 40)
    bright = x.mean((1, 2, 3)) > 0.5
    assert bright.float().mean().item() == pytest.approx(0.7, abs=0.08)
    assert x[bright].mean().item() == pytest.approx(0.75, abs=0.01)
    assert x[bright].std().item() == pytest.approx(0.05, rel=0.25)  # 100 posterior steps give 0.039


@pytest.mark.parametrize("steps", [None, 1, 4])
def test_a_perfect_student_draws_from_the_data_in_any_number_of_jumps(steps):
    """For z_0 ~ N(m, v) the ODE's map to the data is m + sqrt(v) (z - alpha m) / sqrt(alpha^2 v + sigma^2)."""
    mean, deviation, calls = 0.2, 0.1, []

    def student(z, t):
        calls.append(t)
        alpha, sigma = (float(c) for c in PROCESS.alpha_sigma(t))
        return mean + deviation * (z - alpha * mean) / (alpha**2 * deviation**2 + sigma**2) ** 0.5

    student.student = True
    options = {} if steps is None else {"steps": steps}
    x = torch.cat(list(generate(student, PROCESS, Pixels(), shape=SHAPE, seeds=range(300), batch=300, **options)))
    assert len(calls) == (steps or 2)
    count = x.numel()
    assert x.mean().item() == pytest.approx((1 + mean) / 2, abs=4 * deviation / 2 / count**0.5)
    assert x.std().item() == pytest.approx(deviation / 2, rel=4 / (2 * count) ** 0.5)


def test_an_image_depends_on_its_seed_alone():
    assert torch.equal(images(range(10), batch=3), images(range(10), batch=10))
    assert torch.equal(images(range(10))[7:], images([7, 8, 9]))


def test_a_cold_start_is_less_various():
    """Noise of 0 is one point of the prior: every image then has the same grey, but for what the first noise left."""
    cold = images(temperature=0.01).mean((1, 2, 3))
    assert cold.std() < 0.2 * images().mean((1, 2, 3)).std()


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
        images(range(4), **options)
