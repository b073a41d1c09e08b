"""Our models as pipelines of diffusers: the images of `generate` and `restore`, saved, loaded, stopped and changed."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from PIL import Image

import undrift
from undrift import VP, Denoiser, MeanReverting, Pixels, Residual, prediction
from undrift.generation import generate
from undrift.interop import diffusers_pipeline
from undrift.interop.diffusers_pipeline import GenerationPipeline, RestorationPipeline, UndriftModel
from undrift.networks import UNet
from undrift.restoration import restore

TINY = {"channels": (8, 16), "blocks": (1, 1), "embedding": 16}
TRAINED = {"shape": [3, 8, 8], "classes": ["a", "b"]}


@pytest.fixture(scope="module")
def maker():
    torch.manual_seed(0)
    network = lively(UNet(**TINY, cond_channels=0, classes=2))
    denoiser = Denoiser(network, VP(), prediction.velocity(1.0)).eval().requires_grad_(False)
    return GenerationPipeline(UndriftModel.of(denoiser, Pixels(), TRAINED))


@pytest.fixture(scope="module")
def restorer():
    torch.manual_seed(0)
    network = lively(UNet(**TINY, classes=2))
    denoiser = Denoiser(network, MeanReverting(), prediction.velocity(0.2), scale=0.2).eval().requires_grad_(False)
    return RestorationPipeline(UndriftModel.of(denoiser, Residual(), {"tasks": ["hazy", "rainy"]}))


def lively(network):
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return network


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_it_makes_what_generate_makes(maker):
    quiet(maker)
    generators = [torch.Generator().manual_seed(k) for k in (3, 4)]
    found = maker(labels=[1, 0], num_inference_steps=4, guidance_scale=2.0, generator=generators, output_type="pt")
    model = maker.model
    guided = maker._guided(2.0, True)
    (wanted,) = generate(
        guided, model.denoiser.process, model.space, shape=(3, 8, 8), seeds=[3, 4], steps=4,
        label=torch.tensor([1, 0]),
    )  # fmt: skip
    torch.testing.assert_close(found.images, wanted)
    assert wanted.std() > 0.1


def test_it_restores_what_restore_restores(restorer):
    quiet(restorer)
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8))
    found = restorer(
        [photograph, photograph.resize((8, 8))], task="rainy", num_inference_steps=3, output_type="np",
        generator=[torch.Generator().manual_seed(7), torch.Generator().manual_seed(8)],
    ).images  # fmt: skip
    assert [image.shape for image in found] == [(12, 16, 3), (8, 8, 3)]
    pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1) / 255
    model = restorer.model
    wanted = restore(model.denoiser, model.space, pixels, steps=3, seed=7, task="rainy").image
    torch.testing.assert_close(torch.from_numpy(found[0]).permute(2, 0, 1), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["maker", "restorer"])
def test_saved_with_a_card_and_loaded(kind, request, tmp_path):
    pipeline = quiet(request.getfixturevalue(kind))
    made = type(pipeline)
    given = {"image": torch.full((3, 8, 8), 0.5)} if kind == "restorer" else {"labels": [0, 1]}
    given |= {"num_inference_steps": 2, "output_type": "np"}
    wanted = pipeline(**given, generator=torch.manual_seed(0)).images
    pipeline.save_pretrained(tmp_path)
    loaded = quiet(made.from_pretrained(tmp_path))
    np.testing.assert_allclose(loaded(**given, generator=torch.manual_seed(0)).images, wanted, atol=1e-6)
    assert loaded.model.denoiser.tasks == pipeline.model.denoiser.tasks
    text = (tmp_path / "README.md").read_text()
    assert "library_name: undrift" in text
    assert f"{made.__name__}.from_pretrained" in text
    assert all(name in text for name in ("vp", "velocity") if kind == "maker")
    (tmp_path / "README.md").write_text("mine")
    pipeline.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_bundled_model_is_a_pipeline():
    found = quiet(GenerationPipeline.of("fashion"))(labels=[3], num_inference_steps=1, generator=torch.manual_seed(0))
    assert (found.images[0].size, found.images[0].mode) == ((28, 28), "L")
    assert RestorationPipeline.of("universal").model.denoiser.tasks


def test_a_student_leaps_from_its_own_times_here_too(tmp_path):
    pipe = quiet(GenerationPipeline.of("fashion-student"))
    pipe.save_pretrained(tmp_path)
    for each in (pipe, quiet(GenerationPipeline.from_pretrained(tmp_path))):
        assert each.model.denoiser.taught == undrift.load("fashion-student")[0].taught
        with pytest.raises(ValueError, match="6 evaluations of a student that leaps from 5 times"):
            each(labels=[3], num_inference_steps=6)


def test_a_callback_watches_stops_and_changes(maker):
    quiet(maker)
    seen = []

    def watch(pipeline, step, t, kept):
        seen.append((step, t, kept["latents"].shape))

    given = {"labels": [0], "num_inference_steps": 4, "output_type": "latent"}
    whole = maker(**given, generator=torch.manual_seed(0), callback_on_step_end=watch).images
    assert [step for step, _, _ in seen] == [0, 1, 2, 3]
    assert seen[0][1:] == (1.0, (1, 3, 8, 8))

    def stop(pipeline, step, t, kept):
        pipeline._interrupt = step == 1

    halfway = maker(**given, generator=torch.manual_seed(0), callback_on_step_end=stop).images
    assert (halfway - whole).abs().max() > 0.05

    def change(pipeline, step, t, kept):
        return {"latents": torch.zeros_like(kept["latents"])} if step == 3 else None

    assert not maker(**given, generator=torch.manual_seed(0), callback_on_step_end=change).images.any()
    calls = []
    maker.model.denoiser.register_forward_hook(lambda *_: calls.append(1))

    def swap(pipeline, step, t, kept):
        return {"latents": kept["latents"] + 1} if step == 1 else kept

    moved = maker(**given, generator=torch.manual_seed(0), callback_on_step_end=swap).images
    assert len(calls) == 4  # an edit costs no evaluation
    assert (moved - whole).abs().max() > 0.01


def told(answer):
    return lambda pipeline, step, t, kept: answer


@pytest.mark.parametrize("there", [False, True])
def test_a_push_uploads_everything_with_our_card(maker, monkeypatch, tmp_path, there):
    """The hub is a folder here: what would be uploaded lands in it."""
    from diffusers.utils import hub_utils
    from huggingface_hub.utils import EntryNotFoundError

    def no_card(*args, **settings):
        if there:
            return hub_utils.ModelCard("---\ntags: []\n---\ntheirs")
        raise EntryNotFoundError("no README.md")

    def upload(repo_id, folder_path, **settings):
        shutil.copytree(folder_path, tmp_path / repo_id)
        return settings["commit_message"]

    monkeypatch.setattr(hub_utils, "create_repo", lambda name, **settings: SimpleNamespace(repo_id=f"me/{name}"))
    monkeypatch.setattr(hub_utils.ModelCard, "load", no_card)
    monkeypatch.setattr(hub_utils, "upload_folder", upload)
    monkeypatch.setattr(diffusers_pipeline, "file_exists", lambda *words, token: there)
    assert maker.push_to_hub("tiny", commit_message="first") == "first"
    found = tmp_path / "me/tiny"
    card = (found / "README.md").read_text()
    assert ("theirs" in card) == there
    assert ('GenerationPipeline.from_pretrained("me/tiny")' in card) != there
    given = {"labels": [0], "num_inference_steps": 2, "output_type": "np"}
    again = quiet(GenerationPipeline.from_pretrained(found))(**given, generator=torch.manual_seed(0))
    wanted = quiet(maker)(**given, generator=torch.manual_seed(0))
    np.testing.assert_allclose(again.images, wanted.images, atol=1e-6)


def test_what_does_not_fit_is_refused_in_one_line(maker, restorer):
    grey = torch.full((3, 8, 8), 0.5)
    for call, message in [
        (lambda: maker(solver="x"), "choose one of ode-1"),
        (lambda: maker(batch_size=0), "one image or more"),
        (lambda: maker(guidance_scale=2.0), "needs labels"),
        (lambda: maker(guidance_scale=float("nan"), labels=[0]), "guidance_scale = nan"),
        (lambda: maker(labels=1), "labels = 1: need a list"),
        (lambda: maker(labels="coat"), "labels = 'coat': need a list"),
        (lambda: maker(size=8), "size = 8"),
        (
            lambda: maker(num_inference_steps=2, callback_on_step_end=told({"latents": grey})),
            "returned dict: need None",
        ),
        (lambda: maker(num_inference_steps=2, callback_on_step_end=told(grey)), "returned Tensor: need None"),
        (lambda: maker(num_inference_steps=2, callback_on_step_end=told(True)), "returned bool: need None"),
        (lambda: GenerationPipeline(restorer.model)(), "use RestorationPipeline"),
        (lambda: maker(output_type="gif", num_inference_steps=1, labels=[0]), "output_type 'gif'"),
        (lambda: maker(labels=[0, 1], generator=[torch.Generator()]), "1 generators for 2 images"),
        (lambda: restorer(grey * 300), r"in \[0, 1\]"),
        (lambda: restorer("street.jpg"), "need a PIL image"),
        (lambda: restorer(grey, task="foggy"), "choose one of hazy, rainy"),
        (lambda: restorer([grey, grey], generator=[torch.Generator()]), "1 generators for 2 images"),
        (lambda: RestorationPipeline(maker.model)(grey), "use GenerationPipeline"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
