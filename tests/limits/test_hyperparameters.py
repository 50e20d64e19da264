"""Fitted scales: a maximum of the evidence, near the truth where data came from the model."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.limits.hyperparameters import Scales, grouped
from tests.conftest import X64

N, D, OUT, NOISE = 60, 2, 4, 0.2
LEVEL = 1e-5 if X64 else 1e-2
"""Slope of the log evidence per target that counts as none; curvatures are of order 1."""


def network(w_std=1.5, b_std=0.8, w_std_out=1.2, b_std_out=0.6) -> bnn.Network:
    return bnn.fcn(
        2, 4, OUT, "erf", w_std=w_std, b_std=b_std, w_std_out=w_std_out, b_std_out=b_std_out
    )


def start() -> bnn.Network:
    return network(1.0, 0.5, 1.0, 0.3)


def drawn(truth: bnn.Network, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets of a network with noise, and the covariance of its outputs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, D))
    covariance = np.asarray(bnn.nngp(truth, x), float)
    root = np.linalg.cholesky(covariance + NOISE**2 * np.eye(N))
    return x, root @ rng.standard_normal((N, OUT)), covariance


@jax.jit
def evidence_slopes(scales: Scales, x: jax.Array, y: jax.Array) -> Scales:
    def evidence(scales: Scales) -> jax.Array:
        return bnn.nngp_posterior(scales.network, x, y, scales.noise_std).log_evidence

    slopes = jax.grad(evidence)(scales)
    return jax.tree.map(lambda scale, slope: scale * slope / y.size, scales, slopes)


def slopes(fit: bnn.Fit, x: np.ndarray, y: np.ndarray) -> list[float]:
    """Slopes of the log evidence per target in the logarithm of every scale, the noise last."""
    at = Scales(fit.network, fit.noise_std)
    return [float(slope) for slope in jax.tree.leaves(evidence_slopes(at, x, y))]


def log_factors(fit: bnn.Fit, first: bnn.Network) -> list[float]:
    pairs = zip(jax.tree.leaves(fit.network), jax.tree.leaves(first), strict=True)
    return [math.log(new / old) for new, old in pairs]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_noise_is_found_and_the_evidence_above_that_of_the_truth(seed):
    truth, first = network(), network(w_std=1.0, w_std_out=1.0)
    x, y, covariance = drawn(truth, seed)
    fit = bnn.fit_hyperparameters(first, x, y, 0.5, fixed=("b_std", "b_std_out"))
    assert fit.converged, fit.message
    w1, _, w2, _, w_out, _, noise = slopes(fit, x, y)
    assert max(map(abs, (w1 + w2, w_out, noise))) < LEVEL

    # the Laplace error of log(noise) from N OUT targets, less those that the function uses up
    prior = np.linalg.eigvalsh(covariance)
    error = 1 / math.sqrt(2 * OUT * np.sum(NOISE**2 / (prior + NOISE**2)))
    assert abs(math.log(fit.noise_std / NOISE)) < 4.5 * error
    assert abs(math.log(0.5 / NOISE)) > 4.5 * error  # which the start is not

    for net, std in ((truth, NOISE), (first, 0.5)):
        assert fit.log_evidence > bnn.nngp_posterior(net, x, y, std).log_evidence
    found = bnn.nngp_posterior(fit.network, x, y, fit.noise_std).log_evidence
    np.testing.assert_allclose(fit.log_evidence, found, rtol=1e-9 if X64 else 1e-3)


def test_tied_scales_are_a_maximum_in_their_common_factors():
    x, y, _ = drawn(network(), 1)
    fit = bnn.fit_hyperparameters(start(), x, y, 0.5)
    assert fit.converged, fit.message
    w1, b1, w2, b2, w_out, b_out, noise = slopes(fit, x, y)
    assert max(map(abs, (w1 + w2, b1 + b2, w_out, b_out, noise))) < LEVEL
    if X64:  # in which single layers would still gain
        assert max(abs(w1), abs(b1)) > 10 * LEVEL

    w1, b1, w2, b2, w_out, b_out = log_factors(fit, start())
    np.testing.assert_allclose([w1, b1], [w2, b2], rtol=1e-5)
    assert len({round(factor, 4) for factor in (w1, b1, w_out, b_out)}) == 4
    assert all(type(leaf) is float for leaf in (*jax.tree.leaves(fit.network), fit.noise_std))
    assert fit.network.layers[1] == start().layers[1]


def test_untied_scales_are_each_their_own_and_fit_no_worse():
    x, y, _ = drawn(network(), 1)
    tied, fit = (bnn.fit_hyperparameters(start(), x, y, 0.5, tied=tied) for tied in (True, False))
    assert fit.log_evidence > tied.log_evidence + (0.01 if X64 else -0.01)
    w1, b1, w2, b2, _, _ = log_factors(fit, start())
    assert abs(w1 - w2) > 0.01
    assert abs(b1 - b2) > 0.01


def test_scales_of_one_name_share_a_factor_where_tied():
    scales = Scales(start(), 0.5)
    names, membership = grouped(scales, tied=True, fixed=())
    assert names == ("w_std", "b_std", "w_std_out", "b_std_out", "noise_std")
    np.testing.assert_array_equal(membership, np.eye(5)[[0, 1, 0, 1, 2, 3, 4]])
    names, membership = grouped(scales, tied=False, fixed=("b_std",))
    assert len(names) == 5
    none = 5
    np.testing.assert_array_equal(membership, np.eye(6)[[0, none, 1, none, 2, 3, 4], :5])


def test_what_is_named_stays_fixed():
    x, y, _ = drawn(network(), 1)
    fit = bnn.fit_hyperparameters(start(), x, y, 0.5, fixed=("noise_std", "w_std_out"))
    assert fit.noise_std == 0.5
    w1, b1, w2, b2, w_out, b_out = log_factors(fit, start())
    assert w_out == 0.0
    assert 0.0 not in (w1, b1, w2, b2, b_out)


def test_factors_are_architecture_unless_asked_for_and_absent_biases_stay_away():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((12, 3)), rng.standard_normal(12)
    layers = [
        bnn.Dense(4, 1.2),
        bnn.Residual([bnn.Activation("relu"), bnn.Dense(4, 0.9, 0.2), bnn.Scale(0.5)]),
        bnn.Dense(1),
    ]
    fit = bnn.fit_hyperparameters(bnn.Network(layers), x, y, 0.5)
    embedding, block, readout = fit.network.layers
    assert block.branch[2].factor == 0.5
    assert embedding.b_std is readout.b_std is None
    np.testing.assert_allclose(block.branch[1].w_std / 0.9, embedding.w_std / 1.2, rtol=1e-5)
    relevance = bnn.Scale(np.array([1.0, 2.0, 0.5]))
    fit = bnn.fit_hyperparameters(bnn.Network([relevance, *layers]), x, y, 0.5)
    assert np.array_equal(fit.network.layers[0].factor, relevance.factor)
    fit = bnn.fit_hyperparameters(bnn.Network(layers), x, y, 0.5, fixed=())
    assert fit.network.layers[1].branch[2].factor != 0.5


def test_a_convolutional_network_is_fitted():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((8, 3, 3, 2)), rng.standard_normal((8, 2))
    first = bnn.convnet(1, 4, 2)
    fit = bnn.fit_hyperparameters(first, x, y, 0.3)
    assert fit.log_evidence > bnn.nngp_posterior(first, x, y, 0.3).log_evidence
    assert fit.network.layers[0].w_std != first.layers[0].w_std


LINEAR = bnn.Network([bnn.Activation("relu"), bnn.Dense(1, 1.4, 0.3)])


@pytest.fixture
def noiseless(rng) -> tuple[np.ndarray, np.ndarray]:
    """Data that the linear network fits exactly: the evidence grows as the noise vanishes."""
    x = rng.standard_normal((30, 3))
    return x, np.maximum(x, 0).sum(1)


def test_a_search_that_runs_into_singular_kernels_says_so(noiseless):
    fit = bnn.fit_hyperparameters(LINEAR, *noiseless, 0.5)
    assert not fit.converged
    assert "noise_std reached the edge" in fit.message or "still has slope" in fit.message
    assert fit.noise_std < 0.01
    assert math.isfinite(fit.log_evidence)
    found = bnn.nngp_posterior(fit.network, *noiseless, fit.noise_std).log_evidence
    np.testing.assert_allclose(fit.log_evidence, found, rtol=1e-4 if X64 else 0.2)


def test_a_search_cut_short_keeps_the_best_and_says_so():
    x, y, _ = drawn(network(), 1)
    first = start()
    fit = bnn.fit_hyperparameters(first, x, y, 0.5, max_evaluations=1)
    assert not fit.converged
    assert "EXCEEDS LIMIT" in fit.message
    assert "still has slope" in fit.message
    before = bnn.nngp_posterior(first, x, y, 0.5).log_evidence
    assert fit.log_evidence >= float(before) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"network": lambda x1, x2=None: x1}, "network: got .*expected a Network.*kernel"),
        ({"noise_std": -1.0}, "noise_std: got -1.0"),
        ({"fixed": ("w_std",)}, r"fixed: got \('w_std',\).*'b_std_out', 'noise_std', 'w_std_out'"),
        ({"fixed": ("w_std_out", "b_std_out", "noise_std")}, "fixed: .*some, not all"),
        ({"max_evaluations": 0}, "max_evaluations: got 0"),
        ({"noise_std": 1e-12}, "noise_std: got 1e-12 with 30 points"),
    ],
)
def test_bad_searches_are_refused(change, expected, noiseless):
    x, y = noiseless
    good = {"network": LINEAR, "x": x * 1e3, "y": y, "noise_std": 0.1}
    with pytest.raises(ValueError, match=expected):
        bnn.fit_hyperparameters(**{**good, **change})
