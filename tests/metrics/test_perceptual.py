"""Perceptual measures: equal to other implementations, 1 or 0 where equal, and monotone in every kind of damage."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchmetrics.functional.image.lpips as reference
from PIL import Image
from torch import nn

from undrift.metrics import Lpips, gmsd, haarpsi, lpips
from undrift.metrics.perceptual import ALEX, VGG


def scene(height=96, width=128):
    """Smooth colour, stripes of all widths and an edge; no random numbers."""
    v, u = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    red = 0.5 + 0.4 * torch.sin(40 * u * u)
    green = 0.5 + 0.3 * torch.cos(25 * v + 8 * u)
    return torch.stack((red, green, (u + v > 1).float() * 0.6 + 0.2))[None]


X = scene()
Y = (X + 0.08 * torch.sin(1000 * X + 3)).clamp(0, 1)


def noise(x, strength):
    return (x + strength * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def blur(x, strength):
    weight = torch.exp(-(torch.arange(-9, 10) ** 2) / (2 * strength**2))
    weight = (weight / weight.sum()).expand(3, 1, -1)
    x = F.pad(x, (9, 9, 9, 9), "reflect")
    return F.conv2d(F.conv2d(x, weight[..., None], groups=3), weight[:, :, None], groups=3)


def jpeg(x, strength):
    file = io.BytesIO()
    Image.fromarray((x[0] * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=100 - strength)
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)[None] / 255


def test_equal_images():
    for x in (X, torch.full_like(X, 0.5), torch.zeros_like(X)):  # flat ones are 0 / 0 in the formula
        torch.testing.assert_close(haarpsi(x, x).item(), 1.0)
        assert gmsd(x, x).item() == 0


# piq 0.8.0 on the same tensors; its YIQ matrix has one digit more than the paper's
@pytest.mark.parametrize(
    ("size", "haar", "deviation"), [((96, 128), 0.868003, 0.0183305), ((95, 127), 0.866626, 0.0189565)]
)
def test_recorded_values_of_another_implementation(size, haar, deviation):
    x = scene(*size)
    y = (x + 0.08 * torch.sin(1000 * x + 3)).clamp(0, 1)
    assert haarpsi(x, y).item() == pytest.approx(haar, abs=3e-4)
    assert gmsd(x, y).item() == pytest.approx(deviation, abs=1e-5)


@pytest.mark.parametrize(
    ("damage", "strengths"), [(noise, (0.01, 0.03, 0.1, 0.3)), (blur, (0.5, 1, 2, 4)), (jpeg, (10, 40, 70, 95))]
)
def test_more_damage_is_worse(damage, strengths):
    good = [haarpsi(X, damage(X, s)).item() for s in strengths]
    bad = [gmsd(X, damage(X, s)).item() for s in strengths]
    assert 1 > good[0] > good[1] > good[2] > good[3] > 0
    assert 0 < bad[0] < bad[1] < bad[2] < bad[3]


def test_symmetric_and_per_image():
    x, y = torch.cat((X, Y)), torch.cat((Y, blur(X, 2)))
    for measure in (haarpsi, gmsd):
        torch.testing.assert_close(measure(x, y), measure(y, x))
        torch.testing.assert_close(measure(x, y)[1:], measure(x[1:], y[1:]))


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="at least 16 x 16"):
        haarpsi(X[..., :15], X[..., :15])
    with pytest.raises(ValueError, match="two batches"):
        gmsd(X, X[0])


def features(layers):
    """The trunk as torchvision numbers it, with random weights."""
    window = 3 if layers is ALEX else 2
    modules = []
    for layer in layers:
        if layer == "pool":
            modules.append(nn.MaxPool2d(window, 2))
        elif layer != "tap":
            assert layer[0] == len(modules)
            modules += [nn.Conv2d(*layer[1:]), nn.ReLU()]
    return nn.Sequential(*modules)


@pytest.mark.parametrize(("net", "layers"), [("alex", ALEX), ("vgg", VGG)])
def test_lpips_is_torchmetrics(net, layers, tmp_path, monkeypatch):
    torch.manual_seed(0)
    trunk = features(layers)
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda name, pretrained: trunk)
    theirs = reference._LPIPS(net=net, pnet_rand=True)
    torch.save({f"features.{k}": v for k, v in trunk.state_dict().items()}, tmp_path / "trunk.pth")
    ours = Lpips(net, tmp_path / "trunk.pth")
    x, y = X[..., :64, :64], Y[..., :64, :64]
    want = theirs(x, y, normalize=True).flatten()
    torch.testing.assert_close(ours(x, y), want, rtol=2e-3, atol=1e-8)  # the guards against 0 / 0 differ
    assert ours(x, x).item() == 0


def test_lpips_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("UNDRIFT_WEIGHTS", raising=False)
    wants = r"alexnet-owt-7be5be79\.pth .*download.pytorch.org.* UNDRIFT_WEIGHTS"
    with pytest.raises(FileNotFoundError, match=wants) as error:
        lpips(X, Y)
    assert "\n" not in str(error.value)
    monkeypatch.setenv("UNDRIFT_WEIGHTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        lpips(X, Y)
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="not a file of weights"):
        lpips(X, Y)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "alexnet-owt-7be5be79.pth")
    with pytest.raises(ValueError, match="not the weights of torchvision"):
        lpips(X, Y)
    with pytest.raises(ValueError, match="net = 'squeeze'"):
        Lpips("squeeze")
