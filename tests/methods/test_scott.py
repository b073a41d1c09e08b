"""Distillation step by step: targets by hand, who gets which gradient, and what a critic may know."""

import math
from copy import deepcopy

import pytest
import torch
from accelerate import Accelerator
from oracles import f64
from torch import nn

from undrift.data.batch import Batch
from undrift.denoiser import Denoiser, GaussianMixture, Time
from undrift.methods import Contest, Distance, Energy, Hinge, LeastSquares, Scott, leak
from undrift.prediction import noise, velocity
from undrift.process import DDIM, EDM, VP, MeanReverting, Table
from undrift.solvers import Exponential, Heun
from undrift.space import Pixels, Residual
from undrift.training.fit import fit

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2  # Stable Diffusion's
TABLE = Table(tuple((torch.log1p(-BETAS).cumsum(0) / 2).tolist()))
INDICES = torch.cat([torch.arange(999, -1, -1, dtype=torch.float64), f64([-math.inf])])
PLAIN = Pixels(centred=False)


class Net(nn.Module):
    """F(z, c, ...) of vectors: everything it is told counts."""

    def __init__(self, inputs=2, told=0):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs + 1 + told, 16), nn.Tanh(), nn.Linear(16, inputs))

    def forward(self, z, c, **cond):
        extra = [v.reshape(len(z), -1) for _, v in sorted(cond.items())]
        return self.layers(torch.cat([z, c[:, None] / 500, *extra], 1))


def denoiser(seed=0, process=TABLE, told=0):
    torch.manual_seed(seed)
    if process is TABLE:
        return Denoiser(Net(told=told).double(), TABLE, noise, scale=None, label=Time())
    return Denoiser(Net(told=told).double(), process, velocity(1.0))


def scott(process=TABLE, grid=INDICES, solver=None, space=PLAIN, told=0, **settings):
    """Student, target and teacher all differ."""
    student, teacher = denoiser(0, process, told), denoiser(1, process, settings.get("guidance") is not None)
    method = Scott(student, teacher, process, space, grid, solver or Exponential(1), **settings)
    method.target = denoiser(2, process, told).requires_grad_(False)
    return method


def data(count=64, seed=3):
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


# Targets --------------------------------------------------------------------------------------------------------------


def latent_consistency(student, target, teacher, x, t, eps):
    """Luo et al. 2023, algorithm 1: networks e(z, t), one DDIM step of 20, index -1 for the data. y and the loss."""
    abar = torch.cat([torch.cumprod(1 - BETAS, 0), torch.ones(1, dtype=torch.float64)])

    def scales(i):
        return abar[i].sqrt()[:, None], (1 - abar[i]).sqrt()[:, None]

    def f(network, z, i):
        """c_skip z + c_out x_0 with the timestep scaling to infinity: the estimate, and z itself at the data."""
        a, s = scales(i)
        return torch.where((i < 0)[:, None], z, (z - s * network(z, i.clamp(min=0).double())) / a)

    later = (t - 20).clamp(min=-1)
    (a, s), (a_later, s_later) = scales(t), scales(later)
    z = a * x + s * eps
    e = teacher(z, t.double())
    z_later = a_later * (z - s * e) / a + s_later * e
    y = f(target, z_later, later)
    return y, (f(student, z, t) - y).square().mean()


