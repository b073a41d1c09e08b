"""The exact tables of score-sde.md 7.2 to their last column, and 5.4: the official loop with its defects.

On Gaussian data every step is affine, z_s = slope z_t + offset + std eps. With one time per sample the coefficients of
all N steps come from three calls of `step`, so that N = 2000 costs no more than N = 2.

The methods of 7.2 that are not in the package are written here as a stranger would, in a few lines each.
"""

from dataclasses import dataclass

import pytest
import torch
from oracles import PATHS, SOLVERS, gaussian, gaussian_law, marginal_law, slopes

from undrift.interop.score_sde import ScoreSDE
from undrift.process import VE, VP
from undrift.solvers import Solver
from undrift.tensor import expand


def drift(denoise, process, z, t, tau=0.0):
    """f z - (1 + tau^2)/2 g^2 score."""
    (alpha, sigma), (f, g2) = process.alpha_sigma(t), process.drift_diffusion(t)
    pull = (1 + tau**2) / 2 * g2 / sigma**2
    return expand(f + pull, z) * z - expand(pull * alpha, z) * denoise(z, t)


@dataclass(frozen=True)
class Trapezoid(Solver):
    """Heun's method in t: of weak order 2 for the SDE, tau = 1, whose noise is additive; tau = 0 is the ODE."""

    tau: float

    def step(self, denoise, process, z, t, s, state, noise):
        dt, g2 = s - t, (process.drift_diffusion(t)[1] + process.drift_diffusion(s)[1]) / 2
        kick = self.tau * expand((g2 * -dt).sqrt(), z) * noise(z, t, s) if self.tau else 0
        first = drift(denoise, process, z, t, self.tau)
        second = drift(denoise, process, z + expand(dt, z) * first + kick, s, self.tau)
        return z + expand(dt / 2, z) * (first + second) + kick, state


class RungeKutta(Solver):
    """The classical method of order 4 for the ODE, in t."""

    def step(self, denoise, process, z, t, s, state, noise):
        dt, middle = expand(s - t, z), (t + s) / 2
        k1 = drift(denoise, process, z, t)
        k2 = drift(denoise, process, z + dt / 2 * k1, middle)
        k3 = drift(denoise, process, z + dt / 2 * k2, middle)
        k4 = drift(denoise, process, z + dt * k3, s)
        return z + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4), state


OURS = {"SDE-Heun": Trapezoid(1.0), "Heun": Trapezoid(0.0), "RK4": RungeKutta()}


def law(process, times, solver, mean, std, start):
    """Mean and std of the last state, from those of the first, for data N(mean, std^2)."""
    t, s = times[:-1], times[1:]
    denoise = gaussian(mean, std, process)

    def step(z, eps):
        wide = torch.ones(len(t), 1, dtype=torch.float64)
        return solver.step(denoise, process, z * wide, t, s, solver.init(), lambda *_: eps * wide)[0][:, 0]

    offset = step(0.0, 0.0)
    slope, noise = step(1.0, 0.0) - offset, step(0.0, 1.0) - offset
    mean, variance = start[0], start[1] ** 2
    for b, a, c in zip(offset.tolist(), slope.tolist(), noise.tolist(), strict=True):
        mean, variance = a * mean + b, a**2 * variance + c**2
    return mean, variance**0.5


def relative(process, times, solver, mean=0.3, std=0.5):
    """Errors of mean and std, the latter relative, from the exact start."""
    found = law(process, times, solver, mean, std, marginal_law(process, times[0], mean, std))
    wanted = marginal_law(process, times[-1], mean, std)
    return abs(found[0] - wanted[0]), abs(found[1] / wanted[1] - 1)


def half_digit(printed):
    """The rounding of a printed number."""
    mantissa, _, exponent = printed.partition("e")
    return 0.51 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


# 7.2: N = 25, 50, 100, 200, 400, 800, 1600 and the order --------------------------------------------------------------

