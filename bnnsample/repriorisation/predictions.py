"""Rao-Blackwellised predictions: the readout integrated out exactly (theory section 3)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.numerics import add_diagonal, cholesky, solve_lower


def conditional_prediction(
    features: Float[Array, "n p"],
    y: Float[Array, "n o"],
    noise_std: float | Float[Array, ""],
    test_features: Float[Array, "m p"],
) -> tuple[Float[Array, "m o"], Float[Array, " m"]]:
    """Mean (m, o) and standard deviation (m,) of ``f = Psi* W`` given the hidden weights.

    ``E[f | h] = Psi* M`` and ``Cov[f | h] = Psi* Sigma Psi*'``, the latter shared by the outputs.
    """
    n, p = features.shape
    ridge = jnp.asarray(noise_std, features.dtype) ** 2
    if p > n:
        factor = cholesky(add_diagonal(features @ features.T, ridge))
        whitened = solve_lower(factor, features @ test_features.T)
        mean = whitened.T @ solve_lower(factor, y)
        variance = jnp.sum(test_features**2, axis=1) - jnp.sum(whitened**2, axis=0)
    else:
        factor = cholesky(add_diagonal(features.T @ features, ridge))
        whitened = solve_lower(factor, test_features.T)
        mean = whitened.T @ solve_lower(factor, features.T @ y)
        variance = ridge * jnp.sum(whitened**2, axis=0)
    return mean, jnp.sqrt(jnp.maximum(variance, 0.0))
