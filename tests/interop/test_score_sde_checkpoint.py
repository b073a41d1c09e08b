"""Official checkpoints: every tensor has its place, the meaning is that of the paper, and nothing else gets in."""

from dataclasses import replace

import pytest
import score_sde_files as files
import torch
from golden import cases, error, load
from torch import nn

from undrift.interop.score_sde_checkpoint import adopt, layout, read_official, score_sde_checkpoint
from undrift.interop.score_sde_presets import RELEASED, network_from, released
from undrift.networks.ncsnpp import NCSNpp
from undrift.tensor import expand

# Counted in the official networks: modules, numbers, and tensors, with the Fourier frequencies and without sigmas.
FAMILIES = {
    "ve/cifar10_ncsnpp_continuous": (59, 62_758_915, 571),
    "ve/cifar10_ncsnpp": (58, 62_693_251, None),
    "ve/celeba_ncsnpp": (58, 62_693_251, None),
    "vp/cifar10_ncsnpp_continuous": (58, 62_693_251, None),
    "vp/cifar10_ddpmpp": (55, 61_804_419, 564),
    "subvp/cifar10_ddpmpp_continuous": (55, 61_804_419, 564),
    "ve/cifar10_ncsnpp_deep_continuous": (95, 107_587_075, 963),
    "vp/cifar10_ncsnpp_deep_continuous": (94, 107_521_411, None),
    "subvp/cifar10_ddpmpp_deep_continuous": (91, 106_632_579, None),
    "ve/church_ncsnpp_continuous": (77, 65_574_549, 645),
    "ve/ffhq_ncsnpp_continuous": (70, 105_785_896, 553),
    "vp/ddpm/cifar10": (37, 35_218_947, None),
    "ve/cifar10_ddpm": (37, 35_218_947, None),
    "vp/ddpm/bedroom": (51, 111_569_923, None),
}
ODD = [
    {"pyramid_in": "skip", "combine": "cat", "pyramid_out": "residual"},
    {"block": "ddpm", "taps": (), "pyramid_out": "skip"},
    {"block": "ddpm", "learnt_resample": False, "embedding": "positional"},
    {"conditional": False},
]


def tiny(name: str):
    """A released configuration, but narrow, in at most three levels of one block."""
    preset = released(name)
    levels = {"multipliers": preset.network["multipliers"][:3], "attention": (1,), "blocks": 1}
    return replace(preset, network={**preset.network, **levels, "width": 32 if "ddpm" in str(preset.make) else 8})


@pytest.fixture
def stored(tmp_path):
    """stored(dict) -> path of a file."""

    def store(content) -> str:
        torch.save(content, tmp_path / "checkpoint_8.pth")
        return str(tmp_path / "checkpoint_8.pth")

    return store


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(RELEASED, "small", tiny("ve/cifar10_ncsnpp_continuous"))
    return files.checkpoint(RELEASED["small"].empty().arguments)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_released_networks_have_the_official_tensors(name):
    numbers, parameters, count = FAMILIES[name]
    network = released(name).empty()
    pieces = layout(network)
    assert {piece.name: piece.shape for piece in pieces} == files.tensors(network.arguments)
    assert [piece.name for piece in pieces] == list(files.tensors(network.arguments))
    assert len(files.modules(network.arguments)) == numbers
    assert sum(torch.Size(piece.shape).numel() for piece in pieces) == parameters
    assert count in (None, len(pieces))
    assert sum(not piece.trained for piece in pieces) == (network.embedding == "fourier")


@pytest.mark.parametrize("options", ODD, ids=str)
def test_every_option_has_the_official_tensors(options):
    with torch.device("meta"):
        network = NCSNpp(width=8, multipliers=(1, 2, 2), blocks=2, **options)
    found = {piece.name: piece.shape for piece in layout(network)}
    assert list(found.items()) == list(files.tensors(network.arguments).items())


def test_images_are_centred_as_the_network_wants_them():
    for name, preset in RELEASED.items():
        centred = not name.startswith("ve/")
        assert preset.network.get("centred", True) == preset.centred == centred
        _, space = preset.parts(Told())
        x = torch.tensor([0.0, 1.0])
        assert space.encode(x).tolist() == ([-1.0, 1.0] if centred else [0.0, 1.0])
        assert torch.equal(space.decode(space.encode(x)), x)


