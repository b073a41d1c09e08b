"""undrift likelihood IN...: log p of images, in nats and in bits per dimension, under a generator."""

import argparse
from collections.abc import Sequence
from typing import Any

from .arguments import add_machine, whole

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IN", help="8-bit images of the model's size, folders of them, "
                        "or an .npz with x_test")  # fmt: skip
    parser.add_argument("--model", metavar="NAME", default="fashion", help="a bundled model or a folder (fashion)")
    parser.add_argument("--label", metavar="CLASS", help="tell the model the class, by name or number")
    parser.add_argument("--probes", metavar="K", type=whole(0), default=4, help="of the divergence; 0 is exact (4)")
    parser.add_argument("--kind", metavar="NAME", default="rademacher", help="of probes: rademacher or gaussian")
    parser.add_argument("--draws", metavar="K", type=whole(1), default=1, help="dequantisations of each image (1)")
    parser.add_argument("--tolerance", metavar="TOL", type=float, default=1e-4, help="of the integration (1e-4)")
    parser.add_argument("--limit", metavar="N", type=whole(1), default=100, help="at most so many images (100)")
    parser.add_argument("--batch", metavar="N", type=whole(1), default=25, help="images at once (25)")
    parser.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of probes and dequantisation (0)")
    add_machine(parser)
    parser.epilog = "Smaller is likelier. The probe error is that of the random divergence, +- the spread of the mean."


def run(
    *,
    inputs: Sequence[str],
    model: str,
    label: str | None,
    probes: int,
    kind: str,
    draws: int,
    tolerance: float,
    limit: int,
    batch: int,
    seed: int,
    device: str,
    threads: int,
) -> int:
    import torch
    from tqdm import tqdm

    from ..likelihood import image_likelihood
    from ..noise import PerSample
    from ..registry import check_keys
    from ..solvers import DormandPrince
    from .generator import open_generator
    from .images import grey_levels
    from .integration import FORMAT, watch

    check_keys([kind], ("rademacher", "gaussian"), "kind of probes")
    generator = open_generator(model, device, threads)
    names, images = grey_levels(generator, inputs, limit)
    solver = DormandPrince(rtol=tolerance, atol=tolerance)
    bits, errors, calls = [], [], []
    print(f"{'image':<40} {'nats':>12} {'bits/dim':>10} {'probe error':>12} {'evaluations':>12}")
    with tqdm(total=len(images), unit="image", disable=None, bar_format=FORMAT) as bar:
        watch(bar, generator.denoiser, draws)
        for first in range(0, len(images), batch):
            x = images[first : first + batch]
            given: dict[str, Any] = {} if label is None else {"label": generator.labels(len(x), label)}
            found = image_likelihood(
                generator.denoiser, generator.process, generator.space, x, draws=draws, probes=probes or None,
                kind=kind, solver=solver, noise=PerSample(range(seed + first, seed + first + len(x))),
                **given,
            )  # fmt: skip
            assert found.bits_per_dim is not None  # image_likelihood always says
            scale = x[0].numel() * torch.log(torch.tensor(2.0))
            bits.append(found.bits_per_dim)
            errors.append(found.standard_error / scale)
            calls.append(found.evaluations)
            for i, name in enumerate(names[first : first + batch]):
                error = f"{errors[-1][i]:.4f}" if probes != 1 else "-"
                bar.write(
                    f"{name[-40:]:<40} {found.nats[i]:>12.2f} {bits[-1][i]:>10.4f} {error:>12} {calls[-1][i]:>12}"
                )
    every = torch.cat(bits)
    spread = f" +- {every.std() / len(every) ** 0.5:.4f}" if len(every) > 1 else ""
    print(
        f"mean of {len(every)}: {every.mean():.4f}{spread} bits/dim, {torch.cat(calls).double().mean():.0f} evaluations"
    )
    return 0
