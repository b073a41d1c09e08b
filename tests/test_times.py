"""Grids: where they start and end, what is uniform in them, and N network calls for N steps."""

import math

import pytest
import torch
from oracles import PROCESSES, Counting, Ramp, f64, run

from undrift import times as grids
from undrift.noise import Gaussian
from undrift.process import EDM, VE, VP, Flow, MeanReverting, Process, Table
from undrift.solvers import Exponential

each = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
GRIDS = {"uniform": grids.uniform, "uniform_lambda": grids.uniform_lambda, "karras": grids.karras}
each_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
steps = pytest.mark.parametrize("count", [1, 2, 9])


class Half(Process):
    """A path that never reaches the data: t_clean is t_min."""

    t_min, t_max = 0.5, 1.0

    def alpha_sigma(self, t):
        return torch.ones_like(t), t


@each
@each_grid
@steps
def test_every_grid_leads_from_noise_to_data(process, grid, count):
    times = grid(process, count)
    assert times.dtype == torch.float64
    assert times.shape == (count + 1,)
    assert (float(times[0]), float(times[-1])) == (process.t_max, process.t_clean)
    assert (times.diff() < 0).all()
    assert float(times[-2]) >= process.t_min


@each
@each_grid
def test_n_steps_are_n_network_calls(process, grid):
    times = grid(process, 5)
    for solver in (Exponential(1, 1.0), Exponential(3, corrector=True), Exponential(2, 0.5, "noise")):
        denoise = Counting(lambda z, t: torch.zeros_like(z))
        run(denoise, process, torch.ones(1, 1), times, solver, Gaussian(torch.Generator().manual_seed(0)))
        assert torch.equal(torch.stack(denoise.times), times[:-1])


@each_grid
@steps
def test_a_path_without_data_ends_at_t_min(grid, count):
    times = grid(Half(), count)
    assert times.shape == (count + 1,)
    assert times[[0, -1]].tolist() == pytest.approx([1.0, 0.5], rel=1e-14)
    assert (times.diff() < 0).all()


@each
def test_uniform_is_uniform_in_t(process):
    times = grids.uniform(process, 8)
    low = process.t_min if process.t_clean == -math.inf else process.t_clean
    expected = process.t_max - torch.arange(8, dtype=torch.float64) * (process.t_max - low) / 8
    torch.testing.assert_close(times[:-1], expected, rtol=1e-13, atol=0)


@each
def test_uniform_lambda_is_uniform_to_its_end(process):
    low, high = process.half_log_snr(f64([process.t_max, process.t_min])).tolist()
    for end in (None, 2.5):
        lam = process.half_log_snr(grids.uniform_lambda(process, 9, end)[:-1])
        assert float(lam[-1]) == pytest.approx(high if end is None else end, rel=1e-11)
        torch.testing.assert_close(lam[1:].diff(), lam[2:3] - lam[1:2] + torch.zeros(7, dtype=torch.float64))
        if low > -math.inf:
            assert float(lam[1] - lam[0]) == pytest.approx(float(lam[2] - lam[1]), rel=1e-9)


@each
@pytest.mark.parametrize("count", [2, 6])
def test_a_late_start_is_reached_in_one_step(process, count):
    times = grids.uniform_lambda(process, count, 2.5, start=-1.0)
    assert times.shape == (count + 1,)
    assert (float(times[0]), float(times[-1])) == (process.t_max, process.t_clean)
    lam = process.half_log_snr(times[1:-1])
    if count == 2:
        assert float(lam[0]) == pytest.approx(-1.0, abs=1e-10)
    else:
        torch.testing.assert_close(lam, torch.linspace(-1.0, 2.5, count - 1, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rho", [3.0, 7.0])
def test_karras_on_edm_is_equation_5(rho):
    i, n, low, high = torch.arange(10, dtype=torch.float64), 10, 0.002 ** (1 / rho), 80 ** (1 / rho)
    expected = (high + i / (n - 1) * (low - high)) ** rho
    torch.testing.assert_close(grids.karras(EDM(), n, rho)[:-1], expected, rtol=1e-12, atol=0)


def test_karras_with_a_large_rho_is_uniform_lambda():
    torch.testing.assert_close(
        grids.karras(VP(), 12, 1e7, 4.0), grids.uniform_lambda(VP(), 12, 4.0), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("count", [1, 3, 7, 50, 100])
def test_trailing_is_diffusers_trailing(count):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(count)
    times = grids.trailing(PROCESSES["Table-log_alpha"], count)
    assert times.tolist() == [*scheduler.timesteps.tolist(), -math.inf]


def test_trailing_on_ir_sdes_indices():
    assert grids.trailing(MeanReverting(), 4).tolist() == [100, 75, 50, 25, 0]
    assert grids.trailing(MeanReverting(), 100).tolist() == list(range(100, -1, -1))


@pytest.mark.parametrize("process", [VP(), VE(), Flow(), EDM(), Ramp()], ids=repr)
def test_trailing_needs_indices(process):
    with pytest.raises(ValueError, match="needs a discrete schedule"):
        grids.trailing(process, 1)


def test_trailing_needs_enough_of_them():
    with pytest.raises(ValueError, match=r"trailing grid of 101 steps on times \[1.0, 100.0\]"):
        grids.trailing(MeanReverting(), 101)


def test_a_table_that_starts_clean_has_every_grid():
    """log alpha_0 = 0, as IR-SDE's schedule written down: the data lie at 0."""
    table = Table((0.0, -0.01, -0.4, -3.0))
    for grid in (*GRIDS.values(), grids.trailing):
        times = grid(table, 3)
        assert (float(times[0]), float(times[-1])) == (3.0, 0.0)
        assert (times.diff() < 0).all()


@each_grid
@pytest.mark.parametrize("count", [0, -3, 2.5])
def test_the_number_of_steps_is_checked(grid, count):
    with pytest.raises(ValueError, match=rf"steps = {count}: need a whole number"):
        grid(VP(), count)


@pytest.mark.parametrize("grid", [grids.uniform_lambda, grids.karras])
@pytest.mark.parametrize("end", [-40.0, 40.0])
def test_the_end_is_checked(grid, end):
    with pytest.raises(ValueError, match=rf"end = {end}: the half log-SNR of this process lies in \(-5\.\d+, 6\.\d+\]"):
        grid(VP(), 5, end=end)
