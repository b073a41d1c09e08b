"""Parity with the official losses: our objective on the recorded batch, times and noise, times the official factor."""

import pytest
import torch
from golden import cases, error, load
from test_score_sde import SDES, Recorded

from undrift import VE, Denoiser, Table, prediction
from undrift.denoiser import Time
from undrift.interop.score_sde import Level, ScoreSDE
from undrift.methods import Likelihood, Sigma2


def objective(meta: dict, tensors: dict):
    """(process, prediction, label, times) of the official loss."""
    options = dict(meta["sde_args"])
    steps = options.pop("N")
    if meta["routine"] == "get_smld_loss_fn":  # geometric levels, the noisiest first
        return VE(**options, t_min=0.0), prediction.score, Level(steps), 1 - tensors["index"].double() / (steps - 1)
    if meta["routine"] == "get_ddpm_loss_fn":
        beta = torch.linspace(options["beta_min"] / steps, options["beta_max"] / steps, steps, dtype=torch.float64)
        table = Table((0.0, *(0.5 * torch.log1p(-beta).cumsum(0)).tolist()))
        return table, prediction.noise, Shifted(), tensors["index"] + 1.0
    sampler = ScoreSDE(SDES[meta["sde"]](**options), steps, continuous=meta["continuous"])
    return sampler.process, sampler.prediction, sampler.label, tensors["t"].double()


class Shifted(Time):
    """A table counts its levels from 1, DDPM's labels from 0."""

    def __call__(self, process, t):
        return t - 1


@pytest.mark.parametrize("case", cases("score_sde", "loss_", "f32_loss_"))
def test_loss(case):
    tensors, meta = load("score_sde", case)
    process, meaning, label, t = objective(meta, tensors)
    network = Recorded(tensors, meta)
    x, z = tensors["batch"], tensors["z"]
    t = t.double()
    noisy = process.marginal(x, t, z.to(x))
    denoise = Denoiser(network, process, meaning, scale=None, label=label)
    miss = (denoise(noisy, t) - x).square().flatten(1).mean(1)
    weighting = Likelihood(process) if meta["likelihood_weighting"] else Sigma2()
    loss = weighting(miss, t, *process.alpha_sigma(t)).mean()
    half_sum = 1 if meta["reduce_mean"] else x[0].numel() / 2
    close = 1e-9 if x.dtype == torch.float64 else 1e-3
    assert error(noisy, tensors["perturbed"]) < close
    assert error(network.labels[0], tensors["labels"]) < close
    assert error(half_sum * loss, tensors["loss"]) < close
