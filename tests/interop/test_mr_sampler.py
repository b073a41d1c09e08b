"""Parity of `MRSampler` with every recorded run of the official class, and what it owes to the core."""

import itertools
from functools import partial

import pytest
import torch
from golden import cases, error, load
from recorded import Recorded, official, tolerance

from undrift import Denoiser, Exponential, Replay, trajectory
from undrift.denoiser import Time
from undrift.interop import MRSampler, irsde_process

# `indexwrap` records a run with fewer steps than the order, which reads past its own grid.
RUNS = cases("mrsampler", without=("irsde_", "denoisingsde_", "indexwrap"))


def sampler_of(meta: dict) -> MRSampler:
    options = dict(meta["sampler_args"])
    del options["fit_target"]
    return MRSampler(
        official(meta["sde_args"], "mr"),
        steps=options.pop("num_sample_steps"),
        lambda_min=float(options.pop("lambda_min")),
        **options,
    )


@pytest.mark.parametrize("case", RUNS)
def test_recorded_run(case):
    tensors, meta = load("mrsampler", case)
    sampler, target = sampler_of(meta), meta["sampler_args"]["fit_target"]
    mu, noise = tensors["mu"], Replay(tensors.get("noise", ()))
    network = Recorded(tensors, meta["network"], {"reverse_traj": "noise", "patch": "data"}.get(target, target))
    denoise = Denoiser(network, sampler.process, sampler.prediction(target), scale=None, label=Time())
    z = sampler.start(mu, noise) if "max_sigma" in meta["initial_state"] else tensors["states"][0] - mu
    solver = sampler.solver(mu)
    states = [z, *trajectory(partial(denoise, image=mu), sampler.process, z, sampler.times, solver, noise)]
    for found, wanted in zip(states, tensors["states"], strict=True):
        assert error(found + mu, wanted) < tolerance(tensors)
    assert error(torch.stack(network.outputs), tensors["model_out"]) < tolerance(tensors)
    assert error(states[-1] + mu, tensors["final_before_clip"]) < tolerance(tensors)
    assert error((states[-1] + mu).clamp(0, 1), tensors["final"]) < tolerance(tensors)


@pytest.mark.parametrize("case", RUNS)
def test_recorded_grid(case):
    tensors, meta = load("mrsampler", case)
    sampler = sampler_of(meta)
    assert error(sampler.times, tensors["timesteps"]) < tolerance(tensors)
    for found, name in zip(sampler.nodes, ("alphas", "sigmas", "lambdas"), strict=True):
        assert error(found, tensors[name]) < tolerance(tensors), name
    taken = len(meta["step_order"])  # one less where the last step is the estimate
    assert sampler.orders[:taken].tolist() == meta["step_order"]
    assert taken == len(sampler.orders) - sampler.denoise_last


PATH = irsde_process(subtract_theta0=False)


@pytest.mark.parametrize("solver_type", ["ode", "sde"])
@pytest.mark.parametrize("parameterization", ["data", "noise"])
def test_on_the_indices_it_is_the_exponential_integrator(solver_type, parameterization):
    """At integer times nothing is interpolated: no brightness error, and the coefficients of the core."""
    sampler = MRSampler(PATH, 20, 2, solver_type, parameterization)
    core = Exponential(2, float(solver_type == "sde"), parameterization, weights="published").table(PATH, sampler.times)
    for column in ("carry", "weights", "noise", "basis"):
        torch.testing.assert_close(getattr(sampler.table, column), getattr(core, column), rtol=1e-9, atol=1e-12)
    assert sampler.brightness.abs().max() < 1e-14


def test_brightness_error_between_the_indices():
    """research/mr-sampler.md 0.6: the linear-lambda grid darkens by 0.03 %, 0.44 %, 1.2 %, 1.9 %, 2.05 % of any image.

    The state of an image equal to mu that the network knows to be mu is its brightness error.
    """

    def darkening(steps):
        mu = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        sampler = MRSampler(PATH, steps, 1, time_schedule="linear-lambda")
        run = trajectory(
            lambda z, t: torch.zeros_like(z), sampler.process, 0 * mu, sampler.times, sampler.solver(mu), Replay(())
        )
        return float(list(run)[-1])

    found = [100 * darkening(steps) for steps in (5, 10, 20, 50, 100)]
    assert found == pytest.approx([-0.03, -0.44, -1.2, -1.9, -2.05], abs=0.06)


def test_trailing_gains_a_point_by_rounding():
    """The official grid of the README: one interval more for these numbers of steps, T = 100, and no others."""
    longer = [n for n in range(2, 100) if len(MRSampler(PATH, n, 1, time_schedule="trailing").times) == n + 2]
    assert longer == [28, 30, 57, 61, 96]


def test_threshold_divides_by_the_clamped_quantile():
    """An estimate of 2 everywhere is bounded by threshold_max = 1.5, that is to 1; one within [-1, 1] is left alone."""
    sampler = MRSampler(PATH, 2, 1, thresholding=True, denoise_last=True)
    mu = torch.full((2, 1, 2, 2), 0.25, dtype=torch.float64)
    estimate = torch.stack([torch.full((1, 2, 2), 2.0), torch.full((1, 2, 2), -0.5)]).double()
    run = trajectory(lambda z, t: estimate - mu, sampler.process, 0 * mu, sampler.times, sampler.solver(mu), Replay(()))
    last = list(run)[-1] + mu
    assert last[0].unique().tolist() == [1.0]
    assert last[1].unique().tolist() == [-0.5]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"path": irsde_process()}, "subtract_theta0"),
        ({"order": 3, "solver_type": "sde"}, "order = 3"),
        ({"order": 3, "steps": 2}, "steps = 2"),
        ({"time_schedule": "leading", "steps": 100}, "steps = 100"),
        ({"time_schedule": "karras"}, "karras-n"),
        ({"solver_type": "heun"}, "'ode' or 'sde'"),
        ({"parameterization": "velocity"}, "'data' or 'noise'"),
        ({"order": 4}, "choose 1, 2 or 3"),
    ],
)
def test_errors_say_what_is_wrong(options, match):
    with pytest.raises(ValueError, match=match):
        MRSampler(**{"path": PATH, **options})


