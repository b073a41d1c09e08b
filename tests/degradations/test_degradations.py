"""Laws that hold for every degradation, and each one against its own equation."""

import io
import math
import statistics

import numpy as np
import pytest
import torch
from PIL import Image

from undrift.degradations import (
    JPEG,
    TASKS,
    Degradation,
    Diagonal,
    Haze,
    Inpainting,
    Linear,
    LowLight,
    MotionBlur,
    Noise,
    Rain,
    RainDrop,
    Shadow,
    Snow,
)
from undrift.degradations.fields import capsule, convolve, smooth, sprinkle

NAMES = [
    "motion-blurry", "hazy", "jpeg-compressed", "low-light", "noisy",
    "raindrop", "rainy", "shadowed", "snowy", "uncompleted",
]  # fmt: skip
LINEAR = ["motion-blurry", "hazy", "raindrop", "rainy", "shadowed", "snowy", "uncompleted"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photograph(height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """A stand-in with a photograph's falling spectrum: smooth fields of many scales."""
    g = seeded(seed)
    planes = [sum(smooth(height, width, cells, g) / cells**0.7 for cells in (2, 5, 12, 30)) for _ in range(channels)]
    return (0.5 + 0.2 * torch.stack(planes)).clamp(0, 1)


def psnr(x: torch.Tensor, y: torch.Tensor) -> float:
    return -10 * math.log10((x - y).square().mean().item())


def test_the_ten_tasks_in_the_official_order():
    assert list(TASKS) == NAMES
    assert [name for name in NAMES if isinstance(TASKS[name].draw((3, 8, 8), seeded()), Linear)] == LINEAR


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_fixes_every_bit(name):
    x = photograph(48, 40)
    first, again, other = (TASKS[name](x, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    operator = TASKS[name].draw((3, 48, 40), seeded(3))
    assert torch.equal(operator(x).clamp(0, 1), first)
    assert torch.equal(operator(x), operator(x))


@pytest.mark.parametrize("name", NAMES)
def test_global_randomness_is_neither_used_nor_spent(name):
    x = photograph(24, 24)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = TASKS[name](x, seeded())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(TASKS[name](x, seeded()), first)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 7), (3, 33, 2), (3, 65, 31), (1, 20, 17), (1, 1, 1)])
def test_any_size_and_grey_stay_in_range(name, shape):
    for seed in range(4):
        y = TASKS[name](torch.rand(shape, generator=seeded(seed)), seeded(seed))
        assert y.shape == shape
        assert y.dtype == torch.float32
        assert y.isfinite().all()
        assert y.min() >= 0
        assert y.max() <= 1


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("shape", [(3, 37, 52), (1, 5, 3), (3, 1, 1)])
def test_the_adjoint_identity(name, shape):
    operator = TASKS[name].draw(shape, seeded(7))
    g = seeded(1)
    x, z, v = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(3))
    with torch.no_grad():
        forward = (operator.linear(x) * v).sum()
        torch.testing.assert_close(forward, (x * operator.adjoint(v)).sum(), rtol=1e-10, atol=1e-10)
        # Affine: differences are linear, and the offset is what black becomes.
        torch.testing.assert_close(operator(x + 2 * z) - operator(x), 2 * operator.linear(z), rtol=0, atol=1e-10)
        offset = torch.as_tensor(operator.offset, dtype=torch.float64).expand(shape)
        torch.testing.assert_close(operator(torch.zeros_like(x)), offset, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LINEAR)
def test_affine_tasks_need_no_clipping(name):
    for seed in range(5):
        operator = TASKS[name].draw((3, 40, 40), seeded(seed))
        for x in (torch.zeros(3, 40, 40), torch.ones(3, 40, 40)):
            y = operator(x)
            assert y.min() > -1e-5
            assert y.max() < 1 + 1e-5


# Mean PSNR of the degraded image, dB: far from both a no-op and a wreck, as in the sets imitated.
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("motion-blurry", 18, 38), ("hazy", 10, 20), ("jpeg-compressed", 24, 38), ("low-light", 5, 12),
        ("noisy", 14.5, 21), ("raindrop", 18, 30), ("rainy", 10, 20), ("shadowed", 12, 24),
        ("snowy", 11, 21), ("uncompleted", 7, 14),
    ],
)  # fmt: skip
def test_strength(name, low, high):
    values = []
    for seed in range(12):
        x = photograph(128, 128, seed=seed)
        values.append(psnr(TASKS[name](x, seeded(seed)), x))
    assert low < statistics.mean(values) < high


