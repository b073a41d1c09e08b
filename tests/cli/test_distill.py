"""`undrift distill`, and what the other commands make of its students."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from undrift.cli.model import open_model
from undrift.generation import generate
from undrift.restoration import restore
from undrift.training.checkpoint import read_card, student_of

TINY = ("data.batch=4", "training.steps=2", "training.log_every=1", "training.weights=float32", "preview.every=0")


def images(model, count, **options):
    student, space = open_model(model)
    batches = generate(
        student, student.process, space, shape=(1, 8, 8), seeds=range(count), label=torch.arange(count) % 3, **options
    )
    return (torch.cat(list(batches)) * 255).round().byte()[:, 0].numpy()


def made(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("0*.png"))])


def test_without_data_and_the_student_samples_in_two(undrift_, generator, tmp_path):
    command = ("distill", generator, "--preset", "scott-es", "--samples", 40, "-o", "run", *TINY)
    code, lines, _ = undrift_(*command)
    assert code == 0
    assert lines[0] == f"distilling {generator} by scott-es in run"
    assert lines[1].startswith("run/model: 2 steps in 0.")
    assert lines[2] == "sample from it: undrift sample --model run/model"
    assert (tmp_path / "run/samples.npz").is_file()
    code, lines, _ = undrift_("sample", "--model", "run/model", "--count", 4, "-o", "made")
    assert (code, lines[-1]) == (
        0,
        f"4 images, 2 evaluations each with consistency (a student of {generator}): made/grid.png",
    )
    assert np.array_equal(made(tmp_path / "made"), images("run/model", 4, solver="consistency", steps=2))
    assert np.array_equal(made(tmp_path / "made"), images("run/model", 4))
    code, lines, _ = undrift_(
        "sample", "--model", "run/model", "--count", 4, "-o", "slow", "--solver", "ode-1", "--steps", 3
    )
    assert "3 evaluations each with ode-1 (a student" in lines[-1]
    assert np.array_equal(made(tmp_path / "slow"), images("run/model", 4, solver="ode-1", steps=3))
    code, _, error = undrift_("sample", "--model", "run/model", "--guidance", 3)
    assert (code, len(error)) == (2, 1)
    assert "this student was distilled without" in error[0]
    code, lines, _ = undrift_("info", "run/model")
    facts = dict(line.split("  ", 1) for line in lines if "  " in line)
    assert facts["student of"].strip() == generator
    assert "energy" in facts["distilled"]
    assert facts["samples in"].strip().startswith("2 evaluations with consistency")
    assert undrift_("info", "run/model", "--steps", 2)[1][0].startswith("consistency: ")
    # The same command with more steps goes on, with the same samples.
    before = (tmp_path / "run/samples.npz").read_bytes()
    code, lines, _ = undrift_(*command, "training.steps=3")
    assert (code, lines[1].split(" in ")[0]) == (0, "run/model: 3 steps")
    assert (tmp_path / "run/samples.npz").read_bytes() == before


def test_a_student_is_told_its_guidance(undrift_, generator, tmp_path):
    np.savez("own.npz", x_train=np.zeros((12, 8, 8), "u1"), y_train=np.arange(12) % 3)
    code, _, errors = undrift_("distill", generator, "--data", "own.npz", "-o", "run", *TINY, "method.guidance=[1,3]",
                               "critic.rank=1")  # fmt: skip
    assert code == 0, errors
    undrift_("sample", "--model", "run/model", "--count", 3, "-o", "middle")
    code, lines, _ = undrift_("sample", "--model", "run/model", "--count", 3, "-o", "given", "--guidance", 2)
    assert "consistency, guidance 2 (a student of" in lines[-1]
    assert np.array_equal(made(tmp_path / "middle"), made(tmp_path / "given"))
    assert np.array_equal(made(tmp_path / "given"), images("run/model", 3, guidance=torch.tensor(2.0)))
    code, _, error = undrift_("sample", "--model", "run/model", "--guidance", 4)
    assert (code, error) == (2, ["undrift: --guidance 4: this student has seen 1 to 3"])


def test_a_restorer_is_distilled_on_photographs(undrift_, model, photograph, tmp_path):
    for i in range(3):
        photograph(tmp_path / "photographs" / f"{i}.png", 40, 40, seed=i)
    command = ("distill", model, "--preset", "lcm", "--data", "photographs", *TINY, "data.crop=32", "data.canvas=0",
               "data.workers=0", 'data.tasks=["noisy"]')  # fmt: skip
    code, lines, _ = undrift_(*command)
    assert code == 0
    student = "runs/tiny-lcm/model"
    assert lines[2] == f"restore with it: undrift restore PHOTO -o OUT --model {student}"
    code, lines, _ = undrift_("restore", "photographs/0.png", "-o", "out.png", "--model", student)
    assert code == 0
    assert f"2 evaluations by the student {student}" in lines[0]
    pixels = torch.from_numpy(np.asarray(Image.open("photographs/0.png")).copy()).permute(2, 0, 1).float() / 255
    truth = restore(*open_model(student), pixels, steps=2, solver="consistency").image
    shown = torch.from_numpy(np.asarray(Image.open("out.png")).copy()).permute(2, 0, 1)
    assert torch.equal(shown, (truth * 255).round().byte())
    lines = undrift_("restore", "photographs/0.png", "-o", "out.png", "--model", student, "--steps", 1)[1]
    assert f"1 evaluation by the student {student}" in lines[0]
    assert read_card(student)["training"]["recipe"]["method"]["end"] == 6.5


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{generator}", "--preset", "scot"], "unknown preset 'scot': did you mean scott?"),
        (["{model}"], "give --data, a folder of clean photographs"),
        (["fashion-classifier"], "fashion-classifier: a classifier, and only generators and restorers"),
        (["{generator}", "--data", "x.npz", "--samples", "50"], "--samples without --data only"),
        (["{generator}", "--data", "nowhere"], "no labelled images at nowhere"),
        (
            ["{generator}", "--samples", "40", "critic.weigth=1"],
            "unknown key of [critic] 'weigth': did you mean weight?",
        ),
        (["{generator}", "--samples", "40", "method.spacing=log"], "unknown method.spacing 'log'"),
        (["{generator}", "--preset", "lcm", "--samples", "40", "method.start=1"], "set method.spacing=lambda"),
    ],
)
def test_what_is_wrong_is_one_line(undrift_, generator, model, argv, words):
    code, _, errors = undrift_(
        "distill", *(word.format(generator=generator, model=model) for word in argv), "-o", "run"
    )
    errors = [line for line in errors if "sample" not in line or line.startswith("undrift")]
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert not Path("run").exists()  # nothing was made in vain


def test_a_recipe_of_a_distillation_is_explained(undrift_, generator, tmp_path):
    np.savez("own.npz", x_train=np.zeros((12, 8, 8), "u1"), y_train=np.arange(12) % 3)
    undrift_("distill", generator, "--data", "own.npz", "-o", "run", *TINY, "critic.rank=1")
    tables = json.loads((tmp_path / "run/recipe.json").read_text())
    toml = "\n".join(f"{name} = {_toml(table)}" for name, table in tables.items())
    (tmp_path / "again.toml").write_text(toml)
    code, lines, _ = undrift_("info", "again.toml")
    assert code == 0
    facts = dict(line.split("  ", 1) for line in lines)
    assert facts["trains"].strip() == f"a student of {generator}"
    assert facts["critic"].strip().startswith("heads on the teacher (rank = 1")


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


def test_a_bundled_student_stands_in_for_few_evaluations(undrift_, model, photograph, tmp_path, monkeypatch):
    """--steps 1 and 2 without a solver are the student's work, and the demo shows both; 3, or a solver, are not."""
    photograph(tmp_path / "photographs/0.png", 40, 40)
    undrift_("distill", model, "--preset", "lcm", "--data", "photographs", *TINY, "data.crop=32", "data.canvas=0",
             "data.workers=0", 'data.tasks=["noisy"]', "data.hold_out_every=0")  # fmt: skip
    student, folder = "teacher-student", tmp_path / "models"
    shutil.copytree("runs/tiny-lcm/model", folder / student)
    shutil.copytree(model, folder / "teacher")
    card = json.loads((folder / student / "model.json").read_text())
    card["training"]["recipe"]["method"]["teacher"] = "teacher"
    (folder / student / "model.json").write_text(json.dumps(card))
    monkeypatch.setattr("undrift.training.checkpoint.resources", SimpleNamespace(files=lambda package: tmp_path))
    assert (student_of("teacher"), student_of(student), student_of("nobody")) == (student, None, None)
    run = ("restore", "photographs/0.png", "-o", "out.png", "--model", "teacher", "--steps")
    assert f"1 evaluation by the student {student}" in undrift_(*run, 1)[1][0]
    assert Image.open("out.png").text["model"] == student
    assert f"2 evaluations by the student {student}" in undrift_(*run, 2)[1][0]
    assert "student" not in undrift_(*run, 3)[1][0]
    assert "student" not in undrift_(*run, 1, "--solver", "ode-1")[1][0]
    code, lines, _ = undrift_("demo", "--model", "teacher", "--size", 40, "--steps", 3, "--baseline-steps", 3)
    assert code == 0
    assert "student, consistency:2" in lines[0]
    assert len([line for line in lines if "times faster than ode-2:3 by its student" in line]) == 1
    assert len([line for line in lines if "times faster than posterior:3 on the same network" in line]) == 1
    assert len(lines[3].split()) == 1 + 2 + 3 * 4
    (tmp_path / "teacher").mkdir()  # somebody's own folder of that name has no bundled student
    assert student_of("teacher") is None
