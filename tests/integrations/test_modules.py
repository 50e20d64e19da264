"""Modules of Flax NNX and Equinox as feature maps."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from flax import nnx

import bnnsample as bnn
from bnnsample.models.network import named_parameters
from tests.conftest import X64
from tests.quick import cases

N, D, WIDTH, OUT = 6, 3, 5, 2
RELATIVE = 1e-9 if X64 else 1e-4


class Flax(nnx.Module):
    def __init__(self, *more):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(D, WIDTH, rngs=rngs)
        self.second = nnx.Linear(WIDTH, WIDTH + 1, rngs=rngs)
        self.more = nnx.List(more)

    def __call__(self, x):
        h = jnp.tanh(self.second(jnp.tanh(self.first(x))))
        for layer in self.more:
            h = layer(h)
        return h


class Equinox(eqx.Module):
    layers: list
    more: list

    def __init__(self, *more):
        keys = jax.random.split(jax.random.key(0))
        self.layers = [
            eqx.nn.Linear(D, WIDTH, key=keys[0]),
            eqx.nn.Linear(WIDTH, WIDTH + 1, key=keys[1]),
        ]
        self.more = list(more)

    def __call__(self, x):
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        for layer in self.more:
            x = layer(x)
        return x


NETWORKS = {"flax": (bnn.from_flax, Flax), "equinox": (bnn.from_equinox, Equinox)}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def kind(request):
    return request.param


@pytest.fixture
def x(rng):
    return jnp.asarray(rng.standard_normal((N, D)))


def test_it_is_our_network_with_their_names_and_layouts(kind, x):
    """The same function as ``fcn`` of the same scales, once the arrays are carried over."""
    wrap, module = kind
    network = wrap(module(), OUT, w_std=1.3, b_std=0.4, w_std_out=0.7, b_std_out=0.2)
    ours = bnn.fcn(2, WIDTH, OUT, "tanh", w_std=1.3, b_std=0.4, w_std_out=0.7, b_std_out=0.2)
    params = network.init(jax.random.key(3), (D,), x.dtype)
    theirs = dict(params.hidden[0])
    assert len(theirs) == 4
    layers = []
    for place in (("first", "layers.0"), ("second", "layers.1")):
        own = {k.split(".")[-1]: v for k, v in theirs.items() if k.startswith(place)}
        weight = own["kernel"] if "kernel" in own else own["weight"].T
        layers += [{"weight": weight, "bias": own["bias"]}, ()]
    wider = bnn.Network([*ours.layers[:2], bnn.Dense(WIDTH + 1, 1.3, 0.4), *ours.layers[3:]])
    expected = wider.apply(bnn.Parameters(tuple(layers), params.readout), x)
    np.testing.assert_allclose(network.apply(params, x), expected, rtol=RELATIVE, atol=1e-6)


@pytest.mark.parametrize("kind", cases(NETWORKS, slow={"equinox"}), indirect=True)
def test_it_is_sampled(kind, x, rng):
    wrap, module = kind
    y = rng.standard_normal((N, OUT))
    posterior = bnn.Posterior(wrap(module(), OUT), x, y, bnn.Gaussian(0.3))
    run = bnn.sample(posterior, bnn.HMC(2), chains=2, warmup=8, draws=10, x_test=x)
    names = set(named_parameters(posterior.parameter_shapes))
    assert names <= set(run["posterior"].data_vars)
    assert set(bnn.per_layer(run)) == names
    assert np.isfinite(run["predictions"]["f"].values).all()
    with pytest.raises(bnn.NoKnownLimit):
        bnn.nngp(posterior.network, x)
    assert bnn.monte_carlo_kernel(posterior.network)(x).shape == (N, N)


def test_parameters_are_standard_normal_a_priori(kind):
    """The standard deviation of 400 draws of all of them, within 5 errors."""
    wrap, module = kind
    network = wrap(module(), OUT)
    params = network.init(jax.random.key(0), (D,))
    assert {leaf.shape for leaf in jax.tree.leaves(params.hidden)} >= {(WIDTH,), (WIDTH + 1,)}
    entries = np.concatenate(
        [
            np.asarray(leaf).ravel()
            for key in range(400)
            for leaf in jax.tree.leaves(network.init(jax.random.key(key), (D,)))
        ]
    )
    assert abs(entries.std() - 1) < 5 / (2 * entries.size) ** 0.5


def test_other_stds_scale_the_function(kind, x):
    wrap, module = kind
    silent = wrap(module(), OUT, stds=lambda path, shape: 1e-12)
    params = silent.init(jax.random.key(3), (D,), x.dtype)
    np.testing.assert_allclose(silent.features(params.hidden, x)[:, :-1], 0, atol=1e-9)


def whole_numbers(key, shape, dtype):
    return jnp.ones(shape, int)


REFUSED = {
    "dropout, flax": (bnn.from_flax, lambda: Flax(nnx.Dropout(0.5, rngs=nnx.Rngs(0))), "dropout"),
    "batch norm, flax": (
        bnn.from_flax,
        lambda: Flax(nnx.BatchNorm(WIDTH + 1, rngs=nnx.Rngs(0))),
        "BatchStat.*batch normalisation.*or a constant array",
    ),
    "layer norm, flax": (
        bnn.from_flax,
        lambda: Flax(nnx.LayerNorm(WIDTH + 1, rngs=nnx.Rngs(0))),
        "a parameter more.0.scale.*gain of a normalisation",
    ),
    "integers, flax": (
        bnn.from_flax,
        lambda: Flax(nnx.Embed(3, 2, embedding_init=whole_numbers, rngs=nnx.Rngs(0))),
        "more.0.embedding, an array of int",
    ),
    "no module, flax": (bnn.from_flax, lambda: jnp.tanh, "expected a module of flax.nnx"),
    "dropout, equinox": (bnn.from_equinox, lambda: Equinox(eqx.nn.Dropout(0.5)), "dropout"),
    "batch norm, equinox": (
        bnn.from_equinox,
        lambda: Equinox(eqx.nn.BatchNorm(WIDTH + 1, "batch", mode="ema")),
        "StateIndex.*batch normalisation",
    ),
    "layer norm, equinox": (
        bnn.from_equinox,
        lambda: Equinox(eqx.nn.LayerNorm(WIDTH + 1)),
        "a parameter more.0.weight.*gain of a normalisation",
    ),
    "layer norm of images, equinox": (
        bnn.from_equinox,
        lambda: Equinox(eqx.nn.LayerNorm((1, WIDTH + 1))),
        "a parameter more.0.weight.*gain of a normalisation",
    ),
    "integers, equinox": (
        bnn.from_equinox,
        lambda: Equinox(eqx.nn.Lambda(jnp.arange(3))),
        "got an array of int",
    ),
    "no module, equinox": (bnn.from_equinox, lambda: jnp.tanh, "expected a module of equinox"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_modules_that_are_more_than_a_function_are_refused(case):
    wrap, make, message = case
    with pytest.raises(ValueError, match=message) as caught:
        wrap(make(), OUT)
    assert all(word in str(caught.value) for word in ("got", "expected", "probably"))


class Constant(eqx.Module):
    """Inputs turned by a matrix before a layer with parameters."""

    turn: np.ndarray | jax.Array
    layer: eqx.nn.Linear

    def __call__(self, x):
        return jnp.tanh(self.layer(self.turn @ x))


def test_numpy_arrays_of_equinox_are_constants(x, rng):
    turn = rng.standard_normal((D, D)).astype(x.dtype)
    layer = eqx.nn.Linear(D, WIDTH, key=jax.random.key(0))
    network = bnn.from_equinox(Constant(turn, layer), OUT)
    params = network.init(jax.random.key(3), (D,), x.dtype)
    assert set(params.hidden[0]) == {"layer.weight", "layer.bias"}
    plain = bnn.from_equinox(Constant(np.eye(D, dtype=x.dtype), layer), OUT)
    turned = plain.apply(params, x @ turn.T)
    np.testing.assert_allclose(network.apply(params, x), turned, rtol=RELATIVE, atol=1e-6)
    drawn = bnn.from_equinox(Constant(jnp.asarray(turn), layer), OUT).init(jax.random.key(3), (D,))
    assert "turn" in drawn.hidden[0]


@pytest.mark.parametrize("dropout", [eqx.nn.Dropout(0.0), eqx.nn.Dropout(0.5, inference=True)])
def test_dropout_that_is_not_active_is_taken(dropout, x):
    plain, idle = bnn.from_equinox(Equinox(), OUT), bnn.from_equinox(Equinox(dropout), OUT)
    params = plain.init(jax.random.key(3), (D,), x.dtype)
    np.testing.assert_array_equal(idle.apply(params, x), plain.apply(params, x))


def test_a_table_of_stds_is_refused(kind):
    wrap, module = kind
    with pytest.raises(ValueError, match="module stds: got a dict; expected a function of a"):
        wrap(module(), OUT, stds={"layers.0.weight": 1.0})


def test_functions_that_return_no_array_are_refused(kind, rng):
    x, y = rng.standard_normal((5, D)), rng.standard_normal((5, OUT))
    nothing = bnn.Custom(lambda key, shape: (), lambda params, x: None)
    with pytest.raises(ValueError, match="Custom apply: got a NoneType; expected an array"):
        bnn.Posterior(bnn.Network([nothing, bnn.Dense(OUT)]), x, y, bnn.Gaussian(0.3))
    wrap, module = kind
    with pytest.raises(ValueError, match=r"module output: got a tuple; expected \(n, p\)"):
        bnn.Posterior(wrap(module(lambda h: (h, h)), OUT), x, y, bnn.Gaussian(0.3))


def test_features_that_are_not_vectors_are_refused(rng):
    module = nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0))
    x, y = rng.standard_normal((4, 5, 5, 2)), rng.standard_normal((4, OUT))
    with pytest.raises(ValueError, match=r"module output: got features of shape .*\(n, p\)"):
        bnn.Posterior(bnn.from_flax(module, OUT), x, y, bnn.Gaussian(0.3))


@pytest.mark.parametrize(
    ("wrap", "make"), [(bnn.from_flax, Flax), (bnn.from_equinox, Equinox)], ids=["flax", "equinox"]
)
def test_examples_of_another_shape_are_refused(wrap, make, rng):
    x, y = rng.standard_normal((5, D + 2)), rng.standard_normal((5, OUT))
    with pytest.raises(ValueError, match=rf"module: got examples of shape \({D + 2},\).*fails"):
        bnn.Posterior(wrap(make(), OUT), x, y, bnn.Gaussian(0.3))


@pytest.mark.parametrize(
    ("wrap", "make"), [(bnn.from_flax, Flax), (bnn.from_equinox, Equinox)], ids=["flax", "equinox"]
)
def test_a_prior_of_the_modules_scales_is_refused(wrap, make):
    with pytest.raises(ValueError, match="module w_std: got .*expected a finite number above 0"):
        wrap(make(), OUT, w_std=dist.HalfNormal(1.0))