@pytest.mark.parametrize("name", ["ve/cifar10_ncsnpp_continuous", "ve/church_ncsnpp_continuous", "ve/cifar10_ddpm",
                                  "vp/cifar10_ddpmpp_continuous", "vp/ddpm/cifar10"])  # fmt: skip
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_a_file_fills_every_tensor(name, prefix, stored, monkeypatch):
    preset = tiny(name)
    monkeypatch.setitem(RELEASED, "small", preset)
    arguments = preset.empty().arguments
    content = files.checkpoint(arguments, prefix)
    model = {key.removeprefix(prefix): value for key, value in content["model"].items()}
    trained = [key for key in model if key not in ("sigmas", "all_modules.0.W")]
    averages = dict(zip(trained, content["ema"]["shadow_params"], strict=True))
    path = stored(content)
    for average, source in ((True, averages), (False, model)):
        denoiser, _ = score_sde_checkpoint(path, "small", average=average)
        state = denoiser.network.state_dict()
        assert all(value.isfinite().all() for value in state.values())
        assert sum(value.numel() for value in state.values()) == sum(
            v.numel() for k, v in model.items() if k != "sigmas"
        )
        if arguments["embedding"] == "fourier":
            assert torch.equal(state["embed.frequencies"], model["all_modules.0.W"])  # of the model, in either case
        stem = 3 if arguments["embedding"] == "fourier" else 2
        assert torch.equal(state["enter.weight"], source[f"all_modules.{stem}.weight"])
        key = next(k for k in source if k.endswith("NIN_1.W"))  # the key of the first attention
        attention = next(m for m in denoiser.network.modules() if hasattr(m, "query_key_value"))
        rows = attention.query_key_value.weight.chunk(3)
        assert torch.equal(rows[1], source[key].T)
        assert torch.equal(rows[2], source[key.replace("NIN_1", "NIN_2")].T)
    assert not denoiser.training
    assert not any(p.requires_grad for p in denoiser.parameters())


@pytest.mark.parametrize("case", cases("ncsnpp", "v", "subvp"))
def test_a_recorded_network_through_a_file(case, stored, monkeypatch):
    """The averages are the recorded weights, the model is garbage but for the frequencies."""
    tensors, facts = load("ncsnpp", case)
    network = network_from(facts["config"], "ddpm" if facts["routine"].endswith("DDPM") else "ncsnpp")
    preset = replace(released("ve/cifar10_ncsnpp"), make=NCSNpp, network=network.arguments)
    monkeypatch.setitem(RELEASED, "recorded", preset)
    names = [name for name in facts["tensors"] if name.startswith("sd/")]  # in the official order
    official = {name.removeprefix("sd/"): tensors[name] for name in names}
    kept = {"sigmas", "all_modules.0.W"} & set(official)
    garbage = {f"module.{name}": value if name in kept else value + 1 for name, value in official.items()}
    content = {"model": garbage, "step": 3, "optimizer": {}}
    content["ema"] = {"decay": 0.999, "shadow_params": [v.float() for k, v in official.items() if k not in kept]}
    denoiser, _ = score_sde_checkpoint(stored(content), "recorded")
    with torch.inference_mode():
        found = denoiser.network.double()(tensors["x"].double(), tensors["labels"].double())
    assert error(found, tensors["output_f64"]) < 1e-10


class Told(nn.Module):
    """F(z, c) = z + c, in float64: what was told can be read off."""

    def __init__(self):
        super().__init__()
        self.kind = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, z, c):
        return z + expand(c, z)


