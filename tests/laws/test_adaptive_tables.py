"""The adaptive rows of research/score-sde.md 7.5 and 7.6: evaluations, errors, round trips and log p of RK45 in t.

The table does not say which three Gaussians it is of, so it cannot be reproduced digit by digit: its counts are matched
to a factor of 2, its errors to one of 8, on two draws, of wide and of narrow components. Of the three draws looked at
when this was written, one keeps all counts at 1e-5 and 1e-7 within 20 %. Exact counts are in tests/interop.
"""

import pytest
import torch
from oracles import Ramp, f64, silent
from torch import Tensor, nn

from undrift import VE, VP, SubVP
from undrift.likelihood import log_likelihood
from undrift.process import Process
from undrift.solvers.adaptive import DormandPrince
from undrift.tensor import expand

PATHS: dict[str, Process] = {"VP": VP(t_min=1e-3), "VE": VE(), "SubVP": SubVP(t_min=1e-3), "MR": Ramp()}
SAMPLING = {  # evaluations at tolerances 1e-1 to 1e-7, 32 points in one step size, and the error at 1e-5
    "VP": ((14, 26, 50, 56, 86, 122, 182), 2.4e-5),
    "VE": ((32, 38, 50, 74, 104, 158, 236), 1.2e-5),
    "SubVP": ((14, 32, 44, 56, 86, 128, 176), 2.4e-5),
    "MR": ((14, 26, 50, 62, 74, 116, 176), 1e-4),
}
SPREADS = {"wide": (0.2, 0.8), "narrow": (0.05, 0.35)}  # variances of the components, between these
LIKELIHOOD = {"VE": (1.3e-4, 116), "VP": (4.5e-5, 68), "SubVP": (1.3e-4, 86), "MR": (9.1e-5, 74)}  # at 1e-5


class Full(nn.Module):
    """The exact estimate of w_k N(m_k, Q_k diag(v_k) Q_k^T)."""

    def __init__(self, process: Process, spread: str):
        super().__init__()
        low, high = SPREADS[spread]
        generator = torch.Generator().manual_seed(5)
        self.process = process
        self.means = torch.randn(3, 8, generator=generator, dtype=torch.float64)
        self.spans = torch.linalg.qr(torch.randn(3, 8, 8, generator=generator, dtype=torch.float64))[0]
        generator.manual_seed(9)
        self.variances = low + (high - low) * torch.rand(3, 8, generator=generator, dtype=torch.float64)
        self.weights = f64([0.3, 0.4, 0.3])

    def parts(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        alpha, sigma = (expand(c, z) for c in self.process.alpha_sigma(t))
        spread = alpha**2 * self.variances[:, None] + sigma**2
        offset = (z - alpha * self.means[:, None]) @ self.spans
        logs = self.weights.log()[:, None] - 0.5 * (offset**2 / spread + (2 * torch.pi * spread).log()).sum(-1)
        return logs, offset, spread, alpha

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        logs, offset, spread, alpha = self.parts(z, t)
        pull = (alpha * self.variances[:, None] / spread * offset) @ self.spans.mT
        return (logs.softmax(0)[..., None] * (self.means[:, None] + pull)).sum(0)

    def log_prob(self, z: Tensor, t: Tensor) -> Tensor:
        return self.parts(z, t)[0].logsumexp(0)

    def draw(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(7)
        k = torch.randint(3, (count,), generator=generator)
        eps = torch.randn(count, 8, generator=generator, dtype=torch.float64)
        return self.means[k] + (self.spans[k] @ (self.variances[k].sqrt() * eps)[..., None])[..., 0]


def down(name: str, spread: str, solver: DormandPrince) -> tuple[Tensor, Tensor]:
    """32 draws of the prior at t_min, and their evaluations."""
    process = PATHS[name]
    times = f64([process.t_max, process.t_min])
    eps = torch.randn(32, 8, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    z = process.alpha_sigma(times[0])[1] * eps
    out, (evaluations,) = solver.step(Full(process, spread), process, z, *times, solver.init(), silent)
    return out, evaluations


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", PATHS)
def test_sampling(name, spread):
    counts, error = SAMPLING[name]
    exact, _ = down(name, spread, DormandPrince(1e-10, 1e-10))
    for tol, count in zip((1e-1, 1e-3, 1e-5, 1e-7), counts[::2], strict=True):
        out, evaluations = down(name, spread, DormandPrince(tol, tol, "time", "batch"))
        assert count / 2 <= evaluations.max() <= 2 * count
        assert (evaluations % 6 == 2).all()
        if tol == 1e-5:
            assert float((out - exact).square().mean().sqrt()) < 8 * error
            ours, fewer = down(name, spread, DormandPrince())
            assert float((ours - exact).square().mean().sqrt()) < 8 * error
            assert fewer.double().mean() < 0.8 * float(evaluations.max())  # what the angle is for


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", PATHS)
def test_likelihood(name, spread):
    error, count = LIKELIHOOD[name]
    process = PATHS[name]
    model = Full(process, spread)
    z0 = model.draw(16)
    truth = model.log_prob(z0, f64(process.t_min))
    batch, own = (
        log_likelihood(model, process, z0, prior=lambda z: model.log_prob(z, f64(process.t_max)), solver=solver)
        for solver in (DormandPrince(1e-5, 1e-5, "time", "batch"), DormandPrince())
    )
    assert float((batch.nats - truth).abs().mean()) < 4 * error
    assert int(batch.evaluations[0]) == pytest.approx(count, rel=0.25)
    assert float((own.nats - truth).abs().mean()) < 5e-5
