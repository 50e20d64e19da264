"""What duals are compared with: the expectations by brute-force quadrature, and its own test."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import X64

REACH = 12.0
POINTS, WEIGHTS = np.polynomial.legendre.leggauss(100)


def pieces(kink: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of N(0, 1) on both sides of ``kink``, on a new last axis."""
    kink = np.clip(np.asarray(kink)[..., None], -REACH, REACH)
    below, above = (kink + REACH) / 2, (REACH - kink) / 2
    z = np.concatenate([below * (POINTS + 1) - REACH, above * (POINTS + 1) + kink], axis=-1)
    weights = np.concatenate([below * WEIGHTS, above * WEIGHTS], axis=-1)
    return z, weights * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def call(function: Callable, x: np.ndarray) -> np.ndarray:
    return np.asarray(function(jnp.asarray(x)), np.float64)


def derivative(function: Callable) -> Callable:
    return lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def expectation(f: Callable, g: Callable, cov: float, var1: float, var2: float) -> float:
    """``E[f(u) g(v)]`` for functions smooth but for a kink at 0; |correlation| well below 1."""
    z1, w1 = pieces(0.0)
    slope = cov / np.sqrt(var1)
    std = np.sqrt(var2 - slope**2)
    z2, w2 = pieces(-slope * z1 / std)
    inner = np.sum(w2 * call(g, slope * z1[:, None] + std * z2), axis=1)
    return float(np.sum(w1 * call(f, np.sqrt(var1) * z1) * inner))


def expectation_on_line(f: Callable, g: Callable, std1: float, std2: float) -> float:
    """``E[f(std1 z) g(std2 z)]``: coinciding inputs, or opposite ones where a sign differs."""
    z, weights = pieces(0.0)
    return float(np.sum(weights * call(f, std1 * z) * call(g, std2 * z)))


def random_covariances(rng: np.random.Generator, size: int) -> np.ndarray:
    """``cov``, ``var1``, ``var2`` (3, size), correlations up to 0.95."""
    var1, var2 = rng.uniform(0.2, 3.0, (2, size))
    return np.stack([rng.uniform(-0.95, 0.95, size) * np.sqrt(var1 * var2), var1, var2])


@pytest.mark.parametrize("size", [4])
def test_the_oracle_gives_known_moments(rng, size):
    tolerance = 1e-12 if X64 else 1e-4
    for cov, var1, var2 in random_covariances(rng, size).T:
        cubic = expectation(lambda x: x**3, lambda x: x**3, cov, var1, var2)
        np.testing.assert_allclose(cubic, 9 * var1 * var2 * cov + 6 * cov**3, rtol=tolerance)
        signs = expectation(jnp.sign, jnp.sign, cov, var1, var2)
        arcsine = 2 / np.pi * np.arcsin(cov / np.sqrt(var1 * var2))
        np.testing.assert_allclose(signs, arcsine, rtol=tolerance)
    assert expectation_on_line(jnp.abs, jnp.abs, 2.0, -3.0) == pytest.approx(6.0, rel=tolerance)
