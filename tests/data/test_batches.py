"""The stream is a pure function of (seed, step), balanced, aligned, and refuses nonsense."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from undrift.data import generator, restoration_batches
from undrift.data.batches import Crops

IMAGES = [np.random.default_rng(i).integers(0, 256, (40 + i, 50, 3), dtype=np.uint8) for i in range(4)]


def noisy(x, rng):
    return (x + 0.1 * torch.randn(x.shape, generator=rng)).clamp(0, 1)


def shift(by):
    return lambda x, rng: x + by


TASKS = {"noisy": noisy, "same": lambda x, rng: x.clone()}


def take(n, **more):
    return list(islice(restoration_batches(IMAGES, TASKS, 6, 16, 3, **{"workers": 0, **more}), n))


def equal(a, b):
    return torch.equal(a.x, b.x) and torch.equal(a.y, b.y)


def test_resume_and_workers_change_nothing():
    whole = take(7)
    assert all(map(equal, whole[4:], take(3, start=4)))
    assert all(map(equal, whole[2:], take(5, start=2, workers=2)))
    assert not equal(whole[0], whole[1])


def test_global_generator_is_left_alone():
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    take(2, workers=1)
    assert torch.equal(torch.rand(3), want)


def test_shapes_condition_and_range():
    batch = take(1)[0]
    assert batch.x.shape == batch.y.shape == (6, 3, 16, 16)
    assert batch.cond["image"] is batch.y
    assert batch.y.min() >= 0
    assert batch.y.max() <= 1
    moved = batch.to("cpu")
    assert moved.cond["image"] is moved.y


def test_crops_of_x_and_y_are_aligned():
    x, y = next((b.x, b.y) for b in restoration_batches(IMAGES, {"up": shift(0.25)}, 8, 16, 0, workers=0))
    torch.testing.assert_close(y - x, torch.full_like(x, 0.25))


def test_tasks_are_balanced_to_within_one_group():
    tasks = {name: shift(i) for i, name in enumerate("abcde")}
    for batch in islice(restoration_batches(IMAGES, tasks, 20, 16, 0, workers=0, crops_per_image=1), 5):
        counts = Counter((batch.y - batch.x).mean((1, 2, 3)).round().int().tolist())
        assert counts == {0: 4, 1: 4, 2: 4, 3: 4, 4: 4}


def test_weights_are_frequencies():
    crops = Crops(IMAGES, {"a": shift(0), "b": shift(1)}, 8, 16, 0, weights={"a": 3.0}, crops_per_image=1)
    names = Counter(name for step in range(50) for name in crops._tasks_of(step, 8))
    assert names == {"a": 300, "b": 100}
    off = Crops(IMAGES, {"a": shift(0), "b": shift(1)}, 8, 16, 0, weights={"b": 0.0})
    assert {name for step in range(50) for name in off._tasks_of(step, 4)} == {"a"}


def test_ranks_share_one_step_evenly():
    tasks = {name: shift(i) for i, name in enumerate("abcd")}
    parts = [take_rank(tasks, rank) for rank in range(4)]
    counts = Counter((p.y - p.x).mean((1, 2, 3)).round().int().tolist()[0] for p in parts)
    assert counts == {0: 1, 1: 1, 2: 1, 3: 1}
    assert not torch.equal(parts[0].x, parts[1].x)


def take_rank(tasks, rank):
    return next(restoration_batches(IMAGES, tasks, 4, 16, 0, workers=0, crops_per_image=1, rank=rank, world=4))


def test_every_orientation_and_scale_occurs():
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(64) * 2, np.arange(64)[:, None] * 2
    x = next(restoration_batches([ramp], {"same": shift(0)}, 200, 16, 0, workers=0, crops_per_image=1)).x
    across = (
        (x[:, 0, :, -1] - x[:, 0, :, 0]).mean(-1) * 255 / 15,
        (x[:, 0, -1] - x[:, 0, 0]).mean(-1) * 255 / 15,
    )
    signs = {
        (
            round(float(a.sign())) * (a.abs() > b.abs()).item(),
            round(float(b.sign())) * (b.abs() > a.abs()).item(),
        )
        for a, b in zip(*across, strict=True)
    }
    assert signs == {(1, 0), (-1, 0), (0, 1), (0, -1)}
    slope = torch.stack(across).abs().amax(0)
    assert 60 < (slope < 2.1).sum() < 140  # about half at native scale: 2 levels a pixel
    assert 4.0 < slope.max() < 5.6  # 64 / 24 times that for the whole image


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 41}, "smallest image side is 40"),
        ({"batch": 0}, "batch = 0"),
        ({"tasks": {}}, "0 tasks"),
        ({"images": []}, "no images|0 images"),
        ({"weights": {"rain": 1.0}}, r"unknown tasks \['rain'\]"),
    ],
)
def test_nonsense_is_refused(change, message):
    good = {"images": IMAGES, "tasks": TASKS, "batch": 2, "crop": 8, "seed": 0, "workers": 0}
    with pytest.raises(ValueError, match=message):
        next(restoration_batches(**{**good, **change}))


def test_generator_depends_on_every_part_of_its_key():
    keys = [(1, 2), (2, 1), (12,), (1, "2"), ("1/2",), (1, 2, 0), (0,), (-1,)]
    draws = {torch.rand((), generator=generator(*key)).item() for key in keys}
    assert len(draws) == len(keys)
    assert torch.rand((), generator=generator(1, 2)) == torch.rand((), generator=generator(1, 2))


def test_distractors_are_part_of_the_truth_and_of_the_observation():
    """A shadow that is no fault of the task stays: with a task that does nothing, y = x, both with the shadow."""
    images = [np.full((32, 32, 3), 200, dtype=np.uint8)]

    def half(x, generator):
        return x * 0.5

    options = {"batch": 8, "crop": 16, "seed": 0, "crops_per_image": 1}
    plain = Crops(images, {"none": lambda x, g: x}, **options, distractors={"dark": half}, distract=0.5)[0]
    assert torch.equal(plain.x, plain.y)
    assert {round(v, 3) for v in plain.x[:, 0, 0, 0].tolist()} == {0.784, 0.392}
    own = Crops(images, {"dark": half}, **options, distractors={"dark": half}, distract=1.0)[0]
    assert (own.x > 0.7).all()  # its own degradation is what a task must undo
    assert torch.allclose(own.y, own.x / 2)


def test_a_share_is_told_its_task_and_the_others_that_there_is_none():
    images = [np.full((16, 16, 3), 100, dtype=np.uint8)]
    tasks = {"dark": lambda x, g: x * 0.5, "same": lambda x, g: x}
    options = {"batch": 64, "crop": 16, "seed": 0, "crops_per_image": 1}
    for told in (0.5, 1.0):
        batch = Crops(images, tasks, **options, told=told)[0]
        true = (batch.x == batch.y).flatten(1).all(1).long()  # the place of the task among the two
        label = batch.cond["label"]
        assert torch.equal(label[label < 2], true[label < 2])
        assert abs((label < 2).double().mean() - told) < 0.25
    assert "label" not in Crops(images, tasks, **options)[0].cond


def test_tone_and_zoom_change_what_is_seen_and_nothing_by_default():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)]
    options = {"batch": 16, "crop": 16, "seed": 1, "crops_per_image": 1, "canvas": 16}
    same = {"none": lambda x, g: x}
    plain, toned, zoomed = (Crops(images, same, **options, **more)[0].x for more in ({}, {"tone": 1.0}, {"zoom": 3.0}))
    assert toned.std((1, 2, 3)).mean() < plain.std((1, 2, 3)).mean()  # contrast and saturation go down on average
    assert 0 <= toned.min() <= toned.max() <= 1
    rough = [x.diff(dim=3).abs().mean() for x in (plain, zoomed)]
    assert rough[1] < rough[0]  # enlarged photographs are smoother


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"zoom": 0.5}, "zoom = 0.5"),
        ({"tone": 2.0}, "tone = 2.0"),
        ({"distract": -1.0}, "distract = -1.0"),
        ({"told": 2.0}, "told = 2.0"),
    ],
)
def test_augmentations_out_of_range_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        Crops([np.zeros((16, 16, 3), dtype=np.uint8)], {"none": lambda x, g: x}, 1, 16, 0, **wrong)
