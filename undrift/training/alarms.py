"""What goes wrong in distillations, told from the log, in plain words, and what to do about it.

Each rule reads the lines of log.jsonl so far and says nothing, or one sentence. No rule stops a run.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

__all__ = ["RULES", "alarms"]

Lines = Sequence[Mapping[str, Any]]

SURE, LONG = 0.98, 8  # a critic right in so many cases, for so many lines
RISE = 1.15  # of the consistency loss, from its lowest third on
FALL = 0.05  # of coverage, from its best: several of its errors at 500 images
CHANCE, HEARD = 0.6, 5.0  # a leak, and a ratio of gradients, above which the critic is the louder one


def alarms(lines: Lines) -> dict[str, str]:
    """Rule -> sentence, for those that have something to say."""
    found = {name: rule(lines) for name, rule in RULES.items()}
    return {name: text for name, text in found.items() if text}


def series(lines: Lines, key: str) -> list[float]:
    """The values of one number, in their order."""
    return [float(line[key]) for line in lines if key in line]


def _sure(lines: Lines) -> str:
    accuracy = series(lines, "critic/accuracy")[-LONG:]
    if len(accuracy) < LONG or min(accuracy) < SURE:
        return ""
    return (
        f"The critic has been right in {fmean(accuracy):.0%} of cases for {LONG} lines of the log: it teaches little "
        "now. Lower critic.weight or critic_optimizer.lr, or raise critic.r1."
    )


def _rising(lines: Lines) -> str:
    loss = series(lines, "student/consistency")
    third = len(loss) // 3
    if third < 3:
        return ""
    means = [fmean(loss[i * third : (i + 1) * third]) for i in range(2)] + [fmean(loss[2 * third :])]
    if means[2] < RISE * min(means[:2]):
        return ""
    return (
        f"The consistency loss rises, from {min(means[:2]):.3g} to {means[2]:.3g}: the student leaves its teacher. "
        "Lower critic.weight or optimizer.lr."
    )


def _falling(lines: Lines) -> str:
    for key in sorted({key for line in lines for key in line if key.startswith("panel/coverage/")}):
        coverage = series(lines, key)
        if key != "panel/coverage/teacher" and coverage[-1] < max(coverage) - FALL:
            count = key.rpartition("/")[2]
            return (
                f"Coverage in {count} step{'s' * (count != '1')} fell from {max(coverage):.3f} to {coverage[-1]:.3f}: "
                "the student gives up variety. Lower critic.weight, or take the model in best/."
            )
    return ""


def _leaking(lines: Lines) -> str:
    leak = series(lines, "panel/leak")
    if not leak or leak[-1] < CHANCE:
        return ""
    return (
        f"The critic tells real from generated in {leak[-1]:.0%} of cases without looking: times or conditions tell. "
        'Set critic.time="noised".'
    )


def _loud(lines: Lines) -> str:
    ratio = series(lines, "panel/ratio")[-3:]
    if len(ratio) < 3 or min(ratio) < HEARD:
        return ""
    return (
        f"The critic pulls {fmean(ratio):.1f} times as hard as the teacher, three times in a row: expect sharpness "
        "without likeness. Lower critic.weight."
    )


RULES: dict[str, Callable[[Lines], str]] = {
    "critic": _sure,
    "consistency": _rising,
    "coverage": _falling,
    "leak": _leaking,
    "ratio": _loud,
}
