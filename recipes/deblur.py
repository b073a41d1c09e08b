"""Teaches a `Deblur` to see motion in a photograph's cepstrum, and puts it into a restorer.

    python recipes/deblur.py universal-base runs/attached data/flowers_128 data/unsplash20  # some of 208 px or more
    undrift train recipes/universal.toml network.deblur=384 training.start_from=runs/attached

Sharp crops are blurred by `MotionBlur`, noised a little and rounded to 8 bits; one in five is left sharp, most of these
with another degradation. The loss is |K_hat - K|^2 over the frequencies, of the kernel or of its mirror image.
"""

import argparse
import math
import time
from fnmatch import fnmatch
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

import undrift
from undrift.cli.folder import own
from undrift.data import find_images
from undrift.data.batches import load
from undrift.degradations import TASKS, MotionBlur
from undrift.networks import UNet
from undrift.networks.deblur import RADIUS, Deblur, cepstrum, embedded, luma
from undrift.training.checkpoint import read_card

BATCH, SHARP, OTHERS = 24, 5, 4
SIZES = (96, 112, 104, 112, 96, 112, 104, 192)


def kernels(count, generator):
    law, margins = MotionBlur(length=(3.0, 12.0)), []
    for _ in range(count):
        kernel = law.draw((3, 64, 64), generator).kernel
        margins.append(F.pad(kernel, (RADIUS - kernel.shape[-1] // 2,) * 4))  # negative: cut
    found = torch.stack(margins)
    return found / found.sum((1, 2), keepdim=True)


def crop(image, size, generator):
    """A square of `size` pixels, as it is or of a larger one made smaller, turned."""
    sides = image.shape[1:]
    scale = 1 + 1.8 * torch.rand((), generator=generator).item() * (torch.rand((), generator=generator) < 0.5).item()
    side = min(math.ceil(size * scale), *sides)
    top, left = (int(torch.randint(n - side + 1, (), generator=generator)) for n in sides)
    square = image[None, :, top : top + side, left : left + side].float() / 255
    if side != size:
        square = F.interpolate(square, (size, size), mode="bilinear", antialias=True, align_corners=False)
    turned = torch.rot90(square[0], int(torch.randint(4, (), generator=generator)), (1, 2))
    return turned.flip(2) if torch.rand((), generator=generator) < 0.5 else turned


def examples(images, bank, size, generator):
    """Grey photographs (B, size, size) and their kernels, the first few of them points."""
    kernel = bank[torch.randint(len(bank), (BATCH,), generator=generator)].clone()
    kernel[:SHARP] = 0
    kernel[:SHARP, RADIUS, RADIUS] = 1
    wide = size + 2 * RADIUS
    fitting = [image for image in images if min(image.shape[1:]) >= wide]
    if not fitting:
        raise SystemExit(
            f"no photograph of {wide} pixels a side or more among these {len(images)}: give larger ones too"
        )
    chosen = torch.randint(len(fitting), (BATCH,), generator=generator)
    x = torch.stack([crop(fitting[i], wide, generator) for i in chosen])
    blurred = torch.fft.rfft2(x) * torch.fft.rfft2(embedded(kernel, wide, wide))[:, None]
    y = torch.fft.irfft2(blurred, s=(wide, wide))[..., RADIUS:-RADIUS, RADIUS:-RADIUS].clamp(0, 1)
    noise = 10 ** (-3.3 + 1.3 * torch.rand(BATCH, 1, 1, 1, generator=generator))
    y = y + noise * torch.randn(y.shape, generator=generator)
    others = [law for law in TASKS.values() if not isinstance(law, MotionBlur)]
    for i in range(OTHERS):
        law = others[int(torch.randint(len(others), (), generator=generator))]
        y[i] = law(y[i].clamp(0, 1), generator)
    return luma((y.clamp(0, 1) * 255).round() / 255), kernel


def distance(a, b):
    return torch.fft.rfft2(a - b, s=(32, 32)).abs().square().mean((1, 2))


def nearest(estimate, kernel):
    return torch.minimum(distance(estimate, kernel), distance(estimate, kernel.flip(1, 2))).mean()


def train(net, images, minutes, generator):
    bank = kernels(20000, generator)
    seen = torch.cat([cepstrum(examples(images, bank, 112, generator)[0][SHARP:]) for _ in range(40)])
    net.mean.copy_(seen.mean(0))
    net.deviation.copy_(seen.std(0) + 1e-4)
    names = [name for name, _ in net.named_buffers() if name.startswith(("weight", "bias"))]
    learnt = [net.get_buffer(name).requires_grad_() for name in names]
    average = [value.detach().clone() for value in learnt]
    optimizer = torch.optim.AdamW(learnt, weight_decay=1e-3)
    began, step = time.monotonic(), 0
    with tqdm(total=100, unit="%", desc="deblur", disable=None) as bar:
        while (done := (time.monotonic() - began) / 60 / minutes) < 1:
            optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 100) * (1 - done)
            grey, kernel = examples(images, bank, SIZES[step % len(SIZES)], generator)
            estimate = net.kernel(grey)
            loss = nearest(estimate, kernel)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learnt, 1.0)
            optimizer.step()
            step += 1
            for kept, value in zip(average, learnt, strict=True):
                kept.lerp_(value.detach(), 1 - min(0.998, step / (step + 10)))
            bar.update(100 * done - bar.n)
            bar.set_postfix(loss=f"{loss.item():.3f}", steps=step)
    for value, kept in zip(learnt, average, strict=True):
        value.requires_grad_(False).copy_(kept)
    return {"steps": step, "minutes": minutes}


def attached(denoiser, net, width):
    """Gives the restorer its `Deblur`, which it sees but does not heed yet."""
    network = UNet(**denoiser.network.arguments | {"deblur": width})
    state = network.state_dict()
    for name, value in denoiser.network.state_dict().items():
        if name.startswith("deblur."):  # an earlier one's
            continue
        if state[name].shape == value.shape:
            state[name] = value
        else:  # of twice as many inputs
            state[name].zero_()[:, : value.shape[1]] = value
    network.load_state_dict(state | {f"deblur.{name}": value for name, value in net.state_dict().items()})
    denoiser.network = network


def main():
    parser = argparse.ArgumentParser(description="Teaches a Deblur, and puts it into a restorer.")
    parser.add_argument("model", help="the restorer: a folder or a bundled name")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("photographs", nargs="+", help="folders of sharp photographs")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--width", type=int, default=384, help="of its hidden layers (384)")
    parser.add_argument("--exclude", nargs="*", default=[], help="photographs not to look at, as data.exclude")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not given.minutes > 0:
        parser.error(f"--minutes {given.minutes:g}: need more than 0")
    try:
        denoiser, space = undrift.load(given.model)
        card = read_card(given.model)["training"]
        own(Path(given.out))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not isinstance(denoiser.network, UNet):
        parser.error(f"{given.model}: its network is no UNet, and only that has a second view")
    files = [file for root in given.photographs for file in find_images(root)]
    wanted = [file for file in files if not any(fnmatch(file.name, pattern) for pattern in given.exclude)]
    images = [torch.from_numpy(image).permute(2, 0, 1) for image in load(wanted)]
    torch.manual_seed(given.seed)
    net = Deblur(given.width)
    facts = train(net, images, given.minutes, torch.Generator().manual_seed(given.seed))
    attached(denoiser, net, given.width)
    undrift.save(given.out, denoiser, space, card | {"deblur": facts}, torch.float16)
    print(f"{given.out}: {given.model} with a Deblur of {facts['steps']} steps")


if __name__ == "__main__":
    main()
