"""A tiny untrained model in a folder, and a photograph."""

import numpy as np
import pytest
import torch
from PIL import Image

import undrift
from undrift.networks import UNet


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    torch.manual_seed(0)
    process = undrift.MeanReverting(lam=10 / 255)
    network = UNet(channels=(8, 16), blocks=(1, 1))
    denoiser = undrift.Denoiser(network, process, undrift.prediction.Data(0.05), scale=0.25)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    undrift.save(folder, denoiser, undrift.Residual(), {"steps": 7, "recipe": {"a": 1}})
    return str(folder)


@pytest.fixture(scope="session")
def generator(tmp_path_factory):
    """A model of 8 x 8 grey images of three classes; here in place of the random numbers of that name."""
    torch.manual_seed(0)
    network = UNet((8, 8), (1, 1), in_channels=1, cond_channels=0, classes=3, embedding=8)
    denoiser = undrift.Denoiser(network, undrift.VP(), undrift.prediction.velocity(0.5), scale=0.5)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    undrift.save(folder, denoiser, undrift.Pixels(), {"shape": [1, 8, 8], "classes": ["cat", "dog", "ant bear"]})
    return str(folder)


@pytest.fixture
def photograph():
    """save(path, height, width): a smooth colourful picture; its array."""

    def save(path, height=20, width=28, seed=0, **options):
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, **options)
        return np.asarray(picture)

    return save
