"""A student starts as its teacher, and what it is told beside reaches it."""

import json

import pytest
import torch

from undrift.networks import Classifier, NCSNpp, UNet, widen

NETWORKS = {
    "unet": lambda **k: UNet(**{"channels": (8, 12), "blocks": (1, 1), "embedding": 16, "classes": 3, **k}),
    "generator": lambda **k: UNet(
        **{"channels": (8, 12, 16), "blocks": (1, 1, 1), "embedding": 16, "cond_channels": 0, **k}
    ),
    "ncsnpp": lambda **k: NCSNpp(**{"width": 8, "multipliers": (1, 2), "blocks": 1, "init_scale": 0.5, **k}),
    "skip": lambda **k: NCSNpp(
        **{
            "width": 8,
            "multipliers": (1, 2),
            "blocks": 1,
            "classes": 3,
            "conditional": False,
            "pyramid_out": "skip",
            "init_scale": 0.5,
            **k,
        }
    ),
}
both = pytest.mark.parametrize("name", list(NETWORKS))


def build(name, **arguments):
    torch.manual_seed(0)
    return NETWORKS[name](**arguments)


def call(net, height=9, width=14, batch=3, dtype=torch.float32):
    """z, c and the conditions of the network; guidance and noise apart."""
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(batch, 3, height, width, generator=generator, dtype=dtype)
    c = torch.empty(batch, dtype=dtype).uniform_(1, 6, generator=generator)
    cond = {}
    if net.arguments["classes"]:
        cond["label"] = torch.arange(batch) % 4
    if net.arguments.get("cond_channels"):
        cond["image"] = torch.rand(batch, 3, height, width, generator=generator, dtype=dtype)
    omega = torch.linspace(2, 7, batch, dtype=dtype)
    return z, c, cond, omega, torch.randn(batch, 2, height, width, generator=generator, dtype=dtype)


@both
def test_a_student_starts_as_its_teacher_and_leaves_it_alone(name):
    teacher = build(name).requires_grad_(False).eval()
    z, c, cond, omega, noise = call(teacher)
    expected, state = teacher(z, c, **cond), torch.random.get_rng_state()
    student = widen(teacher, guided=True, noise_channels=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(student(z, c, **cond, guidance=omega, noise=noise), expected)
    assert not student.training
    assert all(p.requires_grad for p in student.parameters())
    assert {n for n in student.state_dict() if n not in teacher.state_dict()} == {
        "noise.weight",
        "guidance.layer.weight" if isinstance(student, UNet) else "embed.guidance.layer.weight",
    }
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1)
    assert torch.equal(teacher(z, c, **cond), expected)
    assert widen(teacher.double(), guided=True).state_dict()["enter.weight" if "enter.weight" in teacher.state_dict()
                                                             else "leave.weight"].dtype == torch.float64  # fmt: skip


@both
def test_gradients_reach_every_parameter_and_input_and_it_is_rebuilt(name):
    net = build(name, guided=True, noise_channels=2).double()
    z, c, cond, omega, noise = call(net, batch=4, dtype=torch.float64)
    for layer in (net.noise, (net.guidance if isinstance(net, UNet) else net.embed.guidance).layer):
        torch.nn.init.normal_(layer.weight)
    omega, noise = omega.requires_grad_(), noise.requires_grad_()
    out = net(z, c, **cond, guidance=omega, noise=noise)
    out.square().mean().backward()
    leaves = {**dict(net.named_parameters()), "omega": omega, "noise": noise}
    assert [name for name, leaf in leaves.items() if leaf.grad is None or not leaf.grad.any()] == []
    again = type(net)(**json.loads(json.dumps(net.arguments))).double()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(z, c, **cond, guidance=omega, noise=noise), out)
    for i in range(4):  # alone as in a batch
        own = {key: value[i : i + 1] for key, value in {**cond, "guidance": omega, "noise": noise}.items()}
        assert torch.allclose(net(z[i : i + 1], c[i : i + 1], **own), out[i : i + 1], rtol=0, atol=1e-12)


@both
def test_a_scale_of_one_is_no_guidance_and_other_scales_are_told_apart(name):
    net = build(name, guided=True).double()
    layer = (net.guidance if isinstance(net, UNet) else net.embed.guidance).layer
    torch.nn.init.normal_(layer.weight)
    z, c, cond, _, _ = call(net, batch=1, dtype=torch.float64)
    plain = net(z, c, **cond)
    assert torch.equal(net(z, c, **cond, guidance=torch.ones(1)), plain)
    outs = [net(z, c, **cond, guidance=torch.tensor(w)) for w in (0.0, 1.0, 1.5, 4.0, 9.0, 15.0)]
    assert all((outs[i] - outs[j]).abs().max() > 1e-4 for i in range(6) for j in range(i))


