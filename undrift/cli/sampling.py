"""What `undrift sample` does: blocks of images, each process its share, written as they come."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..data import read, write
from ..denoiser import Denoise
from ..evaluation import fingerprint
from ..generation import Blocks, generate, width
from ..large import levels
from ..report import sheet
from .errors import expected, one_line, printable
from .folder import writable
from .generator import Generator
from .manifest import Manifest, sweep
from .pipeline import contents
from .world import World

__all__ = ["Sampling"]


@final
@dataclass(frozen=True)
class Sampling:
    """`count` images, k = 0 .. count - 1, of the seeds from `seed` on: into one picture, or a folder."""

    model: str
    generator: Generator
    denoise: Denoise
    told: Mapping[str, Any]
    shape: tuple[int, ...]
    labels: Tensor | None
    steps: int
    solver: str
    seed: int
    temperature: float
    guidance: float | None
    count: int
    batch: int
    across: int
    path: Path
    single: bool
    words: tuple[str | None, str | None] = (None, None)
    """Prompt and negative prompt, and below what the first says, one row each."""
    read: Mapping[str, Tensor] = field(default_factory=dict)

    def run(self, world: World) -> int:
        """This process's share; the exit code."""
        folder = self.path.parent if self.single else self.path
        manifest = Manifest(None if self.single else folder, self._identity())
        left = world.planned(lambda: self._plan(folder, manifest))
        found: dict[int, Tensor] = {}  # 8-bit, of the single picture only
        failure = ""
        try:
            for k, image in self._images(left, world):
                if self.single:
                    found[k] = image
                else:
                    write(self._file(k), image)
                    manifest.add(None, [self._file(k)], self._class(k))
        except Exception as error:
            if not expected(error):
                raise
            failure = one_line(error)
        shares = world.gathered((found, failure))
        if not world.first:
            return 0
        for _, found_there in shares:
            if found_there:
                print(f"undrift: {printable(found_there)}", file=sys.stderr)
                return 2
        pictures = {k: image for share, _ in shares for k, image in share.items()}
        return self._tell(pictures, self.count - len(left))

    def _plan(self, folder: Path, manifest: Manifest) -> list[int]:
        writable(folder)
        sweep([folder])
        everything = range(self.count)
        return [k for k in everything if self.single or not manifest.done(None, [self._file(k)], self._class(k))]

    def _images(self, left: Iterable[int], world: World) -> Iterator[tuple[int, Tensor]]:
        """(k, levels) of the blocks of this process; `batch` of them are made before the first is given out."""
        device = next(self.generator.denoiser.parameters()).device
        blocks = Blocks(width(self.shape, device), self._make)
        shared = [list(group) for _, group in groupby(left, lambda k: (self.seed + k) // blocks.width)]
        mine = [k for group in world.share(shared) for k in group]
        with tqdm(total=len(mine), unit="image", disable=None if world.first else True) as bar:
            for first in range(0, len(mine), self.batch):
                some = mine[first : first + self.batch]
                made = [levels(image) for image in blocks(self.seed + k for k in some)]
                yield from zip(some, made, strict=True)
                bar.update(len(some))

    def _make(self, seeds: range) -> Tensor:
        """A block of seeds; what lies outside of those wanted is of some class that is."""
        label = None
        if self.labels is not None:
            label = self.labels[[min(max(s - self.seed, 0), self.count - 1) for s in seeds]]
        denoiser = self.generator.denoiser
        each = {name: row.expand(len(seeds), *row.shape[1:]) for name, row in self.read.items()}
        (made,) = generate(
            self.denoise, self.generator.process, self.generator.space,
            shape=self.shape, seeds=seeds, steps=self.steps, solver=self.solver,
            grid=self.generator.grid(self.solver, self.steps), label=label,
            temperature=self.temperature, batch=len(seeds), device=next(denoiser.parameters()).device,
            noise_channels=denoiser.noise_channels, each=each, **self.told,
        )  # fmt: skip
        return made.cpu()

    def _class(self, k: int) -> int | None:
        return None if self.labels is None else int(self.labels[k])

    def _file(self, k: int) -> Path:
        label = self._class(k)
        name = "" if label is None else f"-{re.sub(r'[^A-Za-z0-9]+', '-', self.generator.names[label])}"
        return self.path / f"{self.seed + k:06d}{name}.png"

    def _identity(self) -> dict[str, Any]:
        """All that an image depends on but its seed and class, which its file's name and line hold."""
        weights = fingerprint(self.model) if self.generator.pipeline is None else contents(self.model)
        facts: dict[str, Any] = {"command": "sample", "undrift": __version__, "weights": weights}
        if any(word is not None for word in self.words):
            facts |= {"words": list(self.words)}
        facts |= {"shape": list(self.shape), "steps": self.steps, "solver": self.solver}
        if self.generator.denoiser.taught:  # they were not always heeded
            facts |= {"taught": list(self.generator.denoiser.taught)}
        told = {key: float(value) for key, value in self.told.items()}
        return facts | {"temperature": self.temperature, "guidance": self.guidance, "told": told}

    def _tell(self, pictures: Mapping[int, Tensor], already: int) -> int:
        """Write the picture of them all, and say so."""
        images = [pictures[k] if self.single else self._levels(k) for k in range(self.count)]
        picture = self.path if self.single else self.path / "grid.png"
        write(picture, sheet(torch.stack(images).float() / 255, self.across))
        skipped = f" ({already} of them by an earlier run)" if already else ""
        student = self.generator.student(self.told)
        evaluations = f"{self.steps} evaluation{'' if self.steps == 1 else 's'}"
        text = f"{self.count} images{skipped}, {evaluations} each with {self.solver}{student}: {picture}"
        print(printable(text))
        return 0

    def _levels(self, k: int) -> Tensor:
        return read(self._file(k), levels=True).pixels[: self.shape[0]]