def test_motion_blur_is_the_convolution_with_a_path_that_sums_to_one():
    g = seeded()
    for seed in range(20):
        operator = MotionBlur().draw((3, 64, 64), seeded(seed))
        k = operator.kernel
        assert k.min() >= 0
        assert abs(k.sum().item() - 1) < 1e-5
        assert k.shape[0] == k.shape[1] <= 25
        assert k.shape[0] % 2 == 1
        flat = torch.full((3, 30, 30), 0.37)
        torch.testing.assert_close(operator(flat), flat, rtol=0, atol=1e-5)
    x = torch.rand(3, 40, 50, generator=g, dtype=torch.float64)
    r = k.shape[0] // 2
    padded = torch.nn.functional.pad(x[None], (r, r, r, r), mode="replicate").transpose(0, 1)
    direct = torch.nn.functional.conv2d(padded, k.double().flip(0, 1)[None, None])[:, 0]
    torch.testing.assert_close(operator(x), direct, rtol=0, atol=1e-12)


def test_a_path_of_no_length_blurs_nothing():
    x = photograph(20, 20)
    torch.testing.assert_close(MotionBlur(length=(0.0, 0.0))(x, seeded()), x, rtol=0, atol=1e-5)


def test_haze_obeys_koschmieder():
    beta, light = 1.2, 0.8
    operator = Haze(beta=(beta, beta), light=(light, light), tint=0.0).draw((3, 64, 64), seeded(5))
    t = operator.gain
    assert math.exp(-beta) - 1e-6 <= t.min() <= t.max() <= 1
    x = photograph(64, 64)
    torch.testing.assert_close(operator(x), t * x + (1 - t) * light)
    airlight = torch.full((3, 64, 64), light)
    torch.testing.assert_close(operator(airlight), airlight)  # the airlight itself does not change


def test_jpeg_is_pillows_round_trip():
    x = photograph(37, 61)
    levels = x.mul(255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=10)
    expected = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1).float() / 255
    assert torch.equal(JPEG(quality=(10, 10))(x, seeded()), expected)
    drawn = {JPEG(quality=(8, 11)).draw((3, 1, 1), seeded(seed)).quality for seed in range(60)}
    assert drawn == {8, 9, 10, 11}


