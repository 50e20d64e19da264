"""Monte-Carlo kernels: means over draws with honest errors, for networks without a closed limit."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import bnnsample as bnn
from tests.conftest import X64
from tests.quick import quickly

NETWORK = bnn.Network([bnn.Dense(4, 1.2, 0.3), bnn.Activation("erf"), bnn.Dense(2, 0.9, 0.2)])
D = 2
KINDS = ("nngp", "ntk")


def scaled(key, shape):
    return {"gain": jax.random.normal(key, shape)}


CUSTOM = bnn.Custom(scaled, lambda params, x: jnp.sin(x * params["gain"][None]))
ODD = bnn.Network([bnn.Dense(5), CUSTOM, bnn.Dense(1)])


@pytest.fixture
def x(rng):
    return jnp.asarray(rng.standard_normal((5, D)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_is_the_mean_over_draws(kind, x, tolerance):
    draws = 6
    kernel = bnn.monte_carlo_kernel(NETWORK, draws=draws, seed=3, kind=kind)
    empirical = {"nngp": bnn.empirical_nngp, "ntk": bnn.empirical_ntk}[kind]

    @quickly
    def values(key):
        params = NETWORK.init(key, (D,))
        return empirical(NETWORK, params, x[:3], x[3:])

    keys = [jax.random.fold_in(kernel.key, i) for i in range(draws)]
    found = np.stack([values(key) for key in keys])
    estimate = kernel.estimate(x[:3], x[3:])
    np.testing.assert_allclose(estimate.value, found.mean(0), rtol=tolerance, atol=tolerance)
    error = found.std(0, ddof=1) / draws**0.5
    np.testing.assert_allclose(estimate.standard_error, error, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(kernel(x[:3], x[3:]), estimate.value)


def test_estimates_are_centred_and_spread_as_their_errors_say(x):
    """One hidden layer has no bias at any width; so the closed kernel is the mean.

    The spread of 200 estimates over their reported variance is chi-square with 199 degrees of
    freedom over 199, but for the error's own; a right one fails with probability 1e-5.
    """
    kernel = bnn.monte_carlo_kernel(NETWORK, draws=50)
    keys = jax.random.split(jax.random.key(8), 200)
    point, other = x[:1], x[1:2]

    @quickly
    def estimates(keys):
        def one(key):
            return dataclasses.replace(kernel, key=key).estimate(point, other)

        return jax.lax.map(one, keys)

    value, error = (np.asarray(part, float).ravel() for part in estimates(keys))
    exact = float(bnn.nngp(NETWORK, point, other)[0, 0])
    z = (value.mean() - exact) / (value.std(ddof=1) / 200**0.5)
    assert abs(z) < 4.4
    ratio = value.var(ddof=1) / np.mean(error**2)
    low, high = (scipy.stats.chi2.ppf(p, 199) / 199 for p in (5e-6, 1 - 5e-6))
    assert low < ratio < high
    assert not low < 1.8 * ratio < high


def test_a_seed_is_one_kernel_whatever_blocks_it_is_asked_for(x, tolerance):
    kernel = bnn.monte_carlo_kernel(ODD, draws=3, seed=1)
    joint = kernel(x)
    np.testing.assert_allclose(kernel(x[:2], x[2:]), joint[:2, 2:], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(kernel(x[2:]), joint[2:, 2:], rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(kernel(x), joint)
    assert np.linalg.eigvalsh(np.asarray(joint, float))[0] > -1e-6
    assert abs(bnn.monte_carlo_kernel(ODD, draws=3, seed=2)(x) - joint).max() > 1e-3


def test_the_estimate_is_differentiable_and_compiles_once_for_all_seeds_and_scales(x):
    traces = []

    def gain(params, x):
        traces.append(x.shape)
        return x * params["gain"][None]

    custom = bnn.Custom(scaled, gain)

    def kernel(seed, w_std):
        network = bnn.Network([bnn.Dense(3, w_std), custom, bnn.Dense(1)])
        return bnn.monte_carlo_kernel(network, draws=2, seed=seed)

    once = kernel(0, 1.0)(x)
    count = len(traces)
    twice = kernel(0, 2.0)(x)
    kernel(1, 1.5)(x)
    # shapes are found anew for each call, with a single example
    assert all(shape[0] == 1 for shape in traces[count:])
    np.testing.assert_allclose(twice, 4 * once, rtol=1e-5)
    slope = jax.grad(lambda w_std: jnp.sum(kernel(0, w_std)(x)))(1.5)
    np.testing.assert_allclose(slope, 2 * 1.5 * once.sum(), rtol=1e-5)


def test_it_serves_as_the_kernel_of_a_gaussian_process(x, rng):
    kernel = bnn.monte_carlo_kernel(ODD, draws=4)
    y = jnp.asarray(rng.standard_normal((3, 2)))
    process = bnn.nngp_posterior(kernel, x[:3], y, 0.5)
    mean, covariance = process.predict(x[3:])
    joint = np.asarray(kernel(x), float)
    gain = np.linalg.solve(joint[:3, :3] + 0.25 * np.eye(3), joint[:3, 3:]).T
    tolerance = {"rtol": 1e-8, "atol": 1e-10} if X64 else {"rtol": 1e-3, "atol": 1e-3}
    np.testing.assert_allclose(mean, gain @ y, **tolerance)
    np.testing.assert_allclose(covariance, joint[3:, 3:] - gain @ joint[:3, 3:], **tolerance)


def test_a_flax_module_is_a_layer(x):
    linen = pytest.importorskip("flax.linen")
    module = linen.Dense(3, param_dtype=x.dtype)
    layer = bnn.Custom(lambda key, shape: module.init(key, jnp.zeros((1, *shape))), module.apply)
    kernel = bnn.monte_carlo_kernel(bnn.Network([layer, bnn.Dense(1)]), draws=3)
    assert kernel(x).shape == (5, 5)


def test_an_equinox_module_is_a_layer(x):
    equinox = pytest.importorskip("equinox")
    example = equinox.nn.MLP(D, 3, 4, 1, key=jax.random.key(0))
    _, static = equinox.partition(example, equinox.is_array)

    def init(key, shape):
        return equinox.filter(equinox.nn.MLP(*shape, 3, 4, 1, key=key), equinox.is_array)

    def apply(params, x):
        return jax.vmap(equinox.combine(params, static))(x)

    network = bnn.Network([bnn.Custom(init, apply), bnn.Dense(1)])
    assert bnn.monte_carlo_kernel(network, draws=3, kind="ntk")(x).shape == (5, 5)


ADVICE = "monte_carlo_kernel estimates the kernel of any network"
UNLIMITED = {
    "layer 1 (Custom): no known infinite-width limit: a layer made of functions": ODD,
    "layer 2 (LayerNorm): no known infinite-width limit: LayerNorm of units that": bnn.Network(
        [bnn.Dense(3), bnn.Activation("relu"), bnn.LayerNorm(), bnn.Dense(1)]
    ),
    "layer 2 (Activation): no known infinite-width limit: an activation of units": bnn.Network(
        [bnn.Dense(3), bnn.Activation("relu"), bnn.Activation("erf"), bnn.Dense(1)]
    ),
    "layer 1 (Residual): no known infinite-width limit: the branch and the shortcut of "
    "Residual correlate": bnn.Network(
        [bnn.Dense(3), bnn.Residual(bnn.Activation("relu")), bnn.Dense(1)]
    ),
    "layer 0 (Residual): branch: layer 2 (Custom): no known infinite-width": bnn.Network(
        [bnn.Residual([bnn.Dense(2), bnn.Activation("erf"), CUSTOM]), bnn.Dense(1)]
    ),
    "layer 1 (Residual): branch: layer 1 (Residual): no known infinite-width": bnn.Network(
        [
            bnn.Dense(3),
            bnn.Residual([bnn.Dense(3), bnn.Residual(bnn.Identity()), bnn.Activation("erf")]),
            bnn.Dense(1),
        ]
    ),
}


@pytest.mark.parametrize("message", UNLIMITED)
def test_networks_without_a_closed_limit_are_refused_with_advice(message, x):
    network = UNLIMITED[message]
    with pytest.raises(bnn.NoKnownLimit, match=re.escape(message) + ".*" + ADVICE) as raised:
        bnn.nngp(network, x)
    assert str(raised.value).count(ADVICE) == 1
    with pytest.raises(bnn.NoKnownLimit, match=ADVICE):
        bnn.ntk(network, x, diagonal=True)


def test_positions_added_to_the_channels_of_examples_are_refused(rng):
    attention = bnn.SelfAttention(3, position_std=0.5)
    x = rng.standard_normal((2, 4, 3))
    for first in ([], [bnn.AvgPool(2, 1)], [bnn.Residual([])]):
        network = bnn.Network([*first, attention, bnn.GlobalAvgPool(), bnn.Dense(1)])
        with pytest.raises(bnn.NoKnownLimit, match=r"\(SelfAttention\).* examples' own channels"):
            bnn.nngp(network, x)
    network = bnn.Network([bnn.Conv(3, 1), attention, bnn.GlobalAvgPool(), bnn.Dense(1)])
    assert np.isfinite(bnn.nngp(network, x)).all()


@pytest.mark.parametrize("message", UNLIMITED)
def test_they_have_a_monte_carlo_kernel(message, x):
    kernel = quickly(lambda x: bnn.monte_carlo_kernel(UNLIMITED[message], draws=2)(x))(x)
    assert np.isfinite(kernel).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"draws": 1}, "monte_carlo_kernel draws: got 1; expected a whole number from 2"),
        ({"seed": -1}, "monte_carlo_kernel seed: got -1"),
        ({"kind": "nntk"}, "monte_carlo_kernel kind: got 'nntk'"),
    ],
)
def test_bad_options_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        bnn.monte_carlo_kernel(NETWORK, **options)
