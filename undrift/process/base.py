r"""The affine Gaussian path that every process here is:

    z_t = alpha_t z_0 + sigma_t eps,    lambda_t = log(alpha_t / sigma_t) decreasing in t.

A process is one method, `alpha_sigma`. Drift, diffusion, the inverse of lambda, the marginal and the bridge
follow from it and are written once, below.
"""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from ..tensor import expand
from .stochasticity import Stochasticity, noise_exponent

__all__ = ["Process"]


class Process(ABC):
    r"""An affine Gaussian path on t in [t_min, t_max]; t_min is the data end, t_max the noise end.

    Subclasses are frozen dataclasses that give `alpha_sigma`. Times are float64 tensors of any shape, most
    often `()` or `(B,)`. Between `t_clean` and `t_min` the path may be evaluated, but is not trained on.
    """

    t_min: float
    t_max: float

    @property
    def t_clean(self) -> float:
        """The time of the data themselves, where sigma = 0; `t_min` for a path that never gets there."""
        return self.t_min

    @abstractmethod
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """t, float64, shape (*) -> alpha_t and sigma_t, float64, shape (*)."""

    @final
    def half_log_snr(self, t: Tensor) -> Tensor:
        """lambda_t = log(alpha_t / sigma_t), shape of t; infinite where alpha or sigma is 0."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha.log() - sigma.log()

    @final
    def time(self, lam: Tensor) -> Tensor:
        """The t in [t_min, t_max] with half_log_snr(t) = lam, by bisection to float64 precision; shape of lam.

        Outside the range of lambda the nearer end is returned.
        """
        lam = torch.as_tensor(lam, dtype=torch.float64)
        low = torch.full_like(lam, self.t_min)
        high = torch.full_like(lam, self.t_max)
        for _ in range(100):
            middle = (low + high) / 2
            if bool(((middle == low) | (middle == high)).all()):
                break  # neighbouring floats
            noisier = self.half_log_snr(middle) < lam
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        # 100 halvings leave two neighbouring floats; an end point is itself the answer when lam lies on it.
        beyond = self.half_log_snr(torch.full_like(lam, self.t_min)) <= lam
        return torch.where(beyond, self.t_min, high)

    @final
    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""f_t and g_t^2 of dz = f_t z dt + g_t dw, shape of t.

        f = d log alpha / dt,  g^2 = -2 sigma^2 d lambda / dt = d sigma^2 / dt - 2 f sigma^2,
        by automatic differentiation (Score SDE, Song et al. 2021, arXiv 2011.13456, eq. 29).
        """
        # Backwards, and in any mode of the caller: five times faster than torch.func.jvp, whose first call also
        # imports sympy for a second.
        with torch.inference_mode(False), torch.enable_grad():
            u = torch.as_tensor(t, dtype=torch.float64).clone().requires_grad_()
            alpha, sigma = self.alpha_sigma(u)
            d_alpha, d_sigma = _derivative(alpha, u), _derivative(sigma, u)
        alpha, sigma = alpha.detach(), sigma.detach()
        f = d_alpha / alpha
        return f, 2 * sigma * (d_sigma - f * sigma)

    @final
    def marginal(self, z0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """z_t = alpha_t z_0 + sigma_t eps for z0 and eps (B, ...), t () or (B,)."""
        alpha, sigma = self.alpha_sigma(t)
        return expand(alpha, z0) * z0 + expand(sigma, z0) * eps

    @final
    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""a and G^2 of the law of z_t given z_s, t noisier than s: N(a z_s, G^2), a = alpha_t / alpha_s,

            G^2 = sigma_t^2 - a^2 sigma_s^2.

        Shape of s and t; 1 and 0 at t = s.
        """
        (alpha_s, sigma_s), (alpha_t, sigma_t) = self.alpha_sigma(s), self.alpha_sigma(t)
        a = torch.where(t == s, 1.0, alpha_t / alpha_s)  # also where alpha is 0
        return a, (sigma_t**2 - (a * sigma_s) ** 2).clamp(min=0.0)  # at t = s rounding may be below

    @final
    def renoise(self, z: Tensor, s: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """A draw of z_t given z_s for t noisier than s, a z_s + G eps with a, G of `transition`.

        The marginal, where s is the data's time; z itself at t = s. Shapes: z, eps (B, ...); s, t () or (B,).
        """
        a, variance = self.transition(s, t)
        return expand(a, z) * z + expand(variance.sqrt(), z) * eps

    @final
    def bridge(
        self,
        z: Tensor,
        z0: Tensor,
        t: Tensor,
        s: Tensor,
        tau: Stochasticity = 0.0,
        eps: Tensor | None = None,
    ) -> Tensor:
        r"""A draw of z_s given z_t and z_0, for s cleaner than t, h = lambda_s - lambda_t:

            z_s = (sigma_s/sigma_t) e^{-tau^2 h} z_t + alpha_s (1 - e^{-(1+tau^2) h}) z_0
                  + sigma_s sqrt(1 - e^{-2 tau^2 h}) eps.

        tau = 0 is DDIM (Song et al. 2021, arXiv 2010.02502) and the consistency map; tau = 1 the DDPM posterior
        (Ho et al. 2020, arXiv 2006.11239), Song's ancestral step for VE, and IR-SDE's posterior step.
        Shapes: z, z0, eps (B, ...); t, s () or (B,). `eps` is needed unless tau = 0.
        """
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.alpha_sigma(t), self.alpha_sigma(s)
        lam_t, lam_s = alpha_t.log() - sigma_t.log(), alpha_s.log() - sigma_s.log()
        still = lam_t == lam_s  # s = t gives z itself, also where lambda is infinite
        exponent = torch.where(still, 0.0, noise_exponent(tau, lam_t, lam_s))
        carry = torch.where(still, 1.0, sigma_s / sigma_t * torch.exp(-exponent))
        pull = torch.where(still, 0.0, -alpha_s * torch.expm1(-(lam_s - lam_t + exponent)))
        out = expand(carry, z) * z + expand(pull, z) * z0
        if not exponent.any():
            return out
        if eps is None:
            raise ValueError(f"bridge with tau = {tau} is random: give eps, a standard normal of z's shape")
        return out + expand(sigma_s * torch.sqrt(-torch.expm1(-2 * exponent)), z) * eps


def _derivative(c: Tensor, t: Tensor) -> Tensor:
    """dc/dt for c a function of t element by element, shape of t; a constant needs no t."""
    return torch.autograd.grad(c.sum(), t, retain_graph=True)[0] if c.requires_grad else torch.zeros_like(t)