# sigma_t, and what the network is told, of research 1.2, 1.3 and 1.6, by times in [0, 1] or indices of 1000 levels.
MEANING = {
    "vp/cifar10_ddpmpp_continuous": [(0.5, 0.959654202068, 499.5), (1e-3, 0.0104854163351, 0.999)],
    "subvp/cifar10_ddpmpp_continuous": [(0.5, 0.920936187547, 499.5), (1.0, 0.999956814251, 999.0)],
    "vp/cifar10_ddpmpp": [
        (0, 0.01, 0),
        (1, 0.0148292929005, 1),
        (499, 0.959902472712, 499),
        (999, 0.999979820648, 999),
    ],
    "ve/cifar10_ncsnpp_continuous": [(0.5, 0.707106781187, 0.707106781187), (1.0, 50.0, 50.0)],
    "ve/cifar10_ncsnpp": [
        (1.0, 50.0, 0),
        (0.0, 0.01, 999),
        (0.5, 0.707106781187, 500),
        (499 / 999, 0.704098900001, 500),
    ],
}


@pytest.mark.parametrize("name", MEANING)
def test_the_score_is_that_of_the_paper(name):
    """-F / sigma for VP and sub-VP, F itself for VE, which divides inside."""
    denoiser, _ = released(name).parts(Told())
    z = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    for t, sigma, told in MEANING[name]:
        t = torch.tensor(float(t), dtype=torch.float64)
        alpha, found = denoiser.process.alpha_sigma(t)
        assert found.item() == pytest.approx(sigma, rel=1e-10)
        score = (alpha * denoiser(z, t) - z) / found**2
        raw = z + told
        expected = raw if name.startswith("ve/") else -raw / found
        assert torch.allclose(score, expected, rtol=1e-9, atol=1e-9 / sigma**2)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: f["model"].pop("module.all_modules.5.Conv_0.bias"), "no tensor all_modules.5.Conv_0.bias"),
        (lambda f: f["model"].update({"module.extra": torch.zeros(2)}), r"extra \(2,\) has no place"),
        (lambda f: f["model"].update({"module.all_modules.3.bias": torch.zeros(2)}), r"shape \(2,\)"),
        (
            lambda f: f["model"].update({"module.sigmas": f["model"]["module.sigmas"] * 2}),
            "sigmas are 1000 levels from 100",
        ),
        (lambda f: f["model"].pop("module.sigmas"), "no tensor sigmas"),
        (lambda f: f["ema"]["shadow_params"].pop(), "the average is of"),
        (lambda f: f["ema"]["shadow_params"].reverse(), "average of all_modules"),
        (lambda f: f.pop("ema"), "no list 'shadow_params'"),
        (lambda f: f.pop("model"), "no entry 'model'"),
        (lambda f: f.update(model={"a": 3}), "no entry 'model'"),
    ],
)
def test_what_does_not_fit_is_refused(damage, words, small, stored):
    damage(small)
    with pytest.raises(ValueError, match=words) as info:
        score_sde_checkpoint(stored(small), "small")
    assert "\n" not in str(info.value)
    assert "checkpoint_8.pth" in str(info.value)


def test_a_network_of_another_kind_is_refused(small, stored):
    with pytest.raises(ValueError, match="as vp/cifar10_ddpmpp: "):
        score_sde_checkpoint(stored(small), "vp/cifar10_ddpmpp")


class Malice:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_nothing_in_a_file_runs(small, stored):
    small["optimizer"] = Malice()
    with pytest.raises(ValueError, match="could run code"):
        read_official(stored(small))


@pytest.mark.parametrize("content", [b"", b"not a pickle at all", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_one_line(content, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ValueError, match="damaged") as info:
        read_official(tmp_path / "x.pth")
    assert "\n" not in str(info.value)


def test_names_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="did you mean vp/cifar10_ddpmpp_continuous"):
        released("cifar10_ddpmpp_continuous")
    with pytest.raises(ValueError, match="'ncsnv2'"):
        network_from({"model": {"ch_mult": [1], "attn_resolutions": [], "nf": 8, "num_res_blocks": 1, "name": "ncsnv2",
                                "conditional": True, "nonlinearity": "elu", "dropout": 0, "resamp_with_conv": True,
                                "scale_by_sigma": True, "sigma_min": 0.01, "sigma_max": 50, "num_scales": 10},
                      "data": {"image_size": 32, "centered": False}})  # fmt: skip
    with pytest.raises(ValueError, match="classes is 2"):
        adopt(NCSNpp(width=8, multipliers=(1,), attention=(), blocks=1, classes=2), {})
