"""How good is a generator: samplers -> distances of their images from real ones, resumable.

    data = Reference.read("fashion_mnist.npz")
    samplers = [sampler(denoiser, space, "ode-2:10", data.shape), ...]
    stamp = generation_stamp(fingerprint("fashion"), data, extractor, samplers, samples=10000)
    results = Results.resume(folder, stamp, {})
    for name, row in evaluate_generator(samplers, data, extractor, results, folder): print(name, row["fd"])

Image i of every sampler is that of one seed, made from (seed, i) alone. Features are held, images never; features
already made lie in `<folder>/features` until their row is done: an interruption costs at most `parts.CHUNK` images.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal, final

import torch
from torch import Tensor

from .. import metrics
from ..data import generator
from ..data.labelled import read_labelled
from ..denoiser import Denoise, Denoiser
from ..generation import PRESETS, Blocks, generate, width
from ..metrics import Estimate, Extractor, Features
from ..metrics.estimate import mean_of
from ..space import Space
from .judges import Judge, summary
from .parts import Part, collected, prepared
from .results import Results, versions
from .specs import Counted, known, parsed

__all__ = ["REAL", "TASK", "Reference", "Sampler", "evaluate_generator", "generation_stamp", "sampler"]

TASK, REAL = "generation", "real"
MEASURES = ("fd", "kid", "is", "precision", "recall", "density", "coverage")


@final
@dataclass(frozen=True)
class Reference:
    """Real images (N, C, H, W), uint8, and where they come from."""

    images: Tensor
    name: str
    split: str

    @classmethod
    def read(
        cls, path: str | Path, split: Literal["test", "train", "all"] = "test", *, size: int = 0, limit: int = 0
    ) -> "Reference":
        """What `data.read_labelled` finds there; with a limit, a random choice that is always the same."""
        parts: list[Literal["train", "test"]] = ["train", "test"] if split == "all" else [split]
        images = torch.cat([read_labelled(path, part, size).images for part in parts])
        if 0 < limit < len(images):
            images = images[torch.randperm(len(images), generator=generator("limit"))[:limit].sort().values]
        return cls(images, Path(path).stem, split)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape[1:])

    def facts(self) -> dict[str, Any]:
        digest = sha256(self.images.contiguous().numpy().tobytes()).hexdigest()
        facts = {"name": self.name, "split": self.split, "images": len(self.images), "shape": list(self.shape)}
        return facts | {"digest": digest}


@final
@dataclass(frozen=True)
class Sampler:
    """A way to make images.

    Arguments:
        name: `solver:evaluations`, as in tables.
        draw: numbers of images -> images (B, C, H, W) in [0, 1], and network evaluations for each.
        facts: what the name stands for, JSON values, for stamps.
    """

    name: str
    draw: Callable[[range], tuple[Tensor, float]]
    facts: dict[str, Any]


def sampler(
    denoiser: Denoiser,
    space: Space,
    spec: str,
    shape: Sequence[int],
    *,
    seed: int = 0,
    classes: int = 0,
    guide: Callable[[Denoise], Denoise] = lambda denoise: denoise,
    facts: Mapping[str, Any] | None = None,
) -> Sampler:
    """The sampler of a spec, `solver:evaluations`, a solver of `generation.PRESETS`.

    Arguments:
        shape: of an image, (C, H, W).
        seed: image i draws from (seed, i), whatever the sampler.
        classes: image i is of class i mod `classes`; 0 asks for none.
        guide: makes a guided denoiser of the plain one; what it asks of the network is counted.
        facts: what `guide` does, for the stamp.
    """
    solver, steps = parsed(spec)
    preset, counted = PRESETS[solver].of(denoiser), Counted(denoiser)
    grid = preset.grid(denoiser.process, steps)

    def make(numbers: range) -> Tensor:
        counted.asked = 0
        seeds = [generator("noise", seed, i).initial_seed() for i in numbers]
        label = torch.tensor(numbers) % classes if classes else None
        batches = generate(
            guide(counted), denoiser.process, space, shape=shape, seeds=seeds, steps=steps, solver=solver,
            label=label, batch=len(seeds), device=device, noise_channels=denoiser.noise_channels,
        )  # fmt: skip
        return torch.cat(list(batches)).cpu()

    device = next(denoiser.parameters()).device
    blocks = Blocks(width(shape, device), make)

    def draw(numbers: range) -> tuple[Tensor, float]:
        return torch.stack(list(blocks(numbers))), counted.asked / blocks.width

    return Sampler(spec, draw, known(preset.solver, grid) | {"classes": classes} | dict(facts or {}))


def generation_stamp(
    model: dict[str, Any],
    data: Reference,
    extractor: Extractor,
    samplers: Sequence[Sampler],
    *,
    samples: int,
    seed: int = 0,
    k: int = 5,
    subset: int = 1000,
    bits: str = "",
    judge: Judge | None = None,
) -> dict[str, Any]:
    """All that the numbers depend on; `model` is a `fingerprint`, `bits` says how the likelihood is found, if it is.

    Raises ValueError for fewer images than can be measured.
    """
    fewest = max(4, k + 1)
    if min(samples, len(data.images) // 2) < fewest:
        raise ValueError(
            f"{samples} samples, {len(data.images)} images of data: need at least {fewest} samples, and twice as many "
            f"images, for k = {k} neighbours"
        )
    protocols = {name: metrics.PROTOCOLS[name].format(k=k, subset=subset) for name in MEASURES}
    return versions() | {
        "model": model,
        "extractor": {"name": extractor.name, "digest": extractor.digest},
        "samples": samples,
        "seed": seed,
        "k": k,
        "subset": subset,
        "protocols": protocols | ({"bits": bits} if bits else {}) | (dict(judge.protocols) if judge else {}),
        "samplers": {each.name: each.facts for each in samplers},
        "data": {TASK: data.facts()},
    }


def evaluate_generator(
    samplers: Sequence[Sampler],
    data: Reference,
    extractor: Extractor,
    results: Results,
    folder: Path,
    *,
    batch: int = 100,
    bits: Callable[[Tensor, range], Tensor] | None = None,
    bits_images: int = 100,
    judge: Judge | None = None,
    share: Callable[[Sequence[int]], Sequence[int]] = lambda all: all,
    meet: Callable[[], object] = lambda: None,
    first: bool = True,
) -> Iterator[tuple[str, dict[str, float]]]:
    """Measure what `results` lacks, save it to `folder`, and yield it, row by row: (name, {measure: value}).

    The first row, REAL, is one random half of the data against the other: what a perfect generator would show, but
    at half the number of images, where the Frechet distance is biased by about twice as much. Every measure has its
    standard error beside it, as `fd_error`.

    Arguments:
        samplers, data, extractor: those of the stamp of `results`, which also says how many samples, k and seed.
        batch: images at a time; moves no number but the seconds.
        bits: images (B, C, H, W) in [0, 1], and their numbers -> bits per dimension (B,); measured once.
        bits_images: on how many images of the data.
        judge: of each image by itself; that of the stamp.
        share, meet, first: of several processes, each makes its share of the features, all meet when those of a row are
            there, and the first measures and saves; the others yield nothing. All are given the same `results`.
    """
    stamp, known = results.stamp, results.tasks.get(TASK, {})
    missing = [each for each in samplers if each.name not in known]
    if batch < 1:
        raise ValueError(f"batch = {batch}: need at least 1 image at a time")
    if REAL in known and not missing:
        return
    if first:
        results.save(folder)  # features that lie there belong to this stamp
    meet()

    def light(numbers: range) -> Tensor:
        return data.images[numbers.start : numbers.stop].float() / 255

    def drawn(each: Sampler) -> Callable[[range], Part]:
        return lambda numbers: judged(numbers, *_timed(each, numbers))

    def judged(numbers: range, images: Tensor, evaluations: float, seconds: float) -> Part:
        found = _worked(extractor, images, evaluations, seconds)
        return found if judge is None else found._replace(scores=judge(images, numbers).float().cpu())

    def opinions(scores: Tensor | None) -> dict[str, float]:
        return {} if judge is None or scores is None else _flat(summary(judge, scores))

    def measured(x: Features, y: Features) -> dict[str, float]:
        found = metrics.set_distances(x, y, k=stamp["k"], subset=stamp["subset"], seed=stamp["seed"])
        return _flat(found) | {"samples": len(y.features)}

    def features(name: str, count: int, make: Callable[[range], Part]) -> Part | None:
        """Of all images, in the first process."""
        prepared(home / name, count, batch, make, share)
        meet()
        return collected(home / name, count, batch, make) if first else None

    home, count = folder / "features", len(data.images)
    real = features(REAL, count, lambda n: judged(n, light(n), 0, 0))
    said = {} if real is None else opinions(real.scores)
    likelihood: dict[str, float] = {}
    if bits is not None:
        found = features("bits", min(bits_images, count), lambda n: _numbers(bits(light(n), n)))
        if found is not None:
            likelihood = _flat({"bits": mean_of(found.features.features[:, 0].double())})
    if real is not None and REAL not in known:
        halves = torch.randperm(count, generator=generator("halves", stamp["seed"])).tensor_split(2)
        row = measured(*(real.features.pick(half) for half in halves)) | said | {"evaluations": 0, "seconds": 0}
        yield _keep(results, folder, REAL, row)
    for each in missing:
        made = features(_slug(each.name), stamp["samples"], drawn(each))
        if made is None or real is None:
            continue
        work = {"evaluations": made.evaluations / stamp["samples"], "seconds": made.seconds / stamp["samples"]}
        row = measured(real.features, made.features) | opinions(made.scores) | work | likelihood
        yield _keep(results, folder, each.name, row)
        rmtree(home / _slug(each.name), ignore_errors=True)


def _timed(each: Sampler, numbers: range) -> tuple[Tensor, float, float]:
    began = time.perf_counter()
    images, evaluations = each.draw(numbers)
    return images, evaluations * len(images), time.perf_counter() - began


def _worked(extractor: Extractor, images: Tensor, evaluations: float, seconds: float) -> Part:
    return Part(Features.of(extractor, [images]), evaluations, seconds)


def _numbers(values: Tensor) -> Part:
    """One number per image, as features are kept."""
    return Part(Features.kept((values[:, None], None)), 0, 0)


def _flat(found: dict[str, Estimate]) -> dict[str, float]:
    return {
        key: value for name, (mean, error) in found.items() for key, value in ((name, mean), (f"{name}_error", error))
    }


def _keep(results: Results, folder: Path, name: str, row: dict[str, float]) -> tuple[str, dict[str, float]]:
    results.add(TASK, name, row)
    results.save(folder)
    return name, row


def _slug(name: str) -> str:
    return name.replace(":", "-")
