"""The record that layers map in the infinite-width limit."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Kernel:
    """Prior covariance of one unit's pre- or post-activations, for two sets of inputs.

    ``cross`` (n1, n2) is the covariance between the sets, ``diag1`` (n1,) and ``diag2`` (n2,) the
    variances within them, which a nonlinearity needs beside each cross entry.
    """

    cross: Float[Array, "n1 n2"]
    diag1: Float[Array, " n1"]
    diag2: Float[Array, " n2"]


def input_kernel(x1: Float[Array, "n1 d"], x2: Float[Array, "n2 d"]) -> Kernel:
    """The inputs' own kernel ``x1 x2' / d``, which the first dense layer scales."""
    features = x1.shape[-1]
    return Kernel(
        cross=x1 @ x2.T / features,
        diag1=jnp.sum(x1**2, axis=-1) / features,
        diag2=jnp.sum(x2**2, axis=-1) / features,
    )
