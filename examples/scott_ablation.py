r"""SCott's ablation in the plane: the noise of the teacher's solver x the weight of the critic x evaluations.

The data are nine Gaussians of different weights, the schedule is Stable Diffusion's, and the teacher is the exact
denoiser with a fixed smooth error of 0.15 in its noise estimate, as a network has one. Students are perceptrons that
start as the teacher, trained by `Scott` and `fit` for all weights and seeds at once, and sample in 1, 2 and 4
evaluations. Coverage (5 neighbours) and density, and the sliced Wasserstein distance of order 2 (128 directions),
against fresh data; the noise floors are what fresh data themselves get. Every finished cell is a JSON file within
FOLDER: a run that was cut off goes on with what is missing. FOLDER/ablation.md and ablation.svg are written after every
part.

    python examples/scott_ablation.py [FOLDER] [--quick] [--steps 4000] [--batch 128]
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Generator, Tensor, nn

from undrift import Denoiser, Exponential, Gaussian, GaussianMixture, Pixels, prediction, trajectory
from undrift import process as paths
from undrift.data import Batch
from undrift.methods import Adversarial, Contest, Energy, Hinge, LeastSquares, Method, Scott, leak
from undrift.metrics import expected_coverage, prdc
from undrift.process import DDIM, ERSDE5
from undrift.report import Panel, Table, curves
from undrift.solvers import Consistency, Solver
from undrift.training.average import Average, Power
from undrift.training.fit import fit

SOLVERS: dict[str, tuple[Solver, int]] = {
    "ODE": (Exponential(1), 1),  # one sub-step: latent consistency distillation
    "DDIM 0.2": (Exponential(1, tau=DDIM(0.2)), 3),
    "ER-SDE-5": (Exponential(2, tau=ERSDE5()), 3),
}
WEIGHTS = (0.0, 0.02, 0.1, 0.4)
SEEDS = 3
EVALUATIONS = {1: (999,), 2: (999, 499), 4: (999, 749, 499, 249)}

LOG_ABAR = torch.log1p(-(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)).cumsum(0)
PROCESS = paths.Table(tuple((LOG_ABAR / 2).tolist()))
GRID = torch.cat([torch.arange(999, -1, -1, dtype=torch.float64), torch.tensor([-torch.inf], dtype=torch.float64)])
SPACE = Pixels(centred=False)


@dataclass(frozen=True)
class Size:
    """How much work: training steps, rows per student and step, samples of a measurement, width of the perceptrons."""

    steps: int = 4000
    batch: int = 128
    samples: int = 3000
    width: int = 128


# Data, teacher, networks ----------------------------------------------------------------------------------------------


def law() -> GaussianMixture:
    """A 3 x 3 grid of Gaussians of deviation 0.08, 1.3 apart, with weights up to six times one another."""
    axis = 1.3 * torch.tensor([-1.0, 0.0, 1.0])
    weights = 6 ** torch.rand(9, generator=Generator().manual_seed(4))
    return GaussianMixture(weights, torch.cartesian_prod(axis, axis), torch.full((9,), 0.08**2), PROCESS)


LAW = law()


class Field(nn.Module):
    """A smooth random field of state and noise level, of mean square 1 per coordinate: the teacher's error."""

    def __init__(self) -> None:
        super().__init__()
        generator = Generator().manual_seed(5)
        self.wave, self.phase = torch.randn(3, 64, generator=generator), 6.3 * torch.rand(64, generator=generator)
        self.mix = torch.randn(64, 2, generator=generator) / 32**0.5

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (torch.cat([1.5 * z, c[:, None] / 2], 1) @ self.wave + self.phase).cos() @ self.mix


FIELD = Field()


def teacher(z: Tensor, t: Tensor) -> Tensor:
    """The exact estimate, with an error of 0.15 in eps."""
    ratio = torch.exp(-PROCESS.half_log_snr(t)).to(z)
    return LAW(z, t) - 0.15 * ratio.reshape(-1, 1) * FIELD(z, ratio.log().expand(len(z)))


