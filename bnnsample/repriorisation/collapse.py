r"""The likelihood with the readout integrated out, and its closed-form gradient.

Given the features, ``y`` (n, o) is Gaussian with one covariance (n, n) for each output:

$$\log \, p(y \mid h) = -\frac12 \mathrm{tr}(y^\top K^{-1} y) - \frac{o}{2} \log \, \lvert K \rvert
- \frac{n o}{2} \log \, 2\pi, \quad K = \Psi \Psi^\top + \sigma^2 I$$

Differentiating through the Cholesky factor would nearly double the cost of a gradient; with
``a = K^-1 y`` the derivative in ``Psi`` is ``(a a' - o K^-1) Psi``, and everything in it is at
hand from the value.

Noise may differ from point to point: rows are divided by it, ``s = 1 / noise_std``, and ``K`` is
then ``s Psi Psi' s + I``. Noise that differs from output to output takes one ``K`` for each.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.numerics import add_diagonal, cholesky, full_precision, half_log_det, solve_cholesky

type NoiseStd = float | Float[Array, "..."]
"""A number, or an array that broadcasts to (n, o): (n, 1) by point, (1, o) or (o,) by output."""


@full_precision
def collapsed_log_likelihood(
    features: Float[Array, "n p"], y: Float[Array, "n o"], noise_std: NoiseStd
) -> Float[Array, ""]:
    """``log p(y | features)`` with an N(0, I) readout integrated out, normalised.

    Factorises the smaller of (n, n) and (p, p), once for value and gradient together, and once per
    output where they differ in noise. Its gradient can be differentiated again; forward mode on
    the value itself (``jax.jvp``) cannot.
    """
    if shared_by_outputs(noise_std):
        return _collapsed(features, y, by_point(noise_std, y))

    def of_output(y: Float[Array, " n"], noise_std: Float[Array, " n"]) -> Float[Array, ""]:
        return _collapsed(features, y[:, None], noise_std[:, None])

    noise_std = jnp.broadcast_to(jnp.asarray(noise_std, y.dtype), y.shape)
    return jnp.sum(jax.vmap(of_output, in_axes=1)(y, noise_std))


def shared_by_outputs(noise_std: NoiseStd) -> bool:
    """Whether all outputs have the same noise, so that one matrix serves them all."""
    shape = jnp.shape(noise_std)
    return not shape or shape[-1] == 1


def by_point(noise_std: NoiseStd, y: Float[Array, "n o"]) -> Float[Array, "n 1"]:
    """The noise of each point, shared by the outputs."""
    return jnp.broadcast_to(jnp.asarray(noise_std, y.dtype), (len(y), 1))


class _Gradients(NamedTuple):
    features: Array
    y: Array
    noise_std: Array


@jax.custom_vjp
def _collapsed(
    features: Float[Array, "n p"], y: Float[Array, "n o"], noise_std: Float[Array, "n 1"]
) -> Float[Array, ""]:
    return _value_and_gradients(features, y, noise_std)[0]


def _backward(gradients: _Gradients, cotangent: Float[Array, ""]) -> tuple[Array, Array, Array]:
    return tuple(cotangent * gradient for gradient in gradients)  # pyright: ignore[reportReturnType]


def _value_and_gradients(
    features: Float[Array, "n p"], y: Float[Array, "n o"], noise_std: Float[Array, "n 1"]
) -> tuple[Float[Array, ""], _Gradients]:
    n, p = features.shape
    value, gradients = (_dual if p > n else _primal)(features, y, 1 / noise_std)
    constant = 0.5 * y.size * jnp.log(2 * jnp.pi) + y.shape[1] * jnp.sum(jnp.log(noise_std))
    return value - constant, gradients


def _dual(
    features: Float[Array, "n p"], y: Float[Array, "n o"], s: Float[Array, "n 1"]
) -> tuple[Float[Array, ""], _Gradients]:
    n, outputs = y.shape
    factor = cholesky(add_diagonal(s * (features @ features.T) * s.T, 1.0))
    precision = solve_cholesky(factor, jnp.eye(n, dtype=features.dtype))
    targets = s * y
    weights = precision @ targets
    value = -0.5 * jnp.sum(targets * weights) - outputs * half_log_det(factor)
    sensitivity = weights @ weights.T - outputs * precision
    return value, _Gradients(
        features=(s * sensitivity * s.T) @ features,
        y=-s * weights,
        noise_std=s * jnp.diagonal(sensitivity)[:, None],
    )


def _primal(
    features: Float[Array, "n p"], y: Float[Array, "n o"], s: Float[Array, "n 1"]
) -> tuple[Float[Array, ""], _Gradients]:
    outputs, p = y.shape[1], features.shape[1]
    scaled, targets = s * features, s * y
    factor = cholesky(add_diagonal(scaled.T @ scaled, 1.0))
    precision = solve_cholesky(factor, jnp.eye(p, dtype=features.dtype))
    mean = precision @ (scaled.T @ targets)
    weights = targets - scaled @ mean
    value = -0.5 * (jnp.sum(weights**2) + jnp.sum(mean**2)) - outputs * half_log_det(factor)
    whitened = scaled @ precision
    leverage = jnp.sum(whitened * scaled, axis=1, keepdims=True)
    return value, _Gradients(
        features=s * (weights @ mean.T - outputs * whitened),
        y=-s * weights,
        noise_std=s * (jnp.sum(weights**2, axis=1, keepdims=True) - outputs * (1 - leverage)),
    )


_collapsed.defvjp(_value_and_gradients, _backward)
