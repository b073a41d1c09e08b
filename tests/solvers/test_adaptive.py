"""The adaptive solvers: orders and errors against exact flows, independence of batch mates, evaluations."""

from functools import partial

import pytest
import torch
from oracles import PROCESSES, Counting, Mixture, f64, gaussian, marginal_law, run, scale_of, silent

from undrift import VP, Flow, Gaussian, GaussianMixture, PerSample, Pixels, sample
from undrift.solvers.adaptive import DormandPrince, integrate, only
from undrift.solvers.adaptive_exponential import AdaptiveExponential
from undrift.solvers.brownian_bridge import BrownianBridge

P = torch.linspace(0.02, 0.98, 9, dtype=torch.float64)
SOME = ["VE", "VP", "SubVP", "EDM", "Flow", "MR-cosine", "Table-log_alpha", "Ramp"]


def ends(process):
    return f64([process.t_max, process.t_min])


@pytest.mark.parametrize("back", [False, True])
def test_integrates_what_has_a_closed_form(back):
    """y' = -3 t^2 y and its integral z' = y t^2, for samples with times of their own, either way."""
    start, end = f64([0.0, 0.5, 0.3]), f64([1.0, 1.5, 0.3])
    if back:
        start, end = end, start
    y = torch.ones(3, 2, dtype=torch.float64)

    def field(t, state, rows):
        square = (t**2)[:, None]
        return -3 * square * state[0], (square * state[0]).sum(1)

    *_, found = integrate(field, (y, torch.zeros(3)), start, end, rtol=1e-10, atol=1e-10)
    exact = torch.exp(start**3 - end**3)
    torch.testing.assert_close(found.state[0], exact[:, None].expand(3, 2), rtol=1e-8, atol=0)
    torch.testing.assert_close(found.state[1], 2 * (1 - exact) / 3, rtol=1e-8, atol=1e-12)
    assert found.evaluations[2] == 0
    assert (found.evaluations[:2] % 6 == 2).all()


@pytest.mark.parametrize("name", SOME)
def test_error_follows_the_tolerance(name):
    process = PROCESSES[name]
    mixture = Mixture(process, scale_of(process))
    errors = [mixture.ode_error(ends(process), DormandPrince(tol, tol)) for tol in (1e-4, 1e-7)]
    unit = scale_of(process)  # tolerances are of z, these errors in units of the data's scale
    assert errors[0] < 1e-2 / unit
    assert errors[1] < 1e-5 / unit
    assert mixture.ode_error(ends(process), AdaptiveExponential(1e-4, 1e-4)) < 1e-3


@pytest.mark.parametrize("name", ["VE", "VP", "MR-cosine"])
def test_the_angle_needs_fewer_evaluations_than_time(name):
    process = PROCESSES[name]
    mixture = Mixture(process, scale_of(process))
    z = mixture.quantile(P, f64(process.t_max))[:, None]
    calls = [
        solver.step(mixture.denoise, process, z, *ends(process), solver.init(), silent)[1][0].double().mean()
        for solver in (DormandPrince(), DormandPrince(variable="time"))
    ]
    assert calls[0] < 0.9 * calls[1]


