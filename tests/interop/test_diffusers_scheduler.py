"""Our solvers as schedulers of diffusers: the same steps as ours, and at home in its pipelines."""

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)
from interop import tiny

from undrift import Exponential, Gaussian, trajectory
from undrift.interop.diffusers import denoiser_of, process_of
from undrift.interop.diffusers_scheduler import ConsistencyScheduler, ExponentialScheduler
from undrift.solvers import Consistency

LCM = [float(t) for t in range(999, 0, -20)]


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return tiny.stable_diffusion(tmp_path_factory.mktemp("sd15"))


def stepped(unet, scheduler, z, steps, **settings):
    scheduler.set_timesteps(steps)
    with torch.no_grad():
        for t in scheduler.timesteps:
            z = scheduler.step(unet(z, t).sample, t, z, **settings).prev_sample
    return z


@pytest.mark.parametrize(
    ("order", "tau", "corrector", "weights", "extrapolate"),
    [
        (1, 0.0, False, "exact", "data"),
        (2, 0.0, True, "exact", "data"),
        (3, 0.0, True, "exact", "data"),
        (2, 1.0, True, "exact", "data"),
        (2, 0.5, False, "midpoint", "data"),
        (3, 0.0, False, "published", "noise"),
    ],
)
@pytest.mark.parametrize("spacing", ["lambda", "trailing"])
def test_a_loop_of_steps_is_our_solver(order, tau, corrector, weights, extrapolate, spacing):
    solver = Exponential(order, tau, extrapolate, corrector, weights)
    unet, z = tiny.Curved(), torch.randn(2, 3, 8, 8)
    scheduler = ExponentialScheduler(
        **tiny.SD, solver_order=order, tau=tau, corrector=corrector, weights=weights, extrapolate=extrapolate,
        spacing=spacing,
    )  # fmt: skip
    found = stepped(unet, scheduler, z, 7, generator=torch.Generator().manual_seed(1))
    denoiser = denoiser_of(unet, scheduler)
    times = scheduler.grid(7)
    with torch.no_grad():
        *_, wanted = trajectory(
            denoiser, denoiser.process, z, times, solver, Gaussian(torch.Generator().manual_seed(1))
        )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("fresh", [1.0, 0.4])
def test_a_loop_of_consistency_steps_is_our_solver(fresh):
    unet, z, scheduler = tiny.Curved(), torch.randn(2, 3, 8, 8), ConsistencyScheduler(**tiny.SD, fresh=fresh)
    found = stepped(unet, scheduler, z, 4, generator=torch.Generator().manual_seed(1))
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
    denoiser, noise = denoiser_of(unet, scheduler), Gaussian(torch.Generator().manual_seed(1))
    with torch.no_grad():
        *_, wanted = trajectory(denoiser, denoiser.process, z, scheduler.grid(4), Consistency(fresh), noise)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_students_of_latent_consistency_models_need_no_scheduler_of_their_own(steps):
    """The same timesteps and draws as LCMScheduler, whose boundary weights differ from 1 by less than 1e-5."""
    unet, z = tiny.Curved(), torch.randn(2, 3, 8, 8)
    theirs = LCMScheduler(**tiny.SD, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    wanted = stepped(unet, theirs, z, steps, generator=torch.Generator().manual_seed(5))
    ours = ConsistencyScheduler.from_config(theirs.config, trained_timesteps=LCM)
    found = stepped(unet, ours, z, steps, generator=torch.Generator().manual_seed(5))
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize("made", [ExponentialScheduler, ConsistencyScheduler])
@pytest.mark.parametrize("by", [StableDiffusionPipeline, DiffusionPipeline])
def test_a_pipeline_keeps_it_over_saving_and_loading(sd15, tmp_path, made, by):
    extra = {"solver_order": 3, "tau": 0.5} if made is ExponentialScheduler else {"fresh": 0.5}
    pipeline = StableDiffusionPipeline(
        **sd15.components | {"scheduler": made.from_config(sd15.scheduler.config, **extra)},
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": 3, "height": 16, "width": 16, "output_type": "pt", "guidance_scale": 3.0}
    wanted = pipeline("a rose", generator=torch.manual_seed(3), **given).images
    pipeline.save_pretrained(tmp_path)
    loaded = by.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded.scheduler) is made
    assert {key: loaded.scheduler.config[key] for key in extra} == extra
    torch.testing.assert_close(loaded("a rose", generator=torch.manual_seed(3), **given).images, wanted)


def test_it_is_made_of_theirs_and_theirs_of_it():
    theirs = DDIMScheduler(**tiny.SD, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    ours = ExponentialScheduler.from_config(theirs.config)
    assert process_of(ours) == process_of(theirs)
    assert (ours.config.solver_order, ours.config.corrector, ours.config.spacing) == (2, True, "lambda")
    again = DPMSolverMultistepScheduler.from_config(ours.config)
    assert process_of(again) == process_of(theirs)
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-4, atol=1e-7)


def test_its_own_folder(tmp_path):
    scheduler = ExponentialScheduler(**tiny.SD, end=2.0)
    scheduler.save_pretrained(tmp_path)
    again = ExponentialScheduler.from_pretrained(tmp_path)
    assert (again.config.end, again.config.beta_end) == (2.0, 0.012)
    assert process_of(again) == process_of(scheduler)


def test_noise_and_velocity_are_theirs():
    x, eps, t = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4), torch.tensor([0, 400, 999])
    ours, theirs = ExponentialScheduler(**tiny.SD), DDPMScheduler(**tiny.SD)
    for name in ("add_noise", "get_velocity"):
        found, wanted = getattr(ours, name)(x, eps, t), getattr(theirs, name)(x, eps, t)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_image_to_image_starts_in_the_middle(sd15):
    scheduler = ExponentialScheduler.from_config(sd15.scheduler.config)
    pipeline = StableDiffusionImg2ImgPipeline(
        **sd15.components | {"scheduler": scheduler}, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    seen = []

    def note(pipe, index, t, kept):
        seen.append((float(t), scheduler.step_index))
        return kept

    pipeline(
        "a rose", image=torch.rand(1, 3, 16, 16), strength=0.5, num_inference_steps=8, output_type="latent",
        callback_on_step_end=note, generator=torch.manual_seed(0),
    )  # fmt: skip
    assert [index for _, index in seen] == [5, 6, 7, 8]
    assert [t for t, _ in seen] == scheduler.timesteps[4:].tolist()


def test_the_corrector_keeps_what_was_changed_between_steps():
    """Inpainting overwrites the known pixels after each step: the corrector must not bring the old ones back."""
    scheduler = ExponentialScheduler(**tiny.SD, prediction_type="sample")  # outputs that the change does not alter
    outputs, change = torch.randn(6, 1, 3, 8, 8), torch.randn(1, 3, 8, 8)
    ends = []
    for edit in (torch.zeros(()), change):
        scheduler.set_timesteps(6)
        z = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        for k, t in enumerate(scheduler.timesteps[:4]):
            z = scheduler.step(outputs[k], t, z + edit if k == 3 else z).prev_sample
        ends.append(z)
    carry = scheduler._planned.rows[3].carry
    assert scheduler._planned.rows[3].correction
    torch.testing.assert_close(ends[1] - ends[0], carry * change, rtol=1e-4, atol=1e-5)


def test_half_precision_samples():
    scheduler, z = ExponentialScheduler(**tiny.SD), torch.randn(1, 3, 8, 8)
    unet = tiny.Curved()
    whole = stepped(unet, scheduler, z, 5)
    scheduler.set_timesteps(5)
    half = z.half()
    with torch.no_grad():
        for t in scheduler.timesteps:
            half = scheduler.step(unet(half.float(), t).sample.half(), t, half, return_dict=False)[0]
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), whole, rtol=0, atol=5e-3 * float(whole.abs().max()))


