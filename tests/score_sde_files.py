"""Official Score SDE checkpoints that never were: names, shapes and order by the official rule, and random numbers.

The rule is written out again here, from the configuration and not from our network, so that each checks the other.
"""

import torch
from torch import Tensor


def modules(a: dict) -> list[tuple[str, int, int]]:
    """(kind, channels in, channels out) of `all_modules`, for arguments of `NCSNpp`."""
    widths, last = [a["width"] * m for m in a["multipliers"]], len(a["multipliers"]) - 1
    biggan, channels, found = a["block"] == "biggan", a["in_channels"], []
    if a["embedding"] == "fourier":
        found.append(("fourier", 0, a["width"]))
    if a["conditional"]:
        told = 2 * a["width"] if a["embedding"] == "fourier" else a["width"]
        found += [("linear", told, 4 * a["width"]), ("linear", 4 * a["width"], 4 * a["width"])]
    found.append(("conv", channels, a["width"]))
    now, image, kept = a["width"], channels, [a["width"]]
    for level, width in enumerate(widths):
        for _ in range(a["blocks"]):
            found.append(("block", now, width))
            now = width
            found += [("attention", now, now)] if level in a["attention"] else []
            kept.append(now)
        if level < last:
            found.append(("moved", now, now) if biggan else ("strided", now, now))
            if a["pyramid_in"] == "skip":
                found.append(("combine", channels, now))
                now *= 2 if a["combine"] == "cat" else 1
            elif a["pyramid_in"] == "residual":
                found.append(("resampled", image, now))
                image = now
            kept.append(now)
    found += [("block", now, now), ("attention", now, now), ("block", now, now)]
    pyramid = 0
    for level in range(last, -1, -1):
        for _ in range(a["blocks"] + 1):
            found.append(("block", now + kept.pop(), widths[level]))
            now = widths[level]
        found += [("attention", now, now)] if level in a["attention"] else []
        if a["pyramid_out"] == "skip":
            found += [("norm", now, now), ("conv", now, channels)]
        elif a["pyramid_out"] == "residual":
            found += [("resampled", pyramid, now)] if pyramid else [("norm", now, now), ("conv", now, now)]
            pyramid = now
        if level:
            found.append(("moved", now, now) if biggan else ("strided", now, now))
    assert not kept
    return found if a["pyramid_out"] == "skip" else [*found, ("norm", now, now), ("conv", now, channels)]


def tensors(a: dict) -> dict[str, tuple[int, ...]]:
    """Official name -> shape, in the official order, without sigmas."""
    found = {}
    for number, (kind, inputs, outputs) in enumerate(modules(a)):

        def put(name, *shape, prefix=f"all_modules.{number}."):
            found[prefix + name] = shape

        def layer(name, *shape, put=put):
            put(f"{name}weight", *shape)
            put(f"{name}bias", shape[0])

        def nin(name, inputs, outputs, put=put):
            put(f"{name}.W", inputs, outputs)
            put(f"{name}.b", outputs)

        if kind == "fourier":
            put("W", outputs)
        elif kind == "linear":
            layer("", outputs, inputs)
        elif kind == "conv":
            layer("", outputs, inputs, 3, 3)
        elif kind == "norm":
            layer("", outputs)
        elif kind == "attention":
            layer("GroupNorm_0.", outputs)
            for i in range(4):
                nin(f"NIN_{i}", inputs, outputs)
        elif kind == "combine":
            layer("Conv_0.", outputs, inputs, 1, 1)
        elif kind == "resampled" or (kind == "strided" and a["learnt_resample"]):
            layer("Conv2d_0." if a["taps"] else "Conv_0.", outputs, inputs, 3, 3)
        elif kind in ("block", "moved"):
            layer("GroupNorm_0.", inputs)
            layer("Conv_0.", outputs, inputs, 3, 3)
            layer("Dense_0.", outputs, 4 * a["width"])
            layer("GroupNorm_1.", outputs)
            layer("Conv_1.", outputs, outputs, 3, 3)
            if a["block"] == "ddpm" and inputs != outputs:
                nin("NIN_0", inputs, outputs)
            elif inputs != outputs or kind == "moved":
                layer("Conv_2.", outputs, inputs, 1, 1)
    return found


def sigmas(a: dict) -> Tensor:
    low, high, count = (torch.tensor(number, dtype=torch.float64) for number in a["sigmas"])
    return torch.linspace(high.log(), low.log(), int(count), dtype=torch.float64).exp()


def checkpoint(a: dict, prefix: str = "module.") -> dict:
    """A file's dict: `model` and the averages each have random numbers of their own."""
    shapes = tensors(a)
    generator = torch.Generator().manual_seed(1)
    model = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    frequencies = "all_modules.0.W" if a["embedding"] == "fourier" else ""
    trained = [shape for name, shape in shapes.items() if name != frequencies]
    shadow = [0.1 * torch.randn(shape, generator=generator) for shape in trained]
    return {
        "optimizer": {"state": {}, "param_groups": [{"lr": 2e-4, "params": [0, 1]}]},
        "model": {f"{prefix}{name}": value for name, value in ({"sigmas": sigmas(a)} | model).items()},
        "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": shadow},
        "step": 7,
    }
