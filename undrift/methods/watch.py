"""What tells how the contest of `Scott` goes: whether its critic cheats, and who pulls harder."""

import torch

from ..data.batch import Batch
from .scott import Scott

__all__ = ["balance", "leak"]


@torch.no_grad()
def leak(method: Scott, batch: Batch, generator: torch.Generator) -> float:
    """The accuracy of the critic where every state is replaced by zeros: 1/2 unless times or conditions tell.

    What a critic can know without looking. Above chance, its loss can vanish without a word about the images.
    """
    if method.critic is None:
        raise ValueError("a leak is a critic's: this method has none")
    drawn = method._draw(batch, generator)
    blind = torch.zeros_like(drawn.real)
    if method.contest.time == "published":
        real, fake = method.grid[-1].expand(len(blind)), drawn.t
    else:
        real = fake = method._label(drawn, generator)
    yes, no = (method.critic(blind, t, **drawn.cond) for t in (real, fake))
    return method.contest.game.accuracy(yes, no)


def balance(method: Scott, batch: Batch, generator: torch.Generator) -> float:
    """Norm of the adversarial gradient over that of the consistency loss, at the student's output; 0 without weight."""
    if method.critic is None:
        raise ValueError("a balance is between a teacher and a critic: this method has no critic")
    drawn = method._draw(batch, generator)
    consistency = method._error(drawn, drawn.target)
    state, t = method._shown(drawn, generator)
    with torch.enable_grad():
        opinion = method.critic(state, t, **drawn.cond)
        adversarial = method.contest.weighed(method._step) * method.contest.game.student(opinion)
    pulls = [float(torch.autograd.grad(loss, drawn.draws)[0].norm()) for loss in (adversarial, consistency)]
    return pulls[0] / max(pulls[1], 1e-12)
