"""The dual of any elementwise function, by its expansion in Hermite polynomials.

With ``h_k`` the Hermite polynomials orthonormal under N(0, 1), Mehler's formula gives

    ``E[phi(u) phi(v)] = sum_k a_k(s1) a_k(s2) rho^k``, ``a_k(s) = E[phi(s z) h_k(z)]``

with ``s1^2 = var1``, ``s2^2 = var2``, ``rho = cov / (s1 s2)`` (O'Donnell 2014, chapter 11; Daniely
et al. 2016, 1602.05897, section 4). The integrals are taken once per variance; a pair costs one
multiply-add per term.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bnnsample.checks import bad_input
from bnnsample.models.duals.dual import Covariance, DualValue
from bnnsample.numerics import safe_reciprocal, safe_sqrt

type Function = Callable[[Array], Array]

REACH = 16.0
"""Where the integrals end: ``|h_k(z)| < exp(z^2 / 4)``, so what is cut off is below 1e-27."""

NODES = 128
"""Quadrature nodes on each side of 0, at least."""

LARGEST_DEGREE = 128
VARIANCES = (0.25, 1.0, 4.0)


class Expansion(NamedTuple):
    """The orders ``k`` that an expansion sums, increasing, and what it misses."""

    orders: tuple[int, ...]
    error: float
    """Of the value: at most this times ``sqrt(E[phi(u)^2] E[phi(v)^2])``, reached at rho = 1."""
    slope_error: float
    """Of the slope, the same with the derivative of ``phi``: much larger where that jumps."""


@dataclass(frozen=True)
class HermiteDual:
    """The dual of an elementwise ``function`` by the terms of its expansion up to ``degree``.

    Without a ``degree`` the terms are chosen when first needed, see ``choose_orders``. The slope
    is that of the same terms.
    """

    function: Function
    degree: int | None = None

    def __call__(self, cov: Covariance, var1: Covariance, var2: Covariance) -> DualValue:
        std1, std2 = safe_sqrt(var1), safe_sqrt(var2)
        rho = cov * (safe_reciprocal(std1) * safe_reciprocal(std2))

        def series(phi: Function, orders: tuple[int, ...]) -> Covariance:
            a1, a2 = (_coefficients(phi, std, orders) for std in (std1, std2))
            return _mehler_sum(a1, a2, rho, orders)

        orders = self._orders()
        slope = series(_derivative(self.function), _derived(orders))
        return DualValue(series(self.function, orders), slope)

    def _orders(self) -> tuple[int, ...]:
        if self.degree is None:
            return choose_orders(self.function)
        return tuple(range(self.degree + 1))

    @property
    def expansion(self) -> Expansion:
        """The terms in use and what they miss, at the worst of ``VARIANCES``."""
        orders, precision = self._orders(), _precision()
        return Expansion(
            orders,
            _truncation_error(self.function, orders, precision),
            _truncation_error(_derivative(self.function), _derived(orders), precision),
        )


def _derived(orders: tuple[int, ...]) -> tuple[int, ...]:
    """The orders of the derivative: ``h_k' = sqrt(k) h_(k - 1)``."""
    return tuple(k - 1 for k in orders if k > 0)


@functools.lru_cache
def _derivative(function: Function) -> Function:
    return lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def _coefficients(phi: Function, std: Covariance, orders: tuple[int, ...]) -> Float[Array, "k ..."]:
    """``E[phi(s z) h_k(z)]``: one row of the shape of ``std`` for each order."""
    nodes, basis = hermite_basis(orders)
    values = phi(jnp.multiply.outer(std, jnp.asarray(nodes, std.dtype)))
    return jnp.tensordot(jnp.asarray(basis.T, std.dtype), values, (1, -1), precision="highest")


def _mehler_sum(
    a1: Float[Array, "k ..."], a2: Float[Array, "k ..."], rho: Covariance, orders: tuple[int, ...]
) -> Covariance:
    """``sum_k a1_k a2_k rho^k`` by Horner's rule, unrolled so that it compiles to one loop."""
    total, above = jnp.zeros_like(rho), 0
    for i, order in reversed(list(enumerate(orders))):
        total = total * rho ** (above - order) if above else total
        total, above = total + a1[i] * a2[i], order
    return total * rho**above


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


def choose_orders(function: Function) -> tuple[int, ...]:
    """The orders that matter at any of ``VARIANCES``, up to ``LARGEST_DEGREE``.

    Those of one parity where the function is odd or even, up to a constant or linear part. A
    smooth function's terms end early; one with a kink needs them all.
    """
    return _choose_orders(function, _precision())


def _precision() -> str:
    return jnp.zeros(()).dtype.name


@functools.lru_cache
def _choose_orders(function: Function, dtype: str) -> tuple[int, ...]:
    negligible = 1e-15 if dtype == "float64" else 1e-9
    _, second_moment, coefficients = _probe(function, tuple(range(LARGEST_DEGREE + 1)), dtype)
    shares = coefficients**2 / second_moment
    return tuple(int(k) for k in np.flatnonzero(np.max(shares, axis=0) > negligible))


@functools.lru_cache
def _truncation_error(function: Function, orders: tuple[int, ...], dtype: str) -> float:
    """The part of ``E[phi^2]`` that these terms miss or get wrong, worst over ``VARIANCES``.

    ``(E[phi^2] - sum_k a_k^2 + sum_k |b_k^2 - a_k^2|) / E[phi^2]``, ``k`` in ``orders``, with
    ``a_k`` the coefficients by many more nodes and ``b_k`` those that ``HermiteDual`` takes.
    """
    taken, second_moment, exact = _probe(function, orders, dtype)
    missed = np.abs(second_moment - np.sum(exact**2, axis=1, keepdims=True))
    wrong = np.sum(np.abs(taken**2 - exact**2), axis=1, keepdims=True)
    return float(np.max((missed + wrong) / second_moment))


def _probe(
    function: Function, orders: tuple[int, ...], dtype: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each of ``VARIANCES``: coefficients as taken, ``E[phi^2]``, coefficients by more nodes."""

    def values(nodes: Float[np.ndarray, " q"]) -> Float[np.ndarray, "v q"]:
        with jax.ensure_compile_time_eval():
            points = np.outer(np.sqrt(VARIANCES), nodes)
            return np.asarray(function(jnp.asarray(points, dtype)), float)

    nodes, basis = hermite_basis(orders)
    many_nodes, many_basis = hermite_basis(orders, 2 * NODES)
    weights = hermite_basis((0,), 2 * NODES)[1]
    many_values = values(many_nodes)
    with np.errstate(over="ignore", invalid="ignore"):
        second_moment = many_values**2 @ weights
    if not np.isfinite(second_moment).all():
        raise bad_input(
            "Activation",
            got="a function that is not finite at all real numbers",
            expected="finite values, of finite variance under a Gaussian",
            probably="a logarithm or a root of negative numbers",
        )
    guarded = np.where(second_moment > 0, second_moment, 1.0)
    return values(nodes) @ basis, guarded, many_values @ many_basis
