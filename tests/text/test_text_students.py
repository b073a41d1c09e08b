"""Students of pipelines: what they start from, and that plain diffusers makes of them what undrift makes."""

import json
import math
import shutil

import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline

from undrift import times
from undrift.cli.main import main
from undrift.data import read as read_image
from undrift.evaluation.prompted import pictures, preset_of
from undrift.interop import diffusers_student
from undrift.interop.diffusers_student import low_rank, read_facts, with_guidance
from undrift.interop.diffusers_text import open_text_to_image
from undrift.interop.diffusers_unet import DiffusersUNet
from undrift.networks import Critic
from undrift.training import state
from undrift.training.nodes import GRIDS
from undrift.training.presets import distilling
from undrift.training.recipe import override, read
from undrift.training.run import train

QUICK = ("data.batch=2", "training.steps=2", "training.log_every=1", "optimizer.lr=0.05", "schedule.warmup=0",
         "average.decay=0")  # fmt: skip
C = torch.tensor([3.0, 700.0])


@pytest.fixture(scope="module")
def parts(pipeline):
    return open_text_to_image(pipeline)


@pytest.fixture(scope="module")
def made(pipeline, captioned, tmp_path_factory):
    """run(name, *settings): the model of a short distillation from the command line."""
    home = tmp_path_factory.mktemp("runs")

    def run(name, *words):
        given = ["distill", pipeline, "--data", captioned, "-o", home / name, *words, *QUICK]
        assert main([str(word) for word in given]) == 0
        return home / name / "model"

    return run


@pytest.fixture(scope="module")
def whole(made):
    return made("whole", "--preset", "scott", "method.guidance=[1,3]", "method.embedding=16", "preview.every=2")


@pytest.fixture(scope="module")
def lora(made):
    return made("lora", "--preset", "lcm", "--lora", "2", "method.guidance=[2,2]", "preview.every=0")


def plain(folder, **options):
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_students_start_as_their_teacher(parts):
    unet, z, cond = parts.denoiser.network.unet, torch.randn(2, *parts.shape), parts.encode(["a boot", ""])
    wanted = parts.denoiser.network(z, C, **cond)
    guided = DiffusersUNet(with_guidance(unet, 16))
    assert torch.equal(guided(z, C, **cond, guidance=torch.tensor([2.0, 5.0])), wanted)
    torch.nn.init.normal_(guided.unet.time_embedding.cond_proj.weight)
    scales = [guided(z, C, **cond, guidance=torch.tensor(scale)) for scale in (2.0, 5.0)]
    assert not torch.allclose(*scales)
    assert torch.equal(DiffusersUNet(low_rank(unet, 2))(z, C, **cond), wanted)


