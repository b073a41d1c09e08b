"""Released restorers: layouts are recognised, the meaning is that of the training, and nothing else gets in."""

import irsde_files as files
import pytest
import torch
from golden import cases, error, load
from safetensors.torch import save_file

from undrift import MeanReverting, sample, times
from undrift.interop.daclip import towers
from undrift.interop.irsde import Denoising, MLDenoising, denoising_start, irsde_process
from undrift.interop.irsde_checkpoint import autoencoder_from, irsde_checkpoint, network_from, read_state
from undrift.interop.irsde_presets import OFFICIAL, Official, settings
from undrift.noise import PerSample
from undrift.prediction import MLNoise, Noise
from undrift.restoration import PRESETS, presets, restore
from undrift.solvers import Exponential
from undrift.space import Noisy, ObservedLatent, Residual
from undrift.tensor import expand


@pytest.mark.parametrize("name", ["ir-sde", "denoising", "da-clip", "wild-ir", "refusion", "latent"])
def test_constructor_arguments_follow_from_the_tensors(name):
    made = files.NETWORKS[name]()
    found = network_from(files.state(name))
    assert type(found) is type(made)
    assert found.arguments == made.arguments
    assert autoencoder_from(files.state("codes")).arguments == files.NETWORKS["codes"]().arguments


@pytest.mark.parametrize("case", cases("irsde_networks", "unet_d", "nafnet", "daclip_unet_text", "wildir"))
def test_a_recorded_network_through_a_file(case, tmp_path):
    """The recorded tensors in a pickle, read, recognised, and told the time and mu by a denoiser in z = x - mu."""
    tensors, facts = load("irsde_networks", case)
    state = {"module." + k.removeprefix("sd/"): v.float() for k, v in tensors.items() if k.startswith("sd/")}
    torch.save(state, tmp_path / "7_G.pth")
    free = "mu" not in tensors
    latent = None
    if "latent" in case:
        recorded, _ = load("irsde_networks", "unet_autoencoder_latent")
        latent = {k.removeprefix("sd/"): v.float() for k, v in recorded.items() if k.startswith("sd/")}
    chosen = OFFICIAL["denoising-sigma25" if free else "refusion"]
    denoiser, space = irsde_checkpoint(read_state(tmp_path / "7_G.pth"), chosen, latent)
    assert type(space) is (Noisy if free else ObservedLatent if latent else Residual)
    x, mu = tensors["x"].double(), tensors.get("mu", torch.zeros(())).double()
    t = tensors["time"] if "time" in tensors else torch.tensor([facts["time"]["value"]]).expand(len(x))
    t = t.double()
    keys = {"degradation_context": "text_context", "image_context": "image_context"}
    given = {k: tensors[v].double() for k, v in keys.items() if v in tensors}
    image = {} if free else {"image": mu}
    found = denoiser.double()(x - mu, t, **image, **given)
    alpha, sigma = denoiser.process.alpha_sigma(t)
    skip, out = denoiser.prediction.affine(t, alpha, sigma)
    wanted = expand(skip, x) * (x - mu) + expand(out, x) * tensors["output_f64"]
    assert error(found, wanted) < 1e-12


def test_wrappers_of_the_official_savers(tmp_path):
    state = files.state("refusion")
    twice = {
        f"{part}.module.{k}": v + i for i, part in enumerate(("ema_model", "online_model")) for k, v in state.items()
    }
    for content in (
        state,
        {"module." + k: v for k, v in state.items()},
        {"state_dict": state, "epoch": 3},
        {"params": {k: v + 1 for k, v in state.items()}, "params_ema": state},
        {**twice, "step": torch.tensor(3), "initted": torch.tensor(True)},
    ):
        torch.save(content, tmp_path / "any.pth")
        found = read_state(tmp_path / "any.pth")
        assert found.keys() == state.keys()
        assert all(torch.equal(found[k], state[k]) for k in state)
    last = read_state(tmp_path / "any.pth", average=False)
    assert torch.equal(last["intro.bias"], state["intro.bias"] + 1)
    save_file(state, tmp_path / "any.safetensors")
    assert read_state(tmp_path / "any.safetensors").keys() == state.keys()


def test_schedules_are_those_of_the_training():
    for name, chosen in OFFICIAL.items():
        process, prediction, space, label = chosen.parts()
        assert label.factor == 1.0
        if "denoising" in name:
            level = chosen.noise / 255
            start = torch.tensor(process.t_max, dtype=torch.float64)
            near = process.alpha_sigma(torch.stack([start - 1, start, start + 1]).clamp(max=process.path.t_max))[1]
            assert (near - level).abs().argmin() == 1, name
            assert (type(prediction), type(space)) == (MLDenoising, Noisy)
        else:
            assert prediction == MLNoise(process)
            assert space == Residual()
            assert process.subtract_theta0  # theta_0 is subtracted, as in training: no noise is left at t = 0
            assert process.alpha_sigma(torch.tensor(0.0, dtype=torch.float64)) == (1, 0)
    assert OFFICIAL["daclip"].parts()[0] == MeanReverting(50 / 255)
    assert OFFICIAL["deraining"].parts()[0] == MeanReverting(10 / 255)
    assert Official(30, matched=True).parts()[1] == Noise()
    # A preset with flags, and flags alone.
    assert settings("deraining", {"max_sigma": 20.0}).max_sigma == 20
    alone = {"max_sigma": 25.0, "steps": 50, "schedule": "linear", "eps": 0.01}
    assert settings(None, alone).parts()[0] == irsde_process(25, 50, "linear", 0.01)