def test_latent_consistency_distillation():
    """eta 0, one sub-step, no critic, a jump of 20: loss, target and gradients of an independent computation.

    LCM's own c_skip = 0.25 / (100 t^2 + 0.25) is at most 0.0025 on the grid, where ours is 0; both are 1 at the data.
    """
    x = data(512)
    method = scott(jump=20, substeps=1)
    loss, logs = method.loss("student", Batch(x), seeded())
    again = seeded()
    t = 999 - torch.randint(1000, (512,), generator=again)
    eps = torch.randn(x.shape, generator=again, dtype=x.dtype)
    nets = [d.network for d in (method.student, method.target, method.teacher)]
    y, expected = latent_consistency(*nets, x, t, eps)
    assert (t < 20).sum() > 3  # rows whose jump ends at the data
    torch.testing.assert_close(method._draw(Batch(x), seeded()).target, y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=0)
    assert logs == {"consistency": loss.item()}
    weights = list(method.student.parameters())
    for a, b in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_target_of_scott():
    """Three sub-steps of DDIM(eta), Song et al. 2021, eq. 12, with the same draws."""
    x, eta = data(), 0.6
    method = scott(solver=Exponential(1, tau=DDIM(eta)), jump=24, substeps=3)
    drawn = method._draw(Batch(x), seeded())
    again = seeded()
    index = torch.randint(1000, (len(x),), generator=again)
    abar = torch.cat([torch.cumprod(1 - BETAS, 0), torch.ones(1, dtype=torch.float64)])
    z, rows = None, index < 970  # the last ones have shorter steps
    for k in range(3):
        t = (999 - index - 8 * k).clamp(min=-1)
        now, later = abar[t][:, None], abar[(t - 8).clamp(min=-1)][:, None]
        xi = torch.randn(x.shape, generator=again, dtype=x.dtype)
        if k == 0:
            z = now.sqrt() * x + (1 - now).sqrt() * xi
            xi = torch.randn(x.shape, generator=again, dtype=x.dtype)
        e = method.teacher.network(z, t.double())
        sig2 = eta**2 * (1 - later) / (1 - now) * (1 - now / later)
        z0 = (z - (1 - now).sqrt() * e) / now.sqrt()
        z = later.sqrt() * z0 + (1 - later - sig2).sqrt() * e + sig2.sqrt() * xi
    t = 999 - index[rows] - 24
    e = method.target.network(z[rows], t.double())
    y = (z[rows] - (1 - abar[t]).sqrt()[:, None] * e) / abar[t].sqrt()[:, None]
    torch.testing.assert_close(drawn.target[rows], y, rtol=1e-8, atol=1e-8)
    assert drawn.target.isfinite().all()


def test_consistency_distillation():
    """Song et al. 2023, algorithm 2: one step of Heun between neighbours of EDM's grid, and a distance of estimates."""
    process = EDM()
    grid = f64([80.0, 40.0, 10.0, 3.0, 1.0, 0.3, 0.002])
    method = scott(process, grid, Heun(), jump=1, substeps=1)
    x = data()
    loss, _ = method.loss("student", Batch(x), seeded())
    again = seeded()
    index = torch.randint(6, (len(x),), generator=again)
    eps = torch.randn(x.shape, generator=again, dtype=x.dtype)
    t, u, end = grid[index], grid[index + 1], grid[-1:]
    z = x + t[:, None] * eps
    d = (z - method.teacher(z, t)) / t[:, None]
    guess = z + (u - t)[:, None] * d
    d = (d + (guess - method.teacher(guess, u)) / u[:, None]) / 2
    later = z + (u - t)[:, None] * d

    def f(model, z, t):
        return model(z, t) + end / t[:, None] * (z - model(z, t))

    expected = (f(method.student, z, t) - f(method.target, later, u)).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("segments", [1, 2, 3, 4])
def test_segments_end_where_targets_do(segments):
    """No jump crosses an edge, and both estimates are states of the edge, by the flow with their own z_0."""
    process, grid = VP(), torch.linspace(1, 0, 49, dtype=torch.float64)
    method = scott(process, grid, jump=7, substeps=2, segments=segments)
    edges = [round(48 * (i + 1) / segments) for i in range(segments)]
    for n in range(48):
        times, end = method.jumps(torch.tensor([n]))
        edge = next(e for e in edges if e > n)
        assert end == grid[edge]
        assert times[0] == grid[n]
        assert float(times[-1]) == pytest.approx(float(grid[min(n + 7, edge)]), abs=1e-15)
        assert float(times[1]) == pytest.approx(float(times[0] + times[-1]) / 2, abs=1e-15)
    x = data()
    drawn = method._draw(Batch(x), seeded())
    again = seeded()
    index = torch.randint(48, (len(x),), generator=again)
    end = torch.stack([grid[next(e for e in edges if e > n)] for n in index.tolist()])
    z = process.marginal(x, grid[index], torch.randn(x.shape, generator=again, dtype=x.dtype))
    (alpha, sigma), (alpha_e, sigma_e) = process.alpha_sigma(grid[index]), process.alpha_sigma(end)
    z0 = method.student(z, grid[index])
    eps = (z - alpha[:, None] * z0) / sigma[:, None]
    torch.testing.assert_close(drawn.draws[0], alpha_e[:, None] * z0 + sigma_e[:, None] * eps, rtol=1e-9, atol=1e-9)


