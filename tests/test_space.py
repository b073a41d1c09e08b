"""Coordinates: encode and decode are inverse, and the observation enters where it should."""

import pytest
import torch

from undrift.space import Latent, Pixels, Residual


@pytest.mark.parametrize("space", [Pixels(), Pixels(centred=False), Residual()])
def test_decode_inverts_encode(space):
    x, y = torch.rand(2, 4, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(space.decode(space.encode(x, y), y), x, rtol=0, atol=1e-15)


def test_where_the_images_lie():
    assert Pixels().encode(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]
    assert Pixels(centred=False).encode(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, 0.5, 1]
    y = torch.rand(2, 3, 4, 4)
    assert not Residual().encode(y, y).any()  # no degradation: nothing left to undo


def test_a_residual_needs_its_observation():
    for call in (Residual().encode, Residual().decode):
        with pytest.raises(ValueError, match="needs the observation: give y"):
            call(torch.zeros(1, 3, 2, 2))


class Half:
    """A codec that loses nothing."""

    def encode(self, x):
        return x / 2 + 3

    def decode(self, code):
        return 2 * (code - 3)


def test_latent_states_are_codes_moved_and_scaled():
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    space = Latent(Half(), scale=4.0, shift=3.0)
    torch.testing.assert_close(space.encode(x), 2 * (2 * x - 1))
    torch.testing.assert_close(space.decode(space.encode(x)), x)
    with pytest.raises(ValueError, match=r"Latent scale = 0\.0: need a positive"):
        Latent(Half(), 0.0)
