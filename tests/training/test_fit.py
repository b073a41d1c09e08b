import math
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from undrift.data.batch import Batch
from undrift.methods import Method
from undrift.training.average import Average, Power
from undrift.training.fit import fit


@dataclass
class Regression(Method):
    """|w x - y|^2 with a little noise on x: two phases when there is a second module."""

    first: nn.Module
    second: nn.Module | None = None
    noise: float = 0.0
    stepped: int = 0

    @property
    def phases(self):
        return ("first",) if self.second is None else ("first", "second")

    def loss(self, phase, batch, generator):
        x = batch.x + self.noise * torch.randn(batch.x.shape, generator=generator)
        return (getattr(self, phase)(x) - batch.y).square().mean(), {"rows": float(len(x))}

    def after_step(self, step):
        self.stepped = step


def batches(start=0, size=4):
    step = start
    while True:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(size, 3, generator=generator)
        yield Batch(x, x.sum(1, keepdim=True))
        step += 1


def module(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))


@pytest.fixture(autouse=True)
def fresh():
    AcceleratorState._reset_state()


def run(net, steps, *, start=0, optimizer=None, generator=None, accumulate=1, stream=None, method=None, **options):
    optimizer = optimizer or torch.optim.AdamW(net.parameters(), lr=1e-2)
    return list(
        fit(
            method or Regression(net, noise=0.1),
            batches(start) if stream is None else stream,
            {"first": optimizer},
            accelerator=Accelerator(cpu=True, gradient_accumulation_steps=accumulate),
            generator=generator or torch.Generator().manual_seed(1),
            start=start,
            steps=steps,
            **options,
        )
    )