def test_targets_that_do_not_exist():
    with pytest.raises(ValueError, match="patch"):
        MRSampler(PATH, parameterization="noise").prediction("patch")
    with pytest.raises(ValueError, match="score"):
        MRSampler(PATH).prediction("score")


def published_run(sampler: MRSampler, target: str, network, mu, z, draws) -> torch.Tensor:
    """The image after the official loop, in x and step by step, from the formulas of the recordings' README."""
    alpha, sigma, lam = sampler.nodes
    data, sde, sinf = sampler.parameterization == "data", sampler.solver_type == "sde", sampler.path.lam
    x, past, count = z + mu, [], len(sampler.times) - 1
    for i in range(1, count + 1):
        a, s, u = alpha[i - 1], sigma[i - 1], network(x, sampler.times[i - 1])
        if target == "velocity":
            q = mu + a * (x - mu) - s / sinf * u if data else (a * u + s / sinf * (x - mu)) / sinf
        elif target == "data":
            q = u if data else (x - mu - a * (u - mu)) / s
        else:
            q = mu + (x - mu - s * u) / a if data else u
        if sampler.thresholding:
            bound = q.abs().flatten(1).quantile(sampler.threshold_ratio, 1).clamp(1, sampler.threshold_max)
            q = q.clamp(-bound[:, None, None, None], bound[:, None, None, None]) / bound[:, None, None, None]
        past = [q, *past][:3]
        if sampler.denoise_last and i == count:
            return q
        h, ratio = lam[i] - lam[i - 1], sigma[i] / sigma[i - 1]
        order = i if i < sampler.order else min(sampler.order, count - i) if count < 10 and i < count else sampler.order
        d1 = d2 = torch.zeros_like(q)
        if order > 1:
            r0 = (lam[i - 1] - lam[i - 2]) / h
            d1 = (q - past[1]) / r0
        if order > 2:
            r1 = (lam[i - 2] - lam[i - 3]) / h
            d2 = (d1 - (past[1] - past[2]) / r1) / (r0 + r1)
            d1 = d1 + r0 * d2
        a, b = alpha[i], alpha[i] / alpha[i - 1]
        if data and not sde:
            p1 = (-h).exp() - 1
            p2 = p1 / h + 1
            x = ratio * x + mu * (1 - ratio + ratio * alpha[i - 1] - a) - a * (p1 * q - p2 * d1 + (p2 / h - 0.5) * d2)
        elif data:
            e = (-2 * h).exp()
            x = ratio * (-h).exp() * x + mu * (1 - b * e - a * (1 - e)) + a * (1 - e) * q
            x = x + a * (1 - (1 - e) / (2 * h)) * d1 + sigma[i] * (1 - e).sqrt() * next(draws)
        else:
            p1 = h.exp() - 1
            p2 = p1 / h - 1
            step = sigma[i] * (p1 * q + p2 * d1 + (p2 / h - 0.5) * d2)
            x = b * x + mu * (1 - b) - (2 if sde else 1) * step
            if sde:
                x = x + sigma[i] * ((2 * h).exp() - 1).sqrt() * next(draws)
    return x


class Foreign(torch.nn.Module):
    """A function of the image as a network of z."""

    def __init__(self, function, mu):
        super().__init__()
        self.function, self.mu = function, mu

    def forward(self, z, c):
        return self.function(z + self.mu, c[0])


@pytest.mark.parametrize("target", ["noise", "data", "velocity"])
@pytest.mark.parametrize("solver_type", ["ode", "sde"])
@pytest.mark.parametrize("parameterization", ["data", "noise"])
def test_every_combination_against_the_published_formulas(solver_type, parameterization, target):
    """Orders, grids, thresholding and the last step, on a path of other numbers."""
    path = irsde_process(30, 60, "linear", 0.01, subtract_theta0=False)
    generator = torch.Generator().manual_seed(1)
    mu, prior, *draws = torch.rand(24, 2, 1, 2, 3, generator=generator, dtype=torch.float64) * 2 - 0.5

    def network(x, t):
        return torch.tanh(x + 0.3 * mu) * torch.cos(t / 40)

    grids = ("linspace", "leading", "trailing", "karras-n", "karras-t", "linear-lambda")
    options = itertools.product(range(1, 3 + (solver_type == "ode")), (5, 11), grids, (False, True), (False, True))
    for order, steps, schedule, thresholding, last in itertools.islice(options, 0, None, 5):  # 5 divides no axis
        sampler = MRSampler(
            path, steps, order, solver_type, parameterization, schedule, -2.0, 1, 5.0, thresholding, 0.9, 1.2, last
        )
        network_of_z = Foreign(lambda x, t: network(x, t) - (mu if target == "data" else 0), mu)
        denoise = Denoiser(network_of_z, sampler.process, sampler.prediction(target), scale=None, label=Time())
        z = sampler.start(mu, Replay([prior]))
        run = trajectory(denoise, sampler.process, z, sampler.times, sampler.solver(mu), Replay(draws))
        wanted = published_run(sampler, target, network, mu, z, iter(draws))
        assert error(list(run)[-1] + mu, wanted) < 1e-9, sampler
