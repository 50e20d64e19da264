"""The Hermite expansion: its polynomials, its sum, the terms it keeps and the error it reports."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bnnsample.checks import BadInput, NoKnownLimit
from bnnsample.models.duals.hermite import (
    LARGEST_DEGREE,
    VARIANCES,
    HermiteDual,
    _mehler_sum,
    choose_orders,
)
from bnnsample.models.duals.known import activation
from bnnsample.models.duals.quadrature import hermite_basis
from tests.conftest import X64
from tests.models.test_duals_oracle import expectation, expectation_on_line

ROUNDING = 1e-12 if X64 else 1e-5
ALL_ORDERS = tuple(range(LARGEST_DEGREE + 1))


def test_the_basis_is_finite_and_orthonormal():
    z, weighted = hermite_basis(ALL_ORDERS)
    weights = weighted[:, 0]
    low = weighted[:, :40] / weights[:, None]
    assert np.isfinite(weighted).all()
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-14)
    np.testing.assert_allclose(weighted[:, 1], weights * z, rtol=1e-15)
    gram = low.T @ (weights[:, None] * low)
    np.testing.assert_allclose(gram, np.eye(40), atol=1e-11)


def test_the_sum_equals_its_terms_added_up(rng):
    for orders in [(0,), (3,), (0, 1, 2), (1, 3, 5, 9), (0, 1, 4)]:
        a1 = rng.standard_normal((len(orders), 4, 1))
        a2 = rng.standard_normal((len(orders), 1, 3))
        rho = rng.uniform(-1, 1, (4, 3))
        expected = sum(p * q * rho**k for p, q, k in zip(a1, a2, orders, strict=True))
        got = _mehler_sum(*(jnp.asarray(a) for a in (a1, a2, rho)), orders)
        np.testing.assert_allclose(got, expected, rtol=100 * ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("name", ["erf", "gelu", "sin", "gaussian", "relu", "abs", "sigmoid_like"])
def test_the_reported_error_bounds_the_error_against_closed_forms(name):
    known = activation(name)
    expanded = HermiteDual(known.function)
    error = expanded.expansion.error
    worst = 0.0
    for var1 in VARIANCES:
        for var2 in VARIANCES:
            scale = np.sqrt(var1 * var2)
            rho = np.array([-1.0, -0.9, -0.2, 0.0, 0.6, 0.99, 1.0])
            moments = (jnp.asarray(rho * scale), jnp.asarray(var1), jnp.asarray(var2))
            powers = [
                expectation_on_line(known.function, known.function, np.sqrt(v), np.sqrt(v))
                for v in (var1, var2)
            ]
            missed = jnp.abs(expanded(*moments).value - known.dual(*moments).value)
            worst = max(worst, float(jnp.max(missed)) / np.sqrt(np.prod(powers)))
    assert worst <= error + 10 * ROUNDING
    # not a wild overestimate either
    assert error <= 100 * worst + 1e3 * ROUNDING


@pytest.mark.parametrize("name", ["tanh", "silu", "softplus", "elu", "soft_sign"])
def test_the_reported_error_bounds_the_error_against_quadrature(name):
    elementwise = activation(name)
    for cov, var1, var2 in [(0.2, 0.25, 1.0), (-1.5, 1.0, 4.0), (0.9, 1.0, 1.0)]:
        got = elementwise.dual(*(jnp.asarray(m) for m in (cov, var1, var2))).value
        f = elementwise.function
        expected = expectation(f, f, cov, var1, var2)
        assert abs(got - expected) <= (elementwise.error + 10 * ROUNDING) * max(expected, 1)


@pytest.mark.parametrize("kink", [0.7, -1.9])
def test_kinks_anywhere_are_within_the_reported_errors(kink):
    dual = HermiteDual(lambda x: jnp.maximum(x - kink, 0.0))
    expansion = dual.expansion
    assert 1e-8 < expansion.error < 1e-2 < expansion.slope_error < 0.5
    density, above = scipy.stats.norm.pdf, scipy.stats.norm.sf
    for var in VARIANCES:
        std = np.sqrt(var)
        t = kink / std
        # a censored normal's second moment, and the probability that it is not censored
        square = var * ((1 + t**2) * above(t) - t * density(t))
        got = dual(*(jnp.asarray(var),) * 3)
        assert abs(got.value - square) <= (expansion.error + 10 * ROUNDING) * square
        assert abs(got.slope - above(t)) <= (expansion.slope_error + 10 * ROUNDING) * above(t)


@pytest.mark.parametrize("std", [0.1, 3.0, 10.0, 40.0])
def test_coinciding_and_opposite_inputs_are_exact_at_any_variance(std):
    moments = [jnp.asarray(std**2)] * 3
    for function in (jnp.tanh, lambda x: jnp.maximum(x, 0.1 * x) + jnp.tanh(x) ** 2):
        dual = HermiteDual(function)
        for sign in (1.0, -1.0):
            got = dual(sign * moments[0], *moments[1:]).value
            expected = expectation_on_line(function, function, std, sign * std)
            power = expectation_on_line(function, function, std, std)
            assert abs(got - expected) <= (3e-4 if std > 1 else 1e3 * ROUNDING) * power


def test_the_error_grows_with_the_variance_and_is_known_there():
    tanh = activation("tanh")
    assert tanh.error_at(1.0) <= tanh.error < 1e-6
    assert 1e-3 < tanh.error_at(10.0) < 0.1
    assert activation("erf").error_at(10.0) == 0
    f = tanh.function
    for cov in (90.0, 99.0, -97.0):
        got = tanh.dual(*(jnp.asarray(m) for m in (cov, 100.0, 100.0))).value
        expected = expectation(f, f, cov, 100.0, 100.0)
        assert abs(got - expected) <= tanh.error_at(10.0)


def test_functions_that_no_polynomial_follows_have_no_limit_unless_asked_for():
    def fast(x):
        return jnp.sin(20 * x)

    moments = [jnp.asarray(1.0)] * 3
    with pytest.raises(NoKnownLimit, match="128 Hermite polynomials miss 100%"):
        HermiteDual(fast)(*moments)
    assert np.isfinite(HermiteDual(fast, 9)(*moments).value)


def test_functions_with_a_reverse_derivative_of_their_own_are_expanded():
    @jax.custom_vjp
    def straight(x):
        return jnp.tanh(x)

    straight.defvjp(lambda x: (jnp.tanh(x), None), lambda _, change: (change,))
    moments = tuple(jnp.asarray(m) for m in (0.3, 1.0, 2.0))
    found = HermiteDual(straight)(*moments)
    np.testing.assert_allclose(found.value, HermiteDual(jnp.tanh)(*moments).value, rtol=1e-5)
    np.testing.assert_allclose(found.slope, 1, rtol=1e-5)


def test_only_the_orders_that_matter_are_kept():
    assert choose_orders(jax.nn.identity) == (1,)
    assert choose_orders(lambda x: x**3 - 2 * x**2) == (0, 1, 2, 3)
    assert all(k % 2 == 1 for k in choose_orders(jnp.tanh))
    assert all(k % 2 == 0 or k == 1 for k in choose_orders(jax.nn.silu))
    assert max(choose_orders(jnp.sin)) < 40
    assert choose_orders(jnp.zeros_like) == ()


def test_constants_have_no_slope():
    moments = tuple(jnp.asarray(m) for m in (0.3, 1.0, 2.0))
    assert HermiteDual(jnp.zeros_like)(*moments) == (0, 0)
    one = HermiteDual(jnp.ones_like)(*moments)
    np.testing.assert_allclose(one.value, 1, rtol=ROUNDING)
    assert one.slope == 0


def test_a_given_degree_sums_all_terms_up_to_it():
    dual = HermiteDual(jnp.tanh, 5)
    assert dual.expansion.orders == (0, 1, 2, 3, 4, 5)
    assert dual.expansion.error > HermiteDual(jnp.tanh).expansion.error


def test_a_polynomial_is_exact_at_its_degree(rng):
    cov, var1, var2 = 0.4, 1.7, 0.6
    got = HermiteDual(lambda x: x**3, 3)(*(jnp.asarray(m) for m in (cov, var1, var2)))
    np.testing.assert_allclose(got.value, 9 * var1 * var2 * cov + 6 * cov**3, rtol=ROUNDING)
    np.testing.assert_allclose(got.slope, 9 * var1 * var2 + 18 * cov**2, rtol=ROUNDING)


def test_terms_are_chosen_while_compiling_too():
    dual = HermiteDual(lambda x: jnp.tanh(2 * x))
    moments = tuple(jnp.asarray(m) for m in (0.3, 1.0, 2.0))
    compiled = jax.jit(dual)(*moments)
    np.testing.assert_allclose(compiled.value, dual(*moments).value, rtol=10 * ROUNDING)
    assert np.isfinite(jax.grad(lambda c: dual(c, *moments[1:]).value)(moments[0]))


def test_parameters_of_a_function_are_differentiable_at_a_given_degree():
    moments = tuple(jnp.asarray(m) for m in (0.3, 1.0, 2.0))

    def value(a):
        return HermiteDual(lambda x: a * x, 4)(*moments).value

    np.testing.assert_allclose(jax.grad(value)(jnp.asarray(2.0)), 4 * 0.3, rtol=ROUNDING)


@pytest.mark.parametrize("function", [jnp.log, jnp.sqrt, lambda x: jnp.exp(x**2)])
def test_a_function_that_is_not_finite_everywhere_is_refused(function):
    with pytest.raises(BadInput, match="not finite"):
        choose_orders(function)
