"""Small files of every released layout, with random weights: what the official training loops would have saved."""

import torch

from undrift.networks.clip_image import ControlledCLIP
from undrift.networks.irsde_unet import IRSDEUNet
from undrift.networks.latent_unet import LatentUNet
from undrift.networks.nafnet import NAFNet

NETWORKS = {
    "ir-sde": lambda: IRSDEUNet(8, (2, 4)),
    "denoising": lambda: IRSDEUNet(8, (2, 4), cond_channels=0, middle="softmax"),
    "da-clip": lambda: IRSDEUNet(
        32, (1, 1, 1, 1), middle="transformer", transformers=(3,), context=16, degradation=True
    ),
    "wild-ir": lambda: IRSDEUNet(32, (1, 1), middle="transformer", transformers=(1,), context=16, halved=True),
    "refusion": lambda: NAFNet(8, (1, 2), (1, 1)),
    "latent": lambda: NAFNet(8, (1, 1), (1, 1), in_channels=4, cond_channels=4),
    "codes": lambda: LatentUNet(4, (1, 2, 4), latent=4),
    "clip": lambda: ControlledCLIP(width=64, layers=2, heads=1, inner=96, patch=16, side=64, embedding=16),
}


def state(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Named tensors as in the official files, their values random, with outputs of the order of one."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    for key, value in network.state_dict().items():
        if value.ndim < 2 or key.endswith((".beta", ".gamma", ".g")):
            value.uniform_(0.5, 1.5) if key.endswith((".g", "norm.weight")) else value.normal_(std=0.1)
    tensors = {key: value.clone() for key, value in network.state_dict().items()}
    if name == "clip":  # the file has CLIP's own tower twice, and a tower for text
        clip = {f"clip.{key}": value for key, value in tensors.items() if key.startswith("visual.")}
        tensors |= clip | {"clip.token_embedding.weight": torch.zeros(4, 4), "logit_scale": torch.zeros(())}
    return tensors
