import pytest
import torch
from oracles import f64

from undrift.degradations import Haze, MotionBlur, Rain, Shadow
from undrift.guidance import LUMA, Channels, Degraded, Downsample, Mask, colour_rotation
from undrift.guidance.conjugate import conjugate_gradient
from undrift.space import Pixels

SHAPE = (2, 3, 8, 12)


def draw(degradation):
    return degradation.draw(SHAPE[1:], torch.Generator().manual_seed(3))


OPERATORS = {
    "mask": Mask(torch.rand(8, 12, generator=torch.Generator().manual_seed(1)) < 0.6),
    "soft mask": Mask(torch.rand(2, 1, 8, 12, generator=torch.Generator().manual_seed(1))),
    "mean": Channels.mean(),
    "luma": Channels.luma(),
    "two channels": Channels(f64([[1.0, 0.5, 0.0], [0.2, -0.3, 1.0]])),
    "down": Downsample(4),
    "blur": Degraded(draw(MotionBlur(length=(3.0, 3.0)))),
    "shadow": Degraded(draw(Shadow())),
    "haze": Degraded(draw(Haze())),
    "rain": Degraded(draw(Rain())),
}


@pytest.fixture(params=OPERATORS)
def operator(request):
    return OPERATORS[request.param]


def states(count, generator, like=None):
    shape = SHAPE if like is None else like.shape
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def test_adjoint(operator, generator):
    z = states(1, generator)[0]
    y = operator.forward(z)
    v = states(1, generator, y)[0]
    torch.testing.assert_close((y * v).flatten(1).sum(1), (z * operator.adjoint(v)).flatten(1).sum(1))


def test_solve_inverts(operator, generator):
    r = states(1, generator, operator.forward(states(1, generator)[0]))[0]
    c, s = f64([0.7, 2.0]), f64([0.3, 0.05])
    x = operator.solve(r, c, s)
    wide = (2, 1, 1, 1)
    again = c.reshape(wide) * operator.forward(operator.adjoint(x)) + s.reshape(wide) * x
    torch.testing.assert_close(again, r, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "blur"])  # which has no inverse worth the name
def test_without_noise_it_is_the_pseudo_inverse(name, generator):
    """A A^T (A A^T)^+ y = y for every y in the range of A."""
    operator = OPERATORS[name]
    y = operator.forward(states(1, generator)[0])
    x = operator.solve(y, f64(1.0), f64(0.0))
    torch.testing.assert_close(operator.forward(operator.adjoint(x)), y, rtol=1e-4, atol=1e-5)


def test_observe_takes_images_to_the_coordinates_of_the_state(operator, generator):
    x = torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    y = torch.stack([operator.linear(one) for one in x]) if isinstance(operator, Degraded) else operator.forward(x)
    torch.testing.assert_close(operator.observe(y), operator.forward(Pixels().encode(x)), rtol=0, atol=1e-6)


def test_colours():
    """score-sde.md 7.8, item 9: columns (1,1,1)/sqrt3, (-2,1,1)/sqrt6, (0,1,-1)/sqrt2; the inverse is the transpose."""
    rotation = colour_rotation()
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-15)
    columns = f64([[3**-0.5] * 3, [-2 * 6**-0.5, 6**-0.5, 6**-0.5], [0.0, 2**-0.5, -(2**-0.5)]])
    torch.testing.assert_close(rotation.T, columns, rtol=0, atol=1e-15)
    turn = Channels(rotation.T)
    z = torch.randn(SHAPE, dtype=torch.float64)
    torch.testing.assert_close(turn.adjoint(turn.forward(z)), z)
    torch.testing.assert_close(turn.forward(z)[:, :1], 3**0.5 * Channels.mean().forward(z))
    torch.testing.assert_close(Channels.luma().forward(z), (z * f64(LUMA).reshape(3, 1, 1)).sum(1, keepdim=True))


def test_conjugate_gradients_solve_each_sample_by_itself(generator):
    a = torch.randn(4, 6, 6, generator=generator, dtype=torch.float64)
    matrix, r = a @ a.mT + 0.1 * torch.eye(6), states(1, generator, a[:, 0])[0]

    def apply(rows):
        return lambda v: (matrix[rows] @ v[..., None])[..., 0]

    x = conjugate_gradient(apply(slice(None)), r, 50, 1e-12)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, r))
    loose = conjugate_gradient(apply(slice(None)), r, 50, 0.3)
    alone = torch.cat([conjugate_gradient(apply(slice(i, i + 1)), r[i : i + 1], 50, 0.3) for i in range(4)])
    torch.testing.assert_close(loose, alone, rtol=0, atol=0)


def test_no_positive_curvature_stops_a_sample():
    r = torch.ones(2, 3)
    x = conjugate_gradient(lambda v: v * f64([-1.0, 2.0])[:, None].float(), r, 9, 0.0)
    assert x[:, 0].tolist() == [0.0, 0.5]
    assert not conjugate_gradient(torch.zeros_like, r, 9, 0.0).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Downsample(0), "factor = 0"),
        (lambda: Downsample(3).forward(torch.zeros(1, 1, 6, 8)), r"state \(1, 1, 6, 8\): sides must be multiples of 3"),
        (lambda: Channels.luma().forward(torch.zeros(2, 1, 4, 4)), r"weights \(1, 3\) for a state \(2, 1, 4, 4\)"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()
