"""The critic is its trunk, its changes are of low rank, and it learns what can be known and no more."""

import json
from copy import deepcopy

import pytest
import torch
from torch import nn

from undrift.methods.adversarial import Hinge, LeastSquares, NonSaturating, r1
from undrift.networks import Critic, NCSNpp, UNet
from undrift.networks.lora import LowRank


def trunk(**arguments):
    torch.manual_seed(0)
    given = {"channels": (8, 12, 16), "blocks": (1, 1, 1), "embedding": 16, "cond_channels": 0, "classes": 3}
    return UNet(**{**given, **arguments})


def song(**arguments):
    torch.manual_seed(0)
    given = {"width": 8, "multipliers": (1, 2), "blocks": 1, "init_scale": 0.5, "classes": 3, "dropout": 0.5}
    return NCSNpp(**{**given, **arguments})


def call(height=9, width=14, batch=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(batch, 3, height, width, generator=generator, dtype=dtype)
    return z, torch.empty(batch, dtype=dtype).uniform_(1, 6, generator=generator), torch.arange(batch) % 4


def stirred(critic):
    """B away from zero."""
    for b in critic.change.b:
        nn.init.normal_(b, std=0.1)
    return critic


both = pytest.mark.parametrize("make", [trunk, song])


@both
def test_at_first_a_change_of_low_rank_changes_nothing(make):
    net = make()
    z, c, label = call(dtype=torch.float32)
    plain, changed = Critic(net), Critic(net, rank=4)
    changed.heads.load_state_dict(plain.heads.state_dict())
    assert torch.equal(changed(z, c, label=label), plain(z, c, label=label))


@both
def test_it_judges_by_the_trunk_with_the_changed_weights(make):
    """Outputs and gradients equal those of a copy whose weights are W + B A: dB = dW A^T, dA = B^T dW."""
    net = make().double()
    z, c, label = call()
    critic = stirred(Critic(net, rank=2).double())
    before = deepcopy(net.state_dict())
    copy = deepcopy(net)
    with torch.no_grad():
        for name, a, b in zip(critic.change.names, critic.change.a, critic.change.b, strict=True):
            weight = copy.get_parameter(name)
            weight += (b @ a).view_as(weight)
    dense = Critic(copy)
    dense.double().heads.load_state_dict(critic.heads.state_dict())
    copy.requires_grad_()
    logits, expected = critic(z, c, label=label), dense(z, c, label=label)
    assert torch.allclose(logits, expected, rtol=0, atol=1e-12)
    logits.square().sum().backward()
    expected.square().sum().backward()
    for name, a, b in zip(critic.change.names, critic.change.a, critic.change.b, strict=True):
        slope = copy.get_parameter(name).grad
        # The layers past the last feature map, which show it as an image, are judged by nobody.
        slope = torch.zeros(len(b), a.shape[1]).double() if slope is None else slope.flatten(1)
        for found, true in ((a.grad, b.T @ slope), (b.grad, slope @ a.T)):
            assert (torch.zeros_like(true) if found is None else found).sub(true).abs().max() < 1e-9
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())