def test_a_low_rank_student_trains_nothing_else(parts):
    student = low_rank(parts.denoiser.network.unet, 2)
    trained = [name for name, weight in student.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert any("up_blocks" in name for name in trained)
    assert any("resnets" in name for name in trained)


def test_the_critic_sees_the_decoder_and_changes_it_alone(parts):
    network, z, cond = parts.denoiser.network, torch.randn(2, *parts.shape), parts.encode(["a boot", "a bag"])
    maps = network.features(z, C, **cond)
    assert tuple(each.shape[1] for each in maps) == network.feature_channels
    assert [each.shape[-1] for each in maps] == [4, 8, 8]
    critic = Critic(network, rank=2)
    names = critic.change.names
    assert names
    assert all(name.startswith("unet.up_blocks.") for name in names)
    one, other = (critic(z, C, **parts.encode([text] * 2)) for text in ("a boot", "a bag"))
    assert not torch.allclose(one, other)  # it reads
    assert not torch.allclose(critic(z, C + 200, **cond), critic(z, C, **cond))  # and knows the time
    critic(z, C, **cond).sum().backward()
    assert all(p.grad is None for p in network.parameters())
    assert all(b.grad is not None for b in critic.change.b)


def test_checkpointing_moves_no_gradient(parts):
    z, cond, grads = torch.ones(2, *parts.shape), parts.encode(["a boot", ""]), []
    for again in (False, True):
        student = DiffusersUNet(with_guidance(parts.denoiser.network.unet, 8).eval())
        if again:
            student.recompute()
        assert student.unet.is_gradient_checkpointing == again
        student(z, C, **cond, guidance=torch.tensor(3.0)).square().sum().backward()
        grads.append([p.grad for p in student.parameters() if p.grad is not None])
    assert len(grads[0]) > 50
    assert all(torch.allclose(a, b) for a, b in zip(*grads, strict=True))


def test_training_grid_and_lcm_scheduler_leap_from_the_same_times(parts):
    grid = GRIDS["trailing"](parts.denoiser.process, 4, 4.0, None)
    assert grid.tolist() == [999, 749, 499, 249, 0, -math.inf]
    scheduler = LCMScheduler(beta_schedule="scaled_linear", original_inference_steps=4)
    for count, wanted in ((1, [999]), (2, [999, 499]), (4, [999, 749, 499, 249])):
        scheduler.set_timesteps(count, original_inference_steps=4)
        assert scheduler.timesteps.tolist() == wanted


def test_a_whole_student_is_a_pipeline_of_plain_diffusers(whole, parts, captioned):
    pipe = plain(whole)
    assert isinstance(pipe.scheduler, LCMScheduler)
    assert pipe.scheduler.config.original_inference_steps == 4
    assert pipe.unet.config.time_cond_proj_dim == 16
    assert pipe("a boot", num_inference_steps=2, guidance_scale=2.0, height=16, width=16).images[0].size == (16, 16)
    student = open_text_to_image(whole)
    assert student.denoiser.student
    process, taught = student.denoiser.process, student.denoiser.taught
    assert taught == (999, 749, 499, 249, 0)
    leaping = preset_of(student.denoiser, "consistency")
    assert leaping.grid(process, 3).tolist() == [999, 749, 249, -math.inf]
    for count in (1, 2, 4):
        assert leaping.grid(process, count).equal(times.trailing(process, count))
    drift = student.denoiser.network.unet.conv_out.weight - parts.denoiser.network.unet.conv_out.weight
    assert drift.abs().max() > 1e-3  # it has learnt something
    # One evaluation from the same noise: LCM's boundary condition differs from ours by a millionth at t = 999.
    prompt, seed = "a dark bag", 3
    ours = pictures(student, [prompt], [seed], "consistency:1", guidance=2.0)
    from undrift.noise import PerSample

    t = torch.tensor(999.0, dtype=torch.float64)
    noise = PerSample([seed])(torch.zeros(1, *student.shape), t, t) * float(parts.denoiser.process.alpha_sigma(t)[1])
    theirs = pipe(prompt, latents=noise, num_inference_steps=1, guidance_scale=2.0, height=16, width=16,
                  output_type="pt").images  # fmt: skip
    torch.testing.assert_close(theirs, ours.clamp(0, 1), atol=1e-4, rtol=0)
    assert (whole.parent / "preview/step-00000002.png").is_file()
    assert "student" in (whole.parent / "report.html").read_text()


def test_a_lora_student_loads_in_plain_diffusers(lora, pipeline, parts):
    weights = [path.name for path in lora.iterdir()]
    assert "pytorch_lora_weights.safetensors" in weights
    assert "unet" not in weights
    pipe = plain(pipeline)
    pipe.load_lora_weights(str(lora))
    pipe.scheduler = LCMScheduler.from_pretrained(lora, subfolder="scheduler")
    z, cond = torch.randn(2, *parts.shape), parts.encode(["a boot", ""])
    with torch.no_grad():
        theirs = pipe.unet(z, C, encoder_hidden_states=cond["text"]).sample
        ours = open_text_to_image(lora).denoiser.network(z, C, **cond)
        teacher = parts.denoiser.network(z, C, **cond)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    assert (ours - teacher).abs().max() > 1e-3
    assert pipe("a boot", num_inference_steps=2, guidance_scale=1.0, height=16, width=16).images[0].size == (16, 16)


@pytest.mark.parametrize("name", ["whole", "lora"])
def test_undrift_sample_leaps_as_the_student_was_trained(undrift_text, request, tmp_path, name):
    folder = request.getfixturevalue(name)
    given = ("sample", "--model", folder, "--prompt", "a boot", "--count", 1, "--seed", 3)
    code, out, error = undrift_text(*given, "-o", "made.png")
    assert (code, error) == (0, [])
    assert "2 evaluations each with consistency, guidance 2 (a student of " in out[-1]
    wanted = pictures(open_text_to_image(folder), ["a boot"], [3], "consistency:2", guidance=2.0)[0].clamp(0, 1)
    assert (read_image("made.png").pixels - wanted).abs().max() < 1 / 255
    for words, line in (
        (("--guidance", 9), "--guidance 9: this student has seen "),
        (("--negative", "a bag"), "--negative: a student's is in its weights: leave it out"),
    ):
        code, _, error = undrift_text(*given, *words, "-o", "no.png")
        assert (code, len(error)) == (2, 1)
        assert line in error[0]


def test_a_lora_student_names_a_base_that_is_gone(lora, undrift_text, tmp_path):
    copy = shutil.copytree(lora, tmp_path / "copy")
    facts = read_facts(copy) | {"base": str(tmp_path / "gone")}
    (copy / "undrift.json").write_text(json.dumps(facts))
    code, _, error = undrift_text("sample", "--model", copy, "--prompt", "a boot", "-o", "made.png")
    assert (code, len(error)) == (2, 1)
    assert f"a change of the pipeline {tmp_path / 'gone'}, which is not there" in error[0]
    (copy / "undrift.json").unlink()
    code, _, error = undrift_text("sample", "--model", copy, "--prompt", "a boot", "-o", "made.png")
    assert (code, len(error)) == (2, 1)
    assert "is no student of undrift" in error[0]


@pytest.mark.parametrize("kind", ["StableDiffusionPipeline", "StableDiffusionXLPipeline"])
def test_the_card_names_the_class_that_loads_the_student(tmp_path, kind):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    facts = {"recipe": {"method": {"teacher": str(tmp_path), "guidance": [7, 7]}}}
    text = diffusers_student._readme(tmp_path, facts)
    assert f"from diffusers import LCMScheduler, {kind}\n" in text
    assert f"pipe = {kind}.from_pretrained(" in text


def test_a_run_in_two_halves_is_the_run_in_one(pipeline, captioned, tmp_path):
    words = ["method.guidance=[1,2]", "method.embedding=8", "preview.every=0", *QUICK]
    recipe = override(distilling(str(pipeline), "scott", captioned), [*words, "schedule.final=1.0"])
    for steps in (1, 2):
        train(override(recipe, [f"training.steps={steps}"]), tmp_path / "two")
    train(recipe, tmp_path / "whole")
    one, two = (state.latest(tmp_path / name / "state") for name in ("whole", "two"))
    for phase in ("student", "critic"):
        assert all(torch.equal(v, two["trained"][phase][k]) for k, v in one["trained"][phase].items())


def test_a_student_goes_on_from_another(whole, pipeline, captioned):
    words = ["method.guidance=[1,3]", "method.embedding=16", f"training.start_from={whole}"]
    from undrift.training.build import build

    begun = build(override(distilling(str(pipeline), "lcm", captioned), words)).model
    wanted = open_text_to_image(whole).denoiser.network.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in begun.network.state_dict().items())
    with pytest.raises(ValueError, match=r"^training.start_from = .*: its U-Net has other weights"):
        build(override(distilling(str(pipeline), "lcm", captioned, rank=2), words))


