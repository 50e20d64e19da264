"""Targets: three densities of one posterior, related by the map's change of variables."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.models.priors import NORMALISER, log_prior
from bnnsample.repriorisation.base import flatten, unflatten
from bnnsample.repriorisation.conditional import readout_bijection
from bnnsample.repriorisation.targets import TARGETS
from tests.conftest import X64
from tests.quick import quickly

D, NOISE_STD = 3, 0.45
RELATIVE = 1e-9 if X64 else 1e-4


@pytest.fixture(params=[(4, 9), (11, 5)], ids=["dual", "primal"])
def posterior(request, rng) -> bnn.Posterior:
    n, width = request.param
    network = bnn.fcn(1, width, 2, w_std_out=1.3, b_std_out=0.4)
    x, y = rng.standard_normal((n, D)), rng.standard_normal((n, 2))
    return bnn.Posterior(network, x, y, bnn.Gaussian(NOISE_STD))


def position_of(target, rng) -> jax.Array:
    return jnp.asarray(rng.standard_normal(target.dim))


def test_standard_density_is_the_joint_but_for_the_priors_constant(posterior, rng):
    target = bnn.standard(posterior)
    position = position_of(target, rng)
    expected = posterior.log_density(unflatten(posterior, position)) - target.dim * NORMALISER
    np.testing.assert_allclose(target.logdensity(position), expected, rtol=RELATIVE)


@pytest.mark.parametrize("ridge", [None, NOISE_STD**2, 0.7])
def test_repriorised_density_is_the_standard_one_pulled_back(posterior, ridge, rng):
    target = bnn.repriorised(posterior, ridge)
    position = position_of(target, rng)
    hidden, phi = unflatten(posterior, position)
    used = NOISE_STD if ridge is None else ridge**0.5
    bijection = readout_bijection(phi.shape[0], posterior.y, used)
    features = posterior.network.features(hidden, posterior.x)
    readout, logdet = bijection.forward_and_logdet(features, phi)
    pulled_back = bnn.standard(posterior).logdensity(flatten((hidden, readout))) + logdet
    np.testing.assert_allclose(target.logdensity(position), pulled_back, rtol=RELATIVE)
    constrained = target.constrain(position, jax.random.key(0))
    np.testing.assert_allclose(constrained.readout, readout, rtol=1e-4, atol=1e-5)


def test_gradients_agree_between_the_factorised_and_the_pulled_back_density(posterior, rng):
    position = position_of(bnn.repriorised(posterior), rng)
    closed, autodiff = (
        jax.grad(bnn.repriorised(posterior, ridge).logdensity)(position)
        for ridge in (None, NOISE_STD**2)
    )
    scale = float(jnp.max(jnp.abs(autodiff)))
    np.testing.assert_allclose(closed, autodiff, atol=scale * (1e-9 if X64 else 1e-3))


def test_marginal_density_is_the_repriorised_one_integrated_over_the_readout(posterior, rng):
    """``phi`` is N(0, I) given ``h``, so any ``phi`` gives the integral (Chib's identity)."""
    repriorised, marginal = bnn.repriorised(posterior, NOISE_STD**2), bnn.marginal(posterior)
    hidden = position_of(marginal, rng)
    for _ in range(3):
        phi = jnp.asarray(rng.standard_normal(repriorised.dim - marginal.dim))
        joint = repriorised.logdensity(jnp.concatenate([hidden, phi]))
        conditional = log_prior(phi)
        np.testing.assert_allclose(marginal.logdensity(hidden), joint - conditional, rtol=RELATIVE)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_marginal_density_is_the_likelihoods_average_over_prior_readouts(seed):
    # self-contained: plain Monte Carlo over W of the standard likelihood, 5 standard errors
    rng = np.random.default_rng(seed)
    network = bnn.fcn(1, 2, 1)
    x, y = rng.standard_normal((3, D)), rng.standard_normal((3, 1))
    posterior = bnn.Posterior(network, x, y, bnn.Gaussian(1.0))
    marginal, standard = bnn.marginal(posterior), bnn.standard(posterior)
    hidden = position_of(marginal, rng)
    readouts = jnp.asarray(rng.standard_normal((40_000, standard.dim - marginal.dim)))
    log_likelihoods = jax.vmap(lambda w: standard.log_likelihood(jnp.concatenate([hidden, w])))(
        readouts
    )
    likelihoods = np.exp(np.asarray(log_likelihoods, float))
    error = likelihoods.std() / np.sqrt(likelihoods.size)
    assert abs(likelihoods.mean() - np.exp(marginal.log_likelihood(hidden))) < 5 * error


def test_marginal_readout_draws_have_the_conditional_moments(posterior, rng):
    marginal = bnn.marginal(posterior)
    hidden = position_of(marginal, rng)
    keys = jax.random.split(jax.random.key(5), 6000)
    draws = jax.vmap(lambda key: marginal.constrain(hidden, key).readout)(keys)
    params = marginal.constrain(hidden, keys[0])
    psi = np.asarray(posterior.network.features(params.hidden, posterior.x), float)
    covariance = np.linalg.inv(np.eye(psi.shape[1]) + psi.T @ psi / NOISE_STD**2)
    mean = covariance @ psi.T @ np.asarray(posterior.y, float) / NOISE_STD**2
    std = np.sqrt(np.diag(covariance))[:, None]
    # 6000 draws, six standard errors for each of at most 20 entries
    assert np.all(np.abs(draws.mean(0) - mean) < 6 * std / 6000**0.5)
    assert np.all(np.abs(draws.std(0) / std - 1) < 6 / (2 * 6000) ** 0.5)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_starts_are_finite_reproducible_and_differ_between_keys(posterior, name):
    target = TARGETS[name](posterior)
    first, again, other = (target.init(jax.random.key(k)) for k in (1, 1, 2))
    assert jnp.array_equal(first, again)
    assert not jnp.any(first == other)
    assert np.isfinite(target.logdensity(first))
    assert first.shape == (target.dim,)
    assert first.dtype == posterior.x.dtype


DRAWN = {
    "standard": bnn.standard,
    "repriorised": bnn.repriorised,
    "regularised": lambda posterior: bnn.repriorised(posterior, 0.7),
    "marginal": bnn.marginal,
}
SIZES = {
    "dual": (4, 3, 9),
    "primal": (11, 3, 5),
    "dual, span": (4, 8, 9),
    "primal, span": (7, 8, 3),
}


@pytest.fixture(params=SIZES.values(), ids=SIZES)
def sized(request, rng) -> bnn.Posterior:
    """Points, input dimensions and width, so that ``marginal`` is reduced in half of them."""
    n, d, width = request.param
    x, y = rng.standard_normal((n, d)), rng.standard_normal((n, 2))
    posterior = bnn.Posterior(bnn.fcn(2, width, 2, "erf"), x, y, bnn.Gaussian(NOISE_STD))
    assert (bnn.marginal(posterior).span is None) == (n >= d)
    return posterior


@pytest.fixture
def x_test(sized, rng) -> jax.Array:
    return jnp.asarray(rng.standard_normal((6, *sized.input_shape)))


def regression(posterior, hidden, x_test) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the outputs given hidden weights, by the textbook formula."""
    psi, test = (
        np.asarray(posterior.network.features(hidden, x), float) for x in (posterior.x, x_test)
    )
    covariance = np.linalg.inv(np.eye(psi.shape[1]) + psi.T @ psi / NOISE_STD**2)
    mean = test @ covariance @ psi.T @ np.asarray(posterior.y, float) / NOISE_STD**2
    return mean, np.sqrt(np.diag(test @ covariance @ test.T))


def assert_close(actual, expected):
    tolerance = 1e-9 if X64 else 2e-3
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", DRAWN)
def test_a_draw_is_its_parameters_and_their_predictions(sized, x_test, rng, name):
    target, key = DRAWN[name](sized), jax.random.key(3)
    position = position_of(target, rng)
    draw = quickly(target.drawer(x_test))(position, key)
    without_test = quickly(target.drawer())(position, key)
    jax.tree.map(assert_close, draw.params, quickly(target.constrain)(position, key))
    jax.tree.map(assert_close, draw.params, without_test.params)
    assert without_test.predictions == {}
    assert_close(draw.predictions["f"], sized.network.apply(draw.params, x_test))
    if name != "marginal":
        assert set(draw.predictions) == {"f"}
        return
    mean, std = regression(sized, draw.params.hidden, x_test)
    assert_close(draw.predictions["f_mean"], mean)
    assert_close(draw.predictions["f_std"], np.broadcast_to(std[:, None], mean.shape))


@pytest.mark.parametrize("name", DRAWN)
def test_fitted_is_the_output_at_the_training_inputs(sized, rng, name):
    target = DRAWN[name](sized)
    position = position_of(target, rng)
    params = quickly(target.constrain)(position, jax.random.key(3))
    expected = sized.network.apply(params, sized.x)
    if name == "marginal":
        expected, _ = regression(sized, params.hidden, sized.x)
    assert_close(quickly(target.fitted)(position), expected)


def test_a_marginal_draw_is_pushed_forward_once(sized, x_test, rng):
    target = bnn.marginal(sized)
    position = position_of(target, rng)
    jaxpr = str(jax.make_jaxpr(target.drawer(x_test))(position, jax.random.key(3)))
    assert len(re.findall(r"= cholesky\b", jaxpr)) == 1
    # two layers with an activation each, at training and test inputs
    assert len(re.findall(r"= erf\b", jaxpr)) == 4


def test_flatten_and_unflatten_are_inverse(posterior, rng):
    position = position_of(bnn.standard(posterior), rng)
    assert jnp.array_equal(flatten(unflatten(posterior, position)), position)


def test_a_ridge_that_is_not_positive_is_refused(posterior):
    with pytest.raises(ValueError, match="ridge: got -0.1"):
        bnn.repriorised(posterior, -0.1)
