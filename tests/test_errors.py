"""Every ValueError of the core: raised by the value it speaks of, on one line that repeats that value.

The cases are compared with the source, so a new `raise` needs a new case.
"""

import ast
import traceback
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from oracles import Mixture, f64, run

from undrift import times as grids
from undrift.classify import NoisyClassifier
from undrift.denoiser import Denoiser, GaussianMixture
from undrift.networks import UNet
from undrift.noise import Brownian, PerSample, Replay
from undrift.prediction import data
from undrift.process import DDIM, EDM, VE, VP, Flow, Fresh, Interval, MeanReverting, Phased, SubVP, Table
from undrift.restart import Restart
from undrift.sample import sample, trajectory
from undrift.solvers import (
    AdaptiveExponential,
    Ancestral,
    AnnealedLangevin,
    Consistency,
    Corrected,
    DormandPrince,
    EulerMaruyama,
    Exponential,
    Heun,
    Langevin,
    Twisted,
)
from undrift.space import Latent, Residual
from undrift.tensor import expand

ROOT = Path(__file__).parents[1] / "undrift"
CORE = [
    *(
        ROOT / f"{name}.py"
        for name in ("tensor", "noise", "prediction", "space", "times", "denoiser", "classify", "sample", "restart")
    ),
    *(ROOT / "process").glob("*.py"),
    *(ROOT / "solvers").glob("*.py"),
]
ONE = torch.ones(1, 1)
MIX = Mixture(VP()).denoise
CLASSES = Denoiser(UNet((4,), (1,), context=0, in_channels=1, cond_channels=0, classes=3), VP(), data)
SEEING = Denoiser(UNet((4,), (1,), context=0), VP(), data)
ENDS = (f64(1.0), f64(0.1))


class Asking(torch.nn.Module):
    contexts: ClassVar = {"text_context": 8}

    def forward(self, z, c, text_context):
        return z


ASKING = Denoiser(Asking(), VP(), data)


def NAN(z, t):
    return z * torch.nan


def planned_too_short():
    solver = Exponential().plan(VP(), f64([1.0, 0.5]))
    z, state = solver.step(MIX, VP(), ONE, f64(1.0), f64(0.5), solver.init(), Replay([]))
    solver.step(MIX, VP(), z, f64(0.5), f64(0.1), state, Replay([]))


def one_observation_for_two():
    y = torch.zeros(1, 3, 4, 4)
    grid = grids.uniform(VP(), 2)
    sample(MIX, VP(), Residual(), shape=(2, 3, 4, 4), times=grid, solver=Exponential(), noise=Replay([]), y=y)


