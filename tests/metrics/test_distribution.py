"""The sliced Wasserstein distance against one-dimensional closed forms."""

import pytest
import torch

from undrift.metrics import PROTOCOLS, swd
from undrift.metrics.distribution import _laplacian, _smooth

SETS = ("fd", "kid", "is", "precision", "recall", "density", "coverage")
RNG = torch.Generator().manual_seed(0)


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
    assert set(PROTOCOLS) == {"psnr", "ssim", "haarpsi", "gmsd", "lpips", "swd", "fid", *SETS}
