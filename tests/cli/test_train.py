import warnings

import pytest

from undrift.cli import recipes
from undrift.cli.errors import warned
from undrift.training import run as training

RECIPE = """
[process]
name = "mean_reverting"
[prediction]
name = "data"
[network]
name = "unet"
channels = [4, 6]
blocks = [1, 1]
embedding = 8
[space]
name = "residual"
[density]
name = "uniform_lambda"
[weighting]
name = "balanced"
[data]
roots = ["photographs"]
tasks = ["noisy"]
hold_out_every = 3
batch = 2
crop = 16
workers = 0
[optimizer]
name = "adamw"
lr = 1e-3
[preview]
every = 0
[training]
steps = 3
"""


@pytest.fixture
def recipe(tmp_path, photograph):
    for i in range(4):
        photograph(tmp_path / "photographs" / f"{i}.png", 24, 24, seed=i)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "small.toml").write_text(RECIPE)
    return tmp_path / "recipes" / "small.toml"


def test_a_recipe_trains_into_its_folder_and_what_it_made_restores(undrift_, recipe):
    code, lines, _ = undrift_("train", "small", "training.steps=2")
    assert code == 0
    assert lines[0] == "training recipes/small.toml in runs/small"
    assert lines[1].startswith("runs/small/model: 2 steps in 0.")
    assert lines[2] == "restore with it: undrift restore PHOTO -o OUT --model runs/small/model"
    command = ("photographs/0.png", "-o", "out.png", "--model", "runs/small/model", "--steps", 2)
    assert undrift_("restore", *command)[0] == 0
    code, lines, _ = undrift_("train", str(recipe), "--out", "runs/small", "training.steps=4")
    assert (code, lines[1].split(" in ")[0]) == (0, "runs/small/model: 4 steps")


def test_an_interrupted_run_says_how_to_go_on(undrift_, recipe, monkeypatch):
    train = training.train

    def stopped(*arguments):
        result = train(*arguments)
        return training.Result(result.model, result.step, result.seconds, finished=False)

    monkeypatch.setattr(training, "train", stopped)
    code, lines, _ = undrift_("train", "small", "-o", "my run", "training.steps=2")
    assert code == 130
    assert lines[-1] == (
        "stopped and saved; the same command goes on: undrift train small --out 'my run' training.steps=2"
    )


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("smal", "no recipe 'smal': neither a file nor the name of one (small)"),
        ("photographs", "photographs is a folder: give the recipe, a TOML file"),
        ("photographs/0.png", "photographs/0.png: not a recipe in TOML ("),
        ("small training.step=3", "unknown key of [training] 'step': did you mean steps?"),
        ("small trainings.steps=3", "unknown section 'trainings': did you mean training?"),
        ("small steps", "setting 'steps': need key=value, e.g. training.steps=1000"),
        ("small training.steps=-3", "training.steps = -3, minutes = 0.0: give one, positive"),
        ("small training.minutes=abc", "training.minutes = 'abc': need a number"),
        ("small data.roots=nowhere", "no such file or folder: nowhere"),
        ('small data.tasks=["hasy"]', "unknown task 'hasy': did you mean hazy?"),
        ("small --out photographs/0.png", "cannot write to the folder photographs/0.png: "),
    ],
)
def test_what_is_wrong_is_one_line(undrift_, recipe, monkeypatch, argv, line):
    monkeypatch.setattr(recipes, "HOMES", recipes.HOMES[:1])
    code, _, errors = undrift_("train", *argv.split())
    assert (code, len(errors)) == (2, 1)
    assert errors[0].startswith(f"undrift: {line}")


@pytest.mark.parametrize(
    "setting",
    ["data.roots=nowhere", "data.crop=99", "network.channels=8", "process.lam=-1", "network.in_channels=1"],
)
def test_what_fails_before_its_first_step_leaves_nothing_behind(undrift_, recipe, tmp_path, setting):
    """Not even where only the network itself finds the fault, in its first call."""
    before = sorted(tmp_path.rglob("*"))
    assert undrift_("train", "small", setting)[0] > 0
    assert sorted(tmp_path.rglob("*")) == before


def test_the_source_tree_s_recipes_are_known_from_anywhere(undrift_):
    assert "universal" in recipes.known_recipes()
    assert recipes.find_recipe("universal").is_file()


def test_a_damaged_state_is_one_line_without_a_place_in_the_source(undrift_, recipe, tmp_path):
    words = ("train", "small", "training.save_every=1")
    assert undrift_(*words, "training.steps=2")[0] == 0
    newest = tmp_path / "runs/small/state/step-00000002.pt"
    whole = newest.read_bytes()
    newest.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    passed = "runs/small/state/step-00000002.pt: damaged, passed over (its checksum is another)"
    with pytest.warns(UserWarning, match="damaged") as told:
        assert undrift_(*words)[0] == 0
    (found,) = told
    assert str(found.message) == passed
    with warned():
        text = warnings.formatwarning(found.message, found.category, found.filename, found.lineno)
        other = warnings.formatwarning(found.message, found.category, "elsewhere.py", 3)
    assert text == f"undrift: warning: {passed}\n"
    assert other.startswith("elsewhere.py:3: UserWarning: ")
    assert warnings.formatwarning(found.message, found.category, found.filename, 3) != text
