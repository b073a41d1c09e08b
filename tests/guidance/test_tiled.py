from itertools import pairwise

import pytest
import torch
from torch import nn

from undrift.guidance import tiled
from undrift.guidance.tiled import covered

NOISY = torch.tensor(1.0, dtype=torch.float64)


def convolutions(layers: int):
    """A translation-equivariant denoiser that sees `layers` pixels around, itself padding with zeros."""
    torch.manual_seed(0)
    widths = [6, *[8] * (layers - 1), 3]
    stack = [m for a, b in pairwise(widths) for m in (nn.Conv2d(a, b, 3, padding=1), nn.Tanh())]
    network = nn.Sequential(*stack).double()
    return torch.no_grad()(lambda z, t, image: network(torch.cat([z, image], 1)))


def state(height, width):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 1, 3, height, width, generator=generator, dtype=torch.float64)


SIZES = [(100, 300), (257, 65), (64, 64), (65, 64), (129, 130), (1, 200), (96, 97), (300, 17)]


@pytest.mark.parametrize("size", SIZES)
def test_tiles_of_a_denoiser_that_sees_no_further_than_the_margin_change_nothing(size):
    z, image = state(*size)
    denoise = convolutions(8)  # overlap 32: margin 8
    whole, pieces = denoise(z, NOISY, image=image), tiled(denoise, 64, 32)(z, NOISY, image=image)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-14)


def test_one_that_sees_further_differs_at_seams_only_and_little():
    z, image = state(64 * 2 - 32, 64)
    denoise = convolutions(12)
    difference = tiled(denoise, 64, 32)(z, NOISY, image=image) - denoise(z, NOISY, image=image)
    rows = difference.abs().amax((0, 1, 3))
    assert rows[:32].max() < 1e-14
    assert rows[64:].max() < 1e-14
    assert 0 < rows.max() < 0.02


@pytest.mark.parametrize("size", [(100, 300), (64, 65), (1, 1000), (513, 40)])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 16), (64, 32), (70, 21), (100, 50)])
def test_weights_sum_to_one(size, tile, overlap):
    estimate = tiled(lambda z, t: torch.full_like(z, 0.3), tile, overlap)
    out = estimate(torch.zeros(2, 3, *size, dtype=torch.float64), NOISY)
    torch.testing.assert_close(out, torch.full_like(out, 0.3), rtol=0, atol=1e-15)


def test_what_is_blended_changes_slowly():
    # tiles that disagree by 1 at worst: a ramp over half of the overlap, never a jump
    calls = iter(range(1000))
    out = tiled(lambda z, t: torch.full_like(z, float(next(calls) % 2)), 128, 64)(torch.zeros(1, 3, 128, 512), NOISY)
    assert out.diff(dim=-1).abs().max() <= 1 / 32 + 1e-6
    assert set(out[..., [0, -1]].unique().tolist()) <= {0.0, 1.0}


def test_tiles_are_small_aligned_and_as_many_pixels_as_announced():
    seen = []

    def denoise(z, t, image, label):
        assert z.shape == image.shape
        assert torch.equal(z[0, 0], image[0, 0])
        assert label.shape == (1, 5)  # what is not spatial is passed on whole
        seen.append((int(z[0, 0, 0, 0]) // 1000, int(z[0, 0, 0, 0]) % 1000, *z.shape[-2:]))
        return z

    height, width = 300, 220
    place = 1000.0 * torch.arange(height)[:, None] + torch.arange(width)
    z = place.expand(1, 3, -1, -1)
    out = tiled(denoise, 128, 32)(z, NOISY, image=z.clone(), label=torch.zeros(1, 5))
    torch.testing.assert_close(out, z)
    assert all(top % 16 == 0 and left % 16 == 0 and max(h, w) <= 128 for top, left, h, w in seen)
    assert sum(h * w for *_, h, w in seen) == covered(height, width, 128, 32)
    assert covered(100, 100, 128, 32) == 100 * 100


@pytest.mark.parametrize(("tile", "overlap"), [(64, 8), (64, 33), (16, 64)])
def test_tiles_that_cannot_be_are_named(tile, overlap):
    with pytest.raises(ValueError, match=rf"tiles of {tile} overlapping by {overlap}: need 16 <= overlap <= half"):
        tiled(lambda z, t: z, tile, overlap)
