"""What is bundled does what its card says, on photographs that it has never seen."""

import pytest

import undrift
from undrift.evaluation import scenes
from undrift.metrics import haarpsi, psnr
from undrift.restoration import restore
from undrift.training.checkpoint import student_of

GAINS = {"motion-blurry": 2.0, "jpeg-compressed": 0.0, "raindrop": 0.8, "shadowed": 1.5}
"""dB that the universal restorer wins at least; 3 in the other tasks."""


@pytest.fixture(scope="module")
def universal():
    return undrift.load("universal")


@pytest.mark.parametrize("scene", scenes(128), ids=lambda scene: scene.task)
def test_the_universal_restorer_restores(universal, scene):
    restored = restore(*universal, scene.y, steps=2, task=scene.task).image
    x, y, z = scene.x[None], scene.y[None], restored[None]
    assert (psnr(x, z) - psnr(x, y)).item() > GAINS.get(scene.task, 3.0)
    assert haarpsi(x, z).item() > haarpsi(x, y).item() - 0.01  # what little is left of drops hides some texture


def test_the_universal_students_two_evaluations_are_its_teachers_eight(universal):
    """Within 0.3 dB and 0.002 of HaarPSI in the mean of the scenes, and it is the one that `--steps 1` finds."""
    assert student_of("universal") == "universal-student"
    student = undrift.load("universal-student")
    assert student[0].student
    means = []
    for model, steps in ((universal, 8), (student, 2)):
        pairs = [(s.x[None], restore(*model, s.y, steps=steps, task=s.task).image[None]) for s in scenes(128)]
        means.append([sum(measure(x, z).item() for x, z in pairs) / len(pairs) for measure in (psnr, haarpsi)])
    (much, like), (little, alike) = means
    assert little > much - 0.3
    assert alike > like - 0.002
