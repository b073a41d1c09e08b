r"""A Brownian path that is refined while it is used, so that a step may be refused without changing the law.

Known are the two ends of an interval of the clock; a point between the place `now` and the nearest known point is drawn
from the bridge, W_m ~ N(W_now + q (W_next - W_now), q (1 - q) (c_next - c_now)), and is known from then on.
"""

import hashlib
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from ..tensor import expand

__all__ = ["BrownianBridge"]


@final
class BrownianBridge:
    """W of b samples at times x that increase, each sample with its own; W = 0 at x = `now`, eps sqrt(c) at x = `end`.

    Arguments:
        eps: standard normals (b, ...), the increments over the whole interval. They also seed the generators of
            everything in between, so that sample i depends on eps_i alone.
        now, end: float64, (b,).
        clock: the variance c(x) of the path, increasing.
    """

    def __init__(self, eps: Tensor, now: Tensor, end: Tensor, clock: Callable[[Tensor], Tensor]) -> None:
        self.clock = clock
        self.generators = [_generator(draw) for draw in eps]
        self.now, self.here = now, torch.zeros_like(eps)
        # A stack of known points for each sample, the nearest on top.
        self.x = end[:, None]
        self.w = (expand((clock(end) - clock(now)).sqrt(), eps) * eps)[:, None]
        self.top = torch.zeros(len(eps), dtype=torch.long)

    def propose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A place no further than x (b,), nor than the nearest known one, and W there minus W now, (b, ...)."""
        near, w_near = self._nearest()
        fresh = x < near
        c_now, c_x, c_near = (self.clock(place) for place in (self.now, x, near))
        q = torch.where(fresh, (c_x - c_now) / (c_near - c_now), 1.0)
        std = (q * (1 - q) * (c_near - c_now)).sqrt()
        xi = torch.stack([torch.randn(self.here.shape[1:], generator=g) for g in self.generators]).to(self.here)
        w = self.here + expand(q, xi) * (w_near - self.here) + expand(std, xi) * xi
        self._push(fresh, torch.where(fresh, x, near), w)
        place, value = self._nearest()
        return place, value - self.here

    def accept(self, moved: Tensor) -> None:
        """Go to the nearest known place, where `moved` (b,)."""
        near, w_near = self._nearest()
        self.now = torch.where(moved, near, self.now)
        self.here = torch.where(expand(moved, w_near).bool(), w_near, self.here)
        self.top = self.top - moved.long()

    def keep(self, rows: Tensor) -> None:
        """Drop all samples but `rows`."""
        there = rows.to(self.w.device)
        self.now, self.x, self.top = self.now[rows], self.x[rows], self.top[rows]
        self.here, self.w = self.here[there], self.w[there]
        self.generators = [self.generators[i] for i in rows.tolist()]

    def _nearest(self) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(self.top))
        return self.x[rows, self.top], self.w[rows.to(self.w.device), self.top.to(self.w.device)]

    def _push(self, fresh: Tensor, x: Tensor, w: Tensor) -> None:
        self.top = self.top + fresh.long()
        if int(self.top.max()) == self.x.shape[1]:
            self.x, self.w = torch.cat([self.x, x[:, None]], 1), torch.cat([self.w, w[:, None]], 1)
        rows = fresh.nonzero()[:, 0]
        there = rows.to(w.device)
        self.x[rows, self.top[rows]] = x[rows]
        self.w[there, self.top[rows].to(w.device)] = w[there]


def _generator(draw: Tensor) -> torch.Generator:
    digest = hashlib.blake2b(draw.detach().cpu().float().numpy().tobytes(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
