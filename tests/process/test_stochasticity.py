"""Noise controls: one contraction r each, from which marginals, steps and whole runs follow exactly."""

import math
from itertools import pairwise, product

import pytest
import torch
from oracles import PROCESSES, Mixture, f64, inner_times, run, scale_of

from undrift.noise import Replay
from undrift.process import DDIM, ERSDE5, VP, Fresh, Interval, NoiseControl, Phased, Table, noise_exponent
from undrift.solvers import Exponential

LOG_ABAR = torch.log1p(-(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)).cumsum(0)
STABLE_DIFFUSION = Table(tuple((LOG_ABAR / 2).tolist()))

CONTROLS: dict[str, NoiseControl] = {
    "DDIM(0)": DDIM(0),
    "DDIM(0.2)": DDIM(0.2),
    "DDIM(0.6)": DDIM(0.6),
    "DDIM(1)": DDIM(1),
    "ERSDE5": ERSDE5(),
    "Interval": Interval(0.7, -1.0, 1.0),
    "Interval, all": Interval(1.3),
    "Fresh(0.3)": Fresh(0.3),
    "Fresh(1)": Fresh(1),
    "Phased": Phased(),
}
each = pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())
everywhere = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def pairs(count=400, low=-6.0, high=8.0):
    """Random steps (lambda_t, lambda_s) with lambda_t < lambda_s."""
    lam = torch.rand(2, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * (high - low) + low
    return lam.sort(0).values.unbind()


def contraction(control, lam_t, lam_s):
    """r of research/scott.md 2.3(c), and x_s / x_t."""
    ratio = torch.exp(lam_t - lam_s)
    return ratio * torch.exp(-control.exponent(lam_t, lam_s)), ratio


def close(a, b, rtol=1e-11):
    torch.testing.assert_close(a, b, rtol=rtol, atol=1e-300)


# r --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.1, 0.2, 0.6, 0.95])
def test_ddim(eta):
    r, ratio = contraction(DDIM(eta), *pairs())
    close(r, ratio * torch.sqrt(1 - eta**2 * (1 - ratio**2)))


def test_the_ends_of_ddim():
    """eta = 0 is the ODE, bit for bit; eta = 1 is ancestral sampling, r = (x_s / x_t)^2, the SDE."""
    lam_t, lam_s = pairs()
    assert not DDIM(0).exponent(lam_t, lam_s).any()
    r, ratio = contraction(DDIM(1), lam_t, lam_t + (lam_s - lam_t).clamp(max=5))
    close(r, ratio**2)
    close(r, contraction(Interval(1.0), lam_t, lam_t + (lam_s - lam_t).clamp(max=5))[0])


def test_ddim_step_as_printed():
    """Song et al. 2021, eq. 12 and 16, with their cumulative products, on Stable Diffusion's schedule."""
    generator = torch.Generator().manual_seed(1)
    z, z0, xi = torch.randn(3, 64, 2, dtype=torch.float64, generator=generator)
    t = torch.randint(8, 1000, (64,), generator=generator)
    s = t - 1 - (torch.rand(64, generator=generator) * t).long()
    eta = 0.2
    abar_t, abar_s = (LOG_ABAR[i].exp()[:, None] for i in (t, s))
    sig = eta * torch.sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))
    eps = (z - abar_t.sqrt() * z0) / (1 - abar_t).sqrt()
    printed = abar_s.sqrt() * z0 + torch.sqrt(1 - abar_s - sig**2) * eps + sig * xi
    solver = Exponential(1, tau=DDIM(eta))
    out, _ = solver.step(lambda *_: z0, STABLE_DIFFUSION, z, t.double(), s.double(), (), Replay([xi]))
    close(out, printed, 1e-9)


def test_er_sde_5():
    """phi(x) = x (exp(x^0.3) + 10), Cui et al. 2023; the rest is noise that restores the marginal."""
    lam_t, lam_s = pairs()

    def phi(lam):
        x = torch.exp(-lam)
        return x * (torch.exp(x**0.3) + 10)

    close(contraction(ERSDE5(), lam_t, lam_s)[0], phi(lam_s) / phi(lam_t))


