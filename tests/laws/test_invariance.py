"""What must not matter: brightness, the clock of the path, batch mates, the order of samples."""

import pytest
import torch
from oracles import PROCESSES, Mixture, f64, run

from undrift import times as grids
from undrift.denoiser import GaussianMixture
from undrift.noise import Brownian, PerSample, Replay
from undrift.process import EDM, Flow, MeanReverting
from undrift.sample import sample
from undrift.solvers import Ancestral, EulerMaruyama, Exponential, Heun, ReverseDiffusion
from undrift.space import Residual

SOLVERS = {
    "exponential-1-ode": Exponential(1),
    "exponential-2-sde": Exponential(2, 1.0),
    "exponential-3-corrected": Exponential(3, 0.3, corrector=True),
    "exponential-2-noise": Exponential(2, 0.0, "noise", corrector=True),
    "euler-maruyama": EulerMaruyama(),
    "reverse-diffusion": ReverseDiffusion(),
    "ancestral": Ancestral(),
    "heun": Heun(),
    "heun-churn": Heun(0.2),
}
each_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
SCALES = {"uniform": grids.uniform, "lambda": grids.uniform_lambda}


# Brightness (mr-sampler.md, finding 6: three separate interpolations darken by 0.03 to 2 %) ---------------------------


def restore(process, x_mean, y, times, solver):
    """Restoration of images N(x_mean, 0.03^2) from y by the exact denoiser, unclipped."""
    data = GaussianMixture(f64([1.0]), (x_mean - y)[None], torch.full_like(y, 0.03**2)[None], process)
    noises = torch.randn(len(times), 4, *y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = process.alpha_sigma(times[0])[1] * noises[0]
    return y + run(data, process, z, times, solver, Replay(noises[1:]))


@each_solver
@pytest.mark.parametrize("grid", SCALES)
@pytest.mark.parametrize("steps", [4, 15])
def test_a_constant_added_to_both_images_is_added_to_the_result(solver, grid, steps):
    process = MeanReverting()
    times = SCALES[grid](process, steps)
    x, y = torch.rand(2, 6, dtype=torch.float64)
    plain, brighter = (restore(process, x + c, y + c, times, solver) for c in (0.0, 0.25))
    torch.testing.assert_close(brighter - 0.25, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", SCALES)
@pytest.mark.parametrize("steps", [5, 10, 20, 50, 100])
@pytest.mark.parametrize("solver", [Exponential(1), Exponential(2, 1.0), Exponential(3, corrector=True)], ids=repr)
def test_brightness_is_not_scaled(grid, steps, solver):
    """A known image comes back as it is: the coefficients of level sum to one at every step, on or off the grid."""
    process = MeanReverting()
    times = SCALES[grid](process, steps)
    alpha, _ = process.alpha_sigma(times)
    table = solver.table(process, times)
    # A state alpha_t z_0 with predictions z_0 goes to alpha_s z_0.
    level = table.carry * alpha[:-1] + table.weights.sum(-1)
    torch.testing.assert_close(level, alpha[1:], rtol=0, atol=1e-13)
    # And over the whole run: the restoration of a point is the point.
    y, x = f64([0.6]), f64([0.9])
    point = GaussianMixture(f64([1.0]), (x - y)[None], f64([1e-12]), process)
    z = run(point, process, (alpha[0] * (x - y))[None], times, solver, Replay(torch.zeros(steps, 1, 1)))
    assert float(y + z[0]) == pytest.approx(0.9, abs=1e-12)


# The clock ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [s for n, s in SOLVERS.items() if n.startswith(("exp", "heun", "anc"))], ids=repr)
def test_only_lambda_matters(solver):
    """z / alpha follows the same numbers on every path with the same lambdas: a path is a choice of coordinates."""
    lam = f64([-2.5, -1.6, -0.4, 0.1, 1.7, 2.6])
    z, noises = torch.randn(5, 1, dtype=torch.float64), torch.randn(5, 5, 1, dtype=torch.float64)
    ends = {}
    for name, path in PROCESSES.items():
        times = path.time(lam)
        alpha, _ = path.alpha_sigma(times)
        ends[name] = run(Mixture(path).denoise, path, alpha[0] * z, times, solver, Replay(noises)) / alpha[-1]
        torch.testing.assert_close(ends[name], ends["VE"], rtol=1e-9, atol=1e-10)


# Samples --------------------------------------------------------------------------------------------------------------


def batch_of(seeds, solver, source, device, steps=6):
    """Images of these seeds, each from an observation of its own."""
    process = MeanReverting()
    y = torch.stack([torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(100 + s)) for s in seeds]).to(device)
    means = torch.linspace(-0.3, 0.4, 3, dtype=torch.float64)[:, None, None, None].expand(3, 3, 4, 4)
    denoise = GaussianMixture(f64([1, 2, 1]), means, f64([0.01, 0.02, 0.005]), process).to(device)
    times = grids.uniform_lambda(process, steps, 4.0)
    return sample(denoise, process, Residual(), shape=y.shape, times=times, solver=solver, noise=source(seeds), y=y)


SOURCES = {"per-sample": PerSample, "brownian": lambda seeds: Brownian(seeds, 1.0, 100.0, depth=12)}


@each_solver
@pytest.mark.parametrize("source", SOURCES)
def test_a_sample_depends_on_its_seed_alone(solver, source, device):
    """Alone, in any company, in any place: the same image."""
    together = batch_of([7, 3, 12, 5], solver, SOURCES[source], device)
    for i, seed in enumerate((7, 3, 12, 5)):
        torch.testing.assert_close(batch_of([seed], solver, SOURCES[source], device)[0], together[i], rtol=0, atol=2e-6)
    other = batch_of([5, 7], solver, SOURCES[source], device)
    torch.testing.assert_close(other, together[[3, 0]], rtol=0, atol=2e-6)
    assert float((together[0] - together[1]).abs().max()) > 0.01


def test_the_noise_of_a_sample_is_bit_for_bit_its_own():
    t, s, like = f64(40.0), f64(20.0), torch.zeros(4, 3, 5, 5)
    for source in SOURCES.values():
        together = source([7, 3, 12, 5])
        alone = [source([seed]) for seed in (7, 3, 12, 5)]
        for _ in range(3):
            draws = together(like, t, s)
            assert all(torch.equal(noise(like[:1], t, s)[0], draw) for noise, draw in zip(alone, draws, strict=True))


@pytest.mark.parametrize("solver", [Exponential(2), Heun()], ids=repr)
@pytest.mark.parametrize("process", [EDM(), Flow()], ids=repr)
def test_single_precision_states_follow_double_ones(solver, process):
    times = grids.uniform_lambda(process, 10)
    z = process.alpha_sigma(times[0])[1] * torch.randn(8, 1, dtype=torch.float64)
    denoise = Mixture(process).denoise
    single = run(denoise, process, z.float(), times, solver)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), run(denoise, process, z, times, solver), rtol=1e-4, atol=1e-5)
