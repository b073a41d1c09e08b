"""Numerical hygiene (score-sde.md 7.8, item 13): single precision at both ends of time, any shape of state or time."""

import pytest
import torch
from oracles import PROCESSES, f64, run, scale_of
from torch import nn

from undrift import prediction
from undrift import times as grids
from undrift.denoiser import Denoiser, GaussianMixture
from undrift.noise import PerSample
from undrift.process import VE, VP, SubVP
from undrift.restart import Restart
from undrift.solvers import (
    Ancestral,
    AnnealedLangevin,
    Corrected,
    EulerMaruyama,
    Exponential,
    Heun,
    Langevin,
    ReverseDiffusion,
)

SOLVERS = {
    "euler-maruyama": EulerMaruyama(),
    "euler": EulerMaruyama(0.0),
    "reverse-diffusion": ReverseDiffusion(),
    "ancestral": Ancestral(),
    "ancestral-forward": Ancestral("forward"),
    "exponential-1": Exponential(1),
    "exponential-2-sde": Exponential(2, 1.0),
    "exponential-3-corrected": Exponential(3, corrector=True),
    "exponential-2-noise": Exponential(2, extrapolate="noise"),
    "heun": Heun(),
    "heun-churn": Heun(0.1),
    "corrected": Corrected(ReverseDiffusion(), AnnealedLangevin()),
    "corrected-exponential": Corrected(Exponential(2), AnnealedLangevin(), "corrector"),
    "corrector": Corrected(None, AnnealedLangevin()),
    "corrected-sample-norms": Corrected(Ancestral(), Langevin()),
    "restart": Restart(Heun(), 0.0, 1.0, 2, 2),
}
each_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
SHAPES = [(40,), (3, 16), (3, 4, 4), (2, 3, 4, 4)]


def exact(process, shape):
    scale = scale_of(process)
    means = scale * torch.linspace(-1, 1, 2 * torch.Size(shape).numel()).reshape(2, *shape)
    return GaussianMixture(f64([1, 1]), means, f64([0.1, 0.3]) * scale**2, process)


def ends(process, count=6):
    """From t_max over t_min, the last time of a network, to the data, where the path reaches them."""
    lam = process.half_log_snr(f64([process.t_max, process.t_min])).clamp(-9, 20).tolist()
    inner = process.time(torch.linspace(*lam, count, dtype=torch.float64))[1:-1]
    last = [process.t_clean] if process.t_clean < process.t_min else []
    return torch.cat([f64([process.t_max]), inner, f64([process.t_min, *last])])


@each_solver
@pytest.mark.parametrize("path", [name for name in PROCESSES if "theta0" not in name])
def test_single_precision_from_end_to_end(path, solver):
    """float32 states over the whole range of time: finite, and where the double run goes."""
    process = PROCESSES[path]
    mix, times = exact(process, (40,)), ends(process)
    z = process.alpha_sigma(times[0])[1] * PerSample(range(3))(torch.zeros(3, 40), times[0], times[0])
    single = run(mix, process, z, times, solver, PerSample(range(3)))
    assert single.dtype == torch.float32
    assert single.isfinite().all()
    if solver == SOLVERS["corrected-sample-norms"]:
        return  # at sigma = 1e-3 the score of smooth data, (alpha z_0 - z) / sigma^2, is below rounding: shorter steps
    double = run(mix, process, z.double(), times, solver, PerSample(range(3)))
    torch.testing.assert_close(single.double(), double, rtol=0, atol=2e-4 * float(double.abs().max()))


@each_solver
@pytest.mark.parametrize("process", [VE(), VP(), SubVP()], ids=repr)
def test_any_shape_of_state(process, solver):
    """Vectors, sequences, images and videos: the same numbers under another shape."""
    times = grids.uniform_lambda(process, 5)
    flat = exact(process, (96,))
    z = process.alpha_sigma(times[0])[1] * torch.randn(2, 96)
    wanted = run(flat, process, z, times, solver, PerSample(range(2)))
    for shape in [(96,), (3, 32), (6, 4, 4), (2, 3, 4, 4)]:
        found = run(exact(process, shape), process, z.reshape(2, *shape), times, solver, PerSample(range(2)))
        assert found.shape == (2, *shape)
        torch.testing.assert_close(found.reshape(2, 96), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", [s for n, s in SOLVERS.items() if n != "restart"], ids=repr)
@pytest.mark.parametrize("process", [VE(), VP(), SubVP()], ids=repr)
@pytest.mark.parametrize("ends", [(1.0, 0.9), (1e-3, 1e-5)])
def test_one_time_or_one_per_sample(process, solver, ends):
    """t of shape () and (B,), at both ends of the path."""
    mix, (t, s) = exact(process, (3, 4)), f64(ends)
    alpha, sigma = process.alpha_sigma(t)
    z = alpha * mix.draw(3, torch.Generator().manual_seed(0)).float() + sigma * torch.randn(3, 3, 4)
    one = solver.step(mix, process, z, t, s, solver.init(), PerSample(range(3)))[0]
    each = solver.step(mix, process, z, t.expand(3), s.expand(3), solver.init(), PerSample(range(3)))[0]
    torch.testing.assert_close(one, each, rtol=1e-6, atol=1e-6 * float(one.abs().max()))


@each_solver
def test_a_network_in_bfloat16(solver):
    """The schedule stays in float64 and the state in float32, whatever the network computes in."""

    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(12, 12, dtype=torch.bfloat16)

        def forward(self, z, c):
            assert z.dtype == c.dtype == torch.bfloat16
            return self.linear(z)

    for process in (VE(), VP(), SubVP()):
        denoise, times = Denoiser(Half(), process, prediction.velocity(1.0)), ends(process)
        z = process.alpha_sigma(times[0])[1] * torch.randn(2, 12)
        with torch.no_grad():
            out = run(denoise, process, z, times, solver, PerSample(range(2)))
        assert out.dtype == torch.float32
        assert out.isfinite().all()
