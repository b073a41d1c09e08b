"""What `undrift evaluate` writes of a generator: results.json after every row, then tables, curves and pictures."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from torch import Tensor
from tqdm import tqdm

from .. import report
from ..data import read, write
from ..denoiser import Denoiser
from ..evaluation import REAL, TASK, Reference, Results, Sampler, evaluate_generator
from ..evaluation.judges import Judge
from ..metrics import Extractor
from ..training.files import write_text
from .world import World

__all__ = ["HEADS", "GeneratorAssessment", "within"]

# measure -> head, factor
HEADS: dict[str, tuple[str, float]] = {
    "fd": ("FD", 1),
    "kid": ("KID e3", 1e3),
    "is": ("IS", 1),
    "precision": ("precision", 1),
    "recall": ("recall", 1),
    "density": ("density", 1),
    "coverage": ("coverage", 1),
    "bits": ("bits/dim", 1),
    "clip": ("CLIP score", 1),
    "agreement": ("agreement", 1),
}
SHOWN = 64  # images in a picture


def within(value: float, error: float) -> str:
    """`0.352 ± 0.014`: as many decimals as two digits of the error need."""
    digits = 3 if not error > 0 else min(max(1 - math.floor(math.log10(error)), 0), 5)
    return f"{value:.{digits}f} ± {error:.{digits}f}"


@final
@dataclass(frozen=True)
class GeneratorAssessment:
    """An evaluation: what to compare with what, what is known already, and where it goes."""

    model: str
    data: Reference
    extractor: Extractor
    samplers: Sequence[Sampler]
    results: Results
    folder: Path
    judge: Judge | None = None

    def run(
        self,
        denoiser: Denoiser,
        batch: int,
        bits: Callable[[Tensor, range], Tensor] | None,
        bits_images: int,
        world: World = World(),
    ) -> None:
        """Measure what is missing, each process its share, the first saving and printing as it comes."""
        known = self.results.tasks.get(TASK, {})
        missing = [each for each in self.samplers if each.name not in known]
        with tqdm(
            total=len(missing) * self.samples, unit="image", disable=None if world.first else True, leave=False
        ) as bar:
            samplers = [self._watched(each, bar) for each in self.samplers]
            rows = evaluate_generator(
                samplers, self.data, self.extractor, self.results, self.folder,
                batch=batch, bits=bits, bits_images=bits_images, judge=self.judge, share=world.share,
                meet=lambda: world.gathered(None), first=world.first,
            )  # fmt: skip
            if world.first:
                self._picture(REAL, self.data.images[:SHOWN].float() / 255)
            for name, row in rows:
                with bar.external_write_mode():
                    print(f"{name:<14}" + "  ".join(f"{HEADS[key][0]} {text}" for key, text in _cells(row)), flush=True)
        if not world.first:
            return
        print(f"\n{self.table().text()}\n")
        print("\n".join(self._protocols().values()), end="\n\n")
        for path in self.write():
            print(path)

    @property
    def samples(self) -> int:
        return int(self.results.stamp["samples"])

    def _watched(self, each: Sampler, bar: tqdm) -> Sampler:
        """The sampler, which shows its first images and how far it is."""

        def draw(numbers: range) -> tuple[Tensor, float]:
            bar.set_description(each.name)
            images, evaluations = each.draw(numbers)
            if numbers.start == 0:
                self._picture(each.name, images[:SHOWN])
            bar.update(len(images))
            return images, evaluations

        return replace(each, draw=draw)

    def _picture(self, name: str, images: Tensor) -> None:
        file = self._file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, report.sheet(images, max(1, math.isqrt(len(images)))))

    def _file(self, name: str) -> Path:
        return self.folder / "examples" / f"{name.replace(':', '-')}.png"

    def _rows(self) -> Iterator[tuple[str, Mapping[str, float]]]:
        for name in (REAL, *(each.name for each in self.samplers)):
            yield name, self.results.tasks[TASK][name]

    def table(self) -> report.Table:
        """Sampler by sampler, after the data against themselves."""
        rows = list(self._rows())
        shown = [key for key in HEADS if any(key in row for _, row in rows)]
        cells = []
        for name, row in rows:
            found = dict(_cells(row))
            work = ["", ""] if name == REAL else [f"{row['evaluations']:g}", f"{row['seconds']:.4f}"]
            cells.append([name, *(found.get(key, "") for key in shown), f"{row['samples']:.0f}", *work])
        return report.Table(["sampler", *(HEADS[key][0] for key in shown), "images", "evals", "seconds"], cells)

    def panels(self) -> list[report.Panel]:
        """Frechet distance and coverage against evaluations; the level is the data's."""
        (_, real), *rows = self._rows()
        panels = []
        for key in ("fd", "coverage"):
            series: dict[str, list[tuple[float, float]]] = {}
            for name, row in rows:
                series.setdefault(name.partition(":")[0], []).append((row["evaluations"], row[key]))
            panels.append(report.Panel(HEADS[key][0], series, {f"{REAL}, {real['samples']:.0f}": real[key]}))
        return panels

    def write(self) -> list[Path]:
        svg = report.curves(self.panels())
        texts = {"results.md": self.markdown(), "curves.svg": svg, "report.html": self.page(svg)}
        for name, text in texts.items():
            write_text(self.folder / name, text)
        report.curves_png(self.folder / "curves.png", self.panels())
        return [self.folder / name for name in ("results.json", *texts, "curves.png", "examples")]

    def _protocols(self) -> dict[str, str]:
        known = next(row for name, row in self._rows() if name != REAL)
        texts = self.results.stamp["protocols"]
        texts = {HEADS[key][0]: text for key, text in texts.items() if key in known}
        half = len(self.data.images) // 2
        return texts | {
            REAL: f"{REAL}, a random half of the data against the other, {half} images each: what is perfect",
            "±": "± standard error; of precision to coverage given the balls, of KID at most this",
        }

    def _facts(self) -> dict[str, str]:
        stamp, data = self.results.stamp, self.results.stamp["data"][TASK]
        return {
            "model": self.model,
            "weights": f"sha256 {stamp['model']['weights']}",
            "data": f"{data['name']}, {data['split']}, {data['images']} images {data['shape']}",
            "images": f"sha256 {data['digest']}",
            "extractor": f"{stamp['extractor']['name']}, sha256 {stamp['extractor']['digest']}",
            "samples": f"{stamp['samples']}, seed {stamp['seed']}",
            **{name: ", ".join(f"{k} {v}" for k, v in facts.items()) for name, facts in stamp["samplers"].items()},
            "versions": f"undrift {stamp['undrift']}, torch {stamp['torch']}",
            "machine": ", ".join(f"{key} {value}" for key, value in self.results.machine.items()),
        }

    def markdown(self) -> str:
        parts = [f"# {self.model}: {self.data.name}", self.table().markdown(), "![](curves.svg)"]
        for title, rows in {"Measures": self._protocols(), "Settings": self._facts()}.items():
            parts += [f"## {title}", "\n".join(f"- {key}: {value}" for key, value in rows.items())]
        return "\n\n".join(parts) + "\n"

    def page(self, svg: str) -> str:
        files = {name: self._file(name) for name, _ in self._rows()}
        pictures = {name: read(file).pixels for name, file in files.items() if file.is_file()}
        return report.page(
            f"Evaluation of {Path(self.model).name}",
            f"{self.samples} images by each of {len(self.samplers)} samplers, {len(self.data.images)} real ones.",
            [
                report.section("Distances", self.table().html(), report.figure(svg)),
                report.section("The first images of each", report.gallery(pictures), note="The same seeds everywhere."),
                report.section("Measures", report.facts(self._protocols())),
                report.section("Settings", report.facts(self._facts())),
            ],
        )


def _cells(row: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for key, (_, factor) in HEADS.items():
        if key in row:
            yield key, within(row[key] * factor, row[f"{key}_error"] * factor)
