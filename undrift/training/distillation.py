"""Stochastic consistency distillation by recipe: [method] name = "scott", and the [critic] where there is one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from torch import Tensor

from .. import registry
from ..classify import NoisyClassifier
from ..denoiser import Denoiser, told
from ..interop.diffusers_student import is_pipeline
from ..methods import Contest, Perceptual, Scott
from ..methods.distance import SEES_NOTHING
from ..networks import Critic, widen
from ..space import Space
from . import checkpoint
from .nodes import Nodes, instructed, nodes_of
from .presets import distillable, restores
from .pupils import Pupil, of_pipeline
from .recipe import call, settings

__all__ = ["Distillation", "Opponent", "distillation"]


@final
@dataclass(frozen=True)
class Distillation:
    """The [method] of a distillation; see `methods.Scott` for what it does with them.

    Arguments:
        teacher: a checkpoint, folder or bundled name; or a text-to-image pipeline of diffusers. The student has its
            process, prediction, space and network.
        nodes, spacing, end: the grid: nodes uniform in "lambda", the half log-SNR, up to `end`, or in "time"; or
            "trailing", the last index of each of so many equal parts of a discrete schedule. Sub-steps between two
            nodes are even in lambda, or in time.
        start: half log-SNR of the second node of a grid in "lambda", where the first step of sampling goes straight
            there, as in `restoration`; None for a grid that is uniform from pure noise on.
        jump, substeps, weights, segments, denoising, decay, guidance, noise: as in `methods.Scott`.
        solver, distance: tables.
        paths: of the teacher, from pure noise to data, made before the first step and kept, so that no step asks the
            teacher for a jump; 0 for jumps from the data, noised, made as they are needed. `training.minutes` begin
            when they are made. See `training.paths`.
        paths_in: their folder; OUT/paths where empty.
        rank: of the low-rank changes that alone are trained of a pipeline's U-Net (LoRA); 0 trains it whole.
        embedding: width of what a pipeline's whole student is told of the guidance scale; 0 tells it nothing.
    """

    teacher: str
    nodes: int = Nodes.nodes
    spacing: str = Nodes.spacing
    end: float = Nodes.end
    start: float | None = Nodes.start
    jump: int = 3
    substeps: int = 3
    weights: tuple[float, ...] | None = None
    segments: int = Nodes.segments
    denoising: float = 0.0
    decay: float = 0.95
    guidance: tuple[float, float] | None = None
    noise: int = 0
    solver: Mapping[str, Any] = field(default_factory=lambda: {"name": "exponential"})
    distance: Mapping[str, Any] = field(default_factory=lambda: {"name": "squared"})
    paths: int = 0
    paths_in: str = ""
    rank: int = 0
    embedding: int = 256

    def __post_init__(self) -> None:
        nodes_of(vars(self))
        if min(self.rank, self.embedding) < 0:
            raise ValueError(f"method.rank = {self.rank}, embedding = {self.embedding}: need at least 0")
        if self.paths < 0:
            raise ValueError(f"method.paths = {self.paths}: need at least 0, for none")
        if self.paths and self.guidance is not None:
            raise ValueError("method.paths with method.guidance: paths are of one scale: leave one of them out")
        if self.paths and self.denoising:
            raise ValueError("method.paths with method.denoising: a kept path knows no data: leave one of them out")
        if self.paths_in and not self.paths:
            raise ValueError(f"method.paths_in = {self.paths_in!r}: say how many of them, method.paths=N")


@final
@dataclass(frozen=True)
class Opponent:
    """The [critic]: heads on the frozen teacher, and the rules of `methods.Contest`.

    Arguments:
        heads, rank, width: see `networks.Critic`.
        weight, game, real, time, r1, warmup, levels: see `methods.Contest`; `game` is a table.
    """

    heads: tuple[int, ...] | None = None
    rank: int = 0
    width: int = 32
    weight: float = 0.4
    game: Mapping[str, Any] = field(default_factory=lambda: {"name": "least_squares"})
    real: Literal["data", "target"] = "data"
    time: Literal["noised", "shared", "published"] = "noised"
    r1: float = 0.0
    warmup: int = 0
    levels: tuple[float, float] | None = None


def distillation(recipe: Mapping[str, Any], seed: int = 0) -> tuple[Scott, Denoiser, Space]:
    """The method, its student (a wider copy of the teacher, trainable) and their space; seed of a critic's weights."""
    plan = call(Distillation, "method", {"method": settings(recipe)})
    pupil = (
        of_pipeline(plan.teacher, plan.rank, plan.embedding * (plan.guidance is not None))
        if is_pipeline(plan.teacher)
        else _of_checkpoint(plan)
    )
    teacher, process = pupil.teacher, pupil.teacher.process
    critic, contest = None, Contest()
    if "critic" in recipe:
        rival = call(Opponent, "critic", recipe)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            judge = Critic(teacher.network, rival.heads, rival.rank, rival.width)
        critic = NoisyClassifier(judge, process, teacher.label, teacher.scale)
        game = registry.build("game", rival.game)
        contest = Contest(rival.weight, game, rival.real, rival.time, rival.r1, rival.warmup, rival.levels)
    if plan.guidance is not None and not pupil.null:
        raise ValueError(
            f"method.guidance = {plan.guidance}: {plan.teacher} knows no classes to be guided to: leave it out"
        )
    distance = registry.build("distance", plan.distance, features=pupil.features)
    if isinstance(distance, Perceptual) and distance.features is None:
        raise ValueError(f"{plan.teacher}: {SEES_NOTHING}")
    method = Scott(
        pupil.student, teacher, process, pupil.space, nodes_of(vars(plan)).grid(process),
        registry.build("solver", plan.solver),
        jump=plan.jump, substeps=plan.substeps, between="lambda" if plan.spacing == "lambda" else "time",
        weights=plan.weights, segments=plan.segments, denoising=plan.denoising, decay=plan.decay,
        guidance=plan.guidance, null=pupil.null, noise=plan.noise, critic=critic, contest=contest, distance=distance,
    )  # fmt: skip
    if plan.segments > 1 and is_pipeline(plan.teacher):  # the scheduler that a saved one has leaps to the data alone
        raise ValueError(f"method.segments = {plan.segments}: students of pipelines leap to the data: leave it out")
    if plan.paths and (is_pipeline(plan.teacher) or restores(distillable(plan.teacher))):
        raise ValueError(f"method.paths = {plan.paths}: only generators begin all paths at pure noise: leave it out")
    if 0 < plan.paths < (classes := pupil.null.get("label", 1)):
        raise ValueError(f"method.paths = {plan.paths}: need at least one of each of the {classes} classes")
    instructed(pupil.student, vars(plan))
    return method, pupil.student, pupil.space


