"""`expand`: one time for all, or one per sample, and nothing else."""

import pytest
import torch

from undrift.tensor import expand


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4, 5), (3, 2, 4, 5, 6)])
def test_each_sample_gets_its_own_coefficient(shape, device):
    like = torch.randn(shape, device=device)
    c = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    out = expand(c, like) * like
    torch.testing.assert_close(out, torch.stack([k * x for k, x in zip((1, 2, 3), like, strict=True)]))
    assert out.dtype == like.dtype
    torch.testing.assert_close(expand(c[1], like) * like, 2 * like)
    torch.testing.assert_close(expand(c[1:2], like) * like, 2 * like)


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1)])
def test_a_wrong_batch_is_named(shape):
    with pytest.raises(ValueError, match=r"coefficient of shape .* does not fit a state of shape \(3, 2\)") as info:
        expand(torch.ones(shape), torch.ones(3, 2))
    assert "\n" not in str(info.value)
