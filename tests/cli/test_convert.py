"""`undrift convert` writes a model that loads, and says in one line why it does not."""

from dataclasses import replace

import pytest
import score_sde_files as files
import torch

from undrift import load
from undrift.interop.score_sde_checkpoint import score_sde_checkpoint
from undrift.interop.score_sde_presets import RELEASED, released


@pytest.fixture(params=["ve/cifar10_ncsnpp_continuous", "vp/cifar10_ddpmpp"])
def checkpoint(request, monkeypatch, tmp_path):
    """A small file, and the configuration `small` that it has."""
    preset = released(request.param)
    narrow = {"width": 8, "multipliers": (1, 2), "blocks": 1}
    monkeypatch.setitem(RELEASED, "small", replace(preset, network={**preset.network, **narrow}))
    torch.save(files.checkpoint(RELEASED["small"].empty().arguments), tmp_path / "checkpoint_8.pth")
    return tmp_path / "checkpoint_8.pth"


@pytest.mark.parametrize("last", [False, True])
def test_a_checkpoint_becomes_a_model(undrift_, checkpoint, last):
    code, lines, errors = undrift_("convert", checkpoint, "--config", "small", "-o", "model", *["--last"] * last)
    assert (code, errors, len(lines)) == (0, [], 1)
    denoiser, space = load("model")
    expected, same_space = score_sde_checkpoint(checkpoint, "small", average=not last)
    assert space == same_space
    assert denoiser.process == expected.process
    z = torch.randn(2, 3, 8, 8)
    t = torch.tensor(denoiser.process.t_max / 2, dtype=torch.float64)
    assert torch.equal(denoiser(z, t), expected(z, t))
    code, lines, _ = undrift_("info", "model")
    assert code == 0
    assert any("converted from" in line and "checkpoint_8.pth" in line for line in lines)


class Malice:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_what_goes_wrong_is_one_line(undrift_, checkpoint, tmp_path):
    (tmp_path / "notes.pth").write_text("not a checkpoint")
    torch.save({"model": {}, "ema": Malice()}, tmp_path / "malice.pth")
    for path, name, words in (
        (checkpoint, "vp/cifar10_ddmpp", "did you mean vp/cifar10_ddpmpp"),
        (checkpoint, "vp/ddpm/cifar10", "as vp/ddpm/cifar10"),
        (tmp_path / "none.pth", "small", "No such file"),
        (tmp_path / "notes.pth", "small", "damaged"),
        (tmp_path / "malice.pth", "small", "could run code"),
        (tmp_path, "small", "directory"),
    ):
        code, _, errors = undrift_("convert", path, "--config", name, "-o", "model")
        assert code == 2
        assert len(errors) == 1
        assert words in errors[0]
    assert undrift_("convert", checkpoint, "-o", "model")[0] == 2
    assert not (tmp_path / "model").exists()
