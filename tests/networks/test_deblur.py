import torch

from undrift.degradations import MotionBlur
from undrift.networks import UNet
from undrift.networks.deblur import RADIUS, SIDES, Deblur, cepstrum, embedded, luma, wiener


def scene(size=96, seed=0):
    """(1, 3, size, size): edges in many directions, as photographs have."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij"))
    image = torch.full((3, size, size), 0.5)
    for _ in range(60):
        centre, half = (
            2 * torch.rand(2, 1, 1, generator=generator) - 1,
            0.05 + 0.3 * torch.rand(2, 1, 1, generator=generator),
        )
        turn = 3.1416 * torch.rand((), generator=generator)
        y, x = grid - 2 * centre + 1
        turned = torch.stack([y * turn.cos() + x * turn.sin(), x * turn.cos() - y * turn.sin()])
        inside = (turned.abs() < 0.05 + 0.3 * half).all(0)
        image[:, inside] = torch.rand(3, 1, generator=generator)
    return image[None]


def path(seed=0):
    """(1, 17, 17)"""
    kernel = (
        MotionBlur(length=(9.0, 9.0), bend=(1.5, 1.5)).draw((3, 32, 32), torch.Generator().manual_seed(seed)).kernel
    )
    margin = RADIUS - kernel.shape[-1] // 2
    return torch.nn.functional.pad(kernel, (margin,) * 4)[None]


def blurred(x, kernel):
    """Without its margin, so that nothing is known of what the edges hide."""
    transfer = torch.fft.rfft2(embedded(kernel, *x.shape[-2:]))
    y = torch.fft.irfft2(torch.fft.rfft2(x) * transfer[:, None], s=x.shape[-2:])
    return y[..., RADIUS:-RADIUS, RADIUS:-RADIUS], x[..., RADIUS:-RADIUS, RADIUS:-RADIUS]


def psnr(a, b):
    return -10 * (a - b)[..., 12:-12, 12:-12].square().mean().log10().item()


def knowing(kernel):
    """A Deblur that takes every blur for `kernel`."""
    net = Deblur(4)
    net.weight2.zero_()
    net.bias2.copy_(kernel[0].flatten().clamp_min(1e-12).log())
    return net


def test_the_right_kernel_brings_the_photograph_back():
    kernel = path()
    y, x = blurred(scene(), kernel)
    assert psnr(wiener(y, kernel, 1e-3), x) > psnr(y, x) + 6
    assert psnr(wiener(y, kernel, 0.03), x) > psnr(y, x) + 5


def test_a_kernel_that_is_a_point_changes_nothing():
    y = torch.rand(2, 3, 50, 61)
    point = torch.zeros(2, SIDES, SIDES)
    point[:, RADIUS, RADIUS] = 1
    assert torch.allclose(wiener(y, point, 0.0), y, atol=1e-4)


def test_of_a_kernel_and_its_mirror_image_the_right_one_is_taken():
    for seed in range(4):
        kernel = path(seed)
        y, x = blurred(scene(128, seed), kernel)
        right = knowing(kernel)(y)
        assert torch.allclose(knowing(kernel.flip(1, 2))(y), right, atol=1e-4)
        assert psnr(right, x) > psnr(wiener(y, kernel.flip(1, 2), 0.03), x) + 3


def test_blur_adds_its_own_cepstrum():
    kernel, noise = path(), torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.5
    y = torch.fft.irfft2(torch.fft.rfft2(noise) * torch.fft.rfft2(embedded(kernel, 256, 256)), s=(256, 256))
    point = torch.zeros(1, 256, 256)
    point[:, 128, 128] = 1
    alone = torch.fft.irfft2(torch.fft.rfft2(point) * torch.fft.rfft2(embedded(kernel, 256, 256)), s=(256, 256))
    added, own = cepstrum(y) - cepstrum(noise), cepstrum(alone) - cepstrum(point)
    assert torch.corrcoef(torch.stack([added[0], own[0]]))[0, 1] > 0.9


def test_the_estimate_is_a_kernel_and_reads_no_brightness_or_contrast():
    torch.manual_seed(0)
    net = Deblur(16)
    y = scene()
    kernel = net.kernel(luma(y))
    assert kernel.shape == (1, SIDES, SIDES)
    assert (kernel >= 0).all()
    assert torch.allclose(kernel.sum((1, 2)), torch.ones(1))
    assert torch.allclose(net.kernel(0.5 * luma(y) + 0.3), kernel, atol=1e-3)


def test_small_flat_and_odd_photographs():
    torch.manual_seed(0)
    net = Deblur(8)
    small = torch.rand(1, 3, 47, 90)
    assert net(small) is small
    flat = torch.full((1, 3, 64, 64), 0.25)
    assert torch.allclose(net(flat), flat, atol=0.05)
    assert net(torch.rand(1, 3, 49, 131)).shape == (1, 3, 49, 131)
    assert net(torch.rand(2, 1, 64, 64)).isfinite().all()


def test_a_sample_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    net = Deblur(8)
    y = torch.cat([scene(seed=1), scene(seed=2)])
    assert torch.allclose(net(y[1:]), net(y)[1:], atol=1e-5)


def test_no_gradient_passes_by_way_of_the_second_view():
    torch.manual_seed(0)
    y = scene(64).requires_grad_()
    seen = UNet(channels=(8, 12), blocks=(1, 1), embedding=16, deblur=4).seen(y)
    (gradient,) = torch.autograd.grad(seen[:, seen.shape[1] // 2 :].sum() + seen.sum(), y)
    assert torch.equal(gradient, torch.full_like(y, 2))


def test_half_precision_is_of_the_weights_alone():
    torch.manual_seed(0)
    net, y = Deblur(8), scene()
    whole = net(y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net.requires_grad_(False)(y), whole)
    assert net.half()(y.half()).dtype == torch.float16