def test_targets_at_an_edge_are_states_themselves():
    """A jump that reaches its edge has the teacher's state for target: the boundary condition at work."""
    process, grid = VP(), torch.linspace(1, 0, 9, dtype=torch.float64)
    method = scott(process, grid, jump=8, substeps=1, segments=4)
    x = data()
    drawn = method._draw(Batch(x), seeded())
    again = seeded()
    index = torch.randint(8, (len(x),), generator=again)
    z = process.marginal(x, grid[index], torch.randn(x.shape, generator=again, dtype=x.dtype))
    ends = grid[2 * (index // 2) + 2]
    expected = process.bridge(z, method.teacher(z, grid[index]), grid[index], ends)
    torch.testing.assert_close(drawn.target, expected, rtol=1e-10, atol=1e-10)


def test_between_nodes():
    """Sub-steps are even in the grid's own index; before data at minus infinity they wait at the last node."""
    method = scott(jump=24, substeps=3)
    assert method.jumps(torch.tensor([0, 100]))[0].tolist() == [[999, 899], [991, 891], [983, 883], [975, 875]]
    times, end = method.jumps(torch.tensor([970, 998, 999]))
    assert times.T.tolist() == [[29.0, 21.0, 13.0, 5.0], [1.0, pytest.approx(1 / 3), 0.0, -math.inf],
                                [0.0, 0.0, 0.0, -math.inf]]  # fmt: skip
    assert (end == -math.inf).all()
    for n in range(976, 1000):
        x = data(1)
        method.loss("student", Batch(x), seeded(n))
        drawn = method._draw(Batch(x), seeded(n))
        assert drawn.target.isfinite().all()


def test_between_nodes_in_lambda():
    """Even where solvers want them; next to data, which have no lambda, even in time; on nodes, the nodes."""
    process = VP()
    grid = torch.cat([process.time(torch.tensor([-4.0, -0.5, 4.0])), torch.zeros(1, dtype=torch.float64)])
    times, _ = scott(process, grid, jump=1, substeps=4, between="lambda").jumps(torch.arange(3))
    lam = process.half_log_snr(times)
    torch.testing.assert_close(lam[:, 0], torch.linspace(-4, -0.5, 5, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(lam[:, 1], torch.linspace(-0.5, 4, 5, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(times[:, 2], torch.linspace(1, 0, 5, dtype=torch.float64) * grid[2])
    assert (times[0] == grid[:-1]).all()
    assert (times[-1] == grid[1:]).all()
    with pytest.raises(ValueError, match="between = 'snr'"):
        scott(process, grid, jump=1, between="snr")


# Draws and conditions -------------------------------------------------------------------------------------------------


def test_randomness_is_the_generators_alone():
    method, batch = scott(substeps=2), Batch(data())
    first, again, other = (method.loss("student", batch, seeded(s))[0].item() for s in (5, 5, 6))
    assert first == again != other


class Spy(nn.Module):
    """Records what it is told."""

    def __init__(self, module):
        super().__init__()
        self.module, self.calls = module, []

    def forward(self, z, t, **cond):
        self.calls.append((z.detach(), t, cond))
        return self.module(z, t, **cond)


def test_guidance_is_the_teachers_and_is_told():
    """The teacher is extrapolated by a scale of each sample, and student and target are told it; the critic is not."""
    x, label = data(), torch.randint(5, (64, 1), generator=seeded()).double()
    torch.manual_seed(0)
    teacher = Denoiser(Net(told=1).double(), TABLE, noise, scale=None, label=Time())
    student = Spy(Denoiser(Net(told=2).double(), TABLE, noise, scale=None, label=Time()))
    critic = Spy(Critic(told=1))
    method = Scott(student, teacher, TABLE, PLAIN, INDICES, Exponential(1), jump=20, substeps=1, guidance=(3.0, 13.0),
                   null={"label": 5.0}, critic=critic)  # fmt: skip
    method.loss("critic", Batch(x, cond={"label": label}), seeded())
    (z, t, cond), (later, u, told) = student.calls[-1], method.target.calls[-1]
    scale = cond["guidance"]
    assert torch.equal(scale, told["guidance"])
    assert 3 <= scale.min() < 4
    assert 12 < scale.max() <= 13
    e, bare = (teacher.network(z, t, label=lab) for lab in (label, torch.full_like(label, 5)))
    e = bare + scale[:, None] * (e - bare)
    (a, s), (a_u, s_u) = ([c[:, None] for c in TABLE.alpha_sigma(time)] for time in (t, torch.where(u < 0, 0, u)))
    rows = t >= 20
    expected = a_u / a * z + (s_u - a_u / a * s) * e
    torch.testing.assert_close(later[rows], expected[rows], rtol=1e-9, atol=1e-9)
    assert set(cond) == {"label", "guidance"}
    assert all(set(told) == {"label"} for *_, told in critic.calls)


@pytest.mark.parametrize("shape", [(2,), (3, 4, 4)])
def test_the_noise_input(shape):
    """Two independent draws for the energy score, of the same states; another for the target. Of image shape too."""

    class Random(nn.Module):
        def forward(self, z, t, label, noise):
            assert len(label) == len(z)
            assert noise.shape == (len(z), 2, *shape[1:])
            return z + noise.mean(1, keepdim=True) if len(shape) > 1 else z + noise

    student = Spy(Random())
    method = Scott(student, lambda z, t, label: z, VP(), PLAIN, torch.linspace(1, 0, 49), Exponential(1),
                   distance=Energy(), noise=2)  # fmt: skip
    loss, _ = method.loss("student", Batch(torch.randn(6, *shape), cond={"label": torch.arange(6)}), seeded())
    assert loss.shape == ()
    z, t, cond = student.calls[0]
    for tensor in (z, t, cond["label"]):
        assert torch.equal(*tensor.chunk(2))
    one, two = cond["noise"].chunk(2)
    three = method.target.calls[0][2]["noise"]
    assert min(float((a - b).abs().mean()) for a, b in ((one, two), (one, three), (two, three))) > 0.5


def test_a_restorer_is_a_teacher_too():
    """Mean reversion: the state is x - y, and what the networks are told of y they all get."""
    x, y = torch.rand(2, 8, 1, 4, 4, generator=seeded())
    process, told = MeanReverting(), []

    class Copy(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(()))

        def forward(self, z, t, image):
            told.append(image)
            return self.gain * z

    grid = torch.linspace(100, 0, 101, dtype=torch.float64)
    method = Scott(Copy(), Copy(), process, Residual(), grid, Exponential(2), jump=10)
    loss, _ = method.loss("student", Batch(x, y, {"image": y}), seeded())
    loss.backward()
    assert len(told) == 5
    assert all(torch.equal(image, y) for image in told)
    assert method.student.gain.grad is not None


# Denoising ------------------------------------------------------------------------------------------------------------


def test_denoising_draws_the_student_to_the_data():
    """Its gradient is w times that of |f - z_0|^2, z_0 what the states were made of; consistency is as without it."""
    plain, mixed = (scott(jump=20, denoising=w) for w in (0.0, 2.5))
    batch = Batch(data())
    (loss, logs), (both, told) = (m.loss("student", batch, seeded()) for m in (plain, mixed))
    assert told["consistency"] == logs["consistency"] == loss.item()
    assert "denoising" not in logs
    by_hand = 2.5 * (mixed._draw(batch, seeded()).draws[0] - batch.x).square().mean()
    torch.testing.assert_close(both - loss, by_hand, rtol=1e-10, atol=0)
    each = ((loss, plain), (by_hand, mixed), (both, mixed))
    first, second, total = (torch.autograd.grad(of, list(m.student.parameters())) for of, m in each)
    for a, b, c in zip(first, second, total, strict=True):
        torch.testing.assert_close(a + b, c, rtol=1e-9, atol=1e-12)


def test_denoising_asks_for_the_end_of_the_segment():
    """With the data known there is one path to it, and a student that knows it pays nothing."""
    method = scott(VP(), VP().time(torch.linspace(-4, 4, 13, dtype=torch.float64)), jump=2, segments=3, denoising=1.0)
    batch = Batch(data())

    class Knows(nn.Module):
        def forward(self, z, t):
            return batch.x

    method.student = Knows()
    assert method.loss("student", batch, seeded())[1]["denoising"] == pytest.approx(0, abs=1e-20)
    assert method.loss("student", batch, seeded())[1]["consistency"] > 1e-6


def test_a_distance_of_images_is_given_images():
    """Not states at a noisy end, but the answers that lead there from where the jump began; so from whole paths."""
    process, seen = VP(), []
    grid = process.time(torch.linspace(-4, 4, 7, dtype=torch.float64))

    class Recorder(Distance):
        of_images = True

        def __call__(self, draws, target):
            seen.append((draws, target))
            return (draws[0] - target).square().mean(1)

    method = scott(process, grid, jump=6, segments=2, substeps=6, denoising=1.0, distance=Recorder())
    for batch in (Batch(data()), Batch(data(), path=torch.randn(64, 7, 2, dtype=torch.float64))):
        seen.clear()
        method.loss("student", batch, seeded())[0].backward()
        drawn = method._draw(batch, seeded())
        (draws, target), (_, clean) = seen
        torch.testing.assert_close(draws[0], method.student(drawn.z, drawn.t), rtol=1e-8, atol=1e-8)
        at_end = process.bridge(drawn.z, target, drawn.t, drawn.end)
        torch.testing.assert_close(at_end, drawn.target, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(clean, batch.x if batch.path is None else batch.path[:, -1], rtol=1e-8, atol=1e-8)
        assert (drawn.end == grid[3]).any()
        assert has_gradient(method.student)
        method.student.zero_grad()


# The target network ---------------------------------------------------------------------------------------------------


def test_the_target_follows_the_student():
    method = scott(decay=0.9)
    before, student = (deepcopy(m.state_dict()) for m in (method.target, method.student))
    method.after_step(1)
    for name, weight in method.target.state_dict().items():
        torch.testing.assert_close(weight, 0.9 * before[name] + 0.1 * student[name])
    other = scott(decay=0.9)
    other.load_state_dict(method.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(other.target.parameters(), method.target.parameters(), strict=True))


def test_it_starts_as_the_student_and_has_no_gradient():
    student = denoiser()
    method = Scott(student, denoiser(1), TABLE, PLAIN, INDICES, Exponential(1))
    assert all(torch.equal(a, b) for a, b in zip(method.target.parameters(), student.parameters(), strict=True))
    assert not any(p.requires_grad for p in method.target.parameters())
    assert method.phases == ("student",)


# The critic -----------------------------------------------------------------------------------------------------------


class Critic(nn.Module):
    def __init__(self, told=0):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4 + told, 32), nn.SiLU(), nn.Linear(32, 1)).double()

    def forward(self, z, t, **cond):
        t = t.clamp(min=-1)[:, None] / 1000
        return self.layers(torch.cat([z.double(), t, (20 * t).sin(), *cond.values()], 1))


def with_critic(**rules):
    torch.manual_seed(4)
    settings = {k: rules.pop(k) for k in ("segments", "process", "grid") if k in rules}
    return scott(critic=Critic(), contest=Contest(**rules), **settings)


def has_gradient(module):
    return [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]


@pytest.mark.parametrize("time", ["noised", "shared"])
@pytest.mark.parametrize("game", [Hinge(), LeastSquares()])
def test_each_phase_has_its_own_gradients(time, game):
    method, batch, generator = with_critic(time=time, game=game), Batch(data()), seeded()
    method.loss("critic", batch, generator)[0].backward()
    assert all(has_gradient(method.critic))
    assert not any(has_gradient(method.student))
    method.critic.zero_grad()
    method.loss("student", batch, generator)[0].backward()
    assert all(has_gradient(method.student))
    assert not any(has_gradient(method.critic))
    assert not any(has_gradient(method.teacher) + has_gradient(method.target))
    assert all(p.requires_grad for p in method.critic.parameters())


def test_the_adversarial_gradient_reaches_the_student():
    """With weight w the gradient is that of consistency plus w times that of the critic's opinion."""
    grads = []
    for weight in (0.0, 1.0, 3.0):
        method, batch, generator = with_critic(weight=weight, time="shared"), Batch(data()), seeded()
        method.loss("critic", batch, generator)
        loss, logs = method.loss("student", batch, generator)
        assert loss.item() == pytest.approx(logs["consistency"] + weight * logs["adversarial"], rel=1e-12)
        grads.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, method.student.parameters())]))
    torch.testing.assert_close(grads[2] - grads[0], 3 * (grads[1] - grads[0]), rtol=1e-9, atol=1e-12)
    assert (grads[1] - grads[0]).norm() > 1e-3 * grads[0].norm()


def test_a_new_critics_weight_rises():
    """In a straight line over the warm-up, from where an interrupted run had come."""
    method, batch = with_critic(weight=0.5, warmup=9, time="shared"), Batch(data())

    def weight():
        loss, logs = method.loss("student", batch, seeded())
        return (loss.item() - logs["consistency"]) / logs["adversarial"]

    assert weight() == pytest.approx(0.05)
    method.after_step(4)
    assert weight() == pytest.approx(0.25)
    state = method.state_dict()
    method.after_step(700)
    assert weight() == pytest.approx(0.5)
    method.load_state_dict(state)
    assert weight() == pytest.approx(0.25)
    method.load_state_dict({"target": state["target"]})  # of a run from before there was a warm-up
    assert weight() == pytest.approx(0.05)


def test_both_phases_judge_the_same_estimates():
    """The teacher and the student run once a step; the contest costs the critic alone."""
    method, batch, generator = with_critic(time="shared"), Batch(data()), seeded()
    method.critic, method.student = Spy(method.critic), Spy(method.student)
    method.loss("critic", batch, generator)
    method.loss("student", batch, generator)
    assert len(method.student.calls) == 1
    (both, *_), (alone, *_) = method.critic.calls
    assert torch.equal(both[64:], alone)
    assert torch.equal(both[:64], batch.x)
    method.loss("student", batch, seeded(7))  # without a critic's phase before it, it draws for itself
    assert len(method.student.calls) == 2


def told_of(time, **rules):
    """What the critic is given in its own phase: real z, t, fake z, t, and the estimates."""
    method, batch = with_critic(time=time, **rules), Batch(data(4000))
    method.critic = Spy(method.critic)
    method.loss("critic", batch, seeded())
    z, t, _ = method.critic.calls[0]
    drawn = method._drawn[id(batch)]
    return z[:4000], t[:4000], z[4000:], t[4000:], drawn


def test_shared():
    """Both clean, and a time that says nothing: the same for both of a pair, and not the one that was distilled."""
    real, t, fake, late, drawn = told_of("shared")
    assert torch.equal(t, late)
    assert torch.equal(real, data(4000))
    assert torch.equal(fake, drawn.draws[0])
    assert not torch.equal(t, drawn.t)
    assert abs(float(t.mean()) - 499.5) < 5 * 289 / 4000**0.5


def test_noised():
    """Both at the level of one time: alpha x + sigma eps with fresh noise, which leaves nothing but the marginal."""
    real, t, fake, late, drawn = told_of("noised")
    assert torch.equal(t, late)
    alpha, sigma = (c[:, None] for c in TABLE.alpha_sigma(t))
    ones = [(seen - alpha * clean) / sigma for seen, clean in ((real, data(4000)), (fake, drawn.draws[0].detach()))]
    for eps in ones:
        assert abs(float(eps.mean())) < 5 / 8000**0.5
        assert float(eps.std()) == pytest.approx(1, abs=0.04)
    assert abs(float((ones[0] * ones[1]).mean())) < 5 / 8000**0.5


@pytest.mark.filterwarnings("ignore:Contest time = 'published'")
def test_published():
    """As printed: the real at the end of the grid, the generated at the time of their student."""
    real, t, fake, late, drawn = told_of("published")
    assert (t == -math.inf).all()
    assert torch.equal(late, drawn.t)
    assert torch.equal(real, data(4000))
    assert torch.equal(fake, drawn.draws[0])


def test_published_warns():
    with pytest.warns(UserWarning, match="time alone"):
        Contest(time="published")


def test_real_is_the_target_where_asked():
    real, *_, drawn = told_of("shared", real="target")
    assert torch.equal(real, drawn.target)


def test_real_data_are_as_noisy_as_the_estimates():
    """In segments the estimates are states at an edge; so are the real ones, or noise alone would tell."""
    process, grid = VP(), torch.linspace(1, 0, 49, dtype=torch.float64)
    real, *_, drawn = told_of("shared", segments=2, process=process, grid=grid)
    x, early = data(4000), drawn.t > grid[24]
    assert torch.equal(real[~early], x[~early])
    alpha, sigma = process.alpha_sigma(grid[24])
    eps = (real[early] - alpha * x[early]) / sigma
    assert float(eps.std()) == pytest.approx(1, abs=0.05)


def test_levels_are_where_a_critic_looks():
    """Even in the half log-SNR between the two, clipped to the process."""
    process, grid = VP(), torch.linspace(1, 0, 49, dtype=torch.float64)
    _, t, *_ = told_of("noised", levels=(-1.0, 3.0), process=process, grid=grid)
    lam = process.half_log_snr(t)
    assert -1 <= float(lam.min()) < -0.98
    assert 2.98 < float(lam.max()) <= 3
    assert float(lam.mean()) == pytest.approx(1, abs=5 * 4 / 12**0.5 / 4000**0.5)
    _, t, *_ = told_of("shared", levels=(5.0, 60.0), process=process, grid=grid)
    assert process.t_min < float(t.max())
    assert (t == process.t_min).float().mean() > 0.9
    for levels in ((50.0, 60.0), (-30.0, -20.0)):
        with pytest.raises(ValueError, match=r"the process has half log-SNRs -\d.* to \d"):
            with_critic(levels=levels, process=process, grid=grid)


def test_noised_states_of_an_edge_have_the_noise_of_their_label():
    """They are noisy already: what is added brings them to the label's level, which is never a cleaner one."""
    process, grid = VP(), torch.linspace(1, 0, 49, dtype=torch.float64)
    real, t, _, late, drawn = told_of("noised", segments=2, process=process, grid=grid)
    assert torch.equal(t, late)
    assert (t >= drawn.end).all()
    assert (t == drawn.end).float().mean() == pytest.approx(0.25, abs=0.03)  # half of those that end in the middle
    alpha, sigma = (c[:, None] for c in process.alpha_sigma(t))
    eps = (real - alpha * data(4000)) / sigma
    early = drawn.end == grid[24]
    for some in (early, ~early & (t > 0)):
        assert float(eps[some].std()) == pytest.approx(1, abs=0.05)


def test_r1():
    """gamma / 2 |grad D|^2 on top, for a critic whose gradient is known."""

    class Plane(nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = nn.Parameter(f64([3.0, -4.0]))

        def forward(self, z, t):
            return (z @ self.slope)[:, None]

    losses = []
    for gamma in (0.0, 0.1):
        method = with_critic(time="shared", r1=gamma)
        method.critic = Plane()
        losses.append(method.loss("critic", Batch(data()), seeded())[0].item())
    assert losses[1] - losses[0] == pytest.approx(0.1 / 2 * 25)


@pytest.mark.filterwarnings("ignore:Contest time = 'published'")
@pytest.mark.parametrize(("time", "low", "high"), [("published", 0.98, 1), ("noised", 0.5, 0.5), ("shared", 0.5, 0.5)])
def test_leak(time, low, high):
    """Where every state is zero, real or not, a critic that trains freely learns what the times tell, and no more."""

    class Zero(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(()))

        def forward(self, z, t):
            return 0 * z * self.unused

    torch.manual_seed(0)
    critic = Critic()
    method = Scott(Zero(), Zero(), TABLE, PLAIN, INDICES, Exponential(1), substeps=1, critic=critic,
                   contest=Contest(time=time, game=Hinge()))  # fmt: skip
    optimizer, generator = torch.optim.Adam(critic.parameters(), 1e-2), seeded()
    batch = Batch(torch.zeros(128, 2, dtype=torch.float64))
    for _ in range(150):
        optimizer.zero_grad()
        loss, logs = method.loss("critic", batch, generator)
        loss.backward()
        optimizer.step()
    found = leak(method, batch, generator)
    print(time, found, logs)
    assert low <= found <= high
    if time == "published":
        assert logs["accuracy"] > 0.95
        assert loss < 0.2


def test_a_leak_needs_a_critic():
    with pytest.raises(ValueError, match="this method has none"):
        leak(scott(), Batch(data()), seeded())


# The loop -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_trains_in_the_loop(accumulate):
    """A student far from its teacher comes near its flow, with a critic and in two phases; all is finite."""
    process = VP()
    teacher = GaussianMixture(torch.ones(1), torch.zeros(1, 2), f64([0.25]), process)
    torch.manual_seed(0)

    class Scale(nn.Module):
        """F = a(c) z: the flow of a Gaussian is of this kind."""

        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 1))

        def forward(self, z, c):
            return self.layers(c[:, None] / 3) * z

    student = Denoiser(Scale(), process, velocity(0.5), scale=0.5)
    grid = process.time(torch.linspace(-3, 3, 25, dtype=torch.float64))
    method = Scott(student, teacher, process, PLAIN, grid, Exponential(2), jump=3, substeps=3, critic=Critic(),
                   contest=Contest(0.01))  # fmt: skip
    generator = seeded()
    batches = (Batch(0.5 * torch.randn(64, 2, generator=generator)) for _ in range(150 * accumulate))
    optimizers = {"student": torch.optim.Adam(student.parameters(), 2e-2),
                  "critic": torch.optim.Adam(method.critic.parameters(), 1e-3)}  # fmt: skip
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    records = list(fit(method, batches, optimizers, accelerator=accelerator, generator=generator,
                       schedule=lambda step: 1 - step / 150))  # fmt: skip
    assert len(records) == 150
    assert records[-1].skipped == 0
    assert not method._drawn
    assert {"critic/accuracy", "critic/real", "critic/fake", "student/consistency"} <= set(records[-1].logs)
    t = grid[0]
    (alpha, sigma), (alpha_e, sigma_e) = process.alpha_sigma(t), process.alpha_sigma(grid[-1])
    gain = torch.hypot(alpha_e / 2, sigma_e) / torch.hypot(alpha / 2, sigma)  # of the flow of N(0, 1/4)
    z = torch.randn(500, 2, generator=generator)
    with torch.no_grad():
        out = process.bridge(z, student(z, t), t, grid[-1])
    assert float((out * z).sum() / z.square().sum()) == pytest.approx(float(gain), rel=0.08)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"grid": f64([1.0, 2.0])}, "grid of shape"),
        ({"grid": f64([1.0])}, "grid of shape"),
        ({"jump": 0}, "jump = 0"),
        ({"jump": 1001}, "jump = 1001"),
        ({"substeps": 0}, "substeps = 0"),
        ({"segments": 1001}, "segments = 1001"),
        ({"decay": 1.0}, "decay = 1.0"),
        ({"denoising": -0.1}, "denoising = -0.1"),
        ({"denoising": math.nan}, "denoising = nan"),
        ({"distance": Energy()}, "noise = 1 or more"),
        ({"guidance": (7.0, 3.0)}, "guidance = "),
    ],
)
def test_settings_that_do_not_fit(settings, says):
    with pytest.raises(ValueError, match=says) as caught:
        scott(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rules",
    [
        {"weight": -1.0},
        {"r1": -1.0},
        {"r1": math.nan},
        {"warmup": -1},
        {"real": "fake"},
        {"time": "none"},
        {"levels": (2.0, 1.0)},
        {"levels": (0.0, math.inf)},
        {"levels": (0.0, 1.0, 2.0)},
        {"levels": (0.0, 1.0), "time": "published"},
    ],
)
def test_rules_that_do_not_exist(rules):
    with pytest.raises(ValueError, match=str(next(iter(rules.values())))):
        Contest(**rules)
