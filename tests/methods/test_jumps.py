"""Paths of a teacher that are kept: their states by the exact flow, and jumps that begin and end on them."""

import pytest
import torch
from oracles import f64
from torch import nn

from undrift.data.batch import Batch
from undrift.denoiser import Denoiser, GaussianMixture
from undrift.draws import Rows
from undrift.generation import in_lambda
from undrift.methods import Scott
from undrift.methods.jumps import Jumps
from undrift.noise import Replay
from undrift.prediction import data
from undrift.process import VP
from undrift.solvers import Exponential
from undrift.space import Pixels

PROCESS, SPREAD = VP(), 0.6
GRID = in_lambda(PROCESS, 5, 4.0)
PLAIN = Pixels(centred=False)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2).double()

    def forward(self, z, c):
        return self.layer(torch.cat([z, c[:, None]], 1))


def exact():
    """The denoiser of one Gaussian of standard deviation SPREAD."""
    return GaussianMixture(f64([1.0]), torch.zeros(1, 2).double(), f64([SPREAD**2]), PROCESS)


def scott(**settings):
    torch.manual_seed(0)
    plan = {"jump": 5, "substeps": 60, "between": "lambda"} | settings
    student = Denoiser(Net(), PROCESS, data)
    return Scott(student, exact(), PROCESS, PLAIN, GRID, Exponential(2), **plan)


def states(count=64, seed=1):
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_path_is_the_flow_at_the_nodes():
    """Of a Gaussian: z_t / sqrt(alpha_t^2 s^2 + sigma_t^2) does not change along the ODE."""
    z = states() * float(PROCESS.alpha_sigma(GRID[0])[1])
    path = scott().path(z, Replay([]))
    alpha, sigma = PROCESS.alpha_sigma(GRID)
    scale = ((alpha * SPREAD) ** 2 + sigma**2).sqrt()
    assert path.shape == (64, 6, 2)
    assert torch.equal(path[:, 0], z)
    torch.testing.assert_close(path / scale[:, None], (z / scale[0])[:, None].expand(-1, 6, -1), rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize(("jump", "substeps", "steps"), [(1, 1, 5), (2, 3, 10), (5, 15, 15)])
def test_as_many_steps_between_nodes_as_a_jump_has(jump, substeps, steps):
    jumps = scott(jump=jump, substeps=substeps).jumps
    assert len(jumps.whole()) == steps + 1
    assert set(GRID.tolist()) <= set(jumps.whole().tolist())


def test_nothing_lies_between_the_last_node_and_data_at_minus_infinity():
    grid = f64([3.0, 2.0, 0.0, -torch.inf])
    assert Jumps(PROCESS, grid, 1, 2).whole().tolist() == [3.0, 2.5, 2.0, 1.0, 0.0, -torch.inf]


@pytest.mark.parametrize("jump", [2, 5])
def test_jumps_of_a_kept_path_begin_and_end_on_it(jump):
    """The teacher, which would be no number, is not asked; the target is the target's map from where the jump ends."""
    method = scott(jump=jump, substeps=3 * jump, denoising=1.0)
    path = states(32 * 6).reshape(32, 6, 2)
    method.teacher = lambda z, t: z * torch.nan
    drawn = method._draw(Batch(states(32, 9), path=path), torch.Generator().manual_seed(2))
    index = (GRID[:, None] == drawn.t).nonzero()[:, 0][torch.argsort((GRID[:, None] == drawn.t).nonzero()[:, 1])]
    row, goal = torch.arange(32), (index + jump).clamp(max=5)
    z, later = path[row, index], path[row, goal]
    assert index.unique().tolist() == [0, 1, 2, 3, 4]
    estimate = method.target(later, torch.where(goal == 5, PROCESS.t_min, GRID[goal]))
    expected = PROCESS.bridge(later, estimate, GRID[goal], GRID[-1].expand(32))
    torch.testing.assert_close(drawn.target, expected)
    if jump == 5:
        torch.testing.assert_close(drawn.target, path[:, -1])
    torch.testing.assert_close(
        drawn.draws[0], PROCESS.bridge(z, method.student(z, drawn.t), drawn.t, GRID[-1].expand(32))
    )
    torch.testing.assert_close(drawn.clean, PROCESS.bridge(z, path[:, -1], drawn.t, GRID[-1].expand(32)))
    torch.testing.assert_close(drawn.real, states(32, 9))  # a critic's real ones are the data, not the teacher's


def test_from_the_teachers_paths_one_learns_its_flow():
    """Both nodes of a student that is linear there: from pure noise to the Gaussian, its spread and all."""
    method = scott(weights=[1, 0, 0, 0, 0])
    z = states(1024) * float(PROCESS.alpha_sigma(GRID[0])[1])
    path = method.path(z, Replay([]))
    optimizer = torch.optim.Adam(method.student.parameters(), 0.03)
    for step in range(200):
        rows = torch.randint(1024, (128,), generator=torch.Generator().manual_seed(step))
        loss, _ = method.loss("student", Batch(path[rows, -1], path=path[rows]), torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        made = method.student(z, GRID[0].expand(1024))
    torch.testing.assert_close(made, path[:, -1], rtol=0.02, atol=0.02)
    assert made.std().item() == pytest.approx(SPREAD, rel=0.03)


@pytest.mark.parametrize(("jump", "segments", "arrive"), [(5, 1, True), (4, 1, False), (3, 2, True), (2, 2, False)])
def test_whether_all_jumps_arrive(jump, segments, arrive):
    """Then the target is no network's, and none is asked for it."""
    method = scott(jump=jump, segments=segments, substeps=5)
    assert method.jumps.arrive == arrive
    method.target.forward = lambda z, t: z * torch.nan
    drawn = method._draw(Batch(states(64, 9)), torch.Generator().manual_seed(2))
    assert bool(drawn.target.isfinite().all()) == arrive


def test_weights_say_how_often_a_jump_begins_at_a_node():
    jumps = scott(weights=[6, 0, 3, 0, 1]).jumps
    found = torch.bincount(jumps.starts(20_000, torch.Generator().manual_seed(0)), minlength=5) / 20_000
    torch.testing.assert_close(found, torch.tensor([0.6, 0, 0.3, 0, 0.1]), rtol=0, atol=0.012)
    assert (found[1], found[3]) == (0, 0)
    whole = jumps.starts(8, Rows(7, 0, 8, 8))
    assert torch.equal(whole, torch.cat([jumps.starts(4, Rows(7, first, 4, 8)) for first in (0, 4)]))


@pytest.mark.parametrize(
    "weights", [[1, 1], [1, 1, 1, 1, -1], [0, 0, 0, 0, 0], [1, 1, 1, 1, torch.inf], [torch.nan] * 5]
)
def test_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="need a number >= 0 for each of the 5 nodes, not all 0") as error:
        scott(weights=weights)
    assert "\n" not in str(error.value)
