"""Distances of distributions against Gaussians, torchmetrics and one-dimensional closed forms."""

import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from undrift.metrics import PROTOCOLS, Fid, Moments, frechet, inception, swd
from undrift.metrics.distribution import _laplacian, _smooth

RNG = torch.Generator().manual_seed(0)


def test_frechet_of_commuting_covariances():
    basis = torch.linalg.qr(torch.randn(6, 6, generator=RNG).double()).Q
    a, b = torch.rand(6, generator=RNG).double(), torch.rand(6, generator=RNG).double()
    mean = torch.randn(6, generator=RNG).double()
    got = frechet(mean, basis * a @ basis.T, mean * 0, basis * b @ basis.T)
    torch.testing.assert_close(got, mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum())


def test_frechet_of_rank_deficient_covariances():
    u, v = torch.randn(2, 300, generator=RNG).double()
    zero = torch.zeros(300).double()
    cross = (u @ v).abs()  # tr((uu' vv')^1/2)
    want = u @ u + v @ v - 2 * cross
    torch.testing.assert_close(frechet(zero, torch.outer(u, u), zero, torch.outer(v, v)), want, rtol=1e-6, atol=0)


def test_moments_in_batches_are_the_moments():
    features = torch.randn(50, 5, generator=RNG).double() + 1e4  # a large mean, where sums of squares cancel
    moments = Moments()
    for part in features.split((1, 7, 30, 12)):
        moments.update(part)
    torch.testing.assert_close(moments.mean, features.mean(0))
    torch.testing.assert_close(moments.cov, features.T.cov(), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="at least 2"):
        _ = Moments().cov


class Colours(nn.Module):
    """Eight features of an image, in place of Inception's."""

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, (2, 2)).flatten(1)[:, :8]


def test_fid_is_torchmetrics():
    x, y = torch.rand(40, 3, 8, 8, generator=RNG), torch.rand(30, 3, 8, 8, generator=RNG) ** 2
    theirs, ours = FrechetInceptionDistance(feature=Colours(), input_img_size=(3, 8, 8)), Fid(Colours())
    for part in x.split(16):
        theirs.update(part.mul(255).round().byte(), real=True)
        ours.update(x=part)
    theirs.update(y.mul(255).round().byte(), real=False)
    ours.update(y=y)
    torch.testing.assert_close(ours.compute(), theirs.compute().double(), rtol=1e-3, atol=1e-6)


def test_inception_only_from_a_named_torchscript_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"FID needs a TorchScript Inception, no .*none\.pt"):
        inception(tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(b"no script")
    with pytest.raises(ValueError, match="not a TorchScript file"):
        inception(tmp_path / "bad.pt")


def blobs(n, size=64):
    """Smooth images with some detail."""
    noise = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(n))
    return (0.5 + 3 * (_smooth(_smooth(noise)) - 0.5)).clamp(0, 1)


def test_swd_of_equal_sets_is_zero_and_grows_with_damage():
    x = blobs(6)
    assert swd(x, x).tolist() == [0, 0, 0]
    generator = torch.Generator().manual_seed(1)
    step = torch.randn(x.shape, generator=generator)
    noisy = [swd(x, x + s * step).mean().item() for s in (0.01, 0.05, 0.2)]
    assert 0 < noisy[0] < noisy[1] < noisy[2]
    once, twice = _smooth(x), _smooth(_smooth(x))
    assert 0 < swd(x, once).mean() < swd(x, twice).mean()
    assert swd(x, once)[0] > swd(x, once)[-1]  # blur is a matter of the finest level
    assert swd(x, 0.5 * x).mean() > 100  # and contrast cannot hide


def test_swd_of_a_shift_is_its_closed_form():
    """Where y = x + c the sorted projections all differ by c sum(axis) / std: only the last, low-pass level sees it."""
    x = blobs(4, 32)
    got = swd(x, x + 0.1, patches=400)
    assert got[0] < 1e-3
    _, low = _laplacian(x, 2)
    std = low.std((0, 2, 3))  # the mean over unit axes of |a . v| is |v| sqrt(2 / pi n) up to O(1 / n)
    shift = (0.1 / std).repeat_interleave(49).norm() * (2 / torch.pi / 147) ** 0.5
    assert got[1].item() == pytest.approx(1e3 * shift.item(), rel=0.15)


def test_swd_is_seeded_and_takes_images_of_many_sizes():
    x = [torch.rand(3, 20, 37, generator=RNG), torch.rand(3, 65, 33, generator=RNG)]
    y = [image.flip(0) for image in x]
    torch.testing.assert_close(swd(x, y, seed=3), swd(x, y, seed=3), rtol=0, atol=0)
    assert not torch.equal(swd(x, y, seed=3), swd(x, y, seed=4))
    with pytest.raises(ValueError, match="equal shapes"):
        swd(x, y[:1])
    with pytest.raises(ValueError, match="at least 16 x 16 pixels, the smallest side is 8"):
        swd(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))


def test_laplacian_pyramid_of_a_constant_is_its_last_level():
    *fine, low = _laplacian(torch.full((1, 3, 41, 32), 0.7), 2)
    assert max(level[..., 4:-4, 4:-4].abs().max().item() for level in fine) < 1e-6
    torch.testing.assert_close(low, torch.full_like(low, 0.7))


def test_protocols_name_their_conventions():
    assert PROTOCOLS["psnr"].startswith("PSNR [dB] RGB crop4 uint8")
    assert set(PROTOCOLS) == {"psnr", "ssim", "haarpsi", "gmsd", "lpips", "swd", "fid"}
