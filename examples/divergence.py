"""bits/dim of the same images by the three estimators of the divergence: exact, Rademacher probes, Gaussian probes.

All share their dequantisation noise, so that they differ by their probes alone, up to the error of integration.
Printed: the mean of bits/dim with its standard error over images; the standard error that the probes claim for that
mean; the difference to the exact mean, and in units of what the probes claim, which should lie within +-2 or so; the
same for each image (its root mean square should be near 1); evaluations of the network per image; processor time.

Exact takes as many vector-Jacobian products per evaluation as there are pixels: for the bundled model and 784 pixels
about four and a half minutes per image on one core. Images are cut from the front of the test set.

    python examples/divergence.py fashion_mnist.npz [--images 2] [--probes 32] [--rtol 1e-2] [--atol 1e-1]
"""

import argparse
import math
import time

import torch

from undrift import DormandPrince, PerSample, load
from undrift.data.labelled import read_labelled
from undrift.likelihood import Likelihood, image_likelihood


def bits(found: Likelihood) -> tuple[torch.Tensor, torch.Tensor]:
    """bits/dim of each image (N,), and the standard errors that the probes claim."""
    assert found.bits_per_dim is not None  # image_likelihood always says
    return found.bits_per_dim, found.standard_error / (found.latent[0].numel() * math.log(2))


def row(name: str, found: Likelihood, exact: Likelihood, seconds: float) -> str:
    (value, error), (truth, _) = bits(found), bits(exact)
    count = len(value)
    spread = float(value.std()) / count**0.5 if count > 1 else math.nan
    claimed = float(error.square().sum().sqrt()) / count
    line = f"{name:<12}{float(value.mean()):>9.4f} +- {spread:<8.4f}{claimed:>12.4f}"
    evaluations = float(found.evaluations.double().mean())
    if found is exact:
        return f"{line}{'-':>12}{'-':>11}{'-':>10}{evaluations:>13.0f}{seconds:>10.1f} s"
    change = value - truth
    mean = float(change.mean())
    units = float((change / error).square().mean().sqrt())
    return f"{line}{mean:>+12.4f}{mean / claimed:>+11.2f}{units:>10.2f}{evaluations:>13.0f}{seconds:>10.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="an .npz with x_test, or a folder of class folders")
    parser.add_argument("--model", default="fashion", help="a bundled model or a folder (fashion)")
    parser.add_argument("--images", type=int, default=2, help="how many (2)")
    parser.add_argument("--probes", type=int, default=32, help="per image, at least 2 for an error (32)")
    parser.add_argument("--rtol", type=float, default=1e-2, help="of the integration (1e-2)")
    parser.add_argument("--atol", type=float, default=1e-1, help="of the integration, in nats for log p (1e-1)")
    parser.add_argument("--seed", type=int, default=0, help="of dequantisation and probes (0)")
    parser.add_argument("--threads", type=int, default=1, help="(1)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    denoiser, space = load(given.model)
    denoiser.to(memory_format=torch.channels_last)
    images = read_labelled(given.data, "test").images[: given.images].float() / 255
    solver = DormandPrince(given.rtol, given.atol)

    def measured(probes: int | None, kind: str) -> tuple[Likelihood, float]:
        # PerSample draws the dequantisation first, then the probes: the first is the same for all.
        noise = PerSample(range(given.seed, given.seed + len(images)))
        began = time.process_time()
        found = image_likelihood(
            denoiser, denoiser.process, space, images, probes=probes, kind=kind, noise=noise, solver=solver
        )
        return found, time.process_time() - began

    print(f"{len(images)} images of {images[0].numel()} pixels, {given.probes} probes, rtol {given.rtol}, "
          f"atol {given.atol}")  # fmt: skip
    print(f"{'divergence':<12}{'bits/dim +- images':>21}{'probe error':>12}{'minus exact':>12}{'in errors':>11}"
          f"{'by image':>10}{'evaluations':>13}{'processor':>12}", flush=True)  # fmt: skip
    exact, seconds = measured(None, "rademacher")
    print(row("exact", exact, exact, seconds), flush=True)
    for kind in ("rademacher", "gaussian"):
        found, seconds = measured(given.probes, kind)
        print(row(kind, found, exact, seconds), flush=True)


if __name__ == "__main__":
    main()
