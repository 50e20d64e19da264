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

NOISE = {
    "one noise": lambda n, o: (),
    "by output": lambda n, o: (o,),
    "by output, a row": lambda n, o: (1, o),
    "by point": lambda n, o: (n, 1),
    "by both": lambda n, o: (n, o),
}
OUTPUTS = 3


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request):
    return request.param


@pytest.fixture(params=NOISE.values(), ids=NOISE)
def problem(shape, request, rng):
    """Features, targets and noise from 0.3 to 0.9."""
    n, p = shape
    features, y = (jnp.asarray(rng.standard_normal(s)) for s in ((n, p), (n, OUTPUTS)))
    return features / p**0.5, y, jnp.asarray(rng.uniform(0.3, 0.9, request.param(n, OUTPUTS)))


def naive(features, y, noise_std):
    """Gaussian density with covariance Psi Psi' + diag(noise_std^2), no closed-form gradient."""
    total = 0.0
    for o, stds in enumerate(jnp.broadcast_to(noise_std, y.shape).T):
        covariance = features @ features.T + jnp.diag(stds**2)
        _, logdet = jnp.linalg.slogdet(covariance)
        quadratic = jnp.sum(y[:, o] * jnp.linalg.solve(covariance, y[:, o]))
        total += -0.5 * (quadratic + logdet + len(y) * jnp.log(2 * jnp.pi))
    return total


def test_value_is_the_gaussian_density_of_the_targets(problem):
    features, y, noise_std = (np.asarray(part, float) for part in problem)
    expected = sum(
        scipy.stats.multivariate_normal.logpdf(y[:, o], cov=features @ features.T + np.diag(s**2))
        for o, s in enumerate(np.broadcast_to(noise_std, y.shape).T)
    )
    value = collapsed_log_likelihood(*problem)
    np.testing.assert_allclose(value, expected, rtol=1e-9 if X64 else 1e-4)


def test_closed_form_gradients_are_those_of_autodiff(problem):
    closed = jax.grad(collapsed_log_likelihood, argnums=(0, 1, 2))(*problem)
    expected = jax.grad(naive, argnums=(0, 1, 2))(*problem)
    for ours, theirs in zip(closed, expected, strict=True):
        scale = float(jnp.max(jnp.abs(theirs)))
        np.testing.assert_allclose(ours, theirs, atol=scale * (1e-9 if X64 else 2e-3))


def test_second_derivatives_are_those_of_autodiff(problem):
    features, y, noise_std = problem
    direction = jnp.ones_like(features)

    def curvature(f):
        gradient = jax.grad(lambda t: f(features + t * direction, y, (1 + t) * noise_std))
        return jax.grad(gradient)(jnp.zeros(()))

    expected = curvature(naive)
    np.testing.assert_allclose(
        curvature(collapsed_log_likelihood), expected, rtol=1e-7 if X64 else 2e-2
    )


def test_value_and_gradient_factorise_once(problem):
    gradient = jax.value_and_grad(collapsed_log_likelihood)
    jaxpr = str(jax.make_jaxpr(gradient)(*problem))
    assert len(re.findall(r"= cholesky\b", jaxpr)) == 1
