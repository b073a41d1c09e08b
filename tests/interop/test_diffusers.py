"""Imported pipelines against diffusers itself: the same noise, the same timesteps, the same images."""

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from interop import tiny

from undrift import Exponential, PerSample, Replay, sample, times, trajectory
from undrift.interop.diffusers import denoiser_of, from_pipeline, grid, latent_of, process_of
from undrift.solvers import Heun

WORDS = ["a red tulip", "two roses"]
BETAS = [
    {},
    tiny.SD,
    tiny.SD | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 200},
    {"trained_betas": [0.1, 0.2, 0.3]},
]


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return tiny.stable_diffusion(tmp_path_factory.mktemp("sd15"))


def diffused(unet, scheduler, z, steps, **step):
    """The loop of every diffusers pipeline."""
    scheduler.set_timesteps(steps)
    with torch.no_grad():
        for t in scheduler.timesteps:
            z = scheduler.step(unet(z, t).sample, t, z, **step).prev_sample
    return z


def ours(unet, scheduler, z, steps, solver, draws=()):
    denoiser = denoiser_of(unet, scheduler)
    grid_ = grid(scheduler, denoiser.process, steps)
    with torch.no_grad():
        *_, last = trajectory(denoiser, denoiser.process, z, grid_, solver, Replay(draws))
    return last


def close(found, wanted, tolerance=2e-5):
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * float(wanted.abs().max()))


@pytest.mark.parametrize("settings", BETAS, ids=str)
def test_the_process_is_the_table_of_the_betas(settings):
    scheduler = DDIMScheduler(**settings)
    process = process_of(scheduler)
    alpha, sigma = process.alpha_sigma(torch.arange(len(scheduler), dtype=torch.float64)[: len(process.values)])
    wanted = scheduler.alphas_cumprod.double()
    torch.testing.assert_close(alpha**2, wanted, rtol=3e-5, atol=1e-9)  # diffusers accumulates float32
    torch.testing.assert_close(sigma**2, 1 - wanted, rtol=3e-5, atol=3e-7)
    assert process_of(dict(scheduler.config)) == process


@pytest.mark.parametrize("made", [DDIMScheduler, DPMSolverMultistepScheduler], ids=lambda made: made.__name__)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_the_grid_is_the_timesteps_of_the_scheduler(made, spacing):
    scheduler = made(timestep_spacing=spacing, steps_offset=1)
    process = process_of(scheduler)
    for steps in (*range(2, 60), 100, 333, 500):
        scheduler.set_timesteps(steps)
        found = grid(scheduler, process, steps)
        assert float(found[-1]) == process.t_clean
        assert found[:-1].tolist() == scheduler.timesteps.tolist()


@pytest.mark.parametrize("settings", BETAS[:4], ids=str)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("clean", [True, False], ids=["to the data", "to the first index"])
def test_order_1_is_ddim(settings, kind, clean):
    if settings.get("rescale_betas_zero_snr") and kind == "epsilon":
        pytest.skip("pure noise says nothing of the image")
    settings = settings | {"prediction_type": kind, "clip_sample": False, "set_alpha_to_one": clean}
    zero = {"timestep_spacing": "trailing"} if settings.get("rescale_betas_zero_snr") else {}
    scheduler, unet = DDIMScheduler(**settings | zero), tiny.Curved()
    z = torch.randn(2, 3, 8, 8)
    close(ours(unet, scheduler, z, 10, Exponential(1)), diffused(unet, scheduler, z, 10))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize(("kind", "weights"), [("midpoint", "midpoint"), ("heun", "published")])
def test_multistep_is_dpm_solver_plus_plus(order, spacing, kind, weights):
    scheduler = DPMSolverMultistepScheduler(
        **tiny.SD, solver_order=order, timestep_spacing=spacing, solver_type=kind, lower_order_final=False,
        steps_offset=1,
    )  # fmt: skip
    unet, z = tiny.Curved(), torch.randn(2, 3, 8, 8)
    close(ours(unet, scheduler, z, 12, Exponential(order, weights=weights)), diffused(unet, scheduler, z, 12))
    if order == 2:  # and the exact weights are another sampler where the literature's are not exact
        exact = ours(unet, scheduler, z, 12, Exponential(2))
        same = torch.allclose(exact, diffused(unet, scheduler, z, 12), rtol=0, atol=1e-4)
        assert same == (kind == "heun")


def test_the_default_of_dpm_solver_ends_as_ours_does():
    """`lower_order_final`, its default, takes order 1 to the data, as we always do; order 2 needs nothing else."""
    scheduler = DPMSolverMultistepScheduler()
    unet, z = tiny.unet(), torch.randn(1, 3, 8, 8)
    close(ours(unet, scheduler, z, 8, Exponential(2, weights="midpoint")), diffused(unet, scheduler, z, 8))


