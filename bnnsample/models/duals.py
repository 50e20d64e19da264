"""Dual activations: ``E[phi(u) phi(v)]`` for ``(u, v)`` jointly Gaussian with zero mean.

Each takes ``cov = Cov(u, v)``, ``var1 = Var(u)``, ``var2 = Var(v)`` of broadcastable shapes and
returns the expectation, elementwise. Closed forms where they exist; Gauss-Hermite quadrature for
every other function, and as the closed forms' oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bnnsample.numerics import safe_sqrt

type Covariance = Float[Array, "..."]
type Dual = Callable[[Covariance, Covariance, Covariance], Covariance]


def identity_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
    """``phi(u) = u``."""
    return cov + 0 * (var1 + var2)


def relu_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
    """``phi(u) = max(u, 0)``: the arc-cosine kernel of order 1 (Cho & Saul 2009, eq. 6).

    The angle comes from ``atan2``, which unlike ``acos`` keeps full precision and a finite
    derivative at coinciding inputs.
    """
    area = safe_sqrt(var1 * var2 - cov**2)
    angle = _angle(area, cov)
    return (area + (jnp.pi - angle) * cov) / (2 * jnp.pi)


def _angle(opposite: Covariance, adjacent: Covariance) -> Covariance:
    """``atan2`` with derivative 0 at the origin, where both variances vanish."""
    origin = (opposite == 0) & (adjacent == 0)
    return jnp.arctan2(opposite, jnp.where(origin, 1.0, adjacent))


def erf_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
    """``phi(u) = erf(u)`` (Williams 1997, eq. 11)."""
    product = (1 + 2 * var1) * (1 + 2 * var2)
    return 2 / jnp.pi * jnp.arctan2(2 * cov, jnp.sqrt(product - 4 * cov**2))


def gelu_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
    """``phi(u) = u Phi(u)``, Phi the normal distribution function (not the tanh approximation).

    By Stein's lemma twice, as Tsuchida et al. 2021 (2002.08517, appendix). The root is at least
    ``sqrt(1 + var1 + var2)``, so nothing here is singular.
    """
    root = jnp.sqrt((1 + var1) * (1 + var2) - cov**2)
    tails = var1 * var2 - cov**2 + cov**2 / (1 + var1) + cov**2 / (1 + var2)
    return cov / 4 + (cov * jnp.arctan2(cov, root) + tails / root) / (2 * jnp.pi)


def quadrature_dual(function: Callable[[Array], Array], degree: int = 64) -> Dual:
    """The dual of any elementwise ``function`` by ``degree`` x ``degree`` Gauss-Hermite nodes.

    Exact for polynomials up to degree ``degree - 1``; spectrally accurate for smooth functions,
    first order at kinks. Nodes for ``u`` are visited one at a time, so memory is ``degree`` times
    the output's, not ``degree^2``.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(degree)
    weights = weights / weights.sum()

    def dual(cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
        cov, var1, var2 = jnp.broadcast_arrays(cov, var1, var2)
        dtype = cov.dtype
        inner_nodes, inner_weights = jnp.asarray(nodes, dtype), jnp.asarray(weights, dtype)
        std1 = safe_sqrt(var1)
        slope = cov / jnp.where(std1 > 0, std1, 1.0)
        remaining_std = safe_sqrt(var2 - slope**2)

        def add_node(total: Array, node_and_weight: tuple[Array, Array]) -> tuple[Array, None]:
            node, weight = node_and_weight
            v = slope[..., None] * node + jnp.multiply.outer(remaining_std, inner_nodes)
            return total + weight * function(std1 * node) * (function(v) @ inner_weights), None

        total, _ = jax.lax.scan(add_node, jnp.zeros_like(cov), (inner_nodes, inner_weights))
        return total

    return dual
