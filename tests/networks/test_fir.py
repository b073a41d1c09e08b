"""Resampling by two: impulse responses, the adjoint, what it preserves, and the official layer functions."""

import pytest
import torch
import torch.nn.functional as F
from golden import cases, error, load
from torch import nn

from undrift.networks.blocks import fourier, positional
from undrift.networks.fir import check_taps, convolve_down, convolve_up, down, up

TAPS = {"1331": (1, 3, 3, 1), "121": (1, 2, 1), "none": (1, 1)}


def noise(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("case", cases("ncsnpp", "layers_functions"))
@pytest.mark.parametrize(("kind", "tolerance"), [("f64", 1e-10), ("f32", 1e-4)])
def test_official_functions(case, kind, tolerance):
    tensors, _ = load("ncsnpp", case)
    given = {name: value.to(torch.float64 if kind == "f64" else torch.float32) for name, value in tensors.items()}
    x, weight = given["x"], given["conv_weight"]
    found = {"naive_upsample_2d": up(x), "naive_downsample_2d": down(x)}
    for name, taps in TAPS.items():
        found[f"upsample_2d_{name}"] = up(x, taps)
        found[f"downsample_2d_{name}"] = down(x, taps)
        found[f"conv_downsample_2d_{name}"] = convolve_down(x, weight, None, taps)
    for width in (8, 9, 16):
        found[f"timestep_embedding_{width}"] = positional(given["timesteps"], width)
    found["fourier_projection_log_sigma"] = fourier(given["sigmas"], given["fourier_W"])
    recorded = {name.removesuffix(f"/{kind}") for name in tensors if name.endswith(f"/{kind}")}
    assert recorded <= set(found)
    for name in recorded:
        assert error(found[name], tensors[f"{name}/{kind}"]) < tolerance, name


def test_the_response_to_an_impulse():
    """Down: outer([1, 3, 3, 1]) / 64, every other entry of it; up: all of four times it."""
    row = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64)
    kernel = torch.outer(row, row) / 64
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    x[..., 4, 3] = 1
    wide = torch.zeros(16, 16, dtype=torch.float64)
    wide[7:11, 5:9] = 4 * kernel
    assert torch.allclose(up(x, (1, 3, 3, 1))[0, 0], wide, rtol=0, atol=1e-15)
    few = torch.zeros(4, 4, dtype=torch.float64)
    few[1:3, 1:3] = torch.outer(row[[3, 1]], row[[2, 0]]) / 64
    assert torch.allclose(down(x, (1, 3, 3, 1))[0, 0], few, rtol=0, atol=1e-15)


@pytest.mark.parametrize("taps", [(), (1, 1), (1, 3, 3, 1), (1, 2, 4, 4, 2, 1)])
def test_up_is_four_times_the_adjoint_of_down(taps):
    x, y = noise(2, 3, 8, 6), noise(2, 3, 4, 3)
    assert torch.allclose((up(y, taps) * x).sum(), 4 * (y * down(x, taps)).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("taps", [(), (1, 1), (1, 3, 3, 1)])
def test_what_lies_at_a_place_stays_there(taps):
    """A slope, away from the edge, is resampled to the slope about the same centre: no shift of half a pixel."""
    line = torch.arange(16, dtype=torch.float64) - 7.5
    inside = slice(2, -2)
    halved = down(line.expand(1, 1, 16, 16), taps)[0, 0, 4, inside]
    assert torch.allclose(halved, line.reshape(8, 2).mean(1)[inside], rtol=0, atol=1e-13)
    doubled = up(line.expand(1, 1, 16, 16), taps)[0, 0, 8].reshape(16, 2).mean(1)
    assert torch.allclose(doubled[inside], line[inside], rtol=0, atol=1e-13)


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 1), (1, 2, 2, 2, 1)])
def test_a_convolution_between_zeros_then_the_filter(taps):
    x, weight, bias = noise(2, 3, 4, 5), noise(4, 3, 3, 3), noise(4)
    stuffed = torch.zeros(2, 3, 7, 9, dtype=torch.float64)
    stuffed[..., ::2, ::2] = x
    between = F.conv2d(stuffed, weight, padding=2)  # two rows and columns more than the zeros between
    row = torch.tensor(taps, dtype=torch.float64)
    kernel = (4 * torch.outer(row, row) / row.sum() ** 2).expand(4, 1, -1, -1)
    extra = len(taps) - 4
    margin = ((extra + 1) // 2 + 1, extra // 2 + 1) * 2
    expected = F.conv2d(F.pad(between, margin), kernel, groups=4) + bias[:, None, None]
    assert expected.shape[2:] == (8, 10)
    assert torch.allclose(convolve_up(x, weight, bias, taps), expected, rtol=0, atol=1e-12)


def test_without_taps_pixels_are_repeated_and_the_far_edge_is_padded():
    x, layer = noise(1, 3, 6, 6), nn.Conv2d(3, 4, 3).double()
    repeated = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(up(x), repeated)
    padded = F.conv2d(F.pad(repeated, (1, 1, 1, 1)), layer.weight, layer.bias)
    assert torch.allclose(convolve_up(x, layer.weight, layer.bias), padded, rtol=0, atol=1e-12)
    corner = F.conv2d(x[..., 4:, 4:], layer.weight[..., :2, :2], layer.bias)  # the kernel's last row sees zeros
    strided = convolve_down(x, layer.weight, layer.bias)
    assert torch.allclose(strided[..., 2:, 2:], corner, rtol=0, atol=1e-12)


def test_half_precision_filters_in_single():
    x = noise(2, 4, 8, 8, dtype=torch.bfloat16)
    for resample in (up, down):
        exact = resample(x.double(), (1, 3, 3, 1))
        with torch.autocast("cpu", torch.bfloat16):
            half = resample(x, (1, 3, 3, 1))
        assert half.dtype == torch.bfloat16
        assert torch.allclose(half.double(), exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("taps", [(1,), (1, -1)])
def test_taps_that_are_no_filter_are_refused(taps):
    with pytest.raises(ValueError, match="at least two"):
        check_taps(taps)
