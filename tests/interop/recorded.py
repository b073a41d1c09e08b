"""The processes and networks of the recorded IR-SDE and MR Sampler cases, as their JSON describes them."""

import torch
from torch import Tensor, nn

from undrift import MeanReverting
from undrift.interop import irsde_process
from undrift.process.table import interpolate


def official(options: dict, variant: str) -> MeanReverting:
    """The process of `sde_args`."""
    steps = options.get("sample_T") or options["T"]
    return irsde_process(options["max_sigma"], steps, options["schedule"], options["eps"], variant != "mr")


_RUN = ("states", "timesteps", "x")  # noises are stored in float32 in every case


def tolerance(tensors: dict) -> float:
    """The relative error to stay below: 1e-9, or 1e-3 for the official code as it is, in float32."""
    return 1e-3 if any(tensor.dtype == torch.float32 for name, tensor in tensors.items() if name in _RUN) else 1e-9


class Recorded(nn.Module):
    """F(z, c, image) in z = x - image; `outputs` keeps what the official network returned, `times` what it was told."""

    def __init__(self, tensors: dict, network: dict, target: str = "noise"):
        super().__init__()
        self.tensors, self.kind, self.target = tensors, network["kind"], target
        self.steps, self.sinf = network.get("T"), network.get("sinf")
        self.outputs: list[Tensor] = []
        self.times: list[float] = []

    def forward(self, z: Tensor, c: Tensor, image: Tensor | None = None) -> Tensor:
        image = torch.zeros_like(z) if image is None else image
        x = z + image
        if self.kind == "gmm":
            out = self.mixture(x, c, image)
        else:
            out = torch.tanh(0.7 * x + 0.3 * image) * torch.cos(c / self.steps).reshape(-1, 1, 1, 1)
        self.outputs.append(out)
        self.times.append(float(c[0]))
        return out - image if self.target == "data" else out  # the official one gives the image

    def mixture(self, x: Tensor, c: Tensor, mu: Tensor) -> Tensor:
        """The exact noise, image or velocity for a mixture of Gaussians (w, nu, var)."""
        a, s = (interpolate(self.tensors[f"net/{name}_table"], c).reshape(-1, 1, 1, 1) for name in ("alpha", "sigma"))
        nu, var, w = (self.tensors[f"net/{name}"] for name in ("nu", "var", "w"))
        spread = a[:, None] ** 2 * var + s[:, None] ** 2
        offset = (x - (1 - a) * mu)[:, None] - a[:, None] * nu
        share = (w.log() - 0.5 * (offset**2 / spread + spread.log()).flatten(2).sum(-1)).softmax(1)[
            ..., None, None, None
        ]
        noise = s * (share * offset / spread).sum(1)
        data = (share * (nu + a[:, None] * var / spread * offset)).sum(1)
        velocity = -(s / self.sinf) * (data - mu) + a * self.sinf * noise
        return {"noise": noise, "data": data, "velocity": velocity}[self.target]
