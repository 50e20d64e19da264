"""The prior: every parameter is N(0, 1), so it is the same for all networks.

Log densities of positions leave out the constant ``-dim/2 log(2 pi)``, which at a million
parameters would cost float32 half of its digits; ``NORMALISER`` per coordinate restores it.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

NORMALISER = -0.5 * math.log(2 * math.pi)
"""Log normalising constant of one N(0, 1) coordinate."""


def log_prior(params: Any) -> Float[Array, ""]:
    """``-|params|^2 / 2`` summed over a pytree of arrays: N(0, I) up to its constant."""
    return -0.5 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))  # pyright: ignore[reportReturnType]
