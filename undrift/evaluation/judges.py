"""What is said of a generated image by itself, beside distances of sets: does it show what was asked for?

| judge | measures |
|---|---|
| `Named` | `agreement`: the share of images in which a classifier sees the class that the caption names |
| `interop.clip.ClipJudge` | `clip`: the cosine of image and caption in the space of a CLIP model |
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from ..metrics import Estimate, Extractor, eight_bit
from ..metrics.estimate import mean_of

__all__ = ["Judge", "Judges", "Named", "mentioned", "summary"]


class Judge(Protocol):
    """judge(images (B, C, H, W) in [0, 1], their numbers) -> (B, S), nan where it has no opinion."""

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the S columns."""

    @property
    def protocols(self) -> Mapping[str, str]:
        """What each of them means, for stamps and tables."""

    def __call__(self, images: Tensor, numbers: range) -> Tensor: ...


def summary(judge: Judge, scores: Tensor) -> dict[str, Estimate]:
    """measure -> its mean over the images of which something was said; those with fewer than two are left out."""
    known = {name: column[~column.isnan()].double() for name, column in zip(judge.measures, scores.T, strict=True)}
    return {name: mean_of(values) for name, values in known.items() if len(values) > 1}


@final
@dataclass(frozen=True)
class Judges:
    """Several at once."""

    each: tuple[Judge, ...]

    @property
    def measures(self) -> tuple[str, ...]:
        return tuple(name for judge in self.each for name in judge.measures)

    @property
    def protocols(self) -> Mapping[str, str]:
        return {name: text for judge in self.each for name, text in judge.protocols.items()}

    def __call__(self, images: Tensor, numbers: range) -> Tensor:
        return torch.cat([judge(images, numbers).float().cpu() for judge in self.each], 1)


def mentioned(caption: str, names: Sequence[str]) -> int | None:
    """Which of the names a caption has, as words or their plurals; the longest, or None.

    A name with alternatives, "T-shirt/top", is there where one of them is.
    """
    text, found, longest = caption.lower(), None, 0
    for index, name in enumerate(names):
        for part in re.split(r"[/,]", name.lower()):
            wanted = part.strip()
            if len(wanted) > longest and re.search(rf"(?<![\w-]){re.escape(wanted)}(s|es)?(?![\w-])", text):
                found, longest = index, len(wanted)
    return found


@final
@dataclass(frozen=True)
class Named:
    """1 where a classifier sees the class that the caption names, else 0; nan where it names none.

    Arguments:
        classify: an extractor whose probabilities are of the classes.
        names: of the classes.
        captions: of the images, by number.
    """

    classify: Extractor
    names: tuple[str, ...]
    captions: Sequence[str]

    @property
    def measures(self) -> tuple[str, ...]:
        return ("agreement",)

    @property
    def protocols(self) -> Mapping[str, str]:
        known = sum(mentioned(caption, self.names) is not None for caption in self.captions)
        told = f"{known} of {len(self.captions)} captions name one"
        judge = f"{self.classify.name}, {self.classify.digest[:8]},"
        return {
            "agreement": f"agreement, share of images in which {judge} sees the class of the caption, {told}, "
            "higher is better"
        }

    def __call__(self, images: Tensor, numbers: range) -> Tensor:
        _, odds = self.classify(eight_bit(images))
        if odds is None:
            raise ValueError(f"{self.classify.name}: gives no probabilities of classes, and agreement needs them")
        wanted = [mentioned(self.captions[i], self.names) for i in numbers]
        seen = odds.argmax(1).tolist()
        said = [float("nan") if want is None else float(want == see) for want, see in zip(wanted, seen, strict=True)]
        return torch.tensor(said)[:, None]
