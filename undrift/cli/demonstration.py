"""What `undrift demo` shows: every scene under every setting, as a table, a picture and a page."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import final

import torch
from torch import Tensor
from tqdm import tqdm

from .. import __version__, report
from ..denoiser import Denoiser
from ..evaluation import DEGRADED, PROTOCOLS, Measures, Scene, Setting, restored
from ..space import Space
from ..training.files import write_text

__all__ = ["Demonstration"]

SHOWN = ("psnr", "ssim", "haarpsi")


@final
@dataclass(frozen=True)
class Outcome:
    """One setting on all scenes.

    Arguments:
        denoiser: what restored.
        images: (3, H, W) each.
        values: measure -> one number per scene.
        seconds: likewise.
    """

    setting: Setting
    denoiser: Denoiser
    images: list[Tensor] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SHOWN})
    seconds: list[float] = field(default_factory=list)

    @property
    def evaluated(self) -> bool:
        return self.setting != DEGRADED

    @property
    def taught(self) -> bool:
        """Whether a student did it."""
        return self.evaluated and self.denoiser.student

    def mean(self, name: str) -> float:
        values = self.seconds if name == "seconds" else self.values[name]
        return sum(values) / len(values)


@final
@dataclass(frozen=True)
class Demonstration:
    """Scenes and their outcomes: degraded, ours, then its student and the baseline, if any; whether we were told."""

    scenes: list[Scene]
    outcomes: list[Outcome]
    threads: int
    seed: int
    told: bool = False

    @classmethod
    def of(
        cls, space: Space, scenes: list[Scene], contestants: Sequence[tuple[Denoiser, Setting]], seed: int
    ) -> "Demonstration":
        """Scene by scene, as `undrift restore` would: on a CPU batches of these sizes are hardly faster."""
        models = list(dict.fromkeys(denoiser for denoiser, _ in contestants))
        for denoiser in models:
            restored(denoiser, space, scenes[0].y[None], Setting("ode-1", 1), [[seed]])  # the first call is slower
        total = len(scenes) * sum(setting.evaluations for _, setting in contestants)
        with tqdm(total=total, unit="evaluation", disable=None, leave=False, dynamic_ncols=True) as bar:
            outcomes = [Outcome(setting, denoiser) for denoiser, setting in [(models[0], DEGRADED), *contestants]]
            hooks = [denoiser.register_forward_hook(lambda *_: bar.update() and None) for denoiser in models]
            try:
                for scene in scenes:
                    for outcome in outcomes:
                        _add(outcome, space, scene, seed)
            finally:
                for hook in hooks:
                    hook.remove()
        told = bool(models[0].tasks) and not contestants[0][1].blind
        return cls(scenes, outcomes, torch.get_num_threads(), seed, told)

    def table(self) -> report.Table:
        """Task by task, and the mean."""
        columns, groups = ["task"], []
        for outcome in self.outcomes:
            heads = ["PSNR", "SSIM"] + (["evals", "seconds"] if outcome.evaluated else [])
            columns += heads
            groups.append((self._name(outcome), len(heads)))
        rows = [[scene.task, *self._cells(i)] for i, scene in enumerate(self.scenes)]
        return report.Table(columns, [*rows, ["mean", *self._cells(None)]], groups, totals=1)

    def _name(self, outcome: Outcome) -> str:
        if outcome is self.outcomes[1]:
            return f"restored by {outcome.setting}"
        return f"student, {outcome.setting}" if outcome.taught else str(outcome.setting)

    def _cells(self, i: int | None) -> list[str]:
        cells = []
        for outcome in self.outcomes:
            psnr, ssim, seconds = (
                outcome.mean(name) if i is None else (outcome.values | {"seconds": outcome.seconds})[name][i]
                for name in ("psnr", "ssim", "seconds")
            )
            cells += [f"{psnr:.2f}", f"{ssim:.3f}"]
            if outcome.evaluated:
                cells += [str(outcome.setting.evaluations), f"{seconds:.2f}"]
        return cells

    def summary(self) -> list[str]:
        """What the table does not say, one line each."""
        haarpsi = ", ".join(f"{o.setting} {o.mean('haarpsi'):.3f}" for o in self.outcomes)
        lines = [f"HaarPSI, mean: {haarpsi}."]
        lines += ["The model was told what each photograph suffers from; --blind lets it judge by itself."] * self.told
        _, ours, *others = self.outcomes
        for other in others:
            fast, slow = (other, ours) if other.taught else (ours, other)
            # Ratios on the same photograph, moments apart, and their median: a busy machine should not decide.
            ratio = median(late / max(soon, 1e-9) for soon, late in zip(fast.seconds, slow.seconds, strict=True))
            gap = fast.mean("psnr") - slow.mean("psnr")
            whose = "by its student" if other.taught else "on the same network"
            lines.append(
                f"{fast.setting} is {ratio:.1f} times faster than {slow.setting} {whose}, at {gap:+.2f} "
                f"dB in PSNR ({median(fast.seconds):.2f} s against {median(slow.seconds):.2f} s each; medians)."
            )
        return lines

    def protocols(self) -> list[str]:
        return [PROTOCOLS[name] for name in SHOWN]

    def text(self) -> str:
        return "\n".join([self.table().text(), "", *self.summary(), "", *self.protocols(), ""])

    def write(self, folder: Path, model: str) -> list[Path]:
        """before-after.png and report.html."""
        picture, html = folder / "before-after.png", folder / "report.html"
        shown = [*self.outcomes[:2], *(outcome for outcome in self.outcomes[2:] if outcome.taught)]
        strips = [
            report.Strip(scene.task, self._gain(i, "to"), [*(outcome.images[i] for outcome in shown), scene.x])
            for i, scene in enumerate(self.scenes)
        ]
        heads = [f"{'student' if each.taught else 'restored'}, {each.setting.evaluations}" for each in shown[1:]]
        report.grid(picture, strips, ["degraded", *heads, "original"])
        write_text(html, self.page(model))
        return [picture, html]

    def _gain(self, i: int, to: str = "→") -> str:
        before, after = (outcome.values["psnr"][i] for outcome in self.outcomes[:2])
        return f"{before:.1f} {to} {after:.1f} dB"

    def page(self, model: str) -> str:
        comparisons = [
            report.Comparison(
                scene.task,
                self._gain(i),
                ("degraded", self.outcomes[0].images[i]),
                [("restored", self.outcomes[1].images[i])]
                + [(self._name(other), other.images[i]) for other in self.outcomes[2:]]
                + [("original", scene.x)],
            )
            for i, scene in enumerate(self.scenes)
        ]
        size, credits = self.scenes[0].x.shape[-1], ", ".join(dict.fromkeys(s.photographer for s in self.scenes))
        settings = {
            "model": model,
            "settings": ", ".join(str(outcome.setting) for outcome in self.outcomes[1:]),
            "photographs": f"{size} x {size} pixels; no bundled model was trained on them",
            "seed": str(self.seed),
            "threads": str(self.threads),
            "made": f"{time.strftime('%Y-%m-%d')}, undrift {__version__}, torch {torch.__version__}",
        }
        measures = {line.split()[0]: line.split(maxsplit=1)[1] for line in self.protocols()}
        return report.page(
            "Ten degradations, one network",
            f"Photographs restored by mean-reverting diffusion in {self.outcomes[1].setting.evaluations} network "
            "evaluations. Drag a picture; choose what its right side shows.",
            [
                report.section(
                    "Before and after",
                    report.sliders(comparisons),
                    note="Below each task: PSNR, degraded → restored.",
                ),
                report.section("In numbers", self.table().html(), note=" ".join(self.summary())),
                report.section("How it was measured", report.facts(measures)),
                report.section("Settings", report.facts(settings)),
                report.section("Credits", note=f"Photographs: {credits}, from Unsplash, under its licence."),
            ],
        )


def _add(outcome: Outcome, space: Space, scene: Scene, seed: int) -> None:
    """Restore one more scene."""
    began = time.perf_counter()
    image = restored(outcome.denoiser, space, scene.y[None], outcome.setting, [[seed]], scene.task)
    outcome.seconds.append(time.perf_counter() - began)
    outcome.images.append(image[0])
    found = Measures().pairwise(scene.x[None], image)
    for name, values in outcome.values.items():
        values.append(found[name].item())
