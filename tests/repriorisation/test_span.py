"""The span of the inputs: a smaller position, the same likelihood, the same law of the weights."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.models.kernel import Shape
from bnnsample.repriorisation.base import flatten, unflatten_hidden
from bnnsample.repriorisation.marginal import Marginal
from bnnsample.repriorisation.span import Span, span_of
from tests.conftest import X64
from tests.quick import quickly

RELATIVE = 1e-9 if X64 else 2e-4
gelu, erf = bnn.Activation("gelu"), bnn.Activation("erf")


class Case(NamedTuple):
    """A network, its inputs, and how many of its layers come before the first ``Dense``."""

    layers: list[bnn.AbstractLayer]
    points: int
    input_shape: Shape
    fixed: int = 0


REDUCED = {
    "ntk": Case([bnn.Dense(7, 1.3, 0.2), gelu], 4, (9,)),
    "standard": Case([bnn.Dense(7, 1.3, 0.2, "standard"), gelu], 4, (9,)),
    "no biases, deeper": Case([bnn.Dense(3, 1.6), erf, bnn.Dense(2, 1.1, 0.4), gelu], 5, (6,)),
    "one direction fewer": Case([bnn.Dense(2, 1.3, 0.2)], 7, (8,)),
    "one point": Case([bnn.Dense(5, 0.8, 0.3), erf], 1, (3,)),
    "flattened": Case([bnn.Flatten(), bnn.Dense(6, 1.2, 0.1), erf], 5, (3, 4), 1),
    "pooled": Case([bnn.AvgPool(2, 1), bnn.Flatten(), bnn.Dense(6, 1.2), gelu], 3, (4, 3), 2),
    "normalised": Case(
        [bnn.LayerNorm(), bnn.Dense(4, 1.2, 0.3, "standard"), bnn.LayerNorm(), erf], 6, (8,), 1
    ),
    "residual without parameters": Case(
        [bnn.Residual([erf, bnn.Scale(0.5)]), bnn.Dense(5, 1.2, 0.3), gelu], 4, (7,), 1
    ),
}


class OwnDense(bnn.Dense):
    """A subclass, which need not be linear in its inputs."""


UNCHANGED = {
    "as many points as dimensions": Case([bnn.Dense(7), gelu], 4, (4,)),
    "more points": Case([bnn.Dense(7), gelu], 6, (4,)),
    "more points than pooled dimensions": Case(
        [bnn.GlobalAvgPool(), bnn.Dense(7), gelu], 4, (5, 3)
    ),
    "readout only": Case([gelu], 3, (8,)),
    "linear regression": Case([], 3, (8,)),
    "convolution": Case([bnn.Conv(4, 2), gelu, bnn.Flatten(), bnn.Dense(5)], 2, (5, 2)),
    "residual": Case([bnn.Residual([bnn.Dense(8), gelu]), bnn.Dense(5)], 3, (8,)),
    "subclass of Dense": Case([OwnDense(7), gelu], 3, (8,)),
}


def posterior_of(case: Case, rng) -> bnn.Posterior:
    network = bnn.Network([*case.layers, bnn.Dense(2, 1.2, 0.3)])
    x, y = (rng.standard_normal((case.points, *shape)) for shape in (case.input_shape, (2,)))
    return bnn.Posterior(network, x, y, bnn.Gaussian(0.4))


@pytest.fixture(params=REDUCED.values(), ids=REDUCED)
def case(request) -> Case:
    return request.param


@pytest.fixture
def posterior(case, rng) -> bnn.Posterior:
    return posterior_of(case, rng)


@pytest.fixture
def position(posterior, rng) -> jax.Array:
    return jnp.asarray(rng.standard_normal(bnn.marginal(posterior).dim))


def lifted(span: Span, position, key):
    return span.lift(unflatten_hidden(span.posterior, position), key)


def assert_close(actual, expected):
    scale = float(jnp.max(jnp.abs(expected)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=RELATIVE * scale)


def test_the_position_has_a_row_of_first_layer_weights_per_point(case, posterior):
    width = posterior.network.layers[case.fixed].width
    dimensions = posterior.parameter_shapes.hidden[case.fixed]["weight"].shape[0]
    saved = (dimensions - case.points) * width
    assert saved > 0
    assert bnn.marginal(posterior).dim == Marginal(posterior).dim - saved


def test_likelihood_and_gradient_are_the_unreduced_ones_at_any_lift(posterior, position):
    target, unreduced = bnn.marginal(posterior), Marginal(posterior)

    def at_the_lift(q, key):
        return unreduced.log_likelihood(flatten(lifted(target.span, q, key)))

    actual, reduced_gradient = quickly(jax.value_and_grad(target.log_likelihood))(position)
    unreduced_gradient = quickly(jax.value_and_grad(at_the_lift))
    for seed in (1, 2):
        expected, gradient = unreduced_gradient(position, jax.random.key(seed))
        np.testing.assert_allclose(actual, expected, rtol=RELATIVE)
        assert_close(reduced_gradient, gradient)


def test_outputs_at_the_training_inputs_are_the_reduced_networks(posterior, position):
    """The whole is traced here: a span can be found and a draw made inside of ``jax.jit``."""
    span = span_of(posterior)
    params = quickly(lambda p, q: bnn.marginal(p).constrain(q, jax.random.key(1)))(
        posterior, position
    )
    reduced = bnn.Parameters(unflatten_hidden(span.posterior, position), params.readout)
    expected = span.posterior.network.apply(reduced, span.posterior.x)
    assert_close(posterior.network.apply(params, posterior.x), expected)
    assert jax.tree.structure(params) == jax.tree.structure(posterior.parameter_shapes)


def test_another_key_changes_outputs_elsewhere_only(posterior, position, rng):
    span, network = span_of(posterior), posterior.network
    x_test = jnp.asarray(rng.standard_normal((3, *posterior.input_shape)))

    @quickly
    def features(key):
        hidden = lifted(span, position, key)
        return network.features(hidden, posterior.x), network.features(hidden, x_test)

    (seen, elsewhere), (seen_again, changed) = (features(jax.random.key(k)) for k in (1, 2))
    assert_close(seen, seen_again)
    assert jnp.max(jnp.abs(elsewhere - changed)) > 1e-2


def test_repeated_and_dependent_points_span_less(rng):
    x = rng.standard_normal((3, 9))
    x = np.concatenate([x, x[:1], 2 * x[1:2] - x[2:], np.zeros((1, 9))])
    y = rng.standard_normal((6, 2))
    posterior = bnn.Posterior(bnn.fcn(1, 5, 2), x, y, bnn.Gaussian(0.4))
    target = bnn.marginal(posterior)
    position = jnp.asarray(rng.standard_normal(target.dim))
    hidden = lifted(target.span, position, jax.random.key(4))
    np.testing.assert_allclose(
        target.log_likelihood(position),
        Marginal(posterior).log_likelihood(flatten(hidden)),
        rtol=RELATIVE,
    )
    assert_close(target.span.basis.T @ target.span.basis, jnp.eye(6))


def test_predictions_alone_have_the_law_of_whole_draws(rng):
    """Readout features at test inputs are Gaussian before the activation: compare two moments.

    Of a linear first layer, 4 x 3 means and covariances at 5 standard errors.
    """
    posterior = posterior_of(Case([bnn.Dense(3, 1.3, 0.4)], 2, (7,)), rng)
    target, x_test = bnn.marginal(posterior), jnp.asarray(rng.standard_normal((4, 7)))
    position = jnp.asarray(rng.standard_normal(target.dim))
    keys = jax.random.split(jax.random.key(2), 40_000)
    moments = []
    for whole in (True, False):
        draw = target.drawer(x_test, whole=whole)
        assert (draw(position, keys[0]).hidden is None) != whole
        mean = jax.jit(jax.vmap(lambda key, draw=draw: draw(position, key).predictions["f_mean"]))
        values = np.asarray(mean(keys))[..., 0]
        products = values[:, :, None] * values[:, None, :]
        moments.append(np.concatenate([values, products.reshape(len(values), -1)], axis=1))
    difference = moments[0].mean(0) - moments[1].mean(0)
    error = np.sqrt(sum(each.var(0) for each in moments) / len(keys))
    assert np.max(np.abs(difference / error)) < 5
    assert np.min(error / np.abs(moments[0]).mean(0)) > 1e-4


def test_predictions_alone_equal_whole_ones_along_the_span(rng):
    posterior = posterior_of(next(iter(REDUCED.values())), rng)
    target = bnn.marginal(posterior)
    position, key = jnp.asarray(rng.standard_normal(target.dim)), jax.random.key(5)
    pair = [
        target.drawer(posterior.x, whole=whole)(position, key).predictions["f_mean"]
        for whole in (True, False)
    ]
    assert_close(pair[1], pair[0])


@pytest.mark.parametrize("name", UNCHANGED)
def test_nothing_changes_where_it_does_not_apply(name, rng):
    posterior = posterior_of(UNCHANGED[name], rng)
    target, unreduced = bnn.marginal(posterior), Marginal(posterior)
    assert target.span is None
    assert jax.tree.structure(target) == jax.tree.structure(unreduced)
    assert jnp.array_equal(*(t.init(jax.random.key(1)) for t in (target, unreduced)))


SEEDS = (1, 2, 3)
DRAWS, LARGEST_Z = 20_000, 5.0
"""3 seeds of 15 means and 120 covariances: by chance one suite in 4000 would fail."""


def without_projection(basis, seen, xi):
    return basis @ seen + xi


def without_xi(basis, seen, xi):
    return basis @ seen


def largest_z(weights: np.ndarray) -> float:
    """The largest z-score of means and covariances against those of N(0, I)."""
    draws = weights.reshape(len(weights), -1)
    count, dim = draws.shape
    second = draws.T @ draws / count - np.eye(dim)
    errors = np.sqrt((1 + np.eye(dim)) / count)
    means = draws.mean(axis=0) * count**0.5
    return float(max(np.max(np.abs(second / errors)), np.max(np.abs(means))))


def small_span(seed: int) -> Span:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 5)), rng.standard_normal((2, 1))
    span = span_of(bnn.Posterior(bnn.fcn(1, 3, 1), x, y, bnn.Gaussian(0.4)))
    assert span is not None
    return span


@pytest.mark.parametrize("seed", SEEDS)
def test_lifted_weights_are_standard_normal_a_priori(seed):
    span = small_span(seed)

    def weight(key):
        seen_key, key = jax.random.split(key)
        hidden = ({"weight": jax.random.normal(seen_key, (2, 3)), "bias": jnp.zeros(3)}, ())
        return span.lift(hidden, key)[0]["weight"]

    weights = quickly(jax.vmap(weight))(jax.random.split(jax.random.key(seed), DRAWS))
    assert largest_z(np.asarray(weights, float)) < LARGEST_Z


@pytest.mark.parametrize("wrong", [without_projection, without_xi])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_wrong_lift_is_caught(seed, wrong):
    basis = np.asarray(small_span(seed).basis, float)
    rng = np.random.default_rng(seed)
    pairs = zip(rng.standard_normal((DRAWS, 2, 3)), rng.standard_normal((DRAWS, 5, 3)), strict=True)
    assert largest_z(np.stack([wrong(basis, *pair) for pair in pairs])) > 4 * LARGEST_Z
