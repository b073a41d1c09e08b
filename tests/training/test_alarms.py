"""Each alarm sounds where its story is told, and none in a healthy run."""

import pytest

from undrift.training.alarms import RULES, alarms


def run(**changes):
    """A log of 12 panels with three lines between them; name -> value at progress 0 .. 1."""
    healthy = {
        "critic/accuracy": lambda p: 0.6 + 0.2 * p,
        "student/consistency": lambda p: 0.1 - 0.05 * p,
        "panel/coverage/1": lambda p: 0.5 + 0.3 * p,
        "panel/coverage/2": lambda p: 0.7 + 0.2 * p,
        "panel/coverage/teacher": lambda p: 0.95,
        "panel/leak": lambda p: 0.5,
        "panel/ratio": lambda p: 0.3,
    } | {key.replace("__", "/"): value for key, value in changes.items()}
    lines = []
    for i in range(48):
        shown = {k: f(i / 47) for k, f in healthy.items() if k.startswith("panel") == (i % 4 == 3)}
        lines.append({"step": i, **shown})
    return lines


STORIES = {
    "critic": {"critic__accuracy": lambda p: 0.6 + 0.4 * min(1, 2 * p)},
    "consistency": {"student__consistency": lambda p: 0.1 + 0.05 * p},
    "coverage": {"panel__coverage__2": lambda p: 0.9 - 0.2 * p},
    "leak": {"panel__leak": lambda p: 0.9},
    "ratio": {"panel__ratio": lambda p: 20 * p},
}
WORDS = {
    "critic": "100% of cases",
    "consistency": "to 0.1",
    "coverage": "Coverage in 2 steps fell from 0.8",
    "leak": "90% of cases without looking",
    "ratio": "times as hard",
}


def test_a_healthy_run_is_quiet():
    assert alarms(run()) == {}
    assert alarms(run()[:2]) == alarms([]) == {}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_tells_its_own_story_with_advice(rule):
    found = alarms(run(**STORIES[rule]))
    assert list(found) == [rule]
    assert WORDS[rule] in found[rule]
    assert found[rule].count("critic.") >= 1


def test_without_a_critic_there_is_nothing_to_say_of_it():
    assert alarms([{k: v for k, v in line.items() if "coverage" not in k and "student" in k} for line in run()]) == {}
