import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from undrift.networks import UNet


def small(**arguments) -> UNet:
    torch.manual_seed(0)
    return UNet(**{"channels": (8, 12, 16), "blocks": (1, 1, 2), "embedding": 16, "context": 2, **arguments})


def inputs(*size: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    batch, height, width = size
    z = torch.randn(batch, 3, height, width, generator=generator, dtype=dtype)
    c = torch.empty(batch, dtype=dtype).uniform_(-6, 6, generator=generator)
    return z, c, torch.rand(batch, 3, height, width, generator=generator, dtype=dtype)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 13), (33, 16), (24, 40)])
def test_any_size_equals_the_replicated_image(size):
    net = small().double()
    z, c, y = inputs(2, *size)
    padding = (0, -size[1] % net.stride, 0, -size[0] % net.stride)
    bigger = (torch.nn.functional.pad(x, padding, mode="replicate") for x in (z, y))
    whole = net(next(bigger), c, image=next(bigger))
    assert torch.allclose(net(z, c, image=y), whole[..., : size[0], : size[1]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [0, 16])
def test_a_sample_does_not_depend_on_its_batch(window):
    net = small(window=window).double()
    z, c, y = inputs(3, 19, 30)
    together = net(z, c, image=y)
    for i in range(3):
        alone = net(z[i : i + 1], c[i : i + 1], image=y[i : i + 1])
        assert torch.allclose(together[i : i + 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cond_channels", [0, 3])
def test_gradients_reach_every_parameter_and_input_at_initialisation(cond_channels):
    net = small(cond_channels=cond_channels).double()
    z, c, y = (x.requires_grad_() for x in inputs(2, 16, 16))
    cond = {"image": y} if cond_channels else {}
    net(z, c, **cond).square().mean().backward()
    leaves = {**dict(net.named_parameters()), "z": z, "c": c, **cond}
    assert [name for name, leaf in leaves.items() if leaf.grad is None or not leaf.grad.any()] == []


def test_the_gradient_is_the_derivative():
    net = small(channels=(4, 6), blocks=(1, 1)).double()
    z, c, y = (x.requires_grad_() for x in inputs(1, 5, 4))
    assert torch.autograd.gradcheck(lambda z, c, y: net(z, c, image=y), (z, c, y), fast_mode=True)


def test_precisions_agree():
    net = small()
    z, c, y = inputs(2, 20, 24, dtype=torch.float32)
    single = net(z, c, image=y)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(z, c, image=y)
    double = net.double()(z.double(), c.double(), image=y.double())
    scale = double.square().mean().sqrt()
    assert (single - double).abs().max() < 1e-5 * scale
    assert (half - double).square().mean().sqrt() < 2e-2 * scale


def test_memory_format_changes_speed_only():
    net = small().double()
    z, c, y = inputs(2, 20, 24)
    expected = net(z, c, image=y)
    net.to(memory_format=torch.channels_last)
    assert torch.allclose(net(z, c, image=y), expected, rtol=0, atol=1e-12)


def test_a_stored_network_is_rebuilt_from_its_arguments(tmp_path):
    net = small()
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    again = UNet(**json.loads(json.dumps(net.arguments)))
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    z, c, y = inputs(2, 17, 9, dtype=torch.float32)
    assert again.arguments == net.arguments
    assert torch.equal(again(z, c, image=y), net(z, c, image=y))


def test_without_context_and_image_a_shift_by_the_stride_shifts_the_output():
    net = small(context=0, blocks=(1, 1, 1), cond_channels=0).double()
    z, c, _ = inputs(1, 144, 144)
    s, edge = net.stride, 60  # the edge is wider than the receptive field
    moved = net(z.roll((s, s), (2, 3)), c)
    still = net(z, c)[..., edge:-edge, edge:-edge]
    assert still.numel() > 0
    assert torch.allclose(moved[..., edge + s : -edge + s, edge + s : -edge + s], still, rtol=0, atol=1e-12)


def test_a_window_as_large_as_the_image_sees_all_of_it():
    z, c, y = inputs(1, 32, 40)
    whole, windowed, narrow = (small(window=window).double()(z, c, image=y) for window in (0, 40, 16))
    assert torch.equal(whole, windowed)
    assert not torch.allclose(whole, narrow)


def test_context_carries_the_brightness_of_a_far_corner():
    z, c, y = inputs(1, 256, 8)
    far = (..., slice(-8, None), slice(None))
    brighter = z.clone()
    brighter[:, :, :8] += 1
    for context in (0, 1):
        net = small(context=context, cond_channels=0).double()
        assert torch.equal(net(z, c)[far], net(brighter, c)[far]) == (context == 0)
    lighter = y.clone()
    lighter[:, :, :8] += 1  # of the image, a glance suffices
    net = small(context=0).double()
    assert not torch.equal(net(z, c, image=y)[far], net(z, c, image=lighter)[far])


def test_the_ends_of_a_schedule_stay_finite():
    z, _, y = inputs(2, 8, 8)
    ends = torch.tensor([-torch.inf, torch.inf], dtype=torch.float64)
    net = small().double()
    assert torch.equal(net(z, ends, image=y), net(z, ends.clamp(-12, 12), image=y))
    assert net(z, ends, image=y).isfinite().all()


def test_a_tiny_batch_is_learnt_by_heart():
    net = small(channels=(16, 24, 32))
    z, c, y = inputs(2, 16, 16, dtype=torch.float32)
    target = y.flip(3) - y  # not local: neither the skip nor one convolution can do it
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = (net(z, c, image=y) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * target.square().mean()


def test_the_default_fits_eight_megabytes_in_half_precision():
    assert 2 * sum(p.numel() for p in UNet().parameters()) < 8e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": (8,), "blocks": (1, 1)}, "one of each per level"),
        ({"channels": ()}, "one of each per level"),
        ({"context": 9}, "from 0 to 3"),
        ({"fold": 0}, "fold 0: expected"),
        ({"window": -1}, "window -1: expected"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_a_missing_or_unwanted_condition_is_refused():
    z, c, y = inputs(1, 8, 8)
    with pytest.raises(ValueError, match="image="):
        small().double()(z, c)
    with pytest.raises(ValueError, match="no image"):
        small(cond_channels=0).double()(z, c, image=y)
