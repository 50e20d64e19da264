"""Layers at finite width: shapes, sums written out in NumPy, networks as pytrees, bad input."""

from __future__ import annotations

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.models.layers import conv
from tests.conftest import X64
from tests.quick import quickly
from tests.zoo import LIMITS

TOLERANCE = {"rtol": 1e-9, "atol": 1e-11} if X64 else {"rtol": 1e-4, "atol": 1e-5}
PADDINGS = ("SAME", "VALID", "CIRCULAR")


def setting(name, rng, n=3):
    limit = LIMITS[name]
    network = limit.network(4)
    shapes = network.parameter_shapes(limit.input_shape)
    params = jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape), s.dtype), shapes)
    return network, params, jnp.asarray(rng.standard_normal((n, *limit.input_shape)))


@pytest.mark.parametrize("name", LIMITS)
def test_shapes_are_those_said_and_outputs_are_features_times_readout(name, rng):
    network, params, x = setting(name, rng)

    @quickly
    def forward(params, x):
        seen, hidden = [], x
        for layer, own in zip(network.hidden_layers, params.hidden, strict=True):
            hidden = layer.apply(own, hidden)
            seen.append(hidden)
        return seen, network.features(params.hidden, x), network.apply(params, x)

    seen, features, outputs = forward(params, x)
    shape = x.shape[1:]
    for layer, activations in zip(network.hidden_layers, seen, strict=True):
        shape = layer.output_shape(shape)
        assert activations.shape == (len(x), *shape)
    assert features.shape == (len(x), len(params.readout))
    np.testing.assert_allclose(outputs, features @ params.readout, **TOLERANCE)
    readout = network.readout_layer
    weight, bias = params.readout[: shape[0]], params.readout[shape[0] :]
    expected = readout.w_std / shape[0] ** 0.5 * seen[-1] @ weight
    if readout.b_std is not None:
        expected = expected + readout.b_std * bias
    np.testing.assert_allclose(outputs, expected, **TOLERANCE)


@pytest.mark.parametrize("name", LIMITS)
def test_networks_survive_the_round_trip_as_pytrees(name):
    network = LIMITS[name].network(3)
    leaves, structure = jax.tree.flatten(network)
    assert structure.unflatten(leaves) == network
    assert hash(structure.unflatten(leaves)) == hash(network)
    assert all(isinstance(leaf, float) for leaf in leaves)
    wider = jax.tree.structure(LIMITS[name].network(4))
    assert structure != wider or name == "no hidden parameters"


def gathered(size, window, stride, padding):
    """For each output position the input positions under its window; -1 for zeros."""
    if padding == "VALID":
        starts, before = range(0, size - window + 1, stride), 0
    else:
        count = math.ceil(size / stride)
        before = max((count - 1) * stride + window - size, 0) // 2
        starts = range(0, count * stride, stride)
    places = [[start + k - before for k in range(window)] for start in starts]
    if padding == "CIRCULAR":
        return [[p % size for p in row] for row in places]
    return [[p if 0 <= p < size else -1 for p in row] for row in places]


def windows(x, window, strides, padding):
    """x (n, *sizes, c) as (n, *outputs, *window, c), one entry at a time."""
    places = [gathered(*axis, padding) for axis in zip(x.shape[1:-1], window, strides, strict=True)]
    sizes = tuple(len(place) for place in places)
    found = np.zeros((len(x), *sizes, *window, x.shape[-1]))
    for outputs in itertools.product(*map(range, sizes)):
        for offsets in itertools.product(*map(range, window)):
            at = tuple(place[o][k] for place, o, k in zip(places, outputs, offsets, strict=True))
            if min(at) >= 0:
                found[(slice(None), *outputs, *offsets)] = x[(slice(None), *at)]
    return found


