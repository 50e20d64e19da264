"""Every dual activation against quadrature, and where it is singular: its exact limits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnsample.models.duals.hermite import HermiteDual
from bnnsample.models.duals.known import KNOWN_ACTIVATIONS, Elementwise, activation
from tests.conftest import X64
from tests.models.test_duals_oracle import (
    call,
    derivative,
    expectation,
    expectation_on_line,
    random_covariances,
)

ACTIVATIONS: dict[str, Elementwise] = {
    **{name: activation(name) for name in KNOWN_ACTIVATIONS},
    "leaky_relu(0.3)": activation("leaky_relu", negative_slope=0.3),
    "monomial(1)": activation("monomial", degree=1),
    "monomial(3)": activation("monomial", degree=3),
    "monomial(4)": activation("monomial", degree=4),
    "elu(0.5)": activation("elu", alpha=0.5),
    "celu(2)": activation("celu", alpha=2.0),
}
CLOSED = sorted(
    name for name, each in ACTIVATIONS.items() if not isinstance(each.dual, HermiteDual)
)
KINKED = ("abs", "elu(0.5)", "leaky_relu", "leaky_relu(0.3)", "relu", "selu")
ROUNDING = 1e-10 if X64 else 3e-4

all_activations = pytest.mark.parametrize("name", sorted(ACTIVATIONS))
closed_forms = pytest.mark.parametrize("name", CLOSED)

FEW_TERMS = {
    name: Elementwise(function, HermiteDual(function, degree=6))
    for name, function in (("tanh", jnp.tanh), ("selu", jax.nn.selu))
}
"""What the derivatives of expansions are tested on: more terms take longer to compile."""

DIFFERENTIATED = {name: ACTIVATIONS[name] for name in CLOSED} | FEW_TERMS
closed_forms_and_short_expansions = pytest.mark.parametrize("name", sorted(DIFFERENTIATED))


def power(function, var):
    """``E[function(u)^2]``: the scale of what it multiplies."""
    return expectation_on_line(function, function, np.sqrt(var), np.sqrt(var))


def scalars(*numbers: float) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(float(number)) for number in numbers)


@all_activations
def test_value_and_slope_equal_quadrature(name, rng):
    elementwise = ACTIVATIONS[name]
    covariances = random_covariances(rng, 8)
    got = jax.jit(elementwise.dual)(*map(jnp.asarray, covariances))
    for i, (cov, var1, var2) in enumerate(covariances.T):
        for function, actual, error in (
            (elementwise.function, got.value[i], ROUNDING + elementwise.error),
            (
                derivative(elementwise.function),
                got.slope[i],
                ROUNDING + elementwise.slope_error,
            ),
        ):
            expected = expectation(function, function, cov, var1, var2)
            scale = np.sqrt(power(function, var1) * power(function, var2))
            assert abs(actual - expected) <= error * scale


@all_activations
@pytest.mark.parametrize("sign", [1, -1])
def test_coinciding_and_opposite_inputs_have_their_exact_value(name, sign):
    elementwise = ACTIVATIONS[name]
    dual = jax.jit(elementwise.dual)
    for var1, var2 in [(1.7, 1.7), (0.3, 0.3), (2.5, 0.4)]:
        got = dual(*scalars(sign * np.sqrt(var1 * var2), var1, var2))
        f = elementwise.function
        expected = expectation_on_line(f, f, np.sqrt(var1), sign * np.sqrt(var2))
        scale = np.sqrt(power(f, var1) * power(f, var2))
        assert abs(got.value - expected) <= (ROUNDING + elementwise.error) * scale
        if var1 == var2:
            slope = expectation_on_line(
                derivative(f), derivative(f), np.sqrt(var1), sign * np.sqrt(var2)
            )
            error = ROUNDING + elementwise.slope_error
            assert abs(got.slope - slope) <= error * power(derivative(f), var1)


def test_slopes_at_coinciding_inputs_are_exact_compiled_and_on_a_matrix(rng):
    x = jnp.asarray(rng.standard_normal((30, 5)))
    var = jnp.sum(x**2, axis=1)
    cov = (x @ x.T).at[jnp.diag_indices(30)].set(var)
    dual = ACTIVATIONS["relu"].dual
    got = jax.jit(lambda cov, var: dual(cov, var[:, None], var[None, :]))(cov, var)
    np.testing.assert_allclose(jnp.diagonal(got.slope), 0.5, rtol=1e-15 if X64 else 1e-6)
    np.testing.assert_allclose(jnp.diagonal(got.value), var / 2, rtol=1e-15 if X64 else 1e-6)


@closed_forms_and_short_expansions
def test_slope_is_the_derivative_of_the_value_in_the_covariance(name, rng):
    dual = DIFFERENTIATED[name].dual
    covariances = [jnp.asarray(c) for c in random_covariances(rng, 8)]
    in_cov = jax.jit(jax.vmap(jax.grad(lambda *c: dual(*c).value)))(*covariances)
    slope = jax.jit(dual)(*covariances).slope
    scale = float(jnp.max(jnp.abs(slope)))
    np.testing.assert_allclose(in_cov, slope, rtol=ROUNDING, atol=ROUNDING * scale)


@closed_forms
def test_derivative_along_coinciding_inputs_is_that_of_the_second_moment(name):
    elementwise = ACTIVATIONS[name]
    f, std = elementwise.function, np.sqrt(1.7)
    got = jax.grad(lambda v: elementwise.dual(v, v, v).value)(jnp.asarray(1.7))
    # d/dvar E[f(std z)^2] = E[f f' z] / std
    expected = expectation_on_line(f, lambda x: x * derivative(f)(x), std, std) / std**2
    np.testing.assert_allclose(got, expected, rtol=10 * ROUNDING, atol=10 * ROUNDING)


@closed_forms_and_short_expansions
def test_second_derivatives_agree_with_differences_of_the_first(name):
    if not X64:
        pytest.skip("differences need float64")
    dual = DIFFERENTIATED[name].dual

    def value(moments):
        return dual(moments[0], moments[1], moments[2]).value

    at, step = jnp.array([0.5, 1.3, 0.8]), 1e-5
    shifts = step * jnp.eye(3)
    gradient = jax.jit(jax.vmap(jax.grad(value)))
    moved = (gradient(at[None, :] + shifts) - gradient(at[None, :] - shifts)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.hessian(value))(at), moved, rtol=1e-5, atol=1e-7)


SINGULAR = [
    (1.3, 1.3, 1.3),
    (-0.6, 0.6, 0.6),
    (0.0, 0.0, 0.0),
    (0.0, 0.0, 2.0),
    (0.0, 2.0, 0.0),
    (1.0 + 1e-6, 1.0, 1.0),
    (0.0, 1.0, 1.0),
]


@closed_forms_and_short_expansions
@pytest.mark.parametrize("output", ["value", "slope"])
def test_values_slopes_and_their_derivatives_are_finite(name, output):
    dual = DIFFERENTIATED[name].dual

    def scalar(moments):
        return getattr(dual(moments[0], moments[1], moments[2]), output)

    for derive in (lambda f: f, jax.grad, jax.jacfwd):
        got = jax.jit(jax.vmap(derive(scalar)))(jnp.asarray(SINGULAR))
        assert np.isfinite(got).all()


@all_activations
def test_zero_variance_gives_the_function_at_zero(name):
    elementwise = ACTIVATIONS[name]
    zero = float(call(elementwise.function, np.zeros(1))[0])
    std = np.sqrt(1.4)
    mean = expectation_on_line(elementwise.function, jnp.ones_like, std, std)
    dual = jax.jit(elementwise.dual)
    got = dual(*scalars(0, 0, 0))
    tolerance = ROUNDING + 2 * np.sqrt(elementwise.error)
    np.testing.assert_allclose(got.value, zero**2, atol=tolerance)
    one = dual(*scalars(0, 0, 1.4)).value
    np.testing.assert_allclose(one, zero * mean, atol=tolerance)
    if name not in KINKED:
        slope = float(call(derivative(elementwise.function), np.zeros(1))[0])
        np.testing.assert_allclose(got.slope, slope**2, atol=tolerance)


@closed_forms_and_short_expansions
def test_arguments_broadcast(name, rng):
    dual = DIFFERENTIATED[name].dual
    x, y = (jnp.asarray(rng.standard_normal((n, 6))) for n in (4, 3))
    var1, var2 = (jnp.mean(z**2, axis=1) for z in (x, y))
    cov = x @ y.T / 6
    got = jax.jit(dual)(cov, var1[:, None], var2[None, :])
    entries = jax.jit(jax.vmap(jax.vmap(dual, in_axes=(0, None, 0)), in_axes=(0, 0, None)))(
        cov, var1, var2
    )
    for matrix, expected in zip(got, entries, strict=True):
        assert matrix.shape == cov.shape
        assert matrix.dtype == cov.dtype
        np.testing.assert_allclose(matrix, expected, rtol=ROUNDING, atol=ROUNDING)
    shared = jax.eval_shape(dual, cov, jnp.asarray(2.0), jnp.full((1, 1), 2.0))
    assert shared.value.shape == shared.slope.shape == cov.shape


@all_activations
def test_kernel_matrices_are_positive_semidefinite(name, rng):
    x = jnp.asarray(rng.standard_normal((20, 3)))
    cov = x @ x.T / 3
    var = jnp.diagonal(cov)
    for matrix in jax.jit(ACTIVATIONS[name].dual)(cov, var[:, None], var[None, :]):
        scale = float(jnp.max(jnp.abs(matrix)))
        assert np.linalg.eigvalsh(np.asarray(matrix, np.float64) / scale).min() > -(
            1e-7 if X64 else 1e-2
        )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_gelu_lies_within_five_standard_errors_of_monte_carlo(seed):
    # 3 seeds at 5 standard errors: fails by chance once in 500 000 suites
    gelu = ACTIVATIONS["gelu"]
    cov, var1, var2 = 0.7, 1.3, 0.9
    normal = np.random.default_rng(seed).standard_normal((2, 200_000))
    u = np.sqrt(var1) * normal[0]
    v = cov / np.sqrt(var1) * normal[0] + np.sqrt(var2 - cov**2 / var1) * normal[1]
    products = call(gelu.function, u) * call(gelu.function, v)
    error = products.std() / np.sqrt(products.size)
    assert abs(products.mean() - gelu.dual(*scalars(cov, var1, var2)).value) < 5 * error


def test_relu_gradients_near_coinciding_inputs_keep_their_digits():
    if not X64:
        pytest.skip("the distance is below float32's rounding")
    distance = 2.0**-30  # represented exactly beside 1
    gradient = jax.grad(lambda m: ACTIVATIONS["relu"].dual(m[0], m[1], m[2]).value)
    got = gradient(jnp.array([1 - distance, 1.0, 1.0]))
    area = np.sqrt(distance * (2 - distance))
    expected = [0.5 - np.arcsin(area) / (2 * np.pi), area / (4 * np.pi), area / (4 * np.pi)]
    np.testing.assert_allclose(got, expected, rtol=1e-14)


@pytest.mark.parametrize("var", [30.0, 900.0])
def test_periodic_functions_of_large_variance_do_not_overflow(var):
    for name in ("sin", "cos", "rbf"):
        got = ACTIVATIONS[name].dual(*scalars(var, var, var))
        np.testing.assert_allclose(got.value, 1.0 if name == "rbf" else 0.5, rtol=1e-6)
        assert ACTIVATIONS[name].dual(*scalars(-var, var, var)).slope == pytest.approx(
            {"sin": 0.5, "cos": -0.5, "rbf": 0.0}[name], abs=1e-6
        )


def test_rbf_is_the_kernel_of_the_distance(rng):
    x, y = jnp.asarray(rng.standard_normal((2, 4)))
    got = ACTIVATIONS["rbf"].dual(x @ y, x @ x, y @ y).value
    np.testing.assert_allclose(got, jnp.exp(-jnp.sum((x - y) ** 2)), rtol=1e-12 if X64 else 1e-5)
