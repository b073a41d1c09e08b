"""What sampling costs beside diffusers' own pipelines: the same network object, equal evaluations, in one run.

A UNet2DModel with random weights, 3 x 32 x 32 images, float32, no gradients. diffusers' DDIMPipeline, and DDPMPipeline
with a DPMSolverMultistepScheduler, take turns with `undrift.sample`, Exponential(1) and Exponential(2), from the same
noise on the same times to an array of images. Every call makes its own grid and coefficients; hooks count evaluations
and the processor time within them. DDIM and Exponential(1) must agree in what the network sees last, relative to its
root mean square. Order 2 uses exact weights where DPM-Solver++ approximates them, so only its cost is compared.
Printed are medians; ratios are taken within a turn, so that a disturbance of minutes hits both alike.

    python benchmarks/sampling.py [--steps 10] [--batch 2] [--width 32] [--repeats 15]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DPMSolverMultistepScheduler, UNet2DModel
from torch import Tensor, nn

from undrift import Denoiser, Exponential, Pixels, Replay, Solver, Table, prediction, sample, times
from undrift.denoiser import Time

TRAINED = 1000
SIZE = 32


class Sample(nn.Module):
    """A diffusers network as F(z, c)."""

    def __init__(self, network: UNet2DModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.network(z, c).sample


class Watch:
    """Counts the calls of a network and their processor seconds, and keeps what it was given last."""

    def __init__(self, network: nn.Module) -> None:
        self.reset()
        network.register_forward_pre_hook(self.called)
        network.register_forward_hook(self.returned)

    def reset(self) -> None:
        self.calls, self.seconds, self.seen = 0, 0.0, torch.empty(0)

    def called(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.calls, self.seen = self.calls + 1, given[0]
        self.seconds -= time.process_time()

    def returned(self, *_: object) -> None:
        self.seconds += time.process_time()


class Cost(NamedTuple):
    """Seconds of one call of a sampler; `loop` is the processor time outside the network."""

    wall: float
    processor: float
    loop: float


def cost(run: Callable[[], object], watch: Watch) -> Cost:
    watch.reset()
    wall, processor = time.perf_counter(), time.process_time()
    run()
    spent = time.process_time() - processor
    return Cost(time.perf_counter() - wall, spent, spent - watch.seconds)


def unet(width: int) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        SIZE,
        block_out_channels=(width, 2 * width, 2 * width),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    ).eval()


def theirs(network: UNet2DModel, order: int, steps: int, batch: int) -> Callable[[], object]:
    if order == 1:
        scheduler = DDIMScheduler(TRAINED, clip_sample=False, timestep_spacing="trailing")
        pipeline = DDIMPipeline(network, scheduler)
    else:
        pipeline = DDPMPipeline(network, DPMSolverMultistepScheduler(TRAINED, timestep_spacing="trailing"))
    pipeline.set_progress_bar_config(disable=True)

    def run() -> object:
        noise = torch.Generator().manual_seed(1)
        return pipeline(batch, generator=noise, num_inference_steps=steps, output_type="np").images

    return run


def ours(network: UNet2DModel, order: int, steps: int, batch: int) -> Callable[[], object]:
    alphas = DDIMScheduler(TRAINED).alphas_cumprod.double()
    process = Table(tuple((alphas.log() / 2).tolist()))
    denoiser = Denoiser(Sample(network), process, prediction.noise, scale=None, label=Time())
    solver: Solver = Exponential(order)

    def run() -> object:
        start = torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        grid = times.trailing(process, steps)
        images = sample(
            denoiser, process, Pixels(), shape=start.shape, times=grid, solver=solver, noise=Replay([]), start=start
        )
        return images.permute(0, 2, 3, 1).numpy()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("steps", 10), ("batch", 2), ("width", 32), ("repeats", 15), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"(default {value})")
    given = parser.parse_args()
    if TRAINED % given.steps:
        parser.error(f"--steps {given.steps}: need a divisor of {TRAINED}, where DDIM's times are equally far apart")
    torch.set_num_threads(given.threads)
    network = unet(given.width)
    watch = Watch(network)
    size = (given.steps, given.batch)
    pairs = [("diffusers DDIM", "undrift Exponential(1)"), ("diffusers DPM-Solver++", "undrift Exponential(2)")]
    subjects = {}
    for order, (reference, mine) in enumerate(pairs, 1):
        subjects |= {reference: theirs(network, order, *size), mine: ours(network, order, *size)}
    costs: dict[str, list[Cost]] = {name: [] for name in subjects}
    last: dict[str, Tensor] = {}
    for turn in range(given.repeats + 1):
        for name in list(subjects)[:: -1 if turn % 2 else 1]:  # there and back: neither is always the first
            costs[name].append(cost(subjects[name], watch))
            assert watch.calls == given.steps, f"{name}: {watch.calls} evaluations in {given.steps} steps"
            last[name] = watch.seen
    a, b = (last[name] for name in pairs[0])
    difference = float((a - b).abs().max() / a.square().mean().sqrt())
    assert difference < 1e-3, f"DDIM and Exponential(1) differ by {difference:.1e}: this is not the same work"
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters:,} parameters, batch {given.batch}, {given.steps} evaluations each, {given.repeats} repeats")
    print(f"{'milliseconds per evaluation':28s}{'wall':>10s}{'processor':>12s}{'outside the network':>22s}")
    for pair in pairs:
        for name in pair:
            columns = zip(*costs[name][1:], strict=True)  # the first turn warms up
            wall, processor, loop = (1e3 * statistics.median(column) / given.steps for column in columns)
            print(f"{name:28s}{wall:10.3f}{processor:12.3f}{loop:22.3f}")
        both = list(zip(*(costs[name][1:] for name in pair), strict=True))
        ratios = [statistics.median(mine[i] / base[i] for base, mine in both) for i in range(3)]
        print(f"{'undrift / diffusers':28s}{ratios[0]:10.3f}{ratios[1]:12.3f}{ratios[2]:22.3f}")
    print(f"order 1: the last network inputs differ by {difference:.1e} of their root mean square at most")


if __name__ == "__main__":
    main()