GEOMETRIES = [
    ((5,), (3,), (1,)),
    ((5,), (2,), (2,)),
    ((6,), (4,), (3,)),
    ((4,), (1,), (2,)),
    ((2,), (2,), (1,)),
    ((5, 4), (3, 2), (2, 1)),
    ((3, 6), (1, 4), (1, 3)),
]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("sizes", "window", "strides"), GEOMETRIES)
def test_convolutions_are_sums_over_windows(sizes, window, strides, padding, rng):
    layer = bnn.Conv(3, window, strides, padding, 1.3, 0.4)
    x = rng.standard_normal((2, *sizes, 2))
    params = {
        "weight": jnp.asarray(rng.standard_normal((*window, 2, 3))),
        "bias": jnp.asarray(rng.standard_normal(3)),
    }
    seen = windows(x, window, strides, padding).reshape(2, -1, math.prod(window) * 2)
    flat = np.asarray(params["weight"]).reshape(-1, 3)
    expected = 1.3 / seen.shape[-1] ** 0.5 * seen @ flat + 0.4 * np.asarray(params["bias"])
    found = layer.apply(params, jnp.asarray(x))
    assert found.shape == (2, *layer.output_shape((*sizes, 2)))
    np.testing.assert_allclose(found.reshape(expected.shape), expected, **TOLERANCE)
    assert layer.fan_in((*sizes, 2)) == seen.shape[-1]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("sizes", "window", "strides"), GEOMETRIES)
def test_patches_are_in_the_order_of_the_weights(sizes, window, strides, padding, rng):
    x = rng.standard_normal((3, *sizes, 2))
    found = bnn.Conv(5, window, strides, padding).patches(jnp.asarray(x))
    expected = windows(x, window, strides, padding)
    np.testing.assert_array_equal(found, expected.reshape(found.shape).astype(found.dtype))


@pytest.mark.parametrize("tile_bytes", [1, 2000, 2**22])
@pytest.mark.parametrize(
    ("sizes", "window", "strides"), [((9,), (3,), (2,)), ((5, 4), (3, 2), (2, 1))]
)
def test_derivatives_of_convolutions_by_tiles_are_those_of_xla(
    monkeypatch, sizes, window, strides, tile_bytes, rng
):
    monkeypatch.setattr(conv, "TILE_BYTES", tile_bytes)
    layer = bnn.Conv(3, window, strides, "CIRCULAR")
    x = jnp.asarray(rng.standard_normal((7, *sizes, 2)))
    weight = jnp.asarray(rng.standard_normal((*window, 2, 3)))
    directions = tuple(jnp.asarray(rng.standard_normal(at.shape)) for at in (x, weight))

    def squares(x, weight, apply):
        return jnp.sum(jnp.sin(apply(x, weight)) ** 2)

    def found(apply):
        value, gradients = jax.value_and_grad(squares, (0, 1))(x, weight, apply)
        return value, gradients, jax.jvp(partial(squares, apply=apply), (x, weight), directions)

    def by_tiles(x, weight):
        return layer.apply({"weight": weight}, x) * layer.fan_in(x.shape[1:]) ** 0.5

    ours, expected = found(by_tiles), found(layer._by_convolution)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), ours, expected)


def test_only_cpus_convolve_by_products():
    layer = bnn.Conv(3, (3, 2))
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, 2, 4, 3), (5, 6, 4, 4))]
    lowered = {
        platform: jax.export.export(
            jax.jit(lambda weight, x: layer.apply({"weight": weight}, x)), platforms=[platform]
        )(*shapes).mlir_module()
        for platform in ("cpu", "cuda")
    }
    assert "stablehlo.convolution" not in lowered["cpu"]
    assert "stablehlo.convolution" in lowered["cuda"]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("sizes", "window", "strides"), GEOMETRIES)
def test_pools_are_means_over_windows(sizes, window, strides, padding, rng):
    layer = bnn.AvgPool(window, strides, padding)
    x = rng.standard_normal((2, *sizes, 3))
    spatial = len(sizes)
    expected = windows(x, window, strides, padding).mean(tuple(range(1 + spatial, 1 + 2 * spatial)))
    found = layer.apply((), jnp.asarray(x))
    assert found.shape == (2, *layer.output_shape((*sizes, 3)))
    np.testing.assert_allclose(found, expected, **TOLERANCE)


