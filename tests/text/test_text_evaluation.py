"""`undrift evaluate` of text-to-image, from end to end, and its judges."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from undrift.cli.main import main
from undrift.data.captioned import read_captioned
from undrift.evaluation.judges import Judges, Named, mentioned, summary
from undrift.interop.clip import ClipJudge
from undrift.metrics import Function

NAMES = ("T-shirt", "trouser", "pullover", "sandal", "shirt", "sneaker", "bag", "ankle boot")


@pytest.fixture(scope="module")
def clip(pipeline, tmp_path_factory):
    """A CLIP model of random weights, with the tokenizer of the pipeline."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    torch.manual_seed(1)
    home = tmp_path_factory.mktemp("clip")
    words = CLIPTokenizer.from_pretrained(pipeline / "tokenizer")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": len(words), "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 1}
    CLIPModel(
        CLIPConfig(text_config=text, vision_config=small | {"image_size": 8, "patch_size": 4}, projection_dim=8)
    ).save_pretrained(home)
    words.save_pretrained(home)
    return home


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """A TorchScript file in Inception's place."""

    class Means(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)

    path = tmp_path_factory.mktemp("script") / "means.pt"
    torch.jit.script(Means()).save(str(path))
    return path


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("A photo of a t-shirt", "T-shirt"),
        ("a dark shirt", "shirt"),
        ("a pair of trousers", "trouser"),
        ("two ankle boots, light", "ankle boot"),
        ("a handbag", None),
        ("", None),
    ],
)
def test_what_a_caption_names(caption, name):
    found = mentioned(caption, NAMES)
    assert (None if found is None else NAMES[found]) == name


def test_agreement_counts_what_is_named():
    odds = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    classify = Function(lambda images: (images.flatten(1), odds[: len(images)]), "known")
    named = Named(classify, ("cat", "dog"), ("a cat", "a cat", "cats", "nothing"))
    scores = named(torch.zeros(4, 3, 2, 2), range(4))
    assert scores[:3, 0].tolist() == [1, 0, 1]
    assert scores[3].isnan()
    assert summary(named, scores)["agreement"].value == pytest.approx(2 / 3)
    assert "3 of 4 captions name one" in named.protocols["agreement"]
    both = Judges((named, named))
    assert both(torch.zeros(2, 3, 2, 2), range(2)).shape == (2, 2)


def test_clip_score_is_the_models_cosine(clip, captioned):
    """Against `transformers`' own image and text features, for images of its side."""
    from transformers import CLIPModel, CLIPTokenizer

    captions = ("a boot", "a light bag")
    judge, images = ClipJudge(clip, captions), torch.rand(2, 3, 8, 8).mul(255).round() / 255
    model, words = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (judge.mean, judge.std))
    told = words(list(captions), padding="max_length", max_length=12, return_tensors="pt")
    with torch.no_grad():
        out = model(**told, pixel_values=(images - mean) / std)
    wanted = (out.image_embeds * out.text_embeds).sum(1)
    torch.testing.assert_close(judge(images, range(2))[:, 0], wanted)
    assert judge(torch.rand(2, 3, 16, 24), range(2)).shape == (2, 1)


def test_from_end_to_end_and_resumed(pipeline, captioned, clip, script, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "--model", pipeline, "--data", captioned, "--fid", script, "--clip", clip, "--guidance", "2",
             "--solver", "ode-1:2", "ode-2:3", "--neighbours", "3", "--size", "12", "-o", "out"]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    rows = found["tasks"]["generation"]
    assert list(rows) == ["real", "ode-1:2", "ode-2:3"]
    assert rows["ode-1:2"]["evaluations"] == 4  # guidance asks twice
    assert all(-1 <= row["clip"] <= 1 and row["clip_error"] > 0 and 0 <= row["coverage"] <= 1 for row in rows.values())
    stamp = found["stamp"]
    assert stamp["samples"] == 24
    assert stamp["data"]["generation"]["shape"] == [3, 12, 12]
    assert "CLIP score, cosine" in stamp["protocols"]["clip"]
    assert "unet/diffusion_pytorch_model.safetensors" in stamp["model"]["files"]
    assert stamp["samplers"]["ode-1:2"]["guidance"] == 2
    assert "CLIP score" in (tmp_path / "out/results.md").read_text()
    # Real pictures are judged by their own captions.
    judge, data = ClipJudge(clip, read_captioned(captioned).captions), read_captioned(captioned)
    real = judge(data.images(range(24), 16)[:, :, 2:14, 2:14], range(24)).mean()
    assert rows["real"]["clip"] == pytest.approx(float(real), abs=2e-3)
    before = capsys.readouterr()
    assert main([str(word) for word in words]) == 0  # nothing left to do
    again = json.loads((tmp_path / "out/results.json").read_text())
    assert again["tasks"] == found["tasks"]
    assert "consistency" not in before.out
    words[-1] = "two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, "undrift.cli.main", *map(str, words), "--device", "cpu"],
                   check=True, env=environment, stdout=subprocess.DEVNULL, timeout=300)  # fmt: skip
    for name, row in json.loads((tmp_path / "two/results.json").read_text())["tasks"]["generation"].items():
        assert row.pop("seconds") >= 0
        assert row == pytest.approx({key: rows[name][key] for key in row}, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "nothing to measure distances with: give --fid FILE"),
        (["--extractor", "fashion-classifier"], "looks at images of 28 pixels, these have 16: give --size 28"),
        (["--size", "28", "--extractor", "fashion-classifier"], "makes images of 16 pixels"),
        (["--fid", "F", "--clip", "nowhere"], "no CLIP model in nowhere"),
        (["--fid", "F", "--bits", "3"], "--bits: P is a pipeline, which knows no such thing"),
        (["--fid", "F", "--captions", "nowhere.json"], "no captions nowhere.json: give COCO's"),
    ],
)
def test_what_is_wrong_is_one_line(pipeline, captioned, script, capsys, words, line):
    words = [str(script) if word == "F" else word for word in words]
    code = main(["evaluate", "--model", str(pipeline), "--data", str(captioned), *words])
    error = [text for text in capsys.readouterr().err.splitlines() if text.startswith("undrift:")]
    assert code == 2
    assert len(error) == 1
    assert line.replace("P", str(pipeline), "is a pipeline" in line) in error[0]
