"""`restore` against the exact law of a Gaussian residual, and its promises about evaluations, seeds and tiles."""

import pytest
import torch
from oracles import f64, gaussian_law
from torch import nn

from undrift.denoiser import Denoiser, GaussianMixture, Time
from undrift.evaluation import Setting, restored
from undrift.networks import UNet
from undrift.prediction import Data
from undrift.process import VP, MeanReverting
from undrift.restoration import PRESETS, restore, telling
from undrift.space import Residual

MEAN, STD = 0.06, 0.03
PROCESS = MeanReverting(lam=10 / 255)


class Exact(nn.Module):
    """The posterior mean of a residual that is N(MEAN, STD^2) in every pixel, as a network of (z, t)."""

    def __init__(self, process):
        super().__init__()
        self.mixture = GaussianMixture(f64([1.0]), f64([[[[MEAN]]]]), f64([STD**2]), process)
        self.unused = nn.Parameter(torch.zeros(()))
        self.shapes = []

    def forward(self, z, t, image):
        assert image.shape == z.shape
        self.shapes.append(tuple(z.shape))
        return self.mixture(z, t.double())


def exact(process=PROCESS):
    return Denoiser(Exact(process), process, Data(), scale=None, label=Time())


def grey(height=8, width=8):
    return torch.full((3, height, width), 0.5)


@pytest.mark.parametrize("process", [PROCESS, VP()], ids=["MR", "VP"])
@pytest.mark.parametrize("solver", PRESETS)
def test_steps_are_network_evaluations(solver, process):
    for steps in (1, 2, 3, 5, 8):
        denoiser = exact(process)
        result = restore(denoiser, Residual(), grey(), steps=steps, solver=solver, samples=2)
        # Heun has two per step and one in the last, so always an odd number
        assert result.evaluations == (steps if solver != "heun" or steps % 2 else steps - 1)
        assert len(denoiser.network.shapes) == 2 * result.evaluations
        assert 0 < result.seconds < 60


@pytest.mark.parametrize("solver", PRESETS)
def test_mean_and_spread_are_those_of_the_exact_law_of_the_solver(solver):
    samples, side, steps = 6, 56, 7
    result = restore(exact(), Residual(), grey(side, side), steps=steps, solver=solver, samples=samples)
    preset = PRESETS[solver]
    mean, std = gaussian_law(PROCESS, preset.grid(PROCESS, steps), preset.solver, MEAN, STD)
    # gaussian_law starts from the law of z at t_max, restore from the prior: they differ by alpha = 0.005
    count = 3 * side**2
    assert abs(result.image.double().mean() - 0.5 - mean) < 4 * std / (count * samples) ** 0.5 + 0.01 * MEAN
    variance = result.spread.double().square().mean()
    assert result.spread.shape == (1, side, side)
    assert abs(variance / std**2 - 1) < 4 * (2 / (count * (samples - 1))) ** 0.5 + 0.001


def test_sample_k_has_the_seed_plus_k():
    def draw(seed, **options):
        return restore(exact(), Residual(), grey(), steps=3, solver="sde-2", seed=seed, **options)

    single = torch.stack([draw(seed).image for seed in (5, 6, 7)])
    several = draw(5, samples=3)
    torch.testing.assert_close(several.image, single.mean(0))
    torch.testing.assert_close(several.spread, single.var(0).mean(0, keepdim=True).sqrt())
    assert torch.equal(draw(5).image, single[0])
    assert not torch.equal(single[0], single[1])
    assert draw(5).spread is None


@pytest.mark.parametrize("solver", ["ode-2", "sde-2", "posterior"])
def test_tiles_share_one_noise_field(solver):
    y = torch.rand(3, 100, 150, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    options = {"steps": 3, "solver": solver}
    whole, denoiser = restore(exact(), Residual(), y, **options), exact()
    pieces = restore(denoiser, Residual(), y, tile=64, overlap=32, **options)
    torch.testing.assert_close(pieces.image, whole.image, rtol=0, atol=2e-6)
    assert pieces.evaluations == whole.evaluations == 3
    assert len(denoiser.network.shapes) == 3 * 3 * 4
    assert all(max(shape[-2:]) <= 64 for shape in denoiser.network.shapes)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 7)])
def test_any_size_and_always_light_in_0_1(size):
    for y in (torch.zeros(3, *size), torch.ones(3, *size)):
        out = restore(exact(), Residual(), y, steps=2).image
        assert out.shape == y.shape
        assert out.min() >= 0
        assert out.max() <= 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"steps": 0}, "steps = 0: need a whole number of network evaluations, at least 1"),
        ({"steps": -1}, "steps = -1: need"),
        ({"steps": -1, "solver": "heun"}, "steps = -1: need"),
        ({"samples": 0}, "samples = 0: need at least 1"),
        ({"solver": "ode-9"}, "solver 'ode-9': choose one of ode-1, ode-2"),
        ({"tile": 16}, "tiles of 16 overlapping by 64"),
        ({"y": torch.zeros(1, 3, 4, 4)}, r"image of shape \(1, 3, 4, 4\): need \(3, H, W\)"),
        ({"y": torch.zeros(1, 4, 4)}, r"image of shape \(1, 4, 4\)"),
    ],
)
def test_what_cannot_be_is_named(options, line):
    y = options.pop("y", grey())
    with pytest.raises(ValueError, match=f"^{line}"):
        restore(exact(), Residual(), y, **options)


def told():
    """A network whose output depends on the task that it is told."""
    torch.manual_seed(0)
    network = UNet((8, 16), (1, 1), classes=2, embedding=16, context=0)
    denoiser = Denoiser(network, PROCESS, Data()).requires_grad_(False)
    denoiser.tasks = ("hazy", "noisy")
    return denoiser


def test_a_model_is_told_the_task_by_its_name():
    denoiser, y = told(), grey(16, 16)
    hazy, noisy, blind = (
        restore(denoiser, Residual(), y, steps=1, task=task).image for task in ("hazy", "noisy", None)
    )
    assert not (torch.equal(hazy, noisy))
    assert not (torch.equal(hazy, blind))
    assert not (torch.equal(noisy, blind))
    assert torch.equal(telling(denoiser, "noisy", 3)["label"], torch.tensor([1, 1, 1]))
    for spec, wanted in (("ode-2:1", noisy), ("blind-ode-2:1", blind)):
        assert torch.equal(restored(denoiser, Residual(), y[None], Setting.parse(spec), [[0]], "noisy")[0], wanted)
    # what it was not taught is nothing to tell
    assert torch.equal(restored(denoiser, Residual(), y[None], Setting("ode-2", 1), [[0]], "rainy")[0], blind)


def test_a_task_that_cannot_be_told_is_refused():
    with pytest.raises(ValueError, match="task 'rainy': choose one of hazy, noisy"):
        restore(told(), Residual(), grey(16, 16), task="rainy")
    with pytest.raises(ValueError, match="task 'hazy': this model cannot be told"):
        restore(exact(), Residual(), grey(), task="hazy")