def test_pools_can_be_differentiated_compiled_in_both_modes(rng):
    x = jnp.asarray(rng.standard_normal((1, 4, 1)))
    layer = bnn.AvgPool(3, 1)
    expected = np.array([1, 2, 2, 1]).reshape(1, 4, 1) / 3
    for derivative in (jax.jacrev, jax.jacfwd, jax.grad):
        found = jax.jit(derivative(lambda x: jnp.sum(layer.apply((), x))))(x)
        np.testing.assert_allclose(found, expected, **TOLERANCE)


def test_windows_and_strides_default_to_single_steps_and_to_the_window():
    assert bnn.Conv(2, 3).strides == (1,)
    assert bnn.Conv(2, [3, 2]).strides == (1, 1)
    assert bnn.AvgPool((3, 2)).strides == (3, 2)
    assert bnn.Conv(2, [3]) == bnn.Conv(2, np.int64(3), 1)
    assert bnn.Conv(2, (3, 3), 2).strides == (2, 2)


@pytest.mark.parametrize("scores", ["softmax", "identity"])
@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3)])
def test_attention_is_the_sum_written_out(scores, shape, rng):
    layer = bnn.SelfAttention(4, scores, 1.3, 1.1, 0.9, 1.2, 0.2, 0.7, 1.5)
    params = layer.init(jax.random.key(0), shape, None)
    x = rng.standard_normal((2, *shape))
    places = list(itertools.product(*map(range, shape[:-1])))
    distance = [[math.dist(p, q) for q in places] for p in places]
    root = np.linalg.cholesky(0.49 * np.exp(-np.array(distance) / 1.5))
    own = {name: np.asarray(value, float) for name, value in params.items()}
    expected = np.empty((2, len(places), 4))
    for n, example in enumerate(x.reshape(2, len(places), shape[-1])):
        embedded = example + root @ own["position"]
        keys = embedded @ own["key"] / shape[-1] ** 0.5
        values = 0.9 * example @ own["value"] / shape[-1] ** 0.5
        for p in range(len(places)):
            weights = 1.3 * 1.1 * keys @ keys[p] / 4
            if scores == "softmax":
                weights = np.exp(weights) / np.exp(weights).sum()
            expected[n, p] = 1.2 * weights @ values @ own["out"] / 4**0.5 + 0.2 * own["bias"]
    found = layer.apply(params, jnp.asarray(x))
    np.testing.assert_allclose(found, expected.reshape(2, *shape[:-1], 4), **TOLERANCE)


def test_layer_norm_leaves_mean_zero_and_variance_one(rng):
    x = jnp.asarray(3 + 5 * rng.standard_normal((2, 3, 2, 7)))
    found = bnn.LayerNorm().apply((), x)
    np.testing.assert_allclose(found.mean(-1), np.zeros((2, 3, 2)), atol=1e-5)
    np.testing.assert_allclose(found.var(-1), np.ones((2, 3, 2)), rtol=1e-5)


def test_residual_blocks_add_their_chains(rng):
    x = jnp.asarray(rng.standard_normal((2, 3)))
    branch, shortcut = bnn.Dense(4, 1.2, 0.3), bnn.Dense(4, 0.7)
    block = bnn.Residual([bnn.Activation("erf"), branch], shortcut)
    params = block.init(jax.random.key(3), (3,), None)
    expected = branch.apply(params.branch[1], jax.lax.erf(x))
    expected = expected + shortcut.apply(params.shortcut[0], x)
    np.testing.assert_allclose(block.apply(params, x), expected, **TOLERANCE)
    weights = [leaf.ravel() for leaf in jax.tree.leaves(params)]
    values = np.concatenate(weights)
    assert len(np.unique(values)) == len(values)
    more = bnn.Residual(bnn.Scale(1.5))
    params = more.init(jax.random.key(0), (3,), None)
    np.testing.assert_allclose(more.apply(params, x), 2.5 * x, **TOLERANCE)


