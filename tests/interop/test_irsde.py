"""Parity with the official IR-SDE, DA-CLIP and DenoisingSDE: schedules, pieces and whole recorded runs."""

import math
from functools import partial

import pytest
import torch
from golden import cases, error, load
from recorded import Recorded, official, tolerance

from undrift import Denoiser, MeanReverting, Replay, prediction, trajectory
from undrift.denoiser import Time
from undrift.interop import (
    Denoising,
    denoising_sde,
    denoising_start,
    indices,
    irsde_process,
    posterior,
    reverse_ode,
    reverse_sde,
)

SOLVERS = {"posterior": posterior, "sde": reverse_sde, "ode": reverse_ode}


def theta_last(schedule: str, steps: int) -> float:
    """theta_T in closed form, which sets the scale that a process by itself does not have."""

    def curve(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    cosine = 1 - curve((steps + 1) / (steps + 2)) / curve(0)
    return {"constant": 1.0, "linear": 20 / (steps + 1), "cosine": cosine}[schedule]


def arrays(meta: dict, variant: str) -> dict[str, torch.Tensor]:
    """The official arrays from the public functions of the process."""
    process = official({**meta, "max_sigma": meta["max_sigma_arg"]}, variant)
    t = torch.arange(meta["T"] + 1, dtype=torch.float64)
    alpha, sigma = process.alpha_sigma(t)
    f, g2 = process.drift_diffusion(t)
    dt = -f[-1] / theta_last(meta["schedule"], meta["T"])
    out = {
        "dt": dt,
        "thetas": -f / dt,
        "thetas_cumsum": -0.5 * torch.log1p(-((sigma / process.lam) ** 2)) / dt,
        "sigmas": (g2 / dt).sqrt(),
        "sigma_bars": sigma,
        "alpha_array": alpha,
        "lambda_array": process.half_log_snr(t),
    }
    rows = posterior(process, t.flip(0)).rows[::-1]
    out["posterior_coef_xt"] = torch.tensor([row.carry for row in rows], dtype=torch.float64)
    out["posterior_coef_x0"] = torch.tensor([row.weights[0] for row in rows], dtype=torch.float64)
    floor = process.lam * math.sqrt(1e-20 * dt)  # the official clamp
    out["posterior_std"] = torch.tensor([row.noise for row in rows], dtype=torch.float64).clamp(min=floor)
    return out


@pytest.mark.parametrize("case", cases("irsde_schedules"))
def test_schedule_arrays(case):
    tensors, meta = load("irsde_schedules", case)
    ours = {variant: arrays(meta, variant) for variant in ("orig", "mr")}
    for name, wanted in tensors.items():
        variant, precision, array = name.split("/")
        found = ours[variant][array]
        if variant == "orig" and array in ("thetas", "sigmas"):
            # This process subtracts theta_0; the one that keeps it knows it.
            found = torch.cat([ours["mr"][array][:1], found[1:]])
        if precision == "f32":
            # Where 1 - cos^2 cancels, float32 is 1.8 % off in sigma_0 and so 0.2 % in the largest lambda.
            assert error(found, wanted) < (3e-3 if array == "lambda_array" else 5e-5), name
        elif array.startswith("posterior"):
            assert error(found, wanted) < 1e-10, name  # the official 1 - alpha^2 loses 10 digits at small t
        else:
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("case", cases("mrsampler", "irsde_", without=("pieces", "index_sequences")))
def test_reverse_process(case):
    tensors, meta = load("mrsampler", case)
    options, call = meta["sde_args"], meta["call_args"]
    process = official(options, meta["variant"])
    grid = indices(process, steps=call.get("num_steps"), start=call.get("T"))
    assert grid[:-1].tolist() == tensors["index_t"].tolist()
    mu, noise = tensors["mu"], Replay(tensors["noise"])
    network = Recorded(tensors, meta["network"])
    denoise = Denoiser(network, process, prediction.noise, scale=None, label=Time(options["T"] / process.steps))
    z = process.lam * noise(mu, grid[0], grid[0])
    solver = SOLVERS[meta["routine"].rsplit("_", 1)[1]](process, grid)
    states = [z, *trajectory(partial(denoise, image=mu), process, z, grid, solver, noise)]
    for found, wanted in zip(states, tensors["states"], strict=True):
        assert error(found + mu, wanted) < tolerance(tensors)
    assert error(torch.stack(network.outputs), tensors["model_out"]) < tolerance(tensors)
    assert network.times == meta["model_t"]
    assert error(states[-1] + mu, tensors["final"]) < tolerance(tensors)


@pytest.mark.parametrize("case", cases("mrsampler", "irsde_mr_index_sequences"))
def test_index_sequences(case):
    for name, wanted in load("mrsampler", case)[0].items():
        top, count = (int(part[1:]) for part in name.split("_"))
        assert indices(MeanReverting(steps=top), steps=count).tolist() == [*wanted.tolist(), 0]


@pytest.mark.parametrize("case", cases("mrsampler", "denoisingsde_"))
def test_denoising_sde(case):
    tensors, meta = load("mrsampler", case)
    path = MeanReverting(meta["max_sigma"], meta["schedule"], meta["T"], eps=0.04)
    process = Denoising(path)
    for name, wanted in tensors.items():
        if name.startswith("optimal_timestep/"):
            assert denoising_start(process, float(name.split("/")[1]) / 255) == int(wanted)
    start = denoising_start(process, meta["sigma_for_start"] / 255)
    assert start == meta["start_index"]
    grid = indices(process, start=start)
    solver = (denoising_sde if "sde" in meta["routine"].rsplit(".")[1] else reverse_ode)(process, grid)
    denoise = Denoiser(Recorded(tensors, meta["network"]), process, prediction.noise, scale=None, label=Time())
    noise = Replay(tensors.get("noise", ()))
    states = [tensors["x"], *trajectory(denoise, process, tensors["states"][0], grid, solver, noise)]
    for found, wanted in zip(states, tensors["states"], strict=True):
        assert error(found, wanted) < tolerance(tensors)
    assert error(states[-1], tensors["final"]) < tolerance(tensors)


def test_posterior_steps_preserve_the_path():
    """Given the true z_0, each row takes N(alpha_t z_0, sigma_t^2) to N(alpha_{t-1} z_0, sigma_{t-1}^2)."""
    process = irsde_process(70, 40, "linear")
    grid = indices(process, steps=7)
    (alpha, sigma), (alpha_s, sigma_s) = process.alpha_sigma(grid[:-1]), process.alpha_sigma(grid[:-1] - 1)
    rows = posterior(process, grid).rows
    for i, row in enumerate(rows):
        assert row.carry * alpha[i] + row.weights[0] == pytest.approx(float(alpha_s[i]), abs=1e-12)
        assert (row.carry * sigma[i]) ** 2 + row.noise**2 == pytest.approx(float(sigma_s[i]) ** 2, abs=1e-12)


def test_denoising_noise_is_that_of_the_path():
    """A stochastic step of DenoisingSDE adds the variance g^2 of its mean-reverting SDE, not of the path of sigma."""
    process = Denoising(irsde_process())
    grid = indices(process)
    noise = torch.tensor([row.noise for row in denoising_sde(process, grid).rows], dtype=torch.float64)
    torch.testing.assert_close(noise**2, process.path.drift_diffusion(grid[:-1])[1])
    assert all(row.noise == 0 for row in reverse_ode(process, grid).rows)


@pytest.mark.parametrize("options", [{"steps": 101}, {"start": 0}, {"steps": 5, "start": 5}])
def test_indices_say_what_is_wrong(options):
    with pytest.raises(ValueError, match="indices"):
        indices(MeanReverting(), **options)


def test_max_sigma_is_in_levels_from_one_on():
    assert irsde_process(1).lam == 1 / 255
    assert irsde_process(0.5).lam == 0.5
