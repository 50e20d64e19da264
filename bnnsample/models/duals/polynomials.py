"""Duals of the identity and of the monomials, by Isserlis' theorem."""

from __future__ import annotations

import functools
import math

import jax.numpy as jnp

from bnnsample.models.duals.dual import Covariance, Dual, DualValue
from bnnsample.numerics import horner


def identity_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
    """``phi(u) = u``: ``cov`` and 1."""
    cov, _, _ = jnp.broadcast_arrays(cov, var1, var2)
    return DualValue(cov, jnp.ones_like(cov))


@functools.lru_cache
def monomial_dual(degree: int) -> Dual:
    """``phi(u) = u^degree``: the sum over all ways to pair ``u`` with ``v`` (Isserlis 1918)."""

    def dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
        slope = _product_moment(degree - 1, cov, var1, var2)
        return DualValue(_product_moment(degree, cov, var1, var2), degree**2 * slope)

    return dual


def _product_moment(degree: int, cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
    """``E[u^k v^k] = sum_j k!^2 / (j! i!^2 4^i) cov^j (var1 var2)^i`` with ``i = (k - j) / 2``.

    ``j`` factors ``u`` are paired with factors ``v``, the others among themselves; ``j`` runs over
    the numbers from 0 to ``k`` of the parity of ``k``.
    """
    cov, product = jnp.broadcast_arrays(cov, var1 * var2)
    powers = jnp.ones_like(cov)
    terms = []
    for i in range(degree // 2 + 1):
        j = degree - 2 * i
        pairings = math.factorial(degree) ** 2 // (
            math.factorial(j) * math.factorial(i) ** 2 * 4**i
        )
        terms.append(float(pairings) * powers)
        powers = powers * product
    even = horner(terms, cov**2)
    return even * cov if degree % 2 else even
