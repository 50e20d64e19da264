"""The likelihood with the readout integrated out, and its closed-form gradient (theory section 3).

Given the features, ``y`` is Gaussian with covariance ``K = Psi Psi' + noise_std^2 I`` per output,
so ``log p(y | h) = -tr(y' K^-1 y) / 2 - (o / 2) log |K| - (n o / 2) log 2 pi``. Differentiating
through the Cholesky factor would nearly double the cost of a gradient; with ``a = K^-1 y`` the
derivative in ``Psi`` is ``(a a' - o K^-1) Psi``, and everything in it is at hand from the value.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.numerics import add_diagonal, cholesky, half_log_det, solve_cholesky


class _Gradients(NamedTuple):
    features: Array
    y: Array
    noise_std: Array


@jax.custom_vjp
def collapsed_log_likelihood(
    features: Float[Array, "n p"], y: Float[Array, "n o"], noise_std: float | Float[Array, ""]
) -> Float[Array, ""]:
    """``log p(y | features)`` with an N(0, I) readout integrated out, normalised.

    Factorises the smaller of (n, n) and (p, p), once for value and gradient together. Its gradient
    can be differentiated again; forward mode on the value itself (``jax.jvp``) cannot.
    """
    return _value_and_gradients(features, y, noise_std)[0]


def _forward(
    features: Array, y: Array, noise_std: Array | float
) -> tuple[Float[Array, ""], _Gradients]:
    return _value_and_gradients(features, y, noise_std)


def _backward(gradients: _Gradients, cotangent: Float[Array, ""]) -> tuple[Array, Array, Array]:
    return tuple(cotangent * gradient for gradient in gradients)  # pyright: ignore[reportReturnType]


collapsed_log_likelihood.defvjp(_forward, _backward)


def _value_and_gradients(
    features: Array, y: Array, noise_std: Array | float
) -> tuple[Float[Array, ""], _Gradients]:
    n, p = features.shape
    noise_std = jnp.asarray(noise_std, features.dtype)
    return (_dual if p > n else _primal)(features, y, noise_std)


def _dual(
    features: Float[Array, "n p"], y: Float[Array, "n o"], noise_std: Float[Array, ""]
) -> tuple[Float[Array, ""], _Gradients]:
    n, outputs = y.shape
    factor = cholesky(add_diagonal(features @ features.T, noise_std**2))
    precision = solve_cholesky(factor, jnp.eye(n, dtype=features.dtype))
    weights = precision @ y
    value = -0.5 * jnp.sum(y * weights) - outputs * half_log_det(factor) + _constant(y)
    sensitivity = weights @ weights.T - outputs * precision
    return value, _Gradients(
        features=sensitivity @ features, y=-weights, noise_std=noise_std * jnp.trace(sensitivity)
    )


def _primal(
    features: Float[Array, "n p"], y: Float[Array, "n o"], noise_std: Float[Array, ""]
) -> tuple[Float[Array, ""], _Gradients]:
    n, outputs = y.shape
    p, ridge = features.shape[1], noise_std**2
    factor = cholesky(add_diagonal(features.T @ features, ridge))
    precision = solve_cholesky(factor, jnp.eye(p, dtype=features.dtype))
    mean = precision @ (features.T @ y)
    residual = y - features @ mean
    weights = residual / ridge
    quadratic = jnp.sum(residual**2) / ridge + jnp.sum(mean**2)
    half_log_det_k = half_log_det(factor) + 0.5 * (n - p) * jnp.log(ridge)
    value = -0.5 * quadratic - outputs * half_log_det_k + _constant(y)
    trace_precision_k = (n - p) / ridge + jnp.trace(precision)
    return value, _Gradients(
        features=weights @ mean.T - outputs * (features @ precision),
        y=-weights,
        noise_std=noise_std * (jnp.sum(weights**2) - outputs * trace_precision_k),
    )


def _constant(y: Float[Array, "n o"]) -> Float[Array, ""]:
    return -0.5 * y.size * jnp.log(2 * jnp.pi)
