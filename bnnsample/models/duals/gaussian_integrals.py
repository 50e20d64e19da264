"""Duals of functions built from the Gaussian density and its integral: erf, gelu and the bell.

Every root here is at least ``sqrt(1 + var1 + var2)``, so nothing is singular, and the arcsines of
a correlation are angles ``atan2(cov, root)`` that lose no digit where it approaches 1.
"""

from __future__ import annotations

import jax.numpy as jnp

from bnnsample.models.duals.dual import Covariance, DualValue, unshared
from bnnsample.numerics import angle, safe_sqrt

SIGMOID_SCALE = 2.4020563531719796
"""``(1 + erf(x / SIGMOID_SCALE)) / 2`` is close to the logistic function."""


def _root(cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
    """``sqrt((1 + var1)(1 + var2) - cov^2)``, the root of ``det(I + Cov)``."""
    return safe_sqrt(1 + (var1 + var2) + (var1 * var2 - cov**2))


def erf_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
    """``phi(u) = erf(u)`` (Williams 1997, eq. 11): ``2/pi asin(2 cov / ...)``."""
    root = _root(2 * cov, 2 * var1, 2 * var2)
    return DualValue(2 / jnp.pi * angle(2 * cov, root), 4 / jnp.pi / root)


def sigmoid_like_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
    """``phi(u) = (1 + erf(u / s)) / 2`` with ``s = SIGMOID_SCALE``: erf, scaled and shifted."""
    shrink = SIGMOID_SCALE**-2
    erf = erf_dual(shrink * cov, shrink * var1, shrink * var2)
    return DualValue((1 + erf.value) / 4, shrink / 4 * erf.slope)


def gaussian_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
    """``phi(u) = exp(-u^2)``: ``1 / root``, a Gaussian integral."""
    bell = 1 / _root(2 * cov, 2 * var1, 2 * var2)
    return DualValue(bell, 4 * cov * bell**3)


def gelu_dual(cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
    """``phi(u) = u Phi(u)``, Phi the normal distribution function (not the tanh approximation).

    By Stein's lemma twice, as Tsuchida et al. 2021 (2002.08517, appendix). The slope is the
    derivative of the value, simplified.
    """
    value, slope = _gelu_value(cov, var1, var2), _gelu_slope(*unshared(cov, var1, var2))
    return DualValue(cov / 4 + value / (2 * jnp.pi), 0.25 + slope / (2 * jnp.pi))


def _gelu_value(cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
    root = _root(cov, var1, var2)
    tails = var1 * var2 - cov**2 + cov**2 * (1 / (1 + var1) + 1 / (1 + var2))
    return cov * angle(cov, root) + tails / root


def _gelu_slope(cov: Covariance, var1: Covariance, var2: Covariance) -> Covariance:
    root = _root(cov, var1, var2)
    tails = 1 / (1 + var1) + 1 / (1 + var2) + 1 / root**2
    return angle(cov, root) + cov * tails / root
