"""What `undrift evaluate` does and writes: results.json after every row, then results.md, report.html, curves.svg."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from tqdm import tqdm

from .. import report
from ..data import read, write
from ..denoiser import Denoiser
from ..evaluation import DEGRADED, Found, Measures, PairSet, Results, Setting, assess
from ..evaluation.specs import specs
from ..space import Space
from ..training.files import write_text
from .rows import Rows
from .world import World

__all__ = ["HEADS", "Assessment", "settings_of"]

# measure -> head, decimals
HEADS: dict[str, tuple[str, int]] = {
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 4),
    "psnr_y": ("PSNR-Y", 2),
    "ssim_y": ("SSIM-Y", 4),
    "haarpsi": ("HaarPSI", 4),
    "swd": ("SWD", 1),
    "lpips": ("LPIPS", 4),
    "fid": ("FID", 2),
    "brightness": ("brightness", 4),
    "spread": ("spread", 2),
    "evaluations": ("evals", 0),
    "seconds": ("seconds", 3),
}


def settings_of(
    solvers: Sequence[str], steps: Sequence[int], baseline: Sequence[str] = (), samples: int = 1
) -> list[Setting]:
    """The degraded input, one evaluation, the solvers, the mean of several samples of the first, the baselines."""
    ours = [Setting.parse(spec) for spec in specs(solvers, steps)]
    mean = [replace(ours[0], samples=samples)] if samples > 1 else []
    return list(dict.fromkeys([DEGRADED, Setting("ode-1", 1), *ours, *mean, *map(Setting.parse, baseline)]))


@final
@dataclass(frozen=True)
class Assessment:
    """An evaluation: what to measure, what is known already, and where it goes."""

    model: str
    pairs: PairSet
    settings: Sequence[Setting]
    results: Results
    folder: Path

    def run(
        self, denoiser: Denoiser, space: Space, measures: Measures, batch: int, seed: int, world: World = World()
    ) -> None:
        """Measure what is missing, each process its share of the rows, saving and printing as it comes."""
        rows = Rows(self.folder, self.results)
        missing = world.planned(lambda: self._missing(rows))
        mine = set(world.share(missing))
        with self._progress(denoiser, mine, quiet=not world.first) as bar:
            for task in self.pairs.tasks:
                for setting in self.settings:
                    if (task, str(setting)) not in mine:
                        continue
                    bar.set_description(f"{task} {setting}")
                    found = assess(
                        denoiser, space, self.pairs.pairs(task), setting, measures=measures, batch=batch, seed=seed
                    )
                    self._keep(task, setting, found, rows if world.size > 1 else None)
                if world.size == 1:
                    with bar.external_write_mode():
                        print(f"{task}\n{self.table(task).text()}\n", flush=True)
        world.gathered(None)
        if world.first:
            rows.collect()
            self._tell(world.size > 1)

    def _missing(self, rows: Rows) -> list[tuple[str, str]]:
        rows.collect()
        known = set(self.results.done())
        return [(task, str(s)) for task in self.pairs.tasks for s in self.settings if (task, str(s)) not in known]

    def _tell(self, tasks: bool) -> None:
        """Every table that was not printed on the way, and the files."""
        for task in self.pairs.tasks if tasks else ():
            print(f"{task}\n{self.table(task).text()}\n")
        if len(self.pairs.tasks) > 1:
            print(f"{self._title()}\n{self.table().text()}\n")
        print("\n".join(self._protocols().values()), end="\n\n")
        for path in self.write():
            print(path)

    def _progress(self, denoiser: Denoiser, mine: set[tuple[str, str]], quiet: bool) -> tqdm:
        """A bar in network evaluations of photographs; without an estimate where photographs may be tiled."""
        missing = [
            len(self.pairs.files(task)) * setting.evaluations * setting.samples
            for task in self.pairs.tasks
            for setting in self.settings
            if (task, str(setting)) in mine
        ]
        total = sum(missing) if 0 < self.pairs.size <= 512 else None
        bar = tqdm(total=total, unit="evaluation", disable=True if quiet else None, leave=False, dynamic_ncols=True)
        if not bar.disable:
            denoiser.register_forward_hook(lambda _module, _inputs, estimate: bar.update(len(estimate)) and None)
        return bar

    def _keep(self, task: str, setting: Setting, found: Found, rows: Rows | None) -> None:
        examples = self.folder / "examples" / task
        examples.mkdir(parents=True, exist_ok=True)
        write(_example(examples, str(setting)), found.first)
        write(_example(examples, "original"), found.pair.x)
        if rows is not None:
            rows.keep(task, str(setting), found.values)
            return
        self.results.add(task, setting, found.values)
        self.results.save(self.folder)

    def _rows(self, task: str | None) -> Iterator[tuple[str, Mapping[str, float]]]:
        for name in map(str, self.settings):
            found = self.results.tasks[task][name] if task else self.results.mean(self.pairs.tasks, name)
            yield name, found

    def table(self, task: str | None = None) -> report.Table:
        """Setting by setting, of one task or the mean of all."""
        rows = list(self._rows(task))
        shown = [name for name in HEADS if any(name in found for _, found in rows)]
        cells = [
            [name, *(f"{found[key]:.{HEADS[key][1]}f}" if key in found else "-" for key in shown)]
            for name, found in rows
        ]
        return report.Table(["setting", *(HEADS[key][0] for key in shown)], cells)

    def curves(self) -> str:
        """PSNR and HaarPSI against evaluations, means of all tasks."""
        rows = [(s, self.results.mean(self.pairs.tasks, str(s))) for s in self.settings if s.samples == 1]
        panels = []
        for key in ("psnr", "haarpsi"):
            series: dict[str, list[tuple[float, float]]] = {}
            for setting, found in rows:
                if setting != DEGRADED:
                    series.setdefault(setting.solver, []).append((setting.evaluations, found[key]))
            panels.append(report.Panel(HEADS[key][0], series, {"degraded": rows[0][1][key]}))
        return report.curves(panels)

    def write(self) -> list[Path]:
        texts = {"results.md": self.markdown(), "curves.svg": self.curves(), "report.html": self.page()}
        for name, text in texts.items():
            write_text(self.folder / name, text)
        return [self.folder / name for name in ("results.json", *texts)]

    def _title(self) -> str:
        count = len(self.pairs.tasks)
        return f"mean of {count} tasks" if count > 1 else self.pairs.tasks[0]

    def _protocols(self) -> dict[str, str]:
        return {HEADS[key][0]: text for key, text in self.results.stamp["protocols"].items()}

    def _facts(self) -> dict[str, str]:
        stamp, machine = self.results.stamp, self.results.machine
        data = stamp["data"][self.pairs.tasks[0]]
        facts = {"model": self.model, "weights": f"sha256 {stamp['model']['weights']}"}
        facts |= {"photographs": f"{self.pairs.root}, {data['images']} per task, {data['pairs']} pairs"}
        facts |= {
            "files": f"sha256 {data['files']}",
            "crop": f"{self.pairs.size or 'none'}",
            "seed": str(stamp["seed"]),
        }
        facts |= {"versions": f"undrift {stamp['undrift']}, torch {stamp['torch']}"}
        return facts | {"machine": ", ".join(f"{key} {value}" for key, value in machine.items())}

    def markdown(self) -> str:
        parts = [f"# {self.model}: {self._title()}", self.table().markdown(), "![](curves.svg)"]
        for task in self.pairs.tasks:
            parts += [f"## {task}", self.table(task).markdown()]
        lists = {"Measures": self._protocols(), "Settings": self._facts()}
        for title, rows in lists.items():
            parts += [f"## {title}", "\n".join(f"- {key}: {value}" for key, value in rows.items())]
        return "\n\n".join(parts) + "\n"

    def page(self) -> str:
        tasks = [report.section(task, self.table(task).html()) for task in self.pairs.tasks]
        return report.page(
            f"Evaluation of {Path(self.model).name}",
            f"{len(self.pairs.tasks)} tasks, {len(self.settings)} settings; each number is a mean over photographs.",
            [
                report.section(self._title().capitalize(), self.table().html(), report.figure(self.curves())),
                report.section("The first photograph of each task", report.sliders(list(self._comparisons()))),
                *tasks,
                report.section("Measures", report.facts(self._protocols())),
                report.section("Settings", report.facts(self._facts())),
            ],
        )

    def _comparisons(self) -> Iterator[report.Comparison]:
        """The examples that are still there; the single evaluation, which nobody asked for, comes last."""
        _, single, *others = map(str, self.settings)
        names = [*others, single]
        for task in self.pairs.tasks:
            files = {name: _example(self.folder / "examples" / task, name) for name in ("degraded", *names, "original")}
            images = {name: read(file).pixels for name, file in files.items() if file.is_file()}
            if len(images) > 1 and "degraded" in images:
                yield report.Comparison(task, "", ("degraded", images.pop("degraded")), list(images.items()))


def _example(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(':', '-').replace('*', 'x')}.png"
