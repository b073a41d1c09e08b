"""NCSN++, DDPM++ and DDPM: the official outputs, and the laws of a network of ours for every option."""

import json
import math

import pytest
import torch
from golden import cases, error, load
from torch import Tensor

from undrift.interop.score_sde_checkpoint import adopt
from undrift.interop.score_sde_presets import network_from
from undrift.networks.blocks import Attention, Style
from undrift.networks.ncsnpp import NCSNpp, ddpm, ddpmpp

OPTIONS = [
    {},
    {"taps": (), "pyramid_in": "none", "embedding": "positional"},
    {"pyramid_in": "skip", "pyramid_out": "skip"},
    {"pyramid_in": "skip", "combine": "cat", "pyramid_out": "residual", "rescale": False},
    {"block": "ddpm", "taps": (), "pyramid_out": "skip", "activation": "elu"},
    {"block": "ddpm", "learnt_resample": False, "pyramid_in": "none", "activation": "lrelu"},
    {"block": "ddpm", "pyramid_out": "residual", "activation": "relu"},
    {"classes": 3, "embedding": "positional", "scale_by_sigma": True, "centred": False},
    {"conditional": False, "scale_by_sigma": True, "attention": ()},
    {"conditional": False, "classes": 2},
    {"groups": 4, "multipliers": (1,), "attention": (0,)},
]


def small(make=NCSNpp, **arguments) -> NCSNpp:
    torch.manual_seed(0)
    return make(**{"width": 8, "multipliers": (1, 2, 2), "blocks": 1, "init_scale": 0.5, **arguments})


