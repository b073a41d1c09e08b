import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from undrift.cli.main import main
from undrift.denoiser import Denoiser, Time
from undrift.networks import UNet
from undrift.prediction import Data
from undrift.process import MeanReverting
from undrift.space import Residual
from undrift.training import checkpoint
from undrift.training.checkpoint import load, save
from undrift.training.difference import factored, opened


def model(change=0.0, rank=2):
    """The same network each time, and where `change` is given, changed by so much in `rank` directions a matrix."""
    torch.manual_seed(0)
    network = UNet(channels=(8, 12), blocks=(1, 1), embedding=16)
    for value in network.parameters() if change else ():
        matrix = value.detach().flatten(1) if value.ndim > 1 else value.detach()[:, None]
        matrix += change * torch.randn(len(matrix), rank) @ torch.randn(rank, matrix.shape[1])
    return Denoiser(network, MeanReverting(lam=0.3), Data(0.2), scale=0.2, label=Time(0.5))


@pytest.fixture
def base(tmp_path, monkeypatch):
    save(tmp_path / "models" / "base", model(), Residual())
    monkeypatch.setattr(checkpoint.resources, "files", lambda _: tmp_path)
    return "base"


def error(one, other):
    pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def test_a_change_of_the_rank_comes_back_whole_and_a_smaller_rank_nearly(base, tmp_path):
    wanted = model(0.01)
    assert error(wanted, model()) > 0.01
    errors, sizes = {}, {}
    for rank in (1, 2):
        save(tmp_path / "small", wanted, Residual(), base=base, rank=rank)
        errors[rank] = error(load(tmp_path / "small")[0], wanted)
        sizes[rank] = (tmp_path / "small" / "weights.safetensors").stat().st_size
    whole = (tmp_path / "models" / "base" / "weights.safetensors").stat().st_size
    assert errors[2] < 1e-6 < errors[1] < 0.1
    assert sizes[1] < sizes[2] < whole


def test_nothing_changed_is_nothing_stored(base, tmp_path):
    save(tmp_path / "same", model(), Residual(), base=base)
    assert load_file(tmp_path / "same" / "weights.safetensors") == {}
    assert error(load(tmp_path / "same")[0], model()) == 0


def test_another_base_than_it_was_made_of_is_refused(base, tmp_path):
    save(tmp_path / "small", model(0.01), Residual(), base=base)
    save(tmp_path / "models" / "base", model(0.5), Residual())
    with pytest.raises(ValueError, match=r"^[^\n]*small: stored as its difference from another base than"):
        load(tmp_path / "small")


def test_what_does_not_fit_is_one_line(base, tmp_path):
    with pytest.raises(ValueError, match=r"^rank = 0: need at least 1$"):
        save(tmp_path / "small", model(0.01), Residual(), base=base, rank=0)
    other = Denoiser(UNet(channels=(8,), blocks=(1,), context=1), MeanReverting(lam=0.3), Data(0.2), scale=0.2)
    with pytest.raises(ValueError, match=r"^[^\n]*: the base has it, this model has not$"):
        save(tmp_path / "small", other, Residual(), base=base)


def test_a_base_may_have_a_base(base, tmp_path):
    save(tmp_path / "first", model(0.01), Residual(), base=base, rank=2)
    wanted = load(tmp_path / "first")[0]
    with torch.no_grad():
        wanted.network.leave.bias += 1
    save(tmp_path / "second", wanted, Residual(), base=tmp_path / "first")
    assert list(load_file(tmp_path / "second" / "weights.safetensors")) == ["leave.bias"]
    assert error(load(tmp_path / "second")[0], wanted) == 0
    assert error(load(tmp_path / "second")[0], model()) > 0.01


def test_a_model_that_is_its_own_base_is_refused(base, tmp_path):
    save(tmp_path / "small", model(0.01), Residual(), base=base, rank=2)
    file = tmp_path / "small" / "model.json"
    card = json.loads(file.read_text())
    card["base"] = {
        "model": str(tmp_path / "small"),
        "sha256": checkpoint.digest(tmp_path / "small" / checkpoint.WEIGHTS),
    }
    file.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"^[^\n]*small: stored as its difference from itself"):
        load(tmp_path / "small")


def test_what_the_base_has_not_is_stored_whole(base, tmp_path):
    bigger = model()
    bigger.network = UNet(channels=(8, 12), blocks=(1, 1), embedding=16, deblur=4)
    save(tmp_path / "bigger", bigger, Residual(), base=base, rank=2)
    stored = load_file(tmp_path / "bigger" / "weights.safetensors")
    assert {"deblur.weight0", "enter.seen.weight"} <= set(stored)
    state = load(tmp_path / "bigger")[0].network.state_dict()
    assert all(torch.equal(state[name], bigger.network.state_dict()[name]) for name in stored if name in state)


def test_a_base_is_found_from_any_directory(base, tmp_path, monkeypatch):
    save(tmp_path / "of-bundled", model(0.01), Residual(), base=base, rank=2)
    monkeypatch.chdir(tmp_path)
    save("first", model(0.02), Residual())
    save("deep/second", model(0.01), Residual(), base="first", rank=2)
    (tmp_path / "base").mkdir()  # somebody's own, called like the bundled one
    load("of-bundled")
    monkeypatch.chdir(tmp_path / "deep")
    load("second")
    load(tmp_path / "of-bundled")
    shutil.rmtree(tmp_path / "first")
    with pytest.raises(
        FileNotFoundError, match=r"^[^\n]*second: stored as its difference from [^\n]*first, and there is no"
    ):
        load("second")


