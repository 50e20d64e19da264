"""The guarded primitives: values as the library functions', derivatives finite everywhere."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnnsample.numerics import (
    angle,
    horner,
    positive_part,
    safe_reciprocal,
    safe_sqrt,
    symmetric_root,
)
from tests.conftest import X64

EPSILON = float(np.finfo(np.float64 if X64 else np.float32).eps)


@pytest.fixture
def plane(rng) -> np.ndarray:
    """Points of the plane in all directions, near the axes and diagonals too, at many radii."""
    spread = rng.standard_normal((2, 2000)) * 10.0 ** rng.uniform(-6, 6, (2, 2000))
    axes = np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-3, -3), (2, -2)]).T
    return np.concatenate([spread, rng.standard_normal((2, 2000)), axes], axis=1)


def test_angle_is_atan2_to_rounding(plane):
    y, x = (np.asarray(jnp.asarray(a), np.float64) for a in plane)
    got = np.asarray(jax.jit(angle)(*map(jnp.asarray, plane)), np.float64)
    np.testing.assert_allclose(got, np.arctan2(y, x), rtol=4 * EPSILON, atol=0)


def test_angle_is_exact_on_the_axes_and_zero_at_the_origin():
    y, x = jnp.array([0.0, 2.0, -2.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 0.0, 3.0, -3.0])
    expected = jnp.array([0.0, np.pi / 2, -np.pi / 2, 0.0, np.pi])
    np.testing.assert_array_equal(angle(y, x), expected)


def test_derivatives_of_angle_are_those_of_atan2(rng):
    y, x = (jnp.asarray(a) for a in rng.standard_normal((2, 50)))
    for derivative in (jax.grad, lambda f, argnums: jax.jacfwd(jax.grad(f, argnums), argnums)):
        got, expected = (
            jnp.asarray(jax.jit(jax.vmap(derivative(f, argnums=(0, 1))))(y, x))
            for f in (angle, jnp.arctan2)
        )
        np.testing.assert_allclose(got, expected, rtol=1e3 * EPSILON, atol=1e3 * EPSILON)


def test_derivatives_of_angle_vanish_at_the_origin():
    origin = (jnp.asarray(0.0), jnp.asarray(0.0))
    assert jnp.asarray(jax.grad(angle, (0, 1))(*origin)).tolist() == [0, 0]
    assert np.isfinite(jnp.asarray(jax.jit(jax.hessian(angle, (0, 1)))(*origin))).all()


@pytest.mark.parametrize("guarded", [safe_sqrt, safe_reciprocal])
def test_guarded_functions_and_their_derivatives_are_zero_up_to_zero(guarded):
    for x in (jnp.asarray(0.0), jnp.asarray(-1.0)):
        assert guarded(x) == 0
        assert jax.grad(guarded)(x) == 0
    assert guarded(jnp.asarray(4.0)) == (2.0 if guarded is safe_sqrt else 0.25)


def test_horner_starts_at_the_highest_power():
    x = jnp.array([0.0, 1.0, 2.0])
    np.testing.assert_array_equal(horner((3.0, 0.0, -1.0), x), 3 * x**2 - 1)


def test_the_symmetric_root_has_the_derivative_of_a_matrix_function(rng):
    """``R dR + dR R = dC``, also where eigenvalues coincide."""
    basis, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    for values in ([0.3, 0.9, 1.7, 2.5], [0.4, 0.4, 0.4, 1.3], [2.0, 2.0, 2.0, 2.0]):
        matrix = jnp.asarray(basis * np.array(values) @ basis.T)
        change = rng.standard_normal((4, 4))
        change = jnp.asarray(change + change.T)
        (root, smallest), (d_root, _) = jax.jvp(symmetric_root, (matrix,), (change,))
        tolerance = {"rtol": 0, "atol": 100 * EPSILON}
        np.testing.assert_allclose(root @ root, matrix, **tolerance)
        np.testing.assert_allclose(root @ d_root + d_root @ root, change, **tolerance)
        np.testing.assert_allclose(smallest, values[0], **tolerance)
    singular = jnp.diag(jnp.array([0.0, 1.0, 4.0]))
    assert np.isfinite(jax.grad(lambda c: jnp.sum(symmetric_root(c)[0]))(singular)).all()


SPECTRA = {
    "of both signs": [-1.7, -0.4, 0.6, 2.3],
    "coinciding": [-0.8, -0.8, 1.3, 1.3],
    "positive": [0.3, 0.3, 0.3, 1.1],
    "negative": [-2.0, -2.0, -2.0, -0.7],
}


@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
def test_the_positive_part_has_the_derivative_of_a_matrix_function(values, rng):
    """Against central differences of NumPy's own, also where eigenvalues coincide."""

    def part(matrix):
        own, vectors = np.linalg.eigh(matrix)
        return (vectors * np.maximum(own, 0)) @ vectors.T

    basis, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    matrix, change = basis * np.array(values) @ basis.T, rng.standard_normal((4, 4))
    matrix, change = (matrix + matrix.T) / 2, change + change.T
    primal, tangent = jax.jvp(positive_part, (jnp.asarray(matrix),), (jnp.asarray(change),))
    np.testing.assert_allclose(primal, part(matrix), rtol=0, atol=100 * EPSILON)
    expected = (part(matrix + 1e-5 * change) - part(matrix - 1e-5 * change)) / 2e-5
    np.testing.assert_allclose(tangent, expected, rtol=0, atol=1e-8 if X64 else 1e-4)


def test_the_positive_part_has_a_finite_derivative_where_an_eigenvalue_is_zero(rng):
    """As of classes, whose logits have a level in common: it is 0 along what stays 0."""
    p = jnp.asarray(rng.dirichlet(np.ones(4)))
    slope = jax.jacfwd(lambda p: positive_part(jnp.diag(p) - p[:, None] * p[None, :]))(p)
    assert np.isfinite(slope).all()
    direct = jax.jacfwd(lambda p: jnp.diag(p) - p[:, None] * p[None, :])(p)
    along = np.array([1.0, -1.0, 0.0, 0.0])  # keeps the sum of p, and so the zero
    tolerance = 1e-7 if X64 else 1e-3
    np.testing.assert_allclose(slope @ along, direct @ along, rtol=0, atol=tolerance)