TABLE = """
VE EM 1.83e-2 4.66e-3 1.19e-3 3.06e-4 7.85e-5 2.05e-5 5.55e-6 1.9
VE RevDiff 1.97e-1 9.15e-2 4.41e-2 2.17e-2 1.07e-2 5.34e-3 2.67e-3 1.00
VE Ancestral 1.48e-1 7.93e-2 4.11e-2 2.09e-2 1.05e-2 5.29e-3 2.65e-3 1.00
VE Euler 6.69e-1 3.84e-1 2.05e-1 1.05e-1 5.35e-2 2.70e-2 1.35e-2 0.99
VE DDIM 8.15e-2 4.16e-2 2.10e-2 1.06e-2 5.30e-3 2.65e-3 1.33e-3 1.00
VE SDE-Heun 4.03e-2 9.72e-3 2.42e-3 6.04e-4 1.51e-4 3.77e-5 9.43e-6 2.00
VE Heun 9.70e-2 2.10e-2 4.93e-3 1.20e-3 2.95e-4 7.32e-5 1.82e-5 2.01
VE RK4 5.11e-4 2.82e-5 1.66e-6 1.00e-7 6.18e-9 3.8e-10 2.4e-11 4.01
VP EM 3.68e-2 1.62e-2 7.61e-3 3.69e-3 1.82e-3 9.01e-4 4.49e-4 1.01
VP RevDiff 1.24e-1 6.05e-2 2.99e-2 1.48e-2 7.40e-3 3.69e-3 1.84e-3 1.00
VP Ancestral 1.86e-1 1.11e-1 6.33e-2 3.44e-2 1.82e-2 9.41e-3 4.80e-3 0.97
VP AncBig 7.01e-2 3.46e-2 1.71e-2 8.53e-3 4.26e-3 2.12e-3 1.06e-3 1.00
VP Euler 1.52e-2 8.35e-3 4.37e-3 2.23e-3 1.13e-3 5.67e-4 2.84e-4 1.00
VP DDIM 1.07e-1 5.49e-2 2.78e-2 1.40e-2 7.04e-3 3.53e-3 1.77e-3 1.00
VP SDE-Heun 1.12e-2 3.01e-3 7.82e-4 1.99e-4 5.02e-5 1.26e-5 3.16e-6 2.00
VP Heun 4.07e-3 1.07e-3 2.74e-4 6.93e-5 1.74e-5 4.37e-6 1.09e-6 2.00
VP RK4 7.17e-6 4.11e-7 2.46e-8 1.51e-9 9.4e-11 5.8e-12 3.6e-13 4.01
SubVP EM 3.30e-2 1.55e-2 7.57e-3 3.74e-3 1.86e-3 9.26e-4 4.62e-4 1.00
SubVP RevDiff 1.42e-1 6.84e-2 3.35e-2 1.66e-2 8.25e-3 4.11e-3 2.05e-3 1.00
SubVP Ancestral 1.86e-1 1.06e-1 5.71e-2 2.98e-2 1.52e-2 7.69e-3 3.87e-3 0.99
SubVP SDE-Heun 7.72e-3 2.21e-3 5.86e-4 1.50e-4 3.81e-5 9.59e-6 2.40e-6 2.00
SubVP Heun 1.13e-3 2.00e-4 4.01e-5 8.85e-6 2.07e-6 4.99e-7 1.22e-7 2.0
SubVP RK4 2.47e-6 2.13e-7 1.52e-8 1.01e-9 6.5e-11 4.1e-12 2.6e-13 3.99
Ramp EM 2.88e-2 1.41e-2 6.96e-3 3.46e-3 1.73e-3 8.62e-4 4.31e-4 1.00
Ramp RevDiff 5.63e-2 2.78e-2 1.38e-2 6.90e-3 3.45e-3 1.72e-3 8.61e-4 1.00
Ramp Ancestral 1.32e-1 7.42e-2 4.04e-2 2.14e-2 1.11e-2 5.72e-3 2.90e-3 0.98
Ramp SDE-Heun 1.76e-3 4.59e-4 1.17e-4 2.95e-5 7.42e-6 1.86e-6 4.65e-7 2.00
Ramp DDIM 7.13e-2 3.64e-2 1.84e-2 9.28e-3 4.66e-3 2.33e-3 1.17e-3 1.00
"""


@pytest.mark.parametrize("row", TABLE.split("\n")[1:-1])
def test_all_columns(row):
    path, name, *printed, order = row.split()
    process, end = PATHS[path]
    grids = [torch.linspace(1.0, end, 25 * 2**i + 1, dtype=torch.float64) for i in range(7)]
    found = [relative(process, times, (SOLVERS | OURS)[name])[1] for times in grids]
    for value, expected in zip(found, printed, strict=True):
        assert value == pytest.approx(float(expected), abs=half_digit(expected) + 5e-14)
    assert slopes(found)[-1] == pytest.approx(float(order), abs=half_digit(order) + 0.015)


@pytest.mark.parametrize("name", SOLVERS | OURS)
def test_the_loop_gives_the_same_law(name):
    """`trajectory`, one step after the other: the first column again."""
    process, end = PATHS["VP"]
    times = torch.linspace(1.0, end, 26, dtype=torch.float64)
    solver, start = (SOLVERS | OURS)[name], marginal_law(process, times[0], 0.3, 0.5)
    one_by_one = gaussian_law(process, times, solver, 0.3, 0.5)
    assert one_by_one == pytest.approx(law(process, times, solver, 0.3, 0.5, start), rel=1e-12)


