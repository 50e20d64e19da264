"""Kernels of finite networks: every method against Jacobians that autodiff writes out."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.limits.empirical import cheapest_method
from tests.conftest import X64
from tests.quick import cases, quickly
from tests.zoo import LIMITS, relu

METHODS = ("jacobian", "vector", "structured")
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11} if X64 else {"rtol": 2e-3, "atol": 2e-4}
VARIED = ["dense, both parameterisations", "conv, standard", "nested residuals", "transformer"]
"""Between them every kind of layer; ``jacobian`` and ``vector`` do not look at layers."""


def setting(name, width=3):
    limit = LIMITS[name]
    network = limit.network(width)
    rng = np.random.default_rng(5)
    x1, x2 = (jnp.asarray(rng.standard_normal((n, *limit.input_shape))) for n in (3, 2))
    return network, network.init(jax.random.key(1), limit.input_shape), x1, x2


def rates(layer, params, fan_in):
    """``1 / std^2`` of what standard parameterisation trains, from its definition."""
    if isinstance(layer, bnn.Residual):
        raise NotImplementedError
    if getattr(layer, "parameterisation", "ntk") == "ntk":
        return jax.tree.map(jnp.ones_like, params)
    squares = {"weight": fan_in / layer.w_std**2}
    if layer.b_std is not None:
        squares["bias"] = 1 / layer.b_std**2
    return {name: jnp.full_like(params[name], value) for name, value in squares.items()}


def all_rates(network, params):
    """Learning rates of every parameter; residual blocks of the zoo are in NTK parameterisation."""
    hidden = []
    for layer, own in zip(network.hidden_layers, params.hidden, strict=True):
        if isinstance(layer, bnn.Dense | bnn.Conv):
            hidden.append(rates(layer, own, math.prod(own["weight"].shape[:-1])))
        else:
            hidden.append(jax.tree.map(jnp.ones_like, own))
    readout, last = params.readout, network.readout_layer
    inputs = len(readout) - last.has_bias
    parts = {"weight": readout[:inputs], "bias": readout[inputs:]}
    found = rates(last, parts if last.has_bias else {"weight": readout}, inputs)
    return bnn.Parameters(tuple(hidden), jnp.concatenate(list(found.values())))


def by_autodiff(network, params, x1, x2):
    """All pairs of outputs, (n1, n2, o, o), with none of the library's methods."""
    flat_rates = jnp.concatenate([r.ravel() for r in jax.tree.leaves(all_rates(network, params))])

    def rows(x):
        jacobian = jax.jacobian(network.apply)(params, x)
        leaves = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(jacobian)]
        return jnp.concatenate(leaves, axis=-1)

    return jnp.einsum("noP,P,mqP->nmoq", rows(x1), flat_rates, rows(x2))


def compare(name, methods, outputs):
    network, params, x1, x2 = setting(name)

    @quickly
    def kernels(params, x1, x2):
        return by_autodiff(network, params, x1, x2), {
            (method, kind): bnn.empirical_ntk(
                network, params, x1, x2, outputs=kind, method=method
            )
            for method in methods
            for kind in outputs
        }  # fmt: skip

    expected, found = kernels(params, x1, x2)
    for (_, kind), kernel in found.items():
        own = jnp.einsum("nmoo->nm", expected) / 2 if kind == "mean" else expected
        assert kernel.shape == own.shape
        np.testing.assert_allclose(kernel, own, **TOLERANCE)


@pytest.mark.parametrize(
    "name",
    [
        "dense, standard",
        "conv 1-d, CIRCULAR, pooled",
        "pooled between",
        "attention, smooth positions",
        "fixed first layers",
        "no hidden parameters",
    ],
)
def test_structured_derivatives_are_jacobians(name):
    compare(name, ["structured"], ["mean"])


@pytest.mark.parametrize("name", cases(VARIED, slow=VARIED[1:]))
def test_all_methods_are_jacobians_for_all_outputs(name):
    compare(name, METHODS, ["mean", "all"])


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_all_methods_are_jacobians_for_every_network(name):
    compare(name, METHODS, ["mean", "all"])


@pytest.mark.parametrize("method", METHODS)
def test_one_set_of_inputs_is_compared_with_itself(method):
    network, params, x, _ = setting("dense")

    @quickly
    def kernels(p, x):
        return [bnn.empirical_ntk(network, p, *inputs, method=method) for inputs in ([x], [x, x])]

    own, cross = kernels(params, x)
    np.testing.assert_allclose(own, cross, **TOLERANCE)
    np.testing.assert_allclose(own, own.T, **TOLERANCE)
    assert np.linalg.eigvalsh(np.asarray(own, float))[0] > -1e-4


