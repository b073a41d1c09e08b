"""Estimates of the clean state: `denoise(z, t, **cond) -> z_0`, THE interface of the library.

`Denoiser` gives a network its meaning; `GaussianMixture` is the exact one, against which solvers are tested.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from .prediction import Prediction
from .process import Process
from .tensor import expand

__all__ = ["Denoise", "Denoiser", "GaussianMixture", "Label", "Level", "LogNoise", "Sigma", "Time", "check", "told"]

Denoise = Callable[..., Tensor]
"""denoise(z (B, ...), t () or (B,), **cond) -> estimate of z_0 (B, ...)."""


class Label(ABC):
    """The one number that a network is told about the time."""

    @abstractmethod
    def __call__(self, process: Process, t: Tensor) -> Tensor:
        """t, float64 (*) -> label (*)."""


@final
@dataclass(frozen=True)
class LogNoise(Label):
    """log(sigma / alpha), clipped to +-limit: the noise level relative to the signal, on any process."""

    limit: float = 10.0

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return (-process.half_log_snr(t)).clamp(-self.limit, self.limit)


@final
@dataclass(frozen=True)
class Time(Label):
    """factor t: the index of a discrete schedule, or 999 t for Song's networks."""

    factor: float = 1.0

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return self.factor * t


@final
@dataclass(frozen=True)
class Sigma(Label):
    """sigma_t itself, as the VE networks of Score SDE that were trained at continuous times want it."""

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return process.alpha_sigma(t)[1]


@final
@dataclass(frozen=True)
class Level(Label):
    """round((t_max - t)(steps - 1)): the index of the noise level, from 0 for the highest to steps - 1.

    What discretely trained VE networks want: the levels are those at `steps` even times from t_max = 1 to 0.
    """

    steps: int = 1000

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return ((process.t_max - t) * (self.steps - 1)).round().clamp(0, self.steps - 1)


def told(
    network: nn.Module,
    process: Process,
    label: Label,
    scale: float | None,
    z: Tensor,
    t: Tensor,
    alpha: Tensor,
    sigma: Tensor,
) -> tuple[Tensor, Tensor]:
    """What a network is given of z_t: c_in z (B, ...) and the label (B,), in its own dtype.

    c_in = (alpha^2 scale^2 + sigma^2)^(-1/2) gives unit variance for data of deviation `scale`; None is c_in = 1.
    A network may name the dtype of its label, `label_dtype`: half precision would round an index of a schedule.
    """
    dtype = next((p.dtype for p in network.parameters()), z.dtype)
    kind = getattr(network, "label_dtype", dtype)
    c = label(process, t).expand(z.shape[0]).to(device=z.device, dtype=kind)
    c_in = torch.ones_like(alpha) if scale is None else ((alpha * scale) ** 2 + sigma**2) ** -0.5
    return (expand(c_in, z) * z).to(dtype), c


def check(denoise: Denoise, shape: Sequence[int], cond: Mapping[str, Any], wait: bool = True) -> None:
    """ValueError, in one line, for states of `shape` or conditions that the network cannot take, as far as it tells.

    A label that is out of range ends the process on a GPU: there it is found only if `wait`, for the device.
    """
    inner: Any = denoise
    while not hasattr(inner, "network") and hasattr(inner, "denoise"):  # guidance wraps
        inner = inner.denoise
    known, count = getattr(getattr(inner, "network", None), "arguments", {}), shape[0]
    if "in_channels" in known and (len(shape) != 4 or shape[1] != known["in_channels"]):
        raise ValueError(f"states of shape {tuple(shape)}: this network takes (B, {known['in_channels']}, H, W)")
    for name, size in getattr(getattr(inner, "network", None), "contexts", {}).items():
        value = cond.get(name)
        if not torch.is_tensor(value) or value.shape != (count, size):
            given = f"of shape {tuple(value.shape)}" if torch.is_tensor(value) else "missing"
            raise ValueError(f"{name} is {given}: this network needs a tensor of shape {(count, size)}")
    image, label, classes = cond.get("image"), cond.get("label"), known.get("classes", 0)
    if known.get("cond_channels") and torch.is_tensor(image):
        wanted = (count, known["cond_channels"], *shape[2:])
        if image.shape != wanted:
            raise ValueError(f"image of shape {tuple(image.shape)}: this network is to see {wanted}, as the states are")
    if label is None or not classes:
        return
    if not torch.is_tensor(label) or label.dtype not in (torch.int64, torch.int32) or label.shape != (count,):
        given = f"{label.dtype} {tuple(label.shape)}" if torch.is_tensor(label) else repr(label)
        raise ValueError(f"label {given}: need a tensor of {count} integers, one per sample, 0 to {classes - 1}")
    if count and (wait or label.device.type == "cpu"):
        low, high = (int(end) for end in label.aminmax())
        if not 0 <= low <= high <= classes:
            raise ValueError(f"label in [{low}, {high}]: need 0 to {classes - 1}, or {classes} for no class")


