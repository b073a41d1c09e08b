import json

import pytest
import torch

from undrift import Denoiser, MeanReverting, PerSample, Residual, metrics, prediction, sample, save
from undrift.data import Degraded, generator, read, write
from undrift.degradations import TASKS
from undrift.evaluation import (
    DEGRADED,
    PHOTOGRAPHS,
    Benchmark,
    Measures,
    Photographs,
    Results,
    Setting,
    assess,
    compare,
    fingerprint,
    restored,
    scenes,
    stamp,
)
from undrift.networks import UNet
from undrift.restoration import PRESETS, restore

ODE = Setting("ode-2", 3)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = UNet(channels=(8, 16), blocks=(1, 1), embedding=8)
    return Denoiser(network, MeanReverting(lam=0.1), prediction.Data(0.2), scale=0.2).eval(), Residual()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("clean")
    rng = torch.Generator().manual_seed(1)
    for i, (height, width) in enumerate([(40, 48), (40, 48), (36, 33)]):
        smooth = torch.nn.functional.interpolate(
            torch.rand(1, 3, 5, 6, generator=rng), (height, width), mode="bilinear"
        )
        write(root / f"{i}.png", smooth[0])
    return root


def test_settings_read_as_they_are_written():
    for spec in ("ode-2:8", "posterior:100", "sde-1:5*4", "blind-ode-2:8*2"):
        assert str(Setting.parse(spec)) == spec
    assert Setting.parse("ode-2:8*4") == Setting("ode-2", 8, 4)
    assert str(DEGRADED) == "degraded"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ode-2", "need solver:evaluations"),
        ("ode-2:x", "need solver:evaluations"),
        ("ode-2:8*", "need solver:evaluations"),
        ("ode-2:0", "at least 1"),
        ("ode-2:8*0", "at least 1"),
        ("odd-2:8", "did you mean ode-2"),
        ("degraded:1", "unknown solver"),
    ],
)
def test_bad_specs_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        Setting.parse(spec)


def test_photographs_are_degraded_crops_of_the_files(folder):
    tasks = {name: TASKS[name] for name in ("hazy", "noisy")}
    crops = [read(path).pixels[:, 4:36, 8:40] for path in sorted(folder.iterdir())[:2]]
    expected = Degraded(crops, tasks, seed=5)
    pairs = Photographs(folder, ["hazy", "noisy"], size=32, limit=2, seed=5)
    found = [pair for task in pairs.tasks for pair in pairs.pairs(task)]
    assert [(p.task, p.name) for p in found] == [("hazy", "0"), ("hazy", "1"), ("noisy", "0"), ("noisy", "1")]
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)


def test_photographs_smaller_than_the_crop_are_whole(folder):
    sizes = [tuple(pair.x.shape[1:]) for pair in Photographs(folder, ["noisy"], size=40).pairs("noisy")]
    assert sizes == [(40, 40), (40, 40), (36, 33)]
    assert next(iter(Photographs(folder, ["noisy"], size=0).pairs("noisy"))).x.shape == (3, 40, 48)


def test_benchmark_reads_the_official_layout(tmp_path, folder):
    x = read(folder / "0.png").pixels
    for side, image in (("LQ", x / 2), ("GT", x)):
        for task in ("hazy", "rainy"):
            (tmp_path / task / side).mkdir(parents=True)
            write(tmp_path / task / side / "a.png", image)
    pairs = Benchmark(tmp_path, size=16)
    assert pairs.tasks == ("hazy", "rainy")
    (pair,) = pairs.pairs("rainy")
    assert torch.equal(pair.x, x[:, 12:28, 16:32])
    assert pair.y.sub(x[:, 12:28, 16:32] / 2).abs().max() < 3e-3
    with pytest.raises(ValueError, match="did you mean hazy"):
        Benchmark(tmp_path, ["hazi"])


def test_bad_sets_are_refused(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="no folder"):
        Photographs(tmp_path / "none")
    with pytest.raises(ValueError, match="no images"):
        Photographs(tmp_path)
    with pytest.raises(ValueError, match="did you mean noisy"):
        Photographs(folder, ["nosy"])
    with pytest.raises(ValueError, match="size = -1"):
        Photographs(folder, size=-1)


def test_restoring_a_batch_is_restoring_each(model):
    y = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    batch = restored(*model, y, ODE, [[7, 8, 9]])
    for i, seed in enumerate((7, 8, 9)):
        alone = restore(*model, y[i], steps=3, solver="ode-2", seed=seed).image
        assert torch.allclose(batch[i], alone, atol=2e-6)


