"""Measured orders of convergence equal the declared ones: ODEs on a mixture, SDEs in law.

The ODE's flow on a one-dimensional mixture is known exactly (`oracles.Mixture`), so nothing is compared with itself.
"""

import pytest
import torch
from oracles import PROCESSES, Mixture, Ramp, f64, lambda_grid, scale_of, slopes, std_error

from undrift.process import VE, VP, Flow, MeanReverting, SubVP
from undrift.solvers import Ancestral, EulerMaruyama, Exponential, Heun, ReverseDiffusion

ODE = {
    "data-1": (Exponential(1), 1),
    "data-2": (Exponential(2), 2),
    "data-3": (Exponential(3), 3),
    "noise-2": (Exponential(2, extrapolate="noise"), 2),
    "noise-3": (Exponential(3, extrapolate="noise"), 3),
    "corrected-2": (Exponential(2, corrector=True), 3),
    "heun": (Heun(), 2),
}
FINER = {
    "data-3": (Exponential(3), 3),
    "noise-1": (Exponential(1, extrapolate="noise"), 1),
    "noise-3": (Exponential(3, extrapolate="noise"), 3),
    "published-3": (Exponential(3, weights="published"), 2),
    "corrected-1": (Exponential(1, corrector=True), 2),
    "corrected-2": (Exponential(2, corrector=True), 3),
    "corrected-3": (Exponential(3, corrector=True), 4),
    "corrected-noise-1": (Exponential(1, extrapolate="noise", corrector=True), 2),
    "corrected-noise-2": (Exponential(2, extrapolate="noise", corrector=True), 3),
    "corrected-noise-3": (Exponential(3, extrapolate="noise", corrector=True), 4),
}


@pytest.mark.parametrize("path", [name for name in PROCESSES if "theta0" not in name])
@pytest.mark.parametrize("name", ODE)
def test_ode_orders_on_every_process(path, name):
    process, (solver, order) = PROCESSES[path], ODE[name]
    mix = Mixture(process, scale_of(process))
    errors = [mix.ode_error(lambda_grid(process, n), solver) for n in (60, 120)]
    assert slopes(errors)[0] == pytest.approx(order, abs=0.06 * order + 0.08)


@pytest.mark.parametrize("process", [Flow(), MeanReverting()], ids=["Flow", "MR-cosine"])
@pytest.mark.parametrize("name", FINER)
def test_ode_orders_in_detail(process, name):
    solver, order = FINER[name]
    mix = Mixture(process, scale_of(process))
    errors = [mix.ode_error(lambda_grid(process, n), solver) for n in (160, 320)]
    assert slopes(errors)[0] == pytest.approx(order, abs=0.25 if order == 4 else 0.13)


@pytest.mark.parametrize("process", [VP(), MeanReverting(schedule="linear"), Ramp()], ids=["VP", "MR-linear", "Ramp"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    "tau", [0.3, 1.0, 1.4, lambda lam: 0.5 + torch.sigmoid(lam)], ids=["0.3", "1", "1.4", "function"]
)
def test_weak_orders_of_the_exponential_sde(process, order, tau):
    scale, solver = scale_of(process), Exponential(order, tau)
    errors = [std_error(process, lambda_grid(process, n), solver, 0.3 * scale, 0.2 * scale) for n in (120, 240)]
    assert slopes(errors)[0] == pytest.approx(order, abs=0.16)


# Wasserstein-1 distance at N = 50 from score-sde.md 7.3, computed there by another method.
LAWS = [
    (VE(), 0.2104, EulerMaruyama(), 8.50e-3),
    (VE(), 0.2104, ReverseDiffusion(), 1.80e-2),
    (VE(), 0.2104, Ancestral(), 2.98e-2),
    (VP(), 0.01, EulerMaruyama(), 2.06e-2),
    (VP(), 0.01, ReverseDiffusion(), 2.83e-2),
    (VP(), 0.01, Ancestral("forward"), 2.77e-2),
    (VP(), 0.01, Ancestral(), 3.76e-2),
    (VP(), 0.01, Exponential(1, 1.0), 3.76e-2),
    (SubVP(), 0.06, EulerMaruyama(), 1.15e-2),
    (SubVP(), 0.06, ReverseDiffusion(), 2.05e-2),
]


@pytest.mark.parametrize(
    ("process", "end", "solver", "printed"), LAWS, ids=[f"{type(p).__name__}-{s!r}" for p, _, s, _ in LAWS]
)
def test_laws_of_stochastic_steps_on_a_mixture(process, end, solver, printed):
    times = torch.linspace(1.0, end, 51, dtype=torch.float64)
    assert Mixture(process).law_error(times, solver, 300) == pytest.approx(printed, rel=0.015)


@pytest.mark.parametrize("name", ["VE", "VP", "SubVP", "EDM", "Flow", "MR-cosine", "MR-constant", "Table-lambda"])
def test_weak_order_of_euler_maruyama_on_a_mixture(name):
    """Times uniform in the process's own t, or in its square root where that is more even (EDM's noise level)."""
    process = PROCESSES[name]
    mix = Mixture(process, scale_of(process))
    start, end = process.time(f64([-2.5, 2.0])).sqrt().tolist()
    power = 8.0 if name == "EDM" else 2.0
    errors = [
        mix.law_error(torch.linspace(start ** (2 / power), end ** (2 / power), n + 1, dtype=torch.float64) ** power,
                      EulerMaruyama(), 240)
        for n in (40, 80)
    ]  # fmt: skip
    assert slopes(errors)[0] == pytest.approx(1.0, abs=0.25)