Z = torch.zeros(1, 3, 8, 8)


def run(steps, output=Z, begin=None):
    """Those of three steps, in that order."""
    scheduler = ExponentialScheduler()
    scheduler.set_timesteps(3)
    if begin is not None:
        scheduler.set_begin_index(begin)
    for k in steps:
        scheduler.step(output, scheduler.timesteps[k], Z)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ExponentialScheduler(solver_order=4), "choose 1, 2 or 3"),
        (lambda: ExponentialScheduler(spacing="middle"), "spacing 'middle'"),
        (lambda: ExponentialScheduler(end=100.0), "grid end = 100.0"),
        (lambda: ExponentialScheduler(clip_sample_range=-1.0), "clip_sample_range = -1.0"),
        (lambda: ExponentialScheduler(num_train_timesteps=0), "num_train_timesteps = 0"),
        (lambda: ExponentialScheduler(trained_betas=[0.1]), "trained_betas of 1 numbers"),
        (lambda: ExponentialScheduler().set_timesteps(2.5), "steps = 2.5"),
        (lambda: ExponentialScheduler().set_timesteps(timesteps=[]), r"timesteps \[\]"),
        (lambda: ConsistencyScheduler(trained_timesteps=[249, 999]), r"trained_timesteps \[249.0, 999.0\]"),
        (lambda: ConsistencyScheduler(trained_timesteps=[5000, 9]), "need decreasing numbers from 999"),
        (lambda: ExponentialScheduler().add_noise(Z, Z, torch.tensor([5000])), "timesteps from 5000 to 5000"),
        (lambda: run([0, 2]), "timestep 0: step 2 of 3 is the one at 302"),
        (lambda: run([0, 1, 2, 2]), "step 4 of 3: the run is over"),
        (lambda: run([0], torch.zeros(1, 3, 4, 8)), "need one value each of"),
        (lambda: run([0], begin=7), "step 8 of 3: the run is over"),
        (lambda: ExponentialScheduler().set_timesteps(), "one of them"),
        (lambda: ExponentialScheduler().set_timesteps(timesteps=[5, 9]), "need decreasing numbers from 999"),
        (lambda: ExponentialScheduler().set_timesteps(0), "steps = 0"),
        (lambda: ExponentialScheduler().step(torch.zeros(1), 5, torch.zeros(1)), "before set_timesteps"),
        (lambda: ConsistencyScheduler(fresh=2.0), "2.0"),
        (lambda: ConsistencyScheduler(trained_timesteps=[999.0]).set_timesteps(2), "need 1 to 1"),
        (lambda: ExponentialScheduler(prediction_type="flow"), "prediction_type 'flow'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