def test_many_positions_are_contracted_by_the_jacobian_of_the_layer(monkeypatch):
    """``structured`` has two orders of contraction per layer; both are the same sum."""
    from bnnsample.limits import structured

    network, params, x1, x2 = setting("conv 2-d, strided")

    def kernels(params, x1, x2):
        return [
            bnn.empirical_ntk(network, params, x1, x2, outputs=kind, method="structured")
            for kind in ("mean", "all")
        ]

    found = []
    for costs in ((0, 1), (1, 0)):
        monkeypatch.setattr(structured, "_costs", lambda *_, costs=costs: costs)
        found.append(quickly(lambda *a: kernels(*a))(params, x1, x2))
    for products, jacobians in zip(*found, strict=True):
        np.testing.assert_allclose(products, jacobians, **TOLERANCE)


ONE_BY_ONE = bnn.Network([bnn.Conv(2, 1), relu, bnn.Conv(2, 1), bnn.GlobalAvgPool(), bnn.Dense(1)])


@pytest.mark.parametrize(
    ("network", "input_shape", "n", "mean", "expected"),
    [
        # inner products of wide layers instead of sums over their weights
        (bnn.fcn(3, 512, 1), (512,), 20, True, "structured"),
        # as few weights as inner products: nothing to gain from all Jacobians of one point
        (bnn.fcn(2, 2, 50), (2,), 50, False, "vector"),
        # the structured method takes a layer's Jacobian where that is smaller, so is never beaten
        (ONE_BY_ONE, (100, 1), 100, True, "structured"),
    ],
)
def test_the_cheapest_method_depends_on_shapes(network, input_shape, n, mean, expected):
    assert cheapest_method(network, input_shape, n, n, mean=mean) == expected


def test_auto_takes_the_cheapest(monkeypatch):
    from bnnsample.limits import empirical

    network, params, x1, x2 = setting("dense, no activation")
    taken = []
    for name in ("_by_jacobians", "_by_vectors", "_by_structure"):
        monkeypatch.setattr(
            empirical, name, lambda *_, name=name: taken.append(name) or jnp.zeros((3, 2))
        )
    for method in METHODS:
        monkeypatch.setattr(empirical, "cheapest_method", lambda *_, m=method, **__: m)
        bnn.empirical_ntk(network, params, x1, x2)
    assert taken == ["_by_jacobians", "_by_vectors", "_by_structure"]


def test_the_empirical_nngp_is_the_product_of_features():
    network, params, x1, x2 = setting("convnet")
    first, second = (network.features(params.hidden, x) for x in (x1, x2))
    np.testing.assert_allclose(
        bnn.empirical_nngp(network, params, x1, x2), first @ second.T, **TOLERANCE
    )
    own = bnn.empirical_nngp(network, params, x1)
    np.testing.assert_allclose(own, first @ first.T, **TOLERANCE)
    # what is left random is the readout: outputs have this covariance
    draws = jax.random.normal(jax.random.key(0), (20_000, first.shape[1]), first.dtype) @ first.T
    np.testing.assert_allclose(np.cov(draws.T), own, rtol=0.1, atol=0.05)


def test_layers_made_of_functions_have_tangent_kernels():
    custom = bnn.Custom(
        lambda key, shape: {"gain": jax.random.normal(key, shape), "shift": jnp.ones(())},
        lambda params, x: x * params["gain"][None] + params["shift"].reshape(1, 1),
    )
    network = bnn.Network([bnn.Dense(3, 1.2, 0.3), custom, bnn.Activation("erf"), bnn.Dense(2)])
    params = network.init(jax.random.key(2), (2,))
    x1, x2 = (jnp.asarray(np.random.default_rng(1).standard_normal((n, 2))) for n in (3, 2))

    @quickly
    def kernels(params, x1, x2):
        return by_autodiff(network, params, x1, x2), [
            bnn.empirical_ntk(network, params, x1, x2, outputs="all", method=method)
            for method in METHODS
        ]

    expected, found = kernels(params, x1, x2)
    for kernel in found:
        np.testing.assert_allclose(kernel, expected, **TOLERANCE)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "jacobians"}, "empirical_ntk method: got 'jacobians'.*'jacobian'"),
        ({"outputs": "sum"}, "empirical_ntk outputs: got 'sum'.*'mean', 'all'"),
    ],
)
def test_bad_options_are_refused(options, expected):
    network, params, x1, _ = setting("dense")
    with pytest.raises(ValueError, match=expected):
        bnn.empirical_ntk(network, params, x1, **options)
