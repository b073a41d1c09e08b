from pathlib import Path

import pytest
import torch

from undrift.training.build import build
from undrift.training.photographs import Photographs
from undrift.training.plan import Schedule, Training
from undrift.training.preview import Preview
from undrift.training.recipe import METHODS, REQUIRED, call, override, read

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
# A recipe of a student needs its teacher: tests/text builds the one of a pipeline.
WHOLE = [path for path in RECIPES if read(path).get("method", {}).get("name") != "scott"]
BARE = {name: {} for name in (*REQUIRED, *METHODS["score_matching"])}


@pytest.mark.parametrize("path", WHOLE, ids=lambda p: p.stem)
def test_every_recipe_of_ours_builds(path):
    with torch.device("meta"):  # some have 60 million parameters
        run = build(override(read(path)))
    assert getattr(run.method, run.method.phases[0]) is run.model
    assert sum(p.numel() for p in run.model.parameters()) > 10_000


def test_settings_replace_values_tables_and_nested_ones():
    recipe = {**BARE, "data": {"weights": {"hazy": 2.0}, "seed": 0}}
    changed = override(
        recipe,
        [
            "process.lam=0.1",
            'prediction={name="velocity", scale=0.5}',
            "network.name=unet",
            "training.minutes = 1e2",
            "data.weights.noisy=3",
            'data.roots=["a", "b=c"]',
            "training.tensorboard=true",
            "preview.every=0",
        ],
    )
    assert changed["process"] == {"lam": 0.1}
    assert changed["prediction"] == {"name": "velocity", "scale": 0.5}
    assert changed["network"] == {"name": "unet"}
    assert changed["training"] == {"minutes": 100.0, "tensorboard": True}
    assert changed["data"] == {"weights": {"hazy": 2.0, "noisy": 3}, "seed": 0, "roots": ["a", "b=c"]}
    assert changed["preview"] == {"every": 0}
    assert recipe["data"] == {"weights": {"hazy": 2.0}, "seed": 0}


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("proces.lam=1", r"^unknown section 'proces': did you mean process\? There are process, network"),
        ("process", r"^setting 'process': need key=value, e.g. training.steps=1000$"),
        ("data.seed.more=1", r"^setting 'data.seed.more=1': seed is a value, not a table$"),
        ("data.sede=1", r"^unknown key of \[data\] 'sede': did you mean seed\? There are roots, tasks"),
        ("data.tasks=['foggy']", r"^unknown task 'foggy': .*There are motion-blurry, hazy"),
        ("data=7", r"^\[data\] 7: need a table$"),
        ("data={}", r"^\[data\]: .*missing 1 required positional argument: 'roots'$"),
        ("data.hold_out_every=-1", r"^data.hold_out_every = -1: need"),
        ("data.crop=abc", r"^data.crop = 'abc': need a whole number$"),
        ("data.batch=4.0", r"^data.batch = 4.0: need a whole number$"),
        ("data.zoom=true", r"^data.zoom = True: need a number$"),
        ("data.tasks=foggy", r"^unknown task 'foggy'"),
        ("data.roots=[1]", r"^data.roots = \[1\]: need a list \[a string, ...\]$"),
        ("data.weights.hazy=often", r"^data.weights = {'hazy': 'often'}: need a table, each value a number$"),
    ],
)
def test_wrong_settings_are_one_line(setting, line):
    with pytest.raises(ValueError, match=line):
        call(Photographs, "data", override({**BARE, "data": {"roots": ["x"], "seed": 0}}, [setting]))


def test_wrong_recipes_are_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^unknown section 'proces'"):
        override({"proces": {}})
    with pytest.raises(ValueError, match=r"^the recipe has no \[process\]; it needs process, network"):
        override({})
    with pytest.raises(FileNotFoundError, match=r"^no recipe .*none.toml$"):
        read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ValueError, match=r"bad.toml: not a recipe in TOML \("):
        read(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Training(), "training.steps = 0, minutes = 0.0: give one, positive"),
        (lambda: Training(steps=-1, minutes=5), "training.steps = -1"),
        (lambda: Training(steps=5, keep=0), "training.keep = 0: need at least 1"),
        (lambda: Training(steps=5, clip=-1), "training.clip = -1: need a positive number, or 0"),
        (lambda: Training(steps=5, precision="half"), "unknown training.precision 'half'"),
        (lambda: Schedule(final=2), "final = 2"),
        (lambda: Preview(size=0), "preview"),
    ],
)
def test_values_outside_their_range_are_refused(make, line):
    with pytest.raises(ValueError, match=line):
        make()


def test_progress_is_the_larger_fraction():
    both = Training(steps=100, minutes=1)
    assert both.progress(50, 6.0) == 0.5
    assert both.progress(10, 45.0) == 0.75
    assert both.progress(10, 100.0) == 1.0
    assert Training(minutes=2).progress(10**9, 30.0) == 0.25


def test_rate_rises_then_falls_as_half_a_cosine():
    schedule = Schedule(warmup=10, final=0.1)
    assert schedule.factor(0, 0.0) == pytest.approx(0.1)
    assert schedule.factor(9, 0.0) == pytest.approx(1.0)
    assert schedule.factor(50, 0.5) == pytest.approx(0.55)
    assert schedule.factor(99, 1.0) == pytest.approx(0.1)


def test_photographs_are_held_out_and_excluded(tmp_path):
    from PIL import Image

    for i in range(9):
        Image.new("RGB", (20 + i, 30)).save(tmp_path / f"{i}.png")
    (tmp_path / "kodak").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "kodak" / "7.png")
    data = Photographs((str(tmp_path),), exclude=("*/kodak/*", "8.png"), hold_out_every=3, crop=22)
    train, held = data.split()
    assert [p.name for p in held] == ["0.png", "3.png", "6.png"]
    assert [p.name for p in train] == ["1.png", "2.png", "4.png", "5.png", "7.png"]
    assert len(data.load()) == 4  # 1.png is 21 wide
    with pytest.raises(ValueError, match="nothing left to train on: 10 images, 0 not excluded"):
        Photographs((str(tmp_path),), exclude=("*",)).split()
    with pytest.raises(ValueError, match="none of the 9 photographs has both sides >= crop = 50"):
        Photographs((str(tmp_path),), exclude=("*/kodak/*",), hold_out_every=0, crop=50).load()