def test_means():
    """Exact on VE and for every exponential rule; for the others of order 1, or 2, as printed for VP at N = 400."""
    for process, end in PATHS.values():
        times = torch.linspace(1.0, end, 41, dtype=torch.float64)
        for name in SOLVERS if isinstance(process, VE) else ("Ancestral", "AncBig", "DDIM"):
            assert relative(process, times, SOLVERS[name])[0] < 1e-14
    times = torch.linspace(1.0, 1e-3, 401, dtype=torch.float64)
    assert relative(VP(), times, SOLVERS["EM"])[0] == pytest.approx(4.5e-4, rel=0.02)
    assert relative(VP(), times, SOLVERS["RevDiff"])[0] == pytest.approx(4.0e-4, rel=0.02)
    assert relative(VP(), times, OURS["Heun"])[0] == pytest.approx(2.3e-6, rel=0.02)
    assert relative(VP(), times, OURS["SDE-Heun"])[0] == pytest.approx(3.0e-6, rel=0.02)


def test_a_grid_of_log_snr():
    lam = VP().half_log_snr(torch.tensor([1.0, 1e-3], dtype=torch.float64)).tolist()
    times = VP().time(torch.linspace(*lam, 101, dtype=torch.float64))
    assert relative(VP(), times, SOLVERS["EM"])[1] == pytest.approx(1.92e-2, rel=0.005)


# 5.4: relative error of the std of the official loop, N = 50, 100, 200, 500, 1000, 2000; data N(0.3, s^2) -------------

NAMES = {"EM": "euler_maruyama", "RevDiff": "reverse_diffusion", "Ancestral": "ancestral_sampling"}
OFFICIAL = """
0.5 VP EM +.013 +.006 +.003 +.001 .000 .000
0.5 VP RevDiff +.023 +.012 +.007 +.005 +.004 +.002
0.5 VP Ancestral -.002 .000 +.001 +.002 +.003 +.001
0.5 SubVP EM +.021 +.010 +.005 +.002 +.001 .000
0.5 VE EM +.014 +.006 +.003 +.001 +.001 .000
0.5 VE RevDiff +.093 +.044 +.022 +.008 +.004 +.002
0.5 VE Ancestral -.081 -.042 -.021 -.009 -.004 -.002
0.05 VP EM -.828 -.310 -.147 -.047 -.013 +.004
0.05 VP RevDiff -.523 -.210 -.085 -.002 +.027 +.022
0.05 SubVP EM +.047 +.015 +.005 +.001 .000 .000
0.05 VE EM +.024 +.021 +.020 +.020 +.020 +.020
0.05 VE RevDiff +.076 +.026 +.003 -.011 -.015 -.017
0.01 VP EM +132 +28.0 +5.16 -.714 -.274 +.115
0.01 VP RevDiff +102 +20.7 +3.38 -.903 -.074 +.183
0.01 SubVP EM +.183 +.052 +.012 +.002 .000 .000
0.01 VE EM +.249 +.331 +.373 +.398 +.406 +.410
0.01 VE RevDiff -.194 -.245 -.270 -.284 -.288 -.290
0.01 VE Ancestral -.322 -.308 -.300 -.296 -.294 -.294
"""


@pytest.mark.parametrize("row", OFFICIAL.split("\n")[1:-1])
def test_the_official_loop(row):
    std, path, name, *printed = row.split()
    for steps, expected in zip((50, 100, 200, 500, 1000, 2000), printed, strict=True):
        process = PATHS[path][0]
        sampler = ScoreSDE(process, steps, NAMES[name])
        found = law(process, sampler.times, sampler, 0.3, float(std), (0.0, sampler.prior_std))[1] / float(std) - 1
        assert found == pytest.approx(float(expected), abs=half_digit(expected)), steps


@pytest.mark.parametrize(("steps", "printed"), [(50, -20.8), (100, -9.9), (200, -4.45), (500, -1.18), (1000, -0.09)])
def test_why_the_official_loop_fails(steps, printed):
    """At t = eps a full step multiplies what noise is left by 1 - beta / (N var)."""
    t = torch.tensor(1e-3, dtype=torch.float64)
    beta, variance = VP().drift_diffusion(t)[1], VP().alpha_sigma(t)[1] ** 2
    assert float(1 - beta / (steps * variance)) == pytest.approx(printed, abs=0.06)
    carry, pull, _ = ScoreSDE(VP(), steps, "euler_maruyama").update(t)
    multiplier = float(carry - pull / variance - beta / (2 * steps))  # of sigma eps, less the drift's own growth
    assert multiplier == pytest.approx(printed, abs=0.06)