def test_resumed_is_bit_for_bit_the_uninterrupted_run(tmp_path):
    def schedule(step):
        return 1 / (1 + step)

    whole = module()
    average = Average(whole, Power(0.1))
    run(whole, 10, averages=[average], schedule=schedule)

    half, generator = module(), torch.Generator().manual_seed(1)
    optimizer, partial = torch.optim.AdamW(half.parameters(), lr=1e-2), Average(half, Power(0.1))
    run(half, 6, optimizer=optimizer, generator=generator, averages=[partial], schedule=schedule)
    saved = {
        "net": half.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": partial.state_dict(),
        "generator": generator.get_state(),
    }
    torch.save(saved, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    rest, generator = module(seed=9), torch.Generator()
    optimizer, resumed = torch.optim.AdamW(rest.parameters(), lr=1e-2), Average(rest, Power(0.1))
    rest.load_state_dict(loaded["net"])
    optimizer.load_state_dict(loaded["optimizer"])
    resumed.load_state_dict(loaded["average"])
    generator.set_state(loaded["generator"])
    records = run(rest, 10, start=6, optimizer=optimizer, generator=generator, averages=[resumed], schedule=schedule)
    assert [record.step for record in records] == [7, 8, 9, 10]
    for a, b in zip(whole.parameters(), rest.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(average.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_one_step_is_clipped_gradient_descent_at_the_scheduled_rate():
    net = module()
    expected, batch = deepcopy(net), next(batches())
    loss = (expected(batch.x) - batch.y).square().mean()
    gradients = torch.autograd.grad(loss, list(expected.parameters()))
    norm = torch.stack([g.norm() for g in gradients]).norm()
    sgd = torch.optim.SGD(net.parameters(), lr=0.2)
    (record,) = run(net, 1, optimizer=sgd, method=Regression(net), clip=0.01, schedule=lambda step: 0.5)
    assert record.logs["first/loss"] == pytest.approx(loss.item())
    assert record.logs["first/norm"] == pytest.approx(norm.item())
    for after, before, gradient in zip(net.parameters(), expected.parameters(), gradients, strict=True):
        assert torch.allclose(after, before - 0.1 * 0.01 / norm * gradient, atol=1e-7)


def test_accumulated_batches_are_one_large_batch():
    parts = [next(batches(start)) for start in range(6)]
    large = [
        Batch(torch.cat([b.x for b in group]), torch.cat([b.y for b in group])) for group in (parts[:3], parts[3:])
    ]
    one, many = module(), module()
    run(one, 2, method=Regression(one), stream=large)
    AcceleratorState._reset_state()
    records = run(many, 2, method=Regression(many), stream=parts, accumulate=3)
    assert records[0].logs["first/rows"] == 4
    for a, b in zip(one.parameters(), many.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_phases_step_their_own_modules_and_method_is_told():
    first, second = module(0), module(1)
    before = deepcopy(first)
    method = Regression(first, second)
    optimizers = {
        "first": torch.optim.SGD(first.parameters(), lr=0.0),
        "second": torch.optim.SGD(second.parameters(), lr=0.05),
    }
    records = list(
        fit(
            method,
            batches(size=64),
            optimizers,
            accelerator=Accelerator(cpu=True),
            generator=torch.Generator(),
            steps=30,
        )
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), before.parameters(), strict=True))
    assert records[-1].logs["second/loss"] < records[0].logs["second/loss"] / 1.5
    assert method.stepped == 30
    assert method.second is second  # what fit wrapped, it unwraps


def test_a_step_without_finite_gradient_changes_nothing():
    def spoilt():
        for i, batch in enumerate(batches()):
            yield Batch(batch.x * math.inf, batch.y) if i == 1 else batch

    net = module()
    method, states = Regression(net), []
    for record in fit(
        method,
        spoilt(),
        {"first": torch.optim.SGD(net.parameters(), lr=0.1)},
        accelerator=Accelerator(cpu=True),
        generator=torch.Generator(),
        steps=3,
    ):
        states.append((record.skipped, method.stepped, deepcopy(net.state_dict())))
    assert [state[:2] for state in states] == [(0, 1), (1, 1), (1, 3)]
    assert all(torch.equal(states[0][2][key], states[1][2][key]) for key in states[0][2])
    assert not torch.equal(states[1][2]["0.weight"], states[2][2]["0.weight"])


def test_a_diverged_run_stops_with_one_line():
    with pytest.raises(FloatingPointError, match=r"^step 4: no finite loss and gradient for 4 steps: .*$"):
        run(module(), 9, stream=(Batch(b.x * math.nan, b.y) for b in batches()), patience=4)


def test_ends_with_the_batches_and_closes_cleanly():
    net = module()
    assert len(run(net, None, stream=islice(batches(), 5), accumulate=2)) == 2
    records = fit(
        Regression(net),
        batches(),
        {"first": torch.optim.SGD(net.parameters(), lr=0.1)},
        accelerator=Accelerator(cpu=True, gradient_accumulation_steps=2),
        generator=torch.Generator(),
    )
    with closing(records):
        assert [next(records).step for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match=r"optimizers for \['other'\]: need one for each of \['first'\]"):
        next(
            fit(
                Regression(net),
                batches(),
                {"other": torch.optim.SGD(net.parameters(), lr=0.1)},
                accelerator=Accelerator(cpu=True, gradient_accumulation_steps=2),
                generator=torch.Generator(),
            )
        )


def test_bfloat16_follows_float32():
    losses = {}
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state()
        net = module()
        records = fit(
            Regression(net),
            batches(size=32),
            {"first": torch.optim.AdamW(net.parameters(), lr=1e-2)},
            accelerator=Accelerator(cpu=True, mixed_precision=precision),
            generator=torch.Generator(),
            steps=100,
        )
        losses[precision] = [record.logs["first/loss"] for record in records]
        assert all(p.dtype == torch.float32 for p in net.parameters())
    assert losses["bf16"] != losses["no"]
    assert losses["bf16"][-1] == pytest.approx(losses["no"][-1], rel=0.2)
    assert losses["bf16"][-1] < losses["bf16"][0] / 4
