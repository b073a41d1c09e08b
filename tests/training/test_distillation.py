"""Distillations at the smallest scale: presets, data-free data, the panel, and resuming bit for bit."""

import json
import os
import signal
import threading
import time
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import undrift
from undrift.classify import NoisyClassifier
from undrift.cli.main import main
from undrift.data import Batch, generator
from undrift.evaluation import Setting, restored, sampler
from undrift.generation import generate, in_lambda
from undrift.methods import Contest, Energy, Hinge, LeastSquares, Scott, Squared, balance
from undrift.metrics import psnr
from undrift.networks import Classifier, UNet
from undrift.noise import PerSample
from undrift.process import ERSDE5
from undrift.solvers import Consistency, Exponential, consistency_map
from undrift.training import state
from undrift.training.build import build
from undrift.training.checkpoint import load, read_card
from undrift.training.distillation import distillation
from undrift.training.presets import PRESETS, distilling
from undrift.training.preview import Preview
from undrift.training.recipe import override
from undrift.training.run import train
from undrift.training.samples import SOLVER, STEPS, teacher_samples

FACTS = {"shape": [1, 8, 8], "classes": ["cat", "dog", "ant bear"]}
TINY = ["data.batch=4", "training.log_every=1", "training.weights=float32", "preview.samples=12", "preview.every=3"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A generator, a classifier of its images, its samples, a restorer, photographs."""
    home = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    network = UNet((8, 8), (1, 1), in_channels=1, cond_channels=0, classes=3, embedding=8)
    denoiser = undrift.Denoiser(network, undrift.VP(), undrift.prediction.velocity(0.5), scale=0.5)
    undrift.save(home / "generator", denoiser, undrift.Pixels(), FACTS)
    classifier = NoisyClassifier(Classifier(classes=3, channels=(8, 12), embedding=16), undrift.VP(), scale=0.5)
    undrift.save(home / "classifier", classifier, undrift.Pixels(), FACTS)
    network = UNet(channels=(4, 6), blocks=(1, 1), embedding=8)
    process = undrift.MeanReverting(lam=10 / 255)
    denoiser = undrift.Denoiser(network, process, undrift.prediction.Data(0.05), scale=0.25)
    undrift.save(home / "restorer", denoiser, undrift.Residual())
    random = torch.Generator().manual_seed(0)
    (home / "photographs").mkdir()
    for i in range(5):
        coarse = torch.rand(1, 3, 5, 5, generator=random)
        smooth = torch.nn.functional.interpolate(coarse, (40, 48), mode="bicubic").clamp(0, 1)[0]
        Image.fromarray((smooth * 255).byte().permute(1, 2, 0).numpy()).save(home / "photographs" / f"{i}.png")
    teacher_samples(home / "generator", home / "samples.npz", 60)
    names = {name: str(home / name) for name in ("generator", "classifier", "restorer", "photographs", "samples.npz")}
    return SimpleNamespace(home=home, samples=names.pop("samples.npz"), **names)


def test_samples_are_the_teachers_and_made_once(world):
    with np.load(world.samples) as file:
        x, y, held = file["x_train"], file["y_train"], file["x_test"]
        assert (len(x), len(held), np.bincount(y).tolist(), file["y_test"].tolist()) == (54, 6, [18] * 3, [0, 1, 2] * 2)
    teacher, space = load(world.generator)
    seeds = [generator("teacher", 0, i).initial_seed() for i in range(3)]
    images = next(
        generate(
            teacher, teacher.process, space, shape=(1, 8, 8), seeds=seeds, steps=STEPS, solver=SOLVER,
            label=torch.arange(3),
        )
    )  # fmt: skip
    assert np.abs(x[:3, ..., 0].astype(int) - (images[:, 0] * 255).round().numpy()).max() <= 1
    before = os.stat(world.samples).st_mtime_ns
    teacher_samples(world.generator, world.samples, 60)
    assert os.stat(world.samples).st_mtime_ns == before
    with pytest.raises(ValueError, match=r"holds other samples, .*\"count\": 60.* than .*\"count\": 80"):
        teacher_samples(world.generator, world.samples, 80)


@pytest.mark.filterwarnings("ignore:Contest time")
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_what_they_say(world, preset):
    method, student, _ = distillation(distilling(world.generator, preset, world.samples))
    solver = Exponential(1) if preset == "lcm" else Exponential(2, tau=ERSDE5())
    assert (method.solver, method.segments) == (solver, 1)
    assert student.student
    expected = {"lcm": (1000, 20, 1), "scott-paper": (1000, 24, 3), "scott": (120, 3, 3), "scott-es": (120, 3, 3)}
    assert (len(method.grid) - 1, method.jump, method.substeps) == expected[preset]
    steps = (
        method.grid.diff() if preset in ("lcm", "scott-paper") else method.process.half_log_snr(method.grid[:-1]).diff()
    )
    torch.testing.assert_close(steps[1:-1], steps[1:-1].mean().expand(len(steps) - 2))
    assert (method.critic is None) == (preset in ("lcm", "scott-es"))
    assert (type(method.distance), student.noise_channels) == ((Energy, 1) if preset == "scott-es" else (Squared, 0))
    if method.critic is not None:
        rules = {"scott-paper": (Hinge(), "published"), "scott": (LeastSquares(), "noised")}[preset]
        assert (method.contest.weight, method.contest.game, method.contest.time) == (0.4, *rules)
        assert method.critic.network.arguments["rank"] == 16


def test_a_key_adds_a_critic_and_a_restorer_is_taught_to_finer_noise(world):
    table = override(distilling(world.generator, "scott-es", world.samples), ["critic.weight=0.1"])
    assert distillation(table)[0].contest.weight == 0.1
    method, _, _ = distillation(distilling(world.restorer, "scott", world.photographs))
    assert method.process.half_log_snr(method.grid[-2]).item() == pytest.approx(6.5)


def test_what_cannot_be_is_one_line(world, tmp_path):
    student = train(override(distilling(world.generator, "lcm", world.samples), [*TINY, "training.steps=1"]), tmp_path)
    np.savez(tmp_path / "two.npz", x_train=np.zeros((9, 8, 8), "u1"), y_train=np.arange(9) % 2)
    np.savez(tmp_path / "large.npz", x_train=np.zeros((9, 9, 9), "u1"), y_train=np.arange(9) % 3)
    for teacher, data, words in (
        (world.classifier, world.samples, "a classifier, and only generators and restorers can be distilled"),
        (student.model, world.samples, f"a student itself, .* distil its teacher, {world.generator}"),
        (world.generator, tmp_path / "two.npz", "2 classes, but .* knows 3: cat, dog, ant bear"),
        (world.generator, tmp_path / "large.npz", r"images of \(1, 9, 9\), but .* makes \(1, 8, 8\)"),
        (world.restorer, None, "give --data, a folder of clean photographs"),
        ("fashon", world.samples, "no model 'fashon'"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words) as error:
            distilling(str(teacher), "scott", data)
        assert "\n" not in str(error.value)
    table = distilling(world.restorer, "scott", world.photographs)
    with pytest.raises(ValueError, match="knows no classes to be guided to"):
        distillation(override(table, ["method.guidance=[1,3]"]))
    with pytest.raises(ValueError, match="distance perceptual: needs features of a generator"):
        distillation(override(table, ['method.distance={name="perceptual"}']))
    with pytest.raises(ValueError, match="samples = 3: need at least 10"):
        Preview(samples=3)


def test_sub_steps_are_even_in_what_the_grid_is(world):
    for spacing in ("lambda", "time"):
        table = distilling(world.generator, "lcm", world.samples)
        grid = ["method.nodes=3", "method.jump=1", "method.substeps=4", f'method.spacing="{spacing}"']
        method, _, _ = distillation(override(table, grid))
        times = method.jumps(torch.arange(2))[0]
        even = times if spacing == "time" else method.process.half_log_snr(times)
        torch.testing.assert_close(even.diff(dim=0), even.diff(dim=0).mean(0).expand(4, 2))


def test_a_distance_in_the_teachers_features(world):
    """Those of clean states at the level, told no class: nothing of them changes in training, and the student does."""
    settings = ['method.distance={name="perceptual", level=0.5, pixels=0.1}', "method.nodes=4", "method.jump=2"]
    table = override(distilling(world.generator, "lcm", world.samples), settings)
    method, student, _ = distillation(table)
    teacher = load(world.generator)[0]
    z = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = teacher.process.time(torch.tensor(0.5))
    alpha, sigma = teacher.process.alpha_sigma(t)
    c_in = ((0.5 * alpha) ** 2 + sigma**2) ** -0.5
    wanted = teacher.network.features((c_in * z).float(), torch.full((2,), -0.5), label=torch.full((2,), 3))
    for ours, theirs in zip(method.distance.features(z, 0.5), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
    data = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    batch = Batch(data, cond={"label": torch.arange(6) % 3})
    loss, _ = method.loss("student", batch, torch.Generator().manual_seed(2))
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in student.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())


def test_a_student_counts_the_tasks_as_its_teacher_does(world, tmp_path):
    network = UNet((4, 4), (1, 1), classes=2, embedding=8, context=0)
    teacher = undrift.Denoiser(network, load(world.restorer)[0].process, undrift.prediction.Data())
    undrift.save(tmp_path / "told", teacher, undrift.Residual(), {"tasks": ["hazy", "noisy"]})
    table = distilling(str(tmp_path / "told"), "lcm", world.photographs)
    same = override(table, ["data.told=0.5", 'data.tasks=["hazy", "noisy"]', "data.crop=16", "data.canvas=16"])
    assert build(same).model.tasks == ("hazy", "noisy")
    with pytest.raises(ValueError, match="the teacher counts hazy, noisy: keep these in this order"):
        build(override(same, ['data.tasks=["noisy", "hazy"]']))


def recipe(world):
    settings = [
        *TINY,
        "training.steps=7",
        "training.save_every=2",
        "critic.rank=2",
        f"preview.features={world.classifier}",
    ]
    return override(distilling(world.generator, "scott", world.samples), settings)


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(recipe(world), folder)
    return folder


def test_killed_and_resumed_is_bit_for_bit_the_whole_run(world, whole, tmp_path):
    def watch():
        while not ((tmp_path / "log.jsonl").is_file() and len(lines(tmp_path)) >= 4):
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    stopped = train(recipe(world), tmp_path)
    thread.join()
    assert 3 <= stopped.step < 7
    assert train(recipe(world), tmp_path).finished
    mine, other = (state.latest(folder / "state") for folder in (tmp_path, whole))
    assert mine["trained"].keys() == {"critic", "student"}
    for part in ("trained", "method", "average", "optimizers"):
        ours, theirs = (dict(_tensors(saved[part])) for saved in (mine, other))
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    shown = [[line for line in lines(folder) if "panel/leak" in line] for folder in (tmp_path, whole)]
    assert shown[0] == shown[1]


def _tensors(tree, path=""):
    if torch.is_tensor(tree):
        yield path, tree
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield from _tensors(value, f"{path}/{key}")


def test_the_panel_writes_what_it_promises(world, whole):
    shown = [line for line in lines(whole) if "panel/leak" in line]
    assert [line["step"] for line in shown] == [3, 6, 7]
    names = {f"panel/{measure}/{n}" for measure in ("fd", "coverage") for n in (1, 2, 4, "teacher")}
    assert names | {"panel/leak", "panel/ratio"} <= shown[0].keys()
    assert {line["panel/leak"] for line in shown} == {0.5}  # one time for real and generated: nothing to hear
    assert len({line["panel/fd/teacher"] for line in shown}) == 1
    best = min(shown, key=lambda line: line["panel/fd/2"])
    facts = read_card(whole / "best")["training"]
    assert facts["steps"] == best["step"]
    assert (
        facts["panel"] == f"best by Fréchet distance in 2 evaluations: {best['panel/fd/2']:.4g} at step {best['step']}"
    )
    page = (whole / "report.html").read_text()
    assert len(ElementTree.fromstring(page.split("\n", 1)[1]).findall(".//{http://www.w3.org/2000/svg}svg")) >= 3
    assert facts["panel"] in page
    assert Image.open(whole / "preview" / "step-00000007.png").size[0] > 10 * 72


def test_a_student_of_few_times_is_shown_and_loaded_with_them(world, tmp_path):
    few = ["method.nodes=2", "method.jump=1", "training.steps=1", f"preview.features={world.classifier}"]
    table = override(distilling(world.generator, "lcm", world.samples), [*TINY, *few, "method.spacing=lambda"])
    made = train(table, tmp_path / "run")
    assert {f"panel/fd/{n}" in lines(tmp_path / "run")[-1] for n in (1, 2)} == {True}
    assert "panel/fd/4" not in lines(tmp_path / "run")[-1]
    student, space = load(made.model)
    assert student.taught == tuple(in_lambda(student.process, 2)[:-1].tolist())
    with pytest.raises(ValueError, match="4 evaluations of a student that leaps from 2 times"):
        next(generate(student, student.process, space, shape=(1, 8, 8), seeds=[0], label=torch.tensor([0]), steps=4))
    with pytest.raises(ValueError, match=r"preview.steps = 4: a student of method.nodes = 2 and .* no more than nodes"):
        train(override(table, ["preview.steps=4"]), tmp_path / "other")


def test_a_student_of_segments_leaps_to_their_ends(world, tmp_path, capsys):
    many = [
        "method.nodes=4",
        "method.segments=2",
        "method.jump=2",
        "training.steps=2",
        f"preview.features={world.classifier}",
    ]
    table = override(distilling(world.generator, "lcm", world.samples), [*TINY, *many, "method.spacing=lambda"])
    made = train(table, tmp_path / "run")
    shown = lines(tmp_path / "run")[-1]
    assert {f"panel/fd/{n}" in shown for n in (2, 4)} == {True}
    assert "panel/fd/1" not in shown
    student, space = load(made.model)
    assert student.edges == (student.taught[2],)
    told = {"shape": (1, 8, 8), "seeds": [3], "label": torch.tensor([1])}
    ours = next(generate(student, student.process, space, **told))
    noise = PerSample([3])
    z = (
        noise(torch.zeros(1, 1, 8, 8), torch.ones(()), torch.ones(()))
        * student.process.alpha_sigma(torch.tensor(1.0))[1]
    )
    for t, end in ((student.taught[0], student.taught[2]), (student.taught[2], 0.0)):
        times = torch.tensor([t, end], dtype=torch.float64)
        z = consistency_map(student, student.process, z.float(), *times, label=torch.tensor([1]))
    torch.testing.assert_close(ours, space.decode(z).clamp(0, 1), rtol=1e-4, atol=1e-4)
    stamp = sampler(student, space, "consistency:2", (1, 8, 8), classes=10).facts
    assert stamp["solver"] == repr(Consistency(edges=student.edges))
    with pytest.raises(ValueError, match="evaluations = 1: a student of 2 segments needs one for each"):
        next(generate(student, student.process, space, steps=1, **told))
    with pytest.raises(ValueError, match=r"preview.steps = 1: a student of method.nodes = 4 and method.segments = 2"):
        train(override(table, ["preview.steps=1"]), tmp_path / "other")
    assert main(["info", str(made.model), "--steps", "2"]) == 0
    assert main(["info", str(made.model), "--steps", "1"]) == 2
    assert "a student of 2 segments" in capsys.readouterr().err


def test_a_student_of_zero_rate_is_measured_as_its_teacher_would_be(world, tmp_path):
    """Of a restorer; the panel's PSNR in one jump is that of the teacher itself, asked to jump."""
    settings = [
        *TINY, 'data.tasks=["noisy","low-light"]', "data.crop=24", "data.canvas=0", "data.workers=0",
        "data.batch=2", "data.hold_out_every=2", "preview.size=32", "optimizer.lr=0.0", "training.steps=3",
    ]  # fmt: skip
    table = override(distilling(world.restorer, "scott", world.photographs), settings)
    train(table, tmp_path)
    values = next(line for line in lines(tmp_path) if "panel/psnr/1" in line)
    teacher, space = load(world.restorer)
    from undrift.training.sources import source

    data = source(table)
    sheet = Preview(size=32).sheet(data.split()[1], data.chosen(), tmp_path)
    for name, setting in {
        "1": Setting("consistency", 1),
        "2": Setting("consistency", 2),
        "teacher": Setting("ode-2", 8),
    }.items():
        rows = [restored(teacher, space, sheet.y[i : i + 1], setting, [[i]]) for i in range(2)]
        truth = psnr(sheet.x, torch.cat(rows)).mean().item()
        assert values[f"panel/psnr/{name}"] == pytest.approx(truth, abs=1e-3)
    assert (tmp_path / "best" / "model.json").is_file()
    student, _ = load(tmp_path / "model")
    y = sheet.y[0]
    assert student.student
    assert not teacher.student
    found = undrift.restoration.restore(student, space, y)
    asked = undrift.restoration.restore(student, space, y, steps=2, solver="consistency")
    assert found.evaluations == 2
    assert torch.equal(found.image, asked.image)


class Linear(nn.Module):
    """Logits w . z."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, 4))

    def forward(self, z, t):
        return (z * self.w).sum(1, keepdim=True)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.7))

    def forward(self, z, t):
        return self.a * z


def test_the_balance_is_the_ratio_of_the_gradients():
    """d (-w mean D)/df = -weight w / B for every sample; d mean (f - y)^2/df = 2 (f - y) / (d B)."""
    process, critic = undrift.VP(), Linear()
    contest = Contest(weight=0.25, game=Hinge(), time="shared")
    method = Scott(
        Scaled(), Scaled(), process, undrift.Pixels(centred=False), undrift.times.uniform_lambda(process, 12),
        Exponential(1), jump=3, critic=critic, contest=contest,
    )  # fmt: skip
    batch = Batch(torch.rand(8, 4, generator=torch.Generator().manual_seed(0)))
    drawn = method._draw(batch, torch.Generator().manual_seed(1))
    louder = 0.25 * critic.w.norm() / 8**0.5
    other = 2 * (drawn.draws[0] - drawn.target).norm() / (4 * 8)
    assert balance(method, batch, torch.Generator().manual_seed(1)) == pytest.approx((louder / other).item(), rel=1e-5)
    assert all(p.grad is None for module in (critic, method.student) for p in module.parameters())