def test_noise_has_the_stated_deviation_and_is_white():
    noise = Noise(sigma=(25.0, 25.0))(torch.full((3, 256, 256), 0.5), seeded()) - 0.5
    assert noise.std().item() * 255 == pytest.approx(25, rel=0.01)
    assert abs(noise.mean().item()) * 255 < 0.3
    neighbours = (noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.var()
    channels = (noise[0] * noise[1]).mean() / noise.var()
    assert abs(neighbours.item()) < 0.01
    assert abs(channels.item()) < 0.02
    clipped = Noise(sigma=(50.0, 50.0))(torch.zeros(1, 256, 256), seeded())
    assert (clipped == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)  # half of it was negative


def test_low_light_scales_grey_levels_and_its_noise_has_the_stated_variance():
    gain, shot, read, grey = 0.25, 3e-4, 1e-4, 0.8
    x = torch.full((3, 256, 256), grey)
    quiet = LowLight(gain=(gain, gain), shot=(0.0, 0.0), read=(0.0, 0.0))(x, seeded())
    assert quiet.unique().tolist() == pytest.approx([round(255 * gain * grey) / 255])
    light = LowLight(gain=(gain, gain), shot=(shot, shot), read=(read, read))(x, seeded()) ** 2.2
    mean = (gain * grey) ** 2.2
    rounding = (2.2 * (gain * grey) ** 1.2 / 255) ** 2 / 12
    assert light.mean().item() == pytest.approx(mean, rel=0.01)
    assert light.var().item() == pytest.approx(shot * mean + read**2 + rounding, rel=0.05)


def test_shadow_leaves_the_stated_light_bluer_and_nothing_outside():
    for seed in range(10):
        operator = Shadow(light=(0.4, 0.4), tint=(0.2, 0.2)).draw((3, 128, 128), seeded(seed))
        gain = operator.gain
        assert operator.offset == 0.0
        assert gain.max() <= 1
        assert (gain.diff(dim=0) >= 0).all()  # red loses most
        torch.testing.assert_close(gain.amin((1, 2)), torch.tensor([0.36, 0.40, 0.44]), rtol=0, atol=0.02)


@pytest.mark.parametrize(("degradation", "light"), [(Rain(light=(0.9, 0.9)), 0.9), (Snow(light=(1, 1)), 1.0)])
def test_weather_leaves_its_own_colour_alone(degradation, light):
    x = torch.full((3, 64, 64), light)
    torch.testing.assert_close(degradation(x, seeded()), x)


def test_snow_without_flakes_is_its_veil():
    snow = Snow(strength=(0.0, 0.0), veil=(0.15, 0.15))
    torch.testing.assert_close(snow.draw((3, 9, 9), seeded()).gain, torch.full((1, 9, 9), 0.85))


def test_rain_covers_as_stated_whatever_the_size():
    """The mean opacity of a crop is that of a large image: sizes are in pixels, counts per area."""
    rain = Rain(strength=(0.2, 0.2), cover=(0.5, 0.5))
    mean = {
        size: statistics.mean(1 - rain.draw((3, size, size), seeded(seed)).gain.mean().item() for seed in range(count))
        for size, count in ((64, 60), (512, 4))
    }
    assert mean[64] == pytest.approx(mean[512], rel=0.08)


def test_sprinkled_particles_add_up():
    """E[mean] = density / 2 * mass of the kernel, strengths being uniform in (0, 1)."""
    kernel = capsule(256, 256, length=10, radius=1.5, angle=0.3, softness=2)
    assert kernel.max() == kernel[0, 0] == 1
    field = sprinkle(kernel, 0.02, seeded())
    assert field.mean().item() == pytest.approx(0.01 * kernel.sum().item(), rel=0.05)


def test_a_capsule_has_its_length_and_lean():
    kernel = capsule(129, 129, length=40, radius=1.0, angle=math.pi / 2, softness=2)
    shifted = kernel.roll((64, 64), (0, 1))
    assert (shifted[64] > 0.5).sum() == pytest.approx(40, abs=3)  # lying along a row
    assert (shifted[:, 64] > 0.5).sum() <= 3


def test_convolving_with_a_unit_impulse_changes_nothing():
    x, impulse = torch.rand(2, 9, 14, generator=seeded(), dtype=torch.float64), torch.zeros(9, 14)
    impulse[0, 0] = 1
    torch.testing.assert_close(convolve(x, impulse), x)


def test_drops_change_only_what_they_cover():
    x = photograph(96, 96)
    operator = RainDrop().draw((3, 96, 96), seeded(2))
    outside = operator.alpha == 0
    assert 0.3 < outside.float().mean() < 0.98
    assert torch.equal(operator(x)[:, outside], x[:, outside])
    # Without a glint, a white scene through a drop shows the drop's own shading.
    white = operator.linear(torch.ones(3, 96, 96))
    expected = (1 - operator.alpha + operator.alpha * operator.gain).expand(3, 96, 96)
    torch.testing.assert_close(white, expected)


def test_a_drop_shows_the_scene_upside_down():
    operator = RainDrop(radius=(20.0, 20.0), cover=(1.0, 1.0)).draw((1, 128, 128), seeded())
    inside = operator.alpha > 0.99
    both = inside[1:] & inside[:-1]
    falling = (operator.source[..., 1].diff(dim=0)[both] < 0).float().mean()
    assert falling > 0.9


def test_inpainting_loses_the_stated_area_to_white():
    for seed in range(10):
        operator = Inpainting(area=(0.25, 0.25)).draw((3, 256, 256), seeded(seed))
        assert isinstance(operator, Diagonal)
        kept = operator.gain
        assert set(kept.unique().tolist()) == {0.0, 1.0}
        assert 0.25 <= 1 - kept.mean().item() < 0.32
        x = photograph(256, 256)
        torch.testing.assert_close(operator(x), torch.where(kept > 0, x, torch.ones(())))


def test_a_degradation_of_ten_lines_is_one_like_the_others():
    class Negative(Degradation):
        def draw(self, shape, generator):
            return Diagonal(torch.tensor(-1.0), 1.0)

    x = photograph(8, 8)
    torch.testing.assert_close(Negative()(x, seeded()), 1 - x)


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: JPEG(quality=(40, 10)), "quality"),
        (lambda: Noise(sigma=(-1.0, 5.0)), "sigma"),
        (lambda: Haze(light=(0.5, 1.5)), "light"),
        (lambda: Inpainting(area=(0.5, 1.0)), "area"),
        (lambda: JPEG().draw((4, 8, 8), seeded()), "4 channels"),
        (lambda: Noise()(torch.zeros(1, 3, 8, 8), seeded()), r"\(1, 3, 8, 8\)"),
        (lambda: Noise()(torch.zeros(3, 0, 8), seeded()), r"\(3, 0, 8\)"),
        (lambda: Noise()(torch.zeros(3, 8, 8, dtype=torch.uint8), seeded()), "uint8"),
    ],
)
def test_bad_input_is_named_in_one_line(build, word):
    with pytest.raises(ValueError, match=word) as error:
        build()
    assert "\n" not in str(error.value)
