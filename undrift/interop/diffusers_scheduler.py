r"""Our solvers as schedulers of diffusers: drop them into any pipeline of a DDPM-trained U-Net.

    pipeline.scheduler = ExponentialScheduler.from_config(pipeline.scheduler.config)     # 10 steps instead of 25
    pipeline.scheduler = ConsistencyScheduler.from_config(pipeline.scheduler.config)     # students of 1 to 4 steps

A step is the `Multistep` solver's own: coefficients of the whole grid in float64, the state in float32. The corrector
uses the evaluation that the next `step` brings, so that it costs none. It moves the sample that it is handed: what a
pipeline or a callback has changed between two steps (inpainting does) stays changed.

diffusers finds a saved scheduler's class by its module, which must have the names of its base classes in it.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
from diffusers.utils.outputs import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from .. import times as grids
from ..solvers import Consistency, Exponential, Solver
from ..tensor import expand
from .diffusers_process import decreasing, known, prediction_of, process_of, stepping

__all__ = ["ConsistencyScheduler", "ExponentialScheduler", "Stepped"]

Spacing = Literal["lambda", "karras", "leading", "trailing", "linspace"]
Generators = torch.Generator | list[torch.Generator] | None


@dataclass
class Stepped(BaseOutput):
    """What a step gives: the next sample, and the estimate of the clean one, (B, C, h, w) each."""

    prev_sample: Tensor
    pred_original_sample: Tensor


class _Scheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]  # two names of one file, by diffusers
    """The contract of diffusers, around a `Solver`. Settings are read from `config`, which a pipeline may replace."""

    order = 1
    """Evaluations per timestep, of which a pipeline counts its warm-up steps."""
    init_noise_sigma = 1.0
    _compatibles = [*(known.name for known in KarrasDiffusionSchedulers), "LCMScheduler"]  # noqa: RUF012

    @abstractmethod
    def solver(self) -> Solver: ...

    @abstractmethod
    def grid(self, steps: int) -> Tensor:
        """Timesteps from noise to data, float64 (steps + 1,)."""

    def _set_up(self) -> None:
        self.process, self.prediction = process_of(self.config), prediction_of(self.config)
        log_alpha = torch.tensor(self.process.values, dtype=torch.float64)
        self.alphas_cumprod = (2 * log_alpha).exp().float()
        self.timesteps = torch.arange(len(log_alpha) - 1, -1, -1)
        self.num_inference_steps: int | None = None
        self._begin_index: int | None = None
        self._times = torch.zeros(0, dtype=torch.float64)
        self._restart()
        if not self.settings.clip_sample_range > 0:
            raise ValueError(f"clip_sample_range = {self.settings.clip_sample_range}: need a positive number")
        self.solver(), self.grid(1)  # their checks, now

    def _restart(self) -> None:
        self._step_index: int | None = None
        self._planned: Solver | None = None
        self._state: tuple[Any, ...] = ()
        self._returned: Tensor | None = None

    @property
    def settings(self) -> Any:
        """`config`, whose entries are attributes too."""
        return self.config

    @property
    def step_index(self) -> int | None:
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """The index of the first step to come, which image-to-image pipelines choose."""
        self._begin_index = begin_index

    def __len__(self) -> int:
        return len(self.process.values)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[float] | Tensor | None = None,
    ) -> None:
        """The grid of a run: of so many steps, or through the timesteps given, decreasing.

        Raises ValueError for both, neither, and timesteps that do not decrease or lie outside the schedule.
        """
        if (num_inference_steps is None) == (timesteps is None):
            raise ValueError("set_timesteps: give num_inference_steps or timesteps, one of them")
        if timesteps is None:
            self._times = self.grid(num_inference_steps)  # type: ignore[arg-type]  # one of them is given
        else:
            given = decreasing(timesteps, len(self))
            self._times = torch.cat([given, torch.tensor([self.process.t_clean], dtype=torch.float64)])
        visited = self._times[:-1]
        whole = bool((visited == visited.round()).all())
        self.timesteps = visited.to(torch.int64 if whole else torch.float32).to(device)
        self.num_inference_steps = len(self.timesteps)
        self._begin_index = None
        self._restart()

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The sample itself: a variance-preserving path needs no scaling."""
        return sample

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
        **ignored: Any,
    ) -> Stepped | tuple[Tensor, Tensor]:
        """From `sample` at `timestep` to the next one, both (B, C, h, w), given the network's output there.

        Arguments:
            generator: of the noise, one or one per sample; `variance_noise` gives the draw itself.
        """
        if self.num_inference_steps is None:
            raise ValueError("step before set_timesteps: say how many steps there will be")
        if self._step_index is None:
            self._begin(timestep)
        index = stepping(self._times[:-1], int(self._step_index or 0), timestep)
        if model_output.shape[2:] != sample.shape[2:] or len(model_output) != len(sample):
            raise ValueError(f"model_output {tuple(model_output.shape)}: need one value each of {tuple(sample.shape)}")
        t, s = self._times[index], self._times[index + 1]
        z = sample.float()
        z0 = self._estimate(model_output.float(), t, z)

        def noise(like: Tensor, t: Tensor, s: Tensor) -> Tensor:
            if variance_noise is not None:
                return variance_noise.to(like)
            drawn: Tensor = randn_tensor(like.shape, generator=generator, device=like.device, dtype=like.dtype)
            return drawn

        assert self._planned is not None
        done, past, kept = self._state
        if kept is not None and self._returned is not None:  # what was changed in between stays changed
            kept = kept + (z - self._returned.to(z))
        z, self._state = self._planned.step(lambda z, t: z0, self.process, z, t, s, (done, past, kept), noise)
        out = z.to(sample.dtype)
        self._returned, self._step_index = out, index + 1
        return Stepped(out, z0.to(sample.dtype)) if return_dict else (out, z0.to(sample.dtype))

    def _estimate(self, raw: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """z_0 of the network's output; a variance behind it is left out, as diffusers' own deterministic steps do."""
        alpha, sigma = self.process.alpha_sigma(t)
        skip, out = self.prediction.affine(t, alpha, sigma)
        z0 = expand(skip, z) * z + expand(out, z) * raw[:, : z.shape[1]]
        limit = self.settings.clip_sample_range
        return z0.clamp(-limit, limit) if self.settings.clip_sample else z0

    def _begin(self, timestep: float | Tensor) -> None:
        """Plans the steps from the first one that is asked for: a multistep solver begins with order 1 there."""
        first = self._begin_index
        if first is None:
            value = torch.as_tensor(timestep, dtype=torch.float64).cpu()
            first = int((self._times[:-1] - value).abs().argmin())
        self._step_index = stepping(self._times[:-1], first, timestep)
        self._planned = self.solver().plan(self.process, self._times[first:])
        self._state = self._planned.init()

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """alpha_t z_0 + sigma_t eps, for timesteps (B,) or ()."""
        return self.process.marginal(original_samples, known(timesteps, len(self)), noise)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """alpha_t eps - sigma_t z_0, the target of v_prediction, for timesteps (B,) or ()."""
        alpha, sigma = self.process.alpha_sigma(known(timesteps, len(self)))
        return expand(alpha, sample) * noise - expand(sigma, sample) * sample

    def _spaced(self, steps: int, spacing: str, end: float | None) -> Tensor:
        if spacing in ("lambda", "karras"):
            rule = grids.uniform_lambda if spacing == "lambda" else grids.karras
            return rule(self.process, steps, end=end)
        if spacing in ("leading", "trailing", "linspace"):
            offset = self.settings.steps_offset
            return grids.discrete(self.process, steps, spacing, offset=offset)  # type: ignore[arg-type]
        raise ValueError(f"spacing {spacing!r}: choose 'lambda', 'karras', 'leading', 'trailing' or 'linspace'")


class ExponentialScheduler(_Scheduler):
    r"""`undrift.Exponential` as a scheduler: one evaluation per step, order up to 4 with the corrector.

    Arguments:
        num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, rescale_betas_zero_snr,
            prediction_type: of the training, as for every scheduler of diffusers.
        solver_order, tau, corrector, weights, extrapolate: `order`, `tau`, ... of `Exponential`; tau = 0 is the ODE, 1
            the SDE.
        spacing: of the timesteps: `"lambda"` or `"karras"` in log(alpha/sigma), off the integers; or as
            `undrift.times.discrete`.
        end: half log-SNR of the last network input, for lambda and karras; None for the first index of the training.
        steps_offset: of `"leading"`.
        clip_sample, clip_sample_range: clip the estimate of the clean sample, for networks in pixels.

    Raises ValueError, in one line, for settings outside these.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: list[float] | None = None,
        prediction_type: str = "epsilon",
        rescale_betas_zero_snr: bool = False,
        solver_order: int = 2,
        tau: float = 0.0,
        corrector: bool = True,
        weights: Literal["exact", "published", "midpoint"] = "exact",
        extrapolate: Literal["data", "noise"] = "data",
        spacing: Spacing = "lambda",
        end: float | None = None,
        steps_offset: int = 1,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
    ) -> None:
        self._set_up()

    def solver(self) -> Solver:
        c = self.settings
        return Exponential(c.solver_order, c.tau, c.extrapolate, c.corrector, c.weights)

    def grid(self, steps: int) -> Tensor:
        return self._spaced(steps, self.settings.spacing, self.settings.end)


class ConsistencyScheduler(_Scheduler):
    """`undrift.Consistency` as a scheduler: for students of consistency distillation, latent consistency models too.

    Arguments:
        fresh: share of each state's noise that is new, 1 (consistency sampling) to 0 (DDIM).
        spacing: as in `ExponentialScheduler`; used where there are no `trained_timesteps`.
        trained_timesteps: the timesteps that a student was distilled on, from noise to data: N steps take N of them,
            evenly. For a latent consistency model 999, 979, ..., 19.

    The rest as in `ExponentialScheduler`.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: list[float] | None = None,
        prediction_type: str = "epsilon",
        rescale_betas_zero_snr: bool = False,
        fresh: float = 1.0,
        spacing: Spacing = "trailing",
        trained_timesteps: list[float] | None = None,
        steps_offset: int = 1,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
    ) -> None:
        if trained_timesteps is not None:
            decreasing(trained_timesteps, num_train_timesteps, "trained_timesteps")
        self._set_up()

    def solver(self) -> Solver:
        return Consistency(self.settings.fresh)

    def grid(self, steps: int) -> Tensor:
        nodes = self.settings.trained_timesteps
        if nodes is None:
            return self._spaced(steps, self.settings.spacing, None)
        if not 1 <= steps <= len(nodes):
            raise ValueError(f"{steps} steps of a student of {len(nodes)} timesteps: need 1 to {len(nodes)}")
        taken = [float(nodes[k * len(nodes) // steps]) for k in range(steps)]
        return torch.tensor([*taken, self.process.t_clean], dtype=torch.float64)
