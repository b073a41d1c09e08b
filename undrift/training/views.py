"""What a distillation's panel shows and measures: fixed seeds at 1, 2, 4 evaluations beside the teacher.

A generator's rows are images of all classes in turn; a restorer's are held-out photographs, one per task.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, final

import torch
from torch import Tensor

from .. import metrics
from ..data import Batch, generator
from ..data.labelled import read_labelled
from ..denoiser import Denoiser
from ..evaluation import Setting
from ..generation import USUAL, generate
from ..guidance import ClassifierFree
from ..metrics import Features
from ..report import Strip, grid
from ..restoration import USUAL as USUAL_RESTORING
from ..space import Space
from .checkpoint import load_classifier
from .preview import Sheet
from .strips import panel_picture

__all__ = ["Generated", "Photographed", "View"]

BLOCK = 100  # images at a time
SHOWN = 10
REAL = 2000  # images of the reference, at most


class View(Protocol):
    """One kind of model."""

    @property
    def best(self) -> tuple[str, bool]:
        """The number that decides which checkpoint is kept, and whether more of it is better; "" for none."""

    def probe(self) -> Batch:
        """A few held-out images as training sees them."""

    def __call__(self, student: Denoiser, space: Space, path: Path) -> dict[str, float]:
        """Write the picture; what was measured, `<measure>/<evaluations>` and `<measure>/teacher`."""


@final
@dataclass
class Generated:
    """Samples of a generator.

    Arguments:
        teacher: beside which the student is shown.
        shape, classes: of the images.
        data: path and size of a labelled set, for `read_labelled`; its test split is the reference.
        counts: evaluations of the student's rows; `decides`, those of the deciding one.
        features: a classifier, folder or bundled name, in whose features distances are taken; "" for none.
        samples: images behind each distance.
        scale: of guidance, for a student that imitates it.
    """

    teacher: Denoiser
    shape: tuple[int, ...]
    classes: int
    data: tuple[str, int]
    counts: tuple[int, ...]
    decides: int
    features: str = ""
    samples: int = 500
    scale: float | None = None
    _known: dict[str, Any] = field(default_factory=dict, init=False)

    @property
    def best(self) -> tuple[str, bool]:
        return (f"fd/{self.decides}" if self.features else "", False)

    def probe(self) -> Batch:
        images, labels = self._real()
        return Batch(images[:16].float() / 255, None, {"label": labels[:16]} if self.classes else {})

    def __call__(self, student: Denoiser, space: Space, path: Path) -> dict[str, float]:
        rows: list[tuple[str, Tensor]] = []
        values: dict[str, float] = {}
        for count in self.counts:
            told: dict[str, Any] = {} if self.scale is None else {"guidance": torch.tensor(self.scale)}
            images = self._images(student, student, space, count, "consistency", told)
            rows.append((f"student, {count} evaluation{'s' * (count > 1)}", images[:SHOWN]))
            values |= self._distances(images, str(count))
        if "teacher" not in self._known:
            guided = self.teacher if self.scale is None else ClassifierFree(
                self.teacher, self.teacher.process, self.scale, {"label": self.classes}
            )  # fmt: skip
            images = self._images(guided, self.teacher, space, USUAL[1], USUAL[0], {})
            self._known["teacher"] = images[:SHOWN], self._distances(images, "teacher")
        images, distances = self._known["teacher"]
        rows.append((f"teacher, {USUAL[1]} evaluations", images))
        values |= distances
        panel_picture(path, rows, values)
        return values

    def _images(
        self, denoise: Any, owner: Denoiser, space: Space, steps: int, solver: str, told: dict[str, Any]
    ) -> Tensor:
        number = self.samples if self.features else SHOWN
        seeds = [generator("panel", i).initial_seed() for i in range(number)]
        batches = generate(
            denoise, owner.process, space, shape=self.shape, seeds=seeds, steps=steps, solver=solver, batch=BLOCK,
            label=torch.arange(number) % self.classes if self.classes else None,
            device=next(owner.parameters()).device, noise_channels=owner.noise_channels, **told,
        )  # fmt: skip
        return torch.cat([batch.cpu() for batch in batches])

    def _distances(self, images: Tensor, name: str) -> dict[str, float]:
        if not self.features:
            return {}
        found = Features.of(self._extractor(), images.split(BLOCK)).features
        if "real" not in self._known:
            real = self._real()[0].split(BLOCK)
            self._known["real"] = Features.of(self._extractor(), (part.float() / 255 for part in real)).features
        real = self._known["real"]
        fd = metrics.frechet_distance(real, found).value
        # As many of each: then 0.97 is what a perfect generator gets.
        coverage = metrics.prdc(real[: len(found)], found).coverage.value
        return {f"fd/{name}": fd, f"coverage/{name}": coverage}

    def _extractor(self) -> metrics.Classified:
        if "extractor" not in self._known:
            classifier, space = load_classifier(self.features)
            self._known["extractor"] = metrics.Classified(classifier, space, self.features)
        found: metrics.Classified = self._known["extractor"]
        return found

    def _real(self) -> tuple[Tensor, Tensor]:
        """Images and labels, a fixed choice of the test split; of the training split where there is no other."""
        try:
            data = read_labelled(self.data[0], "test", self.data[1])
        except ValueError:
            data = read_labelled(self.data[0], "train", self.data[1])
        chosen = torch.randperm(len(data), generator=generator("reference"))[:REAL]
        return data.images[chosen], data.labels[chosen]


@final
@dataclass
class Photographed:
    """Restorations of held-out photographs.

    Arguments:
        teacher: beside which the student is shown.
        sheet: the photographs, see `preview.Sheet`.
        counts, decides: as for `Generated`.
    """

    teacher: Denoiser
    sheet: Sheet
    counts: tuple[int, ...]
    decides: int
    _known: dict[str, Tensor] = field(default_factory=dict, init=False)

    @property
    def best(self) -> tuple[str, bool]:
        return f"haarpsi/{self.decides}", True

    def probe(self) -> Batch:
        return Batch(self.sheet.x, self.sheet.y, {"image": self.sheet.y})

    def __call__(self, student: Denoiser, space: Space, path: Path) -> dict[str, float]:
        outputs = {
            str(count): self.sheet.restored(student, space, Setting("consistency", count)) for count in self.counts
        }
        if "teacher" not in self._known:
            self._known["teacher"] = self.sheet.restored(self.teacher, space, Setting(*USUAL_RESTORING))
        outputs["teacher"] = self._known["teacher"]
        x, y = self.sheet.x, self.sheet.y
        found = {name: (metrics.psnr(x, out), metrics.haarpsi(x, out)) for name, out in outputs.items()}
        strips = [
            Strip(
                name,
                ", ".join(f"{found[key][0][i]:.1f}" for key in outputs) + " dB",
                [y[i], *(out[i] for out in outputs.values()), x[i]],
            )
            for i, name in enumerate(self.sheet.names)
        ]
        heads = ["degraded", *(f"student, {count}" for count in self.counts), f"teacher, {USUAL_RESTORING[1]}", "clean"]
        path.parent.mkdir(parents=True, exist_ok=True)
        grid(path, strips, heads, across=1)
        means = {f"psnr/{name}": psnr.mean().item() for name, (psnr, _) in found.items()}
        return means | {f"haarpsi/{name}": score.mean().item() for name, (_, score) in found.items()}