def _of_checkpoint(plan: Distillation) -> Pupil:
    """Of a generator or restorer of undrift."""
    card = distillable(plan.teacher)
    if plan.rank:
        raise ValueError(f"method.rank = {plan.rank}: only students of pipelines have one: leave it out")
    teacher, space = checkpoint.load(plan.teacher)
    inputs: dict[str, Any] = {"guided": True} if plan.guidance is not None else {}
    inputs |= {"noise_channels": plan.noise} if plan.noise else {}
    student = Denoiser(
        widen(teacher.network, **inputs), teacher.process, teacher.prediction, scale=teacher.scale, label=teacher.label
    ).requires_grad_(True)
    student.student, student.tasks = True, teacher.tasks
    classes = registry.describe(teacher.network).get("classes", 0)
    null = {"label": classes} if classes else {}
    features = None if restores(card) or not hasattr(teacher.network, "features") else _features(teacher, null)
    return Pupil(teacher, student, space, null, features)


def _features(teacher: Denoiser, null: Mapping[str, int]) -> Callable[[Tensor, float], Sequence[Tensor]]:
    """What a generator sees in clean states, told no class and a half log-SNR."""
    network: Any = teacher.network

    def features(z: Tensor, level: float) -> Sequence[Tensor]:
        t = teacher.process.time(torch.tensor(level)).expand(len(z))
        state, c = told(network, teacher.process, teacher.label, teacher.scale, z, t, *teacher.process.alpha_sigma(t))
        classes = {name: torch.full((len(z),), none, device=z.device) for name, none in null.items()}
        maps: Sequence[Tensor] = network.features(state, c, **classes)
        return maps

    return features