def test_the_loss_of_denoising_sde_makes_this_bias():
    """F that makes the official Euler step land on the official optimum gives back the true noise."""
    path = MeanReverting(75 / 255, eps=0.04)
    process, prediction = Denoising(path), MLDenoising(path)
    x0, eps = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64)
    for index in (1, 2, 10, 50, 100):
        t = torch.tensor(float(index), dtype=torch.float64)
        b, c = path.alpha_sigma(t)[0], path.alpha_sigma(t - 1)[0]
        a, (alpha, sigma) = b / c, process.alpha_sigma(t)
        x = x0 + sigma * eps
        optimum = a * (1 - c**2) / (1 - b**2) * (x - x0) + x0
        step = path.lam**2 * -a.log() * (1 + b**2) / sigma  # half of g^2 dt (1 + B^2) / sigma
        skip, out = prediction.affine(t, alpha, sigma)
        found = skip * x + out * (x - optimum) / step
        torch.testing.assert_close(found, x0, rtol=0, atol=1e-11)


class Oracle(torch.nn.Module):
    """The noise of an image of one value, for DenoisingSDE."""

    def __init__(self, process, truth):
        super().__init__()
        self.process, self.truth = process, truth

    def forward(self, z, t, image=None):
        return self.truth.expand_as(z)


def test_denoising_begins_at_the_image():
    process, _, space, _ = OFFICIAL["denoising-sigma25"].parts()
    truth = torch.rand(1, 3, 8, 8)
    noisy = truth + 25 / 255 * torch.randn(1, 3, 8, 8)
    grid = times.uniform(process, 6)
    assert grid[0] == denoising_start(process, 25 / 255) == process.t_max
    found = sample(
        Oracle(process, truth), process, space, shape=noisy.shape, times=grid[[0, -1]], solver=Exponential(1),
        noise=PerSample([0]), y=noisy, image=noisy,
    )  # fmt: skip
    torch.testing.assert_close(found, truth)
    begun = sample(
        lambda z, t, image: z, process, space, shape=noisy.shape, times=grid, solver=Exponential(1),
        noise=PerSample([0]), y=noisy, image=noisy,
    )  # fmt: skip
    torch.testing.assert_close(begun, noisy.clamp(0, 1))  # nothing was added, for nothing was to be removed


def test_a_noise_predictor_is_not_asked_to_leap():
    process, prediction, _, _ = OFFICIAL["daclip"].parts()
    suited = presets(process, prediction)
    grid = suited["ode-2"].grid(process, 8)
    lam = process.half_log_snr(grid[:-1])
    assert len(grid) == 9
    torch.testing.assert_close(lam.diff(), lam.diff()[:1].expand(7))  # even steps, none of them a leap
    assert lam[-1] == pytest.approx(4.0)
    assert suited["posterior"] == PRESETS["posterior"]
    free = OFFICIAL["denoising-sigma25"].parts()
    assert presets(free[0], free[1]) is PRESETS  # its first estimate is one of an image already seen


def test_codes_are_restored_in_their_own_space(tmp_path):
    chosen = settings("latent-dehazing", {})
    denoiser, space = irsde_checkpoint(files.state("latent"), chosen, files.state("codes"))
    assert denoiser.network.long_skip
    y = torch.rand(3, 22, 13)
    result = restore(denoiser, space, y, steps=2)
    assert result.image.shape == y.shape
    with torch.no_grad():
        code, given = space.observed(y[None])
        assert code.shape == (1, 4, 6, 4)
        # The state of the observation itself is no residual, and its image what the network of codes makes of it.
        state = space.encode(y[None], y[None])
        assert not state.any()
        torch.testing.assert_close(given.decode(state, code), space.autoencoder(y[None]))
        torch.testing.assert_close(space.decode(state, y[None]), space.autoencoder(y[None]))
    # Whole trajectory by hand, in codes.
    grid = presets(denoiser.process, denoiser.prediction)["ode-2"].grid(denoiser.process, 2)
    by_hand = sample(
        denoiser, denoiser.process, Residual(), shape=code.shape, times=grid, solver=Exponential(2),
        noise=PerSample([0]), y=code, image=code, start=denoiser.process.alpha_sigma(grid[0])[1].float()
        * PerSample([0])(code, grid[0], grid[0]),
    )  # fmt: skip
    assert by_hand.shape == code.shape  # clamped, as codes must not be: so only shapes are compared here