@pytest.mark.parametrize("b_std", [None, 0, 0.0, np.float32(0.0)])
def test_no_bias_is_no_parameter(b_std):
    for layer, shape in ((bnn.Dense(2, 1.0, b_std), (3,)), (bnn.Conv(2, 2, b_std=b_std), (3, 1))):
        assert set(layer.init(jax.random.key(0), shape, None)) == {"weight"}
        assert len(jax.tree.leaves(layer)) == 1
    assert "bias" not in bnn.SelfAttention(2, b_std=b_std).init(jax.random.key(0), (3, 1), None)


def test_outputs_are_differentiable_in_scales_and_compiled_once_for_all(rng):
    x = jnp.asarray(rng.standard_normal((2, 4, 2)))
    traces = []

    def network(w_std, b_std):
        conv = bnn.Conv(3, 2, w_std=w_std, b_std=b_std)
        hidden = [conv, bnn.Activation("erf"), bnn.AvgPool(2), bnn.SelfAttention(3)]
        return bnn.Network([*hidden, bnn.Flatten(), bnn.Dense(1, w_std)])

    params = network(1.0, 1.0).init(jax.random.key(0), (4, 2))

    @jax.jit
    def total(network):
        traces.append(network)
        return jnp.sum(network.apply(params, x))

    gradient = jax.jit(jax.grad(total))(network(1.3, 0.4))
    assert jax.tree.structure(gradient) == jax.tree.structure(network(1.3, 0.4))
    step = 1e-6 if X64 else 1e-2
    slopes = jax.tree.leaves(gradient)
    leaves, structure = jax.tree.flatten(network(1.3, 0.4))
    for i, slope in enumerate(slopes):
        up, down = (
            total(structure.unflatten([*leaves[:i], leaves[i] + s, *leaves[i + 1 :]]))
            for s in (step, -step)
        )
        np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=2e-2, atol=1e-3)
    assert len(traces) == 1


def wide_residual(*branch, shortcut=()):
    return bnn.Network(
        [bnn.Conv(3, 2), bnn.Residual(list(branch), shortcut), bnn.Flatten(), bnn.Dense(1)]
    )


def net(*layers):
    return bnn.Network([*layers, bnn.Dense(1)])


