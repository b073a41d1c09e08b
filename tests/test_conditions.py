"""Labels and shapes that a network cannot take: one line, the same from wherever it is called."""

import pytest
import torch

from undrift import VP, Denoiser, Pixels, latent, prediction, times
from undrift.generation import generate
from undrift.guidance import ClassifierFree
from undrift.likelihood import image_likelihood, log_likelihood
from undrift.networks import UNet
from undrift.noise import PerSample
from undrift.sample import sample
from undrift.solvers import DormandPrince, Exponential

PROCESS = VP()
torch.manual_seed(0)
MODEL = Denoiser(
    UNet((8, 8), (1, 1), in_channels=1, cond_channels=0, classes=3, embedding=8), PROCESS, prediction.velocity(0.5)
)
GUIDED = ClassifierFree(MODEL, PROCESS, 2.0, {"label": 3})
Z, LOOSE = torch.zeros(2, 1, 8, 8), DormandPrince(0.1, 0.1)
GRID = times.uniform(PROCESS, 2)


def drawn(denoise=MODEL, shape=(1, 8, 8), **cond):
    return next(generate(denoise, PROCESS, Pixels(), shape=shape, seeds=range(2), steps=2, **cond))


CALLS = {
    "generate": drawn,
    "guided": lambda **cond: drawn(GUIDED, **cond),
    "sample": lambda **cond: sample(
        MODEL, PROCESS, Pixels(), shape=Z.shape, times=GRID, solver=Exponential(), noise=PerSample([0, 1]), **cond
    ),
    "likelihood": lambda **cond: log_likelihood(MODEL, PROCESS, Z, probes=1, solver=LOOSE, **cond),
    "image_likelihood": lambda **cond: image_likelihood(MODEL, PROCESS, Pixels(), Z, probes=1, solver=LOOSE, **cond),
    "encode": lambda **cond: latent.encode(MODEL, PROCESS, Z, solver=LOOSE, **cond),
    "decode": lambda **cond: latent.decode(MODEL, PROCESS, Z, solver=LOOSE, **cond),
    "denoiser": lambda **cond: MODEL(Z, GRID[0], **cond),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("label", "words"),
    [
        (torch.tensor([0, 4]), r"^label in \[0, 4\]: need 0 to 2, or 3 for no class$"),
        (torch.tensor([-1, 0]), r"^label in \[-1, 0\]: need 0 to 2"),
        (torch.tensor([0.0, 1.0]), r"^label torch.float32 \(2,\): need a tensor of 2 integers, one per sample"),
        (torch.tensor([[0], [1]]), r"\(2, 1\)"),
        (torch.tensor([0, 1, 2]), r"3 labels of shape \(3,\) for 2 seeds|^label torch.int64 \(3,\)"),
        (torch.tensor(1), r"\(\)"),
    ],
    ids=["above", "below", "float", "shape", "count", "scalar"],
)
def test_labels(call, label, words):
    with pytest.raises(ValueError, match=words) as caught:
        CALLS[call](label=label)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", CALLS)
def test_what_is_right_is_taken(call):
    CALLS[call](label=torch.tensor([3, 2]))
    CALLS[call](label=torch.tensor([3, 2], dtype=torch.int32))


def test_a_list_of_labels_is_a_tensor_of_them():
    assert torch.equal(drawn(label=[0, 2]), drawn(label=torch.tensor([0, 2])))


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8), (1, 1, 8, 8)])
def test_shapes(shape):
    with pytest.raises(ValueError, match=r"this network takes \(B, 1, H, W\)$"):
        drawn(shape=shape)
    for call in (log_likelihood, latent.encode):
        with pytest.raises(ValueError, match=r"this network takes \(B, 1, H, W\)$"):
            call(MODEL, PROCESS, torch.zeros(2, *shape), solver=LOOSE)


def test_an_image_is_of_the_size_of_the_states():
    seeing = Denoiser(UNet((8,), (1,), context=0, embedding=8), PROCESS, prediction.velocity(0.5))
    z = torch.zeros(2, 3, 8, 8)
    assert seeing(z, GRID[0], image=z).shape == z.shape
    for image in (z[:, :1], z[:1], z[..., 1:]):
        with pytest.raises(ValueError, match=r"^image of shape .*: this network is to see \(2, 3, 8, 8\)"):
            seeing(z, GRID[0], image=image)
