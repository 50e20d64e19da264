"""The dual of any elementwise function, by its expansion in Hermite polynomials.

With ``h_k`` the Hermite polynomials orthonormal under N(0, 1), Mehler's formula gives

    ``E[phi(u) phi(v)] = sum_k a_k(s1) a_k(s2) rho^k``, ``a_k(s) = E[phi(s z) h_k(z)]``

with ``s1^2 = var1``, ``s2^2 = var2``, ``rho = cov / (s1 s2)`` (O'Donnell 2014, chapter 11; Daniely
et al. 2016, 1602.05897, section 4). The integrals are taken once per variance; a pair costs one
multiply-add per term.

What the terms leave of ``E[phi(u)^2]`` and of ``E[phi(u) phi(-u)]`` is put on the next even and the
next odd order: at coinciding and opposite inputs the sum is then exact, whatever the variance.
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

from bnnsample.checks import NoKnownLimit, bad_input
from bnnsample.models.duals.dual import Covariance, DualValue
from bnnsample.models.duals.quadrature import NODES, hermite_basis
from bnnsample.numerics import safe_reciprocal, safe_sqrt

type Function = Callable[[Array], Array]

LARGEST_DEGREE = 128
LARGEST_ERROR = 0.1
"""What an expansion may leave where its degree is chosen; arbitrary."""

VARIANCES = (0.25, 1.0, 4.0)
"""Where orders are chosen and errors taken, of pre-activations."""


class Expansion(NamedTuple):
    """The orders ``k`` that an expansion sums, increasing, and what it misses."""

    orders: tuple[int, ...]
    error: float
    """The share of ``E[phi(u)^2]`` that these orders leave, worst over some variances.

    The value is wrong by at most this times ``sqrt(E[phi(u)^2] E[phi(v)^2])``.
    """
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

        orders = self._orders()
        if self.degree is None and (error := self.expansion.error) > LARGEST_ERROR:
            raise NoKnownLimit(
                f"an activation of which {LARGEST_DEGREE} Hermite polynomials miss "
                f"{min(1.0, error):.0%}, as it oscillates fast or jumps"
            )
        (values1, slopes1), (values2, slopes2) = (
            self._coefficients(std, orders) for std in (std1, std2)
        )
        orders += _next_orders(orders)
        return DualValue(
            _mehler_sum(values1, values2, rho, orders),
            _mehler_sum(slopes1, slopes2, rho, _derived(orders)),
        )

    def _coefficients(
        self, std: Covariance, orders: tuple[int, ...]
    ) -> tuple[Float[Array, "value_terms ..."], Float[Array, "slope_terms ..."]]:
        """Of the value and of the slope, one row for each order and for the two next ones."""
        values = _coefficients(self.function, std, orders)
        rest = _rest(self.function, std, orders, values)
        # by h_k' = sqrt(k) h_(k - 1), as the others
        growth = jnp.stack([k**0.5 * safe_reciprocal(std) for k in _next_orders(orders)])
        first = 1 if _next_orders(orders)[0] == 0 else 0
        derived = _coefficients(_derivative(self.function), std, _derived(orders))
        slopes = jnp.concatenate([derived, (growth * rest)[first:]])
        return jnp.concatenate([values, rest]), slopes

    def _orders(self) -> tuple[int, ...]:
        if self.degree is None:
            return choose_orders(self.function)
        return tuple(range(self.degree + 1))

    @property
    def expansion(self) -> Expansion:
        """The terms in use and what they miss, at the worst of ``VARIANCES``."""
        return self.expansion_at(VARIANCES)

    def expansion_at(self, variances: tuple[float, ...]) -> Expansion:
        """The terms in use and what they miss at the worst of these variances."""
        orders, precision = self._orders(), _precision()
        return Expansion(
            orders,
            _truncation_error(self.function, orders, precision, variances),
            _truncation_error(_derivative(self.function), _derived(orders), precision, variances),
        )


def _derived(orders: tuple[int, ...]) -> tuple[int, ...]:
    """The orders of the derivative: ``h_k' = sqrt(k) h_(k - 1)``."""
    return tuple(k - 1 for k in orders if k > 0)


