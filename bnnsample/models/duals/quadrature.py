"""Expectations under N(0, 1) of a function times Hermite polynomials, as sums over fixed points."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float

REACH = 16.0
"""Where the integrals end: ``|h_k(z)| < exp(z^2 / 4)``, so what is cut off is below 1e-27."""

NODES = 128
"""Quadrature nodes on each side of 0, at least."""


@functools.lru_cache
def hermite_basis(
    orders: tuple[int, ...], nodes: int = NODES
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, "q k"]]:
    """Points ``z`` and weights for which ``phi(z) @ weights`` is ``E[phi(z) h_k(z)]``.

    Gauss-Legendre points, as many on each side of 0: unlike those of Gauss-Hermite they are
    densest at 0, where activations have their kinks and, under a large variance, their bend.
    """
    degree = max(orders, default=0)
    z, weights = _half_line_rules(max(nodes, degree))
    columns = [weights, z * weights]
    for k in range(1, degree):
        columns.append((z * columns[k] - np.sqrt(k) * columns[k - 1]) / np.sqrt(k + 1))
    return z, np.stack(columns, axis=1)[:, list(orders)]


@functools.lru_cache
def _half_line_rules(nodes: int) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    points, weights = np.polynomial.legendre.leggauss(nodes)
    half = REACH / 2 * (points + 1)
    z = np.concatenate([-half[::-1], half])
    weights = np.concatenate([weights[::-1], weights]) * np.exp(-(z**2) / 2)
    return z, weights / weights.sum()
