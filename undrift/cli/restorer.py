"""What `undrift restore` does to one photograph: read, restore, write, tell."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..data import Photo, read, write
from ..data.image import FORMATS
from ..denoiser import Denoiser
from ..evaluation import fingerprint
from ..guidance.tiled import covered
from ..restoration import restore
from ..space import Space
from .contexts import Contexts

__all__ = ["Restorer"]


@final
@dataclass
class Restorer:
    """`restorer(photograph, (file, spread file if several samples)) -> line`; the rest as in `restoration.restore`."""

    model: str
    denoiser: Denoiser
    space: Space
    steps: int
    solver: str
    seed: int
    samples: int
    tile: int
    task: str | None = None
    contexts: Contexts = Contexts(None)
    bar: tqdm = field(default_factory=lambda: tqdm(disable=True))

    @property
    def overlap(self) -> int:
        return min(64, self.tile // 2)

    def names(self, below: Path) -> list[Path]:
        """The restored photograph, in a format that can be written, and the map of its spread."""
        main = below if below.suffix.lower() in FORMATS else below.with_suffix(".png")
        return [main, below.with_name(f"{below.stem}.spread.png")][: min(self.samples, 2)]

    def identity(self) -> dict[str, Any]:
        """All that a restored photograph depends on but itself, for the manifest."""
        facts: dict[str, Any] = {"command": "restore", "tile": self.tile, "weights": fingerprint(self.model)}
        facts |= {"contexts": self.contexts.digest()} if self.contexts.path else {}
        return facts | self._facts()

    def progress(self, paths: Iterable[Path], quiet: bool = False) -> tqdm:
        """A bar over all photographs, in pixels that the network sees; nothing where there is no terminal."""
        self.bar = tqdm(disable=True if quiet else None, unit="px", unit_scale=True, dynamic_ncols=True)
        if not self.bar.disable:
            self.bar.reset(sum(map(self._work, paths)))
            self.denoiser.register_forward_hook(self._seen)
        return self.bar

    def _work(self, path: Path) -> int:
        try:
            with Image.open(path) as header:
                return covered(*header.size, self.tile, self.overlap) * self.steps * self.samples
        except Exception:  # it will be told when its turn comes
            return 0

    def _seen(self, module: object, inputs: object, estimate: Tensor) -> None:
        self.bar.update(estimate.shape[-2] * estimate.shape[-1])

    def __call__(self, path: Path, files: tuple[Path, ...]) -> str:
        self.bar.set_description(path.name)
        photo = read(path, levels=True)
        result = restore(
            self.denoiser,
            self.space,
            photo.pixels,
            steps=self.steps,
            solver=self.solver,
            seed=self.seed,
            samples=self.samples,
            task=self.task,
            tile=self.tile,
            overlap=self.overlap,
            contexts=self.contexts(path),
        )
        write(files[0], result.image, like=photo, text=self._facts())
        if result.spread is not None:
            self._write_spread(files[1], result.spread)
        size = f"{photo.pixels.shape[-1]} x {photo.pixels.shape[-2]}"
        calls = f"{result.evaluations} evaluation{'s' * (result.evaluations > 1)}" + (
            f" x {self.samples} samples" if self.samples > 1 else ""
        )
        student = f" by the student {self.model}" if self.denoiser.student else ""
        return f"{path} -> {files[0]}  {size}, {calls}{student}, {result.seconds:.1f} s"

    def _write_spread(self, file: Path, spread: Tensor) -> None:
        """A 16-bit grey map, white at the largest standard deviation, which its text names."""
        largest = spread.max().item()
        pixels = (spread / largest if largest > 0 else spread).expand(3, -1, -1)
        text = {"white": f"{largest:.6g}", "meaning": "standard deviation over the samples, light in [0, 1]"}
        write(file, pixels, like=Photo(pixels, grey=True, bits=16), text=self._facts() | text)

    def _facts(self) -> dict[str, str]:
        settings: dict[str, Any] = {
            "model": self.model,
            "steps": self.steps,
            "solver": self.solver,
            "seed": self.seed,
            "samples": self.samples,
        }
        settings |= {"task": self.task} if self.task else {}
        return {"Software": f"undrift {__version__}"} | {key: str(value) for key, value in settings.items()}
