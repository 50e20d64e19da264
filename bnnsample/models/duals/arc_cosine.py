r"""Duals of the piecewise linear functions with one kink, at 0: the arc-cosine kernels.

All follow from ``|u|``, because ``u`` and ``|u|`` are uncorrelated in every pair of this kind:

$$\phi(u) = \max(u, \alpha u) = \frac{1 + \alpha}{2} u + \frac{1 - \alpha}{2} \lvert u \rvert$$

$$E[\lvert u \rvert \lvert v \rvert]
= \frac{2}{\pi} (\mathrm{area} + \mathrm{cov} \, \arcsin \, \rho), \quad
E[\mathrm{sign}(u) \, \mathrm{sign}(v)] = \frac{2}{\pi} \arcsin \, \rho$$

with ``rho = cov / sqrt(var1 var2)`` and ``area = sqrt(var1 var2 - cov^2)`` (Cho & Saul 2009, eq. 6,
with ``theta = acos(rho)``).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from bnnsample.models.duals.dual import Covariance, Dual, DualValue
from bnnsample.numerics import angle, safe_reciprocal, safe_sqrt


@functools.lru_cache
def leaky_relu_dual(negative_slope: float) -> Dual:
    """``phi(u) = u`` for positive ``u``, else ``negative_slope u``.

    A ``negative_slope`` of 0 is relu, -1 the absolute value.
    """
    linear, kinked = ((1 + negative_slope) / 2) ** 2, ((1 - negative_slope) / 2) ** 2

    def dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
        # kept in memory, where it is needed twice, instead of computed twice
        signs = jax.lax.optimization_barrier(_sign_product(cov, var1, var2))
        return DualValue(
            linear * cov + kinked * _absolute_product(cov, var1, var2, signs),
            linear + kinked * signs,
        )

    return dual


relu_dual: Dual = leaky_relu_dual(0.0)
"""``phi(u) = max(u, 0)``."""

abs_dual: Dual = leaky_relu_dual(-1.0)
"""``phi(u) = |u|``."""


def _area(cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
    """``sqrt(var1 var2 - cov^2)``, exactly 0 where ``cov = var1 = var2``.

    The difference of two rounded squares would not be: a compiler may round only one of them.
    """
    scale = safe_sqrt(var1 * var2)
    return safe_sqrt((scale - cov) * (scale + cov))


def _sign_product(cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
    """``E[sign(u) sign(v)]``; its derivative, infinite at coinciding inputs, is 0 there."""
    return 2 / jnp.pi * angle(cov, _area(cov, var1, var2))


@jax.custom_jvp
def _absolute_product(
    cov: Covariance, var1: Covariance, var2: Covariance, signs: Covariance
) -> Covariance:
    """``E[|u| |v|]`` from ``signs = E[sign(u) sign(v)]``.

    The infinite derivatives of area and angle at coinciding inputs cancel. What remains is

        ``d/dcov = E[sign(u) sign(v)]``, ``d/dvar1 = area / (pi var1)``, and so for ``var2``.
    """
    return 2 / jnp.pi * _area(cov, var1, var2) + cov * signs


@_absolute_product.defjvp
def _absolute_product_jvp(
    primals: tuple[Covariance, ...], tangents: tuple[Covariance, ...]
) -> tuple[Covariance, Covariance]:
    cov, var1, var2, signs = primals
    d_cov, d_var1, d_var2, _ = tangents
    growth = d_var1 * safe_reciprocal(var1) + d_var2 * safe_reciprocal(var2)
    d_value = signs * d_cov + _area(cov, var1, var2) / jnp.pi * growth
    return _absolute_product(*primals), d_value
