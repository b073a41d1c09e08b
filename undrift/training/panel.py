"""The live panel of a distillation: every few steps a picture, what it is worth, and what goes wrong.

<out>/preview/step-<n>.png   the student at 1, 2 and 4 evaluations beside its teacher, always of the same seeds
<out>/report.html            the newest picture, curves, alarms, settings
<out>/best/                  the checkpoint that was best by the panel's deciding number; `training.run` writes it

Its numbers go into log.jsonl as `panel/<measure>/<evaluations>`, and

    panel/leak    the critic's accuracy where it sees nothing, see `methods.leak`
    panel/ratio   |d adversarial / d f| / |d consistency / d f|, by weight, over the student's output f.

Nothing here moves a weight or the random numbers of the run.
"""

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from tqdm import tqdm

from ..data import Batch, generator
from ..denoiser import Denoiser
from ..interop.diffusers_text import open_text_to_image
from ..methods import Scott, balance, leak
from ..methods.jumps import edges
from ..preset import leaps
from ..space import Space
from .alarms import alarms
from .captions import Captions
from .labelled import Labelled
from .log import lines
from .panel_report import report
from .photographs import Photographs
from .preview import Preview
from .sources import Source
from .text_view import Prompted
from .views import Generated, Photographed, View

__all__ = ["LivePanel", "live"]


@final
class LivePanel:
    """A sheet for `training.run`: `panel(student, space, step)` looks, measures, reports, and gives what to log.

    Arguments:
        method: of the run; looked at, with modules as they are now, that is before they are prepared.
        view: what is shown and measured.
        folder: of the run.
        recipe: the tables to show.
    """

    def __init__(self, method: Scott, view: View, folder: Path, recipe: Mapping[str, Any]) -> None:
        self.method = copy.copy(method)  # the same weights, unwrapped for the life of the run
        self.view, self.folder, self.recipe = view, folder, recipe
        self.raised: set[str] = set()
        self.best: tuple[float, int] | None = None
        self.probe: Batch | None = None

    def __call__(self, denoiser: Denoiser, space: Space, step: int) -> dict[str, Any]:
        """The picture, the report, and the numbers; "alarms", sentences, where there are any."""
        picture = self.folder / "preview" / f"step-{step:08d}.png"
        found = self.view(denoiser, space, picture) | self._looked_at(next(denoiser.parameters()).device)
        values: dict[str, Any] = {f"panel/{key}": round(v, 6) for key, v in found.items() if math.isfinite(v)}
        lines = [*self._lines(step), {"step": step, **values}]
        told = alarms(lines)
        self._decide(lines)
        report(self.folder / "report.html", self.recipe, lines, list(told.values()), picture, self.verdict())
        self._raise(told)
        return values | ({"panel/alarms": " ".join(told.values())} if told else {})

    def verdict(self) -> str:
        """The best checkpoint in words; "" where nothing decides."""
        name, _ = self.view.best
        if self.best is None:
            return ""
        measure, _, count = name.partition("/")
        head = {"fd": "Fréchet distance", "haarpsi": "HaarPSI"}[measure]
        return (
            f"best by {head} in {count} evaluation{'s' * (count != '1')}: {self.best[0]:.4g} at step {self.best[1]:,}"
        )

    def _looked_at(self, device: torch.device) -> dict[str, float]:
        """What the critic knows and how hard it pulls."""
        if self.method.critic is None:
            return {}
        if self.probe is None:
            self.probe = self.view.probe().to(device)
        random = generator("panel", "critic")
        return {
            "leak": leak(self.method, self.probe, random),
            "ratio": balance(self.method, self.probe, random),
        }

    def _lines(self, step: int) -> list[dict[str, Any]]:
        """The log before this step; of a run that goes on, that of the first part too."""
        return [line for line in lines(self.folder) if line["step"] <= step]

    def _decide(self, lines: list[dict[str, Any]]) -> None:
        name, more = self.view.best
        known = [(line[f"panel/{name}"], line["step"]) for line in lines if name and f"panel/{name}" in line]
        if known:
            value, at = (max if more else min)(known, key=lambda each: each[0])
            self.best = value, int(at)

    def _raise(self, told: Mapping[str, str]) -> None:
        """Say once what is new."""
        for name in told.keys() - self.raised:
            tqdm.write(f"alarm: {told[name]}")
        self.raised = set(told)


def live(method: Scott, data: Source, preview: Preview, folder: Path, recipe: Mapping[str, Any]) -> LivePanel | None:
    """The panel of a run; None where [preview] wants none, or there are no photographs to look at."""
    teacher = method.teacher
    assert isinstance(teacher, Denoiser)
    if not preview.every:
        return None
    view: View
    if isinstance(data, Photographs):
        sheet = preview.sheet(data.split()[1], data.chosen(), folder / "preview")
        if sheet is None:
            return None
        view = Photographed(teacher, sheet, _counts(method, (1, 2), preview.steps), preview.steps)
    elif isinstance(data, Captions):
        scale = 1.0 if method.guidance is None else sum(method.guidance) / 2
        counts = _counts(method, (1, 2, 4), preview.steps)
        view = Prompted(open_text_to_image(data.pipeline), data.load(), counts, scale, {"recipe": recipe})
    else:
        if not isinstance(data, Labelled):
            raise ValueError("a panel measures against images held in memory: set preview.every=0 for streamed data")
        facts = data.facts()
        middle = None if method.guidance is None else sum(method.guidance) / 2
        view = Generated(
            teacher, tuple(facts["shape"]), len(facts["classes"]), (data.path, data.size),
            _counts(method, (1, 2, 4), preview.steps), preview.steps, preview.features, preview.samples, middle,
        )  # fmt: skip
        if not preview.features:
            tqdm.write("no preview.features, a classifier to measure distances with: pictures only, and no best/")
    return LivePanel(method, view, folder, recipe)


def _counts(method: Scott, usual: tuple[int, ...], also: int) -> tuple[int, ...]:
    """The evaluations to show of a student, which leaps from its nodes alone; ValueError for `also` of more or less."""
    nodes = method.grid[:-1].tolist()
    if not method.segments <= also <= len(nodes):
        raise ValueError(
            f"preview.steps = {also}: a student of method.nodes = {len(nodes)} and method.segments = {method.segments} "
            "makes no fewer leaps than segments and no more than nodes: set it to such a number"
        )
    return tuple(sorted({*leaps(nodes, usual, edges(method.grid, method.segments)), also}))
