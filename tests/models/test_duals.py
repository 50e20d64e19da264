"""Dual activations: closed forms against quadrature, quadrature against Monte Carlo."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnsample.models.duals import quadrature_dual
from bnnsample.models.layers import KNOWN_ACTIVATIONS
from tests.conftest import X64

SMOOTH = ["identity", "erf", "gelu", "tanh"]


def random_covariances(rng: np.random.Generator, size: int = 40) -> tuple[jax.Array, ...]:
    var1, var2 = rng.uniform(0.2, 3.0, (2, size))
    cov = rng.uniform(-0.97, 0.97, size) * np.sqrt(var1 * var2)
    return jnp.asarray(cov), jnp.asarray(var1), jnp.asarray(var2)


@pytest.mark.parametrize("name", SMOOTH)
def test_closed_form_equals_quadrature_for_smooth_functions(name, rng):
    function, dual = KNOWN_ACTIVATIONS[name]
    covariances = random_covariances(rng)
    expected = quadrature_dual(function, degree=120)(*covariances)
    np.testing.assert_allclose(dual(*covariances), expected, rtol=1e-6 if X64 else 1e-3, atol=1e-6)


def test_relu_closed_form_equals_quadrature_to_first_order_at_the_kink(rng):
    function, dual = KNOWN_ACTIVATIONS["relu"]
    covariances = random_covariances(rng)
    coarse, fine = (quadrature_dual(function, degree=d)(*covariances) for d in (32, 200))
    exact = dual(*covariances)
    np.testing.assert_allclose(exact, fine, atol=2e-3)
    assert jnp.max(jnp.abs(exact - fine)) < jnp.max(jnp.abs(exact - coarse))


@pytest.mark.parametrize("name", sorted(KNOWN_ACTIVATIONS))
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_dual_lies_within_five_standard_errors_of_monte_carlo(name, seed):
    # 5 activations x 3 seeds at 5 standard errors: fails by chance once in 100 000 suites
    function, dual = KNOWN_ACTIVATIONS[name]
    cov, var1, var2 = 0.7, 1.3, 0.9
    normal = np.random.default_rng(seed).standard_normal((2, 200_000))
    u = np.sqrt(var1) * normal[0]
    v = cov / np.sqrt(var1) * normal[0] + np.sqrt(var2 - cov**2 / var1) * normal[1]
    products = np.asarray(function(jnp.asarray(u)) * function(jnp.asarray(v)))
    error = products.std() / np.sqrt(products.size)
    exact = dual(jnp.asarray(cov), jnp.asarray(var1), jnp.asarray(var2))
    assert abs(products.mean() - exact) < 5 * error


@pytest.mark.parametrize("name", sorted(KNOWN_ACTIVATIONS))
def test_values_and_gradients_are_finite_at_coinciding_opposite_and_zero_inputs(name):
    _, dual = KNOWN_ACTIVATIONS[name]
    for cov, var1, var2 in [(1.3, 1.3, 1.3), (-0.6, 0.6, 0.6), (0.0, 0.0, 0.0), (0.0, 0.0, 2.0)]:
        arguments = tuple(jnp.asarray(a) for a in (cov, var1, var2))
        value, gradient = jax.value_and_grad(lambda a: dual(*a))(arguments)
        assert np.isfinite(value)
        assert np.isfinite(jnp.stack(gradient)).all()


def test_quadrature_is_exact_for_polynomials(rng):
    cov, var1, var2 = random_covariances(rng)
    cubic = quadrature_dual(lambda x: x**3, degree=8)
    expected = 9 * var1 * var2 * cov + 6 * cov**3
    np.testing.assert_allclose(cubic(cov, var1, var2), expected, rtol=1e-9 if X64 else 1e-4)


def test_relu_gradient_on_the_diagonal_is_that_of_half_the_variance():
    _, dual = KNOWN_ACTIVATIONS["relu"]
    gradient = jax.grad(lambda v: dual(v, v, v))(jnp.asarray(1.7))
    np.testing.assert_allclose(gradient, 0.5, rtol=1e-6)
