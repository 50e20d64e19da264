"""Guarded primitives: the only place that factorises a matrix or meets a singular derivative."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def safe_sqrt(x: Float[Array, ...]) -> Float[Array, ...]:
    """``sqrt(max(x, 0))`` with derivative 0 where ``x <= 0``.

    Kernels meet ``sqrt(v1 v2 - c^2)`` at coinciding inputs, where rounding makes the argument
    slightly negative and the derivative infinite; the limits that use it multiply that derivative
    by zero, so 0 is the right value there.
    """
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def add_diagonal(
    matrix: Float[Array, "n n"], value: Float[Array, ""] | float
) -> Float[Array, "n n"]:
    """``matrix + value * identity``."""
    return matrix + value * jnp.eye(matrix.shape[0], dtype=matrix.dtype)


def cholesky(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Lower Cholesky factor; NaN throughout where ``matrix`` is not positive definite."""
    return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)


def solve_lower(
    factor: Float[Array, "n n"], rhs: Float[Array, "n k"], *, transpose: bool = False
) -> Float[Array, "n k"]:
    """``L^-1 rhs``, or ``L^-T rhs`` with ``transpose``, for a lower triangular ``L``."""
    return jax.lax.linalg.triangular_solve(
        factor, rhs, left_side=True, lower=True, transpose_a=transpose
    )


def solve_cholesky(factor: Float[Array, "n n"], rhs: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """``(L L')^-1 rhs``."""
    return solve_lower(factor, solve_lower(factor, rhs), transpose=True)


def half_log_det(factor: Float[Array, "n n"]) -> Float[Array, ""]:
    """``log |L| = log |L L'| / 2``."""
    return jnp.sum(jnp.log(jnp.diagonal(factor)))
