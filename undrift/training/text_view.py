"""What the panel of a text-to-image student shows: fixed prompts and seeds, the student beside its teacher."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from ..data import Batch, generator
from ..data.captioned import Captioned
from ..denoiser import Denoiser
from ..evaluation.prompted import pictures
from ..interop.diffusers_text import TextToImage
from ..space import Space
from .strips import panel_picture

__all__ = ["Prompted"]

SHOWN, TEACHER = 10, "ode-2c:20"


@final
@dataclass
class Prompted:
    """Samples for the first captions of the data. Nothing is measured: see `undrift evaluate`.

    Arguments:
        parts: of the teacher.
        data: whose captions are shown.
        counts: evaluations of the student's rows.
        scale: of guidance.
        facts: of the training, as a student has them.
    """

    parts: TextToImage
    data: Captioned
    counts: tuple[int, ...]
    scale: float
    facts: dict[str, object]
    _known: dict[str, Tensor] = field(default_factory=dict, init=False)

    @property
    def best(self) -> tuple[str, bool]:
        """Nothing decides."""
        return "", False

    def probe(self) -> Batch:
        """The first images and their captions, as training sees them."""
        count = min(16, len(self.data))
        captions = list(self.data.captions[:count])
        return Batch(self.data.images(range(count), self.parts.side), None, self.parts.encode(captions))

    def __call__(self, student: Denoiser, space: Space, path: Path) -> dict[str, float]:
        """Write the picture."""
        captions = list(self.data.captions[:SHOWN])
        seeds = [generator("panel", i).initial_seed() for i in range(len(captions))]
        device = next(student.parameters()).device
        self.parts.to(device)
        pupil = replace(self.parts, denoiser=student, facts=self.facts)
        rows = []
        for n in self.counts:
            images = pictures(pupil, captions, seeds, f"consistency:{n}", self.scale)
            rows.append((f"student, {n} evaluation{'s' * (n > 1)}", images))
        if "teacher" not in self._known:
            self._known["teacher"] = pictures(self.parts, captions, seeds, TEACHER, self.scale)
        rows.append((f"teacher, {TEACHER.partition(':')[2]} evaluations", self._known["teacher"]))
        panel_picture(path, [(title, torch.as_tensor(images).clamp(0, 1).cpu()) for title, images in rows], {})
        return {}
