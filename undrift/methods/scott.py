r"""Stochastic consistency distillation: a student f whose one evaluation replaces the many of a teacher.

On a grid of times, from a node t to a cleaner one u, and to the end of the segment, e:

    z_t = alpha_t z_0 + sigma_t eps,    z_u = teacher's solver in `substeps` steps from (z_t, t),
    y = f_target(z_u; u -> e),    loss = distance(f(z_t; t -> e), y) - weight * critic's opinion of f(z_t; t -> e),
           + denoising * distance(f(z_t; t -> e), bridge(z_t, z_0, t, e; tau = 0)),

with f(z; t -> e) = bridge(z, student(z, t), t, e; tau = 0), the identity at t = e whatever the network says, and
`target` an average of the student. With the squared distance and a teacher of stochasticity tau the fixed point is

    f(z, t) = E[Z_e | Z_t = z]  under the teacher's chain:

the flow of the ODE for tau = 0; its own denoiser, so nothing learnt, for tau = 1; means of ever more, and so samples of
ever less variance, between them. The critic gives that variance back; `Energy` with a student that has a noise input
never loses it. The last term, denoising score matching (Consistency Trajectory Models, Kim et al. 2023, arXiv
2310.02279), draws the student from the teacher's ends, errors included, to the data: of weight w, with the squared
distance and e the data, the fixed point is f(z, t) = (E[f(Z_u, u) | Z_t = z] + w E[Z_0 | Z_t = z]) / (1 + w). It suits
restorers, whose photograph leaves little variance to lose.

A batch may bring its own `path`, states of the teacher at all nodes that `Scott.path` made before: z_t and z_u are then
read off it, and the teacher is not asked. With `jump` as long as the grid y is the end of the path itself.

One class, many methods: settings, not siblings.

| method | solver | jump | substeps | segments | critic |
|---|---|---|---|---|---|
| consistency distillation (Song et al. 2023, arXiv 2303.01469) | `Heun()` | 1 | 1 | 1 | none |
| latent consistency (Luo et al. 2023, arXiv 2310.04378) | `Exponential(1)` | 20 of 1000 | 1 | 1 | none |
| phased consistency (Wang et al. 2024, arXiv 2405.18407) | `Exponential(1)` | 20 of 1000 | 1 | 2, 4 ... | `"target"` |
| SCott (Liu et al. 2024, arXiv 2403.01505) | `Exponential(2, tau=ERSDE5())` | 24 of 1000 | 3 | 1 | `"data"` |
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..denoiser import Denoise
from ..draws import uniform
from ..guidance import ClassifierFree
from ..noise import Gaussian, Noise
from ..process import Process
from ..sample import trajectory
from ..solvers import Solver, consistency_map, implied_estimate
from ..space import Space
from .adversarial import r1
from .base import Method
from .contest import Contest, frozen
from .distance import Distance, Squared
from .jumps import Jumps

__all__ = ["Scott"]


@dataclass
class _Drawn:
    """What both phases of a step share."""

    z: Tensor
    t: Tensor
    end: Tensor
    cond: dict[str, Any]
    draws: Tensor  # (K, B, ...), the student's, with their graph
    target: Tensor
    clean: Tensor  # where the path passes the end that the data are on
    real: Tensor  # what a critic takes for real


@final
@dataclass
class Scott(Method):
    """Trains `student` (a denoiser like the teacher) and, where there is one, `critic`.

    Arguments:
        student: module with `forward(z (B, ...), t (B,), **cond) -> z_0`; most often a copy of the teacher.
        teacher: the estimate to distil; frozen by the caller.
        process, space: the path, and the coordinates in which it runs.
        grid: times (N + 1,), decreasing, from noise to data; those of later sampling should be among them.
        solver: of the teacher, with per-sample times; its stochasticity is SCott's knob.
        jump: nodes from t to u.
        substeps: steps of the solver in a jump.
        between: in what they, and the critic's times, are even between nodes: "time", or "lambda", the half log-SNR,
            where both nodes have one: what few nodes want (docs/distillation.md has what steps even in time do).
        weights: how often a jump begins at each node, (N,), relative to each other; None for equally often.
        segments: equal parts of the grid at whose ends consistency is asked for; 1 asks for it at the data.
        distance: between estimate and target, states at the segment's end, or what they say of the data where it knows
            images only; `Energy` needs a student with a noise input.
        denoising: weight of the distance to the data beside that to the teacher's end.
        decay: of the target, an exponential average of the student; not the one that is kept at the end.
        guidance: range (low, high) of the teacher's classifier-free scale, which the student is told as `guidance`;
            None for the teacher as it is.
        null: what stands for "no condition", see `guidance.ClassifierFree`.
        noise: channels of the student's noise input, given as `noise` (B, noise, ...); 0 for none.
        critic: module with `forward(z (B, ...), t (B,), **cond) -> logits (B, P)`; None for no contest.
        contest: its rules.

    Raises ValueError for settings that do not fit together.
    """

    student: nn.Module
    teacher: Denoise
    process: Process
    space: Space
    grid: Tensor
    solver: Solver
    jump: int = 24
    substeps: int = 3
    between: Literal["time", "lambda"] = "time"
    weights: Sequence[float] | None = None
    segments: int = 1
    distance: Distance = field(default_factory=Squared)
    denoising: float = 0.0
    decay: float = 0.95
    guidance: tuple[float, float] | None = None
    null: Mapping[str, Any] = field(default_factory=dict)
    noise: int = 0
    critic: nn.Module | None = None
    contest: Contest = field(default_factory=Contest)
    jumps: Jumps = field(init=False)

    def __post_init__(self) -> None:
        self.grid = self.grid.double().cpu()
        self.jumps = Jumps(self.process, self.grid, self.jump, self.substeps, self.segments, self.between, self.weights)
        if not self.denoising >= 0:
            raise ValueError(f"denoising = {self.denoising}: need a number >= 0")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay = {self.decay}: need a number in [0, 1)")
        if self.distance.draws > 1 and not self.noise:
            raise ValueError("distance Energy scores a random student: give it an input, noise = 1 or more")
        if self.guidance is not None and not self.guidance[0] <= self.guidance[1]:
            raise ValueError(f"guidance = {self.guidance}: need a range (low, high)")
        if self.critic is not None and (levels := self.contest.levels) is not None:
            ends = torch.tensor([self.process.t_max, self.process.t_min], dtype=torch.float64)
            low, high = self.process.half_log_snr(ends).tolist()
            if levels[1] <= low or high <= levels[0]:
                raise ValueError(f"Contest levels = {levels}: the process has half log-SNRs {low:.3g} to {high:.3g}")
        self.target = deepcopy(self.student).requires_grad_(False)
        self._drawn: dict[int, _Drawn] = {}
        self._step = 0

    @property
    def phases(self) -> tuple[str, ...]:
        return ("student",) if self.critic is None else ("critic", "student")

    def loss(self, phase: str, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        if phase == "critic":  # first; the student's phase uses the same draws, and their graph
            drawn = self._drawn[id(batch)] = self._draw(batch, generator)
            return self._judged(drawn, generator)
        drawn = self._drawn.pop(id(batch)) if id(batch) in self._drawn else self._draw(batch, generator)
        loss = self._error(drawn, drawn.target)
        logs = {"consistency": loss.item()}
        if self.denoising:
            denoising = self._error(drawn, drawn.clean)
            loss = loss + self.denoising * denoising
            logs |= {"denoising": denoising.item()}
        if self.critic is None:
            return loss, logs
        state, t = self._shown(drawn, generator)
        with frozen(self.critic):
            opinion = self.critic(state, t, **drawn.cond)
        adversarial = self.contest.game.student(opinion)
        logs |= {"adversarial": adversarial.item()}
        return loss + self.contest.weighed(self._step) * adversarial, logs

    def after_step(self, step: int) -> None:
        """Move the target."""
        self._step = step
        with torch.no_grad():
            ours, theirs = (list[Tensor](module.parameters()) for module in (self.target, self.student))
            torch._foreach_lerp_(ours, theirs, 1 - self.decay)

    def state_dict(self) -> dict[str, Any]:
        return {"target": self.target.state_dict(), "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.target.load_state_dict(state["target"])
        self._step = state.get("step", 0)  # states of before there was a warm-up have none

    @torch.no_grad()
    def path(self, z: Tensor, random: Noise, **cond: Any) -> Tensor:
        """The teacher's states at all nodes, (B, N + 1, ...), from z (B, ...) at the first, for a `Batch.path`."""
        times = self.jumps.whole()
        states = [z, *trajectory(partial(self.teacher, **cond), self.process, z, times, self.solver, random)]
        return torch.stack([states[i] for i in torch.searchsorted(-times, -self.grid).tolist()], dim=1)

    @torch.no_grad()
    def _draw(self, batch: Batch, generator: torch.Generator) -> _Drawn:
        """One step's states, the student's estimates (these with a graph) and their target."""
        z0 = self.space.encode(batch.x, batch.y)
        random = Gaussian(generator)
        index = self.jumps.starts(len(z0), generator)
        times, end = self.jumps(index)
        cond, teacher = dict(batch.cond), self.teacher
        if self.guidance is not None:
            low, high = self.guidance
            scale = low + (high - low) * uniform(len(z0), generator)
            teacher = ClassifierFree(self.teacher, self.process, scale, self.null)
            cond |= {"guidance": scale.to(z0)}

        if batch.path is None:
            clean = z0
            z = self.process.marginal(z0, times[0], random(z0, times[0], times[0]))
            *_, later = trajectory(partial(teacher, **batch.cond), self.process, z, times, self.solver, random)
        else:
            row, goal = torch.arange(len(z0)), torch.searchsorted(-self.grid, -times[-1])  # jumps end at nodes
            z, later, clean = batch.path[row, index], batch.path[row, goal], batch.path[:, -1]
        target = later if self.jumps.arrive else self._map(self.target, later, times[-1], end, cond, random)
        with torch.enable_grad():
            count = self.distance.draws
            many = {k: v.repeat(count, *[1] * (v.ndim - 1)) if torch.is_tensor(v) else v for k, v in cond.items()}
            copies = z.repeat(count, *[1] * (z.ndim - 1))
            flat = self._map(self.student, copies, times[0].repeat(count), end.repeat(count), many, random)
            draws = flat.unflatten(0, (count, len(z0)))
        real = target
        if self.contest.real == "data":  # as noisy as the estimates: at the end of a segment, not always clean
            real = self.process.marginal(z0, end, random(z0, end, end)) if self.critic is not None else z0
        clean = self.process.bridge(z, clean, times[0], end)
        return _Drawn(z, times[0], end, dict(batch.cond), draws, target, clean, real)

    def _error(self, drawn: _Drawn, wanted: Tensor) -> Tensor:
        """How far the estimates are from other states of the same end, ()."""
        states = [drawn.draws, wanted]
        if self.distance.of_images:
            states = [implied_estimate(self.process, drawn.z, drawn.t, state, drawn.end) for state in states]
        return self.distance(*states).mean()

    def _map(
        self, student: nn.Module, z: Tensor, t: Tensor, end: Tensor, cond: Mapping[str, Any], random: Gaussian
    ) -> Tensor:
        """f(z; t -> end), with fresh noise for a student that has a noise input."""
        if self.noise:
            cond = dict(cond) | {"noise": random(z.new_empty(len(z), self.noise, *z.shape[2:]), t, t)}
        return consistency_map(student, self.process, z, t, end, **cond)

    def _shown(self, drawn: _Drawn, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the critic is given of generated states."""
        if self.contest.time == "published":
            return drawn.draws[0], drawn.t
        t = self._label(drawn, generator)
        return self._told(drawn.draws[0], drawn.end, t, generator), t

    def _told(self, state: Tensor, end: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        if self.contest.time == "noised":
            state = self.process.renoise(state, end, t, Gaussian(generator)(state, end, t))
        return state

    def _label(self, drawn: _Drawn, generator: torch.Generator) -> Tensor:
        u = uniform(len(drawn.t), generator, torch.float64)
        if self.contest.levels is None:
            t = self.jumps.nodes(self.jumps.count * u)  # between nodes too: a coarse grid has few where details are
        else:
            low, high = self.contest.levels
            t = self.process.time(low + (high - low) * u)
        return torch.maximum(t, drawn.end)  # no cleaner than the states are

    def _judged(self, drawn: _Drawn, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The critic's loss."""
        real, fake = drawn.real, drawn.draws[0].detach()
        if self.contest.time == "published":
            (real, t), (fake, late) = (real, self.grid[-1].expand(len(real))), (fake, drawn.t)
        else:  # one time for both of a pair
            t = late = self._label(drawn, generator)
            real, fake = (self._told(state, drawn.end, t, generator) for state in (real, fake))
        both = {k: torch.cat([v, v]) if torch.is_tensor(v) else v for k, v in drawn.cond.items()}
        logits = self.critic(torch.cat([real, fake]), torch.cat([t, late]), **both)  # type: ignore[misc]
        yes, no = logits.chunk(2)
        loss = self.contest.game.critic(yes, no)
        if self.contest.r1:
            loss = loss + self.contest.r1 / 2 * r1(self.critic, real, t, **drawn.cond)  # type: ignore[arg-type]
        return loss, {
            "accuracy": self.contest.game.accuracy(yes, no),
            "real": yes.mean().item(),
            "fake": no.mean().item(),
        }
