"""What a student is asked for, beside what its teacher does: jumps of a coarse grid by few sub-steps, against many.

    python benchmarks/targets.py [TEACHER] [--nodes 3] [--count 300]

From pure noise the teacher goes to each node by 16 sub-steps a jump, even in lambda; from there once more by those, and
by the few of each setting; and on to the data by the many. Of the images that result: the variance over the samples of
a class, of means of 4 x 4 pixels ("coarse") and of what they leave ("details"), by that of the many; and the squared
error relative to it. A student of the setting learns these errors as if they were the teacher's.
"""

import argparse
from functools import partial

import torch
from torch.nn.functional import avg_pool2d, interpolate

import undrift
from undrift.generation import in_lambda
from undrift.methods import Scott
from undrift.noise import Gaussian
from undrift.sample import trajectory
from undrift.solvers import Exponential
from undrift.training.checkpoint import read_card

MANY = ("lambda", 16)
FEW = [("time", 4), ("time", 8), ("lambda", 4), ("lambda", 8)]


def parts(images, labels):
    """Coarse and details, (N, ...) each, without the mean of their class."""
    coarse = interpolate(avg_pool2d(images, 4), scale_factor=4)
    for part in (coarse, images - coarse):
        yield torch.cat([part[labels == k] - part[labels == k].mean(0) for k in labels.unique()])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", nargs="?", default="fashion")
    parser.add_argument("--nodes", type=int, default=3, help="of the grid (3)")
    parser.add_argument("--count", type=int, default=300, help="images (300)")
    given = parser.parse_args()
    facts = read_card(given.teacher)["training"]
    classes = len(facts.get("classes", ()))
    if not classes or given.count < 2 * classes or given.nodes < 2:
        parser.error("need a generator of classes, at least two images of each, and two nodes")
    teacher, space = undrift.load(given.teacher)
    process, labels = teacher.process, torch.arange(given.count) % classes
    random = torch.Generator().manual_seed(0)
    grid = in_lambda(process, given.nodes)

    @torch.no_grad()
    def leap(z, node, between, substeps):
        """From a node to the next."""
        path = Scott(teacher, teacher, process, space, grid, Exponential(2), 1, substeps, between)
        times = path.jumps(torch.tensor([node]))[0][:, 0]
        denoise = partial(teacher, label=labels)
        *_, end = trajectory(denoise, process, z, times, path.solver, Gaussian(random))
        return end

    def image(z, node):
        for later in range(node, given.nodes):
            z = leap(z, later, *MANY)
        return space.decode(z, None)

    print("| jump from lambda | to | sub-steps | coarse | details | error, coarse | error, details |")
    print("|---:|---:|---|---:|---:|---:|---:|")
    z = torch.randn(given.count, *facts["shape"], generator=random)
    lam = process.half_log_snr(grid).tolist()
    for node in range(given.nodes - 1):
        after = leap(z, node, *MANY)
        wanted = list(parts(image(after, node + 1), labels))
        for between, substeps in FEW:
            found = list(parts(image(leap(z, node, between, substeps), node + 1), labels))
            strength = [float(ours.var() / theirs.var()) for ours, theirs in zip(found, wanted, strict=True)]
            error = [float((a - b).square().mean() / b.var()) for a, b in zip(found, wanted, strict=True)]
            cells = [f"{value:.3f}" for value in (*strength, *error)]
            print(f"| {lam[node]:.1f} | {lam[node + 1]:.1f} | {substeps}, even in {between} | {' | '.join(cells)} |")
        z = after


if __name__ == "__main__":
    main()
