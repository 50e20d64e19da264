"""Duals of exp, sin and cos: values of the Gaussian's characteristic function.

``E[exp(a u + b v)] = exp((a^2 var1 + 2 a b cov + b^2 var2) / 2)`` for complex ``a`` and ``b``.
No exponent exceeds that of the result, so nothing overflows before the result does.
"""

from __future__ import annotations

import jax.numpy as jnp

from bnnsample.models.duals.dual import Covariance, DualValue


def exp_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
    """``phi(u) = exp(u)``: ``exp(cov + (var1 + var2) / 2)``, twice."""
    value = jnp.exp(cov + (var1 + var2) / 2)
    return DualValue(value, value)


def cos_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
    """``phi(u) = cos(u)``: ``exp(-(var1 + var2) / 2) cosh(cov)``, and the slope with sinh."""
    mean = (var1 + var2) / 2
    value = (jnp.exp(cov - mean) + jnp.exp(-cov - mean)) / 2
    return DualValue(value, jnp.tanh(cov) * value)


def sin_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
    """``phi(u) = sin(u)``: the dual of cos with value and slope exchanged."""
    slope, value = cos_dual(cov, var1, var2)
    return DualValue(value, slope)


def rbf_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
    """``phi(u) = sqrt(2) sin(sqrt(2) u + pi/4) = sin(sqrt(2) u) + cos(sqrt(2) u)``.

    ``exp(2 cov - var1 - var2)``: of inputs ``x`` it is ``exp(-|x - x'|^2)``, the RBF kernel.
    """
    value = jnp.exp(2 * cov - (var1 + var2))
    return DualValue(value, 2 * value)
