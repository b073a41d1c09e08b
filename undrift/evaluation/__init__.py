"""How good is a restorer: settings x tasks -> numbers, with everything they depend on written beside them.

    pairs = Photographs("kodak24", size=256)
    for task in pairs.tasks:
        print(task, assess(denoiser, space, pairs.pairs(task), Setting("ode-2", 8)).values["psnr"])

No printing and no files here, except `Results`, which is what makes a long evaluation resumable.
"""

from .measure import PROTOCOLS, Found, Measures, assess
from .results import Results, compare, fingerprint, machine, stamp
from .scenes import PHOTOGRAPHS, Scene, scenes
from .sets import Benchmark, PairSet, Photographs
from .settings import DEGRADED, Setting, restored

__all__ = [
    "DEGRADED",
    "PHOTOGRAPHS",
    "PROTOCOLS",
    "Benchmark",
    "Found",
    "Measures",
    "PairSet",
    "Photographs",
    "Results",
    "Scene",
    "Setting",
    "assess",
    "compare",
    "fingerprint",
    "machine",
    "restored",
    "scenes",
    "stamp",
]
