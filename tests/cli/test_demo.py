"""`undrift demo` prints what the metrics say of what the API restores."""

import xml.etree.ElementTree as ET

import pytest
import torch
from PIL import Image

from undrift.cli.model import open_model as load
from undrift.degradations import TASKS
from undrift.evaluation import PHOTOGRAPHS, PROTOCOLS, scenes
from undrift.metrics import haarpsi, psnr, ssim
from undrift.restoration import restore

FAST = ("--size", 40, "--steps", 2, "--seed", 3, "--threads", 1, "--device", "cpu")


@pytest.fixture
def demo(undrift_, model):
    code, lines, errors = undrift_("demo", "--model", model, *FAST, "--baseline-steps", 3)
    assert (code, errors) == (0, [])
    return lines


def test_the_table_is_what_the_metrics_say(demo, model):
    rows = {line.split()[0]: [float(cell) for cell in line.split()[1:]] for line in demo[3:13]}
    assert list(rows) == list(TASKS)
    loaded = load(model)
    columns = []
    for scene in scenes(40, seed=3):
        shown = []
        for steps, solver in ((0, ""), (2, "ode-2"), (3, "posterior")):
            image = restore(*loaded, scene.y, steps=steps, solver=solver, seed=3).image if steps else scene.y
            pair = scene.x[None], image[None]
            shown += [psnr(*pair).item(), ssim(*pair).item(), haarpsi(*pair).item()]
        p0, s0, _, p1, s1, _, p2, s2, _ = shown
        found = rows[scene.task]
        assert found[:4] + found[6:8] == pytest.approx([p0, s0, p1, s1, p2, s2], abs=0.006)
        assert (found[4], found[8]) == (2, 3)
        columns.append(shown)
    means = torch.tensor(columns).mean(0).tolist()
    mean = [float(cell) for cell in demo[14].split()[1:]]
    assert demo[14].startswith("mean")
    assert mean[:3] == pytest.approx([means[0], means[1], means[3]], abs=0.006)
    summary = next(line for line in demo if line.startswith("HaarPSI, mean"))
    shown = [float(word.rstrip(".")) for part in summary.split(",")[1:] for word in part.split()[-1:]]
    assert shown == pytest.approx(means[2::3], abs=6e-4)


def test_each_protocol_is_said_once(demo):
    for name in ("psnr", "ssim", "haarpsi"):
        assert demo.count(PROTOCOLS[name]) == 1
    assert sum("times faster" in line for line in demo) == 1


def test_the_picture_and_the_page_are_there(demo, tmp_path):
    assert demo[-2:] == ["undrift-demo/before-after.png", "undrift-demo/report.html"]
    picture = Image.open(tmp_path / demo[-2])
    assert min(picture.size) > 5 * 40
    text = (tmp_path / demo[-1]).read_text(encoding="utf-8")
    root = ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    compared = root.findall(".//figure[@class='compare']")
    assert [figure.find("figcaption/b").text for figure in compared] == list(TASKS)
    assert {len(list(figure.iter("img"))) for figure in compared} == {4}
    assert all(name in text for name in PHOTOGRAPHS.values())
    cells = [cell.text for cell in root.find(".//tfoot/tr")]
    assert cells == demo[14].split()


def test_the_baseline_can_be_left_out(undrift_, model):
    code, lines, errors = undrift_("demo", "--model", model, *FAST, "--baseline-steps", 0, "-o", "a/b")
    assert (code, errors) == (0, [])
    assert "posterior" not in "\n".join(lines)
    assert lines[-1] == "a/b/report.html"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--model", "nowhere"), "no model 'nowhere'"),
        (("--solver", "ode-22"), "did you mean ode-2"),
        (("--size", "300"), "at most 256"),
        (("--steps", "0"), "at least 1"),
        (("-o", "/proc/demo"), "cannot write to the folder /proc/demo"),
    ],
)
def test_what_is_wrong_is_one_line(undrift_, model, tmp_path, argv, message):
    given = argv if "--model" in argv else (*argv, "--model", model)
    code, lines, errors = undrift_("demo", *given)
    assert (code, lines, len(errors)) == (2, [], 1)
    assert message in errors[0]
    assert list(tmp_path.iterdir()) == []
