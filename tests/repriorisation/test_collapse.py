"""The collapsed likelihood: value against scipy, gradient against autodiff through the factor."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bnnsample.repriorisation.collapse import collapsed_log_likelihood
from tests.conftest import X64
from tests.zoo import SHAPES

NOISE_STD = 0.43


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def problem(request, rng):
    n, p = request.param
    features, y = (jnp.asarray(rng.standard_normal(s)) for s in ((n, p), (n, 3)))
    return features / p**0.5, y


def naive(features, y, noise_std):
    """Gaussian density with covariance Psi Psi' + noise_std^2 I, no closed-form gradient."""
    n, o = y.shape
    covariance = features @ features.T + noise_std**2 * jnp.eye(n)
    _, logdet = jnp.linalg.slogdet(covariance)
    quadratic = jnp.sum(y * jnp.linalg.solve(covariance, y))
    return -0.5 * quadratic - 0.5 * o * logdet - 0.5 * n * o * jnp.log(2 * jnp.pi)


def test_value_is_the_gaussian_density_of_the_targets(problem):
    features, y = problem
    psi = np.asarray(features, float)
    law = scipy.stats.multivariate_normal(cov=psi @ psi.T + NOISE_STD**2 * np.eye(len(psi)))
    expected = law.logpdf(np.asarray(y, float).T).sum()
    value = collapsed_log_likelihood(features, y, NOISE_STD)
    np.testing.assert_allclose(value, expected, rtol=1e-9 if X64 else 1e-4)


def test_closed_form_gradients_are_those_of_autodiff(problem):
    features, y = problem
    arguments = (features, y, jnp.asarray(NOISE_STD))
    closed = jax.grad(collapsed_log_likelihood, argnums=(0, 1, 2))(*arguments)
    expected = jax.grad(naive, argnums=(0, 1, 2))(*arguments)
    for ours, theirs in zip(closed, expected, strict=True):
        scale = float(jnp.max(jnp.abs(theirs)))
        np.testing.assert_allclose(ours, theirs, atol=scale * (1e-9 if X64 else 2e-3))


def test_second_derivatives_are_those_of_autodiff(problem):
    features, y = problem
    direction = jnp.ones_like(features)

    def curvature(f):
        gradient = jax.grad(lambda t: f(features + t * direction, y, jnp.asarray(NOISE_STD)))
        return jax.grad(gradient)(jnp.zeros(()))

    expected = curvature(naive)
    np.testing.assert_allclose(
        curvature(collapsed_log_likelihood), expected, rtol=1e-7 if X64 else 2e-2
    )


def test_value_and_gradient_factorise_once(problem):
    features, y = problem
    gradient = jax.value_and_grad(collapsed_log_likelihood)
    jaxpr = str(jax.make_jaxpr(gradient)(features, y, jnp.asarray(NOISE_STD)))
    assert len(re.findall(r"= cholesky\b", jaxpr)) == 1