CASES = {  # what goes wrong: (the call, words of its message)
    "tolerances": (lambda: DormandPrince(-1.0), "rtol = -1.0"),
    "dp variable": (lambda: DormandPrince(variable="x"), "'x'"),
    "dp norm": (lambda: DormandPrince(norm="max"), "'max'"),
    "dp progress": (lambda: DormandPrince().step(NAN, VP(), ONE, *ENDS, (0,), Replay([])), "t = 1 of sample 0"),
    "ddim eta": (lambda: DDIM(1.5), "eta = 1.5"),
    "phased edges": (lambda: Phased((1.0, 0.5)), "edges = (1.0, 0.5)"),
    "phased edge": (lambda: Phased((float("nan"),)), "edges = (nan,)"),
    "phased step": (lambda: Phased((0.0,)).exponent(f64(-1), f64(1)), "a step passes over one of lambda = (0.0,)"),
    "consistency edges": (lambda: Consistency(0.5, (0.3,)), "fresh = 0.5 with edges"),
    "fresh share": (lambda: Fresh(-0.1), "share = -0.1"),
    "interval tau": (lambda: Interval(-1.0), "-1.0"),
    "ae tau": (lambda: AdaptiveExponential(tau=-1.0), "tau=-1.0"),
    "ae back": (lambda: AdaptiveExponential().step(NAN, VP(), ONE, *ENDS[::-1], (0,), Replay([])), "noise to data"),
    "ae progress": (lambda: AdaptiveExponential().step(NAN, VP(), ONE, *ENDS, (0,), Replay([])), "of sample 0"),
    "langevin norms": (lambda: Langevin(norms="mean"), "norms = 'mean'"),
    "snr": (lambda: AnnealedLangevin(-0.1), "snr = -0.1"),
    "first": (lambda: Corrected(None, Langevin(), "both"), "'both'"),
    "two correctors": (lambda: Corrected(Exponential(corrector=True), Langevin()), "corrector=True"),
    "restart ends": (lambda: Restart(Heun(), 2.0, 1.0), "noisy = 2.0"),
    "repeats": (lambda: Restart(Heun(), 0.0, 1.0, repeats=0), "repeats = 0"),
    "restart grid": (lambda: Restart(Heun(), 0.0, 9.0).plan(VP(), f64([1.0, 0.5, 0.1])), "from 9.0 to 0.0"),
    "particles": (lambda: Twisted(MIX, 0), "particles = 0"),
    "noisy classifier": (lambda: NoisyClassifier(torch.nn.Identity(), VP(), scale=0.0), "scale = 0.0"),
    "rho": (lambda: grids.karras(VP(), 5, rho=0.0), "rho = 0.0"),
    "observation": (one_observation_for_two, "(1, 3, 4, 4)"),
    "sigmas": (lambda: VE(3.0, 2.0), "VE(3.0, 2.0)"),
    "ve times": (lambda: VE(t_min=2.0), "[2.0, 1.0]"),
    "betas": (lambda: VP(5.0, 1.0), "[5.0, 1.0]"),
    "subvp betas": (lambda: SubVP(-1.0, 1.0), "[-1.0, 1.0]"),
    "vp times": (lambda: VP(t_min=0.0), "[0.0, 1.0]"),
    "edm": (lambda: EDM(t_min=-1.0), "EDM(-1.0, 80.0)"),
    "flow": (lambda: Flow(t_max=2.0), "Flow(0.001, 2.0)"),
    "lam": (lambda: MeanReverting(lam=0.0), "lam = 0.0"),
    "schedule": (lambda: MeanReverting(schedule="cos"), "'cos'"),
    "indices": (lambda: MeanReverting(steps=1), "steps = 1"),
    "eps": (lambda: MeanReverting(eps=1.0), "eps = 1.0"),
    "quantity": (lambda: Table((0.0, -1.0), "beta"), "'beta'"),
    "short": (lambda: Table((0.0,)), "Table of 1 values"),
    "flat": (lambda: Table((0.0, -1.0, -1.0)), "strictly decreasing"),
    "nan": (lambda: Table((0.0, float("nan"))), "strictly decreasing"),
    "alpha": (lambda: Table((0.2, -1.0)), "0.2"),
    "scale": (lambda: Table((0.0, -1.0), scale=0.0), "scale = 0.0"),
    "tau": (lambda: VP().bridge(ONE, ONE, f64(0.5), f64(0.4), -1.0), "tau = -1.0"),
    "bridge noise": (lambda: VP().bridge(ONE, ONE, f64(0.5), f64(0.4), 0.7), "tau = 0.7"),
    "expand": (lambda: expand(torch.ones(3), torch.ones(2, 1)), "(3,)"),
    "steps": (lambda: grids.uniform(VP(), 0), "steps = 0"),
    "end": (lambda: grids.uniform_lambda(VP(), 4, 99.0), "end = 99.0"),
    "start": (lambda: grids.uniform_lambda(VP(), 4, 2.0, start=3.0), "start = 3.0"),
    "trailing": (lambda: grids.trailing(VP(), 4), "trailing grid of 4 steps"),
    "path": (lambda: Brownian([0], 1.0, 1.0), "[1.0, 1.0]"),
    "seeds": (lambda: PerSample([1])(torch.ones(2, 1), f64(1.0), f64(0.5)), "1 seeds for a batch of 2"),
    "replay": (lambda: Replay([])(ONE, f64(1.0), f64(0.5)), "Replay of 0 draws"),
    "denoiser": (lambda: Denoiser(torch.nn.Identity(), VP(), data, scale=-1.0), "scale = -1.0"),
    "channels": (lambda: CLASSES(torch.ones(2, 3, 4, 4), f64(0.5)), "(2, 3, 4, 4)"),
    "image": (lambda: SEEING(torch.ones(1, 3, 4, 4), f64(0.5), image=torch.ones(1, 3, 4, 5)), "(1, 3, 4, 5)"),
    "context": (lambda: ASKING(ONE, f64(0.5)), "text_context is missing"),
    "float label": (lambda: CLASSES(torch.ones(2, 1, 4, 4), f64(0.5), label=torch.ones(2)), "torch.float32 (2,)"),
    "label range": (lambda: CLASSES(torch.ones(1, 1, 4, 4), f64(0.5), label=torch.tensor([4])), "[4, 4]"),
    "mixture": (lambda: GaussianMixture(torch.ones(2), ONE, torch.ones(2), VP()), "2 weights, 1 means"),
    "order": (lambda: Exponential(4), "order = 4"),
    "exponential tau": (lambda: Exponential(tau=-0.5), "tau = -0.5"),
    "exponential nan": (lambda: Exponential(tau=float("nan")), "tau = nan"),
    "extrapolate": (lambda: Exponential(extrapolate="x0"), "'x0'"),
    "weights": (lambda: Exponential(weights="taylor"), "'taylor'"),
    "table": (lambda: Exponential().table(VP(), f64([0.1, 0.5])), "(2,)"),
    "plan": (planned_too_short, "step 2 of a table of 1"),
    "euler tau": (lambda: EulerMaruyama(-1.0), "tau = -1.0"),
    "variance": (lambda: Ancestral("beta"), "'beta'"),
    "churn": (lambda: Heun(churn=-0.1), "churn = -0.1"),
    "grid": (lambda: next(trajectory(MIX, VP(), ONE, f64([0.5]), Exponential(), Replay([]))), "(1,)"),
    "running out": (lambda: run(MIX, VP(), ONE, f64([0.5, 0.2]), EulerMaruyama(), Replay([])), "Replay of 0 draws"),
    "latent scale": (lambda: Latent(None, 0.0), "scale = 0.0"),
    "discrete steps": (lambda: grids.discrete(Table((-1.0, -2.0)), 3), "3 steps"),
    "discrete spacing": (lambda: grids.discrete(Table((-1.0, -2.0)), 1, "middle"), "'middle'"),
    "discrete offset": (lambda: grids.discrete(Table((-1.0, -2.0)), 1, offset=2), "offset = 2"),
    "residual": (lambda: Residual().encode(ONE), "give y"),
}


def caught(name: str) -> ValueError:
    with pytest.raises(ValueError) as info:  # noqa: PT011
        CASES[name][0]()
    return info.value


@pytest.mark.parametrize("name", CASES)
def test_one_line_that_names_the_value(name):
    message = str(caught(name))
    assert "\n" not in message
    assert CASES[name][1] in message
    assert 30 < len(message) < 240


def test_no_error_is_left_out():
    written = {
        (file.name, node.lineno)
        for file in CORE
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise)
    }
    raised = set()
    for name in CASES:
        frame = traceback.extract_tb(caught(name).__traceback__)[-1]
        raised |= {(Path(frame.filename).name, line) for line in range(frame.lineno - 4, frame.lineno + 1)}
    assert sorted(written - raised) == []