def test_a_pipeline_without_data_imagines_it(undrift_text, pipeline, tmp_path):
    (tmp_path / "prompts.txt").write_text("a boot\n\na bag\n")
    code, _, error = undrift_text(
        "distill", pipeline, "--prompts", "prompts.txt", "--samples", 20, "-o", "run", "--preset", "lcm",
        "method.guidance=[1,3]", "preview.every=0", *QUICK,
    )  # fmt: skip
    assert (code, error) == (0, [])
    lines = [json.loads(line) for line in (tmp_path / "run/samples/metadata.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["a boot", "a bag"] * 10
    facts = read_facts(tmp_path / "run/model")
    assert facts["training"]["recipe"]["data"]["path"] == "run/samples"


@pytest.fixture
def undrift_text(undrift_):
    """undrift_, without what other libraries say on the way."""

    def call(*argv):
        code, out, error = undrift_(*argv)
        return code, out, [line for line in error if "undrift:" in line]

    return call


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--preset", "scott-es", "--data", "D"], "unknown preset of a pipeline 'scott-es': "),
        ([], "no data to distil P on: give --data, captioned images, or --prompts"),
        (["--data", "nowhere"], "no captioned images at nowhere"),
        (["--data", "D", "--prompts", "x"], "--prompts are for a pipeline without --data"),
        (["--prompts", "nowhere.txt"], "no prompts nowhere.txt: give a text file"),
        (["--data", "D", "method.rank=-1"], "method.rank = -1, embedding = 256: need at least 0"),
    ],
)
def test_what_cannot_be_distilled_is_one_line(undrift_text, pipeline, captioned, words, line):
    words = [captioned if word == "D" else word for word in words]
    code, _, error = undrift_text("distill", pipeline, *words)
    assert code == 2
    assert len(error) == 1
    assert line.replace("P", str(pipeline), "no data" in line) in error[0]


def test_a_student_is_no_teacher(whole, captioned, undrift_text):
    code, _, error = undrift_text("distill", whole, "--data", captioned)
    assert code == 2
    assert "a student itself, whose steps follow no path: distil its teacher" in error[0]


def test_the_papers_recipe_builds(pipeline):
    from pathlib import Path

    from undrift.training.build import build

    recipe = read(Path(__file__).parents[2] / "recipes/scott-sd15.toml")
    run = build(override(recipe, [f"method.teacher={pipeline}", f"data.pipeline={pipeline}", "critic.rank=2"]))
    steps, _ = run.method.jumps(torch.tensor([0]))
    assert steps[:, 0].tolist() == [999, 991, 983, 975]  # 24 of 1000 indices in three steps
    assert run.method.contest.weight == 0.4