def test_the_embedding_is_the_one_written():
    net = build("unet", guided=True).guidance.double()
    torch.nn.init.normal_(net.layer.weight)
    omega, k = torch.tensor([0.5, 7.0], dtype=torch.float64), net.frequencies
    waves = [torch.sin((omega[:, None] - 1) * k), torch.cos((omega[:, None] - 1) * k) - 1]
    assert torch.allclose(net(omega), torch.cat(waves, 1) @ net.layer.weight.T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [(1, 1), (7, 13)])
@both
def test_noise_is_filled_like_the_state(name, size):
    net = build(name, noise_channels=2).double()
    torch.nn.init.normal_(net.noise.weight)
    z, c, cond, _, noise = call(net, *size, dtype=torch.float64)
    padding = (0, -size[1] % net.stride, 0, -size[0] % net.stride)

    def filled(x):
        return torch.nn.functional.pad(x, padding, mode="replicate") if x.ndim == 4 else x

    whole = net(filled(z), c, **{k: filled(v) for k, v in cond.items()}, noise=filled(noise))
    out = net(z, c, **cond, noise=noise)
    assert torch.allclose(out, whole[..., : size[0], : size[1]], rtol=0, atol=1e-12)


def test_noise_enters_however_noisy_the_state():
    """At sigma >> alpha the gate shuts the state out, where a student of one step needs its noise most."""
    net = build("generator", noise_channels=2).double()
    torch.nn.init.normal_(net.noise.weight)
    z, _, _, _, noise = call(net, dtype=torch.float64)
    other, ends = noise.flip(0), [torch.full((3,), end, dtype=torch.float64) for end in (-12.0, 12.0)]
    low, high = ((next(net.climb(*net.inputs(z, c, None, None, None), noise)) -
                  next(net.climb(*net.inputs(z, c, None, None, None), other))).std() for c in ends)  # fmt: skip
    assert high > 0.5 * low


@both
def test_features_are_what_forward_computes(name):
    net = build(name).double()
    z, c, cond, _, _ = call(net, 10, 14, dtype=torch.float64)
    maps, out = net.features(z, c, **cond), net(z, c, **cond)
    levels = len(net.feature_channels)
    sides = [(s + -s % net.stride) // (net.stride // 2 ** (levels - 1)) for s in (10, 14)]
    assert [m.shape[1:] for m in maps] == [
        (width, *(s // 2 ** (levels - 1 - i) for s in sides)) for i, width in enumerate(net.feature_channels)
    ]
    if isinstance(net, UNet):
        inputs = net.inputs(z, c, cond.get("image"), cond.get("label"), None)
        again = torch.nn.functional.pixel_shuffle(net.leave(maps[-1]) + net.past(*inputs), net.fold)
    elif net.leave is not None:
        again = net.leave(maps[-1])
    else:  # the pyramid of images that the levels show
        shown = None
        for level, h in zip(net.ups, maps, strict=True):
            shown, _ = level.show(shown, h)
        again = shown
    assert torch.equal(again[..., :10, :14], out)


@pytest.mark.parametrize("name", ["unet", "ncsnpp"])
def test_an_input_that_is_missing_or_unwanted_is_refused(name):
    z, c, cond, omega, noise = call(build(name))
    for given, message in (({"guidance": omega}, "guided=True"), ({"noise": noise}, "noise_channels = 0: leave it")):
        with pytest.raises(ValueError, match=message):
            build(name)(z, c, **cond, **given)
        with pytest.raises(ValueError, match=message):
            build(name).features(z, c, **cond, **given)
    for wrong in (None, noise[:, :1], noise[..., :-1]):
        with pytest.raises(ValueError, match=r"give noise=torch.randn\(3, 2, 9, 14\)"):
            build(name, noise_channels=2)(z, c, **cond, noise=wrong)
    with pytest.raises(ValueError, match="noise_channels -1: expected"):
        build(name, noise_channels=-1)


def test_what_cannot_be_widened_is_refused():
    for net, arguments, message in (
        (Classifier(3, channels=(8,)), {"guided": True}, "Classifier, guided=True.*UNet or NCSNpp"),
        (torch.nn.Conv2d(3, 3, 1), {"noise_channels": 1}, "there are none"),
        (build("generator"), {"classes": 3}, "classes=3.*weight zero"),
        (build("generator"), {"channels": (8, 12, 18)}, "weight zero"),
        (build("generator", noise_channels=1), {"noise_channels": 2}, "weight zero"),
    ):
        with pytest.raises(ValueError, match=message):
            widen(net, **arguments)
    with pytest.raises(ValueError, match="no embedding"):
        NCSNpp(width=8, conditional=False, guided=True)
