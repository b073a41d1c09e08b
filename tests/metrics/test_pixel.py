"""PSNR and SSIM against closed forms and torchmetrics, convention by convention."""

import math

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from undrift.metrics import Protocol, psnr, ssim

RNG = torch.Generator().manual_seed(0)
X = torch.rand(2, 3, 40, 33, generator=RNG) * 0.8 + 0.1
Y = (X + 0.1 * torch.randn(X.shape, generator=RNG)).clamp(0, 1)


def test_names():
    assert f"PSNR-{Protocol()}" == "PSNR-RGB crop4 uint8"
    assert str(Protocol("y", 0, False)) == "Y crop0 float"


def test_psnr_of_a_known_offset():
    x = torch.full((1, 3, 16, 16), 100 / 255)
    torch.testing.assert_close(psnr(x, x + 5 / 255).item(), 20 * math.log10(255 / 5))
    assert psnr(x, x).item() == math.inf


def test_quantisation_clamping_and_crop():
    x = torch.full((1, 3, 16, 16), 100 / 255)
    assert psnr(x, x + 0.4 / 255).item() == math.inf  # rounds to the same byte
    exact = psnr(x, x + 0.4 / 255, Protocol(quantise=False)).item()
    assert exact == pytest.approx(20 * math.log10(255 / 0.4), abs=1e-4)  # float32 inputs
    assert psnr(torch.ones_like(x), torch.full_like(x, 1.7)).item() == math.inf
    framed = x.clone()
    framed[..., :4, :] = 0
    assert psnr(x, framed).item() == math.inf
    assert psnr(x, framed, Protocol(crop=3)).item() < 30


def test_luma_is_bt601_studio_range():
    primaries = torch.eye(3).view(3, 3, 1, 1).expand(3, 3, 4, 4)
    y = Protocol("y", 0).prepare(primaries)
    torch.testing.assert_close(y[:, 0, 0, 0], torch.tensor([81.481, 144.553, 40.966]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(Protocol("y", 0).prepare(torch.ones(1, 3, 1, 1)).item(), 235.0)


@pytest.mark.parametrize("protocol", [Protocol(), Protocol("y"), Protocol("rgb", 0, False)])
def test_ssim_is_torchmetrics(protocol):
    a, b = protocol.prepare(X), protocol.prepare(Y)
    _, local = structural_similarity_index_measure(a, b, data_range=255.0, reduction="none", return_full_image=True)
    want = local[..., 5:-5, 5:-5].mean((1, 2, 3))  # it averages mirrored borders too; the test scripts do not
    torch.testing.assert_close(ssim(X, Y, protocol), want.double(), atol=1e-7, rtol=0)
    torch.testing.assert_close(ssim(X, X, protocol), torch.ones(2).double())


def test_per_image():
    for measure in (psnr, ssim):
        torch.testing.assert_close(measure(X, Y)[1:], measure(X[1:], Y[1:]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: psnr(X[..., :8, :], Y[..., :8, :]), "crop = 4 leaves nothing of 33 x 8 pixels"),
        (lambda: ssim(X[..., :18, :], Y[..., :18, :]), "needs 11 x 11 pixels, 25 x 10 are left"),
        (lambda: psnr(X, Y[:1]), r"got \(2, 3, 40, 33\) and \(1, 3, 40, 33\)"),
        (lambda: Protocol("ycbcr"), "expected channel"),
        (lambda: Protocol(crop=-1), "crop >= 0"),
    ],
)
def test_nonsense_gets_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