def test_a_model_is_not_written_over_what_it_needs(base, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    save(first, model(0.01), Residual())
    save(second, model(0.02), Residual(), base=first)
    before = (first / "weights.safetensors").read_bytes()
    for under in (first, second):
        with pytest.raises(ValueError, match=r"^[^\n]*first: [^\n]* is it, or stored as a difference from it"):
            save(first, model(0.02), Residual(), base=under)
    assert (first / "weights.safetensors").read_bytes() == before


def test_what_has_no_factors_is_refused_or_kept(base, tmp_path):
    broken = model()
    broken.network.leave.weight.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"^weight leave.weight is not finite"):
        save(tmp_path / "small", broken, Residual(), base=base)
    counts = {"n": torch.arange(4096).view(64, 64)}
    save_file({"n": torch.zeros(64, 64, dtype=torch.int64)}, tmp_path / "counts.safetensors")
    with opened(tmp_path / "counts.safetensors") as under:
        assert torch.equal(factored(counts, under, 1)["n"], counts["n"])


def cut(tensors):
    name = next(n for n in tensors if n.endswith(".left"))
    tensors[name] = tensors[name][:-1].contiguous()


def orphan(tensors):
    tensors.pop(next(n for n in tensors if n.endswith(".right")))


@pytest.mark.parametrize("spoil", [cut, orphan])
def test_factors_that_do_not_fit_are_named(base, tmp_path, spoil):
    save(tmp_path / "small", model(0.01), Residual(), base=base, rank=2)
    file = tmp_path / "small" / "weights.safetensors"
    tensors = load_file(file)
    spoil(tensors)
    save_file(tensors, file)
    with pytest.raises(
        ValueError, match=r"^[^\n]*weights.safetensors has [^\n]*left, which the network [^\n]*has not$"
    ):
        load(tmp_path / "small")


@pytest.mark.parametrize("entry", ["base", {"model": "base"}, {"model": 1, "sha256": "0"}])
def test_a_damaged_entry_is_named(base, tmp_path, entry):
    save(tmp_path / "small", model(), Residual(), base=base)
    file = tmp_path / "small" / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base": entry}))
    with pytest.raises(ValueError, match=r"^[^\n]*model.json: base is [^\n]*: need a table of model and sha256$"):
        load(tmp_path / "small")


def test_convert_makes_a_model_small(base, tmp_path, capsys):
    save(tmp_path / "student", model(0.01), Residual(), {"steps": 7})
    assert (
        main(["convert", str(tmp_path / "student"), "-o", str(tmp_path / "small"), "--base", base, "--rank", "2"]) == 0
    )
    assert f"{tmp_path / 'small'}: {tmp_path / 'student'} on top of base, rank 2:" in capsys.readouterr().out
    assert error(load(tmp_path / "small")[0], model(0.01)) < 1e-3  # float16
    assert checkpoint.read_card(tmp_path / "small")["training"] == {"steps": 7}
    assert main(["info", str(tmp_path / "small")]) == 0
    assert "on top of" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "small")
    for wrong in (["--rank", "3"], ["--base", base, "--last"], ["--base", "nowhere"]):
        assert main(["convert", str(tmp_path / "student"), "-o", str(tmp_path / "small"), *wrong]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "small").exists()


def test_a_whole_difference_in_steps_of_eight_bits(base, tmp_path):
    """recipes/shrink.py: of any rank, each weight within half a step of its row."""
    script = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "shrink.py"))
    wanted = model(0.01, rank=8)
    save(tmp_path / "given", wanted, Residual())
    script["shrink"](str(tmp_path / "given"), str(tmp_path / "small"), base, 0, 10, 0.1)
    stored = load_file(tmp_path / "small" / "weights.safetensors")
    assert {value.dtype for name, value in stored.items() if name.endswith(".right")} == {torch.int8}
    found = dict(load(tmp_path / "small")[0].network.named_parameters())
    own = dict(model().network.named_parameters())
    for name, value in wanted.network.named_parameters():
        if name + ".right" in stored:
            rows, error = (x.detach().flatten(1) for x in (value - own[name], value - found[name]))
            step = (0.1 * rows.std(1)).clamp(min=rows.abs().amax(1) / 127)
            # half a step, and that of float16's 11 bits in its height, for as many as there are
            assert (error.abs().amax(1) <= 0.5 * step + rows.abs().amax(1) / 1024).all()
            assert (error.abs().amax(1) > 0.1 * step).any()


@pytest.mark.parametrize(
    "given", [[], ["--rank", "2", "--step", "0.3"], ["--rank", "2", "--step", "-1"], ["--step", "nan"]]
)
def test_shrinking_is_by_rank_or_in_steps(given, capsys, monkeypatch):
    script = Path(__file__).parents[2] / "recipes" / "shrink.py"
    monkeypatch.setattr("sys.argv", ["shrink.py", "model", "-o", "small", "--base", "base", *given])
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    assert "give one of the two" in capsys.readouterr().err
