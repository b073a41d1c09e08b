"""Parity with the official inpainter and colorizer, update by update."""

from dataclasses import replace

import pytest
import torch
from golden import cases, error, load
from test_score_sde import denoiser, official, tolerance

from undrift import VE, VP, Pixels, Replay, trajectory
from undrift.guidance import colour_rotation
from undrift.interop.score_sde import ScoreSDE
from undrift.interop.score_sde_controllable import MATRIX, Controlled, colorizer, inpainter


def controlled(tensors: dict, meta: dict) -> Controlled:
    sampler, clean = official(meta), meta["denoise"]
    if "gray" in tensors:
        return colorizer(sampler, tensors["gray"], clean)
    return inpainter(sampler, tensors["data"], tensors["mask"], clean)


@pytest.mark.parametrize("case", cases("controllable", without=("matrix",)))
def test_whole_runs(case):
    tensors, meta = load("controllable", case)
    control = controlled(tensors, meta)
    denoise = denoiser(control.sampler, tensors, meta)
    close, noise = tolerance(tensors["samples"]), Replay(tensors["noise"])
    assert error(control.times[:-1], tensors["timesteps"]) < close
    first = control.start(noise)
    run = trajectory(denoise, control.sampler.process, first, control.times, control, noise)
    states = [first, *run]
    assert len(denoise.network.labels) == meta["network_calls"]
    assert next(noise.draws, None) is None  # every draw was used
    entering = tensors["before_update_x"]
    assert error(torch.stack(states[:-1]), entering[::2]) < close
    final = Pixels().decode(states[-1]) if meta["inverse_scaler"] != "identity" else states[-1]
    assert error(final, tensors["samples"]) < close

    # what enters the predictor: a step of the corrector alone (the predictor "none" draws its projection only)
    half = replace(control, sampler=replace(control.sampler, predictor="none"), clean=False)
    per_step = (len(tensors["noise"]) - 1) // control.sampler.steps
    drawn = per_step - 2 - (control.sampler.predictor != "none")
    for i, (t, s) in enumerate(zip(control.times[:-1], control.times[1:], strict=True)):
        rows = tensors["noise"][1 + i * per_step :][: drawn + 1]
        # the second projection of the half step repeats the first, and so changes nothing
        z, _ = half.step(denoise, half.sampler.process, states[i], t, s, (), Replay([*rows, rows[-1]]))
        assert error(z, entering[2 * i + 1]) < close


@pytest.mark.parametrize("case", cases("controllable", "colorizer_matrix"))
def test_the_matrix(case):
    tensors, _ = load("controllable", case)
    assert torch.equal(torch.tensor(MATRIX, dtype=torch.float64), tensors["M"])
    assert torch.equal(torch.tensor(MATRIX), tensors["M_f32"])


def test_the_matrix_is_the_rotation_rounded():
    torch.testing.assert_close(torch.tensor(MATRIX, dtype=torch.float64), colour_rotation(), rtol=0, atol=2e-7)


def test_defaults_and_a_grey_image_of_one_channel():
    x = torch.zeros(2, 3, 4, 4)
    assert float(inpainter(ScoreSDE(VP(), 10), x, x).times[-2]) == 1e-5
    assert float(inpainter(ScoreSDE(VP(), 10, eps=1e-3), x, x).times[-2]) == 1e-3
    with pytest.raises(ValueError, match=r"grey image \(2, 1, 4, 4\)"):
        colorizer(ScoreSDE(VE(), 10), x[:, :1])
