import json
from dataclasses import dataclass

import pytest
import torch

from undrift import registry
from undrift.networks import UNet
from undrift.prediction import MLNoise
from undrift.process import VP, MeanReverting, Process, Table
from undrift.registry import CLASSES, build, describe

# Kinds whose classes need no arguments, or those given here.
ARGUMENTS = {
    "table": {"values": [0.0, -1.0, -2.0]},
    "ml_noise": {"process": {"name": "vp", "beta_max": 9.0}},
    "raw": {"prediction": {"name": "velocity", "scale": 0.5}},
    "unet": {"channels": [4, 6], "blocks": [1, 1]},
    "classifier": {"classes": 3, "channels": [4, 6]},
    "ncsnpp": {"width": 8, "multipliers": [1, 2], "blocks": 1},
    "likelihood": {"process": {"name": "vp"}},
    "corrected": {"predictor": {"name": "heun"}, "corrector": {"name": "langevin", "snr": 0.1}},
    "denoising": {"path": {"name": "mean_reverting", "lam": 0.3}, "start": 20},
    "ml_denoising": {"path": {"name": "mean_reverting", "lam": 0.3}},
    "irsde_unet": {"width": 4, "multipliers": [1, 2]},
    "nafnet": {"width": 4, "encoders": [1], "decoders": [1]},
    "latent_unet": {"width": 4, "multipliers": [1, 2]},
    "observed_latent": {"autoencoder": {"name": "latent_unet", "width": 4, "multipliers": [1, 2]}},
    "restart": {"solver": {"name": "heun"}, "noisy": 0.0, "clean": 2.0},
}
NAMES = [(kind, name) for kind, names in CLASSES.items() if kind != "optimizer" for name in names]


@pytest.mark.parametrize(("kind", "name"), NAMES, ids=lambda x: x)
def test_describe_inverts_build_through_json(kind, name):
    thing = build(kind, {"name": name} | ARGUMENTS.get(name, {}))
    table = json.loads(json.dumps(describe(thing)))
    again = build(kind, table)
    assert type(again) is CLASSES[kind][name]
    assert describe(again) == table
    if kind not in ("network", "autoencoder") and name != "observed_latent":  # two networks are never equal
        assert again == thing


def test_nested_and_listed_values_arrive_as_objects():
    assert build("prediction", {"name": "ml_noise", **ARGUMENTS["ml_noise"]}) == MLNoise(VP(beta_max=9.0))
    assert build("process", {"name": "table", **ARGUMENTS["table"]}) == Table((0.0, -1.0, -2.0))
    assert build("process", {"name": "mean_reverting", "lam": 0.1}) == MeanReverting(lam=0.1)
    assert build("network", {"name": "unet", **ARGUMENTS["unet"]}).arguments["channels"] == (4, 6)
    assert build("network", {"name": "unet", "channels": 8, "blocks": 1, "context": 0}).arguments["channels"] == (8,)
    weights = [torch.nn.Parameter(torch.ones(1))]
    assert build("optimizer", {"name": "adamw", "lr": 0.5}, weights).param_groups[0]["lr"] == 0.5


def test_given_fills_only_what_is_taken_and_missing():
    velocity = build("prediction", {"name": "velocity"})
    assert build("weighting", {"name": "raw"}, prediction=velocity).prediction == velocity
    assert build("weighting", {"name": "plain"}, prediction=velocity) == build("weighting", {"name": "plain"})


@pytest.mark.parametrize(
    ("kind", "table", "line"),
    [
        (
            "process",
            {"name": "mean_revert"},
            "unknown process name 'mean_revert': did you mean mean_reverting? There are",
        ),
        ("process", {"name": "vp", "beta_mim": 1}, "unknown argument of process vp 'beta_mim': did you mean beta_min?"),
        ("process", {"name": "ve", "sigma_min": 9, "sigma_max": 1}, "process ve: VE(9, 1): need 0 < sigma_min"),
        ("process", {"name": "ve", "sigma_min": "x"}, "process ve: sigma_min = 'x': need a number"),
        ("solver", {"name": "exponential", "order": True}, "solver exponential: order = True: need a whole number"),
        ("solver", {"name": "exponential", "tau": "a"}, "solver exponential: tau = 'a': need a number or a table"),
        ("prediction", {"name": "ml_noise", "process": "vp"}, "prediction ml_noise: process = 'vp': need a table"),
        ("network", {"name": "unet", "channels": [8, "b"]}, "network unet: channels = [8, 'b']: need a list [a whole"),
        ("process", {"beta_min": 1}, "[process] {'beta_min': 1}: need a table with a name, one of ve, vp"),
        ("process", "vp", "[process] 'vp': need a table with a name"),
        ("space", {"name": "residual", "mean": 1}, "unknown argument of space residual 'mean': There are none"),
        ("network", {"name": "unet", "channels": [10**30], "blocks": [1]}, "network unet: "),
        ("optimizer", {"name": "adamw", "lr": "fast"}, "optimizer adamw: lr = 'fast': need a number"),
        ("optimizer", {"name": "adamw", "betas": [0.9]}, "optimizer adamw: betas = [0.9]: need a list [a number, a"),
        ("prediction", {"name": "ml_noise", "process": {"name": "wp"}}, "unknown process name 'wp': There are ve"),
        ("process", {"name": "os.system"}, "unknown process name 'os.system': "),
        ("process", {"name": ["vp"]}, "unknown process name ['vp']: "),
    ],
)
def test_errors_are_one_line(kind, table, line):
    arguments = ([torch.nn.Parameter(torch.ones(1))],) if kind == "optimizer" else ()
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        build(kind, table, *arguments)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_class_of_ones_own_needs_one_line(monkeypatch):
    @dataclass(frozen=True)
    class Mine(Process):
        speed: float = 2.0
        t_min: float = 0.01
        t_max: float = 1.0

        def alpha_sigma(self, t):
            return torch.exp(-self.speed * t), torch.sqrt(-torch.expm1(-2 * self.speed * t))

    with pytest.raises(ValueError, match=r"^Mine has no name: add it to undrift.registry.CLASSES to save it$"):
        describe(Mine())
    monkeypatch.setitem(registry.CLASSES["process"], "mine", Mine)
    assert build("process", describe(Mine(3.0))) == Mine(3.0)
    assert isinstance(build("network", {"name": "unet"}), UNet)
