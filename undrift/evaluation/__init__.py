"""How good is a model: numbers, with everything they depend on written beside them.

A restorer, settings x tasks:

    pairs = Photographs("kodak24", size=256)
    for task in pairs.tasks:
        print(task, assess(denoiser, space, pairs.pairs(task), Setting("ode-2", 8)).values["psnr"])

A generator, samplers: see `generation`.

No printing and no files here, except `Results` and features, which are what makes a long evaluation resumable.
"""

from .generation import REAL, TASK, Reference, Sampler, evaluate_generator, generation_stamp, sampler
from .measure import PROTOCOLS, Found, Measures, assess
from .results import Results, compare, fingerprint, machine, stamp
from .scenes import PHOTOGRAPHS, Scene, scenes
from .sets import Benchmark, PairSet, Photographs
from .settings import DEGRADED, Setting, restored

__all__ = [
    "DEGRADED",
    "PHOTOGRAPHS",
    "PROTOCOLS",
    "REAL",
    "TASK",
    "Benchmark",
    "Found",
    "Measures",
    "PairSet",
    "Photographs",
    "Reference",
    "Results",
    "Sampler",
    "Scene",
    "Setting",
    "assess",
    "compare",
    "evaluate_generator",
    "fingerprint",
    "generation_stamp",
    "machine",
    "restored",
    "sampler",
    "scenes",
    "stamp",
]