def test_a_real_u_net_by_ddim():
    scheduler, unet, z = DDIMScheduler(**tiny.SD15), tiny.unet(), torch.randn(2, 3, 8, 8)
    close(ours(unet, scheduler, z, 5, Exponential(1)), diffused(unet, scheduler, z, 5))


def test_stochastic_steps_with_the_same_draws():
    scheduler, unet, z = DDIMScheduler(clip_sample=False), tiny.Curved(), torch.randn(1, 3, 8, 8)
    draws = torch.randn(5, 1, 3, 8, 8)
    scheduler.set_timesteps(5)
    wanted = z
    with torch.no_grad():
        for t, draw in zip(scheduler.timesteps, draws, strict=True):
            wanted = scheduler.step(unet(wanted, t).sample, t, wanted, eta=1.0, variance_noise=draw).prev_sample
    close(ours(unet, scheduler, z, 5, Exponential(1, tau=1.0), draws), wanted)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_stable_diffusion_15_is_the_pipeline(sd15, scale):
    z, size = torch.randn(2, 4, 8, 8), {"height": 16, "width": 16, "output_type": "pt"}
    wanted = sd15(WORDS, num_inference_steps=6, guidance_scale=scale, latents=z, **size).images
    model = from_pipeline(sd15)
    assert model.shape == (4, 8, 8)
    told = {"times": model.grid(6), "solver": Exponential(1), "start": z, "noise": Replay([])} | model.encode(WORDS)
    found = sample(model.guided(scale), model.denoiser.process, model.space, shape=z.shape, **told)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    if scale != 1:
        plain = sample(model.denoiser, model.denoiser.process, model.space, shape=z.shape, **told)
        assert (plain - found).abs().max() > 0.01  # the guidance is heard


def test_a_negative_prompt_is_what_guidance_turns_from(sd15):
    z, model = torch.randn(1, 4, 8, 8), from_pipeline(sd15)
    given = {"num_inference_steps": 4, "guidance_scale": 5.0, "height": 16, "width": 16, "output_type": "pt"}
    wanted = sd15("roses", negative_prompt="blue", latents=z, **given).images
    start = {"shape": z.shape, "start": z, "noise": Replay([]), "times": model.grid(4), "solver": Exponential(1)}
    denoise = model.guided(5.0, "blue")
    found = sample(denoise, model.denoiser.process, model.space, **start, **model.encode("roses"))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("zeros", [True, False])
def test_stable_diffusion_xl_is_the_pipeline(tmp_path, zeros):
    pipeline = tiny.stable_diffusion_xl(tmp_path)
    pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    z, model = torch.randn(2, 4, 8, 8), from_pipeline(pipeline)
    given = {"num_inference_steps": 4, "guidance_scale": 6.0, "height": 16, "width": 16, "output_type": "pt"}
    wanted = pipeline(WORDS, latents=z, **given).images
    told = model.encode(WORDS)
    assert told["sizes"].tolist() == [[16, 16, 0, 0, 16, 16]] * 2
    start = {"shape": z.shape, "start": z, "noise": Replay([]), "times": model.grid(4), "solver": Exponential(1)}
    found = sample(model.guided(6.0), model.denoiser.process, model.space, **start, **told)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_two_lines_from_a_folder(sd15, tmp_path):
    sd15.save_pretrained(tmp_path)
    model = from_pipeline(tmp_path)
    images = model.sample(WORDS, steps=3, guidance=2.0, seeds=[5, 6])
    assert images.shape == (2, 3, 16, 16)
    alone = from_pipeline(sd15).sample(WORDS[1], steps=3, guidance=2.0, seeds=[6])
    torch.testing.assert_close(images[1:], alone, rtol=0, atol=1e-5)  # a sample is its seed's, not its batch's


def test_the_solver_of_the_scheduler_does_not_matter():
    """Euler's sigmas and a DPM solver's lambdas are other words for the betas."""
    process = process_of(DDPMScheduler(**tiny.SD))
    for made in (EulerDiscreteScheduler, UniPCMultistepScheduler, DDIMScheduler):
        assert process_of(made(**tiny.SD)) == process


def test_every_solver_takes_it_off_the_integers():
    denoiser = denoiser_of(tiny.unet(), DDIMScheduler())
    process, pixels = denoiser.process, from_pipeline(tiny.unconditional()).space
    for solver in (Exponential(3, corrector=True), Exponential(2, tau=1.0), Heun()):
        grid_ = times.uniform_lambda(process, 5, end=3.0)
        found = sample(
            denoiser, process, pixels, shape=(2, 3, 8, 8), times=grid_, solver=solver, noise=PerSample([1, 2])
        )
        assert found.std() > 0.1


