"""Guarded primitives: the only place that factorises a matrix or meets a singular derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import jax.scipy.sparse.linalg
from jaxtyping import Array, Float

ATAN_NUMERATOR = (
    -8.750608600031904122785e-1,
    -1.615753718733365076637e1,
    -7.500855792314704667340e1,
    -1.228866684490136173410e2,
    -6.485021904942025371773e1,
)
ATAN_DENOMINATOR = (
    1.0,
    2.485846490142306297962e1,
    1.650270098316988542046e2,
    4.328810604912902668951e2,
    4.853903996359136964868e2,
    1.945506571482613964425e2,
)

full_precision = jax.default_matmul_precision("highest")
"""Decorator: products of float32 in float32, which GPUs and TPUs by default round to fewer bits."""


@jax.custom_jvp
def safe_sqrt(x: Float[Array, ...]) -> Float[Array, ...]:
    """``sqrt(max(x, 0))`` with derivative 0 where ``x <= 0``.

    Kernels meet ``sqrt(v1 v2 - c^2)`` at coinciding inputs, where rounding makes the argument
    slightly negative and the derivative infinite; the limits that use it multiply that derivative
    by zero, so 0 is the right value there.

    The sign of ``x`` is looked at once: a compiler may compute ``x`` anew, rounded differently, for
    a second look, and the usual pair of ``where`` then returns the square root of its placeholder.
    """
    return jnp.sqrt(jnp.maximum(x, 0))


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = safe_sqrt(primals[0])
    return root, 0.5 * safe_reciprocal(root) * tangents[0]


def safe_reciprocal(x: Float[Array, ...]) -> Float[Array, ...]:
    """``1 / x``, and 0 with derivative 0 where ``x <= 0``."""
    positive = x > 0
    return jnp.where(positive, 1 / jnp.where(positive, x, 1.0), 0.0)


def horner(
    coefficients: Sequence[Float[Array, ...] | float], x: Float[Array, ...]
) -> Float[Array, ...]:
    """The polynomial in ``x`` with these ``coefficients``, highest power first, as one kernel."""
    total = coefficients[0] + jnp.zeros_like(x)
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


@jax.custom_jvp
def angle(opposite: Float[Array, ...], adjacent: Float[Array, ...]) -> Float[Array, ...]:
    """``atan2(opposite, adjacent)``, and 0 with derivative 0 at the origin.

    The rational approximation of Cephes (Moshier, ``atan.c``), a few multiplications that
    vectorise, where XLA calls the C library once per element on a CPU. Absolute error 4e-16 in
    float64, in the range [-pi, pi].
    """
    rise, run = jnp.abs(opposite), jnp.abs(adjacent)
    low = jnp.minimum(rise, run)
    high = jnp.maximum(jnp.maximum(rise, run), jnp.finfo(run.dtype).tiny)
    big = low > 0.66 * high
    t = jnp.where(big, low - high, low) * (1 / jnp.where(big, low + high, high))
    z = t * t
    arc = t + t * z * (horner(ATAN_NUMERATOR, z) / horner(ATAN_DENOMINATOR, z))
    arc = jnp.where(big, jnp.pi / 4 + arc, arc)
    arc = jnp.where(rise > run, jnp.pi / 2 - arc, arc)
    arc = jnp.where(adjacent < 0, jnp.pi - arc, arc)
    return jnp.where(opposite < 0, -arc, arc)


@angle.defjvp
def _angle_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (y, x), (dy, dx) = primals, tangents
    return angle(y, x), (x * dy - y * dx) * safe_reciprocal(x**2 + y**2)


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


def eigh(matrix: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Eigenvalues of a symmetric matrix, ascending, and its eigenvectors as columns."""
    vectors, values = jax.lax.linalg.eigh(matrix, symmetrize_input=False)
    return values, vectors


def in_eigenbasis(
    vectors: Float[Array, "n n"], weights: Float[Array, "n n"], matrix: Float[Array, "n n"]
) -> Float[Array, "n n"]:
    """``V (weights * (V' matrix V)) V'``.

    With the divided differences of ``f`` at the eigenvalues as weights this is the derivative of
    the matrix function ``f`` in the direction of ``matrix`` (Daleckii & Krein 1965), whether
    eigenvalues coincide or not; that of eigenvectors is infinite where they do.
    """
    return vectors @ (weights * (vectors.T @ matrix @ vectors)) @ vectors.T


@jax.custom_jvp
def symmetric_root(
    matrix: Float[Array, "n n"],
) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """The symmetric ``R`` with ``R R = matrix``, and the smallest eigenvalue of ``matrix``.

    For covariances, singular ones too. What rounding leaves of eigenvalues below 0 counts as 0;
    the smallest one says whether it was rounding.
    """
    values, vectors = eigh(matrix)
    return (vectors * safe_sqrt(values)[None, :]) @ vectors.T, values[0]


@symmetric_root.defjvp
def _symmetric_root_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (matrix,), (change,) = primals, tangents
    values, vectors = eigh(matrix)
    roots = safe_sqrt(values)
    # (a^2 - b^2) / (a - b) = a + b
    d_root = in_eigenbasis(vectors, safe_reciprocal(roots[:, None] + roots[None, :]), change)
    d_smallest = vectors[:, 0] @ change @ vectors[:, 0]
    return symmetric_root(matrix), (d_root, d_smallest)


def absolute(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """A symmetric ``matrix`` with its eigenvalues' absolute values in their place."""
    values, vectors = eigh(matrix)
    return (vectors * jnp.abs(values)[None, :]) @ vectors.T


@jax.custom_jvp
def positive_part(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """A symmetric ``matrix`` with 0 in place of its negative eigenvalues."""
    values, vectors = eigh(matrix)
    return (vectors * jnp.maximum(values, 0)[None, :]) @ vectors.T


@positive_part.defjvp
def _positive_part_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    values, vectors = eigh(primals[0])
    parts, sizes = jnp.maximum(values, 0), jnp.abs(values)
    # (a+ - b+) / (a - b) = (a+ + b+) / (|a| + |b|), of either sign
    slopes = (parts[:, None] + parts[None, :]) * safe_reciprocal(sizes[:, None] + sizes[None, :])
    return positive_part(primals[0]), in_eigenbasis(vectors, slopes, tangents[0])


def conjugate_gradients(product: Callable[[Array], Array], rhs: Array) -> Array:
    """The solution of ``product(x) = rhs`` for a positive definite product, to rounding."""
    tolerance = float(jnp.finfo(rhs.dtype).eps) ** 0.75
    return jax.scipy.sparse.linalg.cg(product, rhs, tol=tolerance)[0]