def test_several_samples_are_averaged(model):
    y = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    singles = [restored(*model, y, ODE, [seeds]) for seeds in ([0, 1], [2, 3])]
    mean = restored(*model, y, Setting("ode-2", 3, 2), [[0, 1], [2, 3]])
    assert torch.allclose(mean, (singles[0] + singles[1]) / 2, atol=1e-6)
    assert not torch.allclose(singles[0], singles[1], atol=1e-3)


def test_the_spread_is_that_of_the_samples(model, folder):
    pairs = Photographs(folder, ["noisy"], size=32)
    setting = Setting("ode-2", 3, 3)
    found = assess(*model, pairs.pairs("noisy"), setting, measures=Measures(spread=True), batch=2, seed=4).values
    spreads = []
    for i, pair in enumerate(pairs.pairs("noisy")):
        seeds = [[generator("noise", 4, i, k).initial_seed()] for k in range(3)]
        each = torch.cat([restored(*model, pair.y[None], ODE, [seed]) for seed in seeds])
        spreads.append(255 * each.var(0).mean().sqrt().item())
    assert found["spread"] == pytest.approx(sum(spreads) / len(spreads), rel=1e-4)
    assert found["spread"] > 0.01
    assert "spread" not in assess(*model, pairs.pairs("noisy"), ODE, measures=Measures(spread=True)).values


def test_numbers_are_those_of_the_metrics(model, folder):
    denoiser, space = model
    pairs = Photographs(folder, ["noisy"], size=32)
    found = assess(denoiser, space, pairs.pairs("noisy"), ODE, batch=2, seed=4)
    grid = PRESETS["ode-2"].grid(denoiser.process, 3)
    x, out = [], []
    for i, pair in enumerate(pairs.pairs("noisy")):
        seed = generator("noise", 4, i, 0).initial_seed()
        image = sample(
            denoiser, denoiser.process, space, shape=(1, 3, 32, 32), times=grid, solver=PRESETS["ode-2"].solver,
            noise=PerSample([seed]), y=pair.y[None], image=pair.y[None],
        )  # fmt: skip
        x, out = [*x, pair.x], [*out, image[0]]
    x, out = torch.stack(x), torch.stack(out)
    luma = metrics.Protocol("y")
    expected = {
        "psnr": metrics.psnr(x, out).mean(),
        "ssim": metrics.ssim(x, out).mean(),
        "psnr_y": metrics.psnr(x, out, luma).mean(),
        "ssim_y": metrics.ssim(x, out, luma).mean(),
        "haarpsi": metrics.haarpsi(x, out).mean(),
        "swd": metrics.swd(x, out.mul(255).round() / 255).mean(),
        "brightness": (out.double().mean((1, 2, 3)) / x.double().mean((1, 2, 3))).mean(),
    }
    for name, value in expected.items():
        assert found.values[name] == pytest.approx(value.item(), rel=1e-4), name
    assert (found.values["images"], found.values["evaluations"]) == (3, 3)
    assert torch.allclose(found.first, out[0], atol=1e-5)
    assert found.pair.name == "0"


def test_the_degraded_input_is_measured_as_it_is(model, folder):
    pairs = Photographs(folder, ["low-light"], size=32)
    found = assess(*model, pairs.pairs("low-light"), DEGRADED).values
    x, y = (torch.stack(side) for side in zip(*((p.x, p.y) for p in pairs.pairs("low-light")), strict=True))
    assert found["psnr"] == pytest.approx(metrics.psnr(x, y).mean().item(), rel=1e-12)
    assert found["brightness"] < 0.6
    assert found["evaluations"] == 0


def test_batches_move_no_number(model, folder):
    pairs = Photographs(folder, ["rainy"], size=0)  # two sizes
    one, many = (assess(*model, pairs.pairs("rainy"), Setting("sde-2", 3, 2), batch=batch).values for batch in (1, 8))
    for name in ("psnr", "ssim", "haarpsi", "swd", "brightness"):
        assert one[name] == pytest.approx(many[name], rel=1e-3), name
    with pytest.raises(ValueError, match="batch = 0"):
        assess(*model, pairs.pairs("rainy"), ODE, batch=0)
    with pytest.raises(ValueError, match="without photographs"):
        assess(*model, [], ODE)


