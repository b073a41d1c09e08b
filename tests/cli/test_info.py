"""`undrift info` tells the truth about a model, a recipe, a process and the steps of a run; and garbage is one line."""

import json
import os
import pickle
import shutil

import pytest
import torch

from undrift import MeanReverting, __version__, generation, load, registry, times
from undrift.degradations import TASKS
from undrift.networks import UNet
from undrift.restoration import PRESETS, restore


def facts(lines):
    """name -> value of aligned lines."""
    return {name.strip(): value.strip() for name, _, value in (line.partition("  ") for line in lines)}


def test_what_is_installed(undrift_):
    code, lines, errors = undrift_("info")
    found = facts(lines)
    assert (code, errors) == (0, [])
    assert (found["undrift"], found["torch"]) == (__version__, torch.__version__)
    assert found["tasks"] == ", ".join(TASKS)
    restore, generate = lines.index("solvers to restore"), lines.index("solvers to generate")
    assert [line.split()[0] for line in lines[restore + 1 : generate]] == list(PRESETS)
    assert [line.split()[0] for line in lines[generate + 1 :]] == list(generation.PRESETS)


def test_a_model(undrift_, model, tmp_path):
    code, lines, _ = undrift_("info", model)
    found = facts(lines)
    denoiser, _ = load(model)
    assert code == 0
    assert found["parameters"] == f"{sum(p.numel() for p in denoiser.parameters()):,}"
    assert found["weights"].endswith("MiB, F32")
    assert found["process"].startswith("mean_reverting (lam = 0.0392156862745098, schedule = ")
    assert found["times"] == "t = 1 (data) to 100 (noise), lambda = 7.213 to -2.060"
    assert found["trained: steps"] == "7"
    assert "trained: recipe" not in found
    shutil.copytree(model, tmp_path / "run" / "model")
    assert facts(undrift_("info", "run")[1]) == found | {"model": "run/model"}


def test_what_a_stranger_wrote_cannot_touch_the_terminal(undrift_, model, tmp_path):
    shutil.copytree(model, tmp_path / "m")
    card = json.loads((tmp_path / "m/model.json").read_text())
    card["training"] = {"note\x1b[2J": "\x1b[31mred"}
    (tmp_path / "m/model.json").write_text(json.dumps(card))
    code, lines, _ = undrift_("info", "m")
    assert code == 0
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("name", registry.CLASSES["process"])
def test_a_process(undrift_, name):
    code, lines, _ = undrift_("info", name)
    assert (code, lines[0]) == (0, name)
    if name == "mean_reverting":
        alpha, sigma = MeanReverting().alpha_sigma(torch.tensor(50.5, dtype=torch.float64))
        row = next(line.split() for line in lines if line.split()[:1] == ["50.5"])
        assert row[1:3] == [f"{alpha:.6g}", f"{sigma:.6g}"]


def numbers(lines):
    """The table among the lines: column -> values."""
    head = next(i for i, line in enumerate(lines) if line.split()[:1] == ["step"])
    rows = [line.split() for line in lines[head + 1 :] if line.split()[0].isdigit()]
    columns = zip(*[[0.0 if x == "-" else float(x) for x in row] for row in rows], strict=True)
    return dict(zip(lines[head].split(), columns, strict=True))


def test_the_plan_of_a_run_is_the_run(undrift_, model):
    code, lines, _ = undrift_("info", model, "--steps", 6, "--solver", "ode-2c")
    assert (code, lines[0]) == (0, f"ode-2c: {PRESETS['ode-2c'].about}; 6 network evaluations")
    process, preset = load(model)[0].process, PRESETS["ode-2c"]
    grid = preset.grid(process, 6)
    table, shown = preset.solver.table(process, grid), numbers(lines)
    alpha, sigma = process.alpha_sigma(grid)
    expected = {"t": grid[:-1], "s": grid[1:], "alpha": alpha[:-1], "sigma": sigma[:-1], "carry": table.carry}
    expected |= {f"w_{j}": w for j, w in enumerate(table.weights.unbind(1))}
    expected |= {f"c_{j}": c for j, c in enumerate(table.correction.unbind(1))}
    for name, values in expected.items():
        assert shown[name] == pytest.approx(values.tolist(), abs=6e-5 if name in "ts" else 6e-7)
    assert shown["order"] == (1, 2, 2, 2, 2, 1)
    assert undrift_("info", model, "--solver", "ode-2c", "--steps", 6)[1] == lines
    assert undrift_("info", model, "--steps", 8)[1] == undrift_("info", model, "--solver", "ode-2")[1]


@pytest.mark.parametrize("solver", PRESETS)
def test_planned_evaluations_are_those_of_restore(undrift_, model, solver):
    code, lines, _ = undrift_("info", model, "--steps", 4, "--solver", solver)
    assert code == 0
    calls = restore(*load(model), torch.full((3, 4, 4), 0.5), steps=4, solver=solver).evaluations
    assert sum(numbers(lines)["calls"]) == calls
    assert f"; {calls} network evaluations" in lines[0]


