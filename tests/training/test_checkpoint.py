import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from undrift.denoiser import Denoiser, Time
from undrift.networks import UNet
from undrift.prediction import Data, MLNoise, Velocity
from undrift.process import VP, MeanReverting
from undrift.space import Pixels, Residual
from undrift.training import checkpoint
from undrift.training.checkpoint import load, read_card, save


def model(prediction=None, process=None):
    torch.manual_seed(0)
    network = UNet(channels=(4, 6), blocks=(1, 1), embedding=8)
    return Denoiser(network, process or MeanReverting(lam=0.3), prediction or Data(0.2), scale=0.2, label=Time(0.5))


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "model", model(), Residual(), {"steps": 7})
    return tmp_path / "model"


def estimates(denoiser):
    generator = torch.Generator().manual_seed(1)
    z, y = torch.rand(2, 2, 3, 8, 10, generator=generator)
    with torch.no_grad():
        return denoiser(z, torch.tensor([30.0, 0.5], dtype=torch.float64), image=y)


def test_what_is_loaded_estimates_bit_for_bit_the_same(folder):
    denoiser, space = load(folder)
    assert torch.equal(estimates(denoiser), estimates(model()))
    assert (denoiser.process, denoiser.prediction, space) == (MeanReverting(lam=0.3), Data(0.2), Residual())
    assert (denoiser.scale, denoiser.label, denoiser.training) == (0.2, Time(0.5), False)
    assert read_card(folder)["training"] == {"steps": 7}
    assert "`7`" in (folder / "README.md").read_text()
    assert sorted(f.name for f in folder.iterdir()) == ["README.md", "model.json", "weights.safetensors"]


def test_loading_moves_no_random_numbers(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(folder)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("prediction", "process"), [(Velocity(0.3), VP()), (MLNoise(MeanReverting()), MeanReverting())]
)
def test_every_part_comes_back(tmp_path, prediction, process):
    save(tmp_path, model(prediction, process), Pixels())
    denoiser, space = load(tmp_path)
    assert (denoiser.prediction, denoiser.process, space) == (prediction, process, Pixels())


def test_half_precision_halves_the_file_and_loads_as_float32(folder, tmp_path):
    # channels_last weights are stored in their logical order all the same
    save(tmp_path / "half", model().to(memory_format=torch.channels_last), Residual(), "# Card\n", torch.float16)
    sizes = [(f / "weights.safetensors").stat().st_size for f in (tmp_path / "half", folder)]
    assert sizes[0] < 0.7 * sizes[1]
    assert (tmp_path / "half" / "README.md").read_text() == "# Card\n"
    ours, theirs = (load(f)[0].network.state_dict() for f in (tmp_path / "half", folder))
    for name, value in ours.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, theirs[name].half().float())


def test_weights_that_cannot_be_stored_are_named(tmp_path):
    denoiser = model()
    denoiser.network.leave.weight.data[0] = 1e6
    with pytest.raises(ValueError, match=r"^weight leave.weight is not finite as torch.float16: save as float32"):
        save(tmp_path, denoiser, Residual(), dtype=torch.float16)
    with pytest.raises(ValueError, match=r"choose torch.float16 or torch.float32"):
        save(tmp_path, denoiser, Residual(), dtype=torch.bfloat16)
    assert not list(tmp_path.iterdir())


def test_saving_over_a_model_replaces_it(folder):
    denoiser = model()
    denoiser.network.leave.weight.data.fill_(0.25)
    save(folder, denoiser, Residual(), {"steps": 9})
    assert load(folder)[0].network.leave.weight[0, 0, 0, 0] == 0.25
    assert read_card(folder)["training"] == {"steps": 9}


def test_bundled_models_load_by_name(folder, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    shutil.copytree(folder, tmp_path / "models" / "tiny")
    monkeypatch.setattr(checkpoint.resources, "files", lambda package: tmp_path)
    assert checkpoint.bundled() == ["tiny"]
    assert torch.equal(estimates(load("tiny")[0]), estimates(model()))
    with pytest.raises(FileNotFoundError, match=r"^no model 'tinny': neither a folder nor bundled \(bundled: tiny\)$"):
        load("tinny")


def json_change(folder, **changes):
    file = folder / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def weights_change(folder, change):
    tensors = load_file(folder / "weights.safetensors")
    change(tensors)
    save_file(tensors, folder / "weights.safetensors")


def truncate(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])


SPOILT = {
    "no json": (lambda f: (f / "model.json").unlink(), "no model.json there: not a checkpoint"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "no weights.safetensors there"),
    "half json": (lambda f: truncate(f, "model.json"), "model.json: damaged ("),
    "half weights": (lambda f: truncate(f, "weights.safetensors"), "weights.safetensors: damaged or truncated ("),
    "empty weights": (lambda f: (f / "weights.safetensors").write_bytes(b""), "damaged or truncated ("),
    "a pickle inside": (
        lambda f: (f / "weights.safetensors").write_bytes(pickle.dumps({"a": 1})),
        "damaged or truncated (",
    ),
    "binary json": (lambda f: (f / "model.json").write_bytes(b"\xff\xfe{"), "model.json: damaged ("),
    "json list": (lambda f: (f / "model.json").write_text("[]"), "format [], but this undrift reads format 1"),
    "format": (lambda f: json_change(f, format=2), "format 2, but this undrift reads format 1"),
    "entry": (lambda f: json_change(f, colour="red"), "unknown entry in"),
    "class": (
        lambda f: json_change(f, process={"name": "mean_reverter"}),
        "unknown process name 'mean_reverter': did you mean mean_reverting? There are ve, vp",
    ),
    "argument": (
        lambda f: json_change(f, process={"name": "vp", "beta": 1}),
        "unknown argument of process vp 'beta': did you mean beta_min? There are beta_min, beta_max",
    ),
    "value": (lambda f: json_change(f, process={"name": "vp", "beta_min": -1}), "process vp: beta range [-1"),
    "scale": (lambda f: json_change(f, scale="big"), "scale = 'big': need a number or null"),
    "negative scale": (lambda f: json_change(f, scale=-1.0), "Denoiser scale = -1.0: need the positive"),
    "shape": (
        lambda f: weights_change(f, lambda t: t.update({"leave.weight": torch.zeros(2, 2)})),
        "weights.safetensors has leave.weight of shape (2, 2), but model.json says (12, 4, 3, 3)",
    ),
    "missing": (
        lambda f: weights_change(f, lambda t: t.pop("leave.weight")),
        "weights.safetensors lacks leave.weight (12, 4, 3, 3), which the network of model.json has",
    ),
    "extra": (
        lambda f: weights_change(f, lambda t: t.update(more=torch.zeros(1))),
        "weights.safetensors has more, which the network of model.json has not",
    ),
    "a giant": (
        lambda f: json_change(f, network={"name": "unet", "channels": [200000, 400000], "blocks": [1, 1]}),
        ", but model.json says (",
    ),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_is_wrong_is_one_line_that_names_the_file(folder, spoil):
    change, line = SPOILT[spoil]
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load(folder)
    message = str(caught.value)
    assert line in message
    assert str(folder) in message
    assert "\n" not in message


def test_pickles_are_never_opened(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was executed",))

    for name in ("model.pt", "model.ckpt", "model.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(Malicious()))
        with pytest.raises(ValueError, match=r"not opened, for such files can run code .*: give a folder"):
            load(tmp_path / name)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a checkpoint is a folder with weights.safetensors and model.json"):
        load(tmp_path / "model.safetensors")


def test_unwritable_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"^cannot write .*weights.safetensors: "):
        save(tmp_path / "file" / "model", model(), Residual())