def _next_orders(orders: tuple[int, ...]) -> tuple[int, int]:
    above = max(orders, default=-1)
    return above + 1, above + 2


@functools.lru_cache
def _derivative(function: Function) -> Function:
    # by reverse mode, which functions with a derivative of their own have too
    return lambda x: jax.vjp(function, x)[1](jnp.ones_like(x))[0]


def _coefficients(phi: Function, std: Covariance, orders: tuple[int, ...]) -> Float[Array, "k ..."]:
    """``E[phi(s z) h_k(z)]``: one row of the shape of ``std`` for each order."""
    nodes, basis = hermite_basis(orders)
    values = phi(jnp.multiply.outer(std, jnp.asarray(nodes, std.dtype)))
    return jnp.tensordot(jnp.asarray(basis.T, std.dtype), values, (1, -1), precision="highest")


def _rest(
    phi: Function, std: Covariance, orders: tuple[int, ...], coefficients: Float[Array, "k ..."]
) -> Float[Array, "2 ..."]:
    """Roots of what ``orders`` leave of the second moment: of the parities of the next orders."""
    nodes, weights = hermite_basis((0,), max(NODES, *orders, 0))
    values = phi(jnp.multiply.outer(std, jnp.asarray(nodes, std.dtype)))
    weights = jnp.asarray(weights[:, 0], std.dtype)
    square, opposite = (values * other @ weights for other in (values, values[..., ::-1]))
    rounding = 1e2 * jnp.finfo(std.dtype).eps * square
    rest = []
    for order in _next_orders(orders):
        whole = 0.5 * (square + (-1) ** order * opposite)
        same = [i for i, own in enumerate(orders) if own % 2 == order % 2]
        left = whole - jnp.sum(coefficients[jnp.array(same, int)] ** 2, axis=0)
        rest.append(safe_sqrt(jnp.where(left > rounding, left, 0.0)))
    return jnp.stack(rest)


def _mehler_sum(
    a1: Float[Array, "k ..."], a2: Float[Array, "k ..."], rho: Covariance, orders: tuple[int, ...]
) -> Covariance:
    """``sum_k a1_k a2_k rho^k`` by Horner's rule, unrolled so that it compiles to one loop."""
    total, above = jnp.zeros_like(rho), 0
    for i, order in reversed(list(enumerate(orders))):
        total = total * rho ** (above - order) if above else total
        total, above = total + a1[i] * a2[i], order
    return total * rho**above


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
    all_orders = tuple(range(LARGEST_DEGREE + 1))
    _, second_moment, coefficients = _probe(function, all_orders, dtype, VARIANCES)
    shares = coefficients**2 / _above_zero(second_moment)
    return tuple(int(k) for k in np.flatnonzero(np.max(shares, axis=0) > negligible))


@functools.lru_cache
def _truncation_error(
    function: Function, orders: tuple[int, ...], dtype: str, variances: tuple[float, ...]
) -> float:
    """The part of ``E[phi^2]`` that these terms miss or get wrong, worst over ``variances``.

    ``(E[phi^2] - sum_k a_k^2 + sum_k |b_k^2 - a_k^2|) / E[phi^2]``, ``k`` in ``orders``, with
    ``a_k`` the coefficients by many more nodes and ``b_k`` those that ``HermiteDual`` takes.
    """
    taken, second_moment, exact = _probe(function, orders, dtype, variances)
    missed = np.abs(second_moment - np.sum(exact**2, axis=1, keepdims=True))
    wrong = np.sum(np.abs(taken**2 - exact**2), axis=1, keepdims=True)
    return float(np.max((missed + wrong) / _above_zero(second_moment)))


def _above_zero(second_moment: np.ndarray) -> np.ndarray:
    return np.where(second_moment > 0, second_moment, 1.0)


def _probe(
    function: Function, orders: tuple[int, ...], dtype: str, variances: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each of ``variances``: coefficients as taken, ``E[phi^2]``, coefficients by more nodes."""

    def values(nodes: Float[np.ndarray, " q"]) -> Float[np.ndarray, "v q"]:
        with jax.ensure_compile_time_eval():
            points = np.outer(np.sqrt(variances), nodes)
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
    return values(nodes) @ basis, second_moment, many_values @ many_basis