def inputs(net: NCSNpp, *size: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(size[0], 3, *size[1:], generator=generator, dtype=dtype)
    c = torch.empty(size[0], dtype=dtype).uniform_(1, 900, generator=generator)
    label = torch.randint(net.classes + 1, (size[0],), generator=generator)
    return z, c, {"label": label} if net.classes else {}


@pytest.mark.parametrize("case", cases("ncsnpp", "v", "subvp"))
@pytest.mark.parametrize(("kind", "tolerance"), [("f64", 1e-10), ("f32", 1e-4)])
def test_official_output(case, kind, tolerance):
    tensors, facts = load("ncsnpp", case)
    dtype = torch.float64 if kind == "f64" else torch.float32
    net = network_from(facts["config"], "ddpm" if facts["routine"].endswith("DDPM") else "ncsnpp").to(dtype).eval()
    adopt(net, {name.removeprefix("sd/"): value for name, value in tensors.items() if name.startswith("sd/")})
    for labels, output in (("labels", "output"), ("labels_float", "output_float")):
        if labels in tensors:
            c = tensors[labels]
            with torch.inference_mode():
                found = net(tensors["x"].to(dtype), c.to(dtype) if c.is_floating_point() else c)
            assert error(found, tensors[f"{output}_{kind}"]) < tolerance


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_laws_of_a_network(options):
    """A stored network is rebuilt; memory format changes nothing; a sample does not see its batch; any size runs."""
    net = small(**options).double()
    again = NCSNpp(**json.loads(json.dumps(net.arguments))).double()
    again.load_state_dict(net.state_dict())
    assert again.arguments == net.arguments
    z, c, label = inputs(net, 3, 9, 14)
    out = net(z, c, **label)
    height, width = (side + -side % net.stride for side in z.shape[2:])
    filled = torch.nn.functional.pad(z, (0, width - 14, 0, height - 9), mode="replicate")
    assert torch.allclose(net(filled, c, **label)[..., :9, :14], out, rtol=0, atol=1e-12)
    for i in range(3):
        alone = again(z[i : i + 1], c[i : i + 1], **{name: value[i : i + 1] for name, value in label.items()})
        assert torch.allclose(alone, out[i : i + 1], rtol=0, atol=1e-12)
    net.to(memory_format=torch.channels_last)
    assert torch.allclose(net(z.to(memory_format=torch.channels_last), c, **label), out, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_reach_every_parameter_and_input(options):
    net = small(**options).double()
    z, c, label = inputs(net, 4, 8, 8)
    z, c = z.requires_grad_(), c.requires_grad_()
    if label:
        label = {"label": torch.arange(4) % (net.classes + 1)}
    net(z, c, **label).square().mean().backward()
    leaves = {**dict(net.named_parameters()), "z": z}
    if options.get("conditional", True):
        leaves["c"] = c
    assert [name for name, leaf in leaves.items() if leaf.grad is None or not leaf.grad.any()] == []


@pytest.mark.parametrize("options", [{}, {"pyramid_in": "skip", "pyramid_out": "residual", "block": "ddpm"}], ids=str)
def test_the_gradient_is_the_derivative(options):
    net = small(multipliers=(1, 1), **options).double()
    z, c, _ = inputs(net, 1, 5, 4)
    c = c / 900 + 1  # the Fourier embedding turns fast
    assert torch.autograd.gradcheck(net, (z.requires_grad_(), c.requires_grad_()), fast_mode=True, eps=1e-7)


@pytest.mark.parametrize("options", OPTIONS[:4], ids=str)
def test_precisions_agree(options):
    net = small(**options)
    z, c, _ = inputs(net, 2, 16, 16, dtype=torch.float32)
    single = net(z, c)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(z, c)
    double = net.double()(z.double(), c.double())
    scale = double.square().mean().sqrt()
    assert (single - double).abs().max() < 1e-3 * scale  # sines of thousands of radians in float32
    assert (half - double).square().mean().sqrt() < 3e-2 * scale


def test_attention_is_the_softmax_over_all_positions():
    layer = Attention(8, Style(init_scale=1.0)).double()
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    tokens = layer.norm(x).flatten(2).transpose(1, 2)
    query, key, value = (layer.query_key_value(tokens)[..., i * 8 : (i + 1) * 8] for i in range(3))
    weights = (query @ key.transpose(1, 2) / math.sqrt(8)).softmax(-1)
    expected = (x + layer.out(weights @ value).transpose(1, 2).reshape(x.shape)) / math.sqrt(2)
    assert torch.allclose(layer(x), expected, rtol=0, atol=1e-12)


def test_images_in_0_to_1_are_centred_by_the_network():
    centred, raw = small(), small(centred=False)
    z, c, _ = inputs(raw, 2, 8, 8, dtype=torch.float32)
    assert torch.allclose(raw(z, c), centred(2 * z - 1, c), rtol=0, atol=1e-6)


def test_the_output_is_divided_by_sigma():
    z, c, _ = inputs(small(), 2, 8, 8)
    plain, divided = small().double(), small(scale_by_sigma=True).double()
    assert torch.allclose(divided(z, c), plain(z, c) / c[:, None, None, None], rtol=1e-12, atol=0)
    sigmas = torch.logspace(math.log10(90), -2, 1000, dtype=torch.float64)
    index = torch.tensor([0, 731])
    plain = small(embedding="positional").double()
    divided = small(embedding="positional", scale_by_sigma=True, sigmas=(0.01, 90.0, 1000)).double()
    expected = plain(z, index) / sigmas[index][:, None, None, None]
    assert torch.allclose(divided(z, index), expected, rtol=1e-12, atol=0)
    assert torch.equal(divided(z, index.double()), divided(z, index))


def test_an_unconditional_network_is_told_nothing():
    net = small(conditional=False).double()
    z, c, _ = inputs(net, 2, 8, 8)
    assert torch.equal(net(z, c), net(z, c + 1))
    assert not torch.equal(small().double()(z, c), small().double()(z, c + 1))


def test_each_class_and_none_are_told_apart():
    net = small(classes=3, embedding="positional").double()
    z, c, _ = inputs(net, 1, 8, 8)
    outs = [net(z, c, label=torch.tensor([k])) for k in range(4)]
    assert all(not torch.allclose(outs[i], outs[j]) for i in range(4) for j in range(i))


def test_dropout_is_for_training_only():
    net = small(dropout=0.5).double()
    z, c, _ = inputs(net, 2, 8, 8)
    assert not torch.equal(net(z, c), net(z, c))
    assert torch.equal(net.eval()(z, c), small().double().eval()(z, c))


def test_a_tiny_batch_is_learnt_by_heart():
    net = small(width=16, multipliers=(1, 2), init_scale=0.0)
    z, c, _ = inputs(net, 2, 8, 8, dtype=torch.float32)
    target = z.flip(3)  # not local: no one convolution can do it
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(z, c) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * target.square().mean()


@pytest.mark.parametrize(
    ("make", "parameters"),
    [(NCSNpp, 62_758_787), (ddpmpp, 61_804_419), (ddpm, 35_218_947)],
    ids=["++", "ddpm++", "ddpm"],
)
def test_the_networks_of_the_paper_by_default(make, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == parameters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 2}, "width 2: expected"),
        ({"blocks": 0}, "blocks 0: expected"),
        ({"multipliers": (1, 0)}, "at least 1"),
        ({"attention": (3,)}, "attention at level 3: levels are 0 to 2"),
        ({"block": "resnet"}, "biggan, ddpm"),
        ({"pyramid_in": "input_skip"}, "none, skip, residual"),
        ({"activation": "gelu"}, "swish, elu"),
        ({"taps": (1,)}, "at least two"),
        ({"sigmas": (1.0, 0.1, 10)}, "smallest, largest"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_a_missing_or_unwanted_label_is_refused():
    z, c, label = inputs(small(classes=2), 1, 8, 8, dtype=torch.float32)
    with pytest.raises(ValueError, match="label=<classes, 2 for none>"):
        small(classes=2)(z, c)
    with pytest.raises(ValueError, match="no label"):
        small()(z, c, **label)