class Perceptrons(nn.Module):
    """`count` networks F(z, c) of three hidden layers, in turn for row 0, 1, ... of a batch."""

    def __init__(self, count: int, width: int, out: int, noise: int = 0) -> None:
        super().__init__()
        sizes = [16 + noise, width, width, width, out]
        self.weights = nn.ParameterList(torch.randn(count, a, b) / a**0.5 for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(torch.zeros(count, 1, b) for b in sizes[1:])

    def forward(self, z: Tensor, c: Tensor, noise: Tensor | None = None) -> Tensor:
        waves = [wave(k * c[:, None]) for wave in (torch.sin, torch.cos) for k in (0.5, 1, 2)]
        extra = [] if noise is None else [noise]
        features = torch.cat([z, (2 * z).sin(), (2 * z).cos(), (4 * z).sin(), (4 * z).cos(), *waves, *extra], 1)
        h = features.unflatten(0, (-1, len(self.weights[0]))).transpose(0, 1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = F.silu(torch.baddbmm(bias, h, weight))
        return torch.baddbmm(self.biases[-1], h, self.weights[-1]).transpose(0, 1).flatten(0, 1)


class Critics(nn.Module):
    """One critic for each student, told log(sigma/alpha) of the time."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.network = Perceptrons(count, width, 1)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return self.network(z, (-PROCESS.half_log_snr(t)).clamp(-10, 10).to(z))


@dataclass(frozen=True)
class Weighted(Adversarial):
    """A game whose adversarial loss weighs `weights` in turn for row 0, 1, ... of a batch."""

    game: Adversarial
    weights: Sequence[float]

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.game.critic(real, fake)

    def student(self, fake: Tensor) -> Tensor:
        count = len(self.weights)
        return sum(w * self.game.student(fake[i::count]) for i, w in enumerate(self.weights)) / count

    def accuracy(self, real: Tensor, fake: Tensor) -> float:
        return self.game.accuracy(real, fake)


@dataclass
class Imitate(Method):
    """The student learns the teacher's estimates, weighted as errors of the network's output: the start of them all."""

    student: Denoiser

    @property
    def phases(self) -> tuple[str, ...]:
        return ("student",)

    def loss(self, phase: str, batch: Batch, generator: Generator) -> tuple[Tensor, dict[str, float]]:
        t = GRID[torch.randint(1000, (len(batch.x),), generator=generator)]
        z = PROCESS.marginal(batch.x, t, torch.randn(batch.x.shape, generator=generator))
        weight = self.student.prediction.weight(t, *PROCESS.alpha_sigma(t)).float()[:, None]
        return (weight * (self.student(z, t) - teacher(z, t)).square()).mean(), {}


def batches(rows: int, seed: int) -> Iterator[Batch]:
    generator = Generator().manual_seed(seed)
    while True:
        yield Batch(LAW.draw(rows, generator).float())


def optimise(method: Method, rows: int, steps: int, averages: Sequence[Average[Denoiser]] = ()) -> None:
    """Adam, 1e-3 for everybody, falling linearly to zero over the last third."""
    optimizers = {name: torch.optim.Adam(getattr(method, name).parameters(), 1e-3) for name in method.phases}
    began = time.monotonic()
    for record in fit(method, batches(rows, 1), optimizers, accelerator=Accelerator(cpu=True), steps=steps, clip=None,
                      generator=Generator().manual_seed(2), averages=averages,
                      schedule=lambda step: min(1.0, 3 * (1 - step / steps))):  # fmt: skip
        if record.step % 500 == 0:
            logs = "  ".join(f"{name} {value:.3g}" for name, value in record.logs.items() if "norm" not in name)
            print(f"    {record.step} in {time.monotonic() - began:.0f} s  {logs}", flush=True)


@cache
def started(size: Size) -> Denoiser:
    """One student per seed, taught to be the teacher."""
    torch.manual_seed(0)
    student = Denoiser(Perceptrons(SEEDS, size.width, 2), PROCESS, prediction.velocity(1.0))
    print("the start: students that are the teacher", flush=True)
    optimise(Imitate(student), SEEDS * size.batch, size.steps // 2)
    return student


def copies(size: Size, each: int, noise: int = 0) -> Denoiser:
    """`each` copies of the start of every seed, with a noise input of weight zero where asked."""
    old = started(size).network.state_dict()
    network = Perceptrons(SEEDS * each, size.width, 2, noise)
    new = {name: tensor.repeat_interleave(each, 0) for name, tensor in old.items()}
    new["weights.0"] = F.pad(new["weights.0"], (0, 0, 0, noise))
    network.load_state_dict(new)
    return Denoiser(network, PROCESS, prediction.velocity(1.0))


# Parts of the ablation ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Students that are trained together: all seeds, and all weights."""

    solver: str
    weights: Sequence[float] = WEIGHTS
    game: Adversarial = Hinge()
    time: str = "shared"
    energy: bool = False
    label: str = ""

    def cells(self) -> list[str]:
        """Name of each student's file, in their order."""
        names = [f"{self.label or self.solver}, {weight:g}" for weight in self.weights]
        return [f"{name}, {seed}" for seed in range(SEEDS) for name in names]

    def trained(self, size: Size) -> tuple[Denoiser, float | None]:
        torch.manual_seed(1)
        noise, count = 2 * self.energy, SEEDS * len(self.weights)
        student = copies(size, len(self.weights), noise)
        solver, substeps = SOLVERS[self.solver]
        critic = None if self.energy else Critics(count, size.width)
        contest = Contest(1.0, Weighted(self.game, self.weights), time=self.time)
        more = {"distance": Energy(), "noise": noise} if self.energy else {}
        method = Scott(student, teacher, PROCESS, SPACE, GRID, solver, jump=24, substeps=substeps, critic=critic,
                       contest=contest, **more)  # fmt: skip
        average = Average(student, Power(0.1))
        optimise(method, count * size.batch, size.steps, [average])
        if critic is None:
            return average.module, None
        return average.module, leak(method, next(batches(count * 500, 3)), Generator().manual_seed(4))


PARTS = [
    *(Part(solver) for solver in SOLVERS),
    Part("ER-SDE-5", (0.4,), time="published", label="ER-SDE-5, critic's time as published"),
    Part("ER-SDE-5", (0.4,), Hinge(), "noised", label="ER-SDE-5, hinge, noised"),
    Part("ER-SDE-5", (0.4,), LeastSquares(), "shared", label="ER-SDE-5, least squares, shared"),
    Part("ER-SDE-5", (0.4, 4.0), LeastSquares(), "noised", label="ER-SDE-5, least squares, noised"),
    Part("ER-SDE-5", (0.0,), energy=True, label="ER-SDE-5, energy score"),
]


# Measuring ------------------------------------------------------------------------------------------------------------


def sliced(x: Tensor, y: Tensor) -> float:
    """Sliced 2-Wasserstein distance of equally many points, 128 directions."""
    axes = F.normalize(torch.randn(2, 128, generator=Generator().manual_seed(6)), dim=0)
    gap = (x.float() @ axes).sort(0).values - (y.float() @ axes).sort(0).values
    return float(gap.square().mean(0).sqrt().mean())


def measured(y: Tensor) -> dict[str, float]:
    """Of samples (N, 2), against as many fresh data."""
    x = LAW.draw(len(y), Generator().manual_seed(7))
    found = prdc(x, y.double())
    deviation = float((y.var(0).sum() / x.var(0).sum()).sqrt())
    return {"coverage": found.coverage.value, "density": found.density.value, "distance": sliced(x, y),
            "std": deviation}  # fmt: skip


@torch.no_grad()
def samples(denoise: Callable[..., Tensor], times: Sequence[float], solver: Solver, rows: int, seed: int) -> Tensor:
    """Samples (rows, 2) by steps to `times`, and then the data."""
    noise = Gaussian(Generator().manual_seed(seed))
    grid = torch.tensor([*times, -torch.inf], dtype=torch.float64)
    z = PROCESS.alpha_sigma(grid[0])[1].float() * noise(torch.empty(rows, 2), grid[0], grid[0])
    *_, end = trajectory(denoise, PROCESS, z, grid, solver, noise)
    return end


def evaluated(student: Denoiser, noise: int, count: int, size: Size) -> Iterator[dict[str, dict[str, float]]]:
    """For each student its measures by number of evaluations."""

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        return student(z, t, **({"noise": torch.randn(len(z), noise)} if noise else {}))

    torch.manual_seed(8)
    out = {str(n): samples(denoise, times, Consistency(), count * size.samples, 9) for n, times in EVALUATIONS.items()}
    for i in range(count):
        yield {n: measured(z[i::count]) for n, z in out.items()}


def run(part: Part, folder: Path, size: Size) -> None:
    """Trains and measures what is not there yet."""
    files = [folder / f"{cell}.json" for cell in part.cells()]
    if all(file.exists() for file in files):
        return
    print(f"{part.label or part.solver}: {len(files)} students", flush=True)
    began = time.process_time()
    student, leaked = part.trained(size)
    seconds = (time.process_time() - began) / len(files)
    for file, found in zip(files, evaluated(student, 2 * part.energy, len(files), size), strict=True):
        put(file, {"evaluations": found, "leak": leaked, "seconds": seconds})


def put(file: Path, content: object) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.replace(file)


def references(folder: Path, size: Size) -> None:
    """Fresh data, and the teacher in 48 and in 252 evaluations with each solver."""
    jobs: dict[str, Callable[[int], Tensor]] = {
        "data": lambda seed: LAW.draw(size.samples, Generator().manual_seed(100 + seed))
    }
    for name, (solver, _) in SOLVERS.items():
        for steps in (48, 252):
            times = torch.linspace(999, 0, steps, dtype=torch.float64).round().tolist()
            jobs[f"teacher, {name}, {steps}"] = partial(samples, teacher, times, solver, size.samples)
    for name, draw in jobs.items():
        for seed in range(SEEDS):
            if not (file := folder / f"{name}, {seed}.json").exists():
                put(file, measured(draw(seed)))


# Table and picture ----------------------------------------------------------------------------------------------------


def over_seeds(folder: Path, name: str) -> list[dict]:
    files = [folder / f"{name}, {seed}.json" for seed in range(SEEDS)]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def cell(values: Sequence[float]) -> str:
    """Mean, and the deviation over seeds."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def table(folder: Path, size: Size) -> Table:
    measures = ("coverage", "distance")
    rows = []
    for part in PARTS:
        for name in dict.fromkeys(cell.rpartition(",")[0] for cell in part.cells()):
            if runs := [found["evaluations"] for found in over_seeds(folder, name)]:
                values = [cell([r[str(n)][m] for r in runs]) for m in measures for n in EVALUATIONS]
                deviation, density = (mean(r["1"][m] for r in runs) for m in ("std", "density"))
                rows.append([name, *values, f"{deviation:.3f}", f"{density:.2f}"])
    students = len(rows)
    for steps in (48, 252):
        for solver in SOLVERS:
            found = over_seeds(folder, f"teacher, {solver}, {steps}")
            rows.append(_constant(f"teacher, {solver}, {steps} evaluations", found))
    expected = expected_coverage(size.samples, size.samples, 5)
    rows.append(_constant(f"real data (coverage expected: {expected:.3f})", over_seeds(folder, "data")))
    heads = ["solver, critic's weight", *(f"{n}" for _ in measures for n in EVALUATIONS), "std at 1", "density at 1"]
    groups = [("coverage", 3), ("sliced W2", 3), ("", 2)]
    return Table(heads, rows, groups, totals=len(rows) - students)


def _constant(name: str, runs: Sequence[dict]) -> list[str]:
    """A row whose measures do not depend on the column."""
    coverage, distance = (cell([r[m] for r in runs]) for m in ("coverage", "distance"))
    deviation, density = (mean(r[m] for r in runs) for m in ("std", "density"))
    return [name, coverage, "", "", distance, "", "", f"{deviation:.3f}", f"{density:.2f}"]


def panels(folder: Path) -> Iterator[Panel]:
    """Coverage against evaluations: one panel for each weight, one curve for each solver."""
    real = mean(r["coverage"] for r in over_seeds(folder, "data"))
    for weight in WEIGHTS:
        series = {}
        for solver in SOLVERS:
            if runs := over_seeds(folder, f"{solver}, {weight:g}"):
                series[solver] = [(n, mean(r["evaluations"][str(n)]["coverage"] for r in runs)) for n in EVALUATIONS]
        if series:
            yield Panel(f"coverage, critic's weight {weight:g}", series, {"real data": real, "": 0.0})  # equal axes


def write(folder: Path, cells: Path, size: Size) -> Table:
    shown = table(cells, size)
    leaks = {f"{p.label or p.solver}": over_seeds(cells, p.cells()[0].rpartition(",")[0]) for p in PARTS}
    blind = ", ".join(f"{name} {r[0]['leak']:.2f}" for name, r in leaks.items() if r and r[0]["leak"] is not None)
    text = f"{shown.markdown()}\n\nA critic that sees only zeros is right with probability: {blind}.\n"
    (folder / "ablation.md").write_text(text)
    if drawn := list(panels(cells)):
        (folder / "ablation.svg").write_text(curves(drawn))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("scott-ablation"), help="where everything goes")
    parser.add_argument("--quick", action="store_true", help="a run of a minute, to see that it works")
    parser.add_argument("--steps", type=int, default=Size.steps, help=f"of training ({Size.steps})")
    parser.add_argument("--batch", type=int, default=Size.batch, help=f"rows per student and step ({Size.batch})")
    given = parser.parse_args()
    quick = given.quick or bool(os.environ.get("UNDRIFT_QUICK"))
    size = Size(30, 16, 300, 16) if quick else Size(given.steps, given.batch)
    torch.set_num_threads(1)
    cells = given.folder / f"cells-{size.steps}x{size.batch}"
    cells.mkdir(parents=True, exist_ok=True)
    references(cells, size)
    for part in PARTS:
        run(part, cells, size)
        shown = write(given.folder, cells, size)
    print(shown.text())
    print(f"table: {given.folder / 'ablation.md'}, picture: {given.folder / 'ablation.svg'}")


if __name__ == "__main__":
    main()
