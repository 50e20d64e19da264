"""The NNGP kernel against Monte Carlo over finite networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from tests.conftest import X64
from tests.quick import cases
from tests.zoo import NETWORKS, softsign

D = 4


@pytest.mark.parametrize(
    "name",
    cases(sorted(set(NETWORKS) - {"no hidden parameters"}), slow={"deep relu without biases"}),
)
def test_kernel_is_the_covariance_of_wide_networks(name, rng):
    # a one-hidden-layer estimate is unbiased at any width; deeper ones are biased by O(1 / width)
    small = NETWORKS[name]
    wide = bnn.Network(
        [
            bnn.Dense(256, layer.w_std, layer.b_std) if isinstance(layer, bnn.Dense) else layer
            for layer in small.hidden_layers
        ]
        + [small.readout_layer]
    )
    x = jnp.asarray(rng.standard_normal((3, D)))
    keys = jax.random.split(jax.random.key(7), 500)
    features = jax.vmap(lambda key: wide.features(wide.init(key, (D,)).hidden, x))(keys)
    grams = jnp.einsum("snp,smp->snm", features, features)
    error = grams.std(0) / len(keys) ** 0.5
    exact = bnn.nngp(wide, x)
    bias_allowance = 0.02 * jnp.max(jnp.abs(exact))
    assert jnp.all(jnp.abs(grams.mean(0) - exact) < 5 * error + bias_allowance)


def test_kernel_between_two_sets_is_a_block_of_the_joint_kernel(rng, tolerance):
    network = NETWORKS["erf"]
    x = jnp.asarray(rng.standard_normal((9, D)))
    joint = bnn.nngp(network, x)
    np.testing.assert_allclose(bnn.nngp(network, x[:4], x[4:]), joint[:4, 4:], rtol=tolerance * 10)
    assert jnp.linalg.eigvalsh(joint).min() > -1e-6


def test_unknown_functions_take_their_limit_by_quadrature(rng):
    x = jnp.asarray(rng.standard_normal((5, D)))
    by_name, by_function = (bnn.nngp(bnn.fcn(2, 3, 1, a), x) for a in ("erf", jax.lax.erf))
    np.testing.assert_allclose(by_function, by_name, rtol=1e-5 if X64 else 1e-4)
    assert np.isfinite(bnn.nngp(bnn.fcn(2, 3, 1, softsign), x)).all()
