"""How good is a restorer: settings x tasks -> numbers, with everything they depend on written beside them.

    for task, setting, found in evaluate(denoiser, space, Photographs("kodak24"), [DEGRADED, Setting("ode-2", 8)]):
        print(task, setting, found.values["psnr"])

No printing and no files here, except `Results`, which is what makes a long evaluation resumable.
"""

from .measure import PROTOCOLS, Found, Measures, evaluate
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
    "compare",
    "evaluate",
    "fingerprint",
    "machine",
    "restored",
    "scenes",
    "stamp",
]
