r"""The scheduler configuration of a diffusers model as a process, the meaning of its network's output, and its grid.

    betas -> Table of log alpha_t = 1/2 sum_{i <= t} log(1 - beta_i),    t = 0, 1, ..., T - 1: diffusers' own timesteps.

| diffusers | here |
|---|---|
| `beta_schedule`, `beta_start`, `beta_end`, `trained_betas` | `Table` |
| `rescale_betas_zero_snr` | its last value is -infinity: alpha = 0 |
| `prediction_type` epsilon, v_prediction, sample | `prediction.noise`, `velocity(1)`, `data` |
| `timestep_spacing`, `steps_offset`, `set_alpha_to_one`, `final_sigmas_type` | `grid` |
| sigmas of Euler, Heun, LMS, ... and `scale_model_input` | nothing: other coordinates of the same path |

Sources: Denoising Diffusion Probabilistic Models (Ho et al. 2020, arXiv 2006.11239); Improved DDPM (Nichol & Dhariwal
2021, arXiv 2102.09672), the cosine schedule; Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al.
2024, arXiv 2305.08891), zero terminal SNR and the names of the spacings.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import prediction, times
from ..process import Process, Table

__all__ = ["decreasing", "grid", "known", "prediction_of", "process_of", "settings", "stepping"]


def settings(scheduler: Any) -> dict[str, Any]:
    """The configuration of a scheduler object, or of the mapping itself; ValueError for something else."""
    found = getattr(scheduler, "config", scheduler)
    if not isinstance(found, Mapping):
        raise ValueError(f"scheduler {type(scheduler).__name__}: need a scheduler of diffusers, or its configuration")
    return dict(found)


def process_of(scheduler: Any) -> Table:
    """The process of a scheduler (an object or its configuration), in float64.

    Raises ValueError for one without betas (flow matching, EDM, VE), and for betas that are not in (0, 1).
    """
    table = settings(scheduler)
    if table.get("num_train_timesteps") is None or ("beta_start" not in table and table.get("trained_betas") is None):
        name = table.get("_class_name") or type(scheduler).__name__
        raise ValueError(f"scheduler {name}: it has no betas; a U-Net trained with DDPM's discrete schedule is needed")
    betas = _betas(table)
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise ValueError(f"betas from {betas.min():g} to {betas.max():g}: need numbers above 0 and below 1")
    log_alpha = 0.5 * torch.log1p(-betas).cumsum(0)
    if table.get("rescale_betas_zero_snr"):
        alpha = log_alpha.exp()
        log_alpha = ((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])).log()
    return Table(tuple(log_alpha.tolist()))


def prediction_of(scheduler: Any) -> prediction.Prediction:
    """What the network's output means; ValueError for an unknown type, and for noise where alpha = 0."""
    table = settings(scheduler)
    kind = table.get("prediction_type") or "epsilon"
    known = {"epsilon": prediction.noise, "v_prediction": prediction.velocity(1.0), "sample": prediction.data}
    if kind not in known:
        raise ValueError(f"prediction_type {kind!r}: choose one of {', '.join(known)}")
    if kind == "epsilon" and table.get("rescale_betas_zero_snr"):
        raise ValueError("prediction_type 'epsilon' with rescale_betas_zero_snr: pure noise says nothing of the image; "
                         "need v_prediction or sample")  # fmt: skip
    return known[kind]


def grid(scheduler: Any, process: Process, steps: int) -> Tensor:
    """The timesteps that this scheduler of diffusers visits in `steps`, float64 (steps + 1,), and where it ends.

    Solvers of the DPM family leave the last index out. Karras and other spacings of sigmas: see `undrift.times`.
    """
    table = settings(scheduler)
    name = table.get("_class_name") or type(scheduler).__name__
    multistep = any(word in name for word in ("DPMSolver", "DEIS", "UniPC", "SASolver"))
    final = table.get("final_sigmas_type", "zero") == "zero" if multistep else table.get("set_alpha_to_one", True)
    return times.discrete(
        process,
        steps,
        table.get("timestep_spacing") or "leading",
        offset=table.get("steps_offset") or 0,
        spare=multistep,
        clean=bool(final),
    )


def known(timesteps: Any, count: int) -> Tensor:
    """Timesteps in float64 on the CPU; ValueError outside the `count` of a training."""
    t = torch.as_tensor(timesteps, dtype=torch.float64).cpu()
    if not bool(((t >= 0) & (t < count)).all()):
        raise ValueError(f"timesteps from {float(t.min()):g} to {float(t.max()):g}: need 0 to {count - 1}")
    return t


def decreasing(timesteps: Any, count: int, name: str = "timesteps") -> Tensor:
    """(N,), as `known`; ValueError, by that name, for none and for those that do not lead from noise to data."""
    t = torch.as_tensor(timesteps, dtype=torch.float64).cpu()
    if t.ndim != 1 or not len(t) or not bool((t.diff() < 0).all() and (t >= 0).all() and (t < count).all()):
        raise ValueError(f"{name} {t.tolist()}: need decreasing numbers from {count - 1} to 0")
    return t


def stepping(visited: Tensor, index: int, timestep: Any) -> int:
    """`index`, where step `index` of a run through the timesteps `visited` is the one at `timestep`; else ValueError.

    A multistep solver that skips or repeats one would err without a word. Half precision may round the timestep.
    """
    if index >= len(visited):
        raise ValueError(f"step {index + 1} of {len(visited)}: the run is over; call set_timesteps for another")
    value = float(torch.as_tensor(timestep, dtype=torch.float64))
    if int((visited - value).abs().argmin()) != index or not -1 < value <= float(visited[0]) + 1:
        raise ValueError(f"timestep {value:g}: step {index + 1} of {len(visited)} is the one at "
                         f"{float(visited[index]):g}; call set_timesteps to begin again")  # fmt: skip
    return index


def _betas(table: Mapping[str, Any]) -> Tensor:
    count, given = int(table["num_train_timesteps"]), table.get("trained_betas")
    if given is not None:
        if len(given) < 2:
            raise ValueError(f"trained_betas of {len(given)} numbers: need 2 or more, one per timestep")
        return torch.as_tensor(given, dtype=torch.float64)
    if count < 2:
        raise ValueError(f"num_train_timesteps = {count}: need 2 or more")
    low, high = float(table["beta_start"]), float(table["beta_end"])
    kind = table.get("beta_schedule", "linear")
    if kind == "linear":
        return torch.linspace(low, high, count, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(low**0.5, high**0.5, count, dtype=torch.float64) ** 2
    if kind == "sigmoid":
        return torch.sigmoid(torch.linspace(-6, 6, count, dtype=torch.float64)) * (high - low) + low
    if kind == "squaredcos_cap_v2":
        ends = torch.arange(count + 1, dtype=torch.float64) / count
        level = torch.cos((ends + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - level[1:] / level[:-1]).clamp(max=0.999)
    raise ValueError(f"beta_schedule {kind!r}: choose linear, scaled_linear, sigmoid or squaredcos_cap_v2")
