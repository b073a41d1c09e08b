"""Where randomness enters a solver: a `Noise` gives a standard normal for the step t -> s.

`noise(like, t, s)` returns a tensor of the shape, dtype and device of `like`, drawn on the CPU so that every
device sees the same numbers. Prior draws use s = t. Sources differ only in what a draw depends on:

| source | draw depends on |
|---|---|
| `Gaussian(generator)` | the generator |
| `PerSample(seeds)` | the seed of the sample and the number of draws before: never on batch size, mates or devices |
| `Brownian(seeds, t_min, t_max)` | the seed of the sample and (t, s): one path, whatever the number of steps |
| `Replay(tensors)` | the recording |
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from .draws import keyed, normal

__all__ = ["Brownian", "Gaussian", "Noise", "PerSample", "Replay"]


class Noise(Protocol):
    """A standard normal of the shape of `like` `(B, ...)` for the step from time `t` to time `s`."""

    def __call__(self, like: Tensor, t: Tensor, s: Tensor) -> Tensor: ...


@final
class Gaussian:
    """Independent draws from one generator (a fresh, unseeded one if none is given)."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator or torch.Generator()
        if generator is None:
            self.generator.seed()

    def __call__(self, like: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return normal(tuple(like.shape), self.generator, like.dtype).to(like.device)


@final
class PerSample:
    """Sample i draws from a generator of its own, seeded by `seeds[i]`.

    The image of seed 7 is therefore the same alone, in a batch of 64, or on the third of eight devices.
    """

    def __init__(self, seeds: Iterable[int]) -> None:
        self.seeds = tuple(int(seed) for seed in seeds)
        self.generators = tuple(_seeded(seed) for seed in self.seeds)

    def __call__(self, like: Tensor, t: Tensor, s: Tensor) -> Tensor:
        _one_each(self.seeds, like)
        # float32 draws for every dtype: a float64 run then sees the numbers of the float32 run.
        draws = [torch.randn(like.shape[1:], generator=g) for g in self.generators]
        return torch.stack(draws).to(like)


@final
class Brownian:
    r"""Normalised increments of one Brownian path per seed: eps = (W_c(s) - W_c(t)) / sqrt|c(s) - c(t)|.

    `clock` c maps times to the variance of the path; the identity if none is given. With
    c(t) = exp(2 tau^2 lambda_t) the increments compose as the injected noise of the exponential
    integrator does, so that 10 and 1000 steps follow the same noise exactly.

    The path is a binary tree over [t_min, t_max] whose nodes are drawn, when needed, from (seed, node):
    no state, any order of queries. Between the leaves, (t_max - t_min) 2^-depth apart, W is linear.
    """

    def __init__(
        self,
        seeds: Iterable[int],
        t_min: float,
        t_max: float,
        clock: Callable[[Tensor], Tensor] | None = None,
        depth: int = 22,
    ) -> None:
        if not t_min < t_max:
            raise ValueError(f"Brownian path on [{t_min}, {t_max}]: t_min must lie below t_max")
        self.seeds = tuple(int(seed) for seed in seeds)
        self.t_min, self.t_max, self.depth = float(t_min), float(t_max), depth
        self.clock = clock or (lambda t: t)

    def __call__(self, like: Tensor, t: Tensor, s: Tensor) -> Tensor:
        _one_each(self.seeds, like)
        if float(t) == float(s):  # the prior: a draw of its own, keyed by node 0
            return self._nodes(0, like).to(like)
        span = abs(self._clock(float(s)) - self._clock(float(t)))
        # Where the clock stands still the path does too: 0 / tiny, and the solver's coefficient is 0 as well.
        return ((self._path(s, like) - self._path(t, like)) / math.sqrt(max(span, sys.float_info.min))).to(like)

    def _path(self, t: Tensor, like: Tensor) -> Tensor:
        """W at time t, (B, ...), float64: down the tree, between the known ends of each interval."""
        time = min(max(float(t), self.t_min), self.t_max)
        a, b = self.t_min, self.t_max
        c_a, c_b = self._clock(a), self._clock(b)
        w_b = self._nodes(1, like) * math.sqrt(abs(c_b - c_a))
        w_a = torch.zeros_like(w_b)
        node = 2
        for _ in range(self.depth):
            m = (a + b) / 2
            c_m = self._clock(m)
            weight = (c_m - c_a) / (c_b - c_a) if c_a != c_b else 0.5
            spread = math.sqrt(max(weight * (c_b - c_m) * math.copysign(1.0, c_b - c_a), 0.0))
            w_m = torch.lerp(w_a, w_b, weight) + spread * self._nodes(node, like)
            if time == m:
                return w_m
            if time < m:
                b, c_b, w_b, node = m, c_m, w_m, 2 * node
            else:
                a, c_a, w_a, node = m, c_m, w_m, 2 * node + 1
        return torch.lerp(w_a, w_b, (self._clock(time) - c_a) / (c_b - c_a) if c_a != c_b else 0.5)

    def _clock(self, t: float) -> float:
        time = min(max(t, self.t_min), self.t_max)
        return float(self.clock(torch.tensor(time, dtype=torch.float64)))

    def _nodes(self, node: int, like: Tensor) -> Tensor:
        """The standard normals of one node, (B, ...), float64."""
        return torch.stack(
            [torch.randn(like.shape[1:], generator=keyed(seed, node), dtype=torch.float64) for seed in self.seeds]
        )


@final
class Replay:
    """Recorded draws in the order of the calls, one tensor `(B, ...)` each; ValueError when they run out."""

    def __init__(self, tensors: Sequence[Tensor] | Tensor) -> None:
        self.count = len(tensors)
        self.draws: Iterator[Tensor] = iter(tensors)

    def __call__(self, like: Tensor, t: Tensor, s: Tensor) -> Tensor:
        draw = next(self.draws, None)
        if draw is None or draw.shape != like.shape:
            found = "no draw left" if draw is None else f"a draw of shape {tuple(draw.shape)}"
            raise ValueError(
                f"Replay of {self.count} draws: {found} where shape {tuple(like.shape)} is needed: "
                "record one draw per stochastic step"
            )
        return draw.to(like)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _one_each(seeds: tuple[int, ...], like: Tensor) -> None:
    if len(seeds) != like.shape[0]:
        raise ValueError(f"{len(seeds)} seeds for a batch of {like.shape[0]}: give one seed per sample")
