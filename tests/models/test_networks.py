"""Networks: shapes, the readout as a linear map of features, and errors at construction."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from tests.zoo import NETWORKS

N, D = 7, 5


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def network(request) -> bnn.Network:
    return request.param


def test_apply_is_the_layers_in_turn(network, rng):
    x = jnp.asarray(rng.standard_normal((N, D)))
    params = network.init(jax.random.key(1), (D,))
    hidden = x
    for layer, layer_params in zip(network.hidden_layers, params.hidden, strict=True):
        hidden = layer.apply(layer_params, hidden)
    readout = {"weight": params.readout}
    if network.readout_layer.has_bias:
        readout = {"weight": params.readout[:-1], "bias": params.readout[-1]}
    expected = network.readout_layer.apply(readout, hidden)
    np.testing.assert_allclose(network.apply(params, x), expected, rtol=1e-5, atol=1e-5)


def test_parameters_are_standard_normal_and_differ_between_keys(network):
    draws = jax.vmap(lambda key: network.init(key, (D,)))(jax.random.split(jax.random.key(3), 4000))
    for leaf in jax.tree.leaves(draws):
        # mean and variance of 4000 draws of each entry, at six standard errors
        assert jnp.abs(leaf.mean(0)).max() < 6 / 4000**0.5
        assert jnp.abs(leaf.var(0) - 1).max() < 6 * (2 / 4000) ** 0.5
    leaves = [leaf.reshape(4000, -1)[0] for leaf in jax.tree.leaves(draws)]
    values = jnp.concatenate(leaves)
    assert len(np.unique(values)) == len(values)


def test_parameter_shapes_are_those_of_init(network):
    shapes = network.parameter_shapes((D,))
    params = network.init(jax.random.key(0), (D,))
    assert jax.tree.map(lambda s: s.shape, shapes) == jax.tree.map(lambda p: p.shape, params)


def test_networks_are_hashable_by_value():
    assert hash(bnn.fcn(2, 8, 3)) == hash(bnn.fcn(2, 8, 3))
    assert bnn.fcn(2, 8, 3) != bnn.fcn(2, 8, 3, b_std=0.2)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: bnn.Dense(0), "Dense width.*got 0.*expected a whole number"),
        (lambda: bnn.Dense(2.5), "Dense width.*got 2.5"),
        (lambda: bnn.Dense(3, w_std=-1.0), "Dense w_std.*got -1.0.*above 0"),
        (lambda: bnn.Dense(3, b_std=float("nan")), "Dense b_std.*got nan"),
        (lambda: bnn.fcn(1, -4, 2), "Dense width.*got -4"),
        (lambda: bnn.fcn(0, 4, 2), "fcn depth.*got 0"),
        (lambda: bnn.Activation("gleu"), "got 'gleu'.*probably 'gelu' was meant"),
        (lambda: bnn.Activation(jnp.tanh(0.3)), "Activation.*called instead of passed"),
        (lambda: bnn.Network([]), "no layers.*linear readout"),
        (lambda: bnn.Network([bnn.Dense(3), bnn.Activation("relu")]), "linear readout"),
        (lambda: bnn.Network([jnp.tanh, bnn.Dense(3)]), "layer 0.*Activation\\(function\\)"),
    ],
)
def test_bad_structure_is_refused_at_construction(build, expected):
    with pytest.raises(ValueError, match=expected):
        build()


def test_inputs_that_are_not_flat_are_refused():
    with pytest.raises(ValueError, match=r"layer 0 \(Dense\).*shape \(4, 4\).*flat.*Flatten"):
        bnn.fcn(1, 3, 2).parameter_shapes((4, 4))


def test_an_activation_that_is_not_elementwise_is_refused():
    with pytest.raises(ValueError, match=r"a function that maps shape \(3,\) to \(\).*elementwise"):
        bnn.fcn(1, 3, 2, lambda x: x.sum(-1))