def test_what_er_sde_5_is_as_an_eta():
    """The table of research/scott.md 2.3(d): eta in small steps, and the share of fresh noise in steps of 8."""
    eta, shares = [], []
    for t in (999, 750, 500, 250, 100, 24):
        lam_t, lam_s = STABLE_DIFFUSION.half_log_snr(f64([t, t - 8]))
        h = 1e-5
        eta.append(float(ERSDE5().exponent(lam_t - h, lam_t + h) / (2 * h)) ** 0.5)
        shares.append([math.sqrt(-math.expm1(-2 * float(c.exponent(lam_t, lam_s)))) for c in (ERSDE5(), DDIM(0.2),
                                                                                             DDIM(1))])  # fmt: skip
    assert eta == pytest.approx([0.57, 0.38, 0.29, 0.23, 0.19, 0.16], abs=0.006)
    printed = [[0.174, 0.061, 0.303], [0.098, 0.051, 0.256], [0.066, 0.046, 0.228], [0.056, 0.048, 0.242],
               [0.063, 0.064, 0.320], [0.100, 0.116, 0.581]]  # fmt: skip
    assert shares == [pytest.approx(row, abs=6e-4) for row in printed]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_fresh(share):
    """Of the noise at s, `share` is new, whatever the step."""
    lam_t, lam_s = pairs()
    r, ratio = contraction(Fresh(share), lam_t, lam_s)
    close(r, ratio * math.sqrt(1 - share**2))


def test_phased():
    """To the end of the segment the noise is kept; before it, as if one had gone there and come back, forwards."""
    control, lam = Phased((-1.0, 2.0)), f64([-5, -3, -1, 0.5, 2, 6])
    found = control.exponent(lam[:-1], lam[1:])
    assert found.tolist() == [pytest.approx(2.0), 0.0, pytest.approx(1.5), 0.0, math.inf]
    # z_e = alpha_e x + sigma_e old, then forwards from e to s: of the old noise alpha_s sigma_e / alpha_e is left.
    process, s, e = VP(), *VP().time(f64([-3, -1]))
    (alpha_s, sigma_s), (alpha_e, sigma_e) = process.alpha_sigma(s), process.alpha_sigma(e)
    assert float(sigma_s * torch.exp(-found[0])) == pytest.approx(float(alpha_s * sigma_e / alpha_e), rel=1e-9)
    assert torch.equal(Phased().exponent(*pairs()), Fresh(1).exponent(*pairs()))
    assert control.exponent(f64(-math.inf), f64(-1)).item() == 0
    assert control.exponent(f64(-1 - 1e-9), f64(1)).item() == pytest.approx(1.0)  # it stands at the edge
    with pytest.raises(ValueError, match="a step passes over one of lambda = "):
        control.exponent(f64(-3), f64(1))


@each
def test_exponents_are_not_negative(control):
    exponent = control.exponent(*pairs())
    assert exponent.dtype == torch.float64
    assert (exponent >= 0).all()
    assert torch.equal(exponent, noise_exponent(control, *pairs()))


def test_who_is_additive():
    """Where A is an integral over lambda, steps add up. DDIM's eta and `Fresh` are rules per step, and do not."""
    lam_t, lam_s = pairs()
    middle = lam_t + 0.37 * (lam_s - lam_t)
    for name, control in CONTROLS.items():
        whole = control.exponent(lam_t, lam_s)
        parts = control.exponent(lam_t, middle) + control.exponent(middle, lam_s)
        if name in ("DDIM(0)", "ERSDE5", "Interval", "Interval, all"):
            torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-13)
        elif name == "DDIM(1)":  # log1p(expm1(-2h)) loses digits for large h, where e^-2h matters no more
            close(torch.exp(-parts.clamp(max=5)), torch.exp(-whole.clamp(max=5)))
        elif name not in ("Fresh(1)", "Phased"):
            assert (parts > whole * 1.001).any()


@pytest.mark.parametrize("eta", [0.2, 0.6, 1.0])
def test_ddim_in_small_steps_is_a_constant_tau(eta):
    lam = torch.linspace(-3, 4, 20001, dtype=torch.float64)
    assert float(DDIM(eta).exponent(lam[:-1], lam[1:]).sum()) == pytest.approx(eta**2 * 7, rel=2e-3)


def test_the_interval():
    lam = f64([-5, -2, -1, 0, 1, 3])
    found = Interval(0.5, -1.5, 0.5).exponent(lam[:-1], lam[1:])
    assert found.tolist() == [0.0, 0.125, 0.25, 0.125, 0.0]
    assert not Interval(0.0).exponent(f64(-math.inf), f64(math.inf)).any()


@each
def test_standing_still_is_free(control):
    lam = f64([-math.inf, -3, 0, 5, math.inf])
    assert control.exponent(lam, lam).tolist() == [0.0] * 5


