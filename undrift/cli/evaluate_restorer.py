"""What `undrift evaluate` does with a restorer: from the words of the command line to an `Assessment`."""

from collections.abc import Sequence
from pathlib import Path

from .. import metrics
from ..denoiser import Denoiser
from ..evaluation import Benchmark, Measures, Photographs, Results, fingerprint, machine, stamp
from ..preset import STUDENT, leaps
from ..space import Space
from .assessment import Assessment, settings_of
from .folder import writable
from .world import joined

__all__ = ["assess"]


def assess(
    model: str,
    denoiser: Denoiser,
    space: Space,
    data: str,
    *,
    paired: bool,
    out: str,
    tasks: Sequence[str],
    steps: Sequence[int] | None,
    solver: Sequence[str] | None,
    baseline: Sequence[str] | None,
    samples: int | None,
    size: int | None,
    limit: int,
    seed: int,
    batch: int | None,
    lpips: str | None,
    fid: str | None,
) -> int:
    """The exit code; None stands for what suits a restorer."""
    usual, counts = (
        ([STUDENT[0]], leaps(denoiser.taught, [1, 2], denoiser.edges)) if denoiser.student else (["ode-2"], [5, 8])
    )
    if baseline is None:
        baseline = [] if denoiser.student else ["posterior:100"]  # a student's steps sample no posterior
    settings = settings_of(solver or usual, steps or counts, baseline, samples or 1)
    size, batch = 192 if size is None else size, batch or 8
    pairs = (
        Benchmark(data, tasks, size=size, limit=limit)
        if paired
        else Photographs(data, tasks, size=size, limit=limit, seed=seed)
    )
    measures = Measures(
        None if lpips is None else metrics.Lpips(weights=lpips or None),
        None if fid is None else metrics.TorchScript(fid, trust=True, probabilities=False),
        spread=(samples or 1) > 1,
    )
    known = stamp(fingerprint(model), pairs, seed, measures.protocols)
    folder = writable(Path(out))
    with joined() as world:
        device = str(next(denoiser.parameters()).device)
        results = world.planned(lambda: Results.resume(folder, known, machine(device, batch)))
        Assessment(model, pairs, settings, results, folder).run(denoiser, space, measures, batch, seed, world)
    return 0