SOLVERS = {
    "ode": DormandPrince(1e-4, 1e-4),
    "exponential": AdaptiveExponential(1e-3, 1e-3),
    "sde": AdaptiveExponential(5e-2, 5e-2, tau=1.0),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_sample_depends_on_no_other(name):
    process, solver = VP(), SOLVERS[name]
    denoise = Mixture(process).denoise
    z = torch.linspace(-1.7, 2.0, 4, dtype=torch.float64)[:, None]
    grid = f64([1.0, 0.4, 1e-5])
    together = run(denoise, process, z, grid, solver, PerSample(range(4)))
    for i in range(4):
        alone = run(denoise, process, z[i : i + 1], grid, solver, PerSample([i]))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-9, atol=1e-9)
    # A function that may hold one tensor a sample is given them all, and finds the same.
    opaque = run(lambda z, t: denoise(z, t) + 0 * z.new_ones(4, 1), process, z, grid, solver, PerSample(range(4)))
    torch.testing.assert_close(opaque, together, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
def test_evaluations_are_counted_and_none_is_wasted(name):
    process, solver = VP(), SOLVERS[name]
    counted = []

    class Module(torch.nn.Module):
        def forward(self, z, t):
            counted.append(len(z))
            return Mixture(process).denoise(z, t)

    z = torch.linspace(-1.7, 2.0, 4, dtype=torch.float64)[:, None]
    _, (evaluations,) = solver.step(Module(), process, z, *ends(process), solver.init(), PerSample(range(4)))
    assert evaluations.sum() == sum(counted)
    assert evaluations.min() < evaluations.max()


def test_conditions_follow_the_samples():
    rows = torch.tensor([2, 0])
    shift = f64([[1.0], [2.0], [3.0]])

    class Module(torch.nn.Module):
        def forward(self, z, t, image, gain=1):
            return z + gain * image

    class Observed:
        def __call__(self, z, t):
            raise AssertionError("the whole batch")

        def rows(self, rows):
            return lambda z, t: z + shift[rows]

    z = torch.zeros(2, 1, dtype=torch.float64)
    opaque = lambda z, t, image: z + image  # noqa: E731
    for denoise in (partial(Module(), image=shift), Observed(), partial(opaque, image=shift)):
        assert only(denoise, rows, 3)(z, f64(0.5)).flatten().tolist() == [3.0, 1.0]


@pytest.mark.parametrize("solver", [DormandPrince(), AdaptiveExponential(), AdaptiveExponential(tau=1.0)])
@pytest.mark.parametrize("process", [VP(), Flow(), PROCESSES["VE"]], ids=["VP", "Flow", "VE"])
def test_a_last_step_to_the_data_is_the_estimate_at_t_min(solver, process):
    denoise = Counting(Mixture(process).denoise)
    z = f64([[0.3], [0.4]]) * process.alpha_sigma(f64(process.t_max))[1]
    grid = f64([process.t_max, process.t_min, process.t_clean])
    twice = run(denoise, process, z, grid, solver, Gaussian(torch.Generator().manual_seed(1)))
    assert float(denoise.times[-1]) == process.t_min
    grid = f64([process.t_max, process.t_clean])
    once = run(denoise, process, z, grid, solver, Gaussian(torch.Generator().manual_seed(1)))
    torch.testing.assert_close(once, twice, rtol=1e-9, atol=1e-9)


def test_sample_takes_two_times_and_states_keep_their_dtype():
    process = VP()
    mixture = GaussianMixture(f64([1.0]), torch.zeros(1, 1, 2, 2), f64([0.25]), process)
    images = sample(mixture, process, Pixels(), shape=(3, 1, 2, 2), times=ends(process), solver=DormandPrince(),
                    noise=PerSample(range(3)))  # fmt: skip
    assert images.dtype == torch.float32
    # Gaussian data: the flow is z_T times the ratio of standard deviations.
    z = torch.stack([torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(i)) for i in range(3)])
    spread = [marginal_law(process, t, 0.0, 0.5)[1] for t in ends(process)]
    start = z * float(process.alpha_sigma(f64(1.0))[1])
    exact = ((start * spread[1] / spread[0] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(images, exact, rtol=0, atol=2e-5)


def test_bridge_keeps_what_was_drawn():
    """Steps that are refused where they rise: W at the places in between still has the covariance min(x, x')."""
    count = 3000
    eps = torch.randn(count, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    zero, one = torch.zeros(count, dtype=torch.float64), torch.ones(count, dtype=torch.float64)
    path = BrownianBridge(eps, zero, one, lambda x: x)
    seen = []
    for goal in (0.3, 0.7, 1.0):
        while bool((path.now < goal).any()):
            place, rise = path.propose(torch.where(path.now < goal, torch.minimum(path.now + 0.5, one * goal), goal))
            wants_less = (rise[:, 0] > 0.2) & (place - path.now > 0.2)
            short, _ = path.propose(torch.where(wants_less, path.now + 0.6 * (place - path.now), place))
            path.accept(short >= path.now)
        seen.append(path.here[:, 0])
    torch.testing.assert_close(path.here, eps)
    covariance = torch.cov(torch.stack(seen))
    wanted = torch.minimum(f64([[0.3], [0.7], [1.0]]), f64([[0.3, 0.7, 1.0]]))
    torch.testing.assert_close(covariance, wanted, rtol=0, atol=0.06)
    assert max(abs(float(w.mean())) for w in seen) < 0.06


def test_adaptive_sde_has_the_law_of_gaussian_data():
    process, count = VP(t_min=1e-2), 600
    mean, spread = marginal_law(process, f64(1.0), 0.3, 0.5)
    p = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    z = (mean + spread * torch.special.ndtri(p))[:, None]
    solver = AdaptiveExponential(2e-2, 2e-2, tau=1.0)
    noise = Gaussian(torch.Generator().manual_seed(3))
    out = run(gaussian(0.3, 0.5, process), process, z, ends(process), solver, noise)
    mean, spread = marginal_law(process, f64(process.t_min), 0.3, 0.5)
    assert float(out.mean()) == pytest.approx(mean, abs=4 * spread / count**0.5)
    assert float(out.std()) == pytest.approx(spread, rel=4 / (2 * count) ** 0.5)


def test_adaptive_sde_has_the_law_of_a_mixture():
    process, count = VP(t_min=1e-2), 500
    mixture = Mixture(process)
    p = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    z = mixture.quantile(p, f64(1.0))[:, None]
    solver = AdaptiveExponential(1e-2, 1e-2, tau=1.0)
    out = run(mixture.denoise, process, z, ends(process), solver, Gaussian(torch.Generator().manual_seed(4)))
    distance = (out[:, 0].sort().values - mixture.quantile(p, f64(process.t_min))).abs().mean()
    assert float(distance) < 3 / count**0.5 * 0.75  # 3/sqrt(n) for particles of unit spread (score-sde.md 7.8.4)


def test_no_progress_names_time_and_fix():
    nothing = lambda z, t: z * torch.nan  # noqa: E731
    for solver in (DormandPrince(), AdaptiveExponential()):
        with pytest.raises(ValueError, match="of sample 0 meets rtol"):
            solver.step(nothing, VP(), torch.ones(2, 1), *ends(VP()), solver.init(), silent)
