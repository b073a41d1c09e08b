"""`undrift evaluate` prints and keeps what the library measures, and goes on where it was interrupted."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from undrift import load
from undrift.cli import assessment
from undrift.data import read, write
from undrift.evaluation import Photographs, Setting, assess

FAST = ("--size", 32, "--steps", 2, 3, "--baseline", "posterior:4", "--threads", 1, "--device", "cpu")
TASKS = ("--tasks", "noisy", "rainy")
SETTINGS = ["degraded", "ode-1:1", "ode-2:2", "ode-2:3", "posterior:4"]


@pytest.fixture
def evaluate(undrift_, photograph, model, tmp_path):
    """evaluate(*argv) on two photographs -> (exit code, lines, errors)."""
    for i in range(2):
        photograph(tmp_path / "clean" / f"{i}.png", 36, 40, seed=i)
    return lambda *argv: undrift_("evaluate", "--data", "clean", "--model", model, *FAST, *argv)


def kept(folder="undrift-evaluation"):
    with open(f"{folder}/results.json", encoding="utf-8") as file:
        return json.load(file)


def numbers(tasks):
    """Without what depends on the clock."""
    return {
        t: {s: {k: v for k, v in row.items() if k != "seconds"} for s, row in rows.items()} for t, rows in tasks.items()
    }


def test_all_forms_say_what_the_library_measures(evaluate, model, tmp_path):
    code, lines, errors = evaluate(*TASKS, "--samples", 2)
    assert (code, errors) == (0, [])
    settings = ["degraded", "ode-1:1", "ode-2:2", "ode-2:3", "ode-2:2*2", "posterior:4"]
    tasks = kept()["tasks"]
    assert {task: list(rows) for task, rows in tasks.items()} == {"noisy": settings, "rainy": settings}
    found = assess(*load(model), Photographs("clean", size=32).pairs("rainy"), Setting("ode-2", 2, 2)).values
    for name in ("psnr", "ssim", "psnr_y", "ssim_y", "haarpsi", "swd", "brightness", "evaluations"):
        assert tasks["rainy"]["ode-2:2*2"][name] == pytest.approx(found[name], rel=1e-4), name

    mean = {name: (tasks["noisy"]["ode-2:3"][name] + tasks["rainy"]["ode-2:3"][name]) / 2 for name in ("psnr", "ssim")}
    start = lines.index("mean of 2 tasks")
    row = next(line for line in lines[start:] if line.startswith("ode-2:3")).split()
    assert [float(cell) for cell in row[1:3]] == pytest.approx([mean["psnr"], mean["ssim"]], abs=0.006)
    assert f"| ode-2:3 | {row[1]} | {row[2]} |" in (tmp_path / "undrift-evaluation/results.md").read_text()

    assert lines[-4:] == [
        f"undrift-evaluation/{name}" for name in ("results.json", "results.md", "curves.svg", "report.html")
    ]
    ET.parse("undrift-evaluation/curves.svg")
    page = (tmp_path / "undrift-evaluation/report.html").read_text(encoding="utf-8")
    root = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    first = [[cell.text for cell in row] for row in root.find(".//tbody")]
    assert next(cells for cells in first if cells[0] == "ode-2:3") == row
    assert {len(list(figure.iter("img"))) for figure in root.findall(".//figure[@class='compare']")} == {7}
    assert kept()["stamp"]["model"]["weights"] in page


def test_an_interrupted_evaluation_goes_on(evaluate, monkeypatch):
    assert evaluate(*TASKS, "-o", "whole")[0] == 0
    measured = []

    def until_tired(*positional, **named):
        if len(measured) == 4:
            raise KeyboardInterrupt
        measured.append(str(positional[3]))
        return assess(*positional, **named)

    monkeypatch.setattr(assessment, "assess", until_tired)
    code, _, errors = evaluate(*TASKS, "-o", "part")
    assert (code, errors) == (130, ["undrift: interrupted"])
    assert list(kept("part")["tasks"]["noisy"]) == SETTINGS[:4]
    measured.clear()
    assert evaluate(*TASKS, "-o", "part")[0] == 130
    measured.clear()
    assert evaluate(*TASKS, "-o", "part")[0] == 0
    assert measured == SETTINGS[3:]
    assert numbers(kept("part")["tasks"]) == numbers(kept("whole")["tasks"])
    assert kept("part")["stamp"] == kept("whole")["stamp"]


def test_what_is_known_is_not_measured_again(evaluate, monkeypatch):
    assert evaluate("--tasks", "noisy")[0] == 0
    measured = []
    monkeypatch.setattr(
        assessment, "assess", lambda *a, **k: measured.append((a[3].solver, a[3].evaluations)) or assess(*a, **k)
    )
    assert evaluate("--tasks", "noisy", "--solver", "ode-2", "sde-1:2")[0] == 0
    assert measured == [("sde-1", 2)]
    assert evaluate(*TASKS)[0] == 0
    assert len(measured) == 1 + len(SETTINGS)
    assert list(kept()["stamp"]["data"]) == ["noisy", "rainy"]


def test_other_numbers_are_not_mixed_in(evaluate):
    assert evaluate("--tasks", "noisy")[0] == 0
    for changed, what in ((("--size", 30), "data.noisy.size"), (("--seed", 1), "seed"), (("--limit", 1), "data.noisy")):
        code, _, (error,) = evaluate("--tasks", "noisy", *changed)
        assert code == 2
        assert f"was made with another {what}" in error


def test_the_size_of_the_batch_moves_no_number(evaluate):
    for batch in (1, 2):
        assert evaluate("--tasks", "noisy", "--batch", batch, "-o", str(batch))[0] == 0
    one, two = (kept(folder)["tasks"]["noisy"] for folder in "12")
    for setting in SETTINGS:
        assert one[setting]["psnr"] == pytest.approx(two[setting]["psnr"], abs=0.002)


def test_pairs_are_read_as_they_are(evaluate, undrift_, model):
    for name in ("0.png", "1.png"):
        clean = read(f"clean/{name}").pixels
        for side, image in (("LQ", clean / 2), ("GT", clean)):
            Path(f"pairs/dark/{side}").mkdir(parents=True, exist_ok=True)
            write(f"pairs/dark/{side}/{name}", image)
    code, _, errors = evaluate("--data", "pairs", "--paired")
    assert (code, errors) == (0, [])
    assert kept()["tasks"]["dark"]["degraded"]["brightness"] == pytest.approx(0.5, abs=0.01)


def test_two_results_are_compared_only_if_they_are_alike(evaluate, undrift_):
    assert evaluate("--tasks", "noisy", "-o", "a")[0] == 0
    shutil.copytree("a", "b")
    with open("b/results.json", encoding="utf-8") as file:
        other = json.load(file)
    other["stamp"]["model"]["weights"] = "others"
    other["tasks"]["noisy"]["ode-2:3"]["psnr"] += 1.25
    with open("b/results.json", "w", encoding="utf-8") as file:
        json.dump(other, file)
    code, lines, errors = undrift_("evaluate", "--compare", "a", "b/results.json")
    assert (code, errors) == (0, [])
    start = lines.index("ode-2:3")
    mean = next(line for line in lines[start:] if line.startswith("mean")).split()
    a, b, gap, *rest = map(float, mean[1:])
    assert (gap, b - a) == (1.25, pytest.approx(1.25, abs=0.011))
    assert rest[2::3] == [0, 0, 0]
    assert evaluate("--tasks", "noisy", "-o", "c", "--size", 28)[0] == 0
    code, lines, (error,) = undrift_("evaluate", "--compare", "a", "c")
    assert (code, lines) == (2, [])
    assert "cannot compare" in error


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--data", "empty"), "no images in empty"),
        (("--data", "nowhere"), "no folder nowhere"),
        (("--tasks", "nosy"), "did you mean noisy"),
        (("--solver", "ode-2:many"), "need solver:evaluations"),
        (("--solver", "odd-2"), "did you mean ode-2"),
        (("--baseline", "posterior"), "need solver:evaluations"),
        (("--model", "nowhere"), "no model 'nowhere'"),
        (("--steps", "0"), "at least 1"),
        (("--paired",), "expected <task>/LQ"),
        (("--lpips",), "LPIPS needs alexnet"),
        (("--fid", "nowhere.pt"), "FID needs a TorchScript Inception"),
        (("-o", "/proc/evaluation"), "cannot write to the folder"),
        (("--size", "12"), "SSIM needs 11 x 11"),
        (("--compare", "nowhere", "empty"), "no results in nowhere"),
    ],
)
def test_what_is_wrong_is_one_line(evaluate, monkeypatch, tmp_path, argv, message):
    monkeypatch.delenv("UNDRIFT_WEIGHTS", raising=False)
    (tmp_path / "empty").mkdir()
    code, lines, errors = evaluate(*argv)
    assert (code, lines, len(errors)) == (2, [], 1)
    assert message in errors[0]


def test_there_must_be_something_to_restore(undrift_):
    code, _, (error,) = undrift_("evaluate")
    assert code == 2
    assert "give --data DIR" in error


def test_a_student_is_compared_with_nothing_unless_asked(undrift_, photograph, tmp_path):
    """Its steps sample no posterior."""
    photograph(tmp_path / "clean" / "0.png", 36, 40)
    told = ("evaluate", "--data", "clean", "--size", 32, "--tasks", "noisy", "--steps", 2, "--threads", 1)
    assert undrift_(*told, "--model", "universal-student")[0] == 0
    assert list(kept()["tasks"]["noisy"]) == ["degraded", "ode-1:1", "consistency:2"]