def test_learned_measures_are_taken_where_they_are_given(model, folder):
    pairs = Photographs(folder, ["noisy"], size=32)
    measures = Measures(
        lambda x, y: (x - y).abs().mean((1, 2, 3)), metrics.Function(lambda images: images.mean((2, 3)), "means")
    )
    found = assess(*model, pairs.pairs("noisy"), DEGRADED, measures=measures).values
    assert {"lpips", "fid"} <= set(found)
    assert {"lpips", "fid"} <= set(measures.protocols)
    assert "lpips" not in Measures().protocols
    expected = torch.stack([(p.x - p.y).abs().mean() for p in pairs.pairs("noisy")]).mean()
    assert found["lpips"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.fixture
def stamped(model, tmp_path, folder):
    save(tmp_path / "model", *model)

    def make(**changes):
        options = {"size": 32, "seed": 0} | changes
        pairs = Photographs(changes.pop("root", folder), ["noisy"], size=options["size"], seed=options["seed"])
        return stamp(fingerprint(tmp_path / "model"), pairs, options["seed"], Measures().protocols)

    return make


def test_results_go_on_under_the_same_stamp_only(tmp_path, stamped):
    results = Results.resume(tmp_path / "out", stamped(), {})
    assert list(results.done()) == []
    results.add("noisy", ODE, {"psnr": 20.0})
    results.save(tmp_path / "out")
    again = Results.resume(tmp_path / "out", stamped(), {})
    assert list(again.done()) == [("noisy", "ode-2:3")]
    assert again.tasks == results.tasks
    with pytest.raises(ValueError, match=r"another data.noisy.size \(32, not 40\)"):
        Results.resume(tmp_path / "out", stamped(size=40), {})
    with pytest.raises(ValueError, match="another seed"):
        Results.resume(tmp_path / "out", stamped(seed=1), {})


def test_the_stamp_knows_the_weights_and_the_pictures(tmp_path, stamped, model, folder):
    first = stamped()
    torch.manual_seed(9)
    other = Denoiser(UNet(channels=(8, 16), blocks=(1, 1), embedding=8), model[0].process, model[0].prediction)
    save(tmp_path / "model", other, Residual())
    assert stamped()["model"]["weights"] != first["model"]["weights"]
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert stamped(root=copy)["data"] == first["data"]
    write(copy / "1.png", torch.zeros(3, 40, 48))
    changed = tmp_path / "changed"
    copy.rename(changed)  # digests are remembered by path
    assert stamped(root=changed)["data"] != first["data"]
    json.dumps(first)


def test_results_of_unlike_stamps_are_not_compared(stamped):
    a, b = (Results(stamped(), {"noisy": {"ode-2:3": {"psnr": value}}}) for value in (20.0, 21.0))
    b.stamp["model"] = {"weights": "of another model"}
    assert compare(a, b) == [(name, "ode-2:3", {"psnr": (20.0, 21.0)}) for name in ("noisy", "mean")]
    with pytest.raises(ValueError, match=r"cannot compare: made with another data\.noisy\.size"):
        compare(a, Results(stamped(size=40), b.tasks))
    with pytest.raises(ValueError, match="no setting"):
        compare(a, Results(stamped(), {"noisy": {"ode-2:4": {"psnr": 1.0}}}))


def test_what_is_no_results_file_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results in"):
        Results.read(tmp_path)
    (tmp_path / "results.json").write_text("[1]")
    with pytest.raises(ValueError, match="not results of undrift evaluate"):
        Results.read(tmp_path)


def test_means_count_each_task_the_same(stamped):
    results = Results(stamped(), {"a": {"s": {"psnr": 1.0}}, "b": {"s": {"psnr": 4.0}}})
    assert results.mean(["a", "b"], "s") == {"psnr": 2.5}


def test_scenes_are_the_ten_tasks_each_photograph_twice():
    made = scenes(48, seed=3)
    assert [scene.task for scene in made] == list(TASKS)
    assert sorted(scene.photographer for scene in made) == sorted([*PHOTOGRAPHS.values()] * 2)
    by_hand = Degraded([next(s.x for s in made if s.photographer == name) for name in PHOTOGRAPHS.values()], TASKS, 3)
    expected = {(pair.task, list(PHOTOGRAPHS.values())[int(pair.name)]): pair.y for pair in by_hand}
    for scene in made:
        assert torch.equal(scene.y, expected[scene.task, scene.photographer])
        assert scene.x.shape == (3, 48, 48)
        assert metrics.psnr(scene.x[None], scene.y[None]).item() < 35
    with pytest.raises(ValueError, match="size = 300"):
        scenes(300)
