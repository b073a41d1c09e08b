"""What a DA-CLIP model is told of a photograph, from files: tensors named `image_context` and `degradation_context`."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import final

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..denoiser import Denoiser

__all__ = ["Contexts", "check_told"]


@final
@dataclass(frozen=True)
class Contexts:
    """contexts(photograph) -> the tensors of its file, each (1, n); None where there are no files.

    Arguments:
        path: a .safetensors file for every photograph, or a folder with STEM.safetensors for STEM.jpg.
    """

    path: str | None

    def __call__(self, photograph: Path) -> dict[str, Tensor] | None:
        if self.path is None:
            return None
        file = Path(self.path)
        file = file / f"{photograph.stem}.safetensors" if file.is_dir() else file
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no contexts for {photograph.name} there")
        try:
            return {name: value.reshape(1, -1) for name, value in load_file(file).items()}
        except SafetensorError as error:
            raise ValueError(f"{file}: damaged, or no .safetensors file ({error})") from None

    def digest(self) -> str:
        """Of all its files, by name and content."""
        root = Path(self.path or "")
        files = sorted(root.glob("*.safetensors")) if root.is_dir() else [root]
        return sha256(b"".join(file.name.encode() + sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def check_told(denoiser: Denoiser, path: str | None) -> None:
    """ValueError for a model that wants contexts and has none from anywhere, or is given some and wants none.

    FileNotFoundError for a `path` that is not there.
    """
    wanted: dict[str, int] = getattr(denoiser.network, "contexts", {})
    if path is not None and not wanted:
        raise ValueError("--contexts: this model wants none, leave it out")
    if path is not None and not Path(path).exists():
        raise FileNotFoundError(f"--contexts {path}: neither a .safetensors file nor a folder of them")
    if wanted and path is None and denoiser.see is None:
        names = " and ".join(f"{name} of {size} numbers" for name, size in wanted.items())
        raise ValueError(
            f"this model is to be told {names} for each photograph: give --contexts, or convert it with its --clip"
        )
