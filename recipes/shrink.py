r"""Store a model as its difference from another in as few bytes as it survives: how the bundled students are so small.

    python recipes/shrink.py runs/universal-student/model -o universal-student --base universal --rank 2 --bits 4
    python recipes/shrink.py runs/fashion-student-critic/model -o fashion-student --base fashion --step 0.35

With --rank, the leading singular vectors of each matrix (as `undrift convert --base --rank`), and what else has two or
more dimensions, rounded to so many bits after the leading one. With --step, the whole difference, W - W_base =
diag(h) Q, with whole numbers Q in int8 and, per row, h of `step` standard deviations: for differences of high rank.
Such files are small once git or a wheel packs them.
"""

import argparse
import math
import sys
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import undrift
from undrift.training.checkpoint import WEIGHTS, find, read_card, save
from undrift.training.difference import LEFT, RIGHT
from undrift.training.files import replacing


def rounded(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Floating-point numbers of so many bits after the leading one."""
    mantissa, exponent = torch.frexp(values.float())
    return torch.ldexp((mantissa * 2 ** (bits + 1)).round() / 2 ** (bits + 1), exponent).half()


def stepped(difference: torch.Tensor, step: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, m) -> diag(h) (n, n) in float16 and Q (n, m) in int8, whose product is near it."""
    height = (step * difference.std(1)).clamp(min=difference.abs().amax(1) / 127).clamp(min=1e-7).half()
    return torch.diag(height), (difference / height.float()[:, None]).round().clamp(-127, 127).to(torch.int8)


def shrink(model: str, out: str, base: str, rank: int, bits: int, step: float) -> str:
    """Writes OUT and says how large it became."""
    if find(model).resolve() in (Path(out).resolve(), find(base).resolve()):
        raise ValueError(f"{model}: it would be its own base, or written over: name another --base or --out")
    denoiser, space = undrift.load(model)
    save(out, denoiser, space, read_card(model)["training"], torch.float16, base=base, rank=rank or 1)
    file = Path(out) / WEIGHTS
    kept = load_file(file)
    if step > 0:
        own, theirs = denoiser.network.state_dict(), undrift.load(base)[0].network.state_dict()
        for name in [key.removesuffix(LEFT) for key in kept if key.endswith(LEFT)]:
            difference = (own[name] - theirs[name]).float().flatten(1)
            kept[name + LEFT], kept[name + RIGHT] = stepped(difference, step)
    else:
        kept = {name: rounded(value, bits) if value.ndim > 1 else value for name, value in kept.items()}
    with replacing(file) as part:
        save_file(kept, part)
    return f"{out}: {file.stat().st_size:,} bytes, {len(zlib.compress(file.read_bytes(), 9)):,} compressed"


def main() -> None:
    parser = argparse.ArgumentParser(description="Store a model as its difference from another in few bytes.")
    parser.add_argument("model")
    parser.add_argument("-o", "--out", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--bits", type=int, default=10, help="after the leading one (10, float16's own)")
    parser.add_argument("--step", type=float, default=0.0, help="standard deviations of a row")
    given = parser.parse_args()
    if min(given.rank, given.step) < 0 or (given.rank > 0) == (0 < given.step < math.inf):
        parser.error(f"--rank {given.rank}, --step {given.step}: give one of the two, above 0")
    if not 0 <= given.bits <= 10:
        parser.error(f"--bits {given.bits}: need 0 to 10")
    try:
        print(shrink(given.model, given.out, given.base, given.rank, given.bits, given.step))
    except (OSError, ValueError) as error:
        sys.exit(f"shrink.py: {error}")


if __name__ == "__main__":
    main()
