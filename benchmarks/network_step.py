"""What a training step costs: DDPM++ and NCSN++ beside diffusers' UNet2DModel of equal width, blocks and attention.

One step is forward, backward and Adam on noise, in channels-last memory and on one thread. Processor time is counted
and subjects take turns, so that other programs disturb little and all alike; what is printed is the median and its
ratio to the faster precision of diffusers.

    python benchmarks/network_step.py [--width 64] [--blocks 2] [--size 32] [--batch 8] [--repeats 7]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import UNet2DModel
from torch import nn

from undrift.networks.ncsnpp import NCSNpp, ddpmpp

MULTIPLIERS = (1, 2, 2, 2)


def theirs(width: int, blocks: int, size: int) -> nn.Module:
    """Attention at the second level and in the middle, resolution changed within residual blocks, as in DDPM++."""
    down = ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"]
    up = ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]
    return UNet2DModel(
        size,
        block_out_channels=tuple(width * m for m in MULTIPLIERS),
        layers_per_block=blocks,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=None,
        norm_eps=1e-6,
    )


def step(network: nn.Module, half: bool, z: torch.Tensor, c: torch.Tensor) -> Callable[[], None]:
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, foreach=True)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = network(z, c)
        out = out if torch.is_tensor(out) else out.sample
        (out.float() - z).square().mean().backward()
        optimizer.step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("width", 64), ("blocks", 2), ("size", 32), ("batch", 8), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"(default {value})")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"width": given.width, "blocks": given.blocks}
    networks = {
        "diffusers UNet2DModel": lambda: theirs(given.width, given.blocks, given.size),
        "undrift DDPM++": lambda: ddpmpp(multipliers=MULTIPLIERS, **sizes),
        "undrift NCSN++": lambda: NCSNpp(multipliers=MULTIPLIERS, **sizes),
    }
    z = torch.randn(given.batch, 3, given.size, given.size).contiguous(memory_format=torch.channels_last)
    c = torch.rand(given.batch) * 999 + 1
    subjects = {}
    for name, build in networks.items():
        network = build()
        print(f"{name}: {sum(p.numel() for p in network.parameters()):,} parameters")
        for half in (False, True):
            subjects[f"{name}, {'bfloat16' if half else 'float32'}"] = step(network, half, z, c)
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(given.repeats + 1):
        for name, run in subjects.items():
            began = time.process_time()
            run()
            seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    reference = min(value for name, value in medians.items() if name.startswith("diffusers"))
    for name, value in medians.items():
        print(f"{name:33s} {value * 1e3:9.1f} ms per step   {value / reference:6.3f} of diffusers")


if __name__ == "__main__":
    main()
