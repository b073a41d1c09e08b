"""Guidance by Bayes' rule, on mixtures, where both sides of it are known."""

import pytest
import torch
from oracles import PROCESSES, Counting, f64, inner_times, scale_of

from undrift.denoiser import GaussianMixture
from undrift.guidance import Classifier, ClassifierFree
from undrift.process import VP, Flow

WEIGHTS = f64([0.5, 0.3, 0.2])
MEANS = f64([[0.3, -0.8], [-0.5, 0.2], [0.9, 0.6]])
VARIANCES = f64([[0.04, 0.2], [0.1, 0.02], [0.3, 0.05]])
LABEL = torch.tensor([0, 2, 1, 1, 0])


class Labelled:
    """The exact estimates, conditional and not: label 3 is no class."""

    def __init__(self, process, scale=1.0):
        self.process, parts = process, [(w[None], m[None] * scale, v[None] * scale**2) for w, m, v in
                                        zip(WEIGHTS, MEANS, VARIANCES, strict=True)]  # fmt: skip
        self.parts = [GaussianMixture(*part, process) for part in parts]
        self.whole = GaussianMixture(WEIGHTS, MEANS * scale, VARIANCES * scale**2, process)

    def __call__(self, z, t, label):
        estimates = torch.stack([d(z, t) for d in (*self.parts, self.whole)])
        return estimates[label, torch.arange(len(z))]

    def classify(self, z, t):
        return torch.stack([w.log() + p.log_prob(z, t) for w, p in zip(WEIGHTS, self.parts, strict=True)], 1)


def states(process, t, generator):
    z0 = scale_of(process) * torch.randn(5, 2, generator=generator, dtype=torch.float64)
    return process.marginal(z0, t, torch.randn(5, 2, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("name", PROCESSES)
def test_the_exact_classifier_gives_the_exact_conditional(name, generator):
    process = PROCESSES[name]
    labelled = Labelled(process, scale_of(process))
    guided = Classifier(labelled.whole, process, labelled.classify)
    with torch.no_grad():
        t = inner_times(process, 5)  # one time each
        z = states(process, t, generator)
        torch.testing.assert_close(guided(z, t, label=LABEL), labelled(z, t, LABEL), rtol=1e-7, atol=1e-7)


def test_at_pure_noise_too(generator):
    labelled = Labelled(Flow())
    z = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    guided = Classifier(labelled.whole, Flow(), labelled.classify)(z, f64(1.0), label=LABEL)
    torch.testing.assert_close(guided, MEANS[LABEL], rtol=0, atol=3e-3)


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_both_guidances_are_one(scale, generator):
    """log p(label | z) is the difference of the scores, so that the two agree at every scale."""
    labelled, t = Labelled(VP()), inner_times(VP(), 5)
    z = states(VP(), t, generator)
    by_gradient = Classifier(labelled.whole, VP(), labelled.classify, scale)(z, t, label=LABEL)
    for batched in (True, False):
        free = ClassifierFree(labelled, VP(), scale, {"label": 3}, batched=batched)
        torch.testing.assert_close(free(z, t, label=LABEL), by_gradient, rtol=1e-9, atol=1e-9)


def test_no_class_is_no_guidance_and_the_label_is_passed_on_when_asked(generator):
    labelled, t = Labelled(VP()), f64(0.4)
    z, none = states(VP(), t, generator), torch.full((5,), 3)
    assert torch.equal(Classifier(labelled.whole, VP(), labelled.classify)(z, t, label=none), labelled.whole(z, t))
    told = Classifier(labelled, VP(), labelled.classify, 0.0, conditional=True)
    torch.testing.assert_close(told(z, t, label=LABEL), labelled(z, t, LABEL))


def test_interval_one_call_outside_and_each_sample_by_itself(generator):
    labelled, process = Labelled(VP()), VP()
    count = Counting(labelled)
    guided = ClassifierFree(count, process, 4.0, {"label": 3}, interval=(-1.0, 1.0))
    lam = f64([-2.0, -0.9, 0.0, 0.9, 2.0])
    t = process.time(lam)
    z = states(process, t, generator)
    given, without = labelled(z, t, LABEL), labelled(z, t, torch.full((5,), 3))
    scale = f64([1.0, 4.0, 4.0, 4.0, 1.0])[:, None]
    torch.testing.assert_close(guided(z, t, label=LABEL), without + scale * (given - without))
    assert [len(at) for at in count.times] == [10]
    count.times.clear()
    assert torch.equal(guided(z, t[0], label=LABEL), labelled(z, t[0], LABEL))
    assert len(count.times) == 1
    guided(z, t[2], label=LABEL)
    assert [at.ndim for at in count.times] == [0, 0]


def test_any_condition_may_be_replaced_or_left_out():
    seen = []

    def denoise(z, t, **cond):
        seen.append({k: v.tolist() for k, v in cond.items()})
        return cond.get("image", torch.zeros_like(z)) * 1.0

    z, t = torch.zeros(2, 1), f64(0.5)
    cond = {"image": torch.ones(2, 1), "label": torch.tensor([0, 1]), "text": torch.tensor([[5.0, 6.0]] * 2)}
    null = {"label": 9, "text": torch.tensor([7.0, 8.0])}
    assert ClassifierFree(denoise, VP(), 2.0, null)(z, t, **cond).tolist() == [[1.0], [1.0]]
    assert seen.pop() == {"image": [[1.0]] * 4, "label": [0, 1, 9, 9], "text": [[5.0, 6.0]] * 2 + [[7.0, 8.0]] * 2}
    assert ClassifierFree(denoise, VP(), 2.0, null | {"image": None})(z, t, **cond).tolist() == [[2.0], [2.0]]
    assert [sorted(call) for call in seen] == [["image", "label", "text"], ["label", "text"]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ClassifierFree(Labelled(VP()), VP(), 2.0, {"label": 3}, (1.0, 0.0)), r"interval = \(1\.0, 0\.0\)"),
        (lambda: ClassifierFree(Labelled(VP()), VP(), 2.0, {}), "null = {}"),
        (lambda: ClassifierFree(Labelled(VP()), VP(), 2.0, {"label": 3})(MEANS, f64(0.5)), "'label' is not given"),
        (
            lambda: Classifier(Labelled(VP()).whole, VP(), torch.no_grad()(Labelled(VP()).classify))(
                MEANS, f64(0.5), label=LABEL[:3]
            ),
            "gives no gradient",
        ),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()
