"""Settings come back from their text exactly, and no text does anything else."""

from __future__ import annotations

import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.sampling.rebuild import CONSTRUCTORS, NotRebuildable, rebuild
from tests.zoo import LIKELIHOODS, LIMITS, NETWORKS, PRIORS, SAMPLERS

WIDTH = 5
OTHERS_TRIED = {case.likelihood.__class__.__name__ for case in LIKELIHOODS.values()} | {
    prior.__class__.__name__ for prior in PRIORS.values()
}
"""In test_likelihood_runs.py."""

NETWORKS_WITH_TEXT = {
    **{name: network for name, network in NETWORKS.items() if name != "own function"},
    **{f"limit: {name}": limit.network(WIDTH) for name, limit in LIMITS.items()},
}


@pytest.mark.parametrize("name", NETWORKS_WITH_TEXT)
def test_every_network_comes_back(name):
    network = NETWORKS_WITH_TEXT[name]
    again = rebuild(repr(network))
    assert again == network
    assert repr(again) == repr(network)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_comes_back(name):
    assert rebuild(repr(SAMPLERS[name])) == SAMPLERS[name]


@pytest.mark.parametrize("noise_std", [0.1, 1 / 3, 1e-300, 12345678.123456789])
def test_a_likelihood_comes_back_to_the_last_digit(noise_std):
    assert rebuild(repr(bnn.Gaussian(noise_std))).noise_std == noise_std


def test_numbers_of_numpy_come_back():
    sampler = bnn.HMC(np.int64(3), jitter=np.float64(1 / 3), target_acceptance=np.float32(0.7))
    assert rebuild(repr(sampler)) == sampler


def test_other_settings_come_back_as_others():
    assert rebuild(repr(bnn.HMC(3))) != bnn.HMC(4)
    assert rebuild(repr(bnn.fcn(1, 5, 2))) != bnn.fcn(1, 5, 2, "erf")


def test_every_constructor_is_tried_by_some_text():
    texts = " ".join(map(repr, [*NETWORKS_WITH_TEXT.values(), *SAMPLERS.values()]))
    untried = {name for name in CONSTRUCTORS if f"{name}(" not in texts}
    assert untried <= OTHERS_TRIED | {"Hyperparameter"}


def test_a_network_with_a_function_of_ones_own_is_refused():
    with pytest.raises(NotRebuildable):
        rebuild(repr(NETWORKS["own function"]))


MALICIOUS = {
    "a call of an unknown name": "open('stolen', 'w')",
    "an import": "__import__('os').system('touch stolen')",
    "an attribute": "HMC.build",
    "a call of an attribute": "HMC().build(1, 2)",
    "a method of a literal": "'{0.__class__}'.format(1)",
    "a lambda": "(lambda: open('stolen', 'w'))()",
    "a call of a call": "HMC()()",
    "a function of NumPy": "np.load('stolen')",
    "a hidden call": "HMC(num_steps=open('stolen', 'w'))",
    "a call in a list": "Network([open('stolen', 'w')])",
    "a comprehension": "[open(name, 'w') for name in ('stolen',)]",
    "a subscript": "HMC().__dict__['num_steps']",
    "an f-string": "f\"{open('stolen', 'w')}\"",
    "a walrus": "(a := open('stolen', 'w'))",
    "starred arguments": "HMC(*(3,))",
    "keywords from a dictionary": "HMC(**{'num_steps': 3})",
    "a name": "HMC",
    "arithmetic": "HMC(2 ** 99999999)",
    "a sum": "HMC(1 + 1)",
    "bytes": "b'x'",
    "a statement": "import os",
    "two statements": "HMC(); open('stolen', 'w')",
    "nothing": "",
    "half a text": "HMC(num_steps=",
    "an unknown argument": "HMC(steps=3)",
    "nesting beyond the stack": "(" * 5000 + "1" + ")" * 5000,
    "nested calls beyond the stack": "Residual(" * 3000 + "1" + ")" * 3000,
    "minus upon minus": "-" * 100_000 + "1",
    "a null byte": "HMC(\0)",
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_texts_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotRebuildable) as refused:
        rebuild(MALICIOUS[name])
    assert list(tmp_path.iterdir()) == []
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("text", ["HMC(num_steps=-3)", "Gaussian(noise_std=0.0)", "Dense(0)"])
def test_settings_that_constructors_do_not_take_are_refused(text):
    with pytest.raises(ValueError, match="got .*; expected "):
        rebuild(text)
