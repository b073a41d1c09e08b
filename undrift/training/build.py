"""The objects of a run, made of a recipe: every one of them before anything is read or written."""

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import nn

from .. import registry
from ..classify import NoisyClassifier
from ..denoiser import Denoiser
from ..interop.diffusers_text import open_text_to_image
from ..interop.diffusers_unet import DiffusersUNet
from ..methods import Classification, Method, ScoreMatching
from ..registry import check_keys
from ..space import Space
from . import checkpoint
from .average import Average
from .distillation import distillation
from .photographs import Photographs
from .plan import Schedule, Training
from .preview import Preview
from .recipe import call, method, settings
from .sources import Source, source

__all__ = ["Run", "build", "cpu_seconds", "optimizers"]


def cpu_seconds() -> float:
    """CPU time of this process, and of its children that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


@dataclass
class Run:
    """The objects of one run, and how far it is."""

    recipe: dict[str, Any]
    training: Training
    schedule: Schedule
    data: Source
    preview: Preview
    model: Denoiser | NoisyClassifier
    space: Space
    average: Average[Any]
    shown: Any  # the averaged model whole: itself, or where it is cut over processes a copy on the first one
    method: Method
    trained: dict[str, nn.Module]  # by phase, as they are; while it runs, the method holds them prepared
    optimizers: dict[str, torch.optim.Optimizer]
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0  # wall-clock and CPU, before this process
    cpu: float = 0.0
    began: float = field(default_factory=time.monotonic)
    cpu_began: float = field(default_factory=cpu_seconds)

    def modules(self) -> list[nn.Module]:
        """All that must be on the device."""
        parts = [*vars(self.method).values(), self.average.module, getattr(self.space, "codec", None)]
        return [part for part in parts if isinstance(part, nn.Module)]

    def wall(self) -> float:
        return self.seconds + time.monotonic() - self.began

    def cpu_used(self) -> float:
        return self.cpu + cpu_seconds() - self.cpu_began


@final
@dataclass(frozen=True)
class Matching:
    """The [method] of score matching, where there is one; see `methods.ScoreMatching`.

    perceptual_tasks: names of [data] whose told images bear the perceptual term; all where empty.
    """

    perceptual: float = 0.0
    perceptual_tasks: tuple[str, ...] = ()

    def labels(self, data: Source) -> tuple[int, ...]:
        """The tasks by number; ValueError for unknown ones and where the network is told of none."""
        if not self.perceptual_tasks:
            return ()
        if not (isinstance(data, Photographs) and data.told):
            raise ValueError(
                f"method.perceptual_tasks = {list(self.perceptual_tasks)}: need data.told > 0 to know them"
            )
        check_keys(self.perceptual_tasks, data.tasks, "task")
        return tuple(data.tasks.index(name) for name in self.perceptual_tasks)


def build(table: dict[str, Any]) -> Run:
    """Every object of the recipe, before anything is read or written."""
    training, data = call(Training, "training", table), source(table)
    objective, model, space = (
        distillation(table, training.seed) if method(table) == "scott" else _from_scratch(table, training.seed, data)
    )
    if settings(table).get("paths") and (drop := getattr(data, "drop", 0.0)):
        raise ValueError(f"data.drop = {drop} with method.paths, which all have their class: set data.drop=0")
    if training.start_from:
        _begin(model.network, training.start_from)
    if isinstance(data, Photographs) and isinstance(model, Denoiser):
        model.tasks = _tasks(data, model)
    average = Average(model, registry.build("average", table.get("average", {"name": "power"})))
    run = Run(
        recipe=table,
        training=training,
        schedule=call(Schedule, "schedule", table),
        data=data,
        preview=call(Preview, "preview", table),
        model=model,
        space=space,
        average=average,
        shown=average.module,
        method=objective,
        trained={phase: getattr(objective, phase) for phase in objective.phases},
        optimizers={},
    )
    run.optimizers = optimizers(table, run.trained)
    for module in run.modules() if training.channels_last else []:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return run


def optimizers(table: Mapping[str, Any], trained: Mapping[str, nn.Module]) -> dict[str, torch.optim.Optimizer]:
    """One per phase, of the parameters as they are now."""
    made = {}
    for phase, module in trained.items():
        section = "critic_optimizer" if phase == "critic" else "optimizer"
        made[phase] = registry.build("optimizer", table.get(section, table["optimizer"]), module.parameters())
    return made


def _from_scratch(table: dict[str, Any], seed: int, data: Source) -> tuple[Method, Denoiser | NoisyClassifier, Space]:
    """A network of its own, with an objective."""
    kinds = ("process", "prediction", "space", "density", "label")
    made = {kind: registry.build(kind, table[kind]) for kind in kinds if kind in table}
    process, space, density = made["process"], made["space"], made["density"]
    options = table.get("denoiser", {})
    registry.check_keys(options, ["scale"], "key of [denoiser]")
    if options.get("scale") is False:  # TOML has no null
        options = {"scale": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = registry.build("network", table["network"])
    if method(table) == "classification":
        classifier = NoisyClassifier(network, process, made.get("label"), **options)
        return Classification(classifier, process, space, density), classifier, space
    weighting = registry.build("weighting", table["weighting"], prediction=made["prediction"], process=process)
    denoiser = Denoiser(network, process, made["prediction"], label=made.get("label"), **options)
    extra = call(Matching, "method", {"method": settings(table)})
    labels = extra.labels(data)
    return ScoreMatching(denoiser, process, space, density, weighting, extra.perceptual, labels), denoiser, space


def _tasks(data: Photographs, model: Denoiser) -> tuple[str, ...]:
    """What the model is told of, by number; ValueError where the numbers mean nothing to it, or other tasks."""
    if not data.told:
        return ()
    tasks = data.tasks
    classes = registry.describe(model.network).get("classes", 0)
    if classes != len(tasks):
        raise ValueError(f"data.told: {len(tasks)} tasks to tell of, so need network.classes = {len(tasks)}, not "
                         f"{classes}, or data.told = 0")  # fmt: skip
    if model.student and model.tasks != tasks:
        raise ValueError(
            f"data.tasks: the teacher counts {', '.join(model.tasks) or 'none'}: keep these in this order, and give "
            "those not wanted a weight of 0 in data.weights"
        )
    return tasks


def _begin(network: nn.Module, source: str) -> None:
    """The weights of another model of the same network."""
    if isinstance(network, DiffusersUNet):
        begun = open_text_to_image(source).denoiser.network
        if {k: v.shape for k, v in begun.state_dict().items()} != {k: v.shape for k, v in network.state_dict().items()}:
            raise ValueError(f"training.start_from = {source!r}: its U-Net has other weights than the recipe's student")
        network.load_state_dict(begun.state_dict())
        return
    begun = checkpoint.load(source)[0].network
    if registry.describe(begun) != registry.describe(network):
        raise ValueError(f"training.start_from = {source!r}: its [network] differs from the recipe's")
    network.load_state_dict(begun.state_dict())
