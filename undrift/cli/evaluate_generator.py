"""What `undrift evaluate` does with a generator: from the words of the command line to a `GeneratorAssessment`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from .. import metrics
from ..data import generator
from ..denoiser import Denoiser
from ..evaluation import Reference, Results, fingerprint, generation_stamp, machine, sampler
from ..evaluation.specs import specs
from ..likelihood import image_likelihood
from ..noise import PerSample
from ..preset import STUDENT, leaps
from ..solvers.adaptive import DormandPrince
from ..space import Residual, Space
from ..training.checkpoint import load_classifier, read_card
from .folder import writable
from .generator import classifier_free
from .generator_assessment import GeneratorAssessment
from .world import joined

__all__ = ["evaluate", "makes_images"]

PROBES, TOLERANCE = 1, 1e-3  # of the likelihood; an image's own probe is averaged over images anyway


def makes_images(denoiser: Denoiser, space: Space) -> bool:
    """Whether a model needs no observation."""
    return not isinstance(space, Residual) and not getattr(denoiser.network, "cond_channels", 0)


def evaluate(
    model: str,
    denoiser: Denoiser,
    space: Space,
    data: str,
    *,
    out: str,
    steps: Sequence[int] | None,
    solver: Sequence[str] | None,
    samples: int | None,
    size: int | None,
    limit: int,
    seed: int,
    batch: int | None,
    fid: str | None,
    split: Literal["test", "train", "all"],
    extractor: str,
    guidance: float,
    neighbours: int,
    bits: int,
) -> int:
    """The exit code; None stands for what suits a generator."""
    facts = read_card(model)["training"]
    shape, classes = facts.get("shape"), len(facts.get("classes") or [])
    if size is None:
        size = shape[-1] if shape and Path(data).is_dir() else 0
    real = Reference.read(data, split, size=size, limit=limit)
    if shape and list(real.shape) != list(shape):
        raise ValueError(f"{data}: images {real.shape}, but {model} makes {tuple(shape)}: give other --data, or --size")
    device = next(denoiser.parameters()).device
    network = _extractor(extractor, fid, device)
    guide = classifier_free(denoiser.process, classes, guidance)
    guided = {} if guidance == 1 else {"guidance": guidance}
    usual, counts = (
        (STUDENT[0], leaps(denoiser.taught, [1, 2, 4], denoiser.edges)) if denoiser.student else ("ode-2c", [5, 10, 20])
    )
    samplers = [
        sampler(denoiser, space, spec, real.shape, seed=seed, classes=classes, guide=guide, facts=guided)
        for spec in specs(solver or [usual], steps or counts)
    ]
    batch = batch or 100
    stamp = generation_stamp(
        fingerprint(model), real, network, samplers, samples=samples or len(real.images), seed=seed, k=neighbours,
        bits=_protocol(bits),
    )  # fmt: skip
    folder = writable(Path(out))
    likelihood = _bits(denoiser, space, seed) if bits else None
    with joined() as world:
        results = world.planned(lambda: Results.resume(folder, stamp, machine(str(device), batch)))
        work = GeneratorAssessment(model, real, network, samplers, results, folder)
        work.run(denoiser, batch, likelihood, bits, world)
    return 0


def _extractor(name: str, fid: str | None, device: torch.device) -> metrics.Extractor:
    if fid is not None:
        return metrics.TorchScript(fid, trust=True, device=device)
    classifier, space = load_classifier(name)
    return metrics.Classified(classifier.to(device), space, Path(name).name)


def _protocol(count: int) -> str:
    return (
        f"bits/dim, an upper bound, {count} images, no class, uniform dequantisation, {PROBES} Rademacher probe, "
        f"Dormand-Prince at {TOLERANCE:g}, lower is better"
        if count
        else ""
    )


def _bits(denoiser: Denoiser, space: Space, seed: int) -> Callable[[Tensor, range], Tensor]:
    device = next(denoiser.parameters()).device
    solver = DormandPrince(TOLERANCE, TOLERANCE)

    def measure(images: Tensor, numbers: range) -> Tensor:
        noise = PerSample([generator("likelihood", seed, i).initial_seed() for i in numbers])
        found = image_likelihood(
            denoiser, denoiser.process, space, images.to(device), probes=PROBES, noise=noise, solver=solver
        ).bits_per_dim
        assert found is not None  # images are discrete
        return found

    return measure
