"""The released restoration networks against recorded outputs of the official ones, and what those leave out."""

import pytest
import torch
from golden import cases, error, load

from undrift.networks.irsde_unet import IRSDEUNet
from undrift.networks.latent_unet import LatentUNet
from undrift.networks.nafnet import NAFNet

FOLDER = "irsde_networks"


def official(tensors, dtype):
    return {k.removeprefix("sd/"): v.to(dtype) for k, v in tensors.items() if k.startswith("sd/")}


def unet(args, routine):
    """Ours, of the official arguments and file."""
    if "ch_mult" not in args:
        free = "denoising-sde" in routine
        mults = tuple(2 ** (i + 1) for i in range(args["depth"]))
        return IRSDEUNet(args["nf"], mults, cond_channels=0 if free else 3, middle="softmax" if free else "linear")
    depth = len(args["ch_mult"])
    first = depth - 1 if "wild-ir" in routine else 3
    return IRSDEUNet(
        args["nf"], args["ch_mult"], middle="transformer", transformers=range(first, depth),
        context=args["context_dim"], degradation=args["use_degra_context"], halved=args.get("scale") == 0.5,
    )  # fmt: skip


def nafnet(args, routine):
    latent = "latent" in routine
    return NAFNet(
        args["width"], args["enc_blk_nums"], args["dec_blk_nums"], args["middle_blk_num"], args["img_channel"],
        args["img_channel"], latent,
    )  # fmt: skip


def recorded(case, dtype):
    """(network with the recorded weights, call(**contexts) -> output, tensors)."""
    tensors, facts = load(FOLDER, case)
    kind = nafnet if "img_channel" in facts["args"] else unet
    network = kind(facts["args"], facts["file"]).to(dtype)
    network.load_state_dict(official(tensors, dtype))
    x = tensors["x"].to(dtype)
    time = tensors["time"] if "time" in tensors else torch.tensor([facts["time"]["value"]])
    c = time.to(dtype).expand(len(x))
    mu = tensors["mu"].to(dtype) if "mu" in tensors else None
    contexts = {"degradation_context": "text_context", "image_context": "image_context"}
    given = {name: tensors[key].to(dtype) for name, key in contexts.items() if key in tensors}

    def call(*names):
        with torch.inference_mode():
            return network(x if mu is None else x - mu, c, image=mu, **{name: given[name] for name in names})

    return call, list(given), tensors


@pytest.mark.parametrize("case", cases(FOLDER, "unet_d", "nafnet", "daclip", "wildir"))
def test_recorded_outputs(case):
    """In double the attention's other order of products changes nothing above rounding."""
    call, given, tensors = recorded(case, torch.float64)
    assert error(call(*given), tensors["output_f64"]) < 1e-13
    single, given, _ = recorded(case, torch.float32)
    assert error(single(*given), tensors["output_f32"]) < 3e-6
    assert error(single(*given), tensors["output_f64"]) < 3e-6


@pytest.mark.parametrize("case", cases(FOLDER, "daclip_unet_ctx"))
def test_recorded_contexts_one_by_one(case):
    call, (degradation, image), tensors = recorded(case, torch.float64)
    for names, key in (((degradation,), "text"), ((image,), "image"), ((), "none")):
        assert error(call(*names), tensors[f"output_f64_{key}"]) < 1e-13


@pytest.mark.parametrize("case", cases(FOLDER, "unet_autoencoder"))
def test_recorded_latent_network(case):
    tensors, facts = load(FOLDER, case)
    args = facts["args"]
    for dtype, key, limit in ((torch.float64, "output_f64", 1e-13), (torch.float32, "output_f32", 3e-6)):
        network = LatentUNet(args["ch"], args["ch_mult"], args["embed_dim"]).to(dtype)
        network.load_state_dict(official(tensors, dtype))
        with torch.inference_mode():
            assert error(network(tensors["x"].to(dtype)), tensors[key]) < limit
    code, features = network.encode(tensors["x"])
    assert code.shape == (2, 4, 6, 4)  # (19, 14) padded to (24, 16), a quarter of it
    assert len(features) == 7


NETWORKS = {
    "ir-sde": lambda: IRSDEUNet(8, (2, 4)),
    "denoising": lambda: IRSDEUNet(8, (2, 4), cond_channels=0, middle="softmax"),
    "da-clip": lambda: IRSDEUNet(32, (1, 1), middle="transformer", transformers=(1,), context=12, degradation=True),
    "wild-ir": lambda: IRSDEUNet(32, (1,), middle="transformer", transformers=(0,), context=12, halved=True),
    "refusion": lambda: NAFNet(8, (1, 1), (1, 1)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 10)])
def test_any_size_and_every_parameter_has_a_gradient(name, size):
    network = NETWORKS[name]()
    for parameter in network.parameters():  # NAFNet's branches begin at zero
        torch.nn.init.normal_(parameter, std=0.1)
    z, c = torch.randn(2, 3, *size), torch.tensor([1.0, 57.5])
    given = {key: torch.randn(2, count) for key, count in getattr(network, "contexts", {}).items()}
    out = network(z, c, image=torch.rand(2, 3, *size), **given)
    assert out.shape == z.shape
    out.square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # A softmax over one key is 1: queries and keys to one image token have no effect, nor has a norm before them.
    alone = ("attn2.to_q", "attn2.to_k", "norm2") + (("to_q", "to_k", "norm1") if max(size) < 4 else ())
    few = max(size) < 4
    assert few or not [n for n in without if not any(part in n for part in alone)]


def test_parameters_of_the_released_networks():
    """Counted in the official ones (research/mr-sampler.md 3.4)."""
    wide = {"middle": "transformer", "transformers": (3,), "degradation": True, "context": 512}
    with torch.device("meta"):
        made = {
            "ir-sde": (IRSDEUNet(), 137.15, 151),
            "refusion": (NAFNet(), 76.61, 668),
            "da-clip": (IRSDEUNet(64, (1, 2, 4, 8), **wide), 48.98, 224),
        }
    for network, millions, tensors in made.values():
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
        assert len(network.state_dict()) == tensors


def test_what_cannot_be_built_or_run():
    for make, words in (
        (lambda: IRSDEUNet(5), "even number"),
        (lambda: IRSDEUNet(8, ()), "at least one level"),
        (lambda: IRSDEUNet(8, (1,), middle="transformer"), "context 0"),
        (lambda: IRSDEUNet(8, (1,), context=4), "context 4"),
        (lambda: IRSDEUNet(8, (2,), middle="transformer", context=4), "multiple of 32"),
        (lambda: IRSDEUNet(32, (1,), transformers=(1,), context=4), "levels are 0 to 0"),
        (lambda: NAFNet(8, (1, 1), (1,)), "as many"),
        (lambda: LatentUNet(8, ()), "at least one level"),
        (lambda: IRSDEUNet(8, (2,))(torch.zeros(1, 3, 8, 8), torch.ones(1)), "image is missing"),
        (lambda: NAFNet(8, (1,), (1,))(torch.zeros(1, 3, 8, 8), torch.ones(1)), "image is missing"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            make()
        assert "\n" not in str(caught.value)