def test_the_changes_are_of_the_decoder_alone_and_of_their_rank():
    net = trunk()
    critic = stirred(Critic(net, rank=3))
    assert {name.split(".")[0] for name in critic.change.names} == {"grow", "ups"}
    layers = [m for part in (net.grow, net.ups) for m in part.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(critic.change.names) == len(layers)
    for name, weight in critic.change(net).items():
        change = (weight - net.get_parameter(name)).detach().flatten(1)
        assert torch.linalg.matrix_rank(change.double(), rtol=1e-4) == min(3, *change.shape)


@both
@pytest.mark.parametrize("rank", [0, 2])
def test_gradients_flow_through_the_trunk_to_the_state_and_all_that_is_trained(make, rank):
    net = make().double()
    critic = Critic(net, rank=rank, width=3).double()
    z, c, label = call(5, 6, 2)
    if rank:
        stirred(critic)
    assert torch.autograd.gradcheck(lambda z: critic(z, c, label=label[:2]), z.requires_grad_(), fast_mode=True)
    critic(z, c, label=label[:2]).square().mean().backward()
    assert all(p.requires_grad for p in critic.parameters())
    assert [n for n, p in critic.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_trunk_stays_as_it_is():
    """No dropout in training, and no word of it among parameters and state; it moves with the critic."""
    net = song().train()
    critic = Critic(net, rank=1).train()
    z, c, label = call(dtype=torch.float32)
    assert torch.equal(critic(z, c, label=label), critic(z, c, label=label))
    assert {name.split(".")[0] for name in critic.state_dict()} == {"heads", "change"}
    assert {id(p) for p in critic.parameters()}.isdisjoint(id(p) for p in net.parameters())
    critic.double()
    assert {p.dtype for p in net.parameters()} == {torch.float64}
    assert critic(z.double(), c.double(), label=label).dtype == torch.float64


@both
def test_a_stored_critic_is_rebuilt_upon_its_trunk(make):
    net = make()
    critic = stirred(Critic(net, heads=(1,), rank=2, width=5))
    again = Critic(net, **json.loads(json.dumps(critic.arguments)))
    again.load_state_dict(critic.state_dict())
    z, c, label = call(dtype=torch.float32)
    assert torch.equal(again(z, c, label=label), critic(z, c, label=label))
    assert torch.equal(deepcopy(critic)(z, c, label=label), critic(z, c, label=label))


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (24, 40)])
def test_one_logit_per_position_of_each_chosen_map_at_any_size(size):
    net = trunk().double()
    critic = Critic(net).double()
    z, c, label = call(*size)
    rows, columns = (side + -side % net.stride for side in size)
    counts = [rows * columns // (2 * 2**level) ** 2 for level in (2, 1, 0)]
    whole = critic(z, c, label=label)
    assert whole.shape == (3, sum(counts))
    alone = [critic(z[i : i + 1], c[i : i + 1], label=label[i : i + 1]) for i in range(3)]
    assert torch.allclose(torch.cat(alone), whole, rtol=0, atol=1e-12)
    finest = Critic(net, heads=(2,)).double()
    finest.heads[0].load_state_dict(critic.heads[2].state_dict())
    assert torch.equal(finest(z, c, label=label), whole[:, -counts[-1] :])


def test_time_and_conditions_enter_by_the_trunk():
    net = trunk(cond_channels=3).double()
    critic = Critic(net).double()
    z, c, label = call()
    image = torch.rand_like(z)
    logits = critic(z, c, label=label, image=image)
    for other in (
        critic(z, c + 1, label=label, image=image),
        critic(z, c, label=label.flip(0), image=image),
        critic(z, c, label=label, image=image.flip(0)),
    ):
        assert not torch.allclose(other, logits, atol=1e-6)
    with pytest.raises(ValueError, match="image="):
        critic(z, c, label=label)


@pytest.mark.parametrize("rank", [0, 2])
def test_logits_are_float32_under_autocast_in_any_memory_format(rank):
    critic = Critic(trunk(), rank=rank)
    z, c, label = call(dtype=torch.float32)
    expected = critic(z, c, label=label)
    expected.square().mean().backward()
    slopes = [p.grad.clone() for p in critic.heads.parameters()]
    critic.zero_grad()
    critic.to(memory_format=torch.channels_last)
    found = critic(z.to(memory_format=torch.channels_last), c, label=label)
    found.square().mean().backward()  # crashed torch 2.13 with affine normalisation and rank 0
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    for p, slope in zip(critic.heads.parameters(), slopes, strict=True):
        assert torch.allclose(p.grad, slope, rtol=1e-3, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = critic(z, c, label=label)
    assert half.dtype == torch.float32
    assert (half - expected).square().mean().sqrt() < 0.05 * expected.square().mean().sqrt()


def learnt(loss, shift, rank, seed=0):
    """Share of right verdicts on new samples of N(0, 1) fake and N(shift, 1) real, 8 x 8; and the slope along it."""
    torch.manual_seed(seed)
    net = UNet(channels=(8, 12), blocks=(1, 1), in_channels=1, cond_channels=0, embedding=8, context=1)
    critic = Critic(net, rank=rank)
    optimizer = torch.optim.Adam(critic.parameters(), lr=5e-3)

    def pair(count):
        return torch.randn(2, count, 1, 8, 8) + torch.tensor([shift, 0.0]).view(2, 1, 1, 1, 1), torch.zeros(2 * count)

    for _ in range(80):
        z, c = pair(64)
        optimizer.zero_grad()
        loss.critic(*critic(z.flatten(0, 1), c).chunk(2)).backward()
        optimizer.step()
    z, c = pair(1024)
    with torch.no_grad():
        verdicts = critic(z.flatten(0, 1), c).mean(1).chunk(2)
    fake = z[1, :64].requires_grad_()
    loss.student(critic(fake, c[:64])).backward()
    return loss.accuracy(*verdicts), -fake.grad.sum().item()


@pytest.mark.parametrize(("loss", "rank"), [(Hinge(), 0), (Hinge(), 4), (LeastSquares(), 0), (NonSaturating(), 4)])
def test_it_learns_what_tells_two_gaussians_apart_and_the_student_follows(loss, rank):
    """Nobody is right more often than Phi(shift sqrt(64) / 2) = 0.885; on equal laws, than in 1/2 of the cases."""
    accuracy, pull = learnt(loss, 0.3, rank)
    assert 0.8 < accuracy < 0.885 + 0.03
    assert pull > 0  # brighter, as the real ones
    assert abs(learnt(loss, 0.0, rank)[0] - 0.5) < 0.05


@both
def test_its_r1_has_a_gradient_and_ignores_autocast(make):
    """With attention too; the penalty of a critic times a number grows with its square."""
    critic = stirred(Critic(make(), rank=2))
    z, c, label = call(dtype=torch.float32)
    plain = r1(critic, z, c, label=label)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(r1(critic, z, c, label=label), plain)
    plain.backward()
    reached = {n.split(".")[0] for n, p in critic.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"heads", "change"}
    with torch.no_grad():
        for head in critic.heads:
            head.out.weight *= 3
    assert torch.allclose(r1(critic, z, c, label=label), 9 * plain, rtol=1e-4)


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (nn.Conv2d(3, 3, 1), {}, "Conv2d.*lacks features, feature_channels;"),
        (nn.Conv2d(3, 3, 1), {"rank": 1}, "lacks features, feature_channels, decoder;"),
        (trunk(), {"heads": (3,)}, r"heads = \(3,\): choose different ones of 0 to 2"),
        (trunk(), {"heads": ()}, "heads"),
        (trunk(), {"heads": (1, 1)}, "heads"),
        (trunk(), {"rank": -1}, "rank = -1"),
        (trunk(), {"width": 0}, "width = 0"),
    ],
)
def test_what_does_not_fit_is_refused(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        Critic(network, **arguments)


def test_a_refused_network_is_not_frozen():
    net = trunk()
    with pytest.raises(ValueError, match="heads"):
        Critic(net, heads=(9,))
    assert all(p.requires_grad for p in net.parameters())


def test_low_rank_starts_with_unit_gain():
    net = nn.ModuleDict({"up": nn.Linear(4096, 8), "down": nn.Linear(8, 8)})
    change = LowRank(net, ("up",), 64)
    assert change.names == ("up.weight",)
    assert (change.a[0].detach() @ torch.randn(4096, 500)).std() == pytest.approx(1, abs=0.05)