def test_towers_are_those_of_transformers(tmp_path):
    """CLIP's own tower without control, and the controller, against transformers' CLIPVisionModelWithProjection."""
    transformers = pytest.importorskip("transformers")
    clip = towers(files.state("clip"))
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 1}
    more = {"image_size": 64, "patch_size": 16, "projection_dim": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-5}
    reference = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**shape, **more)).eval()

    def translated(tower, blocks):
        out = {
            "vision_model.embeddings.class_embedding": tower.class_embedding,
            "vision_model.embeddings.patch_embedding.weight": tower.conv1.weight,
            "vision_model.embeddings.position_embedding.weight": tower.positional_embedding,
            "visual_projection.weight": tower.proj.T,
        }
        for ours, theirs in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")):
            out |= {f"vision_model.{theirs}.{k}": v for k, v in getattr(tower, ours).state_dict().items()}
        for i, block in enumerate(blocks):
            base = f"vision_model.encoder.layers.{i}"
            names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
            names["attn.out_proj"] = "self_attn.out_proj"
            for ours, theirs in names.items():
                part = block.get_submodule(ours)
                out |= {f"{base}.{theirs}.{k}": v for k, v in part.state_dict().items()}
            for kind in ("weight", "bias"):
                chunks = getattr(block.attn, f"in_proj_{kind}").chunk(3)
                out |= {f"{base}.self_attn.{n}_proj.{kind}": c for n, c in zip("qkv", chunks, strict=True)}
        return out

    picture = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        reference.load_state_dict(
            translated(clip.visual_control, clip.visual_control.transformer.transformer.resblocks)
        )
        theirs = reference(picture, output_hidden_states=True)
        ours, hidden = clip.visual_control(picture)
        torch.testing.assert_close(ours, theirs.image_embeds, rtol=1e-5, atol=1e-5)
        zero = clip.visual_control.transformer.zero_modules
        for layer, value in enumerate(hidden):
            wanted = zero[layer](theirs.hidden_states[layer + 1])
            torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-5)
        reference.load_state_dict(translated(clip.visual, clip.visual.transformer.resblocks))
        silent = [torch.zeros(1)] * 2
        torch.testing.assert_close(
            clip.visual(picture, silent)[0], reference(picture).image_embeds, rtol=1e-5, atol=1e-5
        )
        # Control comes behind each block, of the last block first.
        layers = reference.vision_model.encoder.layers
        for layer, more in zip(layers, hidden[::-1], strict=True):
            layer.register_forward_hook(
                lambda module, inputs, output, more=more: (output[0] + more, *output[1:])
                if isinstance(output, tuple) else output + more
            )  # fmt: skip
        wanted = reference(picture).image_embeds
        torch.testing.assert_close(clip.visual(picture, hidden[::-1])[0], wanted, rtol=1e-5, atol=1e-5)


def test_photographs_of_any_size_become_squares():
    clip = towers(files.state("clip"))
    for size in ((64, 64), (100, 70), (30, 200), (63, 64)):
        assert clip.picture(torch.rand(1, 3, *size)).shape == (1, 3, 64, 64)
    grey = clip.picture(torch.full((1, 3, 90, 70), 0.5))
    torch.testing.assert_close(
        grey[0, :, 5, 5], (0.5 - torch.tensor([0.4815, 0.4578, 0.4082])) / 0.27, rtol=0.1, atol=0.02
    )


def test_what_does_not_fit_is_one_line():
    state, chosen = files.state("ir-sde"), OFFICIAL["deraining"]
    short = {k: v for k, v in state.items() if k != "final_conv.bias"}
    wrong = state | {"final_res_block.block1.proj.weight": torch.zeros(3, 3)}
    for call, words in (
        (lambda: irsde_checkpoint(short, chosen), "no tensor final_conv.bias"),
        (lambda: irsde_checkpoint(wrong, chosen), r"has shape \(3, 3\)"),
        (lambda: irsde_checkpoint(state | {"more": torch.zeros(1)}, chosen), "more .* has no place"),
        (lambda: irsde_checkpoint({"a.b": torch.zeros(1)}, chosen), "unknown layout"),
        (lambda: irsde_checkpoint(files.state("codes"), chosen), "--latent"),
        (lambda: irsde_checkpoint(files.state("clip"), chosen), "--clip"),
        (lambda: irsde_checkpoint(files.state("latent"), chosen), "give --latent"),
        (lambda: irsde_checkpoint(files.state("refusion"), chosen, files.state("codes")), "of 3 channels, but"),
        (lambda: irsde_checkpoint(files.state("latent"), chosen, files.state("refusion")), "latent_conv.weight"),
        (lambda: irsde_checkpoint(files.state("denoising"), chosen), "denoising-sigma25"),
        (lambda: irsde_checkpoint(state, OFFICIAL["denoising-sigma25"]), "sees the degraded image"),
        (lambda: towers(state), "no image tower"),
        (lambda: settings(None, {}), "--preset NAME, one of deraining"),
        (lambda: settings(None, {"max_sigma": 3.0}), "or --steps --schedule --eps"),
        (lambda: settings("derain", {}), "did you mean deraining"),
        (lambda: settings("deraining", {"eps": 2.0}), "eps = 2.0"),
        (lambda: settings("deraining", {"schedule": "cos"}), "schedule 'cos'"),
        (lambda: settings("denoising-sigma25", {"noise": 80.0}), "schedule has from 0"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
