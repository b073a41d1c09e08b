"""All that is said of a generator: two sets of features -> every distance, with its standard error."""

from .diversity import InceptionScore
from .estimate import Estimate
from .features import Features
from .frechet import frechet_distance
from .kernel import kid
from .neighbours import prdc

__all__ = ["set_distances"]


def set_distances(x: Features, y: Features, *, k: int = 5, subset: int = 1000, seed: int = 0) -> dict[str, Estimate]:
    """Of the reference x and a generator's y: "fd", "kid", "is" (if there are probabilities), "precision", "recall",
    "density", "coverage".

    Arguments:
        k: nearest neighbours; subset, seed: of `kid`.
    """
    found = {"fd": frechet_distance(x.features, y.features)}
    found["kid"] = kid(x.features, y.features, subset=subset, seed=seed)
    if y.probabilities is not None:
        score = InceptionScore()
        for block in y.probabilities.split(4096):
            score.update(block)
        found["is"] = score.compute()
    return found | prdc(x.features, y.features, k)._asdict()