def test_classes_and_their_guidance():
    unet = tiny.unet(num_class_embeds=4)
    pipeline = tiny.unconditional()
    pipeline.unet = unet
    model = from_pipeline(pipeline, null=3)
    z, t = torch.randn(2, 3, 8, 8), torch.tensor(500.0, dtype=torch.float64)
    label, none = torch.tensor([0, 2]), torch.tensor([3, 3])
    raw = {k: unet(z, 500, class_labels=v).sample for k, v in {"with": label, "none": none}.items()}
    alpha, sigma = (float(c) for c in model.denoiser.process.alpha_sigma(t))
    wanted = (z - sigma * (raw["none"] + 3 * (raw["with"] - raw["none"]))) / alpha
    torch.testing.assert_close(model.guided(3.0)(z, t, label=label), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.denoiser(z, t), model.denoiser(z, t, label=none))
    assert model.sample(seeds=[1, 2], label=label, steps=2, guidance=2.0).shape == (2, 3, 8, 8)


def test_the_variance_of_a_network_that_predicts_it_is_left_out():
    unet = tiny.unet(out_channels=6)
    z, t = torch.randn(1, 3, 8, 8), torch.tensor(300.0, dtype=torch.float64)
    found = denoiser_of(unet, DDIMScheduler(prediction_type="sample"))(z, t)
    torch.testing.assert_close(found, unet(z, 300).sample[:, :3])


def test_latent_codes_have_their_scale_and_shift():
    vae, x = tiny.autoencoder(scaling_factor=0.5, shift_factor=0.25), torch.rand(2, 3, 16, 16)
    space = latent_of(vae)
    law = vae.encode(2 * x - 1).latent_dist
    torch.testing.assert_close(space.encode(x), (law.mean - 0.25) * 0.5)
    torch.testing.assert_close(space.decode(space.encode(x)), (vae.decode(law.mean).sample + 1) / 2)
    drawn = latent_of(vae, torch.Generator().manual_seed(3)).encode(x)
    wanted = law.sample(generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn, (wanted - 0.25) * 0.5)
    assert (drawn - space.encode(x)).abs().max() > 0.01


def test_a_half_precision_network_is_told_whole_timesteps():
    seen = []
    unet = tiny.unet().bfloat16()
    unet.register_forward_pre_hook(lambda module, given: seen.append(given[1]))
    denoiser_of(unet, DDIMScheduler())(torch.randn(1, 3, 8, 8), torch.tensor(981.0, dtype=torch.float64))
    assert seen[0].tolist() == [981.0]  # in bfloat16 it would be 980


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: process_of(FlowMatchEulerDiscreteScheduler()), "has no betas"),
        (lambda: process_of(3), "need a scheduler of diffusers"),
        (lambda: process_of({"num_train_timesteps": 9, "trained_betas": [0.1, 1.0]}), "below 1"),
        (lambda: denoiser_of(tiny.unet(), DDIMScheduler(rescale_betas_zero_snr=True)), "pure noise says nothing"),
        (lambda: denoiser_of(torch.nn.Linear(1, 1), DDIMScheduler()), "need a UNet2DModel"),
        (lambda: denoiser_of(tiny.unet(num_class_embeds=4), DDIMScheduler(), 4), "knows the classes 0 to 3"),
        (lambda: from_pipeline(tiny.unconditional()).sample(["red"]), "reads no prompts"),
        (lambda: from_pipeline(tiny.unconditional()).sample(2), "prompts = 2: need a list of texts"),
        (lambda: from_pipeline(tiny.unconditional()).guided(2.0), "name its class for none"),
        (lambda: from_pipeline("/no/such/folder"), "not a pipeline of diffusers"),
        (lambda: times.discrete(process_of(DDIMScheduler()), 2000), "at least as many indices"),
        (lambda: times.discrete(process_of(DDIMScheduler()), 9, "middle"), "choose 'leading', 'trailing' or 'linsp"),
        (lambda: times.discrete(process_of(DDIMScheduler()), 10, offset=101), "leave the schedule"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_prompts_are_wanted_and_classes_checked(sd15):
    model = from_pipeline(sd15)
    for call, message in [
        (lambda: model.sample(seeds=[0]), "prompts are not given"),
        (lambda: model.denoiser(torch.zeros(1, 4, 8, 8), torch.tensor(5.0)), "'text' is not given"),
        (lambda: model.encode([]), "0 prompts"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    classes = denoiser_of(tiny.unet(num_class_embeds=4), DDIMScheduler())
    with pytest.raises(ValueError, match=r"label in \[0, 4\]: need 0 to 3"):
        classes(torch.zeros(2, 3, 8, 8), torch.tensor(5.0), label=torch.tensor([0, 4]))
