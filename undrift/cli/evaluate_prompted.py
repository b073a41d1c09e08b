"""What `undrift evaluate` does with a text-to-image pipeline: every caption once, against the images that bear them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from .. import metrics
from ..data.captioned import read_captioned, read_coco
from ..evaluation import Results, generation_stamp, machine
from ..evaluation.judges import Judge, Judges, Named
from ..evaluation.prompted import captioned_reference, pipeline_fingerprint, prompted_sampler
from ..evaluation.specs import specs
from ..interop.clip import ClipJudge
from ..interop.diffusers_text import open_text_to_image
from ..preset import STUDENT
from ..training.checkpoint import load_classifier, read_card
from .folder import writable
from .generator_assessment import GeneratorAssessment
from .model import place
from .world import joined

__all__ = ["evaluate_prompted"]


def evaluate_prompted(
    model: str,
    data: str,
    device: str,
    threads: int,
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
    captions: str | None,
    clip: str | None,
    agreement: str | None,
    extractor: str | None,
    guidance: float | None,
    neighbours: int,
) -> int:
    """The exit code; None stands for what suits a pipeline."""
    parts, where = open_text_to_image(model), place(device, threads)
    parts.to(where)
    known = read_coco(captions, data) if captions else read_captioned(data)
    count = min(n for n in (len(known), samples, limit) if n)
    crop = size or 0
    if crop > parts.side:
        raise ValueError(f"--size {crop}: this pipeline makes images of {parts.side} pixels: give less, or nothing")
    real = captioned_reference(known, count, parts.side, crop)
    network = _extractor(extractor, fid, real.shape, where)
    judge = _judge(clip, agreement, known.captions[:count], real.shape, where)
    student = parts.denoiser.student
    usual, counts = (STUDENT[0], [1, 2, 4]) if student else ("ode-2c", [10, 25])
    scale = guidance if guidance is not None else _middle(parts.facts) if student else 1.0
    samplers = [
        prompted_sampler(parts, known.captions, spec, seed=seed, guidance=scale, side=crop)
        for spec in specs(solver or [usual], steps or counts)
    ]
    batch = batch or 50
    stamp = generation_stamp(
        pipeline_fingerprint(model), real, network, samplers, samples=count, seed=seed, k=neighbours, judge=judge
    )
    folder = writable(Path(out))
    with joined() as world:
        results = world.planned(lambda: Results.resume(folder, stamp, machine(str(where), batch)))
        work = GeneratorAssessment(model, real, network, samplers, results, folder, judge)
        work.run(parts.denoiser, batch, None, 0, world)
    return 0


def _middle(facts: dict[str, object]) -> float:
    """The middle of the guidance that a student has seen."""
    recipe = facts["recipe"]
    assert isinstance(recipe, dict)
    seen = recipe["method"].get("guidance") or [1.0]
    return float(sum(seen) / len(seen))


def _extractor(name: str | None, fid: str | None, shape: tuple[int, ...], device: torch.device) -> metrics.Extractor:
    if fid is not None:
        return metrics.TorchScript(fid, trust=True, device=device)
    if name is None:
        raise ValueError("nothing to measure distances with: give --fid FILE, a TorchScript Inception, or --extractor "
                         "NAME, a classifier")  # fmt: skip
    return _classified(name, shape, device)[0]


def _classified(name: str, shape: tuple[int, ...], device: torch.device) -> tuple[metrics.Extractor, tuple[str, ...]]:
    """A classifier of images of that shape, seen in grey where it knows no colours, and the names of its classes."""
    classifier, space = load_classifier(name)
    facts = read_card(name)["training"]
    channels, side = facts["shape"][0], facts["shape"][-1]
    if side != shape[-1]:
        raise ValueError(f"{name}: looks at images of {side} pixels, these have {shape[-1]}: give --size {side}")
    found: metrics.Extractor = metrics.Classified(classifier.to(device), space, Path(name).name)
    names = tuple(str(each) for each in facts.get("classes") or ())
    return (metrics.Grey(found) if channels == 1 and shape[0] > 1 else found), names


def _judge(
    clip: str | None, agreement: str | None, captions: Sequence[str], shape: tuple[int, ...], device: torch.device
) -> Judge | None:
    judges: list[Judge] = []
    if clip is not None:
        judges.append(ClipJudge(clip, captions, device))
    if agreement is not None:
        classify, names = _classified(agreement, shape, device)
        judges.append(Named(classify, names, captions))
    return Judges(tuple(judges)) if judges else None