@pytest.mark.parametrize(
    ("network", "input_shape", "expected"),
    [
        (net(), (3, 2), r"layer 0 \(Dense\): Dense input.*\(3, 2\).*Flatten"),
        (net(bnn.Dense(3), bnn.Conv(2, 3)), (3,), r"layer 1 \(Conv\): Conv input.*\(3,\).*length"),
        (net(bnn.Conv(2, (3, 3))), (5, 2), r"layer 0 \(Conv\).*\(height, width, channels\)"),
        (net(bnn.AvgPool(2)), (4, 4, 1), r"layer 0 \(AvgPool\).*\(length, channels\)"),
        (
            net(bnn.Conv(2, 2), bnn.AvgPool(2), bnn.AvgPool(2), bnn.AvgPool(2)),
            (4, 1),
            r"layer 3 \(AvgPool\).*window of \(2,\).*one window that fits.*SAME",
        ),
        (net(bnn.Conv(2, 3, 1, "VALID")), (2, 1), r"layer 0 \(Conv\).*one window that fits"),
        (net(bnn.GlobalAvgPool()), (3,), r"layer 0 \(GlobalAvgPool\).*flat inputs"),
        (net(bnn.SelfAttention(2)), (3,), r"layer 0 \(SelfAttention\).*flat inputs"),
        (net(bnn.SelfAttention(2)), (3, 3, 3, 1), r"layer 0 \(SelfAttention\)"),
        (
            wide_residual(bnn.Conv(4, 2)),
            (4, 1),
            r"layer 1 \(Residual\): Residual: got a branch.*\(4, 4\) and a shortcut in \(4, 3\)",
        ),
        (
            wide_residual(bnn.Residual(bnn.Conv(3, 1, 2))),
            (4, 1),
            r"layer 1 \(Residual\): branch: layer 0 \(Residual\): Residual: got.*strides",
        ),
        (
            wide_residual(bnn.Identity(), shortcut=[bnn.Scale(2.0), bnn.AvgPool((2, 2))]),
            (4, 1),
            r"layer 1 \(Residual\): shortcut: layer 1 \(AvgPool\): AvgPool input",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_layer(network, input_shape, expected):
    with pytest.raises(bnn.BadInput, match=expected):
        network.parameter_shapes(input_shape)
    with pytest.raises(bnn.BadInput, match=expected):
        bnn.nngp(network, np.ones((2, *input_shape)))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: bnn.Conv(0, 3), "Conv channels: got 0"),
        (lambda: bnn.Conv(2, 0), "Conv filter_shape: got 0"),
        (lambda: bnn.Conv(2, (3, 3, 3)), "Conv filter_shape: got .*one or two whole numbers"),
        (lambda: bnn.Conv(2, 3.0), "Conv filter_shape: got 3.0"),
        (lambda: bnn.Conv(2, None), "Conv filter_shape: got None"),
        (lambda: bnn.Conv(2, (3, 3), (2,)), "Conv strides: got .2,.; expected 2 whole numbers"),
        (lambda: bnn.Conv(2, 3, -1), "Conv strides: got -1"),
        (lambda: bnn.Conv(2, 3, padding="same"), "Conv padding: got 'same'; expected one of SAME"),
        (lambda: bnn.Conv(2, 3, w_std=-1.0), "Conv w_std: got -1.0"),
        (lambda: bnn.Conv(2, 3, b_std=float("nan")), "Conv b_std: got nan"),
        (lambda: bnn.Conv(2, 3, parameterisation="mup"), "Conv parameterisation: got 'mup'"),
        (lambda: bnn.Dense(2, parameterisation="NTK"), "Dense parameterisation: got 'NTK'"),
        (lambda: bnn.AvgPool(0), "AvgPool window: got 0"),
        (lambda: bnn.AvgPool(2, (2, 2)), "AvgPool strides: got .2, 2.; expected 1"),
        (lambda: bnn.AvgPool(2, padding="ZERO"), "AvgPool padding: got 'ZERO'"),
        (lambda: bnn.Scale(0.0), "Scale factor: got 0.0"),
        (lambda: bnn.Scale("2"), "Scale factor: got '2'"),
        (lambda: bnn.SelfAttention(2, "relu"), "SelfAttention scores: got 'relu'"),
        (lambda: bnn.SelfAttention(2, w_key_std=0), "SelfAttention w_key_std: got 0"),
        (lambda: bnn.SelfAttention(2, position_std=-1), "SelfAttention position_std: got -1"),
        (lambda: bnn.SelfAttention(2, position_std=1.0, position_length=0), "position_length: got"),
        (lambda: bnn.Residual([jnp.tanh]), r"Residual branch layer 0.*Activation\(function\)"),
        (lambda: bnn.Residual(bnn.Dense(2), [3]), "Residual shortcut layer 0: got 3"),
        (lambda: bnn.Residual(jnp.tanh), r"Residual branch layer 0.*a bare function"),
        (lambda: bnn.Network(jnp.tanh), r"Network layer 0.*a bare function"),
        (lambda: bnn.resnet(9, 4, 1), "resnet depth: got 9; expected 6 k"),
        (lambda: bnn.resnet(2, 4, 1), "resnet depth: got 2; expected 6 k"),
        (lambda: bnn.convnet(0, 4, 1), "convnet depth: got 0"),
        (lambda: bnn.attention_classifier(0, 1), "Conv channels: got 0"),
    ],
)
def test_bad_options_are_refused_at_construction(build, expected):
    with pytest.raises(bnn.BadInput, match=expected):
        build()
