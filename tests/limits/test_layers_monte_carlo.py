"""Every layer's closed kernel against its own finite networks: two derivations of one function.

A finite network's kernel is off its limit by O(1 / width), and its mean over draws from that by a
standard error. Two fixed linear functionals of the matrix are compared, its mean and a random
contrast of its entries, which are too correlated to be compared one by one.

What the suite runs allows ``BIAS / width`` besides 4 standard errors; the slow tests cancel that
bias by doubling the width. Right kernels pass all 58 comparisons with probability above 0.99.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import bnnsample as bnn
from bnnsample.limits.kernels import Kernels
from tests.conftest import X64
from tests.quick import cases, quickly
from tests.zoo import LIMITS, Limit

pytestmark = pytest.mark.skipif(not X64, reason="they are in float32 in both passes")

KINDS = ("nngp", "ntk")
REPLICATES, DRAWS = 48, 2
WIDTHS = dict.fromkeys(LIMITS, 64) | {"resnet": 32}  # whose channels double twice
N = 3


def inputs(limit: Limit) -> jax.Array:
    """In float32, whose convolutions are fast on a CPU; its rounding is nothing to these errors."""
    x = np.random.default_rng(4).standard_normal((N, *limit.input_shape))
    return jnp.asarray(x.astype(np.float32))


def functionals(kernel: jax.Array) -> jax.Array:
    signs = np.array([[1, -1, 1], [-1, 1, 1], [-1, 1, -1]])
    return jnp.stack([jnp.mean(kernel), jnp.mean(jnp.asarray(signs, kernel.dtype) * kernel)])


def closed(limit: Limit, width: int) -> Kernels:
    return quickly(lambda x: bnn.nngp_and_ntk(limit.network(width), x))(inputs(limit))


def relative_deviations(
    limit: Limit,
    expected: Kernels,
    *,
    width: int,
    replicates: int = REPLICATES,
    draws: int = DRAWS,
    seed: int = 11,
) -> np.ndarray:
    """Of independent estimates, (kinds, replicates, functionals), in units of the mean entry."""
    network = limit.network(width)
    kernels = [bnn.monte_carlo_kernel(network, draws=draws, kind=kind) for kind in KINDS]

    @quickly
    def deviations(keys, x, expected):
        def one(key, kernel, closed):
            found = functionals(dataclasses.replace(kernel, key=key)(x) - closed)
            return found / jnp.mean(jnp.abs(closed))

        def both(key):
            return jnp.stack([one(key, *pair) for pair in zip(kernels, expected, strict=True)])

        return jnp.moveaxis(jax.lax.map(both, keys), 1, 0)

    keys = jax.random.split(jax.random.key(seed), replicates)
    return np.asarray(deviations(keys, inputs(limit), expected), float)


def excess(deviations: np.ndarray, bias: float) -> float:
    """The larger distance from ``bias`` to 0, in standard errors; below 4 is agreement.

    Standard errors come from the replicates, so a distance is Student's t and taken to the normal
    one of the same probability.
    """
    count = len(deviations)
    error = deviations.std(axis=0, ddof=1) / count**0.5
    t = np.maximum(np.abs(deviations.mean(axis=0)) - bias, 0) / error
    return float(scipy.stats.norm.isf(scipy.stats.t.sf(t, count - 1)).max())


BIAS = {name: 2.0 for name in LIMITS} | {"attention, no softmax": 20.0}
"""Largest relative bias times width that is allowed besides the error of 4 standard errors.

Measured with 512 draws at width 64: up to 1.9 (attention), a cubic form of the weights 17.
"""

LONG = {
    "dense, both parameterisations",
    "conv 1-d",
    "conv 1-d, CIRCULAR, pooled",
    "conv 2-d, CIRCULAR, pooled",
    "overlapping pools with padding",
    "layer norm",
    "attention, independent positions",
    "attention, no softmax",
    "conv 2-d, strided",
    "nested residuals",
    "attention_classifier",
    "transformer",
    "fcn",
    "convnet",
    "convnet, pooled",
    "resnet",
    "softplus by expansion",
}
"""What the slow tests keep: every layer is in a shorter network too."""

NAMES = cases(LIMITS.keys(), slow=LONG)


@pytest.mark.parametrize("name", NAMES)
def test_closed_kernels_lie_within_four_standard_errors(name):
    width = WIDTHS[name]
    expected = closed(LIMITS[name], width)
    for deviations in relative_deviations(LIMITS[name], expected, width=width):
        if name == "no hidden parameters":
            assert np.max(np.abs(deviations)) < 1e-5
        else:
            assert excess(deviations, BIAS[name] / width) < 4


def layers_with(limit: Limit, width: int, **changes) -> bnn.Network:
    """The network with fields of all its layers that have them changed."""

    def changed(layer):
        own = {k: f(getattr(layer, k)) for k, f in changes.items() if hasattr(layer, k)}
        return dataclasses.replace(layer, **own) if own else layer

    return bnn.Network([changed(layer) for layer in limit.network(width).layers])


WRONG = {
    "weights 5 % too wide": ("dense", {"w_std": lambda w_std: 1.05 * w_std}),
    "a bias left out": ("dense, no activation", {"b_std": lambda b_std: None}),
    "VALID for SAME": ("conv 1-d", {"padding": lambda padding: "VALID"}),
    "SAME for CIRCULAR": ("conv 2-d, CIRCULAR, pooled", {"padding": lambda padding: "SAME"}),
    "another parameterisation": ("dense, standard", {"parameterisation": lambda _: "ntk"}),
    "scores without softmax": ("attention", {"scores": lambda _: "identity"}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_comparison_fails_for_another_network(wrong):
    name, changes = WRONG[wrong]
    limit = Limit(lambda width: layers_with(LIMITS[name], width, **changes), (1,))
    limit = limit._replace(input_shape=LIMITS[name].input_shape)
    width = WIDTHS[name]
    found = relative_deviations(LIMITS[name], closed(limit, width), width=width)
    assert max(excess(deviations, BIAS[name] / width) for deviations in found) > 4


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(LIMITS) - {"no hidden parameters"}))
def test_bias_falls_with_width(name):
    """Doubling the width, ``2 d(2 w) - d(w)`` has a bias of O(1 / width^2) and no allowance."""
    limit, width = LIMITS[name], 64 if name == "resnet" else 128
    once, twice = (
        relative_deviations(
            limit, closed(limit, wide), width=wide, replicates=64, draws=8, seed=wide
        )
        for wide in (width, 2 * width)
    )
    for narrower, wider in zip(once, twice, strict=True):
        assert excess(2 * wider - narrower, 0.0) < 4
        assert excess(narrower, BIAS[name] / width) < 4
