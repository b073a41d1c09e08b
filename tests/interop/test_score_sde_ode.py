"""Parity with the official Score SDE: the ODE sampler and the likelihood, their evaluations included."""

import pytest
import torch
from golden import cases, error, load
from test_score_sde import denoiser, official

from undrift import Pixels, Replay
from undrift.interop import score_sde_ode


@pytest.mark.parametrize("case", cases("score_sde", "ode_", "f32_ode_"))
def test_ode_sampler(case):
    tensors, meta = load("score_sde", case)
    sampler = official(meta)
    denoise = denoiser(sampler, tensors, meta)
    wanted = tensors["samples"]
    double = wanted.dtype == torch.float64
    draws = Replay(list(tensors["noise"]))
    first = sampler.start(wanted, draws)
    z = tensors.get("z", first)
    z, evaluations = score_sde_ode.ode(sampler, denoise, z, draws, rtol=meta["rtol"], atol=meta["atol"])
    final = Pixels().decode(z) if meta["inverse_scaler"] != "identity" else z
    assert error(final, wanted) < (1e-9 if double else 1e-3)
    if double:  # in float32 the number of steps hangs on rounding errors
        assert evaluations == meta["nfe"]
        assert len(denoise.network.labels) == meta["network_calls"]


@pytest.mark.parametrize("case", cases("score_sde", "likelihood_", "f32_likelihood_"))
def test_likelihood(case):
    tensors, meta = load("score_sde", case)
    sampler = official(meta)
    denoise = denoiser(sampler, tensors, meta)
    double = tensors["bpd"].dtype == torch.float64
    found = score_sde_ode.likelihood(
        sampler,
        denoise,
        tensors["data"],
        tensors["epsilon"],
        centered=meta["inverse_scaler"] != "identity",
        eps=meta["eps"],
        rtol=meta["rtol"],
        atol=meta["atol"],
    )
    assert error(found.bits_per_dim, tensors["bpd"]) < (1e-6 if double else 1e-4)
    assert error(found.latent, tensors["z"]) < (1e-9 if double else 1e-3)
    if double:
        assert found.evaluations.tolist() == [meta["nfe"]] * len(tensors["data"])
        assert len(denoise.network.labels) * 2 == meta["network_calls"]