def test_infinite_lambda():
    """Steps from pure noise and to the data: finite only where all noise may be kept."""
    low, high, lam = f64(-math.inf), f64(math.inf), f64(0.4)
    kept = {DDIM(0): 0.0, DDIM(0.6): -0.5 * math.log(1 - 0.36), DDIM(1): math.inf, Interval(0.7, -1, 1): 0.49 * 2,
            Fresh(0.6): -0.5 * math.log(1 - 0.36), Fresh(1): math.inf, Interval(1.0): math.inf}  # fmt: skip
    for control, expected in kept.items():
        assert float(control.exponent(low, high)) == pytest.approx(expected, rel=1e-14)
    assert float(Interval(0.7, -1, 1).exponent(low, lam)) == pytest.approx(0.49 * 1.4)
    assert float(Interval(0.7, -1, 1).exponent(lam, high)) == pytest.approx(0.49 * 0.6)
    assert float(ERSDE5().exponent(low, lam)) == math.inf
    clean = math.log(math.exp(math.exp(-0.3 * 0.4)) + 10) - math.log(11)
    assert float(ERSDE5().exponent(lam, high)) == pytest.approx(clean, rel=1e-13)


# Steps and runs -------------------------------------------------------------------------------------------------------


@everywhere
def test_with_the_true_data_a_step_gives_the_marginal(process):
    """Mean alpha_s z_0 and variance sigma_s^2, exactly: times of random samples, and some that stand still."""
    count = 40
    index = torch.randint(197, (3, count), generator=torch.Generator().manual_seed(2)).sort(0).values
    older, start, t = inner_times(process, 200)[index + torch.arange(3)[:, None]]
    s = process.time(process.half_log_snr(t) + torch.linspace(0.001, 2, count, dtype=torch.float64))
    s[::7], s[1::7] = t[::7], process.t_clean
    still = t == s
    one, zero = torch.ones(count, 1, dtype=torch.float64), torch.zeros(count, 1, dtype=torch.float64)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
    nodes = process.half_log_snr(start), process.half_log_snr(older)
    for control, order in product(CONTROLS.values(), (1, 2, 3)):
        solver = Exponential(order, tau=control)

        def gain(z, z0, eps, solver=solver, order=order):
            """The step where every prediction, past ones as well, is z0."""
            state = tuple((z0, lam) for lam in nodes[: order - 1])
            return solver.step(lambda *_: z0, process, z, t, s, state, lambda *_: eps)[0][:, 0]

        carry, pull, spread = gain(one, zero, zero), gain(zero, one, zero), gain(zero, zero, one)
        torch.testing.assert_close(carry * alpha_t + pull, alpha_s, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close((carry * sigma_t) ** 2 + spread**2, sigma_s**2, rtol=1e-9, atol=1e-14)
        assert (carry[still] == 1).all()
        assert not pull[still].any()
        assert not spread[still].any()


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("name", ["VE", "Flow", "MR-cosine", "Table-log_alpha"])
def test_single_steps_equal_the_planned_run(name, order):
    """The same numbers whether the coefficients are tabulated ahead or found step by step, one time per sample."""
    process = PROCESSES[name]
    times = torch.cat([f64([process.t_max]), inner_times(process, 6), f64([process.t_clean])])
    denoise = Mixture(process, scale_of(process)).denoise
    draws = torch.randn(8, 12, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    start = draws[0] * process.alpha_sigma(times[0])[1]
    for control in CONTROLS.values():
        solver = Exponential(order, tau=control)
        noise = {float(t): draw for t, draw in zip(times[:-1], draws[1:], strict=True)}
        planned = run(denoise, process, start, times, solver, lambda _, t, s, noise=noise: noise[float(t)])
        z, state = start, solver.init()
        for i, (t, s) in enumerate(pairwise(times)):
            z, state = solver.step(denoise, process, z, t.expand(12), s.expand(12), state, Replay([draws[1 + i]]))
        torch.testing.assert_close(z, planned, rtol=1e-9, atol=1e-11)


def test_rows_with_times_of_their_own():
    """A batch whose rows are at different places of different jumps equals its rows one by one."""
    process = VP()
    denoise = Mixture(process).denoise
    t = inner_times(process, 12).reshape(2, 6)
    middle = (t[0] + t[1]) / 2
    draws = torch.randn(3, 6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    solver = Exponential(2, tau=ERSDE5())

    def two(rows):
        z, state = solver.step(denoise, process, draws[0, rows], t[0, rows], middle[rows], (), Replay([draws[1, rows]]))
        return solver.step(denoise, process, z, middle[rows], t[1, rows], state, Replay([draws[2, rows]]))[0]

    rows = torch.cat([two(slice(i, i + 1)) for i in range(6)])
    torch.testing.assert_close(two(slice(None)), rows, rtol=1e-13, atol=1e-13)