@final
class Denoiser(nn.Module):
    r"""A network with a meaning, z_0 = skip z_t + out F(c_in z_t, label(t), **cond).

    The boundary between physics (float64 scalars on the CPU, float32 state) and network (any precision).

    Arguments:
        network: module with `forward(z (B, C, H, W), c (B,), **cond) -> (B, C, H, W)`.
        process: the path that it was trained on.
        prediction: what its output means.
        scale: standard deviation of the data z_0; c_in = (alpha^2 scale^2 + sigma^2)^(-1/2) gives inputs of unit
            variance. None feeds raw states, as IR-SDE's networks want them.
        label: what the network is told of the time.
    """

    student: bool = False
    """Whether it was distilled to jump: its estimate then is of the end of a path, not of the mean of z_0."""
    taught: tuple[float, ...] = ()
    """The times, from noise to data, that a student was distilled at; empty for a model that is none."""
    edges: tuple[float, ...] = ()
    """Those of them at which segments end, to which it leaps before the data; empty for one that leaps to the data."""
    tasks: tuple[str, ...] = ()
    """Names of the degradations that a restorer's `label` counts; empty for one that judges by itself alone."""
    see: Callable[[Tensor], dict[str, Tensor]] | None = None
    """see(photograph (3, H, W)) -> the contexts that a restorer's network wants; None where it has no eyes."""

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        prediction: Prediction,
        *,
        scale: float | None = 1.0,
        label: Label | None = None,
    ) -> None:
        super().__init__()
        if scale is not None and not scale > 0:
            raise ValueError(f"Denoiser scale = {scale}: need the positive standard deviation of the data, or None")
        self.network = network
        self.process = process
        self.prediction = prediction
        self.scale = scale
        self.label = label or LogNoise()

    @property
    def noise_channels(self) -> int:
        """Of the noise that the network wants as an input; 0 for most. See `guidance.Randomised`."""
        return int(getattr(self.network, "noise_channels", 0))

    def forward(self, z: Tensor, t: Tensor, **cond: Any) -> Tensor:
        """z (B, ...), t float64 () or (B,) -> estimate of z_0, in the dtype of z."""
        check(self, z.shape, cond, wait=False)
        alpha, sigma = self.process.alpha_sigma(t)
        skip, out = self.prediction.affine(t, alpha, sigma)
        state, label = told(self.network, self.process, self.label, self.scale, z, t, alpha, sigma)
        given = {k: v.to(state.dtype) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in cond.items()}
        raw: Tensor = self.network(state, label, **given).to(z.dtype)
        return expand(skip, z) * z + expand(out, z) * raw


@final
class GaussianMixture(nn.Module):
    r"""The exact denoiser of z_0 ~ sum_k w_k N(m_k, diag v_k):

        E[z_0 | z_t] = sum_k r_k (m_k + alpha v_k / (alpha^2 v_k + sigma^2) (z_t - alpha m_k)),
        r_k proportional to w_k N(z_t; alpha m_k, alpha^2 v_k + sigma^2).

    Arguments:
        weights: (K,), positive; normalised here.
        means: (K, ...), the shape of one sample after the first axis.
        variances: (K,), or the shape of the means; >= 0.
        process: the path on which it denoises.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(self, weights: Tensor, means: Tensor, variances: Tensor, process: Process) -> None:
        super().__init__()
        if (
            means.ndim < 2
            or not (len(weights) == len(means) == len(variances))
            or (weights <= 0).any()
            or (variances < 0).any()
        ):
            raise ValueError(
                f"mixture of {len(weights)} weights, {len(means)} means, {len(variances)} variances: need equal "
                "numbers, means (K, ...) of at least one axis a sample, positive weights and variances >= 0"
            )
        shape = (len(variances),) + (1,) * (means.ndim - 1) if variances.ndim == 1 else means.shape
        self.register_buffer("weights", weights.double() / weights.double().sum())
        self.register_buffer("means", means.double())
        self.register_buffer("variances", variances.double().reshape(shape).expand_as(means))
        self.process = process

    def _components(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log(w_k N_k(z)) (K, B), z - alpha m_k (K, B, ...), the variance of z_t (K, 1 or B, ...), alpha."""
        z = z.double()
        alpha, sigma = (expand(c, z) for c in self.process.alpha_sigma(t))
        spread = alpha**2 * self.variances[:, None] + sigma**2
        offset = z - alpha * self.means[:, None]
        terms = -0.5 * (offset**2 / spread + spread.log() + math.log(2 * math.pi))
        return terms.flatten(2).sum(-1) + self.weights.log()[:, None], offset, spread, alpha

    def forward(self, z: Tensor, t: Tensor, **cond: Any) -> Tensor:
        """E[z_0 | z_t = z], shape and dtype of z; t () or (B,). Conditions are ignored."""
        log_weight, offset, spread, alpha = self._components(z, t)
        share = log_weight.softmax(0).reshape(*log_weight.shape, *[1] * (z.ndim - 1))
        mean = self.means[:, None] + alpha * self.variances[:, None] / spread * offset
        return (share * mean).sum(0).to(z.dtype)

    def log_prob(self, z: Tensor, t: Tensor) -> Tensor:
        """log p_t(z), (B,), float64, in nats."""
        return self._components(z, t)[0].logsumexp(0)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` exact samples of z_0, float64."""
        index = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        eps = torch.randn((count, *self.means.shape[1:]), generator=generator, dtype=torch.float64)
        return self.means[index] + self.variances[index].sqrt() * eps
