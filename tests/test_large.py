"""In bands, a photograph is what `sample` with `tiled` makes of it, number for number; only the memory differs."""

import pytest
import torch

import undrift
from undrift.guidance import tiled
from undrift.large import Field, bands, streams
from undrift.networks import UNet
from undrift.noise import PerSample
from undrift.restoration import PRESETS, restore
from undrift.sample import sample

SIZE = {"tile": 48, "overlap": 24}


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    process = undrift.MeanReverting(lam=10 / 255)
    network = UNet(channels=(8, 16), blocks=(1, 1), deblur=4)
    return undrift.Denoiser(network, process, undrift.prediction.Data(0.05), scale=0.25)


@pytest.mark.parametrize("shape", [(3, 100, 70), (3, 33, 131), (1, 7, 5), (3, 800, 701)])
def test_a_field_in_bands_is_the_whole_draw(shape):
    """Also where a channel is no multiple of 16 numbers, where pieces end, and in what is drawn afterwards."""
    whole, cut = PerSample([5]), PerSample([5])
    like, t = torch.zeros(1, *shape), torch.zeros(())
    for _ in range(2):
        field, rows, found = Field(cut.generators[0], shape), 0, []
        while rows < shape[1]:
            found.append(field.rows(min(13, shape[1] - rows)))
            rows += found[-1].shape[-2]
        assert torch.equal(torch.cat(found, 2), whole(like, t, t))


@pytest.mark.parametrize("solver", ["ode-1", "ode-2", "ode-2c", "ode-3", "sde-1", "sde-2", "consistency"])
def test_bands_change_no_number(denoiser, solver):
    y = torch.rand(3, 83, 70)
    process, preset = denoiser.process, PRESETS[solver]
    grid = preset.grid(process, 3)
    assert streams(preset.solver, process, grid) is not None
    whole = sample(
        tiled(denoiser, 48, 24), process, undrift.Residual(), shape=(1, *y.shape), times=grid, solver=preset.solver,
        noise=PerSample([3]), y=y[None], image=y[None],
    )  # fmt: skip
    found = restore(denoiser, undrift.Residual(), y, steps=3, solver=solver, seed=3, **SIZE)
    assert found.evaluations == 3
    assert torch.equal(found.image, whole[0])
    assert whole.std() > 0.01


@pytest.mark.parametrize("solver", ["posterior", "heun"])
def test_other_solvers_hold_the_whole(denoiser, solver):
    assert streams(PRESETS[solver].solver, denoiser.process, PRESETS[solver].grid(denoiser.process, 3)) is None
    assert restore(denoiser, undrift.Residual(), torch.rand(3, 60, 70), steps=3, solver=solver, **SIZE).image.std() > 0


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("shape", [(3, 90, 61), (3, 30, 20)])
def test_levels_in_levels_out(denoiser, shape, samples):
    levels = torch.randint(256, shape, dtype=torch.uint8)
    options = dict(steps=2, samples=samples, **SIZE)
    found = restore(denoiser, undrift.Residual(), levels, **options)
    wanted = restore(denoiser, undrift.Residual(), levels.float() / 255, **options)
    assert found.image.dtype == torch.uint8
    difference = (found.image.int() - wanted.image.mul(255).round().int()).abs()
    assert difference.max() <= (samples > 1)  # the mean of levels is not the level of the mean
    assert (found.spread is None) == (samples == 1)


def test_bands_cover_every_row_once(denoiser):
    y = torch.rand(1, 3, 150, 101)
    z, t = torch.zeros_like(y), torch.tensor(50.0, dtype=torch.float64)
    rows = [rows for rows, _ in bands(denoiser, z, t, y, 48, 24)]
    assert [r.start for r in rows] == [0, *(r.stop for r in rows[:-1])]
    assert rows[-1].stop == 150
