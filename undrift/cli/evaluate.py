"""undrift evaluate --data DIR: a model on many photographs, every task and setting, with all that can be measured."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .arguments import add_machine, whole

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="clean photographs, degraded here; see --paired")
    parser.add_argument(
        "--paired", action="store_true", help="DIR holds pairs: <task>/LQ/<name> and <task>/GT/<name>, nothing is made"
    )
    parser.add_argument("-o", "--out", metavar="DIR", default="undrift-evaluation", help="(undrift-evaluation)")
    parser.add_argument("--model", metavar="NAME", default="universal", help="a bundled model or a folder (universal)")
    parser.add_argument("--tasks", metavar="NAME", nargs="+", default=[], help="some of them (all)")
    parser.add_argument("--steps", metavar="N", nargs="+", type=whole(1), default=[5, 8], help="evaluations (5 8)")
    parser.add_argument(
        "--solver",
        metavar="NAME",
        nargs="+",
        default=["ode-2"],
        help="each with all --steps, or as solver:steps (ode-2)",
    )
    parser.add_argument(
        "--baseline", metavar="SPEC", nargs="*", default=["posterior:100"], help="what to compare with (posterior:100)"
    )
    parser.add_argument(
        "--samples", metavar="K", type=whole(1), default=1, help="also the mean of K samples of the first setting"
    )
    parser.add_argument("--size", metavar="PX", type=whole(0), default=192, help="central crop, 0 for none (192)")
    parser.add_argument("--limit", metavar="N", type=whole(0), default=0, help="photographs per task, 0 for all (0)")
    parser.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of degradations and noise (0)")
    parser.add_argument("--batch", metavar="N", type=whole(1), default=8, help="photographs at a time (8)")
    parser.add_argument(
        "--lpips", metavar="FILE", nargs="?", const="", help="measure LPIPS; the AlexNet file, or UNDRIFT_WEIGHTS"
    )
    parser.add_argument("--fid", metavar="FILE", help="measure FID, with this TorchScript Inception")
    parser.add_argument(
        "--compare", metavar="RESULTS", nargs=2, help="instead: two results.json, made alike, side by side"
    )
    add_machine(parser)
    parser.epilog = "Interrupted, it goes on where it was when started again with the same -o."


def run(
    *,
    data: str | None,
    paired: bool,
    out: str,
    model: str,
    tasks: Sequence[str],
    steps: Sequence[int],
    solver: Sequence[str],
    baseline: Sequence[str],
    samples: int,
    size: int,
    limit: int,
    seed: int,
    batch: int,
    lpips: str | None,
    fid: str | None,
    compare: Sequence[str] | None,
    device: str,
    threads: int,
) -> int:
    from .. import metrics
    from ..evaluation import Benchmark, Measures, Photographs, Results, fingerprint, machine, stamp
    from .assessment import Assessment, comparison, settings_of
    from .folder import writable
    from .model import open_model

    if compare:
        print(comparison(*compare))
        return 0
    if data is None:
        raise ValueError("nothing to restore: give --data DIR, a folder of clean photographs (see --help)")
    settings = settings_of(solver, steps, baseline, samples)
    pairs = (
        Benchmark(data, tasks, size=size, limit=limit)
        if paired
        else Photographs(data, tasks, size=size, limit=limit, seed=seed)
    )
    measures = Measures(
        None if lpips is None else metrics.Lpips(weights=lpips or None),
        None if fid is None else metrics.inception(fid),
    )
    denoiser, space = open_model(model, device, threads)
    folder = writable(Path(out))
    where = machine(str(next(denoiser.parameters()).device), batch)
    results = Results.resume(folder, stamp(fingerprint(model), pairs, seed, measures.protocols), where)
    Assessment(model, pairs, settings, results, folder).run(denoiser, space, measures, batch, seed)
    return 0
