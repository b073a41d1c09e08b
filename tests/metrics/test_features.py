"""Extractors: what they show the network, whose fingerprint they carry, and that no program runs unasked."""

import pytest
import torch
from torch import nn

from undrift import VP, Pixels
from undrift.classify import NoisyClassifier
from undrift.metrics import Classified, Features, Function, TorchScript, set_distances
from undrift.metrics.features import fingerprint
from undrift.networks import Classifier

IMAGES = torch.rand(5, 3, 8, 10, generator=torch.Generator().manual_seed(0))


class Inception(nn.Module):
    """Called as NVIDIA's is: values 0 to 255, its own size."""

    def forward(self, x: torch.Tensor, return_features: bool = False, no_output_bias: bool = False) -> torch.Tensor:
        means = x.float().mean((2, 3))
        if return_features:
            return means
        return torch.softmax(means / 255 + (0.0 if no_output_bias else 1.0) * torch.arange(3), 1)


class Plain(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean((2, 3)), x.amax((2, 3))


def scripted(path, network):
    torch.jit.script(network).save(str(path))
    return path


def test_inception_is_shown_bytes(tmp_path):
    extract = TorchScript(scripted(tmp_path / "inception.pt", Inception()), trust=True)
    features, odds = extract(IMAGES)
    means = IMAGES.mul(255).round().mean((2, 3))
    torch.testing.assert_close(features, means)
    torch.testing.assert_close(odds, (means / 255).softmax(1))
    assert extract.name == "inception.pt, 8 bit, size as given"
    grey, none = TorchScript(tmp_path / "inception.pt", trust=True, probabilities=False)(IMAGES[:, :1])
    torch.testing.assert_close(grey, means[:, :1].expand(-1, 3))
    assert none is None


def test_any_other_file_is_shown_what_is_stated(tmp_path):
    path = scripted(tmp_path / "plain.pt", Plain())
    features, odds = TorchScript(path, trust=True, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.25))(IMAGES)
    shown = (IMAGES - 0.5) / torch.tensor([0.5, 0.5, 0.25]).view(3, 1, 1)
    torch.testing.assert_close(features, shown.mean((2, 3)))
    torch.testing.assert_close(odds, shown.amax((2, 3)).softmax(1))
    flat = torch.full((1, 3, 8, 8), 0.25)
    resized = TorchScript(path, trust=True, size=32)
    assert resized.name.endswith("resized to 32")
    torch.testing.assert_close(resized(flat)[0], torch.full((1, 3), 0.25))
    assert resized.digest == TorchScript(path, trust=True).digest
    assert resized.digest != TorchScript(scripted(tmp_path / "b.pt", Inception()), trust=True).digest


def test_no_program_runs_unasked(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"FID needs a TorchScript Inception, no .*none\.pt"):
        TorchScript(tmp_path / "none.pt", trust=True)
    (tmp_path / "bad.pt").write_bytes(b"no script")
    with pytest.raises(ValueError, match="can run code: trust=True"):
        TorchScript(tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="not a TorchScript file"):
        TorchScript(tmp_path / "bad.pt", trust=True)


def test_a_classifier_is_asked_about_clean_images():
    network = Classifier(4, in_channels=3, channels=(8, 12))
    classifier = NoisyClassifier(network, VP(), scale=0.5)
    extract = Classified(classifier, Pixels(), "small")
    features, odds = extract(IMAGES)
    assert features.shape == (5, 12)
    time = torch.tensor(VP().t_min, dtype=torch.float64)
    torch.testing.assert_close(odds, classifier(2 * IMAGES - 1, time).softmax(1).detach())
    torch.testing.assert_close(features, classifier.features(2 * IMAGES - 1, time).detach())
    before = extract.digest
    assert before == fingerprint(network)
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1
    assert fingerprint(network) != before


def test_features_of_batches_are_those_of_all_and_of_8_bits():
    extract = Function(lambda images: (images.mean((2, 3)), images.amax((2, 3))), "means")
    whole = Features.of(extract, [IMAGES])
    parts = Features.of(extract, IMAGES.split(2))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(whole.probabilities, IMAGES.mul(255).round().div(255).amax((2, 3)))
    assert Features.of(Function(lambda images: images.mean((2, 3)), "means"), [IMAGES]).probabilities is None
    assert torch.equal(whole.pick(torch.tensor([3, 1])).features, whole.features[[3, 1]])


def test_all_distances_at_once():
    rng = torch.Generator().manual_seed(2)
    x, y = (Features(torch.randn(60, 4, generator=rng), torch.rand(60, 3, generator=rng)) for _ in range(2))
    found = set_distances(x, y, k=3)
    assert list(found) == ["fd", "kid", "is", "precision", "recall", "density", "coverage"]
    assert "is" not in set_distances(x, Features(y.features, None))
    assert found["recall"] == set_distances(y, x, k=3)["precision"]
