import re

import pytest
import torch

from undrift.networks.classifier import Classifier


@pytest.mark.parametrize("size", [(28, 28), (1, 1), (13, 30)])
def test_any_size_and_gradients_reach_everything(size):
    network = Classifier(5, 2, (8, 16), blocks=2, embedding=8)
    z, c = torch.randn(3, 2, *size), torch.tensor([-9.0, 0.0, 4.0])
    logits = network(z, c)
    assert logits.shape == (3, 5)
    torch.testing.assert_close(network.head(network.features(z, c)), logits)
    torch.testing.assert_close(network(z[1:2], c[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)  # no batch mates
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_arguments_rebuild_it():
    network = Classifier(4, channels=[8, 8, 16])
    again = Classifier(**network.arguments)
    again.load_state_dict(network.state_dict())
    z, c = torch.randn(2, 1, 16, 16), torch.zeros(2)
    torch.testing.assert_close(again(z, c), network(z, c), rtol=0, atol=0)


@pytest.mark.parametrize("wrong", [{"classes": 0}, {"classes": 2, "channels": ()}, {"classes": 2, "fold": 0}])
def test_sizes_below_one_are_named(wrong):
    name, value = list(wrong.items())[-1]
    with pytest.raises(ValueError, match=re.escape(f"Classifier {name} = {value}: need whole")):
        Classifier(**wrong)