def test_the_plan_of_a_process_by_name(undrift_):
    shown = numbers(undrift_("info", "vp", "--steps", 3, "--solver", "ancestral")[1])
    grid = times.uniform(registry.build("process", {"name": "vp"}), 3)
    assert shown["t"] == pytest.approx(grid[:-1].tolist(), abs=6e-5)


RECIPE = """
process = {name = "mean_reverting"}
prediction = {name = "data"}
network = {name = "unet", channels = [4, 6], blocks = [1, 1], embedding = 8}
space = {name = "residual"}
density = {name = "uniform_lambda"}
weighting = {name = "balanced"}
data = {roots = ["photographs"], hold_out_every = 3, batch = 2, crop = 16}
optimizer = {name = "adamw", lr = 1e-3}
training = {steps = 3000, minutes = 2.5}
"""


def test_a_recipe_before_it_runs(undrift_, photograph, tmp_path):
    for i in range(5):
        photograph(tmp_path / "photographs" / f"{i}.png", 512, 1024)
    (tmp_path / "r.toml").write_text(RECIPE)
    code, lines, errors = undrift_("info", "r.toml")
    found = facts(lines)
    network = UNet(channels=(4, 6), blocks=(1, 1), embedding=8)
    assert (code, errors) == (0, [])
    assert found["photographs"] == "3 to train on, 2 held out"
    assert found["parameters"].startswith(f"{sum(p.numel() for p in network.parameters()):,}; model of ")
    assert found["batch"] == "2 crops of 16 x 16"
    assert found["length"] == "3,000 steps, or 2.5 minutes, whichever ends first"
    assert found["memory"].endswith("photographs 4.5 MiB")  # 3 x 512 x 1024 x 3
    assert "preview/ every 500 steps" in found["writes"]
    assert sorted(os.listdir()) == ["photographs", "r.toml"]
    shutil.rmtree("photographs")
    found = facts(undrift_("info", "r.toml")[1])
    assert found["photographs"] == "MISSING: no such file or folder: photographs"
    assert "photographs" not in found["memory"]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("noise.dat", "noise.dat: a checkpoint is a folder with"),
        ("a.png", "a.png: a checkpoint is a folder with"),
        ("evil.pt", "evil.pt: not opened, for such files can run code"),
        ("empty", "empty: no model.json there: not a checkpoint of undrift"),
        ("nowhere", "unknown model, recipe or process 'nowhere': There are "),
        ("mean_revertin", "unknown model, recipe or process 'mean_revertin': did you mean mean_reverting?"),
        ("noise.toml", "noise.toml: not a recipe in TOML ("),
        ("lost.toml", "no recipe 'lost.toml'"),
        ("short.toml", "the recipe has no [network]; it needs process,"),
        ("wrong.toml", "unknown argument of network unet 'chanels': did you mean channels?"),
        ("bent", "bent: weights.safetensors has"),
        ("torn", "torn/model.json: damaged ("),
        ("lying", "lying: unknown process name"),
        ("lying --steps 3", "unknown process name"),
        ("vp --steps 0", "argument --steps: '0': need a whole number, at least 1"),
        ("vp --solver ode-22", "unknown solver 'ode-22': did you mean ode-2?"),
        ("table --steps 3", "process table: missing a required argument|process table: "),
        ("--steps 3", "--steps and --solver need a model, a recipe or a process"),
    ],
)
def test_garbage_is_one_line(undrift_, photograph, model, tmp_path, argv, line):
    photograph(tmp_path / "a.png")
    for name in ("noise.dat", "noise.toml"):
        (tmp_path / name).write_bytes(bytes(range(256)))
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "empty").mkdir()
    (tmp_path / "short.toml").write_text('process = {name = "vp"}')
    (tmp_path / "wrong.toml").write_text(RECIPE.replace("channels", "chanels"))
    for name, old, new in [
        ("bent", '"embedding": 128', '"embedding": 96'),
        ("torn", "{", ""),
        ("lying", "mean_reverting", "os.system"),
    ]:
        shutil.copytree(model, tmp_path / name)
        card = tmp_path / name / "model.json"
        card.write_text(card.read_text().replace(old, new))
    code, out, errors = undrift_("info", *argv.split())
    assert (code, out, len(errors)) == (2, [], 1)
    assert errors[0].startswith(tuple(f"undrift: {part}" for part in line.split("|")))


def test_a_student_that_stands_in_is_said_and_shown(undrift_):
    """As `undrift restore` and `undrift sample` have it."""
    for model, steps in (("universal", 2), ("fashion", 4)):
        lines = undrift_("info", model, "--steps", steps)[1]
        assert lines[0] == f"{model} is stood in for by its student {model}-student; with --solver it is not"
        assert lines[1].startswith("consistency")
    assert undrift_("info", "fashion-student", "--solver", "consistency")[1][0].startswith("consistency")
    for words in (("universal", "--steps", 3), ("universal", "--steps", 1, "--solver", "ode-1")):
        assert "student" not in undrift_("info", *words)[1][0]
