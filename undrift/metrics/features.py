"""What a distance of distributions looks at: a network with a name and a fingerprint.

    extract(images (B, C, H, W) in [0, 1]) -> features (B, D), probabilities (B, K) or None

| extractor | network |
|---|---|
| `TorchScript` | a local file, Inception above all |
| `Classified` | a `NoisyClassifier` of undrift, asked about clean images |
| `Function` | any callable |

Numbers of different extractors have nothing to do with one another.
"""

import os
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Protocol, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..classify import NoisyClassifier
from ..space import Space

__all__ = [
    "Classified",
    "Extracted",
    "Extractor",
    "Features",
    "Function",
    "Grey",
    "TorchScript",
    "eight_bit",
    "fingerprint",
]

Extracted = tuple[Tensor, Tensor | None]


class Extractor(Protocol):
    """`name` says network and preparation, `digest` is the sha256 of the weights."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    def __call__(self, images: Tensor) -> Extracted: ...


class Features(NamedTuple):
    """Of a set of images: features (N, D) and class probabilities (N, K), if there are any; float32, on the CPU."""

    features: Tensor
    probabilities: Tensor | None

    @classmethod
    def of(cls, extractor: Extractor, batches: Iterable[Tensor]) -> "Features":
        """Those of images that arrive in batches (B, C, H, W) in [0, 1]; rounded to 8 bits, as files hold them."""
        return cls.joined([cls.kept(extractor(eight_bit(images))) for images in batches])

    @classmethod
    def kept(cls, found: Extracted) -> "Features":
        return cls(*(None if part is None else part.detach().float().cpu() for part in found))  # type: ignore[arg-type]

    @classmethod
    def joined(cls, parts: Iterable["Features"]) -> "Features":
        features, probabilities = zip(*parts, strict=True)
        return cls(torch.cat(features), None if None in probabilities else torch.cat(probabilities))

    def pick(self, index: Tensor) -> "Features":
        return Features(self.features[index], None if self.probabilities is None else self.probabilities[index])


def eight_bit(images: Tensor) -> Tensor:
    """Images clamped to [0, 1] and rounded to the 256 values of a file."""
    return images.clamp(0, 1).mul(255).round().div(255)


def fingerprint(network: nn.Module) -> str:
    """sha256 of the names and the bytes of all tensors, in their order."""
    digest = sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@final
class Function:
    """Any callable as an extractor.

    Arguments:
        call: images in [0, 1] -> features, or (features, probabilities).
        name, digest: what stamps will say; two functions of one name and digest must be one function.
    """

    def __init__(self, call: Callable[[Tensor], Tensor | Extracted], name: str, digest: str = "") -> None:
        self.call, self.name, self.digest = call, name, digest

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        found = self.call(images)
        return found if isinstance(found, tuple) else (found, None)


@final
class Classified:
    """The penultimate layer and the class probabilities of a classifier of noisy states, at the clean end of its path.

    Arguments:
        classifier: its network has `features(z, c) -> (B, D)` and `head`, the layer from these to the logits.
        space: the coordinates in which it was trained.
        name: of the classifier, for stamps.
    """

    def __init__(self, classifier: NoisyClassifier, space: Space, name: str) -> None:
        self.classifier, self.space = classifier.eval(), space
        self.name, self.digest = name, fingerprint(classifier.network)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        weight = next(self.classifier.parameters())
        time = torch.tensor(self.classifier.process.t_min, dtype=torch.float64)
        features = self.classifier.features(self.space.encode(images.to(weight)), time)
        logits: Tensor = self.classifier.network.head(features)  # type: ignore[operator]
        return features, logits.softmax(1)


@final
class Grey:
    """An extractor of grey images, shown the mean of the channels.

    Arguments:
        extractor: of images of one channel.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor, self.name, self.digest = extractor, f"{extractor.name}, grey", extractor.digest

    def __call__(self, images: Tensor) -> Extracted:
        return self.extractor(images.mean(1, keepdim=True))


@final
class TorchScript:
    """A network in a TorchScript file. Such a file is a program: it runs with your rights, so `trust` must be True.

    Made for NVIDIA's ``inception-2015-12-05.pt``, the TensorFlow Inception that published FIDs mean: its `forward`
    takes 8-bit values, resizes to 299 x 299 and normalises by itself, gives 2048 features for `return_features=True`
    and 1008 class probabilities, without the last bias as usual, for `no_output_bias=True`. Any other file is called
    with floats and must give features, or (features, logits).

    Arguments:
        path: the file.
        trust: that its code may run.
        size: side to which images are scaled first, bilinear and antialiased; None leaves them as they are.
        mean, std: (x - mean) / std follows, x in [0, 1], for files other than NVIDIA's.
        probabilities: whether NVIDIA's file is asked for them too, at the cost of a second pass.

    Grey images are shown to it in three equal channels. Raises FileNotFoundError or ValueError in one line.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        trust: bool = False,
        size: int | None = None,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
        probabilities: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(
                f"FID needs a TorchScript Inception, no {path}: download https://nvlabs-fi-cdn.nvidia.com/"
                "stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt and pass its path"
            )
        if not trust:
            raise ValueError(f"{path}: not opened, for a TorchScript file can run code: trust=True if you trust it")
        try:
            self.network = torch.jit.load(os.fspath(path), map_location=device).eval()
        except RuntimeError as error:
            raise ValueError(f"{path}: not a TorchScript file ({str(error).splitlines()[0]})") from None
        self.device, self.size, self.mean, self.std, self.probabilities = device, size, mean, std, probabilities
        known = [argument.name for argument in self.network.forward.schema.arguments]
        self.whole = "return_features" in known  # NVIDIA's, which prepares images itself
        plain = "8 bit" if self.whole else f"mean {mean} std {std}"
        self.name = f"{file.name}, {plain}, {f'resized to {size}' if size else 'size as given'}"
        self.digest = sha256(file.read_bytes()).hexdigest()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        x = images.to(self.device).expand(-1, 3, -1, -1)
        if self.size and self.size != min(x.shape[2:]):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        if self.whole:
            levels = x.clamp(0, 1).mul(255).round().byte()
            odds = self.network(levels, no_output_bias=True) if self.probabilities else None
            return self.network(levels, return_features=True), odds
        mean, std = (x.new_tensor(c).view(-1, 1, 1) for c in (self.mean, self.std))
        found = self.network((x - mean) / std)
        return (found[0], found[1].softmax(1)) if isinstance(found, tuple) else (found, None)
